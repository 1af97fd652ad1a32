"""simulator runs whole clusters with faults on one event heap and checks them, repeatable by seed (ring 1).

```
plan.py       draws the faults of a seed            world.py     the event heap and its clock
nemesis.py    makes them happen                     network.py   loses, repeats, delays, cuts
server.py     a server: its steps, and how it dies  life.py      one life of it: the product's replica, and its ports
machine.py    its disk and clock                    timed_wal.py, timed_jobs.py   its log and jobs, which take time
clients.py    write, read, and remember it          answers.py   how requests come to a replica, and answers back
observer.py   what servers tell those who look on   referee.py   who looks on: invariants, goals, trace
invariants.py what must hold after every step       goals.py     rare situations, counted
leadership.py, promises.py, membership.py   of leaders, of what was said, of who is a member
snapshot_labels.py   of the files of snapshots      accounts.py  what is counted along the way
stores.py, damage.py   what disks lost, and what that excuses
linearizability.py  judges what the clients saw     breaks/      planted bugs, each of which must be found
narrow.py     narrow links after the healing: no leader may change
cluster.py    all of one seed                       seed.py      runs it
campaign.py   runs many
```
May import protocol, raft, kv, storage, eventlog, replica and files; no trio, no clock, no global randomness. Start at seed.py.
"""
