"""This daemon as a client of one node: requests are sent in batches and pipelined, answers come in any order.

A batch is one request of REST, or many lines of a bulk write. If it was `sent` and the connection ends, the outcome of requests
without an answer is unknown (BUG-47).
"""

import logging
from collections.abc import Callable
from typing import Any, Final

import msgspec
import trio

from bargetrio.cluster.in_flight import RequestBatch, UnansweredRequests
from bargetrio.protocol.addresses import parse_address
from bargetrio.protocol.errors import BargeError, ErrorCode, NoAnswer, NotSent
from bargetrio.protocol.hello import ClientHello, NodeHello, answer_decoder
from bargetrio.protocol.limits import LINE_BYTES, PROTOCOL_VERSION, QUOTED_CHARACTERS
from bargetrio.protocol.lines import LineReader, LineTooLong
from bargetrio.protocol.requests import (
    Answer,
    Delete,
    DeleteAnswer,
    ErrorAnswer,
    Get,
    GetAnswer,
    List,
    ListAnswer,
    Put,
    PutAnswer,
    Request,
    is_write,
)
from bargetrio.transport.network import Broken, Connection, Network
from bargetrio.transport.poller import Poller

log = logging.getLogger(__name__)

DIAL_S: Final = 1.0

_encode: Final = msgspec.json.Encoder().encode
_decode_envelope: Final = msgspec.json.Decoder(Answer).decode
_decode_error: Final = msgspec.json.Decoder(ErrorAnswer).decode
_DECODE: Final[dict[type[Request], Callable[[bytes], Any]]] = {
    Put: msgspec.json.Decoder(PutAnswer).decode,
    Get: msgspec.json.Decoder(GetAnswer).decode,
    Delete: msgspec.json.Decoder(DeleteAnswer).decode,
    List: msgspec.json.Decoder(ListAnswer).decode,
}


class _OpenConnection:
    """One connection after its hello, and its requests in flight."""

    def __init__(self, connection: Connection, reader: LineReader, lines: list[bytes], poller: Poller | None) -> None:
        self.is_open = True
        self._poller = poller
        self._connection = connection
        self._reader = reader
        self._lines = lines
        self._in_flight = UnansweredRequests()

    @property
    def waiting(self) -> int:
        """How many requests are in flight."""
        return len(self._in_flight)

    async def ask(self, batch: RequestBatch) -> None:
        """Send the batch and wait until all requests are answered, or the connection has ended."""
        try:
            lines = [_encode(request) for request in self._in_flight.add(batch)]
            lines.append(b"")
            self._connection.post(b"\n".join(lines))
            await batch.ended.wait()
        finally:
            self._in_flight.drop(batch)

    async def serve(self) -> None:
        """Pass answers to their batches until the connection ends; then end the wait of all batches."""
        try:
            await self._read()
        finally:
            self.is_open = False
            self._connection.close()
            self._in_flight.end_all()

    async def _read(self) -> None:
        try:
            for line in self._lines:
                self._take(line)
            if self._poller is not None:
                await self._poller.read(self._connection, self._take_bytes)
                return
            while data := await self._connection.receive():
                self._take_bytes(data)
        except (Broken, LineTooLong, msgspec.DecodeError):
            return  # an answer without id precedes the node's close: it refuses what this side has sent

    def _take_bytes(self, data: bytes) -> None:
        lines = self._reader.feed(data)
        for line in lines:
            self._take(line)
        if lines and self._poller is not None:
            self._poller.let_tasks_run()

    def _take(self, line: bytes) -> None:
        """Pass an answer to its batch; an answer of which only the id can be decoded is an error of that request only."""
        envelope = _decode_envelope(line)
        batch, place = self._in_flight.pop(envelope.id)
        if batch is None:
            return
        request = batch.requests[place]
        try:
            answer: Any = (_DECODE[type(request)] if envelope.ok else _decode_error)(line)
            if envelope.ok and not isinstance(request, List) and answer.key != request.key:
                raise msgspec.DecodeError(
                    f"it is about {answer.key[:QUOTED_CHARACTERS]!r}, not {request.key[:QUOTED_CHARACTERS]!r}"
                )
        except msgspec.DecodeError as problem:
            code: ErrorCode = "outcome_unknown" if is_write(request) else "bad_request"
            answer = ErrorAnswer.of(envelope.id, BargeError(code, f"the node's answer can't be read: {problem}"))
        batch.take(place, answer)


class NodeLink:
    """A client connection to one node, dialled when first needed; batches are pipelined. `poller` reads it, if there is one."""

    def __init__(self, address: str, cluster: str, network: Network, nursery: trio.Nursery, poller: Poller | None = None) -> None:
        self._address = address
        self._cluster = cluster
        self._network = network
        self._nursery = nursery
        self._poller = poller
        self._session: _OpenConnection | None = None
        self._dialling = trio.Lock()
        self._departed = 0
        """Single writes that have left and are not answered; those that come meanwhile wait for the gate."""
        self._gate = trio.Event()

    @property
    def waiting(self) -> int:
        """How many requests are in flight on the present connection."""
        return 0 if self._session is None else self._session.waiting

    async def ask(self, batch: RequestBatch) -> None:
        """Send the batch and wait until all requests are answered; raise NotSent or NoAnswer.

        In any case the received answers are in the batch. Cancelled, the other requests may still be applied.

        Single writes are coalesced: those that arrive while others are in flight are sent together when these are answered. They
        would wait for the node's disk anyway; coalesced they cost the node one batch. Reads never wait.
        """
        if len(batch.requests) > 1 or not is_write(batch.requests[0]):
            return await self._ask(batch)
        if self._departed:
            await self._gate.wait()
        self._departed += 1
        try:
            await self._ask(batch)
        finally:
            self._departed -= 1
            if not self._departed:
                self._gate.set()
                self._gate = trio.Event()

    async def _ask(self, batch: RequestBatch) -> None:
        session = self._session
        if session is None or not session.is_open:
            session = await self._connected()
        await session.ask(batch)
        if batch.missing:
            raise NoAnswer("the connection was cut")

    async def _connected(self) -> _OpenConnection:
        async with self._dialling:
            session = self._session
            if session is None or not session.is_open:
                try:
                    with trio.fail_after(DIAL_S):
                        session = await self._dial()
                except (OSError, Broken, trio.TooSlowError, LineTooLong, msgspec.DecodeError) as problem:
                    raise NotSent(f"{self._address}: {problem}") from None
                self._session = session
                self._nursery.start_soon(self._serve, session)
            return session

    async def _dial(self) -> _OpenConnection:
        connection = await self._network.connect(*parse_address(self._address))
        self._nursery.start_soon(connection.write)  # the hello needs it, too; it ends with the connection
        try:
            connection.post(_encode(ClientHello(protocol=PROTOCOL_VERSION, cluster=self._cluster)) + b"\n")
            reader = LineReader(LINE_BYTES)
            lines: list[bytes] = []
            while not lines:
                data = await connection.receive()
                if not data:
                    raise Broken("closed before its hello")
                lines = reader.feed(data)
            hello = answer_decoder.decode(lines[0])
            if not isinstance(hello, NodeHello):
                raise Broken(f"refused: {hello.detail}")
            return _OpenConnection(connection, reader, lines[1:], self._poller)
        except BaseException:
            connection.close()
            raise

    async def _serve(self, session: _OpenConnection) -> None:
        try:
            await session.serve()
        except Exception as problem:  # a bug in one connection must not end the daemon
            log.error("the connection to %s ended by an error", self._address, exc_info=problem)
