"""The events of a node's connections: links to peers go up and down, peers and clients connect."""

import logging
from collections.abc import Callable
from functools import partial

from bargetrio.eventlog.host_facts import LinkDown, LinkUp, Sink
from bargetrio.node.clients import ClientSession
from bargetrio.node.local_session import InProcessSession
from bargetrio.node.memory import ClientMemory
from bargetrio.node.peers import BadMessage, PeerSession
from bargetrio.node.places import ClientPlaces
from bargetrio.node.running_node import TakeAnswers
from bargetrio.protocol.lines import LineTooLong
from bargetrio.raft.core import Core
from bargetrio.raft.messages import NodeId
from bargetrio.raft.standing import Standing
from bargetrio.replica.figures import NodeFigures
from bargetrio.replica.hellos import HelloValidator
from bargetrio.replica.inbox import Inbox
from bargetrio.transport.handshake import Greeted
from bargetrio.transport.network import Connection
from bargetrio.transport.poller import Poller

log = logging.getLogger(__name__)


class Connections:
    """Connections of one node; `core` is only read. `of_peers` is how many peers are connected.

    `peer_spoke` is called with a peer's id when a new connection of it has carried its first messages.
    """

    def __init__(
        self,
        *,
        core: Core,
        inbox: Inbox,
        poller: Poller,
        sink: Sink,
        figures: NodeFigures,
        hello_validator: HelloValidator,
        places: ClientPlaces,
        memory: ClientMemory,
        peer_spoke: Callable[[NodeId], None],
    ) -> None:
        self.places = places
        self.of_peers = 0
        self._core = core
        self._node_id = core.node_id
        self._inbox = inbox
        self._poller = poller
        self._sink = sink
        self._figures = figures
        self._hello_validator = hello_validator
        self._memory = memory
        self._peer_spoke = peer_spoke
        self._is_fenced = False
        self._local: list[InProcessSession] = []
        """Sessions of clients of this process."""

    def link_up(self, peer_id: NodeId) -> None:
        """Handle a new connection of this node to a peer."""
        self._figures.peer(peer_id).link_changed()
        self._sink.record(self._node_id, LinkUp(peer=peer_id))
        self._inbox.call(lambda core, now: core.link_up(peer_id, now))

    def link_down(self, peer_id: NodeId, reason: str) -> None:
        """Handle the end of a connection to a peer, or a failed dial."""
        self._sink.record(self._node_id, LinkDown(peer=peer_id, reason=reason))
        self._inbox.call(lambda core, now: core.link_down(peer_id))

    def open_session(self, take: TakeAnswers, ended: Callable[[], None]) -> InProcessSession:
        """See `running_node.RunningNode.open_session`."""
        session = InProcessSession(self._inbox, self._poller.want_step, self._memory.answers, take, ended)
        self._local.append(session)
        if self._is_fenced:
            self.end_sessions()
        return session

    def end_sessions(self) -> None:
        """End the sessions of clients of this process, those that are opened later too: the node ends."""
        self._is_fenced = True
        sessions, self._local = self._local, []
        for session in sessions:
            session.end()

    async def serve(self, connection: Connection, greeted: Greeted) -> None:
        """Serve a client or peer after its hello, until the connection ends. Raises Broken."""
        if greeted.peer_id is None:
            await self._serve_client(connection, greeted)
        else:
            assert greeted.standing is not None
            await self._serve_peer(connection, greeted, greeted.peer_id, greeted.standing)

    async def _serve_client(self, connection: Connection, greeted: Greeted) -> None:
        client = ClientSession(connection, self._inbox.session_has_room, self._memory)
        self.places.enter(client)
        try:
            await client.serve(greeted, self._inbox.take_requests, self._poller)
        finally:
            self.places.leave(client)

    async def _serve_peer(self, connection: Connection, greeted: Greeted, peer_id: NodeId, standing: Standing) -> None:
        inbox = self._inbox
        self.of_peers += 1
        try:
            refusal = self._hello_validator.revalidator(peer_id, standing)
            figures = self._figures.peer(peer_id)
            on_first = partial(self._peer_spoke, peer_id)
            session = PeerSession(peer_id, self._core, inbox, figures, refusal, on_first)
            await session.serve(connection, greeted, self._poller)
        except (BadMessage, LineTooLong) as problem:
            self._sink.record(self._node_id, LinkDown(peer=peer_id, reason=f"closed its link: {problem}"))
        finally:
            self.of_peers -= 1
            inbox.call(partial(_hung_up, peer_id, standing))

    def on_error(self, problem: Exception) -> None:
        """Log a bug that ended one connection."""
        log.error("node %d: a connection ended by an error", self._node_id, exc_info=problem)


def _hung_up(peer_id: NodeId, standing: Standing, core: Core, now: float) -> None:
    core.connection_closed(peer_id, standing)
