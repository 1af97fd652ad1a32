"""simulator runs whole clusters with faults on one event heap and checks them, repeatable by seed (ring 1).

```
observer.py   clients' tickets, and watchers
plan.py       draws the faults of a seed            world.py     the event heap and its clock
nemesis.py    makes them happen                     server.py    a core, a store and a log on a simulated disk
clients.py    write, read, and remember it          network.py   loses, repeats, delays, cuts
invariants.py what must hold after every step       goals.py     rare situations, counted
linearizability.py  judges what the clients saw     breaks/      planted bugs, each of which must be found
narrow.py     narrow links after the healing: no leader may change
seed.py       runs one seed                         campaign.py  runs many
```
May import protocol, raft, kv, storage, eventlog and files; no trio, no clock, no global randomness. Start at seed.py.
"""
