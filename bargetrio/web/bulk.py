"""`POST /keys` with application/x-ndjson: one answer line per line, streamed in both directions, in batches.

Plain ASGI beside the framework, for back-pressure: the framework's request body buffers without bound, while here a client that
sends faster than the cluster commits is blocked at its socket. Lines received together are forwarded to the leader in one batch,
and answered together. A bad line is answered with an error, and does not affect others.
"""

from collections.abc import Iterator
from typing import Final

import msgspec
import trio

from bargetrio.cluster.cluster import Cluster
from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.limits import LINE_BYTES
from bargetrio.protocol.lines import LineReader, LineTooLong
from bargetrio.protocol.requests import Put, PutAnswer
from bargetrio.web.bodies import put_of_key_body
from bargetrio.web.guard import TRANSFER_GRACE_S, Receive, Send
from bargetrio.web.metrics import WebCounters
from bargetrio.web.places import BYTES_PER_S

BATCHES: Final = 16
BATCH_LINES: Final = 500
"""Most lines of a batch, and most batches of one request in flight; above it the client is not read."""
BATCH_BYTES: Final = 1024 * 1024
WAITING_BYTES: Final = 4 * 1024 * 1024
"""The same in bytes of the lines: of a batch, or one longer line, and of all that wait."""
ANSWER_BYTES: Final = 16 * 1024 * 1024
"""Answers in bytes that wait for a client that sends first and reads later; above it the client is not read."""
ALL_ANSWER_BYTES: Final = 64 * 1024 * 1024
"""The same of all bulk writes of a process: beyond it a client is read while none of its own answers waits."""
SEND_BYTES: Final = 256 * 1024
"""Bytes of answers that are sent together."""

_encode: Final = msgspec.json.Encoder().encode


class BulkMemory:
    """Bytes of answers that wait to be sent, of all bulk writes of a process."""

    def __init__(self) -> None:
        self.used_bytes = 0
        self._has_less = trio.Event()

    async def wait(self) -> None:
        """Wait until some bulk write holds less than before."""
        await self._has_less.wait()

    def release(self, size: int) -> None:
        """Subtract bytes of answers, and wake the requests that wait for room."""
        self.used_bytes -= size
        self._has_less.set()
        self._has_less = trio.Event()


