"""raft is sans-I/O Raft: input in, effects out; no clock, socket, file or randomness of its own.

Input comes as `step`, `tick`, `propose`, `read`, `persisted`; what must be done comes out as effects, in order. Time is a value
in seconds, randomness a `random.Random` that the caller gives. May import the standard library's data types and msgspec.
Start at core.py; messages.py has the messages between nodes, checks.py what they must be, effects.py what the driver must do,
facts.py what is announced.
"""
