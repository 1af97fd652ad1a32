"""hypercorn's work on one connection, for all of it or for one request.

hypercorn sends under a shield, so a client that stops reading would block its shutdown for ever: here a send is bounded, and the
socket can be closed at any time. With `returns`, a connection over HTTP/1.1 is given back after each answer, with the bytes that
came behind the request.
"""

from contextlib import suppress
from typing import Any, Final, cast

import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import parse_socket_addr

from bargetrio.web.places import BYTES_PER_S
from bargetrio.web.protocols import H2, H11, AppTasks, Protocol

SEND_S: Final = 10.0
"""How long a frame of HTTP/2 may take to send, in addition to its time at BYTES_PER_S."""
LINGER_S: Final = 1.0
RECEIVE_BYTES: Final = 65536


class HttpConnection(TCPServer):
    """One connection."""

    def __init__(
        self, app: Any, config: Config, context: WorkerContext, stream: trio.SocketStream, *, reserved: bool, returns: bool
    ) -> None:
        """`returns`: whether `serve` ends after an answer over HTTP/1.1, if the connection goes on."""
        super().__init__(app, config, context, ConnectionState({"reserved": reserved}), cast(Any, stream))
        self.reserved = reserved
        """Whether only probes are answered here, since all other connections are taken."""
        self.idle_since: float | None = trio.current_time()
        """Since when no request is being answered, None while one is: the head of the next has not come whole."""
        self._closing = False
        self._may_return = returns
        self._returns = False
        self._reading = trio.CancelScope()

    async def serve(self, data: bytes = b"") -> bytes | None:
        """Serve `data` and what follows until either side closes, then return None; cancelled, it is closed at once.

        With `returns`: return what came after the request that was answered, and leave the connection open.
        """
        sock = self.stream.socket
        try:
            peer, own = (parse_socket_addr(sock.family, name) for name in (sock.getpeername(), sock.getsockname()))
            async with AppTasks() as self._task_group:
                arguments = (self.app, self.config, self.context, self._task_group, self.state, False, peer, own)
                self._spoken = Protocol(*arguments, self.protocol_send)
                self.protocol: Any = self._spoken
                await self.protocol.initiate()
                await self.idle_task.restart(self._task_group, self._idle_timeout)
                with self._reading:
                    if data:
                        await self.protocol.handle(RawData(data))
                    await self._read_data()
                if self._returns:
                    await self.idle_task.stop()
            if self._returns and isinstance(self._spoken.spoken, H11):
                return self._spoken.spoken.take_rest()
        except OSError:
            self._returns = False  # disconnected before it was served
        finally:
            if not self._returns:
                await trio.aclose_forcefully(self.stream)
        return None

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
                if event.idle and self._may_return and isinstance(self._spoken.spoken, H11):
                    self._spoken.spoken.end_reading()
                    self._returns = True
                    self._reading.cancel()
                    return
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
