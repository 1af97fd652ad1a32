"""The four roles as objects: a leader's volatile state is in Leader, and is dropped when it steps down (Figure 2, Figure 4).

Killed and crashed are not roles but states of a slot (cluster/slots.py).
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Final, Literal, final

from bargetrio.raft.effects import Ticket
from bargetrio.raft.facts import RoleName
from bargetrio.raft.messages import AppendRequest, Index, NodeId
from bargetrio.raft.progress import Progress
from bargetrio.raft.quorum import is_majority

UNTIL_SYNCED: Final = float("inf")
"""An election deadline: the timer starts when the write under way is synced (`Core.persisted`)."""


@dataclass(slots=True)
class Follower:
    """Becomes a pre-candidate when `election_deadline` passes without a leader's message or a granted vote (Raft 5.2).

    `timer_restarted_at`: when the timer was last restarted after a pause of the process (`Core._restart_timers_after_stall`); the
    same in the other roles.
    """

    election_deadline: float
    leader_id: NodeId | None = None
    heard_leader_at: float | None = None
    timer_restarted_at: float | None = None
    still_receiving_sent_at: float = float("-inf")
    """When the last StillReceiving was sent."""
    leader_commit: Index = 0
    """The leader's commit index in its last append; this node's own may be lower, also by entries that its log lacks."""
    name: Literal["follower"] = "follower"


@dataclass(slots=True)
class PreCandidate:
    """Asks for pre-votes before it begins a new term (Ongaro 9.6).

    `votes`: those granted in the present term, if it was a candidate there; with late votes it may still win that term.
    """

    election_deadline: float
    granted: set[NodeId] = field(default_factory=set)
    votes: set[NodeId] = field(default_factory=set)
    timer_restarted_at: float | None = None
    name: Literal["pre_candidate"] = "pre_candidate"


@dataclass(slots=True)
class Candidate:
    """Asks for votes in its own new term; its own vote counts, and its timer starts, once that vote is on the disk.

    At `election_deadline` it asks again for the votes that it lacks, and from `time_ends_at` on for pre-votes of the next term.
    """

    election_deadline: float
    transfers: bool = False
    """Whether the leader of the term before asked for the election: voters grant though they hear it (Ongaro 3.10)."""
    time_ends_at: float = float("-inf")
    granted: set[NodeId] = field(default_factory=set)
    timer_restarted_at: float | None = None
    name: Literal["candidate"] = "candidate"


@dataclass(slots=True)
class ReadRound:
    """Reads that arrived before heartbeat round `number` was sent; they see at least `read_index` (Ongaro 6.4)."""

    number: int
    read_index: Index
    tickets: list[Ticket]


@dataclass(slots=True)
class LeadershipTransfer:
    """A transfer under way: `is_asked` once the target has been asked to stand for election, given up at `ends_at`."""

    target: NodeId
    ends_at: float
    is_asked: bool = False


@final
@dataclass(slots=True)
class Leader:
    """Volatile state of a leader, new for every term it leads (Figure 2).

    `tickets` belong to the last `len(tickets)` entries of the log that are not yet applied: from `term_start` on every entry is
    this leader's own.
    """

    term_start: Index
    heartbeat_deadline: float
    progress: dict[NodeId, Progress]
    tickets: deque[Ticket | None] = field(default_factory=deque)
    new_reads: list[Ticket] = field(default_factory=list)
    rounds: deque[ReadRound] = field(default_factory=deque)
    confirmed: deque[ReadRound] = field(default_factory=deque)
    round: int = 0
    last_request: AppendRequest | None = None
    """The last append, at most a batch: usually the other followers are sent the same."""
    transfer: LeadershipTransfer | None = None
    """While it is under way, no proposal is taken."""
    has_lagging_follower: bool = True
    """False: every follower has all entries, and `take_effects` skips replication."""
    name: Literal["leader"] = "leader"

    def heard_from_majority(self, now: float, within_s: float) -> bool:
        """Return whether a majority, this leader included, answered within that time (check-quorum, Ongaro 6.2)."""
        heard = [progress for progress in self.progress.values() if progress.is_counted and now - progress.heard_at < within_s]
        return is_majority(len(heard) + 1, len(self.progress) + 1)


Role = Follower | PreCandidate | Candidate | Leader

TRANSITIONS: Final[frozenset[tuple[RoleName, RoleName]]] = frozenset(
    {
        ("follower", "follower"),  # another leader, another term
        ("follower", "pre_candidate"),
        ("follower", "candidate"),  # the leader transfers its leadership (Ongaro 3.10)
        ("pre_candidate", "pre_candidate"),  # no replies: ask again
        ("pre_candidate", "candidate"),
        ("pre_candidate", "leader"),  # late votes of the term in which it was a candidate
        ("pre_candidate", "follower"),
        ("candidate", "pre_candidate"),  # a split vote: ask again before the next term
        ("candidate", "leader"),
        ("candidate", "follower"),
        ("leader", "follower"),
    }
)
"""Which role may follow which (Figure 4, with the pre-vote between follower and candidate)."""
