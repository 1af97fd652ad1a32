"""hypercorn's HTTP/1.1 and HTTP/2 with two corrections: problem bodies for refused requests, and no waiting for a lost client.

hypercorn answers errors below the application with empty bodies, and leaves HTTP/2 tasks waiting for a flow-control window after
the client has disconnected. Both are corrected by overriding methods of its classes; tests/web/test_protocols.py checks that a
version of hypercorn has them.

Errors that only this layer detects (two lengths, a websocket, HTTP/3.0) are passed to the application as
`scope["state"]["refusal"]`, and the guard answers: as a problem like others, counted, and without a body for HEAD.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, cast

import h2.errors
import h2.exceptions
import h11
import priority.priority
import trio
from h2.events import DataReceived, RequestReceived, StreamReset
from h2.settings import SettingCodes
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.events import StreamClosed
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.protocol.h11 import H2ProtocolAssumedError, H11Protocol
from hypercorn.trio.task_group import TaskGroup
from hypercorn.typing import ConnectionState

from bargetrio.protocol.errors import BargeError
from bargetrio.web.problems import answer_of

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\n"
HEAD_BYTES: Final = 16 * 1024
"""hypercorn bounds what is not whole yet by as much; a head that came in one piece is bounded here."""
_WORDS: Final = {
    400: "the request is not as HTTP/1.1 has it (RFC 9112)",
    414: "the request target is too long; the head of a request has at most 16 KiB",
    431: "the head of a request has at most 16 KiB",
    501: "a body comes as it is or chunked; no other Transfer-Encoding is known",
}


class AppTasks(TaskGroup):
    """hypercorn's tasks of one connection, in which sending to the application never blocks after it or the client has ended.

    hypercorn's queue to the application has ten messages. If the application ended without reading its body, or was busy when the
    client disconnected, the connection, and the task that reports the disconnection, would block for ever.
    """

    async def spawn_app(self, app: Any, config: Any, scope: Any, send: Any) -> Any:
        """Start the application for one request; return the function that sends messages to it."""
        sender, receiver = trio.open_memory_channel[Any](config.max_app_queue_size)

        async def put(message: Any) -> None:
            if message["type"] == "http.disconnect":
                sender.close()
                return
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await sender.send(message)

        async def receive() -> Any:
            try:
                return await receiver.receive()
            except trio.EndOfChannel:
                return {"type": "http.disconnect"}

        async def run(scope: Any, _: Any, send: Any, sync_spawn: Any, call_soon: Any) -> None:
            try:
                await app(scope, receive, send, sync_spawn, call_soon)
            finally:
                receiver.close()

        await super().spawn_app(cast(Any, run), config, scope, send)
        return put


class _LastRequestCounts(h11.Connection):
    """h11 that drops data after a request with `Connection: close`: h11's error for it would prevent the answer.

    It also drops the next request if the connection `is_over` before the last answer is: h11 would be paused for ever.
    """

    is_over = False

    def receive_data(self, data: bytes) -> None:
        """Receive data."""
        if self.their_state is not h11.MUST_CLOSE:
            super().receive_data(data)

    def next_event(self) -> Any:
        """Return the next complete event."""
        return h11.NEED_DATA if self.is_over or self.their_state is h11.MUST_CLOSE else super().next_event()


class H11(H11Protocol):
    """HTTP/1.1."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.connection = _LastRequestCounts(h11.SERVER, max_incomplete_event_size=self.config.h11_max_incomplete_size)

    def end_reading(self) -> None:
        """Parse no further request: after the answer that was just sent, another one reads this connection."""
        if isinstance(self.connection, _LastRequestCounts):
            self.connection.is_over = True

    def take_rest(self) -> bytes:
        """Return the bytes that were received and not parsed."""
        return bytes(self.connection.trailing_data[0]) if isinstance(self.connection, h11.Connection) else b""

    async def handle(self, event: Event) -> None:
        """Handle an event; at the connection's end the reader no longer waits for an answer to be sent."""
        if isinstance(event, Closed) and isinstance(self.connection, _LastRequestCounts):
            self.connection.is_over = True
        await super().handle(event)
        if isinstance(event, Closed):
            await self.can_read.set()

    async def _check_protocol(self, event: h11.Request) -> None:
        """Switch to HTTP/2 after its preface.

        `Upgrade: h2c` is ignored (RFC 9113): through a proxy that passes it on, requests would bypass the proxy's rules.
        """
        connection = self.connection
        if (event.method, event.target, event.http_version) == (b"PRI", b"*", b"2.0") and isinstance(connection, h11.Connection):
            raise H2ProtocolAssumedError(_PREFACE + connection.trailing_data[0])

    async def _create_stream(self, request: h11.Request) -> None:
        refusal = _refusal_of(request)
        if refusal is None:
            await super()._create_stream(request)
            return
        before = self.connection_state
        # Without Upgrade: hypercorn would create a websocket for it.
        headers = [(name, value) for name, value in request.headers if name != b"upgrade"]
        self.connection_state = _refused(before, refusal)
        try:
            version = b"1.1" if request.http_version > b"1.1" else request.http_version
            await super()._create_stream(
                h11.Request(method=request.method, target=request.target, headers=headers, http_version=version)
            )
        finally:
            self.connection_state = before

    async def _send_error_response(self, status_code: int) -> None:
        """Answer a request that h11 can't parse; the connection ends."""
        connection = self.connection
        if status_code == 431 and isinstance(connection, h11.Connection) and b"\n" not in connection.trailing_data[0]:
            status_code = 414
        error = BargeError("bad_request", _WORDS.get(status_code, _WORDS[400]), status=status_code)
        status, headers_by_name, body = answer_of(error)
        headers = [(name.lower().encode(), value.encode()) for name, value in headers_by_name.items()]
        headers += [(b"content-length", b"%d" % len(body)), (b"connection", b"close"), (b"x-content-type-options", b"nosniff")]
        headers += self.config.response_headers("h11")
        await self._send_h11_event(h11.Response(status_code=status, headers=headers))
        await self._send_h11_event(h11.Data(data=body))
        await self._send_h11_event(h11.EndOfMessage())


