"""TCP on non-blocking sockets, the real form of network.py.

A connection takes bytes without waiting: what the socket does not take at once is kept and sent by the connection's writer
task. So the node's loop can answer many connections in one pass, and none of them can stop it.
"""

import errno
import fcntl
import logging
import socket
import struct
import sys
import termios
from collections.abc import Callable
from contextlib import suppress

import trio

from bargetrio.transport.network import Broken, Connection, Listener
from bargetrio.transport.outgoing import Outgoing

log = logging.getLogger(__name__)

BACKLOG = 1024
"""Connections that the kernel has accepted and the node has not."""
RECEIVE_BYTES = 256 * 1024
"""Of one read of a socket."""
USER_TIMEOUT_MS = 10_000
"""TCP_USER_TIMEOUT: the kernel closes a connection whose bytes were not acknowledged for this long."""
KEEPALIVE_S = 30
KEEPALIVE_AGAIN_S = 10
KEEPALIVE_PROBES = 3
"""tcp(7): idle time, interval and number of the probes by which the kernel asks a silent connection whether it is still
there: the descriptor and the place of a host that vanished are released within a minute."""
KERNEL_UNSENT_BYTES = 64 * 1024
"""TCP_NOTSENT_LOWAT of a dialled connection. Without it the kernel takes up to 4 MiB, and over a slow link those would reach the
other side for many seconds after this process has stopped."""


class TrioWaits:
    """How many tasks wait through trio to read an accepted connection, or to write one.

    While any does, the event loop does not block (event_loop.py).
    """

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> None:
        self.count += 1

    def __exit__(self, *_: object) -> None:
        self.count -= 1


