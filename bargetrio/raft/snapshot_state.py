"""What a node knows of the snapshots that it takes and receives; the rules are in snapshots.py and receiving.py."""

from collections.abc import Callable
from dataclasses import dataclass

from msgspec import Struct

from bargetrio.raft.messages import Index, NodeId, SnapshotMeta, Term


class SnapshotPolicy(Struct, frozen=True, kw_only=True):
    """When a snapshot is taken: the log since the last one has so many entries, or so many bytes of commands.

    In either case it also outweighs the last snapshot, so that saving costs no more than writing did. `trailing` entries before
    it stay in the log, for followers that are a little behind, and at most `trailing_bytes` of commands.
    """

    entries: int = 100_000
    bytes: int = 64 * 1024 * 1024
    trailing: int = 10_000
    trailing_bytes: int = 16 * 1024 * 1024
    transfer_bytes: int = 64 * 1024 * 1024
    """The log keeps what follows a snapshot that is being sent, up to this or twice the snapshot's size, whichever is more: then
    the newest one is sent in its place. Who receives more slowly than that is written cannot catch up."""
    quiet_s: float = 10.0
    """When nothing was applied for so long, less is enough, if it is more than `trailing`: a restart is quick then."""


@dataclass(slots=True)
class Receiving:
    """A snapshot that a leader sends us; `is_busy` while a piece is being written."""

    snapshot: SnapshotMeta
    leader_id: NodeId
    term: Term
    bytes_stored: int = 0
    is_busy: bool = False


class SnapshotState:
    """What is under way: a snapshot that is taken, one that is received, one that replaces state and log."""

    def __init__(self, policy: SnapshotPolicy, last_applied: Index, now: float, has_unsent: Callable[[NodeId], bool]) -> None:
        self.policy = policy
        self.has_unsent = has_unsent
        """Returns whether the link to a peer holds unsent bytes; asked when a piece of a snapshot has not been answered."""
        self.unreadable: SnapshotMeta | None = None
        """The newest snapshot, if its file can't be sent: another one, also of the same index, may replace it."""
        self.is_taking = False
        self.must_not_take = False
        """Set by the driver: no snapshot may begin, since another node of the process takes one."""
        self.is_asked = False
        self.is_due = False
        """Whether a snapshot is due by the policy, or was asked for, and none is under way."""
        self.policy_checked_index: Index = -1
        """The applied index at which a snapshot was last found not to be due."""
        self.quiet_since = now
        self.quiet_index = last_applied
        """The last applied index, unchanged since `quiet_since`."""
        self.compact_to: Index = 0
        """The log forgets the entries up to here, a slice at a time."""
        self.receiving: Receiving | None = None
        self.installing: SnapshotMeta | None = None
        """A received snapshot that is replacing state and log; nothing is applied meanwhile."""
        self.installing_from: NodeId = -1
        """The leader that has sent it."""

    def change_policy(self, policy: SnapshotPolicy) -> None:
        """Take snapshots by another policy from now on."""
        self.policy = policy
        self.policy_checked_index = -1

    def end_taking(self) -> None:
        """Note that no snapshot is under way any more: the next one may be due already."""
        self.is_taking = False
        self.policy_checked_index = -1
