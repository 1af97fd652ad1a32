"""A client's connection: decodes and validates requests, encodes answers, with back-pressure per client.

Back-pressure: while a client does not receive its answers, its reads are not executed and its connection is not read: the memory
that one client can occupy is bounded.
"""

from collections.abc import Callable, Iterable
from typing import Final

import msgspec
import trio
from msgspec import Struct

from bargetrio.kv.commands import encode_command
from bargetrio.node.memory import ClientMemory
from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.limits import LINE_BYTES
from bargetrio.protocol.lines import LineTooLong
from bargetrio.protocol.requests import (
    BadRequest,
    ErrorAnswer,
    GetAnswer,
    ListAnswer,
    MalformedLine,
    Read,
    Request,
    Write,
    decode_request,
    decode_requests,
    is_write,
)
from bargetrio.replica.sessions import Batch, DeferredReads, Ticket
from bargetrio.transport.handshake import Greeted
from bargetrio.transport.network import Connection
from bargetrio.transport.poller import Poller

MOST_IN_FLIGHT: Final = 20_000
"""Requests of one connection that wait for an answer; beyond it the connection is not read."""
MOST_UNSENT_BYTES: Final = 1024 * 1024
"""Back-pressure: unsent bytes above which the server stops reading the connection and executing its reads."""
MOST_ASKED_BYTES: Final = 16 * 1024 * 1024
"""Requests of one connection that wait for an answer, in bytes; beyond it the connection is not read."""
REQUEST_BYTES: Final = 512
"""Memory of a request in flight, without its line."""
CUT_BYTES: Final = 16 * 1024 * 1024
"""Unsent bytes beyond which the connection is cut: answers to writes and time-outs of reads are sent without limit."""

_encode: Final = msgspec.json.Encoder().encode
_encode_lines: Final = msgspec.json.Encoder().encode_lines


Submit = Callable[["ClientSession", Batch], None]
"""Queues requests in the node's inbox."""