class BulkWrite:
    """One bulk write; `memory` is that of all of the process."""

    def __init__(self, cluster: Cluster, figures: WebCounters, memory: BulkMemory, receive: Receive, send: Send) -> None:
        self._cluster = cluster
        self._figures = figures
        self._receive = receive
        self._send = send
        self._room = trio.Semaphore(BATCHES)
        self._memory = memory
        self._waiting_bytes = 0
        self._answers = bytearray()
        """Lines of answers that are not sent yet."""
        self._answered_bytes = 0
        """The same with the piece that is being sent: this request's share of the memory."""
        self._has_answers = trio.Event()
        self._is_answered = False
        """Whether no more answers are added."""

    async def run(self) -> None:
        """Answer every line. The end of the connection cancels requests in flight: their outcome is unknown to the client."""
        headers = [(b"content-type", b"application/x-ndjson"), (b"x-accel-buffering", b"no")]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._send_answers)
                async with trio.open_nursery() as executing:
                    if not await self._read(executing):
                        nursery.cancel_scope.cancel()
                self._is_answered = True
                self._has_answers.set()
        finally:
            self._memory.release(self._answered_bytes)
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _read(self, executing: trio.Nursery) -> bool:
        """Start all lines of the body, up to its end or a line that is too long; return False if the client has disconnected."""
        reader = LineReader(LINE_BYTES)
        next_line = 1
        more = True
        behind_s = 0.0
        while more:
            began = trio.current_time()
            with trio.move_on_after(TRANSFER_GRACE_S - behind_s) as waiting:
                message = await self._receive()
            if waiting.cancelled_caught:
                detail = f"the next line did not come: {BYTES_PER_S // 1024} KiB/s, and {TRANSFER_GRACE_S:g} s, are waited for"
                error = BargeError("bad_request", detail, status=408)
                self._add([self._problem(next_line, error)])
                return True
            behind_s = max(0.0, behind_s + trio.current_time() - began - len(message.get("body", b"")) / BYTES_PER_S)
            if message["type"] != "http.request":
                return False
            data, more = message.get("body", b""), message.get("more_body", False)
            try:
                lines = reader.feed(data if more else data + b"\n")
            except LineTooLong as problem:
                error = BargeError("bad_request", str(problem), status=413)
                self._add([self._problem(next_line, error)])
                return True
            for batch, size in batches_of(lines):
                await self._room.acquire()
                while self._must_wait(size):
                    await self._memory.wait()
                self._waiting_bytes += size
                executing.start_soon(self._execute, next_line, batch, size)
                next_line += len(batch)
        return True

    def _must_wait(self, size: int) -> bool:
        """Return whether a batch of `size` bytes must wait: too much is under way, or too many answers are not received."""
        answered, waiting = self._answered_bytes, self._waiting_bytes
        takes_no_answers = answered >= ANSWER_BYTES or (answered > 0 and self._memory.used_bytes >= ALL_ANSWER_BYTES)
        return takes_no_answers or (waiting > 0 and waiting + size > WAITING_BYTES)

    async def _execute(self, first_line: int, lines: list[bytes], size: int) -> None:
        """Execute a batch of lines, and answer each; empty lines are ignored."""
        try:
            numbers: list[int] = []
            puts: list[Put] = []
            answers: list[bytes] = []
            for number, line in enumerate(lines, first_line):
                if not line or line.isspace():
                    continue
                try:
                    puts.append(put_of_key_body(line))
                    numbers.append(number)
                except BargeError as error:
                    answers.append(self._problem(number, error))
            if puts:
                outcomes = await self._cluster.execute_many(puts)
                answers += [self._line_of(number, outcome) for number, outcome in zip(numbers, outcomes, strict=True)]
            self._add(answers)
        finally:
            self._room.release()
            self._waiting_bytes -= size
            self._memory.release(0)

    def _add(self, answers: list[bytes]) -> None:
        """Queue lines of answers for `_send_answers`, and count them."""
        before = len(self._answers)
        for answer in answers:
            self._answers += answer
            self._answers += b"\n"
        added = len(self._answers) - before
        self._answered_bytes += added
        self._memory.used_bytes += added
        self._has_answers.set()

    async def _send_answers(self) -> None:
        """Send answers as they become available, those that arrive during a send together; they count until they are sent."""
        answers = self._answers
        while answers or not self._is_answered:
            if not answers:
                self._has_answers = trio.Event()
                await self._has_answers.wait()
                continue
            body = bytes(answers[:SEND_BYTES])
            del answers[:SEND_BYTES]
            await self._send({"type": "http.response.body", "body": body, "more_body": True})
            self._answered_bytes -= len(body)
            self._memory.release(len(body))

    def _line_of(self, number: int, outcome: object) -> bytes:
        if isinstance(outcome, BargeError):
            return self._problem(number, outcome)
        assert isinstance(outcome, PutAnswer)
        self._figures.bulk_lines["ok"] += 1
        return _encode({"line": number, "ok": True, "key": outcome.key, "index": outcome.index, "term": outcome.term})

    def _problem(self, number: int, error: BargeError) -> bytes:
        self._figures.bulk_lines[error.code] += 1
        return _encode({"line": number, "ok": False, "error": error.code, "detail": error.detail, "applied": error.applied})


def batches_of(lines: list[bytes]) -> Iterator[tuple[list[bytes], int]]:
    """Yield the lines in their order, BATCH_LINES at most together, and BATCH_BYTES or one longer line; each with its bytes."""
    first = size = 0
    for place, line in enumerate(lines):
        if place - first == BATCH_LINES or (place > first and size + len(line) > BATCH_BYTES):
            yield lines[first:place], size
            first, size = place, 0
        size += len(line)
    if first < len(lines):
        yield lines[first:], size
