"""Barge: a consistent, distributed key:value store on Raft, to read, watch, break and trust.

The packages, in the order in which a write passes them: `client`, `web` and `transport`, `node`, `raft`, `storage`, `kv`;
`eventlog` records what happens, `cluster` runs the nodes of one daemon. `daemon` puts them in one nursery.
docs/a_write.md walks one write through them in ten stops.
"""

__version__ = "0.1.0"
