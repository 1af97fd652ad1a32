"""The daemon's HTTP connections, on its socket, in its nursery: a bounded number of them, and shutdown within a second.

Each is served by the fast lane (fast_lane.py), and for a request that is not for the lane by hypercorn (http_connection.py). An
error in a connection ends only that one, a few are reserved for probes, idle ones are closed for new ones, and at shutdown all
are closed at once.
"""

import logging
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from heapq import nsmallest
from math import inf
from operator import itemgetter
from typing import Any, Final, cast

import trio
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.utils import wrap_app

from bargetrio.protocol.errors import BargeError
from bargetrio.transport.event_loop import make_poller
from bargetrio.transport.network import Broken
from bargetrio.transport.poller import Poller
from bargetrio.transport.sockets import KERNEL_UNSENT_BYTES, SocketConnection, SocketListener, TrioWaits
from bargetrio.web.fast_lane import FastLane
from bargetrio.web.guard import PROBE_PATHS, refuse
from bargetrio.web.http_connection import HttpConnection
from bargetrio.web.lane_connection import LaneConnection
from bargetrio.web.plain_requests import END_OF_HEAD

log = logging.getLogger(__name__)

CONNECTIONS: Final = 256
"""Of hypercorn."""
RESERVED: Final = 8
"""Connections reserved for probes, used when all others are taken."""
RESERVED_PART: Final = 4
"""At most one connection in RESERVED_PART is reserved."""
IDLE_S: Final = 2.0
"""When all are taken, a connection that has been idle for this long is closed for a new one."""
CANDIDATES: Final = 64
"""Of the connections that have been idle for longest are found at once."""
ACCEPTED_AT_ONCE: Final = 8
"""Connections that are accepted before other tasks run; of a burst of them not all requests begin at once."""
BACKLOG: Final = 1_024
"""Connections that the kernel has accepted and the server has not."""
REFUSED_AT_ONCE: Final = 16
"""At most this number of connections are kept open until the client has its refusal."""
REFUSE_S: Final = 0.1
"""How long the answer that there is no place may take to send."""
AGAIN_S: Final = 0.1
"""Pause after accept(2) has failed."""
POLL_S: Final = 0.01
"""Interval of the checks whether all answers are sent, when the daemon stops."""
KEEP_ALIVE_S: Final = 15.0
"""How long a connection that hypercorn serves may be silent between two requests, or within the head of one."""
GRACE_S: Final = 0.3
"""How long answers in flight may take when the daemon stops."""
_PROBES: Final = tuple(f"{method} {path}".encode() for method in ("GET", "HEAD") for path in sorted(PROBE_PATHS))
FULL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\nRetry-After: 1\r\nConnection: close\r\n\r\n"
    b'{"title":"Too much is in flight","status":503,"detail":"all connections are taken","error":"overloaded","applied":false}'
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


class _Held:
    """One accepted connection; `http` while hypercorn serves it, `lane` while the lane does."""

    def __init__(self, connection: SocketConnection, *, reserved: bool) -> None:
        self.connection = connection
        self.reserved = reserved
        """Whether it was accepted for a probe, since all other places are taken."""
        self.http: HttpConnection | None = None
        self.lane: LaneConnection | None = None

    @property
    def idle_since(self) -> float | None:
        """Since when no request is being answered; None while one is."""
        served = self.http or self.lane
        return None if served is None else served.idle_since

    def abort(self) -> None:
        """Close the socket at once; tasks that read or write get an error."""
        self.connection.close()


