"""What a node must remember: hard state, entries and truncations, as records of one log (Figure 2, "persistent state").

The core hands records to its driver inside a Persist effect; storage turns them into lines and back.
"""

from msgspec import Struct

from bargetrio.raft.messages import Entry, Index, NodeId, Term


class HardState(Struct, frozen=True, kw_only=True, tag_field="record", tag="hard_state", forbid_unknown_fields=True):
    """The term this node has seen and its one vote in it, written together (BUG-02)."""

    term: Term = 0
    voted_for: NodeId | None = None


class Append(Struct, frozen=True, kw_only=True, tag_field="record", tag="append", forbid_unknown_fields=True):
    """Entries from `first_index` on, directly after the log's last entry."""

    first_index: Index
    entries: tuple[Entry, ...]


class Truncate(Struct, frozen=True, kw_only=True, tag_field="record", tag="truncate", forbid_unknown_fields=True):
    """The log ends before `from_index`: a leader's log said otherwise from there on (5.3)."""

    from_index: Index


Record = HardState | Append | Truncate


class Remembered(Struct, frozen=True, kw_only=True):
    """What a node's disk says when it starts: the input of a new core."""

    hard_state: HardState = HardState()
    entries: tuple[Entry, ...] = ()
