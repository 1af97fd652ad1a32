"""Barge: a consistent, distributed key:value store on the Raft consensus algorithm.

The rooms, in the order of a write: `client`, or `web` and `cluster`, then `transport`, `node`, `replica`, `raft`,
`storage`, `kv`; `protocol` has what they share, `eventlog` records what happens. `cluster` runs the nodes of one daemon,
`daemon` is the process, `config` its configuration, `cli` the command line, `simulator` the same code under simulated faults.
docs/a_write.md follows one write through them in ten stops; docs/architecture.md says which room may import which.
"""

__version__ = "0.1.0"