class _Kind:
    """The connections of one kind, `most` of them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: dict[_Held, None] = {}
        self._longest_idle: deque[tuple[float, _Held]] = deque(maxlen=CANDIDATES)
        """Those that were idle for longest at the last search: with thousands of connections one takes milliseconds."""
        self._search_again_at = -inf
        """Before then none can have been idle for long enough."""

    def has_room(self, patience_s: float, make_room: Callable[[_Held], None]) -> bool:
        """Return whether there is room; if necessary `make_room` gets the longest idle one, if it is so for `patience_s`."""
        if len(self._held) < self._most:
            return True
        now = trio.current_time()
        idle = self._longest_idle
        while idle and (idle[0][1] not in self._held or idle[0][1].idle_since != idle[0][0]):
            idle.popleft()  # it is closed, or has been busy: whoever is idle since then comes after the others
        if not idle:
            if now < self._search_again_at:
                return False
            found = [(since, held) for held in self._held if (since := held.idle_since) is not None]
            idle.extend(nsmallest(CANDIDATES, found, key=itemgetter(0)))
            self._search_again_at = (idle[0][0] if idle else now) + patience_s
        if not idle or now - idle[0][0] < patience_s:
            return False
        make_room(idle.popleft()[1])
        return True

    def add(self, held: _Held) -> None:
        """Give it a place."""
        self._held[held] = None

    def release(self, held: _Held) -> None:
        """Free its place. Idempotent."""
        self._held.pop(held, None)


class WebServer:
    """Serves one ASGI application on one socket; with a lane, requests for keys are answered there.

    hypercorn serves `most` connections at once, of which a few are reserved for probes, and the lane `most_in_lane` more.
    """

    def __init__(
        self,
        app: Any,
        sock: socket.socket,
        most: int = CONNECTIONS,
        *,
        lane: FastLane | None = None,
        most_in_lane: int = 0,
        make_poller: Callable[[], Poller] = make_poller,
        waits: TrioWaits | None = None,
    ) -> None:
        """`waits` counts the tasks that wait to read or write a connection."""
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
        self._lane = lane
        self._make_poller = make_poller
        self._waits = waits
        reserved = min(RESERVED, max(1, most // RESERVED_PART))
        self._most = max(1, most - reserved) + (most_in_lane if lane is not None else 0)
        self._all = _Kind(self._most)
        """All connections but the reserved ones."""
        self._by_hypercorn = _Kind(max(1, most - reserved))
        """Those of them that hypercorn serves."""
        self._probes = _Kind(reserved)
        """Those reserved for probes."""
        self._open: dict[_Held, None] = {}
        self._served_by_hypercorn = 0
        self._refused = 0

    def connections(self) -> int:
        """Return how many connections are open."""
        return len(self._open)

    def connections_of_hypercorn(self) -> int:
        """Return how many of them hypercorn serves now: those are read and written by tasks."""
        return self._served_by_hypercorn

    async def run(self) -> None:
        """Accept and serve until cancelled; then answers in progress get a short time, and every connection is closed."""
        self._socket.setblocking(False)
        listener = SocketListener(self._socket, self._waits)
        async with trio.open_nursery() as connections:
            if self._lane is not None:
                connections.start_soon(self._lane.run, self._make_poller())
            try:
                await self._accept(listener, connections)
            finally:
                with trio.CancelScope(shield=True):
                    listener.close()
                    await self._end(connections)

    async def _accept(self, listener: SocketListener, connections: trio.Nursery) -> None:
        while True:
            try:
                self._serve_soon(await listener.accept(), connections)
                for _ in range(ACCEPTED_AT_ONCE):  # a busy loop comes back to this task only some hundred times a second
                    if (connection := listener.accept_now()) is None:
                        break
                    self._serve_soon(connection, connections)
            except OSError as problem:
                log.warning("no connection can be accepted: %s", problem.strerror)
                await trio.sleep(AGAIN_S)

    def _serve_soon(self, connection: SocketConnection, connections: trio.Nursery) -> None:
        held = _Held(connection, reserved=False)
        if not self._take(self._all, held):
            held.reserved = True
            if not self._take(self._probes, held):
                connections.start_soon(self._refuse, connection)
                return
        with suppress(OSError, AttributeError):  # Linux: what a client has not received is seen, and bounded in time
            connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, KERNEL_UNSENT_BYTES)
        self._open[held] = None
        connections.start_soon(connection.write)
        connections.start_soon(self._serve, held)

    async def _answer(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope.get("state", {}).get("reserved") and scope["raw_path"].decode("ascii") not in PROBE_PATHS:
            await refuse(scope, send, BargeError("overloaded", f"{self._most} connections are open"))
            return
        await self._asgi(scope, receive, send)

    async def _serve(self, held: _Held) -> None:
        try:
            if self._lane is None or held.reserved:
                await self._serve_by_hypercorn(held, b"")
            else:
                await self._serve_in_turns(held, self._lane)
        except Broken:
            pass
        except Exception as problem:  # a bug in one connection ends that one only
            log.warning("a connection ended by %s: %s", type(problem).__name__, problem)
        finally:
            self._end_one(held)
            del self._open[held]

    def _take(self, kind: _Kind, held: _Held) -> bool:
        """Give it a place of this kind; return whether there was room, or has been made."""
        # A reserved connection is for a probe that is sent at once.
        if not kind.has_room(0.0 if kind is self._probes else IDLE_S, self._end_one):
            return False
        kind.add(held)
        return True

    def _end_one(self, held: _Held) -> None:
        held.abort()
        for kind in (self._all, self._by_hypercorn, self._probes):
            kind.release(held)

    async def _serve_in_turns(self, held: _Held, lane: FastLane) -> None:
        """Serve in the lane, and for a request that is not for it by hypercorn."""
        data: bytes | None = b""
        while data is not None:
            held.lane = LaneConnection(lane, held.connection)
            data = await held.lane.serve(data)
            held.lane = None
            if held.connection.is_closed:
                return
            if data is not None:
                data = await self._serve_by_hypercorn(held, data)

    async def _serve_by_hypercorn(self, held: _Held, data: bytes) -> bytes | None:
        """Serve these bytes and what follows; return what is for the lane again, None where the connection is closed."""
        if not held.reserved and not self._take(self._by_hypercorn, held):
            held.reserved = data.startswith(_PROBES) and self._take(self._probes, held)
            if not held.reserved:
                await self._refuse(held.connection)
                return None
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(held.connection.socket))
        returns = self._lane is not None and not held.reserved
        held.http = HttpConnection(self._app, self._config, self._context, stream, reserved=held.reserved, returns=returns)
        if END_OF_HEAD in data:  # it is answered next, and not closed as idle for another
            held.http.idle_since = None
        self._served_by_hypercorn += 1
        try:
            return await held.http.serve(data)
        finally:
            self._served_by_hypercorn -= 1
            held.http = None
            self._by_hypercorn.release(held)

    async def _refuse(self, connection: SocketConnection) -> None:
        """Say that there is no place, and close; closed with unread data the client may not get the answer."""
        connection.post(FULL)
        connection.finish()
        self._refused += 1
        try:
            if self._refused <= REFUSED_AT_ONCE:
                with trio.move_on_after(REFUSE_S), suppress(Broken):
                    while await connection.receive():
                        pass
        finally:
            self._refused -= 1
            connection.close()

    async def _end(self, connections: trio.Nursery) -> None:
        await self._context.terminated.set()
        deadline = trio.current_time() + GRACE_S
        while self._open and trio.current_time() < deadline:
            for held in list(self._open):
                if held.lane is not None and held.lane.idle_since is not None:
                    held.abort()
            await trio.sleep(POLL_S)
        for held in list(self._open):
            held.abort()
        connections.cancel_scope.cancel()
