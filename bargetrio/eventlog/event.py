"""An event: a fact with its number, its time and its node.

`{id, time, node, peer, kind, term, index, heartbeat, detail}`; an id is `<run>-<seq>`, a daemon's own numbering.
"""

from typing import Any, ClassVar, Final

from msgspec import Struct

KINDS: Final = (
    "role_changed",
    "term_changed",
    "pre_vote_requested",
    "pre_vote_granted",
    "pre_vote_refused",
    "vote_requested",
    "vote_granted",
    "vote_refused",
    "append_sent",
    "append_accepted",
    "append_rejected",
    "log_truncated",
    "commit_advanced",
    "applied",
    "request_received",
    "request_answered",
    "read_served",
    "snapshot_taken",
    "snapshot_sent",
    "snapshot_installed",
    "member_changed",
    "members_changed",
    "logs_differ",
    "tail_lost",
    "node_killed",
    "node_revived",
    "node_crashed",
    "node_recovered",
    "faults_changed",
    "disk_failed",
    "disk_space",
    "link_up",
    "link_down",
)


class Event(Struct, frozen=True, kw_only=True):
    """One thing that happened, ready for JSON. `time` is seconds since the epoch; `heartbeat` marks what is hidden by default."""

    id: str
    time: float
    node: int | None
    peer: int | None
    kind: str
    term: int | None
    index: int | None
    heartbeat: bool
    detail: dict[str, Any]


class Beat(Struct, frozen=True, kw_only=True):
    """The newest heartbeat that `node` has heard, from `peer`, so long ago: a page draws election timers from it."""

    node: int
    peer: int
    term: int
    age_ms: float


class RequestReceived(Struct, frozen=True, kw_only=True, gc=False):
    """Requests came in on one connection: `count` of them, the first keys named."""

    kind: ClassVar[str] = "request_received"
    count: int
    op: str
    first_commands: tuple[Any, ...]


class RequestAnswered(Struct, frozen=True, kw_only=True, gc=False):
    """Requests were answered in one batch; `error` names why where the answer was not ok."""

    kind: ClassVar[str] = "request_answered"
    count: int
    op: str
    error: str = ""


class NodeKilled(Struct, frozen=True, kw_only=True, gc=False):
    """Somebody killed this node: a crash, nothing flushed."""

    kind: ClassVar[str] = "node_killed"


class NodeRevived(Struct, frozen=True, kw_only=True, gc=False):
    """Somebody revived this node; node_recovered follows."""

    kind: ClassVar[str] = "node_revived"


class NodeCrashed(Struct, frozen=True, kw_only=True, gc=False):
    """An error ended this node; the others go on."""

    kind: ClassVar[str] = "node_crashed"
    reason: str


class NodeRecovered(Struct, frozen=True, kw_only=True, gc=False):
    """This node read its snapshot, if there is one, and its log, synced them, and listens.

    `index` is its log's last; `snapshot` is where applying begins: the last index that its snapshot holds, 0 without one. `store`
    is the folder's id: another one than before is another disk, which remembers no vote.
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
    """Somebody cut, slowed or healed links or disks."""

    kind: ClassVar[str] = "faults_changed"
    faults: dict[str, Any]
    text: str


class DiskFailed(Struct, frozen=True, kw_only=True, gc=False):
    """A write or sync failed: this node stops serving at once, nothing is retried (BUG-51)."""

    kind: ClassVar[str] = "disk_failed"
    reason: str


class DiskSpace(Struct, frozen=True, kw_only=True, gc=False):
    """This node's disk is nearly full (`is_low`): it proposes no writes; or there is room again."""

    kind: ClassVar[str] = "disk_space"
    free_bytes: int
    is_low: bool


class LinkUp(Struct, frozen=True, kw_only=True, gc=False):
    """This node's link to `peer` said hello."""

    kind: ClassVar[str] = "link_up"
    peer: int


class LinkDown(Struct, frozen=True, kw_only=True, gc=False):
    """This node's link to `peer` ended or was refused."""

    kind: ClassVar[str] = "link_down"
    peer: int
    reason: str


DriverFact = (
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
