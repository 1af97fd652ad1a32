"""The interface between cluster and node: a node's settings, and what the supervisor may call.

`server.Node` implements it. The supervisor starts `run` in a cancel scope of the node's own and catches every exception, so that
the end of one node never ends another.
"""

from typing import Final, Protocol

from msgspec import Struct
from trio import TaskStatus

from bargetrio.eventlog.event import DriverFact
from bargetrio.kv.scan import SLICE_KEYS
from bargetrio.node.figures import NodeGauges
from bargetrio.protocol.limits import STRANGERS
from bargetrio.raft.facts import Fact, RoleName
from bargetrio.raft.messages import NodeId
from bargetrio.raft.snapshots import SnapshotPolicy
from bargetrio.storage.wal import SEGMENT_BYTES

UNCOMMITTED: Final = "is in the log, and not committed by a majority of the others yet"
"""Words by which `RunningNode.readmit` says that the entry was proposed: whether it will be committed is not known."""


class Sink(Protocol):
    """Takes a node's facts; the recorder is one."""

    def record(self, node_id: NodeId | None, fact: Fact | DriverFact) -> None:
        """Number, stamp and keep the fact; never blocks, never raises."""
        ...

    def note(self, node_id: NodeId | None, fact: Fact | DriverFact) -> None:
        """As `record`, but only stamp the fact now: the caller must call `settle` before its next await."""
        ...

    def settle(self) -> None:
        """Record the facts that were noted."""
        ...


class NodeSettings(Struct, frozen=True, kw_only=True):
    """A node's settings; durations in seconds, addresses as "host:port"."""

    cluster: str
    node_id: NodeId
    listen: str
    addresses: dict[NodeId, str]
    heartbeat_s: float
    election_s: tuple[float, float]
    request_timeout_s: float
    peer_secret: bytes | None = None
    seed: int | None = None
    snapshot_policy: SnapshotPolicy = SnapshotPolicy()
    chunk_bytes: int = 256 * 1024
    """Bytes of a snapshot in one message."""
    most_clients: int = 20_000
    most_strangers: int = STRANGERS
    """Connections of clients, and of those that have not said hello yet: together fewer than the process may open."""
    slice_keys: int = SLICE_KEYS
    """How many keys are saved at once."""
    segment_bytes: int = SEGMENT_BYTES
    """The size of a file of the log. Below two of them that are free, a leader proposes no writes."""


class PeerStatus(Struct, frozen=True, kw_only=True):
    """This node's link to a peer; `match_index`, `next_index`, `progress` only at a leader."""

    id: NodeId
    connected: bool
    match_index: int | None = None
    next_index: int | None = None
    progress: str | None = None


class NodeStatus(Struct, frozen=True, kw_only=True):
    """A running node at this moment. `has_quorum`: a leader that heard a majority, or a follower of a leader heard just now."""

    role: RoleName
    term: int
    voted_for: NodeId | None
    leader: NodeId | None
    has_quorum: bool
    is_born: bool
    """Whether its folder holds the identity of a cluster: the set of the members' stores is known (raft/standing.py)."""
    may_vote: bool
    """False while it abstains from elections: its cluster is not born, or its disk is not, or not yet, a member's."""
    abstains: str
    """Why it abstains; "" if it votes."""
    commit_index: int
    last_applied: int
    last_log_index: int
    last_log_term: int
    log_start: int
    snapshot_index: int
    keys: int
    peers: list[PeerStatus]


class Belief(Struct, frozen=True, kw_only=True, gc=False):
    """The leader of its term as a node knows it, whether it is part of a quorum, and whether it leads itself."""

    term: int
    leader: NodeId | None
    has_quorum: bool
    leads: bool


class BackupFile(Protocol):
    """A snapshot of a running node, to be read once from its beginning to its end; `checksum` is the file's CRC-32."""

    index: int
    term: int
    size: int
    checksum: int

    async def read(self) -> bytes:
        """Return the next piece, b"" at the end; raise OSError."""
        ...

    def close(self) -> None:
        """Release the file; must be called."""
        ...


class RunningNode(Protocol):
    """A node from the supervisor's side. One object is one life: revive builds a new one."""

    @property
    def last_turn(self) -> float:
        """Return the trio time at which the node's loop last turned: at least once a second while the node lives (watchdog)."""
        ...

    async def run(self, task_status: TaskStatus[None] = ...) -> None:
        """Lock the folder, recover, listen, call `started()`, serve until cancelled.

        Raises StorageError or OSError where it can't start, StorageFailed when its disk fails; anything else is a bug.
        Never returns by itself. When it has ended, its port refuses, its connections are reset, and no thread touches its folder.
        """
        ...

    def fence(self) -> None:
        """Die at once, before cancellation: disk and network ports take nothing more, nothing is flushed, no goodbye."""
        ...

    def status(self) -> NodeStatus:
        """Return the node's state, from memory."""
        ...

    def belief(self) -> Belief:
        """Return what of `status` each request of REST asks for."""
        ...

    async def readmit(self, node_id: NodeId) -> str:
        """As the leader, make the store of the last hello of `node_id` that member's, by an entry of the log (dissertation 4.1).

        Return "" once that entry is committed without counting the node, or if the node is a member with that store; else why
        not: ask again. Does not return once this node has ended: bound the wait. Cancelled, the entry may still be proposed.
        """
        ...

    async def bootstrap(self) -> str:
        """Begin a cluster with the members present; return "" if that is under way (`NodeStatus.is_born`), else why not.

        Does not return once this node has ended: bound the wait. Cancelled, the cluster may still be born.
        """
        ...

    async def backup(self, index: int) -> BackupFile:
        """Return a snapshot that holds at least everything up to `index`, taking one if need be; cancellable while it waits."""
        ...

    def gauges(self) -> NodeGauges:
        """Return the node's sizes, from memory."""
        ...
