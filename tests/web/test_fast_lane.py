"""Which lane answers a request, in which order, and what slow clients and many of them may cost."""

import json
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from msgspec import UNSET

from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.requests import Delete, DeleteAnswer, Get, GetAnswer, Put, PutAnswer, Request
from bargetrio.protocol.views import LeaderView
from bargetrio.web import fast_lane, plain_requests
from bargetrio.web import server as server_module
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

    def __init__(self, cluster: Counting, lane: FastLane, port: int, nursery: trio.Nursery) -> None:
        self.cluster = cluster
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
            yield Server(cluster, lane, port, nursery)
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


async def test_requests_for_a_key_are_answered_in_the_lane_and_all_others_by_hypercorn() -> None:
    """On one connection, in turns; none pins it to hypercorn."""
    async with serving() as server:
        stream = await server.open()
        for method, target, body, headers, status, lane in [
            ("PUT", "/keys/a", "1", (), 201, "lane"),
            ("GET", "/keys/a", None, (), 200, "lane"),
            ("GET", "/keys/a?read=stale", None, ("Connection: keep-alive",), 200, "lane"),
            ("GET", "/keys/none", None, (), 404, "lane"),
            ("PUT", "/keys/a", "2", ("Expect: 100-continue",), 200, "hypercorn"),
            ("GET", "/keys/a", None, (), 200, "lane"),
            ("GET", "/livez", None, (), 200, ""),
            ("PUT", "/keys/" + "k" * 2000, "1", (), 400, ""),
            ("GET", "/keys/a?read=never", None, (), 400, ""),
            ("PUT", "/keys/b", "x" * (plain_requests.BODY_BYTES + 1), (), 201, "hypercorn"),
            ("PUT", "/keys/b", "x" * plain_requests.BODY_BYTES, (), 200, "lane"),
            ("DELETE", "/keys/b", None, (), 204, "lane"),
            ("HEAD", "/livez", None, (), 200, ""),
        ]:
            before = len(server.cluster.by)
            await stream.send_all(server.request(method, target, body, *headers))
            if method == "HEAD":
                assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")
                continue
            found = await answers(stream, 2 if "Expect: 100-continue" in headers else 1)
            assert found[-1][0] == status, (method, target[:20], found)
            assert server.cluster.by[before:] == ([lane] if lane else []), (method, target[:20])
        await stream.aclose()


async def test_pipelined_requests_are_executed_and_answered_in_their_order() -> None:
    """Of both lanes; a read sees the write before it."""
    async with serving() as server:
        stream = await server.open()
        wanted: list[tuple[int, str]] = []
        data = b""
        for number in range(100):
            data += server.request("PUT", "/keys/a", str(number)) + server.request("GET", "/keys/a", None, "Accept: text/plain")
            wanted += [(200 if number else 201, ""), (200, str(number))]
            if number % 7 == 3:
                data += server.request("GET", "/livez")
                wanted.append((200, ""))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, data)
            found = await answers(stream, len(wanted))
        assert [
            (status, body.decode() if text else "") for (status, body), (_, text) in zip(found, wanted, strict=True)
        ] == wanted
        await stream.aclose()


async def test_who_sends_no_more_gets_all_answers() -> None:
    """A client that shuts its direction down after its requests, as `nc -N` does."""
    async with serving() as server:
        server.cluster.seconds = 0.1
        stream = await server.open()
        await stream.send_all(server.request("PUT", "/keys/slow", "1") + server.request("GET", "/keys/slow"))
        await stream.send_eof()
        assert [status for status, _ in await answers(stream, 2)] == [201, 200]
        assert await stream.receive_some() == b""
        await stream.aclose()


async def test_a_request_that_does_not_come_whole_is_hypercorns(monkeypatch: pytest.MonkeyPatch) -> None:
    """After PARTIAL_S, with the bytes that came; then the connection is the lane's again."""
    monkeypatch.setattr(fast_lane, "PARTIAL_S", 0.1)
    monkeypatch.setattr(fast_lane, "SWEEP_S", 0.02)
    async with serving() as server:
        stream = await server.open()
        data = server.request("PUT", "/keys/a", "value")
        for cut in (4, len(data) - 8, len(data) - 2):
            await stream.send_all(data[:cut])
            await trio.sleep(0.3)
            assert server.lane.held_bytes == 0
            await stream.send_all(data[cut:])
            assert (await answers(stream, 1))[0][0] in (200, 201)
        await stream.send_all(data)
        await answers(stream, 1)
        assert server.cluster.by == ["hypercorn", "hypercorn", "hypercorn", "lane"]
        await stream.aclose()


