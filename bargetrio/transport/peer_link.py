"""The outgoing connection to one peer: dials, does the handshake, sends this node's messages, and reconnects.

A link carries only the dialler's messages; replies come over the peer's own link to this node.
"""

import logging
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import trio

from bargetrio.raft.messages import Message, NodeId, Term, encode_message, is_bulk
from bargetrio.transport.faults import LinkFaults
from bargetrio.transport.handshake import Greeted, HandshakeRefused, Identity, say_hello
from bargetrio.transport.network import Broken, Connection, Network

log = logging.getLogger(__name__)

UNSENT_BYTES = 32 * 1024 * 1024
"""Unsent bytes beyond which entries and pieces of snapshots are dropped; Raft sends them again."""
SMALL_BYTES = 1024 * 1024
"""Further unsent bytes for heartbeats, votes and answers: minutes of them; the kernel closes a connection that takes nothing."""
DIAL_TIMEOUT_S = 1.0
REDIAL_S = (0.02, 0.08)
"""Shortest and longest pause in seconds between two dials: a revived node is connected again within 100 ms."""
REDIAL_REFUSED_S = (0.5, 1.0)
"""The same after a refused hello; `PeerLink.peer_spoke` and `reset` end it early, as the next hello may be accepted."""


class Traffic(Protocol):
    """The counters of one link."""

    sent_messages: int
    sent_bytes: int
    lost_messages: int
    link_failures: int


class PeerLink:
    """One direction to one peer. `post` never blocks; messages that can't be sent are lost, as on any network."""

    def __init__(
        self,
        *,
        identity: Identity,
        peer_id: NodeId,
        address: tuple[str, int],
        network: Network,
        faults: LinkFaults,
        random: random.Random,
        on_up: Callable[[NodeId], None],
        on_down: Callable[[NodeId, str], None],
        figures: Traffic,
    ) -> None:
        self.peer_id = peer_id
        self.connected = False
        self.refused = ""
        """Why this node or the peer refused the other's hello in the last dial; "" if neither did."""
        self.connections = 0
        """How many there were, with this one."""
        self._identity = identity
        self._address = address
        self._network = network
        self._faults = faults
        self._random = random
        self._on_up = on_up
        self._on_down = on_down
        self._figures = figures
        self._connection: Connection | None = None
        self._nursery: trio.Nursery | None = None
        self._redial_now = trio.Event()
        """Ends the pause between two dials."""
        self._term: Term = 0
        """The highest term of a message sent."""

    @property
    def has_unsent(self) -> bool:
        """Whether there are bytes that the kernel has not accepted yet."""
        return self._connection is not None and self._connection.unsent_bytes > 0

    def post(self, message: Message) -> None:
        """Send the message, later if a fault delays it, or drop it."""
        connection = self._connection
        if connection is None or (connection.unsent_bytes > UNSENT_BYTES and self._has_no_room(connection, message)):
            self._figures.lost_messages += 1
            return
        if message.term > self._term:
            # Unsent messages of an earlier term are useless, and a deposed leader's vote would be queued behind megabytes of
            # them.
            self._term = message.term
            self._figures.lost_messages += connection.outgoing.drop_lines()
        delay_s = self._faults.verdict(self._identity.node_id, self.peer_id)
        if delay_s is None:
            self._figures.lost_messages += 1
            return
        line = encode_message(message)
        self._figures.sent_messages += 1
        self._figures.sent_bytes += len(line)
        if delay_s and self._nursery is not None:
            self._nursery.start_soon(self._post_later, connection, line, delay_s)
        else:
            connection.post(line)

    @staticmethod
    def _has_no_room(connection: Connection, message: Message) -> bool:
        """Return whether the message is dropped: bulk above UNSENT_BYTES, so that heartbeats and votes are still sent."""
        return is_bulk(message) or connection.unsent_bytes > UNSENT_BYTES + SMALL_BYTES

    async def run(self) -> None:
        """Keep the link up until cancelled."""
        async with trio.open_nursery() as writers:
            await self._keep_up(writers)

    async def _keep_up(self, writers: trio.Nursery) -> None:
        last_reason = ""
        while True:
            pause = REDIAL_S
            reason = refused = ""
            try:
                await self._one_connection(writers)
            except OSError as problem:
                reason = problem.strerror or str(problem)
            except HandshakeRefused as problem:
                reason = refused = str(problem)
                pause = REDIAL_REFUSED_S
            except Broken:
                reason = "the connection broke"
            except Exception as problem:  # retried with the next dial
                reason, pause = f"{type(problem).__name__}: {problem}", REDIAL_REFUSED_S
                log.error("the link to node %d ended by an error", self.peer_id, exc_info=problem)
            if self.connected or reason != last_reason:
                self._on_down(self.peer_id, reason or "the connection ended")
            self._figures.link_failures += 1
            last_reason, self.refused, self.connected, self._connection = reason, refused, False, None
            self._redial_now = trio.Event()
            with trio.move_on_after(self._random.uniform(*pause)):
                await self._redial_now.wait()

    def abort(self) -> None:
        """Reset the connection, and do not reconnect: this node has ended."""
        if self._connection is not None:
            self._connection.abort()
            self._connection = None

    def reset(self) -> None:
        """Close the connection and reconnect: this node's standing has changed since its hello."""
        if self._connection is not None:
            self._connection.abort()
        self._redial_now.set()

    def peer_spoke(self) -> None:
        """Dial now: the peer has sent a message, so it runs, and accepts this node's store, which it may have refused before.

        Call it once for each connection of the peer: if the address leads to another node, the next hello is refused, too.
        """
        self._redial_now.set()

    async def _one_connection(self, writers: trio.Nursery) -> None:
        connection = await self._dial()
        writers.start_soon(connection.write)  # the hello needs it, too; it ends with the connection
        try:
            await self._hello(connection)
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self._connection, self.connected, self.refused = connection, True, ""
                self.connections += 1
                self._on_up(self.peer_id)
                await _until_it_ends(connection)
                # Before the nursery closes: a step in between may post.
                self._nursery = self._connection = None
                nursery.cancel_scope.cancel()
        finally:
            self._nursery = None
            connection.abort()

    async def _dial(self) -> Connection:
        with trio.move_on_after(DIAL_TIMEOUT_S):
            return await self._network.connect(*self._address)
        raise TimeoutError(f"no connection within {DIAL_TIMEOUT_S} s")

    async def _hello(self, connection: Connection) -> Greeted:
        with trio.move_on_after(DIAL_TIMEOUT_S):
            return await say_hello(connection, self._identity, self.peer_id)
        raise Broken("no hello in time")

    async def _post_later(self, connection: Connection, line: bytes, delay_s: float) -> None:
        await trio.sleep(delay_s)
        connection.post(line)


async def _until_it_ends(connection: Connection) -> None:
    """Read until the connection ends; data from the peer is ignored."""
    with suppress(Broken):
        while await connection.receive():
            pass