class ClientSession:
    """One client; implements `replica.sessions.Session` and `memory.Holder`.

    `on_room` is called when `take_deferred` has reads that may be executed now. `memory` is that of all clients of the process.
    """

    def __init__(
        self,
        connection: Connection,
        on_room: Callable[["ClientSession"], None] = lambda session: None,
        memory: ClientMemory | None = None,
    ) -> None:
        self.answers: list[Struct] = []
        self._connection = connection
        self._on_room = on_room
        self._unsent = connection.outgoing.unsent
        self.room = MOST_UNSENT_BYTES
        """Bytes of answers to reads that may be made before the next flush; if none are left, reads are deferred."""
        self._deferred = DeferredReads()
        self._has_waited = False
        """Whether it resumes because others have received their answers; it shares that room with others that wait."""
        self._in_flight = 0
        self._memory = ClientMemory() if memory is None else memory
        self.held_bytes = self.since = 0
        self._pending_bytes = self._asked_bytes = self._counted_unsent_bytes = 0
        """The bytes that it occupies: an incomplete line, requests in flight, answers as last counted."""
        self._reading = trio.CancelScope()
        self._refusal: BargeError | None = None
        self._room = trio.Event()
        self._is_open = True
        self.was_active = True
        """Set by each request, reset by ClientPlaces when it searches for idle clients."""
        connection.outgoing.on_room = self._has_sent

    async def serve(self, greeted: Greeted, submit: Submit, poller: Poller) -> None:
        """Read requests until the client disconnects; a malformed line ends the connection after one error line."""
        reader = greeted.reader

        def take(data: bytes) -> trio.Event | None:
            if not self._is_open:
                return None
            before = self._pending_bytes
            lines = reader.feed(data)
            after = self._pending_bytes = reader.pending_bytes
            if lines:
                return self._take(lines, before + len(data) - after, submit)
            if not before:
                self.since = self._memory.clock  # an idle client has not held this line all the time
            self._count()
            return None

        self._memory.enter(self)
        try:
            with self._reading:
                if greeted.lines:
                    room = self._take(greeted.lines, sum(map(len, greeted.lines)), submit)
                    poller.wake()
                    if room is not None:
                        await room.wait()
                await poller.read(self._connection, take)
            if self._refusal is not None:
                self._say(self._refusal)
        except (MalformedLine, LineTooLong) as problem:
            self._say(BargeError("bad_request", str(problem)))
        finally:
            reader.clear()
            self._end()
            self._connection.outgoing.on_room = self._count

    def refuse(self) -> None:
        """End the connection: all clients together exceed the budget, and this one has occupied the most for the longest."""
        self._end()
        if self._unsent:
            self._connection.abort()  # it does not read: no error line would reach it
        else:
            detail = "the clients of this process occupy too much memory, and this connection has the most for the longest"
            self._refusal = BargeError("overloaded", detail)
            self._reading.cancel()

    def resume(self) -> None:
        """See `replica.sessions.Session`."""
        self._has_waited = True
        self._on_room(self)

    @property
    def taken_bytes(self) -> int | None:
        """See `memory.Holder`."""
        if not self._unsent:
            return None
        return self._connection.outgoing.pushed_bytes - self._connection.kernel_bytes()

    def _end(self) -> None:
        """Stop reading the connection and executing reads; requests in flight may still be applied."""
        self._is_open, self.room, self._pending_bytes = False, 0, 0
        self._deferred.end()
        self._memory.leave(self)
        self._count()

    def _say(self, error: BargeError) -> None:
        self.flush()
        self._connection.post(_encode(ErrorAnswer.of(None, error)) + b"\n")

    def _count(self) -> None:
        """Update this client's share of the budget."""
        unsent = len(self._unsent)
        held = self._pending_bytes + self._asked_bytes + unsent
        if held != self.held_bytes or unsent != self._counted_unsent_bytes:
            more, self._counted_unsent_bytes = unsent - self._counted_unsent_bytes, unsent
            self._memory.change(self, held - self.held_bytes, more)

    def close(self) -> None:
        """Close the connection; its requests may still be applied."""
        self._connection.close()

    def defer(self, ticket: Ticket) -> None:
        """See `replica.sessions.Session`."""
        if self._deferred.add(ticket):
            self.room = 0  # later reads wait behind this one
            self._wait_for_room()

    def take_deferred(self) -> Iterable[Ticket]:
        """See `replica.sessions.Session`."""
        answers = self._memory.answers
        self.room = MOST_UNSENT_BYTES - len(self._unsent)
        if answers.waiting or self._has_waited:
            self.room = 0 if self._unsent else 1  # one answer each, while others wait
        self._has_waited = False
        yield from self._deferred.take_while(lambda: self.room > 0 and answers.free > 0)
        if self._deferred:
            self.room = 0
            self._wait_for_room()

    def _wait_for_room(self) -> None:
        """Resume when others have received their answers; if its own are unreceived, it resumes when they are received."""
        answers = self._memory.answers
        if answers.free <= 0 and not self._unsent:
            answers.waiting[self] = None

    def flush(self) -> None:
        """Send the queued answers in one call."""
        answers = self.answers
        if answers:
            before, self._in_flight = self._in_flight, self._in_flight - len(answers)
            self._asked_bytes = self._asked_bytes * self._in_flight // before if before else 0
            lines = _encode_lines(answers)
            self._connection.post(lines if len(lines) <= LINE_BYTES else _bounded_lines(answers))
            answers.clear()
            unsent = len(self._unsent)
            self.room = MOST_UNSENT_BYTES - unsent if self._is_open else 0
            if unsent > CUT_BYTES:
                self._connection.abort()
            if self._deferred:  # later reads are queued after these
                if self.room > 0:
                    self._on_room(self)
                self.room = 0
            if not unsent:
                self.since = self._memory.clock
            self._count()
        if self._may_be_read():
            self._room.set()

    def _may_be_read(self) -> bool:
        return (
            self._in_flight <= MOST_IN_FLIGHT and self._asked_bytes <= MOST_ASKED_BYTES and len(self._unsent) <= MOST_UNSENT_BYTES
        )

    def _has_sent(self) -> None:
        """Handle room in the connection's buffer, or its end."""
        self.since = self._memory.clock
        self._count()
        if self._deferred:
            self._on_room(self)
        else:
            self.room = MOST_UNSENT_BYTES - len(self._unsent)
        if self._may_be_read():
            self._room.set()

    def _take(self, lines: list[bytes], size: int, submit: Submit) -> trio.Event | None:
        """Submit the valid requests before the first malformed line, then its error; return an event if reading must wait.

        `size` is that of the lines in bytes.
        """
        self.was_active = True
        self._asked_bytes += size
        malformed: MalformedLine | None = None
        requests = decode_requests(lines)
        if requests is None:
            requests, malformed = self._take_each(lines)
        self._in_flight += len(requests)
        self._asked_bytes += REQUEST_BYTES * len(requests)
        if not self._unsent:
            self.since = self._memory.clock
        self._count()
        writes: list[Write] = []
        reads: list[Read] = []
        for request in requests:
            if is_write(request):
                writes.append(request)
            else:
                reads.append(request)
        if requests:
            submit(self, Batch(writes, [encode_command(write) for write in writes], reads, size))
        if malformed is not None:
            raise malformed
        if self._may_be_read():
            return None
        self._room = trio.Event()
        return self._room

    def _take_each(self, lines: list[bytes]) -> tuple[list[Request], MalformedLine | None]:
        """Return the valid requests up to the first malformed line, and that line's error; answer the bad requests."""
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
    return b"".join([_encode(bounded(answer)) + b"\n" for answer in answers])


def bounded(answer: Struct) -> Struct:
    """Return the answer, or an error in its place if it exceeds a line: that would end the connection."""
    if isinstance(answer, (GetAnswer, ListAnswer)) and (size := len(_encode(answer))) > LINE_BYTES:
        detail = f"the answer has {size} bytes, and a line {LINE_BYTES} at most: ask for fewer keys"
        return ErrorAnswer.of(answer.id, BargeError("bad_request", detail))
    return answer
