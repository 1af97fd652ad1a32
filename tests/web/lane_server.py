"""A server with a fast lane in front of a cluster of one dictionary."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
from msgspec import UNSET

from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.requests import Delete, DeleteAnswer, Get, GetAnswer, Put, PutAnswer, Request
from bargetrio.protocol.views import LeaderView
from bargetrio.web.app import make_app
from bargetrio.web.fast_lane import FastLane
from bargetrio.web.guard import hosts_of
from bargetrio.web.server import WebServer, bind
from tests.web.serving import Each


class Counting(Each):
    """A cluster of one dictionary. `by` says which lane has executed what; a key `slow` takes as long as `seconds` says."""

    cluster_name = "barge"

    def __init__(self) -> None:
        self.by: list[str] = []
        self.keys: dict[str, tuple[str, int]] = {}
        self.index = 0
        self.seconds = 0.0

    @property
    def local(self) -> "Counting":
        """Its own nodes are all there are."""
        return self

    def known_leader(self) -> LeaderView:
        """Node 1 leads."""
        return LeaderView(leader=1, term=2, address="127.0.0.1:1")

    async def execute(self, request: Request) -> Any:
        """By hypercorn."""
        self.by.append("hypercorn")
        return self.do(request)

    async def execute_many(self, requests: Any) -> list[Any]:
        """By the lane."""
        if any(request.key == "slow" for request in requests):
            await trio.sleep(self.seconds)
        self.by += ["lane"] * len(requests)
        return [self.do(request) for request in requests]

    def do(self, request: Request) -> Any:
        """Execute one."""
        value, index = self.keys.get(getattr(request, "key", ""), ("", 0))
        match request:
            case Put():
                self.index += 1
                self.keys[request.key] = request.value or "", self.index
                return PutAnswer(id=0, key=request.key, index=self.index, term=2, created=True if not index else UNSET)
            case Delete():
                self.index += 1
                self.keys.pop(request.key, None)
                return DeleteAnswer(id=0, key=request.key, index=self.index, term=2, deleted=index > 0)
            case Get():
                return GetAnswer(id=0, key=request.key, index=index, value=value if index else None)
            case _:
                raise BargeError("bad_request", "not here")


class Server:
    """A server with a lane."""

    def __init__(self, cluster: Counting, lane: FastLane, web: WebServer, port: int, nursery: trio.Nursery) -> None:
        self.cluster = cluster
        self.web = web
        self.lane = lane
        self.port = port
        self.nursery = nursery

    async def open(self) -> trio.SocketStream:
        """Connect."""
        return await trio.open_tcp_stream("127.0.0.1", self.port)

    def request(self, method: str, target: str, body: str | None = None, *headers: str) -> bytes:
        """Return the bytes of a request."""
        lines = [f"{method} {target} HTTP/1.1", f"Host: 127.0.0.1:{self.port}", *headers]
        if body is not None:
            lines += ["Content-Type: text/plain", f"Content-Length: {len(body)}"]
        return ("\r\n".join(lines) + "\r\n\r\n" + (body or "")).encode()


@asynccontextmanager
async def serving(seconds: float = 20.0, most: int = 256, most_in_lane: int = 2_000) -> AsyncIterator[Server]:
    """Serve; at the end nothing is held, unsent or in flight."""
    cluster: Any = Counting()
    sock = bind("127.0.0.1", 0)
    port = sock.getsockname()[1]
    app = make_app(cluster, hosts=hosts_of([f"127.0.0.1:{port}"], ()), token=None)
    lane = FastLane(cluster, app)
    server = WebServer(app, sock, most, lane=lane, most_in_lane=most_in_lane)
    with trio.fail_after(seconds):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.run)
            yield Server(cluster, lane, server, port, nursery)
            while server.connections() or lane.in_flight:
                await trio.sleep(0.01)
            assert (lane.held_bytes, lane.unsent_bytes, lane.in_flight, app.in_flight) == (0, 0, 0, 0)
            nursery.cancel_scope.cancel()


async def answers(stream: trio.SocketStream, count: int) -> list[tuple[int, bytes]]:
    """Read so many answers; return (status, body)."""
    found: list[tuple[int, bytes]] = []
    data = b""
    while len(found) < count:
        head, end, rest = data.partition(b"\r\n\r\n")
        length = 0
        if end:
            for line in head.split(b"\r\n")[1:]:
                name, _, value = line.partition(b":")
                length = int(value) if name.lower() == b"content-length" else length
        if not end or len(rest) < length:
            piece = await stream.receive_some()
            assert piece, f"closed after {found} and {data[:200]!r}"
            data += piece
            continue
        found.append((int(head.split()[1]), rest[:length]))
        data = rest[length:]
    assert not data
    return found
