"""The facts that a node's replica, its host and its slot announce beside the core's (raft/facts.py), and the port for facts."""

from typing import Any, ClassVar, Protocol

from msgspec import Struct

from bargetrio.raft.facts import Fact
from bargetrio.raft.messages import NodeId


class RequestReceived(Struct, frozen=True, kw_only=True, gc=False):
    """A step took `count` writes, of all connections; with the first three commands."""

    kind: ClassVar[str] = "request_received"
    count: int
    op: str
    first_commands: tuple[Any, ...]


class RequestAnswered(Struct, frozen=True, kw_only=True, gc=False):
    """Requests were answered in one batch; `error` is the error code of a failed one."""

    kind: ClassVar[str] = "request_answered"
    count: int
    op: str
    error: str = ""


class NodeKilled(Struct, frozen=True, kw_only=True, gc=False):
    """This node was killed by request: a crash, nothing flushed."""

    kind: ClassVar[str] = "node_killed"


class NodeRevived(Struct, frozen=True, kw_only=True, gc=False):
    """This node was revived by request; node_recovered follows."""

    kind: ClassVar[str] = "node_revived"


class NodeCrashed(Struct, frozen=True, kw_only=True, gc=False):
    """An error ended this node; other nodes continue."""

    kind: ClassVar[str] = "node_crashed"
    reason: str


class NodeRecovered(Struct, frozen=True, kw_only=True, gc=False):
    """This node read its snapshot, if there is one, and its log, synced them, and listens.

    `index` is its log's last; `snapshot` is the last index that its snapshot covers, 0 without one: applying begins after it.
    `store` is the folder's id: if it differs from an earlier one, the disk was replaced and has no earlier vote.
    """

    kind: ClassVar[str] = "node_recovered"
    term: int
    index: int
    voted_for: int | None
    seconds: float
    repaired: str = ""
    snapshot: int = 0
    store: str = ""


class FaultsChanged(Struct, frozen=True, kw_only=True, gc=False):
    """Faults of links or disks were set or healed by request."""

    kind: ClassVar[str] = "faults_changed"
    faults: dict[str, Any]
    text: str


class DiskFailed(Struct, frozen=True, kw_only=True, gc=False):
    """A write or sync failed: this node stops serving at once, nothing is retried (BUG-51)."""

    kind: ClassVar[str] = "disk_failed"
    reason: str


class DiskSpace(Struct, frozen=True, kw_only=True, gc=False):
    """This node's disk is nearly full (`is_low`), and it refuses writes; or there is room again."""

    kind: ClassVar[str] = "disk_space"
    free_bytes: int
    is_low: bool


class LinkUp(Struct, frozen=True, kw_only=True, gc=False):
    """The handshake of this node's link to `peer` has succeeded."""

    kind: ClassVar[str] = "link_up"
    peer: int


class LinkDown(Struct, frozen=True, kw_only=True, gc=False):
    """This node's link to `peer` ended or was refused."""

    kind: ClassVar[str] = "link_down"
    peer: int
    reason: str


HostFact = (
    RequestReceived
    | RequestAnswered
    | NodeKilled
    | NodeRevived
    | NodeCrashed
    | NodeRecovered
    | FaultsChanged
    | DiskFailed
    | DiskSpace
    | LinkUp
    | LinkDown
)


class Sink(Protocol):
    """The port for a node's facts; the recorder implements it."""

    def record(self, node_id: NodeId | None, fact: Fact | HostFact) -> None:
        """Number, timestamp and store the fact; never blocks, never raises."""
        ...

    def stage(self, node_id: NodeId | None, fact: Fact | HostFact) -> None:
        """As `record`, but only timestamp the fact now: the caller must `flush` before its next await."""
        ...

    def flush(self) -> None:
        """Record the facts that were staged."""
        ...
