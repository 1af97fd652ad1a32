"""Barge: a consistent, distributed key:value store on Raft, to read, watch, break and trust.

The rooms, in the way of a write: `client` asks, `web` and `transport` carry, `node` drives, `raft` decides, `storage`
remembers, `kv` means, `eventlog` tells, `cluster` looks after it all. `daemon.py` puts them in one nursery.
docs/a_write.md walks one write through them in ten stops.
"""

__version__ = "0.1.0"
