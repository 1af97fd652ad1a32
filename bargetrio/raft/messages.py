"""The messages between nodes, and the log's entries (Figure 2).

One definition is the Python type, the wire format and the documented schema. On the wire a message is one line with a JSON object
that has a `type`. Numbers are bounded; a `reason` is text for people. How fields must relate: checks.py.
"""

from typing import Literal

import msgspec
from msgspec import Struct

from bargetrio.raft.standing import Configuration, Standing, StoreId
from bargetrio.raft.values import MAX_INT as MAX_INT
from bargetrio.raft.values import NO_OP as NO_OP
from bargetrio.raft.values import Command as Command
from bargetrio.raft.values import Index as Index
from bargetrio.raft.values import Natural as Natural
from bargetrio.raft.values import NodeId as NodeId
from bargetrio.raft.values import Term as Term


class Entry(Struct, frozen=True, array_like=True, gc=False):
    """One log entry, `[term, command]` on the wire and on the disk; its index follows from its position."""

    term: Term
    command: Command


class PreVoteRequest(Struct, frozen=True, kw_only=True, tag_field="type", tag="pre_vote_request", forbid_unknown_fields=True):
    """Asks whether the receiver would vote for the sender in `term`, one above its own; no term or vote changes (Ongaro 9.6)."""

    term: Term
    candidate_id: NodeId
    last_log_index: Index
    last_log_term: Term


class PreVoteReply(Struct, frozen=True, kw_only=True, tag_field="type", tag="pre_vote_reply", forbid_unknown_fields=True):
    """A grant echoes the requested term, a refusal carries the voter's own."""

    term: Term
    voter_id: NodeId
    granted: bool
    reason: str = ""


class VoteRequest(
    Struct, frozen=True, kw_only=True, tag_field="type", tag="vote_request", forbid_unknown_fields=True, omit_defaults=True
):
    """A candidate asks for a vote (Raft 5.2).

    `transfers`: the leader asked it to (TimeoutNow), so that hearing that leader is no reason to refuse (Ongaro 3.10).
    """

    term: Term
    candidate_id: NodeId
    last_log_index: Index
    last_log_term: Term
    transfers: bool = False


class VoteReply(Struct, frozen=True, kw_only=True, tag_field="type", tag="vote_reply", forbid_unknown_fields=True):
    """Sent only when the vote is on the disk (Raft 5.2, Ongaro 3.8).

    `commit_index` is the voter's: a new leader may need it to know that a readmission is committed (membership.py).
    `has_given_up`: the voter has stood for election in this term, and was restarted since.
    """

    term: Term
    voter_id: NodeId
    granted: bool
    reason: str = ""
    has_given_up: bool = False
    commit_index: Index = 0


class AppendRequest(
    Struct,
    frozen=True,
    kw_only=True,
    tag_field="type",
    tag="append_request",
    forbid_unknown_fields=True,
    omit_defaults=True,
    gc=False,
):
    """AppendEntries: entries after `prev_log_index`, or none as a heartbeat (Raft 5.3).

    `round` is the leader's counter of read rounds; the reply echoes it (Ongaro 6.4, BUG-44). `prev_digest` is the running digest
    of the leader's log up to `prev_log_index`: it shows whether logs with the same index and term there differ before (None: not
    compared). `configurations` are the indices of those entries that hold a configuration.
    """

    term: Term
    leader_id: NodeId
    prev_log_index: Index
    prev_log_term: Term
    entries: tuple[Entry, ...]
    leader_commit: Index
    round: Natural
    prev_digest: Natural | None = None
    configurations: tuple[Index, ...] = ()


class AppendReply(Struct, frozen=True, kw_only=True, tag_field="type", tag="append_reply", forbid_unknown_fields=True, gc=False):
    """Up to where the follower's *disk* agrees with the leader's log, or where to probe next (Raft 5.3).

    On success `match_index` is the last index known to be equal and synced. On refusal `hint_index`, `hint_term` are those of the
    follower's last entry that could still agree: at most one probe per term.
    """

    term: Term
    follower_id: NodeId
    success: bool
    match_index: Index = 0
    prev_log_index: Index = 0
    hint_index: Index = 0
    hint_term: Term = 0
    round: Natural


