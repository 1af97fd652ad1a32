"""The node's port: by its hello a connection is a client's or a peer's.

Unauthenticated connections are bounded: 5 s, 4 KiB, 256; the oldest is closed for a new one, so that they cannot keep out a peer.
Clients are bounded separately (node/places.py). Peers are bounded by id, as without a peer secret anybody can send their hello:
the oldest connection with that id is closed for a new one. If it is the peer's own, the peer dials again, and Raft sends again
what was lost with it.
"""

import logging
from collections.abc import Awaitable, Callable

import trio

from bargetrio.protocol.limits import HELLO_TIMEOUT_S, PEER_CONNECTIONS, UNAUTHENTICATED
from bargetrio.transport.handshake import Greeted, HandshakeRefused, Identity, accept_hello
from bargetrio.transport.network import Broken, Connection, Listener

log = logging.getLogger(__name__)

LEAVE_S = 0.5
POLL_S = 0.01
LEAVE_READS = 64

AGAIN_S = 0.1
"""Seconds to wait after accept(2) has failed: it can for many transient reasons."""
WARN_S = 10.0
"""Shortest time in seconds between two log lines about such failures."""

Serve = Callable[[Connection, Greeted], Awaitable[None]]


class Acceptor:
    """Accepts until closed; every connection is served in a task of its own, whose errors end that connection only.

    `admit_client` raises HandshakeRefused if there is no place for another client; an admitted one is served at once, without an
    await in between.
    """

    def __init__(
        self,
        listener: Listener,
        identity: Identity,
        serve: Serve,
        on_error: Callable[[Exception], None],
        *,
        admit_client: Callable[[], None] = lambda: None,
        most_unauthenticated: int = UNAUTHENTICATED,
    ) -> None:
        self._listener = listener
        self._identity = identity
        self._serve = serve
        self._on_error = on_error
        self._admit_client = admit_client
        self._most_unauthenticated = most_unauthenticated
        self._warned_at = float("-inf")
        self._unauthenticated: dict[Connection, None] = {}
        self._connections: dict[Connection, None] = {}
        self._of_peers: dict[int, dict[Connection, None]] = {peer_id: {} for peer_id in identity.peer_ids}

    async def run(self) -> None:
        """Accept and serve until the listener is closed or this is cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                try:
                    connection = await self._listener.accept()
                except Broken:
                    return
                except OSError as problem:
                    self._warn(problem)
                    await trio.sleep(AGAIN_S)
                    continue
                self._connections[connection] = None
                self._hold(connection)
                nursery.start_soon(connection.write)
                nursery.start_soon(self._one, connection)

    def abort(self) -> None:
        """Close the listener and reset all connections: this node has ended."""
        self._listener.close()
        for connection in list(self._connections):
            connection.abort()

    async def _one(self, connection: Connection) -> None:
        try:
            greeted = await self._greet(connection)
            if greeted is not None:
                await self._serve_contained(connection, greeted)
                self._hold(connection)
            await leave(connection)
        except Broken:
            pass
        except HandshakeRefused:
            await leave(connection)
        except Exception as problem:
            self._on_error(problem)
        finally:
            self._unauthenticated.pop(connection, None)
            self._connections.pop(connection, None)
            connection.close()

    async def _serve_contained(self, connection: Connection, greeted: Greeted) -> None:
        held = None if greeted.peer_id is None else self._of_peers[greeted.peer_id]
        if held is not None:
            _add(held, connection, PEER_CONNECTIONS)
        try:
            await self._serve(connection, greeted)
        except Broken:
            pass
        except Exception as problem:  # a bug in one connection must not end the node
            self._on_error(problem)
        finally:
            if held is not None:
                held.pop(connection, None)

    async def _greet(self, connection: Connection) -> Greeted | None:
        with trio.move_on_after(HELLO_TIMEOUT_S):
            greeted = await accept_hello(connection, self._identity, self._admit_client)
            self._unauthenticated.pop(connection, None)
            return greeted
        return None

    def _hold(self, connection: Connection) -> None:
        """Count a connection as unauthenticated: before its hello, and while it is drained at its end."""
        _add(self._unauthenticated, connection, self._most_unauthenticated)

    def _warn(self, problem: OSError) -> None:
        now = trio.current_time()
        if now - self._warned_at >= WARN_S:
            self._warned_at = now
            log.warning("node %d can't accept a connection: %s", self._identity.node_id, problem.strerror or problem)


def _add(held: dict[Connection, None], connection: Connection, most: int) -> None:
    """Add a connection; close the oldest one if there are more than `most`."""
    held[connection] = None
    if len(held) > most:
        oldest = next(iter(held))
        del held[oldest]
        oldest.abort()


async def leave(connection: Connection) -> None:
    """Half-close and drain for LEAVE_S: closing with unread data sends RST, which can lose the last line sent."""
    with trio.move_on_after(LEAVE_S):
        while connection.unsent_bytes:
            await trio.sleep(POLL_S)
        connection.finish()
        try:
            for _ in range(LEAVE_READS):
                if not await connection.receive():
                    return
        except Broken:
            pass
