"""What happened, as typed facts: the core announces them; the event log numbers, timestamps and publishes them.

One fact per message or batch, never per entry. `peer` is the other node of a message; `index` is the last index it is about.
A running digest covers the log up to `index`: nodes whose logs agree up to there have the same, so a recorded run can be audited.
`first_commands` holds at most three commands; the recorder truncates them at once and keeps no reference.
"""

from typing import ClassVar, Literal

from msgspec import Struct

from bargetrio.raft.standing import StoreId
from bargetrio.raft.values import Command, Index, NodeId, Term

RoleName = Literal["follower", "pre_candidate", "candidate", "leader"]


class RoleChanged(Struct, frozen=True, kw_only=True, gc=False):
    """A node changed its role, and why."""

    kind: ClassVar[str] = "role_changed"
    term: Term
    old: RoleName
    new: RoleName
    reason: str


class TermChanged(Struct, frozen=True, kw_only=True, gc=False):
    """A node saw a higher term, or began one."""

    kind: ClassVar[str] = "term_changed"
    term: Term
    old_term: Term
    reason: str


class PreVoteRequested(Struct, frozen=True, kw_only=True, gc=False):
    """This node asks `peer` whether it would vote for it in `term`."""

    kind: ClassVar[str] = "pre_vote_requested"
    peer: NodeId
    term: Term
    last_log_index: Index
    last_log_term: Term


class PreVoteGranted(Struct, frozen=True, kw_only=True, gc=False):
    """This node granted `peer` a pre-vote for `term`."""

    kind: ClassVar[str] = "pre_vote_granted"
    peer: NodeId
    term: Term


class PreVoteRefused(Struct, frozen=True, kw_only=True, gc=False):
    """This node refused `peer` a pre-vote, with the reason."""

    kind: ClassVar[str] = "pre_vote_refused"
    peer: NodeId
    term: Term
    reason: str


class VoteRequested(Struct, frozen=True, kw_only=True, gc=False):
    """This node asks `peer` for its vote in `term`."""

    kind: ClassVar[str] = "vote_requested"
    peer: NodeId
    term: Term
    last_log_index: Index
    last_log_term: Term


class VoteGranted(Struct, frozen=True, kw_only=True, gc=False):
    """This node gives `peer` its vote in `term`; the reply leaves when the vote is on the disk."""

    kind: ClassVar[str] = "vote_granted"
    peer: NodeId
    term: Term


class VoteRefused(Struct, frozen=True, kw_only=True, gc=False):
    """This node does not vote for `peer`, and why."""

    kind: ClassVar[str] = "vote_refused"
    peer: NodeId
    term: Term
    reason: str


class TransferBegan(Struct, frozen=True, kw_only=True, gc=False):
    """This leader takes no proposals any more, and has `peer` elected as soon as that holds all entries."""

    kind: ClassVar[str] = "transfer_began"
    peer: NodeId
    term: Term


class TransferEnded(Struct, frozen=True, kw_only=True, gc=False):
    """`peer` was not elected in time, and why: this leader takes proposals again."""

    kind: ClassVar[str] = "transfer_ended"
    peer: NodeId
    term: Term
    reason: str


class AppendSent(Struct, frozen=True, kw_only=True, gc=False):
    """The leader sends `peer` entries `first_index` to `index`, or a heartbeat (count 0).

    The first and the last of them are of `first_term` and `last_term` (of a heartbeat 0): if those are equal, so are all between.
    """

    kind: ClassVar[str] = "append_sent"
    peer: NodeId
    term: Term
    index: Index
    first_index: Index
    first_term: Term
    last_term: Term
    count: int
    leader_commit: Index
    first_commands: tuple[Command, ...]
    digest: int


class AppendAccepted(Struct, frozen=True, kw_only=True, gc=False):
    """A follower has the entries of `peer` up to `index` in its log (count 0: a heartbeat); it answers once they are synced."""

    kind: ClassVar[str] = "append_accepted"
    peer: NodeId
    term: Term
    index: Index
    first_index: Index
    first_term: Term
    last_term: Term
    count: int
    first_commands: tuple[Command, ...]
    digest: int


