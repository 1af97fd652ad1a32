"""One server without clock, thread, task, socket or file of its own: the loop around raft's core, for every host.

A host queues input in an `Inbox`, calls `Replica.step(now)` after new input or when the deadline of the last step has passed, and
implements the ports through which the replica acts:

```
inbox = Inbox(wake)                     # wake(): request a step soon
replica = Replica(core=core, store=store, inbox=inbox, wal=wal, outbox=outbox, jobs=jobs, events=events, ...)
while True:
    deadline = replica.step(now)        # handles the input; sends, begins a write, applies, answers, starts jobs
    ...wait until wake() is called or the deadline has passed...
```

One step handles all queued input, up to bounds: a batch is proposed once, appended once, encoded once, synced once, and each
client's connection gets its answers of the step in one `Session.flush`.

Guarantees: a step never blocks. Time is an argument, in seconds of the host's clock. Every ticket is answered once. A fenced
replica does nothing more. An exception of a step (StorageFailed, ConsensusViolation) is final: fence the replica.

May import protocol, raft, kv, storage and eventlog. Start at replica.py; inbox.py has the input, ports.py the ports, sessions.py
the clients' side, requests.py their requests until each is answered, hellos.py why a peer's store is refused, jobs.py the long
jobs of snapshots, in slices, scheduler.py which node of a process may save or apply before the others.
"""
