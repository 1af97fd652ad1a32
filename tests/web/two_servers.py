"""Two servers in front of equal clusters, one with a fast lane and one without, and what both answer to the same bytes.

They listen on Unix sockets, in virtual time: what is sent has arrived when `send` returns, so that "all tasks are blocked" means
"all is answered", and no test waits for a time or races with the network.
"""

import os
import random
import re
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, Final, cast

import msgspec
import trio
from msgspec import Struct
from trio.testing import wait_all_tasks_blocked

from bargetrio.cluster.cluster import Cluster
from bargetrio.kv.commands import encode_command
from bargetrio.kv.store import ConditionFailed, Removed, Store, Written
from bargetrio.protocol.errors import BargeError, ErrorCode
from bargetrio.protocol.requests import Delete, DeleteAnswer, Get, GetAnswer, List, ListAnswer, Put, PutAnswer
from bargetrio.protocol.views import LeaderView
from bargetrio.web.app import make_app
from bargetrio.web.fast_lane import FastLane
from bargetrio.web.guard import Guard
from bargetrio.web.server import WebServer
from tests.web.serving import Each

HOST: Final = "barge.test"
TOKEN: Final = b"secret"
SILENT_S: Final = 3.0
"""After so much virtual time a server says no more: it is longer than PARTIAL_S of the lane, and shorter than any keep-alive."""
ERRORS: Final[dict[str, ErrorCode]] = {
    "fails/busy": "overloaded",
    "fails/alone": "no_leader",
    "fails/unknown": "outcome_unknown",
    "fails/disk": "storage_failed",
}
"""What the cluster raises for these keys."""
NO_BODY: Final = (204, 304)
DATE: Final = re.compile(rb"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT")


class StoreCluster(Each):
    """A cluster of the product's store: a request waits some turns, and is then done at once; the turns are random by seed."""

    cluster_name = "barge"

    def __init__(self) -> None:
        self.clear(0)

    def clear(self, seed: int) -> None:
        """Begin anew."""
        self.store = Store()
        self.batches = 0
        self.done: list[Any] = []
        """What was executed, in order."""
        self._random = random.Random(seed)

    @property
    def local(self) -> "StoreCluster":
        """Its own nodes are all there are."""
        return self

    def known_leader(self) -> LeaderView:
        """Node 1 leads."""
        return LeaderView(leader=1, term=2, address="127.0.0.1:1")

    async def execute(self, request: Any) -> Any:
        """Execute one."""
        await self._wait()
        return self._do(request)

    async def execute_many(self, requests: Sequence[Any]) -> list[Any]:
        """Execute each, in order, at one moment, as the entries of a batch are."""
        self.batches += 1
        await self._wait()
        outcomes: list[Any] = []
        for request in requests:
            try:
                outcomes.append(self._do(request))
            except BargeError as error:
                outcomes.append(error)
        return outcomes

    async def _wait(self) -> None:
        for _ in range(self._random.randrange(8)):
            await trio.lowlevel.checkpoint()

    def _do(self, request: Any) -> Any:
        self.done.append(request)
        if isinstance(request, List):
            items, following = self.store.items(request.prefix, request.after, request.limit, keys_only=request.keys_only)
            return ListAnswer(id=0, items=items, next=following, index=self.store.last_index)
        if request.key in ERRORS:
            raise BargeError(ERRORS[request.key], "as the test has it")
        if isinstance(request, Get):
            stored = self.store.get(request.key)
            if stored is None:
                return GetAnswer(id=0, key=request.key, index=0)
            if stored.is_b64:
                return GetAnswer(id=0, key=request.key, index=stored.index, value_b64=stored.value)
            return GetAnswer(id=0, key=request.key, index=stored.index, value=stored.value)
        assert isinstance(request, Put | Delete)
        index = self.store.last_index + 1
        match self.store.apply(encode_command(request), index):
            case Written(key, created):
                return PutAnswer(id=0, key=key, index=index, term=2, created=created or msgspec.UNSET)
            case Removed(key, deleted):
                return DeleteAnswer(id=0, key=key, index=index, term=2, deleted=deleted)
            case ConditionFailed(_, detail):
                raise BargeError("precondition_failed", detail)
            case other:
                raise AssertionError(other)


