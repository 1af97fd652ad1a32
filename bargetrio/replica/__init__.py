"""replica is one server without clock, thread, task, socket or file of its own: the loop around raft's core, for every host.

A host gives it what comes in through an `Inbox`, calls `Replica.step(now)` when something has come or the deadline that the last
step returned has passed, and offers what a replica needs done through ports, all given when it is made:

```
inbox = Inbox(wake)                     # wake(): have step called soon
replica = Replica(core=core, store=store, inbox=inbox, wal=wal, outbox=outbox, jobs=jobs, events=events, ...)
while True:
    deadline = replica.step(now)        # takes what waits; posts, begins a write, applies, answers, starts jobs
    ...wait until wake() is called or the deadline has come...
```

One step takes all that waits, in parts that are bounded: a batch is proposed once, appended once, encoded once, synced once, and
each client's connection gets its answers of the step in one `Session.flush`.

What is promised: a step never waits. Time is an argument, in seconds of whatever clock the host has. Every ticket ends once. A
fenced replica does nothing more. What a step raises (StorageFailed, ConsensusViolation) ends the replica: fence it.

May import protocol, raft, kv, storage and eventlog. Start at replica.py; inbox.py has what comes in, ports.py what a host
offers, requests.py the clients' side, jobs.py the long works of snapshots, in slices.
"""