async def test_requests_that_wait_are_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all connections together; who comes then is hypercorn's, which bounds its own."""
    monkeypatch.setattr(fast_lane, "HELD_BYTES", 10_000)
    async with serving() as server:
        server.cluster.seconds = 0.5
        first, second = await server.open(), await server.open()
        await first.send_all(server.request("PUT", "/keys/slow", "x" * 9_000))
        await trio.sleep(0.05)
        await first.send_all(server.request("PUT", "/keys/a", "x" * 2_000))
        await trio.sleep(0.05)
        await second.send_all(server.request("PUT", "/keys/b", "1"))
        assert (await answers(second, 1))[0][0] == 201
        assert server.cluster.by == ["hypercorn"]
        assert [status for status, _ in await answers(first, 2)] == [201, 201]
        assert server.cluster.by == ["hypercorn", "lane", "hypercorn"]
        await second.send_all(server.request("PUT", "/keys/b", "1"))
        await answers(second, 1)
        assert server.cluster.by[3:] == ["lane"]
        for stream in (first, second):
            await stream.aclose()


def narrow(port: int) -> socket.socket:
    """Return a connection whose client takes little at a time."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", port))
    return sock


async def test_a_client_that_does_not_receive_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it lags by SEND_S; until then its next requests wait, and others are answered."""
    monkeypatch.setattr(fast_lane, "SEND_S", 0.5)
    monkeypatch.setattr(fast_lane, "SWEEP_S", 0.05)
    async with serving() as server:
        server.cluster.keys["big"] = "x" * 1_000_000, 1
        slow = narrow(server.port)
        slow.sendall(server.request("GET", "/keys/big") * 40)
        await trio.sleep(0.2)
        assert 0 < server.lane.unsent_bytes < 17_000_000
        stream = await server.open()
        await stream.send_all(server.request("GET", "/keys/none"))
        assert (await answers(stream, 1))[0][0] == 404
        while server.lane.unsent_bytes:
            await trio.sleep(0.05)
        assert server.cluster.by.count("lane") <= fast_lane.GROUP + 1
        slow.close()
        await stream.aclose()


async def test_too_much_unsent_costs_the_client_that_lags_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads wait until it is gone."""
    monkeypatch.setattr(fast_lane, "ALL_UNSENT_BYTES", 5_000_000)
    monkeypatch.setattr(fast_lane, "PATIENCE_S", 0.3)
    monkeypatch.setattr(fast_lane, "SWEEP_S", 0.05)
    async with serving() as server:
        server.cluster.keys["big"] = "x" * 1_000_000, 1
        slow = narrow(server.port)
        slow.sendall(server.request("GET", "/keys/big") * 16)
        while server.lane.unsent_bytes <= 5_000_000:
            await trio.sleep(0.01)
        stream = await server.open()
        began = trio.current_time()
        await stream.send_all(server.request("GET", "/keys/none"))
        assert (await answers(stream, 1))[0][0] == 404
        assert 0.1 < trio.current_time() - began < 2.0
        assert server.lane.unsent_bytes == 0
        slow.close()
        await stream.aclose()


async def test_hundreds_of_connections_are_busy_at_once() -> None:
    """Beyond hypercorn's number, each with a write of its own; none is refused."""
    async with serving(seconds=40) as server:
        statuses: list[int] = []

        async def write(number: int) -> None:
            stream = await server.open()
            for turn in range(3):
                await stream.send_all(server.request("PUT", f"/keys/{number}", str(turn)))
                statuses.extend([status for status, _ in await answers(stream, 1)])
            await stream.aclose()

        async with trio.open_nursery() as nursery:
            for number in range(600):
                nursery.start_soon(write, number)
        assert len(statuses) == 1_800
        assert set(statuses) == {200, 201}
        assert set(server.cluster.by) == {"lane"}


async def test_idle_connections_make_room_in_the_order_of_their_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many come; who was heard meanwhile stays, and with nobody idle for IDLE_S a new one is refused."""
    monkeypatch.setattr(server_module, "IDLE_S", 0.2)
    monkeypatch.setattr(server_module, "CANDIDATES", 10)
    async with serving(most=4, most_in_lane=97) as server:
        idle = [await server.open() for _ in range(100)]
        await trio.sleep(0.3)
        for heard in (3, 50):
            await idle[heard].send_all(server.request("GET", "/keys/none"))
            await answers(idle[heard], 1)
        more = [await server.open() for _ in range(40)]
        for stream in more:
            await stream.send_all(server.request("GET", "/keys/none"))
            assert (await answers(stream, 1))[0][0] == 404
        gone = [number for number, stream in enumerate(idle) if await _is_closed(stream)]
        assert gone == [number for number in range(41) if number != 3]
        await trio.sleep(0.3)
        for stream in [*more, *idle[41:], idle[3]]:
            await stream.send_all(server.request("GET", "/keys/none"))
            await answers(stream, 1)
        refused = await server.open()
        await refused.send_all(server.request("GET", "/keys/none"))
        assert (await refused.receive_some()).startswith(b"HTTP/1.1 503")
        for stream in [*idle, *more, refused]:
            await stream.aclose()


async def _is_closed(stream: trio.SocketStream) -> bool:
    with trio.move_on_after(0.01):
        assert await stream.receive_some() == b""
        return True
    return False


async def test_room_is_made_whenever_somebody_is_idle_however_often_it_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts that are refused do not put it off."""
    monkeypatch.setattr(server_module, "IDLE_S", 0.3)
    async with serving(most=4, most_in_lane=17) as server:
        server.cluster.seconds = 0.5
        busy = [await server.open() for _ in range(20)]
        for stream in busy:
            await stream.send_all(server.request("GET", "/keys/slow"))
        was_refused = 0
        while True:
            stream = await server.open()
            await stream.send_all(server.request("GET", "/keys/none"))
            answer = await stream.receive_some()
            await stream.aclose()
            if answer.startswith(b"HTTP/1.1 404"):
                break
            was_refused += 1
            await trio.sleep(0.05)
        assert was_refused > 5
        for stream in busy:
            await stream.aclose()


