"""Runs the nodes of one daemon, and answers for the whole cluster, which may have several daemons.

```
local_nodes.py  start, kill, revive of this daemon's nodes (slots.py)      cluster.py  requests to the whole cluster
forward.py      forwarding of requests to the leader (node_link.py)       daemons.py  other daemons, over their REST
fault_plan.py   fault injection into links and disks (disk_faults.py)     merge.py    several daemons' events as one log
```
May import protocol, raft, storage, transport, eventlog, replica and node. Start at cluster.py.
"""
