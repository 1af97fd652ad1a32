"""`POST /keys` with application/x-ndjson: a line in, a line out, streamed both ways, so many at a time.

Plain ASGI beside the framework, because a stream needs back-pressure: the framework's request body takes whatever comes, while
here a client that sends faster than the cluster commits waits at its socket. A bad line is answered and spoils no other.
"""

from typing import Any, Final

import msgspec
import trio

from bargetrio.cluster.port import Cluster
from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.limits import LINE_BYTES
from bargetrio.protocol.lines import LineReader, LineTooLong
from bargetrio.protocol.requests import PutAnswer
from bargetrio.web.bodies import put_of_key_body
from bargetrio.web.guard import Receive, Scope, Send

IN_FLIGHT: Final = 256
"""Lines of one request that wait for their answer."""

_encode: Final = msgspec.json.Encoder().encode


def is_bulk(scope: Scope) -> bool:
    """Return whether this request is a bulk write."""
    if scope["method"] != "POST" or scope["path"] != "/keys":
        return False
    kinds = [value for name, value in scope["headers"] if name == b"content-type"]
    return bool(kinds) and kinds[0].partition(b";")[0].strip().lower() == b"application/x-ndjson"


class Bulk:
    """One bulk write."""

    def __init__(self, cluster: Cluster, receive: Receive, send: Send) -> None:
        self._cluster = cluster
        self._receive = receive
        self._send = send
        self._room = trio.Semaphore(IN_FLIGHT)
        self._sending = trio.Lock()
        self._answers: list[bytes] = []
        self._last_line = 0

    async def run(self) -> None:
        """Answer every line; the connection's end cancels what still waits (its outcome is then unknown to the client)."""
        headers = [(b"content-type", b"application/x-ndjson")]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        async with trio.open_nursery() as nursery:
            await self._read(nursery)
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _read(self, nursery: trio.Nursery) -> None:
        """Begin every line of the body, to its end, to the client's end, or to a line that is too long."""
        reader = LineReader(LINE_BYTES)
        while True:
            message = await self._receive()
            if message["type"] != "http.request":
                nursery.cancel_scope.cancel()
                return
            data, more = message.get("body", b""), message.get("more_body", False)
            try:
                lines = reader.feed(data if more else data + b"\n")
            except LineTooLong as problem:
                self._last_line += 1
                error = BargeError("bad_request", str(problem), status=413)
                nursery.start_soon(self._answer, {"line": self._last_line, **_problem(error)})
                return
            for line in lines:
                await self._begin(nursery, line)
            if not more:
                return

    async def _begin(self, nursery: trio.Nursery, line: bytes) -> None:
        self._last_line += 1
        if not line.strip():
            return
        await self._room.acquire()
        nursery.start_soon(self._one, self._last_line, line)

    async def _one(self, number: int, line: bytes) -> None:
        try:
            try:
                answer = await self._cluster.execute(put_of_key_body(line))
                assert isinstance(answer, PutAnswer)
                fields: dict[str, Any] = {"ok": True, "key": answer.key, "index": answer.index, "term": answer.term}
            except BargeError as error:
                fields = _problem(error)
            await self._answer({"line": number, **fields})
        finally:
            self._room.release()

    async def _answer(self, fields: dict[str, Any]) -> None:
        """Send the answer, together with those that came while another was being sent."""
        self._answers.append(_encode(fields))
        async with self._sending:
            if self._answers:
                self._answers.append(b"")
                body = b"\n".join(self._answers)
                self._answers.clear()
                await self._send({"type": "http.response.body", "body": body, "more_body": True})


def _problem(error: BargeError) -> dict[str, Any]:
    return {"ok": False, "error": error.code, "detail": error.detail, "applied": error.applied}
