"""What the host must do for the core, in order (docs/architecture.md)."""

from collections.abc import Sequence
from typing import Any, Literal

from msgspec import Struct

from bargetrio.raft.facts import Fact
from bargetrio.raft.messages import Index, Message, NodeId, SnapshotMeta, SnapshotRequest
from bargetrio.raft.records import Record
from bargetrio.raft.standing import Standing

Ticket = object
"""An opaque value of the host, returned with the result of its request. Every ticket is returned exactly once."""
ReturnedTicket = Any
"""A ticket on its way back: the host, which made it, declares its type again."""


class Send(Struct, frozen=True, gc=False):
    """The message may leave at once; it may also be lost."""

    to: NodeId
    message: Message


class Persist(Struct, frozen=True):
    """Begin to write `records` without waiting. When they are synced, send `then` and call `core.persisted(number)`.

    At most one write is in flight; records that are queued meanwhile are in the next Persist (group commit). After a failed write
    nothing is retried and nothing of `then` is sent: the node stops serving (BUG-51).
    """

    number: int
    records: tuple[Record, ...]
    then: tuple[Send, ...]


class Apply(Struct, frozen=True):
    """Apply entries `first` to `last`, which are committed: at most 1,000, and 4 MiB of commands or one larger command.

    `tickets` are those of this leader's own proposals among them, in the order of the entries: `tickets[i]` belongs to entry
    `last - len(tickets) + 1 + i`; None: no request waits for that entry.
    """

    first: Index
    last: Index
    tickets: Sequence[ReturnedTicket | None]


class ReadReady(Struct, frozen=True):
    """Answer these reads: `index` is applied, and this node was confirmed as leader after they arrived (Ongaro 6.4)."""

    tickets: Sequence[ReturnedTicket]
    index: Index


RefusalReason = Literal["not_leader", "no_leader", "overloaded"]


class ReadFailed(Struct, frozen=True):
    """These reads can't be confirmed here; `leader` is the node that may confirm them, if known."""

    tickets: Sequence[ReturnedTicket]
    reason: RefusalReason
    leader: NodeId | None


class ProposalRefused(Struct, frozen=True):
    """The command was never proposed: it has no effect, now or later."""

    ticket: ReturnedTicket
    reason: RefusalReason
    leader: NodeId | None


class ProposalsUnknown(Struct, frozen=True):
    """These were proposed, and leadership was lost: whether they commit depends on a later leader."""

    tickets: Sequence[ReturnedTicket]
    leader: NodeId | None


class Compact(Struct, frozen=True):
    """The log's entries before `first_index` are not needed any more: their files may be deleted.

    So may all snapshots but those whose last index is in `keep`.
    """

    first_index: Index
    keep: frozenset[Index]


class SendChunk(Struct, frozen=True):
    """Read a chunk of that snapshot's file at `message.offset`, put it in the message and send it; it may also be lost."""

    to: NodeId
    message: SnapshotRequest


class StoreChunk(Struct, frozen=True):
    """Write and sync a chunk of a leader's snapshot; offset 0 begins a new file. Then call `core.chunk_stored`.

    After the last chunk the whole file is checked; if it does not match `snapshot`, report 0 bytes stored. No data: the file is
    not needed any more; delete it and report 0 bytes stored.
    """

    snapshot: SnapshotMeta
    offset: int
    data: bytes


class LoadSnapshot(Struct, frozen=True):
    """Replace the state machine by that snapshot, then call `core.snapshot_loaded`; no Apply comes before that."""

    snapshot: SnapshotMeta


class WriteStanding(Struct, frozen=True):
    """Write this standing to the folder and sync it, then call `core.standing_written(standing, now)`; at most one at a time.

    The core sends nothing that depends on it before that call.
    """

    standing: Standing


class ReplaceStore(Struct, frozen=True):
    """Give the folder a new store id: it lost entries that it had acknowledged. Then call `core.standing_written`."""


class Announce(Struct, frozen=True, gc=False):
    """A fact for the event log."""

    fact: Fact


Effect = (
    Send
    | Persist
    | Apply
    | ReadReady
    | ReadFailed
    | ProposalRefused
    | ProposalsUnknown
    | Compact
    | SendChunk
    | StoreChunk
    | LoadSnapshot
    | WriteStanding
    | ReplaceStore
    | Announce
)