class H2(H2Protocol):
    """HTTP/2, for clients with prior knowledge."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.connection.local_settings[SettingCodes.ENABLE_CONNECT_PROTOCOL] = 0
        self.connection.local_settings.acknowledge()

    async def handle(self, event: Event) -> None:
        """Handle an event; at the connection's end no task waits for a flow-control window any more."""
        await super().handle(event)
        if isinstance(event, Closed):
            for buffer in list(self.stream_buffers.values()):
                await buffer.close()

    async def stream_send(self, event: Any) -> None:
        """Send a part of an answer; an incomplete one ends with RST_STREAM."""
        if isinstance(event, StreamClosed) and event.stream_id in self.streams:
            buffer = self.stream_buffers.get(event.stream_id)
            if buffer is not None and not buffer.complete:
                with suppress(h2.exceptions.ProtocolError):
                    self.connection.reset_stream(event.stream_id, h2.errors.ErrorCodes.CANCEL)
                    await self._flush()
                await self._forget(event.stream_id)
        await super().stream_send(event)

    async def _handle_events(self, events: list[Any]) -> None:
        for event in events:
            if isinstance(event, DataReceived) and event.stream_id not in self.streams:
                # The answer has been sent, as with 413: the rest of the body is received and dropped.
                self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                await self._flush()
                continue
            await super()._handle_events([event])
            if isinstance(event, StreamReset):
                await self._forget(event.stream_id)

    async def _create_stream(self, request: RequestReceived) -> None:
        refusal = None
        found: dict[bytes, bytes] = {}
        for name, value in request.headers or []:
            found.setdefault(name, value)
        method, path = found.get(b":method", b""), found.get(b":path", b"")
        if method == b"CONNECT" or not path:
            refusal = _no_tunnel()
        elif not path.isascii() or not method.isalpha() or not method.isupper():
            refusal = BargeError("bad_request", "the method is in capitals, and the target is percent-encoded")
        if refusal is None:
            await super()._create_stream(request)
            return
        before = self.connection_state
        headers = [(name, value) for name, value in request.headers or [] if name not in (b":method", b":path", b":protocol")]
        self.connection_state = _refused(before, refusal)
        try:
            await super()._create_stream(
                RequestReceived(stream_id=request.stream_id, headers=[(b":method", b"POST"), (b":path", b"/"), *headers])
            )
        finally:
            self.connection_state = before

    async def _forget(self, stream_id: int) -> None:
        """Drop the unsent bytes of a stream; a task that waits for its window continues, and finds it closed."""
        buffer = self.stream_buffers.get(stream_id)
        if buffer is not None:
            await buffer.close()
            with suppress(priority.priority.MissingStreamError):
                self.priority.unblock(stream_id)
            await self.has_data.set()


class Protocol:
    """The protocol of a connection: HTTP/1.1, or HTTP/2 after its preface."""

    def __init__(self, *arguments: Any) -> None:
        self._arguments = arguments
        self._send: Callable[[Event], Awaitable[None]] = arguments[-1]
        self.spoken: H11 | H2 = H11(*arguments)

    async def initiate(self) -> None:
        """Start."""
        await self.spoken.initiate()

    async def handle(self, event: Event) -> None:
        """Handle an event."""
        try:
            await self.spoken.handle(event)
        except H2ProtocolAssumedError as found:
            self.spoken = H2(*self._arguments)
            await self.spoken.initiate()
            await self._send(Updated(idle=True))  # the preface was taken for a request, and asks for nothing
            if found.data:
                await self.spoken.handle(RawData(data=found.data))


def _refused(state: ConnectionState, refusal: BargeError) -> ConnectionState:
    return ConnectionState({**state, "refusal": refusal})


def _no_tunnel() -> BargeError:
    return BargeError("bad_request", "there are no tunnels and no websockets here", status=501)


def _refusal_of(request: h11.Request) -> BargeError | None:
    """Return why this request must be refused, None for nearly all."""
    if request.http_version not in (b"1.1", b"1.0"):
        return BargeError("bad_request", "HTTP/1.1 is spoken here, and HTTP/2 by its preface", status=505)
    if not request.method.isupper():
        return BargeError("bad_request", "methods are in capitals (RFC 9110, 9.1)")
    if request.method == b"CONNECT":
        return _no_tunnel()
    lengths = chunked = False
    upgrade = b""
    size = len(request.target)
    if size > HEAD_BYTES:
        return BargeError("bad_request", _WORDS[414], status=414)
    for name, value in request.headers:
        size += len(name) + len(value) + 4
        if name == b"content-length":
            lengths = True
        elif name == b"transfer-encoding":
            chunked = True
        elif name == b"upgrade":
            upgrade += value.lower()
    if size > HEAD_BYTES:
        return BargeError("bad_request", _WORDS[431], status=431)
    if chunked and lengths:
        return BargeError("bad_request", "Content-Length and Transfer-Encoding together (RFC 9112, 6.3)")
    if chunked and request.http_version == b"1.0":
        return BargeError("bad_request", "HTTP/1.0 has no Transfer-Encoding (RFC 9112, 6.1)")
    if b"websocket" in upgrade:
        return BargeError("forbidden", "there are no websockets here; /events is a stream of server-sent events")
    return None
