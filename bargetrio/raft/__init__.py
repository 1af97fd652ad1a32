"""Sans-I/O Raft: input in, effects out; no clock, socket, file or randomness of its own.

Time is a value in seconds, randomness a `random.Random` that the caller passes. May import nothing of Barge. Rules cite the
paper (`Raft 5.2`, Figure 2) and Ongaro's dissertation (`Ongaro 6.4`).

What a host does around a core, in the order that matters:

```python
core = Core(node_id=1, node_ids=(1, 2, 3), remembered=wal.remembered, random=Random(), now=clock(), ...)
while True:
    wait_until(core.next_deadline())                # or until a message or request arrives, or a write ends
    now = clock()
    for persist in ended_writes():                  # synced
        for send in persist.then:
            network.post(send.to, send.message)
        core.persisted(persist.number, now)
    for message in received():                      # each has been validated: checks.py
        core.step(message, now)
    core.propose_all(tickets, commands, now)        # the requests of clients since
    core.read_all(read_tickets, now)
    core.tick(now)
    for effect in core.take_effects():              # once for all input: one append, one write, one send a peer
        match effect:
            case Send():     network.post(effect.to, effect.message)
            case Persist():  wal.begin(effect)      # append and sync; `ended_writes` returns it
            case Apply():    answer(effect.tickets, store.apply(core.log.slice(effect.first, effect.last)))
            case Announce(): events.record(effect.fact)
            case _:          perform(effect)        # answers, snapshots, membership: effects.py
```
The replica of the product is this loop with bounds and time-outs.

State below, rules above, dispatch on top; each file imports only those that stand before it here:

values.py, errors.py, standing.py, messages.py  types of fields, and the messages; facts.py events, records.py persistent state,
                  effects.py what the host does; checks.py validation of messages
log.py            the log in memory; durability.py what of it is on the disk, and which messages wait for that
quorum.py         majorities; progress.py a leader's view of a follower; roles.py the four roles
snapshot_state.py, membership_state.py, state.py  the state of Figure 2, and the changes of it that rules share
appends.py        sending AppendEntries
membership.py     the configuration in force; birth.py, readmission.py, demotion.py how it changes
commit.py         when an entry is committed
election.py       leader election
snapshots.py      taking and sending snapshots, compaction; receiving.py installing them
transfer.py       leadership transfer
replication.py    log replication; reads.py linearizable reads (ReadIndex)
core.py           start here: dispatches each input to its rule
"""
