"""The border between web and cluster: what REST and the page may ask.

`supervisor.Supervisor` is the real thing, and web is tried with it; only what must fail on purpose is a fake.
"""

from collections.abc import Sequence
from typing import Any, Final, Protocol

from bargetrio.node.figures import NodeGauges as NodeGauges
from bargetrio.node.running_node import BackupFile as BackupFile  # web knows only this border
from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.events import EventPage, EventQuery
from bargetrio.protocol.requests import Delete, DeleteAnswer, Get, GetAnswer, List, ListAnswer, Put, PutAnswer
from bargetrio.protocol.views import BootstrapAnswer, Faults, LeaderView, NodeAnswer, NodeView
from bargetrio.replica.figures import Histogram as Histogram  # web knows only this border
from bargetrio.replica.figures import NodeFigures as NodeFigures

BACKUP_WAIT_S: Final = 120.0
"""Seconds that a backup waits for a snapshot to be taken; a million keys take some 8 s."""


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

    async def events(self, query: EventQuery, *, local: bool = False) -> EventPage:
        """Return the events of all daemons, merged by time; raise BargeError(bad_request) for a cursor that is none."""
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
