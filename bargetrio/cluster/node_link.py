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
from bargetrio.transport.stream import Broken, Connection, Network

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


class Cut(Exception):
    """The connection ended after the requests had left, before all were answered."""


class NotSent(Exception):
    """There is no connection: nothing has left."""


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


class NodeLink:
    """A connection to one node as its client, dialled when first needed; parcels are pipelined."""

    def __init__(self, address: str, cluster: str, network: Network, nursery: trio.Nursery) -> None:
        self._address = address
        self._cluster = cluster
        self._network = network
        self._nursery = nursery
        self._connection: Connection | None = None
        self._dialling = trio.Lock()
        self._waiting: dict[int, tuple[Parcel, int]] = {}
        self._last_id = 0
        self._departed = 0
        """Single writes that have left and are not answered; those that come meanwhile wait for the gate."""
        self._gate = trio.Event()

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
        connection = self._connection or await self._connected()
        first = self._last_id + 1
        self._last_id += len(parcel.requests)
        lines: list[bytes] = []
        for place, request in enumerate(parcel.requests):
            self._waiting[first + place] = parcel, place
            lines.append(_encode(msgspec.structs.replace(request, id=first + place)))
        lines.append(b"")
        try:
            parcel.sent = True
            connection.post(b"\n".join(lines))
            await parcel.ended.wait()
        finally:
            if parcel.missing:
                for number in range(first, first + len(parcel.requests)):
                    self._waiting.pop(number, None)
        if parcel.missing:
            raise Cut("the connection was cut")

    async def _connected(self) -> Connection:
        async with self._dialling:
            if self._connection is None:
                try:
                    with trio.fail_after(DIAL_S):
                        connection, reader, lines = await self._dial()
                except (OSError, Broken, trio.TooSlowError, LineTooLong, msgspec.DecodeError) as problem:
                    raise NotSent(f"{self._address}: {problem}") from None
                self._connection = connection
                self._nursery.start_soon(self._serve, connection, reader, lines)
            return self._connection

    async def _dial(self) -> tuple[Connection, LineReader, list[bytes]]:
        connection = await self._network.connect(*parse_address(self._address))
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
            return connection, reader, lines[1:]
        except BaseException:
            connection.close()
            raise

    async def _serve(self, connection: Connection, reader: LineReader, lines: list[bytes]) -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(connection.write)
                await self._read(connection, reader, lines)
                nursery.cancel_scope.cancel()
        except Exception as problem:  # one connection's bug is not the daemon's end
            log.error("the connection to %s ended by an error", self._address, exc_info=problem)
        finally:
            connection.close()
            self._connection = None
            for parcel, _ in self._waiting.values():
                parcel.ended.set()

    async def _read(self, connection: Connection, reader: LineReader, lines: list[bytes]) -> None:
        try:
            while True:
                for line in lines:
                    envelope = _decode_envelope(line)
                    parcel, place = self._waiting.pop(envelope.id, (None, 0))
                    if parcel is not None:
                        decode = _DECODE[type(parcel.requests[place])] if envelope.ok else _decode_error
                        parcel.take(place, decode(line))
                data = await connection.receive()
                if not data:
                    return
                lines = reader.feed(data)
        except (Broken, LineTooLong, msgspec.DecodeError):
            return  # an answer without id is the node's goodbye: this side sent what it does not take