class Answer(Struct, frozen=True):
    """One answer; headers in alphabetical order, without `date`."""

    line: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    @property
    def status(self) -> int:
        """Return the status."""
        return int(self.line.split()[1])


class Exchange(Struct, frozen=True):
    """All that was answered on one connection, and whether the server kept it open ("open", "closed" or "reset")."""

    answers: tuple[Answer, ...]
    end: str

    @property
    def statuses(self) -> list[int]:
        """Return the status of each answer."""
        return [answer.status for answer in self.answers]


class Server:
    """One of the two; `guard` counts what it answered."""

    def __init__(self, path: str, cluster: StoreCluster, guard: Guard, lane: FastLane | None) -> None:
        self.path = path
        self.cluster = cluster
        self.guard = guard
        self.lane = lane

    async def exchange(self, *pieces: bytes, **options: Any) -> Exchange:
        """As `talk`, over HTTP/1.1."""
        received, end = await self.talk(*pieces, **options)
        return Exchange(tuple(answers_in(received)), end)

    async def talk(
        self, *pieces: bytes, half_close: bool = False, reads_late: bool = False, pause_s: float = 0.0, then: bytes = b""
    ) -> tuple[bytes, str]:
        """Send the pieces, each when all that came before has been dealt with and `pause_s` later; return what is received.

        `half_close`: the last piece ends what is sent. `reads_late`: nothing is received before all is sent. `then` is sent when
        the server has been silent for SILENT_S; its answer is among the others.
        """
        received: list[bytes] = []
        end = "open"
        with socket.socket(socket.AF_UNIX) as plain:
            plain.setblocking(False)
            sock = trio.socket.from_stdlib_socket(plain)
            await sock.connect(self.path)

            async def read() -> None:
                nonlocal end
                try:
                    while data := await sock.recv(1 << 20):
                        received.append(data)
                    end = "closed"
                except ConnectionResetError:
                    end = "reset"

            async def send(data: bytes) -> None:
                with suppress(BrokenPipeError, ConnectionResetError):
                    while data:
                        data = data[await sock.send(data) :]

            async def is_silent() -> None:
                """Wait until nothing was received for a while, or the connection has ended."""
                count = -1
                while count != len(received) and end == "open":
                    count = len(received)
                    await trio.sleep(SILENT_S)

            async with trio.open_nursery() as nursery:
                if not reads_late:
                    nursery.start_soon(read)
                for number, piece in enumerate(pieces, 1):
                    await send(piece)
                    if half_close and number == len(pieces):
                        with suppress(OSError):
                            sock.shutdown(socket.SHUT_WR)
                    await wait_all_tasks_blocked()
                    if pause_s:
                        await trio.sleep(pause_s)
                if reads_late:
                    nursery.start_soon(read)
                await is_silent()
                if then and end == "open":
                    await send(then)
                    await is_silent()
                nursery.cancel_scope.cancel()
        await wait_all_tasks_blocked()
        return b"".join(received), end

    async def leave(self, data: bytes) -> None:
        """Send the bytes, close the connection at once, and wait until the server is at rest."""
        with trio.socket.socket(socket.AF_UNIX) as sock:
            await sock.connect(self.path)
            await sock.send(data)
        await trio.sleep(SILENT_S)


class TwoServers:
    """`lane` has a fast lane, `plain` has not."""

    def __init__(self, lane: Server, plain: Server) -> None:
        self.lane = lane
        self.plain = plain

    def check_state(self) -> None:
        """Compare stores, the order of writes, and what was counted."""
        ours, theirs = self.lane.cluster, self.plain.cluster
        assert (dict(ours.store.stored), ours.store.last_index) == (dict(theirs.store.stored), theirs.store.last_index)
        assert ours.done == theirs.done
        assert self.lane.guard.figures.requests == self.plain.guard.figures.requests

    async def same(self, *pieces: bytes, **options: Any) -> Exchange:
        """Have the same bytes answered by both, compare answers and state, and return the answers."""
        ours = await self.lane.exchange(*pieces, **options)
        theirs = await self.plain.exchange(*pieces, **options)
        assert ours == theirs
        self.check_state()
        return ours