class SocketConnection:
    """A TCP connection; tests use socket pairs, too, which have no options to set."""

    def __init__(self, sock: socket.socket, waits: TrioWaits | None = None, *, is_dialled: bool = False) -> None:
        sock.setblocking(False)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            with suppress(OSError):  # Linux
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_S)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_AGAIN_S)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)
        self.socket = sock
        self.outgoing = Outgoing(sock.send)
        self._wake = trio.Event()
        self._closed = False
        self._writes = TrioWaits() if waits is None else waits
        self._reads = TrioWaits() if is_dialled else self._writes  # a dialled connection is read only for its end
        self.on_close: Callable[[], None] | None = None
        """Called just before the socket is closed at this end, by whoever holds its descriptor (event_loop.py)."""

    def fileno(self) -> int:
        """Return the socket's descriptor, -1 once it is closed."""
        return self.socket.fileno()

    @property
    def is_closed(self) -> bool:
        """Whether it was closed at this end."""
        return self._closed

    @property
    def unsent_bytes(self) -> int:
        """What the kernel has not taken yet."""
        return len(self.outgoing)

    def kernel_bytes(self) -> int:
        """Ask the kernel (tcp(7), SIOCOUTQ); 0 where it does not say."""
        try:
            return int.from_bytes(fcntl.ioctl(self.socket.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
        except OSError:
            return 0

    def post(self, data: bytes) -> None:
        """Send what the kernel takes now; the writer task sends the rest."""
        if self._closed:
            return
        try:
            if self.outgoing.post(data):
                self._wake.set()
        except OSError:
            self.abort()

    async def receive(self) -> bytes:
        """Return some bytes, b"" at the end."""
        try:
            while True:
                if self._closed:
                    raise Broken("closed here")
                with self._reads:
                    await trio.lowlevel.wait_readable(self.socket.fileno())
                try:
                    return self.socket.recv(RECEIVE_BYTES)
                except BlockingIOError:
                    continue
        except (OSError, trio.ClosedResourceError) as problem:
            raise Broken(str(problem)) from None

    def receive_now(self, most_bytes: int) -> bytes:
        """Return what is there, b"" at the end; raise BlockingIOError if nothing is, OSError if the connection is broken."""
        return self.socket.recv(most_bytes)

    async def write(self) -> None:
        """Send what `post` left, whenever the kernel takes more."""
        while not self._closed:
            await self._wake.wait()
            self._wake = trio.Event()
            try:
                while self.outgoing and not self._closed:
                    with self._writes:
                        await trio.lowlevel.wait_writable(self.socket.fileno())
                    self.outgoing.push()
            except (OSError, trio.ClosedResourceError):
                self.abort()
            except Exception as problem:  # whoever started this task outlives the connection
                log.error("a connection's writer ended by an error", exc_info=problem)
                self.abort()

    def finish(self) -> None:
        """Shut our direction down."""
        if not self._closed:
            with suppress(OSError):
                self.socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """End it in both directions."""
        if not self._closed:
            self._closed = True
            self.outgoing.drop()
            self._wake.set()
            if self.on_close is not None:
                self.on_close()
            trio.lowlevel.notify_closing(self.socket.fileno())
            self.socket.close()

    def abort(self) -> None:
        """Close with a reset."""
        if not self._closed:
            with suppress(OSError):
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close()


class SocketListener:
    """A bound TCP port."""

    def __init__(self, sock: socket.socket, waits: TrioWaits | None = None) -> None:
        self._socket = sock
        self._waits = waits

    async def accept(self) -> SocketConnection:
        """Return the next connection; raise OSError where this one failed, and the next may not (accept(2) has a long list)."""
        while True:
            if self._socket.fileno() < 0:
                raise Broken("closed here")
            try:
                await trio.lowlevel.wait_readable(self._socket.fileno())
            except trio.ClosedResourceError:
                raise Broken("closed here") from None
            if (connection := self.accept_now()) is not None:
                return connection

    def accept_now(self) -> SocketConnection | None:
        """Return the next connection, None if there is none yet; raise OSError as `accept` does."""
        try:
            sock, _ = self._socket.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return None
        try:
            return SocketConnection(sock, self._waits)
        except BaseException:
            sock.close()
            raise

    def close(self) -> None:
        """Unbind."""
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket.fileno())
            self._socket.close()


class SocketNetwork:
    """The real network. `on_listen` gets the descriptor of each port; `waits` is that of all its connections."""

    def __init__(self, on_listen: Callable[[int], None] = lambda descriptor: None) -> None:
        self.waits = TrioWaits()
        self._on_listen = on_listen

    async def listen(self, host: str, port: int) -> Listener:
        """Bind the port; raise OSError that names it."""
        family, _, _, _, address = (await _resolve(host, port))[0]
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
            sock.listen(BACKLOG)
            self._on_listen(sock.fileno())
        except OSError as problem:
            sock.close()
            raise OSError(problem.errno, f"can't listen on {host}:{port}: {problem.strerror}") from None
        return SocketListener(sock, self.waits)

    async def connect(self, host: str, port: int) -> Connection:
        """Dial each address that the name has, until one answers."""
        failure = OSError(f"{host} has no address")
        for family, _, _, _, address in await _resolve(host, port):
            sock = socket.socket(family, socket.SOCK_STREAM)
            sock.setblocking(False)
            try:
                code = sock.connect_ex(address)
                if code == errno.EINPROGRESS:
                    await trio.lowlevel.wait_writable(sock.fileno())
                    code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            except BaseException:
                sock.close()
                raise
            if code == 0:
                with suppress(OSError, AttributeError):  # where the system has it
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, KERNEL_UNSENT_BYTES)
                return SocketConnection(sock, self.waits, is_dialled=True)
            sock.close()
            failure = OSError(code, f"{host}:{port} does not answer")
        raise failure


_AddressInfo = tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]]


async def _resolve(host: str, port: int) -> list[_AddressInfo]:
    try:
        return list(await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    except socket.gaierror as problem:
        raise OSError(problem.errno, f"the name {host!r} does not resolve: {problem.strerror}") from None
