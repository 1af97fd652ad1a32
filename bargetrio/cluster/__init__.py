"""cluster runs the nodes of one daemon, and answers for the whole cluster, of which there may be several daemons.

```
local_nodes.py  this daemon's nodes (slots.py), started, killed, revived   cluster.py  what is asked of the whole cluster
forward.py      requests carried to the leader (node_link.py)             daemons.py  other daemons, over their REST
fault_plan.py   faults put into links and disks (disk_faults.py)          merge.py    several daemons' events as one log
```
May import protocol, raft, storage, transport, eventlog, replica and node. Start at cluster.py.
"""
