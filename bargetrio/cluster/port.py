"""The border between web and cluster: what REST and the page may ask, and the shapes of the answers.

`supervisor.Supervisor` is the real thing, and web is tried with it; only what must fail on purpose is a fake.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal, Protocol

from msgspec import Meta, Struct

from bargetrio.eventlog.event import Beat, Event
from bargetrio.node.figures import Histogram as Histogram  # web knows only this border
from bargetrio.node.figures import NodeFigures as NodeFigures
from bargetrio.node.figures import NodeGauges as NodeGauges
from bargetrio.node.port import BackupFile as BackupFile  # web knows only this border
from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.requests import Delete, DeleteAnswer, Get, GetAnswer, List, ListAnswer, Put, PutAnswer

BACKUP_WAIT_S: Final = 120.0
"""Seconds that a backup waits for a snapshot to be taken; a million keys take some 8 s."""

NodeState = Literal["starting", "running", "killed", "crashed", "unreachable"]


class PeerView(Struct, frozen=True, kw_only=True):
    """A leader's view of one follower; on other nodes only `id` and `connected` are set."""

    id: int
    connected: bool
    match_index: int | None = None
    next_index: int | None = None
    progress: Literal["probe", "replicate", "snapshot"] | None = None


class NodeView(Struct, frozen=True, kw_only=True):
    """What is known of a node; of one that does not run, only `id`, `address`, `api` and `state`."""

    id: int
    address: str
    api: str
    state: NodeState
    reason: str = ""
    role: str | None = None
    term: int | None = None
    voted_for: int | None = None
    leader: int | None = None
    may_vote: bool | None = None
    """False while it abstains from elections (`reason` says why)."""
    commit_index: int | None = None
    last_applied: int | None = None
    last_log_index: int | None = None
    last_log_term: int | None = None
    log_start: int | None = None
    """The index before the log's first entry: up to it, a snapshot holds what there was."""
    snapshot_index: int | None = None
    peers: list[PeerView] = []


class LeaderView(Struct, frozen=True, kw_only=True):
    """Who leads, by the highest term that has a quorum."""

    leader: int
    term: int
    address: str


class LinkFault(Struct, frozen=True, kw_only=True, rename={"source": "from", "target": "to"}, forbid_unknown_fields=True):
    """What happens to messages from one node to another."""

    source: int
    target: int
    cut: bool = False
    drop: Annotated[float, Meta(ge=0, le=1)] = 0.0
    delay_ms: Annotated[float, Meta(ge=0, le=60_000)] = 0.0


