"""This daemon as a client of one node: requests leave together, answers come as they come.

A parcel is what leaves in one piece: one request of REST, or many lines of a bulk write. Once it has left and the connection is
cut, nobody knows what became of the part that has no answer (BUG-47); `sent` says whether it has left.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
import trio

from bargetrio.protocol.addresses import parse_address
from bargetrio.protocol.errors import BargeError, Cut, ErrorCode, NotSent
from bargetrio.protocol.hello import ClientHello, NodeHello, answer_decoder
from bargetrio.protocol.limits import LINE_BYTES, PROTOCOL_VERSION
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
)
from bargetrio.transport.network import Broken, Connection, Network

log = logging.getLogger(__name__)

GoodAnswer = PutAnswer | GetAnswer | DeleteAnswer | ListAnswer

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


class Parcel:
    """Requests that go to a node together, and its answers, each in its request's place; None where there is none yet."""

    __slots__ = ("answers", "ended", "missing", "requests", "sent")

    def __init__(self, requests: Sequence[Request]) -> None:
        self.requests = requests
        self.answers: list[GoodAnswer | ErrorAnswer | None] = [None] * len(requests)
        self.missing = len(requests)
        self.sent = False
        self.ended = trio.Event()

    def take(self, place: int, answer: GoodAnswer | ErrorAnswer) -> None:
        """Keep the answer to the request in `place`; the last one ends the waiting."""
        self.answers[place] = answer
        self.missing -= 1
        if not self.missing:
            self.ended.set()


class _Session:
    """One connection after its hello, and the open requests that were sent on it; answers belong to these only."""

    def __init__(self, connection: Connection, reader: LineReader, lines: list[bytes]) -> None:
        self.is_open = True
        self._connection = connection
        self._reader = reader
        self._lines = lines
        self._waiting: dict[int, tuple[Parcel, int]] = {}
        self._last_id = 0

    @property
    def waiting(self) -> int:
        """How many requests are not answered."""
        return len(self._waiting)

    async def ask(self, parcel: Parcel) -> None:
        """Send the parcel and wait until all of it is answered, or this connection has ended."""
        first = self._last_id + 1
        lines = [_encode(msgspec.structs.replace(request, id=first + place)) for place, request in enumerate(parcel.requests)]
        lines.append(b"")
        self._last_id += len(parcel.requests)
        for place in range(len(parcel.requests)):
            self._waiting[first + place] = parcel, place
        try:
            parcel.sent = True
            self._connection.post(b"\n".join(lines))
            await parcel.ended.wait()
        finally:
            if parcel.missing:
                for number in range(first, first + len(parcel.requests)):
                    self._waiting.pop(number, None)

    async def serve(self) -> None:
        """Hand out answers until the connection ends; then end the wait of all open requests."""
        try:
            await self._read()
        finally:
            self.is_open = False
            self._connection.close()
            for parcel, _ in self._waiting.values():
                parcel.ended.set()

    async def _read(self) -> None:
        lines = self._lines
        try:
            while True:
                for line in lines:
                    self._take(line)
                data = await self._connection.receive()
                if not data:
                    return
                lines = self._reader.feed(data)
        except (Broken, LineTooLong, msgspec.DecodeError):
            return  # an answer without id is the node's goodbye: this side sent what it does not take

    def _take(self, line: bytes) -> None:
        """Give an answer to its request; an answer that can't be decoded, except for its id, is an error of that request only."""
        envelope = _decode_envelope(line)
        parcel, place = self._waiting.pop(envelope.id, (None, 0))
        if parcel is None:
            return
        request = parcel.requests[place]
        try:
            answer: Any = (_DECODE[type(request)] if envelope.ok else _decode_error)(line)
            if envelope.ok and not isinstance(request, List) and answer.key != request.key:
                raise msgspec.DecodeError(f"it is about {answer.key[:80]!r}, not {request.key[:80]!r}")
        except msgspec.DecodeError as problem:
            code: ErrorCode = "outcome_unknown" if isinstance(request, (Put, Delete)) else "bad_request"
            answer = ErrorAnswer.of(envelope.id, BargeError(code, f"the node's answer can't be read: {problem}"))
        parcel.take(place, answer)


class NodeLink:
    """A connection to one node as its client, dialled when first needed; parcels are pipelined."""

    def __init__(self, address: str, cluster: str, network: Network, nursery: trio.Nursery) -> None:
        self._address = address
        self._cluster = cluster
        self._network = network
        self._nursery = nursery
        self._session: _Session | None = None
        self._dialling = trio.Lock()
        self._departed = 0
        """Single writes that have left and are not answered; those that come meanwhile wait for the gate."""
        self._gate = trio.Event()

    @property
    def waiting(self) -> int:
        """How many requests have left on the present connection and are not answered."""
        return 0 if self._session is None else self._session.waiting

    async def ask(self, parcel: Parcel) -> None:
        """Send the parcel and wait until all of it is answered; raise NotSent or Cut.

        Whatever ends this, the answers that came are in the parcel. Cancelled, the others may still take effect.

        Single writes gather: those that come while others are under way leave together when these are answered. The node would
        let them wait for its disk in any case; here they cost it one batch, not one each. Reads never wait.
        """
        if len(parcel.requests) > 1 or not isinstance(parcel.requests[0], (Put, Delete)):
            return await self._ask(parcel)
        if self._departed:
            await self._gate.wait()
        self._departed += 1
        try:
            await self._ask(parcel)
        finally:
            self._departed -= 1
            if not self._departed:
                self._gate.set()
                self._gate = trio.Event()

    async def _ask(self, parcel: Parcel) -> None:
        session = self._session
        if session is None or not session.is_open:
            session = await self._connected()
        await session.ask(parcel)
        if parcel.missing:
            raise Cut("the connection was cut")

    async def _connected(self) -> _Session:
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

    async def _dial(self) -> _Session:
        connection = await self._network.connect(*parse_address(self._address))
        self._nursery.start_soon(connection.write)  # for the hello, too; it ends with the connection
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
            return _Session(connection, reader, lines[1:])
        except BaseException:
            connection.close()
            raise

    async def _serve(self, session: _Session) -> None:
        try:
            await session.serve()
        except Exception as problem:  # one connection's bug is not the daemon's end
            log.error("the connection to %s ended by an error", self._address, exc_info=problem)