@asynccontextmanager
async def two_servers(folder: Path, *, token: bytes | None = None, seed: int = 0) -> AsyncIterator[TwoServers]:
    """Run both; at the end neither holds anything."""
    async with AsyncExitStack() as stack:
        lane = await stack.enter_async_context(_serve(folder / "lane", has_lane=True, token=token, seed=seed))
        plain = await stack.enter_async_context(_serve(folder / "plain", has_lane=False, token=token, seed=seed))
        yield TwoServers(lane, plain)


@cache
def _application(has_lane: bool, token: bytes | None) -> tuple[StoreCluster, Guard]:
    """Made once: the framework's routes take longer than a test."""
    cluster = StoreCluster()
    return cluster, make_app(cast(Cluster, cluster), hosts=frozenset({HOST}), token=token)


@asynccontextmanager
async def _serve(path: Path, *, has_lane: bool, token: bytes | None, seed: int) -> AsyncIterator[Server]:
    cluster, guard = _application(has_lane, token)
    cluster.clear(seed)
    guard.figures.requests.clear()
    lane = FastLane(cast(Cluster, cluster), guard) if has_lane else None
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(os.fspath(path))
    listener.listen(16)
    web = WebServer(cast(Any, guard), listener, lane=lane)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(web.run)
        await wait_all_tasks_blocked()
        yield Server(os.fspath(path), cluster, guard, lane)
        await trio.sleep(SILENT_S)
        assert (web.connections(), guard.in_flight) == (0, 0)
        if lane is not None:
            assert (lane.held_bytes, lane.unsent_bytes, lane.in_flight) == (0, 0, 0)
        nursery.cancel_scope.cancel()


def answers_in(received: bytes) -> list[Answer]:
    """Return the answers. One with a length that is followed by another at once, or by nothing, is without a body (HEAD)."""
    found = []
    while received:
        top, end, received = received.partition(b"\r\n\r\n")
        assert end, top
        line, *lines = top.split(b"\r\n")
        headers = []
        for each in lines:
            name, _, value = each.partition(b": ")
            headers.append((name, value))
        body = b""
        status = int(line.split()[1])
        told = dict(headers)
        if status >= 200 and status not in NO_BODY and received and not received.startswith(b"HTTP/1.1 "):
            if told.get(b"transfer-encoding") == b"chunked":
                while size := int(received[: received.index(b"\r\n")], 16):
                    _, _, received = received.partition(b"\r\n")
                    body, received = body + received[:size], received[size + 2 :]
                received = received[5:]
            else:
                length = int(told[b"content-length"])
                body, received = received[:length], received[length:]
                assert len(body) == length, "an answer is cut off"
        dates = [value for name, value in headers if name == b"date"]
        assert status < 200 or (len(dates) == 1 and re.fullmatch(rb"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", dates[0])), (
            headers
        )
        rest = sorted(pair for pair in headers if pair[0] != b"date")
        found.append(Answer(line, tuple(rest), body))
    return found


def request(
    method: str, target: str, *lines: str | bytes, body: bytes = b"", version: str = "HTTP/1.1", host: str = HOST
) -> bytes:
    """Return a request; Host is first among its headers ("" for none), and Content-Length last if there is a body."""
    head = [f"{method} {target} {version}".encode()]
    if host:
        head.append(f"Host: {host}".encode())
    head += [line.encode() if isinstance(line, str) else line for line in lines]
    if body and not any(re.match(rb"(?i)content-length|transfer-encoding", line) for line in head):
        head.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(head) + b"\r\n\r\n" + body


PLAIN: Final = "Content-Type: text/plain"
JSON: Final = "Content-Type: application/json"
PROBE: Final = request("GET", "/keys/kept")


def put(key: str, value: bytes | str = b"v", *lines: str | bytes) -> bytes:
    """Return a write of a raw value."""
    return request("PUT", f"/keys/{key}", PLAIN, *lines, body=value.encode() if isinstance(value, str) else value)


def get(key: str, *lines: str | bytes) -> bytes:
    """Return a read."""
    return request("GET", f"/keys/{key}", *lines)


def delete(key: str, *lines: str | bytes) -> bytes:
    """Return a removal."""
    return request("DELETE", f"/keys/{key}", *lines)
