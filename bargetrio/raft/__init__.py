"""raft is sans-I/O Raft: input in, effects out; no clock, socket, file or randomness of its own.

Time is a value in seconds, randomness a `random.Random` that the caller gives. May import nothing of Barge.
What a host does around a core, in the order that matters:

```python
core = Core(node_id=1, node_ids=(1, 2, 3), remembered=wal.remembered, random=Random(), now=clock(), ...)
while True:
    wait_until(core.next_deadline)                  # or until something comes, or a write ends
    now = clock()
    for persist in ended_writes():                  # synced
        for send in persist.then:
            network.post(send.to, send.message)
        core.persisted(persist.number, now)
    for message in received():                      # each was checked: checks.py
        core.step(message, now)
    core.propose_all(tickets, commands, now)        # what clients have asked since
    core.read_all(read_tickets, now)
    core.tick(now)
    for effect in core.take_effects():              # once for all input: one append, one write, one send
        match effect:
            case Send():     network.post(effect.to, effect.message)
            case Persist():  wal.begin(effect)      # records; it ends in `ended_writes`
            case Apply():    answer(effect.tickets, store.apply(core.log.slice(effect.first, effect.last)))
            case Announce(): events.record(effect.fact)
            case _:          perform(effect)        # answers, snapshots, membership: effects.py
```
The replica of the product is this loop with bounds and time-outs.

State below, rules above, dispatch on top; each file imports only those that stand before it here:

values.py, errors.py, standing.py, messages.py  what nodes say to each other; facts.py what is announced, records.py what is on
                  the disk, effects.py what the host does; checks.py whether a message is one that a correct node could send
log.py            the log in memory; durability.py what of it is on the disk, and which messages wait for that
quorum.py         what a majority has; progress.py what a leader knows of a follower; roles.py the four roles
snapshot_state.py, membership_state.py, state.py  the state of Figure 2, and the changes of it that rules share
appends.py        one append on its way
membership.py     the configuration in force; birth.py, readmission.py, demotion.py how it changes
commit.py         when an entry is committed
election.py       how a leader is chosen
snapshots.py      how the log stays short; receiving.py how a snapshot takes its place
replication.py    how logs become equal; reads.py how a read goes without writing
core.py           start here: which rule each input asks
"""
