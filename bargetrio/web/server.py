"""hypercorn in the daemon's nursery, on the daemon's socket: a bounded number of connections, and shutdown within a second.

hypercorn sends under a shield, so a client that stops reading would block its shutdown for ever. Here an error in a connection
ends only that one, a few are reserved for probes, idle ones are closed for new ones, and at shutdown all are closed at once.
"""

import logging
import socket
from contextlib import suppress
from math import inf
from typing import Any, Final, cast

import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import parse_socket_addr, wrap_app

from bargetrio.protocol.errors import BargeError
from bargetrio.web.guard import PROBE_PATHS, refuse
from bargetrio.web.places import BYTES_PER_S
from bargetrio.web.protocols import H2, AppTasks, Protocol

log = logging.getLogger(__name__)

CONNECTIONS: Final = 256
RESERVED: Final = 8
"""Connections reserved for probes, used when all others are taken."""
RESERVED_PART: Final = 4
"""At most one connection in RESERVED_PART is reserved."""
IDLE_S: Final = 2.0
"""When all are taken, a connection that has been idle for this long is closed for a new one."""
SEND_S: Final = 10.0
"""How long a frame of HTTP/2 may take to send, in addition to its time at BYTES_PER_S."""
LINGER_S: Final = 1.0
RECEIVE_BYTES: Final = 65536
BACKLOG: Final = 256
"""Connections that the kernel has accepted and the server has not."""
REFUSE_S: Final = 0.1
"""How long the answer that there is no place may take to send."""
AGAIN_S: Final = 0.1
"""Pause after accept(2) has failed."""
LOOK_S: Final = 0.01
"""Interval of the checks whether all answers are sent, when the daemon stops."""
KEEP_ALIVE_S: Final = 15.0
"""How long a connection may be silent between two requests."""
USER_TIMEOUT_MS: Final = 10_000
"""The kernel gives up on a client that has acknowledged nothing for this long."""
GRACE_S: Final = 0.3
"""How long answers in flight may take when the daemon stops."""
FULL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\nRetry-After: 1\r\nConnection: close\r\n\r\n"
    b'{"title":"Too much is in flight","status":503,"detail":"256 connections are open","error":"overloaded","applied":false}'
)


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket; raise OSError with the address in its text."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    except socket.gaierror as problem:
        raise OSError(problem.errno, f"the name {host!r} does not resolve: {problem.strerror}") from None
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except OSError as problem:
        sock.close()
        raise OSError(problem.errno, f"can't listen on {host}:{port}: {problem.strerror}") from None
    return sock


class HttpConnection(TCPServer):
    """One connection."""

    def __init__(self, app: Any, config: Config, context: WorkerContext, stream: trio.SocketStream, *, reserved: bool) -> None:
        super().__init__(app, config, context, ConnectionState({"reserved": reserved}), cast(Any, stream))
        self.reserved = reserved
        """Whether only probes are answered here, since all other connections are taken."""
        self.idle_since: float | None = trio.current_time()
        """Since when no request is being answered, None while one is: the head of the next has not come whole."""
        self._closing = False

    async def run(self) -> None:
        """Serve until either side closes; cancelled, it is closed at once."""
        sock = self.stream.socket
        try:
            peer, own = (parse_socket_addr(sock.family, name) for name in (sock.getpeername(), sock.getsockname()))
            async with AppTasks() as self._task_group:
                arguments = (self.app, self.config, self.context, self._task_group, self.state, False, peer, own)
                self._spoken = Protocol(*arguments, self.protocol_send)
                self.protocol: Any = self._spoken
                await self.protocol.initiate()
                await self.idle_task.restart(self._task_group, self._idle_timeout)
                await self._read_data()
        except OSError:
            pass  # disconnected before it was served
        finally:
            await trio.aclose_forcefully(self.stream)

    def abort(self) -> None:
        """Close the socket at once; tasks that read or write get an error."""
        self.stream.socket.close()

    async def protocol_send(self, event: Event) -> None:
        """Handle an event of the protocol; the end of a request, which does not wait and must not be interrupted, under a shield.

        Quart cancels the request's task first, which is about to close the connection, or to start its keep-alive timer: a client
        with `Connection: close` waited for ever, and an idle one was never closed (OWN-10).
        """
        if isinstance(event, RawData):
            await self._send(event.data)
            return
        with trio.CancelScope(shield=True):
            if isinstance(event, Closed):
                await self._begin_to_close()
                return
            if self._closing:
                return
            if isinstance(event, Updated):
                self.idle_since = trio.current_time() if event.idle else None
            await super().protocol_send(event)

    async def _send(self, data: bytes) -> None:
        """Send, and end the connection if that is interrupted, after a partial message or frame.

        Over HTTP/1 the request's place bounds the time (places.py). HTTP/2 frames of several requests share the connection, so a
        send is not interrupted by the end of one request, and has a time-out of its own.
        """
        shared = isinstance(self._spoken.spoken, H2)
        with trio.CancelScope(shield=shared) as scope:
            if shared:
                scope.deadline = trio.current_time() + SEND_S + len(data) / BYTES_PER_S
            try:
                async with self.send_lock:
                    await self.stream.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                with trio.CancelScope(shield=True):
                    await self.protocol.handle(Closed())
            except trio.Cancelled:
                self.abort()
                raise
        if scope.cancelled_caught:
            await self.protocol.handle(Closed())

    async def _read_data(self) -> None:
        """Read until the client disconnects; then stop the keep-alive timer, which hypercorn would leave running (OWN-09).

        After the last answer data is read and dropped for LINGER_S: closing with unread data sends RST, and a client in the
        middle of its body would lose the answer.
        """
        with suppress(trio.ClosedResourceError, trio.BrokenResourceError):
            while data := await self.stream.receive_some(RECEIVE_BYTES):
                if not self._closing:
                    await self.protocol.handle(RawData(bytes(data)))
            if not self._closing:
                await self.protocol.handle(RawData(b""))
        self._closing = True  # the ends of the last answers must not restart the timer
        await self.protocol.handle(Closed())
        await self.idle_task.stop()

    async def _begin_to_close(self) -> None:
        if not self._closing:
            self._closing = True
            self.idle_since = trio.current_time()
            with suppress(trio.BrokenResourceError, trio.BusyResourceError, trio.ClosedResourceError):
                await self.stream.send_eof()
            await self.idle_task.restart(self._task_group, self._linger)
        await self.protocol.handle(Closed())

    async def _linger(self) -> None:
        await trio.sleep(LINGER_S)
        self.abort()


