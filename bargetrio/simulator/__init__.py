"""simulator runs whole clusters with faults on one event heap and checks them, repeatable by seed (ring 1).

```
plan.py       draws the faults of a seed            world.py     the event heap and its clock
nemesis.py    injects them                          network.py   loses, duplicates, delays, cuts
server.py     a server: how it starts and dies      life.py      one life of it: the product's replica, and its ports
machine.py    its disk and clock                    peers.py     what a life exchanges with its peers
timed_steps.py   when it makes a step               timed_wal.py, timed_jobs.py   its log and jobs, which take time
clients.py    write, read, and record the history   answers.py   requests to a replica, and its answers
observer.py   the interface for servers' reports    referee.py   passes them to invariants, goals and the trace
invariants.py checked after every step              goals.py     coverage: rare situations, counted
leadership.py, promises.py, membership.py   invariants of leaders, of messages sent, of members
snapshot_labels.py   invariants of snapshot files   accounts.py  counters against a recount
stores.py, damage.py   what disks lost, and the invariants that are suspended for it
linearizability.py  checks the clients' history     breaks/      planted bugs, each of which must be found
narrow.py     narrow links after the healing: no leader may change
cluster.py    all of one seed                       seed.py      runs it
campaign.py   runs many
```
May import protocol, raft, kv, storage, eventlog, replica and files; no trio, no clock, no global randomness. Start at seed.py.
"""
