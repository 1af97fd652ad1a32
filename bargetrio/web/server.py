"""hypercorn in the daemon's nursery, on a socket of our own: so many connections, each in a cage, and an end within a second.

hypercorn sends under a shield, so a client that stops reading would hold its shutdown for ever. Here the connections are ours: an
error in one ends that one, the 257th is refused, and at the end they are closed under hypercorn's feet.
"""

import logging
import socket
from contextlib import suppress
from typing import Any, Final

import trio
from hypercorn.config import Config
from hypercorn.events import Event, RawData
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import wrap_app

log = logging.getLogger(__name__)

CONNECTIONS: Final = 256
KEEP_ALIVE_S: Final = 15.0
"""So long a connection may be silent between two requests."""
USER_TIMEOUT_MS: Final = 10_000
"""The kernel gives up on a client that has acknowledged nothing for so long."""
GRACE_S: Final = 0.3
"""How long answers in flight may take when the daemon stops."""
FULL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\nRetry-After: 1\r\nConnection: close\r\n\r\n"
    b'{"title":"Too much is in flight","status":503,"detail":"256 connections are open","error":"overloaded","applied":false}'
)


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket; raise OSError that names the address."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    except socket.gaierror as problem:
        raise OSError(problem.errno, f"the name {host!r} does not resolve: {problem.strerror}") from None
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(256)
    except OSError as problem:
        sock.close()
        raise OSError(problem.errno, f"can't listen on {host}:{port}: {problem.strerror}") from None
    return sock


class Connection(TCPServer):
    """One connection, which holds its place no longer than it must."""

    async def protocol_send(self, event: Event) -> None:
        """Do what the protocol wants; the end of a request, which waits for nobody and may not be left half done, under a shield.

        Quart's request is told of its own end first and cancels the task that is about to close the connection, or to start its
        keep-alive timer: so a client that said `Connection: close` waited for ever, and one that fell silent was kept (OWN-10).
        """
        with trio.CancelScope(shield=not isinstance(event, RawData)):
            await super().protocol_send(event)

    async def _read_data(self) -> None:
        """Read until the client is gone; the keep-alive timer, which hypercorn would leave running, ends with it (OWN-09)."""
        await super()._read_data()
        await self.idle_task.stop()


class WebServer:
    """Serves one ASGI application on one socket."""

    def __init__(self, app: Any, sock: socket.socket) -> None:
        config = Config()
        config.keep_alive_timeout = KEEP_ALIVE_S
        config.include_server_header = False
        config.accesslog = None
        config.errorlog = logging.getLogger("hypercorn.error")
        self._config = config
        self._app = wrap_app(app, 1, "asgi")
        self._context = WorkerContext(None)
        self._socket = sock
        self._streams: set[trio.SocketStream] = set()

    def connections(self) -> int:
        """Return how many connections are open."""
        return len(self._streams)

    async def run(self) -> None:
        """Accept and serve until cancelled; then answers in flight get a moment, and every connection is closed."""
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(self._socket))
        async with trio.open_nursery() as connections:
            try:
                await self._accept(listener, connections)
            finally:
                with trio.CancelScope(shield=True):
                    await listener.aclose()
                    await self._end(connections)

    async def _accept(self, listener: trio.SocketListener, connections: trio.Nursery) -> None:
        while True:
            try:
                stream = await listener.accept()
            except OSError as problem:
                log.warning("no connection can be accepted: %s", problem.strerror)
                await trio.sleep(0.1)
                continue
            if len(self._streams) >= CONNECTIONS:
                await _refuse(stream)
                continue
            with suppress(OSError):
                stream.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
            self._streams.add(stream)
            connections.start_soon(self._serve, stream)

    async def _serve(self, stream: trio.SocketStream) -> None:
        server: Any = Connection
        try:
            await server(self._app, self._config, self._context, ConnectionState({}), stream)
        except Exception as problem:  # one connection's end is nobody else's
            log.warning("a connection ended by %s: %s", type(problem).__name__, problem)
        finally:
            self._streams.discard(stream)
            stream.socket.close()

    async def _end(self, connections: trio.Nursery) -> None:
        await self._context.terminated.set()
        deadline = trio.current_time() + GRACE_S
        while self._streams and trio.current_time() < deadline:
            await trio.sleep(0.01)
        for stream in list(self._streams):
            stream.socket.close()
        connections.cancel_scope.cancel()


async def _refuse(stream: trio.SocketStream) -> None:
    with trio.move_on_after(0.1), suppress(OSError, trio.BrokenResourceError, trio.ClosedResourceError):
        await stream.send_all(FULL)
        await stream.send_eof()
    await trio.aclose_forcefully(stream)