class SnapshotMeta(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which state a snapshot holds, and size and checksum of its file: equal for two nodes only if their files are equal.

    `digest` is the log's up to `last_index`; `configuration` the newest one up to there, None where the cluster has none yet;
    `size` is in bytes; `checksum` is the CRC-32 of the file.
    """

    last_index: Index
    last_term: Term
    digest: Natural
    members: tuple[NodeId, ...]
    size: Natural
    checksum: Natural
    configuration: Configuration | None = None


class SnapshotRequest(Struct, frozen=True, kw_only=True, tag_field="type", tag="snapshot_request", forbid_unknown_fields=True):
    """InstallSnapshot: a chunk of a snapshot's file from `offset` on, base64 on the wire (Raft 7, Figure 13)."""

    term: Term
    leader_id: NodeId
    snapshot: SnapshotMeta
    offset: Natural
    data: bytes


class SnapshotReply(Struct, frozen=True, kw_only=True, tag_field="type", tag="snapshot_reply", forbid_unknown_fields=True):
    """How many bytes of that snapshot are on the follower's disk, or that it needs no more of it.

    `installed`: the whole state up to `last_index` is on the disk, by this snapshot or by entries. The leader continues at
    `bytes_stored`, which is 0 after a restart of the follower.
    """

    term: Term
    follower_id: NodeId
    last_index: Index
    bytes_stored: Natural
    installed: bool


class StillReceiving(
    Struct, frozen=True, kw_only=True, tag_field="type", tag="still_receiving", forbid_unknown_fields=True, gc=False
):
    """Bytes of a long message of the leader are arriving: it counts for check-quorum only, and confirms no entry or read.

    Otherwise both ends would time out while a message takes longer than an election timeout to arrive
    (docs/decisions/slow_links.md).
    """

    term: Term
    follower_id: NodeId


class Introduction(Struct, frozen=True, kw_only=True, tag_field="type", tag="introduction", forbid_unknown_fields=True):
    """An unborn node sends its standing, and `asks` for the others'; a node with a birth set answers (membership.py).

    Its term is ignored: the sender may not be a member.
    """

    term: Term
    node_id: NodeId
    standing: Standing
    asks: bool


class LogDiffers(Struct, frozen=True, kw_only=True, tag_field="type", tag="log_differs", forbid_unknown_fields=True):
    """In place of an acknowledgement: the logs have the same term at `index`, and differ up to there.

    Log Matching excludes it (Raft 5.3), so a disk was exchanged, restored from another backup, or damaged.
    """

    term: Term
    follower_id: NodeId
    index: Index


class Demotion(Struct, frozen=True, kw_only=True, tag_field="type", tag="demotion", forbid_unknown_fields=True):
    """A leader notifies a follower that it is not counted any more, and why.

    differs: a majority has the leader's log and the follower's differs up to `index`: it must stop. lost: the follower had
    acknowledged entries up to `index` and lacks them: its disk counts as replaced. `entry_term` is the term of the leader's entry
    at `index`, 0 if that is compacted. `store` is the follower's store concerned: a node with another one ignores the message.
    """

    term: Term
    leader_id: NodeId
    cause: Literal["differs", "lost"]
    index: Index
    entry_term: Term = 0
    store: StoreId


class TimeoutNow(Struct, frozen=True, kw_only=True, tag_field="type", tag="timeout_now", forbid_unknown_fields=True):
    """A leader asks a follower that holds all its entries to stand for election at once (Ongaro 3.10)."""

    term: Term
    leader_id: NodeId


Message = (
    PreVoteRequest
    | PreVoteReply
    | VoteRequest
    | VoteReply
    | AppendRequest
    | AppendReply
    | SnapshotRequest
    | SnapshotReply
    | StillReceiving
    | Introduction
    | LogDiffers
    | Demotion
    | TimeoutNow
)

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)


def sender(message: Message) -> NodeId:
    """Return the sender's id; a connection accepts only messages of the node in its hello."""
    if type(message) is AppendReply:  # the usual ones first; not isinstance: see Core.step
        return message.follower_id
    if type(message) is AppendRequest:
        return message.leader_id
    match message:
        case PreVoteRequest() | VoteRequest():
            return message.candidate_id
        case PreVoteReply() | VoteReply():
            return message.voter_id
        case AppendRequest() | SnapshotRequest() | Demotion() | TimeoutNow():
            return message.leader_id
        case AppendReply() | SnapshotReply() | StillReceiving() | LogDiffers():
            return message.follower_id
        case Introduction():
            return message.node_id


def is_bulk(message: Message) -> bool:
    """Return whether the message carries entries or a chunk of a snapshot; all others are small."""
    kind = type(message)
    return kind is SnapshotRequest or (kind is AppendRequest and bool(message.entries))  # type: ignore[union-attr]


def encode_message(message: Message) -> bytes:
    """Return the message as one line, newline included."""
    return _encoder.encode(message) + b"\n"


def decode_message(line: bytes) -> Message:
    """Return the message in `line`; raise ValueError (msgspec.DecodeError is one) or RecursionError if it is malformed."""
    return _decoder.decode(line)