async def test_a_connection_with_nothing_but_http2s_preface_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has asked for nothing."""
    monkeypatch.setattr(server_module, "IDLE_S", 0.2)
    async with serving(most=8) as server:
        idle = [await server.open() for _ in range(6)]
        for stream in idle:
            await stream.send_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        await trio.sleep(0.5)
        stream = await server.open()
        await stream.send_all(server.request("GET", "/version"))
        assert (await answers(stream, 1))[0][0] == 200
        for one in [stream, *idle]:
            await one.aclose()


@pytest.mark.parametrize("count", [10, 200])
async def test_a_client_that_pipelines_and_resets_its_connection_leaves_nothing(count: int) -> None:
    """More than is read ahead, so that nobody reads the connection when it ends: `serving` sees that nothing is held."""
    async with serving() as server:
        server.cluster.seconds = 0.2
        sock = socket.create_connection(("127.0.0.1", server.port))
        sock.sendall(server.request("GET", "/keys/slow") * count)
        await trio.sleep(0.05)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
        await trio.sleep(0.05)


async def test_a_client_that_received_fast_and_stops_lags_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Having been faster before does not help; one that receives at a fair rate is not disconnected."""
    monkeypatch.setattr(fast_lane, "ALL_UNSENT_BYTES", 2_000_000)
    monkeypatch.setattr(fast_lane, "PATIENCE_S", 0.5)
    monkeypatch.setattr(fast_lane, "SWEEP_S", 0.05)
    async with serving() as server:
        server.cluster.keys["big"] = "x" * 1_000_000, 1
        fast = narrow(server.port)
        fast.sendall(server.request("GET", "/keys/big") * 12)
        await trio.sleep(0.1)

        def receive(size: int) -> None:
            while size > 0:
                size -= len(fast.recv(65536))

        await trio.to_thread.run_sync(receive, 6_000_000)
        stream = await server.open()
        began = trio.current_time()
        await stream.send_all(server.request("GET", "/keys/none"))
        assert (await answers(stream, 1))[0][0] == 404
        assert trio.current_time() - began < 3.0
        fast.close()
        await stream.aclose()


async def test_hypercorns_connections_are_bounded_and_the_lane_goes_on() -> None:
    """Past its number a connection gets a clear 503; requests for keys are answered meanwhile."""
    async with serving(most=8) as server:
        idle = [await server.open() for _ in range(20)]
        for stream in idle:
            await stream.send_all(b"POST /keys HTTP/1.1\r\n")
        await trio.sleep(0.2)
        stream = await server.open()
        await stream.send_all(server.request("PUT", "/keys/a", "1"))
        assert (await answers(stream, 1))[0][0] == 201
        refused = [one for one in idle if await _is_refused(one)]
        assert len(refused) == 20 - 6  # two are for probes
        for probe in range(3):
            await stream.send_all(server.request("GET", "/livez"))
            assert (await answers(stream, 1))[0][0] == 200, probe
        for one in [stream, *idle]:
            await one.aclose()


async def _is_refused(stream: trio.SocketStream) -> bool:
    with trio.move_on_after(0.05):
        data = await stream.receive_some()
        assert data.startswith(b"HTTP/1.1 503")
        assert json.loads(data.partition(b"\r\n\r\n")[2])["applied"] is False
        return True
    return False


async def test_a_bug_in_a_route_is_answered_and_costs_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the other lane, as it reads the request once more; and one in making an answer is a 500."""
    async with serving() as server:
        stream = await server.open()

        def buggy(*_: object) -> str:
            raise RuntimeError("a bug with a secret in it")

        with monkeypatch.context() as patched:
            patched.setattr("bargetrio.web.keys.key_of", buggy)
            await stream.send_all(server.request("GET", "/keys/a"))
            ((status, body),) = await answers(stream, 1)
            assert (status, json.loads(body)["error"]) == (500, "outcome_unknown")
        with monkeypatch.context() as patched:
            patched.setattr("bargetrio.web.keys.is_fresh", buggy)
            server.cluster.keys["a"] = "1", 1
            await stream.send_all(server.request("GET", "/keys/a"))
            ((status, body),) = await answers(stream, 1)
            assert (status, json.loads(body)["error"]) == (500, "outcome_unknown")
            assert b"secret" not in body
        await stream.send_all(server.request("GET", "/keys/a"))
        assert (await answers(stream, 1))[0][0] == 200
        await stream.aclose()
