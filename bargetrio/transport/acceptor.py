"""The node's one port: strangers say hello, then they are a client or a peer.

Strangers cost little: five seconds, four kilobytes, and 256 places. When all are taken the oldest leaves, so a crowd that never
says hello can't keep out a peer.
"""

from collections.abc import Awaitable, Callable

import trio

from bargetrio.protocol.limits import HELLO_TIMEOUT_S, STRANGERS
from bargetrio.transport.handshake import Greeted, Identity, Refused, accept_hello
from bargetrio.transport.stream import Broken, Connection, Listener

LEAVE_S = 0.5
LEAVE_READS = 64

Serve = Callable[[Connection, Greeted], Awaitable[None]]


class Acceptor:
    """Accepts until closed; every connection is served in the nursery given to `run`, and ends alone."""

    def __init__(
        self,
        listener: Listener,
        identity: Identity,
        serve: Serve,
        on_error: Callable[[Exception], None],
    ) -> None:
        self._listener = listener
        self._identity = identity
        self._serve = serve
        self._on_error = on_error
        self._strangers: dict[Connection, None] = {}
        self._connections: dict[Connection, None] = {}

    async def run(self) -> None:
        """Accept and serve until the listener is closed or this is cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                try:
                    connection = await self._listener.accept()
                except Broken:
                    return
                self._connections[connection] = None
                nursery.start_soon(self._one, connection)

    def abort(self) -> None:
        """Refuse and reset: this node is dead."""
        self._listener.close()
        for connection in list(self._connections):
            connection.abort()

    async def _one(self, connection: Connection) -> None:
        try:
            greeted = await self._greet(connection)
            if greeted is not None:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(connection.write)
                    await self._serve_contained(connection, greeted)
                    nursery.cancel_scope.cancel()
            await leave(connection)
        except Broken:
            pass
        except Refused:
            await leave(connection)
        finally:
            self._connections.pop(connection, None)
            connection.close()

    async def _serve_contained(self, connection: Connection, greeted: Greeted) -> None:
        try:
            await self._serve(connection, greeted)
        except Broken:
            pass
        except Exception as problem:  # one connection's bug is not the node's end
            self._on_error(problem)

    async def _greet(self, connection: Connection) -> Greeted | None:
        self._strangers[connection] = None
        if len(self._strangers) > STRANGERS:
            oldest = next(iter(self._strangers))
            del self._strangers[oldest]
            oldest.abort()
        try:
            with trio.move_on_after(HELLO_TIMEOUT_S):
                return await accept_hello(connection, self._identity)
        finally:
            self._strangers.pop(connection, None)
        return None


async def leave(connection: Connection) -> None:
    """Say no more, and read what is still coming for a moment: closing over unread bytes would reset the last line away."""
    connection.finish()
    with trio.move_on_after(LEAVE_S):
        try:
            for _ in range(LEAVE_READS):
                if not await connection.receive():
                    return
        except Broken:
            pass
