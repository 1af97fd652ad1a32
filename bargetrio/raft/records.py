"""Persistent state (Figure 2): hard state, entries, truncations and snapshots (Raft 7).

The core passes records to its host in a Persist effect; storage encodes and decodes them.
"""

from msgspec import Struct

from bargetrio.raft.messages import Entry, SnapshotMeta
from bargetrio.raft.standing import Configuration
from bargetrio.raft.values import Index, Natural, NodeId, Term


class HardState(Struct, frozen=True, kw_only=True, tag_field="record", tag="hard_state", forbid_unknown_fields=True):
    """The term this node has seen and its one vote in it, written together (BUG-02)."""

    term: Term = 0
    voted_for: NodeId | None = None


class Append(Struct, frozen=True, kw_only=True, tag_field="record", tag="append", forbid_unknown_fields=True, omit_defaults=True):
    """Entries from `first_index` on, directly after the log's last entry; `digest` is the log's, up to the last of them.

    `configurations` are the indices of those that hold a configuration.
    """

    first_index: Index
    digest: Natural
    entries: tuple[Entry, ...]
    configurations: tuple[Index, ...] = ()


class Truncate(Struct, frozen=True, kw_only=True, tag_field="record", tag="truncate", forbid_unknown_fields=True):
    """The log ends before `from_index`: it conflicted with a leader's log from there on (Raft 5.3).

    `last_term` and `digest` are those of the log's new end.
    """

    from_index: Index
    last_term: Term
    digest: Natural


class Install(Struct, frozen=True, kw_only=True, tag_field="record", tag="install", forbid_unknown_fields=True):
    """A received snapshot replaces the state and the whole log (Raft 7)."""

    snapshot: SnapshotMeta


Record = HardState | Append | Truncate | Install


class LogStart(Struct, frozen=True, kw_only=True):
    """Where a log begins: after the last entry that a snapshot covers, of which index, term and digest are known."""

    index: Index = 0
    term: Term = 0
    digest: Natural = 0


class Remembered(Struct, frozen=True, kw_only=True):
    """The persistent state that a node recovers when it starts: the input of a new core. The log reaches `snapshot` at least.

    `configurations` are those that entries of the log hold, in their order.
    """

    hard_state: HardState = HardState()
    snapshot: SnapshotMeta | None = None
    start: LogStart = LogStart()
    entries: tuple[Entry, ...] = ()
    configurations: tuple[Configuration, ...] = ()
