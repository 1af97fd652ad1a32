"""raft decides. It never waits, reads a clock, rolls dice of its own, or opens a file.

Input comes as `step`, `tick`, `propose`, `read`, `persisted`; what must happen comes out as effects, in order. Time is a value in
seconds, randomness a `random.Random` that the caller gives. May import the standard library's data types and msgspec.
Start at core.py; messages.py says what nodes tell each other, effects.py what the driver must do, facts.py what is told of it.
"""