class DiskFault(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What happens to a node's writes and syncs; an error stops the node as a real one would."""

    node: int
    delay_ms: Annotated[float, Meta(ge=0, le=60_000)] = 0.0
    error: Literal["EIO", "ENOSPC"] | None = None


class Faults(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All faults in force. `groups`: nodes in different groups cannot reach each other; a node in none stands alone."""

    groups: list[list[int]] = []
    links: list[LinkFault] = []
    disks: list[DiskFault] = []


class EventPage(Struct, frozen=True, kw_only=True):
    """Events in order of time. `next` is what to give as `after` for what comes later; it names a cursor per daemon.

    `beats` and `skipped` are for a live page: who heard a heartbeat how long ago, and how many events were left out under load.
    """

    events: list[Event]
    next: str
    dropped: int
    heartbeats: int = 0
    unreachable: list[int] = []
    skipped: int = 0
    beats: list[Beat] = []


class NodeAnswer(Struct, frozen=True, kw_only=True):
    """Whether kill or revive changed anything: asking twice is no error."""

    id: int
    state: NodeState
    changed: bool


class BootstrapAnswer(Struct, frozen=True, kw_only=True):
    """The node at which the cluster was born, and all members, absent ones included."""

    node: int
    members: list[int]


class Cluster(Protocol):
    """The whole cluster, asked of any daemon. Every call raises BargeError and nothing else that a caller could cause.

    `local` keeps a question from being passed on: daemons ask each other with it.
    """

    cluster_name: str
    node_ids: list[int]
    local_ids: list[int]
    loop_lag: Histogram

    async def execute(self, request: Put | Get | Delete | List) -> PutAnswer | GetAnswer | DeleteAnswer | ListAnswer:
        """Carry one request to the leader (stale reads to a local node), through an election if need be.

        Waits at most request_timeout; then no_leader if it was never proposed, outcome_unknown if it may have been.
        """
        ...

    async def execute_many(self, requests: Sequence[Put]) -> list[PutAnswer | GetAnswer | DeleteAnswer | ListAnswer | BargeError]:
        """Carry many writes to the leader together; return what became of each, in their order, as `execute` would tell it."""
        ...

    async def leader(self, *, local: bool = False) -> LeaderView:
        """Return who leads; raise BargeError(no_leader) where no quorum follows anybody."""
        ...

    def known_leader(self) -> LeaderView | None:
        """Return who leads as far as this daemon's own nodes know."""
        ...

    async def nodes(self, *, local: bool = False) -> list[NodeView]:
        """Return a view of every node, of this daemon's own with `local`; one that can't be asked is "unreachable"."""
        ...

    async def kill(self, node_id: int, *, local: bool = False) -> NodeAnswer:
        """Crash the node; return once its port refuses. An unknown id is not_found and lists the known ones."""
        ...

    async def revive(self, node_id: int, *, local: bool = False) -> NodeAnswer:
        """Start the node again; return once it has recovered and listens, or raise why it can't."""
        ...

    async def backup(self) -> BackupFile:
        """Return a snapshot of all that was committed when this was asked, from a node of this daemon.

        Raises BargeError: no_leader where nobody can say what is committed, no own node lives, or none has applied that much
        within request_timeout; overloaded where the snapshot is not taken within BACKUP_WAIT_S.
        """
        ...

    async def readmit(self, node_id: int, *, local: bool = False) -> NodeAnswer:
        """Readmit a node whose disk was lost and replaced, by an entry of the log that is committed without counting the node.

        Returns once that is committed, or if the node is a member with this disk (`changed` is false); the node votes when it has
        caught up. Raises BargeError: no_leader; bad_request, which says what must be done first, or that it can't be done;
        outcome_unknown where the entry is in the log and not committed in time: ask again.
        """
        ...

    async def bootstrap(self) -> BootstrapAnswer:
        """Let the cluster be born with the members that are here: the operator says that the others never were members.

        Those that are absent are readmitted later. Raises BargeError: bad_request where a member that is born answers, where less
        than a majority is here, or where this daemon's node is born; outcome_unknown where its disk does not hold the set of
        members in time: ask again.
        """
        ...

    async def faults(self) -> Faults:
        """Return the faults in force."""
        ...

    async def set_faults(self, faults: Faults, *, local: bool = False) -> Faults:
        """Put exactly these faults in force in every daemon; an unknown node id is bad_request."""
        ...

    async def events(
        self,
        *,
        after: str = "",
        nodes: frozenset[int] = frozenset(),
        kinds: frozenset[str] = frozenset(),
        heartbeats: bool = False,
        limit: int = 500,
        local: bool = False,
        live: bool = False,
    ) -> EventPage:
        """Return events after the cursor, or the newest `limit` without one; empty filters let everything through.

        With `live` the page is for a picture: frequent events are left out where there are too many, heartbeats are summed up.
        """
        ...

    async def wait_for_event(self) -> None:
        """Return when this daemon has a new event that is not a heartbeat."""
        ...

    def event_counts(self) -> dict[tuple[int | None, str], int]:
        """Return how many events of each (node, kind) this daemon has recorded since it began."""
        ...

    def figures(self) -> dict[int, NodeFigures]:
        """Return what each own node has counted since the daemon began, over all its lives."""
        ...

    def gauges(self) -> dict[int, NodeGauges]:
        """Return the sizes of own nodes that live."""
        ...

    def ready(self) -> str:
        """Return "" if a leader with a quorum is known and the local nodes are caught up, else why not, in words."""
        ...

    def status(self) -> dict[str, Any]:
        """Return what /status tells: versions, uptime, local nodes, leader, term, number of events and keys."""
        ...
