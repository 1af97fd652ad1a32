"""A client's connection: lines become checked requests, answers become lines, and one slow reader waits alone."""

from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec
import trio
from msgspec import Raw, Struct

from bargetrio.kv.commands import encode_command
from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.lines import LineTooLong
from bargetrio.protocol.requests import (
    BadRequest,
    Delete,
    ErrorAnswer,
    Get,
    List,
    MalformedLine,
    Put,
    Request,
    decode_request,
    decode_requests,
)
from bargetrio.transport.arrivals import Arrivals
from bargetrio.transport.handshake import Greeted
from bargetrio.transport.stream import Connection

MOST_IN_FLIGHT: Final = 20_000
"""Requests of one connection that wait for an answer; beyond it the connection is not read."""
MOST_UNSENT_BYTES: Final = 16 * 1024 * 1024
"""Answers that a client doesn't fetch; beyond it the connection is cut."""

_encode: Final = msgspec.json.Encoder().encode
_encode_lines: Final = msgspec.json.Encoder().encode_lines


class Ticket:
    """A request that waits: exactly one answer goes to its client, whoever gives it first."""

    __slots__ = ("deadline", "done", "request", "session")

    def __init__(self, session: "ClientSession", request: Request, deadline: float) -> None:
        self.session = session
        self.request = request
        self.deadline = deadline
        self.done = False

    def answer(self, answer: Struct) -> None:
        """Give the answer; a second one is dropped."""
        if not self.done:
            self.done = True
            self.session.answer(answer)


class Batch(NamedTuple):
    """Checked requests that came together; `commands` are those of the writes."""

    writes: list[Put | Delete]
    commands: list[Raw]
    reads: list[Get | List]


Submit = Callable[["ClientSession", Batch], None]
"""Takes requests into the node's inbox."""


class ClientSession:
    """One client. The node's loop collects answers with `answer` and sends them with `flush`, once a pass."""

    def __init__(self, connection: Connection, on_answer: Callable[["ClientSession"], None]) -> None:
        self._connection = connection
        self._on_answer = on_answer
        self._answers: list[Struct] = []
        self._in_flight = 0
        self._room = trio.Event()

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

    def answer(self, answer: Struct) -> None:
        """Queue an answer for `flush`."""
        if not self._answers:
            self._on_answer(self)
        self._answers.append(answer)

    def flush(self) -> None:
        """Send what is queued, in one piece."""
        answers = self._answers
        if answers:
            self._in_flight -= len(answers)
            self._connection.post(_encode_lines(answers))
            answers.clear()
            if self._connection.unsent_bytes > MOST_UNSENT_BYTES:
                self._connection.abort()
        if self._in_flight <= MOST_IN_FLIGHT:
            self._room.set()

    def _take(self, lines: list[bytes], submit: Submit) -> trio.Event | None:
        """Hand over the good requests before the first bad line, then say what is bad; return what to wait for if it was much."""
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
        if self._in_flight <= MOST_IN_FLIGHT:
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
                self.answer(ErrorAnswer.of(bad.request_id, bad.error))
            except MalformedLine as problem:
                malformed = problem
                break
        self.flush()
        return good, malformed
