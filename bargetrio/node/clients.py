"""A client's connection: lines become checked requests, answers become lines, with back-pressure for each client.

While a client does not read its answers, its reads are not looked up and no further requests of it are read: the memory that one
client can occupy is bounded.
"""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

import msgspec
import trio
from msgspec import Struct

from bargetrio.kv.commands import encode_command
from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.limits import LINE_BYTES
from bargetrio.protocol.lines import LineTooLong
from bargetrio.protocol.requests import (
    BadRequest,
    Delete,
    ErrorAnswer,
    Get,
    GetAnswer,
    List,
    ListAnswer,
    MalformedLine,
    Put,
    Request,
    decode_request,
    decode_requests,
)
from bargetrio.replica.requests import Batch, Ticket
from bargetrio.transport.arrivals import Arrivals
from bargetrio.transport.handshake import Greeted
from bargetrio.transport.network import Connection

MOST_IN_FLIGHT: Final = 20_000
"""Requests of one connection that wait for an answer; beyond it the connection is not read."""
MOST_UNSENT_BYTES: Final = 1024 * 1024
"""Unsent answers in bytes, beyond which no read of the client is looked up and its connection is not read."""
CUT_BYTES: Final = 16 * 1024 * 1024
"""Unsent bytes beyond which the connection is cut: answers to writes and time-outs of reads are sent without limit."""

_encode: Final = msgspec.json.Encoder().encode
_encode_lines: Final = msgspec.json.Encoder().encode_lines


Submit = Callable[["ClientSession", Batch], None]
"""Takes requests into the node's inbox."""


class ClientSession:
    """One client; implements `replica.requests.Session`.

    `on_room` is called when `take_put_off` has reads that may be looked up now.
    """

    def __init__(self, connection: Connection, on_room: Callable[["ClientSession"], None] = lambda session: None) -> None:
        self.answers: list[Struct] = []
        self._connection = connection
        self._on_room = on_room
        self._unsent = connection.outgoing.unsent
        self.room = MOST_UNSENT_BYTES
        """Bytes of answers to reads that may be made before the next flush; without any left, reads are put off."""
        self._put_off: deque[Ticket] = deque()
        self._in_flight = 0
        self._room = trio.Event()
        self._is_open = True
        self.was_active = True
        """Set by each request, reset by ClientPlaces when it looks for idle clients."""
        connection.outgoing.on_room = self._has_sent

    async def serve(self, greeted: Greeted, submit: Submit, arrivals: Arrivals) -> None:
        """Read requests until the client leaves; a line that is none ends the connection after one error line."""
        reader = greeted.reader

        def take(data: bytes) -> trio.Event | None:
            return self._take(reader.feed(data), submit)

        try:
            if greeted.lines:
                room = self._take(greeted.lines, submit)
                arrivals.ring()
                if room is not None:
                    await room.wait()
            await arrivals.read(self._connection, take)
        except (MalformedLine, LineTooLong) as problem:
            self.flush()
            error = BargeError("bad_request", str(problem))
            self._connection.post(_encode(ErrorAnswer.of(None, error)) + b"\n")
        finally:
            self._is_open, self.room = False, 0
            self._connection.outgoing.on_room = None
            for ticket in self._put_off:
                ticket.done = True
            self._put_off.clear()

    def close(self) -> None:
        """End the connection; its requests may still take effect."""
        self._connection.close()

    def put_off(self, ticket: Ticket) -> None:
        """Keep a read for `take_put_off`, unless its time is over or its client is gone."""
        if ticket.done:
            return
        if not self._is_open:
            ticket.done = True
            return
        ticket.is_put_off = True
        self._put_off.append(ticket)

    def take_put_off(self) -> Iterable[Ticket]:
        """Yield the reads that were put off, in their order, while there is room for their answers."""
        self.room = MOST_UNSENT_BYTES - len(self._unsent)
        while self._put_off and self.room > 0:
            ticket = self._put_off.popleft()
            if not ticket.done:
                yield ticket
        if self._put_off:
            self.room = 0

    def flush(self) -> None:
        """Send what is queued, in one piece."""
        answers = self.answers
        if answers:
            self._in_flight -= len(answers)
            lines = _encode_lines(answers)
            self._connection.post(lines if len(lines) <= LINE_BYTES else _bounded_lines(answers))
            answers.clear()
            unsent = len(self._unsent)
            self.room = MOST_UNSENT_BYTES - unsent
            if unsent > CUT_BYTES:
                self._connection.abort()
            if self._put_off:  # later reads wait behind these
                if self.room > 0:
                    self._on_room(self)
                self.room = 0
        if self._may_be_read():
            self._room.set()

    def _may_be_read(self) -> bool:
        return self._in_flight <= MOST_IN_FLIGHT and len(self._unsent) <= MOST_UNSENT_BYTES

    def _has_sent(self) -> None:
        """The connection's writer has made room, or the connection is closed."""
        if self._put_off:
            self._on_room(self)
        else:
            self.room = MOST_UNSENT_BYTES - len(self._unsent)
        if self._may_be_read():
            self._room.set()

    def _take(self, lines: list[bytes], submit: Submit) -> trio.Event | None:
        """Hand over the good requests before the first bad line, then say what is bad; return what to wait for if it was much."""
        self.was_active = True
        malformed: MalformedLine | None = None
        requests = decode_requests(lines)
        if requests is None:
            requests, malformed = self._take_each(lines)
        self._in_flight += len(requests)
        writes: list[Put | Delete] = []
        reads: list[Get | List] = []
        for request in requests:
            if isinstance(request, (Put, Delete)):
                writes.append(request)
            else:
                reads.append(request)
        if requests:
            submit(self, Batch(writes, [encode_command(write) for write in writes], reads))
        if malformed is not None:
            raise malformed
        if self._may_be_read():
            return None
        self._room = trio.Event()
        return self._room

    def _take_each(self, lines: list[bytes]) -> tuple[list[Request], MalformedLine | None]:
        """Return the good requests up to the first line that is none, and what that one is; tell which requests are bad."""
        good: list[Request] = []
        malformed: MalformedLine | None = None
        for line in lines:
            try:
                good.append(decode_request(line))
            except BadRequest as bad:
                self._in_flight += 1
                self.answers.append(ErrorAnswer.of(bad.request_id, bad.error))
            except MalformedLine as problem:
                malformed = problem
                break
        self.flush()
        return good, malformed


def _bounded_lines(answers: list[Struct]) -> bytes:
    """Return the answers' lines; one that no line may hold becomes an error: it must not end the connection for the others."""
    lines: list[bytes] = []
    for answer in answers:
        line = _encode(answer)
        if len(line) > LINE_BYTES and isinstance(answer, (GetAnswer, ListAnswer)):
            detail = f"the answer has {len(line)} bytes, and a line {LINE_BYTES} at most: ask for fewer keys"
            line = _encode(ErrorAnswer.of(answer.id, BargeError("bad_request", detail)))
        lines.append(line + b"\n")
    return b"".join(lines)
