"""What the driver must do for the core, in order (docs/architecture.md)."""

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from bargetrio.raft.facts import Fact
from bargetrio.raft.messages import Index, Message, NodeId, SnapshotMeta, SnapshotRequest, Term
from bargetrio.raft.records import Record
from bargetrio.raft.standing import Configuration, Standing

Ticket = object
"""Whatever the driver wants to get back: raft only stores it. Every ticket ends exactly once."""


class Send(Struct, frozen=True, gc=False):
    """The message may leave at once; it may also be lost."""

    to: NodeId
    message: Message


class Persist(Struct, frozen=True):
    """Begin to write `records`, and go on. When they are synced, let `then` leave and call `core.persisted(number)`.

    At most one write is in flight; what comes meanwhile is in the next Persist: group commit. After a failed write nothing is
    retried and nothing of `then` may leave: the node stops serving (BUG-51).
    """

    number: int
    records: tuple[Record, ...]
    then: tuple[Send, ...]


class Apply(Struct, frozen=True):
    """Entries `first` to `last` are committed: give them to the state machine. At most 1,000 at a time, or
    4 MiB of commands, or one larger command.

    `tickets` are those of this leader's own proposals among them, in the order of the entries: `tickets[i]` belongs to entry
    `last - len(tickets) + 1 + i`. None stands for an entry that nobody waits for.
    """

    first: Index
    last: Index
    tickets: Sequence[Ticket | None]


class ReadReady(Struct, frozen=True):
    """The state machine has applied `index`, and the leader was still leader after the reads arrived: answer them (6.4)."""

    tickets: Sequence[Ticket]
    index: Index


RefusalReason = Literal["not_leader", "no_leader", "overloaded"]


class ReadFailed(Struct, frozen=True):
    """These reads can't be confirmed here; `leader` is who might, if known."""

    tickets: Sequence[Ticket]
    reason: RefusalReason
    leader: NodeId | None


class ProposalRefused(Struct, frozen=True):
    """The command was never proposed: it has no effect, now or later."""

    ticket: Ticket
    reason: RefusalReason
    leader: NodeId | None


class ProposalsUnknown(Struct, frozen=True):
    """These were proposed, and this node can't tell any more whether they commit: a later leader decides."""

    tickets: Sequence[Ticket]
    leader: NodeId | None


class TakeSnapshot(Struct, frozen=True):
    """Save the state machine as it is at this moment, when it has applied exactly `last_index`, beside everything else.

    When the file lasts, call `core.snapshot_taken(meta, now)`. At most one is under way.
    """

    last_index: Index
    last_term: Term
    digest: int
    members: tuple[NodeId, ...]
    configuration: Configuration | None


class Compact(Struct, frozen=True):
    """The log's entries before `first_index` are not needed any more: their files may go.

    Of the snapshots only those whose last index is in `keep` are needed.
    """

    first_index: Index
    keep: frozenset[Index]


class SendChunk(Struct, frozen=True):
    """Read a piece of that snapshot's file from `message.offset` on, put it in the message, send it; it may also be lost."""

    to: NodeId
    message: SnapshotRequest


class StoreChunk(Struct, frozen=True):
    """Write and sync a piece of a snapshot that a leader sends; offset 0 begins a new file. Then call `core.chunk_stored`.

    With the last piece the whole file is checked; if it is not what `snapshot` says, 0 bytes are stored. No data: the file is not
    needed any more, delete it; 0 bytes are stored then, too.
    """

    snapshot: SnapshotMeta
    offset: int
    data: bytes


class LoadSnapshot(Struct, frozen=True):
    """Put that snapshot in the place of the state machine, then call `core.snapshot_loaded`; no Apply comes before that."""

    snapshot: SnapshotMeta


class WriteStanding(Struct, frozen=True):
    """Write this standing to the folder and sync it, then call `core.standing_written(standing, now)`; at most one at a time.

    The core sends nothing that depends on it before that call.
    """

    standing: Standing


class ReplaceStore(Struct, frozen=True):
    """Give the folder a new store id, since it lost entries that it had acknowledged; then call `core.standing_written`."""


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
    | TakeSnapshot
    | Compact
    | SendChunk
    | StoreChunk
    | LoadSnapshot
    | WriteStanding
    | ReplaceStore
    | Announce
)