class AppendRejected(Struct, frozen=True, kw_only=True, gc=False):
    """A follower's log lacks the previous entry (Raft 5.3), or the sender's term is old."""

    kind: ClassVar[str] = "append_rejected"
    peer: NodeId
    term: Term
    index: Index
    reason: str


class LogTruncated(Struct, frozen=True, kw_only=True, gc=False):
    """A follower deletes its entries from `index` to `last_index`: the leader's log differs there."""

    kind: ClassVar[str] = "log_truncated"
    term: Term
    index: Index
    last_index: Index


class CommitAdvanced(Struct, frozen=True, kw_only=True, gc=False):
    """This node knows the log to be committed up to `index`."""

    kind: ClassVar[str] = "commit_advanced"
    term: Term
    index: Index
    old_index: Index
    digest: int


class Applied(Struct, frozen=True, kw_only=True, gc=False):
    """This node's state machine has applied entries `first_index` to `index`, of `first_term` to `term`."""

    kind: ClassVar[str] = "applied"
    term: Term
    index: Index
    first_index: Index
    first_term: Term
    first_commands: tuple[Command, ...]
    digest: int


class ReadServed(Struct, frozen=True, kw_only=True, gc=False):
    """The leader confirmed a round of reads at `index` (Ongaro 6.4)."""

    kind: ClassVar[str] = "read_served"
    term: Term
    index: Index
    count: int
    round: int


class SnapshotTaken(Struct, frozen=True, kw_only=True, gc=False):
    """This node has saved its state up to `index`; its log now begins after `log_start`."""

    kind: ClassVar[str] = "snapshot_taken"
    term: Term
    index: Index
    digest: int
    size: int
    log_start: Index


class SnapshotSent(Struct, frozen=True, kw_only=True, gc=False):
    """The leader begins to send `peer` its snapshot, or the follower has all of it (`done`)."""

    kind: ClassVar[str] = "snapshot_sent"
    peer: NodeId
    term: Term
    index: Index
    size: int
    done: bool


class SnapshotInstalled(Struct, frozen=True, kw_only=True, gc=False):
    """This node has replaced its state by a leader's snapshot; its log begins after `index`."""

    kind: ClassVar[str] = "snapshot_installed"
    peer: NodeId
    term: Term
    index: Index
    digest: int
    size: int


class MemberChanged(Struct, frozen=True, kw_only=True, gc=False):
    """This node's right to vote, or the reason for it, has changed: it was born, admitted with a new disk, or lost entries."""

    kind: ClassVar[str] = "member_changed"
    term: Term
    index: Index
    may_vote: bool
    reason: str


class MembersChanged(Struct, frozen=True, kw_only=True, gc=False):
    """An entry of this node's log readmits `peer` with another disk; it counts once that entry is committed without it."""

    kind: ClassVar[str] = "members_changed"
    peer: NodeId
    term: Term
    index: Index
    store: StoreId


class LogsDiffer(Struct, frozen=True, kw_only=True, gc=False):
    """This node's log and that of `peer` have the same term at `index` and differ up to there: one is not the cluster's."""

    kind: ClassVar[str] = "logs_differ"
    peer: NodeId
    term: Term
    index: Index


class TailLost(Struct, frozen=True, kw_only=True, gc=False):
    """`peer` had acknowledged the log up to `index` to this leader and does not hold it any more: its disk lost entries."""

    kind: ClassVar[str] = "tail_lost"
    peer: NodeId
    term: Term
    index: Index


Fact = (
    RoleChanged
    | TermChanged
    | PreVoteRequested
    | PreVoteGranted
    | PreVoteRefused
    | VoteRequested
    | VoteGranted
    | VoteRefused
    | AppendSent
    | AppendAccepted
    | AppendRejected
    | LogTruncated
    | CommitAdvanced
    | Applied
    | ReadServed
    | SnapshotTaken
    | SnapshotSent
    | SnapshotInstalled
    | MemberChanged
    | MembersChanged
    | LogsDiffer
    | TailLost
    | TransferBegan
    | TransferEnded
)