class WebServer:
    """Serves one ASGI application on one socket with at most `most` connections, of which a few are reserved for probes."""

    def __init__(self, app: Any, sock: socket.socket, most: int = CONNECTIONS) -> None:
        config = Config()
        config.keep_alive_timeout = KEEP_ALIVE_S
        config.include_server_header = False
        config.accesslog = None
        config.errorlog = logging.getLogger("hypercorn.error")
        self._config = config
        self._asgi = app
        self._app = wrap_app(cast(Any, self._answer), 1, "asgi")
        self._context = WorkerContext(None)
        self._socket = sock
        self._open: set[HttpConnection] = set()
        self._reserved = min(RESERVED, max(1, most // RESERVED_PART))
        self._ordinary = max(1, most - self._reserved)

    def connections(self) -> int:
        """Return how many connections are open."""
        return len(self._open)

    async def run(self) -> None:
        """Accept and serve until cancelled; then answers in progress get a short time, and every connection is closed."""
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
                await trio.sleep(AGAIN_S)
                continue
            ordinary = self._has_room(reserved=False)
            if not ordinary and not self._has_room(reserved=True):
                await _refuse(stream)
                continue
            with suppress(OSError):
                stream.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
            connection = HttpConnection(self._app, self._config, self._context, stream, reserved=not ordinary)
            self._open.add(connection)
            connections.start_soon(self._serve, connection)

    def _has_room(self, *, reserved: bool) -> bool:
        """Return whether one more connection may be served; if necessary the longest idle one is closed for it.

        Only clients idle for IDLE_S are closed. A reserved connection is for a probe that is sent at once.
        """
        most, patience_s = (self._reserved, 0.0) if reserved else (self._ordinary, IDLE_S)
        of_kind = [connection for connection in self._open if connection.reserved == reserved]
        if len(of_kind) < most:
            return True
        idle = [(connection.idle_since, connection) for connection in of_kind if connection.idle_since is not None]
        since, longest = min(idle, key=lambda pair: pair[0], default=(inf, None))
        if longest is None or trio.current_time() - since < patience_s:
            return False
        self._open.discard(longest)
        longest.abort()
        return True

    async def _answer(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope.get("state", {}).get("reserved") and scope["raw_path"].decode("ascii") not in PROBE_PATHS:
            await refuse(scope, send, BargeError("overloaded", f"{self._ordinary} connections are open"))
            return
        await self._asgi(scope, receive, send)

    async def _serve(self, connection: HttpConnection) -> None:
        try:
            await connection.run()
        except Exception as problem:  # a bug in one connection ends that one only
            log.warning("a connection ended by %s: %s", type(problem).__name__, problem)
        finally:
            self._open.discard(connection)
            connection.abort()

    async def _end(self, connections: trio.Nursery) -> None:
        await self._context.terminated.set()
        deadline = trio.current_time() + GRACE_S
        while self._open and trio.current_time() < deadline:
            await trio.sleep(LOOK_S)
        for connection in list(self._open):
            connection.abort()
        connections.cancel_scope.cancel()


async def _refuse(stream: trio.SocketStream) -> None:
    with trio.move_on_after(REFUSE_S), suppress(OSError, trio.BrokenResourceError, trio.ClosedResourceError):
        await stream.send_all(FULL)
        await stream.send_eof()
    await trio.aclose_forcefully(stream)
