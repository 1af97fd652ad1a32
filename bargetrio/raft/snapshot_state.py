"""State of the snapshots that a node takes and receives; the rules are in snapshots.py and receiving.py."""

from collections.abc import Callable
from dataclasses import dataclass

from msgspec import Struct

from bargetrio.raft.messages import Index, NodeId, SnapshotMeta, Term
from bargetrio.raft.standing import Configuration


class SnapshotPolicy(Struct, frozen=True, kw_only=True):
    """When a snapshot is taken: the log since the last one has `entries` entries, or `bytes` bytes of commands.

    In both cases only if that is also more than the last snapshot, so that saving costs no more than writing. The last `trailing`
    entries that it covers, up to `trailing_bytes` of commands, stay in the log for followers that lag a little.
    """

    entries: int = 100_000
    bytes: int = 64 * 1024 * 1024
    trailing: int = 10_000
    trailing_bytes: int = 16 * 1024 * 1024
    transfer_bytes: int = 64 * 1024 * 1024
    """The log keeps the entries after a snapshot that is being sent, up to this or twice the snapshot's size, whichever is more;
    beyond that the newest one is sent instead. A follower that receives more slowly than entries are written cannot catch up."""
    idle_s: float = 10.0
    """Seconds without an applied entry after which more than `trailing` entries suffice: a restart is quick then."""


class SnapshotLabel(Struct, frozen=True):
    """What a snapshot says of itself that is begun now: it holds the state machine as it is when it has applied `last_index`."""

    last_index: Index
    last_term: Term
    digest: int
    members: tuple[NodeId, ...]
    configuration: Configuration | None


@dataclass(slots=True)
class Receiving:
    """A snapshot that is being received; `is_busy` while a chunk is being written."""

    snapshot: SnapshotMeta
    leader_id: NodeId
    term: Term
    bytes_stored: int = 0
    is_busy: bool = False


class SnapshotState:
    """At most one snapshot that is being taken, one that is being received, and one that is being installed."""

    def __init__(self, policy: SnapshotPolicy, last_applied: Index, now: float, has_unsent: Callable[[NodeId], bool]) -> None:
        self.policy = policy
        self.has_unsent = has_unsent
        """Returns whether the link to a peer has unsent bytes; called while a chunk of a snapshot is unanswered."""
        self.unreadable: SnapshotMeta | None = None
        """The newest snapshot, if its file can't be read: another one, also of the same index, may replace it."""
        self.is_taking = False
        self.is_asked = False
        self.is_due = False
        """Whether a snapshot is due by the policy, or was asked for, and none is under way: the host may `begin_snapshot`."""
        self.policy_checked_index: Index = -1
        """The applied index at which a snapshot was last found not to be due."""
        self.idle_since = now
        self.idle_index = last_applied
        """The last applied index, unchanged since `idle_since`."""
        self.compact_to: Index = 0
        """The log is compacted up to here, a slice at a time."""
        self.receiving: Receiving | None = None
        self.installing: SnapshotMeta | None = None
        """A received snapshot that is replacing state and log; no entry is applied meanwhile."""
        self.installing_from: NodeId = -1
        """The leader that sent it."""

    def change_policy(self, policy: SnapshotPolicy) -> None:
        """Use another policy from now on."""
        self.policy = policy
        self.policy_checked_index = -1

    def end_taking(self) -> None:
        """Note that no snapshot is under way any more: the next one may be due already."""
        self.is_taking = False
        self.policy_checked_index = -1
