"""A bug in a handler or in a connection costs that one request; and the number of connections is bounded."""

import json
import socket
from typing import Any

import pytest
import trio

from bargetrio.protocol.requests import Get, GetAnswer, Request
from bargetrio.protocol.views import LeaderView
from bargetrio.web import fast_lane, lane_connection, server
from bargetrio.web.http_connection import HttpConnection
from bargetrio.web.server import WebServer, bind
from tests.web.serving import Each, served, served_quart


class Broken(Each):
    """A cluster that knows one key and raises for every other."""

    cluster_name = "barge"

    @property
    def local(self) -> "Broken":
        """Its own nodes are all there are."""
        return self

    def known_leader(self) -> LeaderView | None:
        return LeaderView(leader=0, term=1, address="127.0.0.1:1")

    async def execute(self, request: Request) -> GetAnswer:
        if isinstance(request, Get) and request.key == "good":
            return GetAnswer(id=0, key="good", index=1, value="x")
        raise RuntimeError("a bug with a secret in it")


async def ask(port: int, path: str) -> tuple[int, bytes]:
    """Make one request; return (status, body), or (0, what came) if the connection ended without an answer."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode())
    received = b""
    try:
        while data := await stream.receive_some():
            received += data
    except trio.BrokenResourceError:
        pass
    head, _, body = received.partition(b"\r\n\r\n")
    return (int(head.split()[1]), body) if head.startswith(b"HTTP") else (0, received)


async def get_good(stream: trio.SocketStream, port: int) -> None:
    """Ask on a connection that stays open, and read the whole answer."""
    await stream.send_all(f"GET /keys/good HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
    received = b""
    while not received.endswith(b"}\n"):
        data = await stream.receive_some()
        assert data
        received += data
    assert received.startswith(b"HTTP/1.1 200"), received


async def test_a_bug_in_a_handler_is_a_problem_and_the_next_request_is_answered() -> None:
    """500: whether it took effect is unknown; the text of the bug stays inside."""
    cluster: Any = Broken()
    async with served_quart(cluster) as port:
        status, body = await ask(port, "/keys/bad")
        told = json.loads(body)
        assert (status, told["error"], told["applied"]) == (500, "outcome_unknown", None)
        assert "secret" not in body.decode()
        assert (await ask(port, "/keys/good"))[0] == 200


async def test_an_application_that_raises_costs_its_connection() -> None:
    """Whatever gets past the handlers."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/boom":
            raise RuntimeError("boom")
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": b"fine"})

    async with served(app) as port:
        assert (await ask(port, "/boom"))[0] in (0, 500)
        assert await ask(port, "/else") == (200, b"fine")


async def test_a_bug_in_the_server_costs_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """hypercorn itself raises for one connection; the others are served."""
    first = iter([True])

    class Buggy(HttpConnection):
        async def serve(self, data: bytes = b"") -> bytes | None:
            if next(first, False):
                raise RuntimeError("a bug of the server")
            return await super().serve(data)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": b"fine"})

    monkeypatch.setattr(server, "HttpConnection", Buggy)
    async with served(app) as port:
        assert (await ask(port, "/"))[0] == 0
        assert await ask(port, "/") == (200, b"fine")


async def test_the_257th_connection_is_refused_in_words_and_room_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """OWN-09: 256 silent ones; the next gets 503 at once, and is served as soon as they have closed."""
    monkeypatch.setattr(server, "IDLE_S", 60)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": b"fine"})

    async with served(app) as port:
        silent = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(server.CONNECTIONS)]
        status, body = await ask(port, "/")
        assert (status, json.loads(body)["error"]) == (503, "overloaded")
        for stream in silent:
            await stream.aclose()
        while (await ask(port, "/"))[0] != 200:
            await trio.sleep(0.01)


async def test_idle_connections_make_room_and_a_few_are_kept_for_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The longest idle one is closed for a new one; before that a probe is answered on a connection kept for it."""
    monkeypatch.setattr(server, "IDLE_S", 60)
    cluster: Any = Broken()
    async with served_quart(cluster) as port:
        silent = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(server.CONNECTIONS)]
        for _ in range(2 * server.RESERVED):
            assert (await ask(port, "/livez"))[0] == 200
        assert (await ask(port, "/keys/good"))[0] == 503
        monkeypatch.setattr(server, "IDLE_S", 0)
        assert (await ask(port, "/keys/good"))[0] == 200
        assert await silent[0].receive_some() == b""
        for stream in silent:
            await stream.aclose()


@pytest.mark.parametrize("has_lane", [True, False])
async def test_a_connection_that_falls_silent_after_an_answer_is_closed(has_lane: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """OWN-10: the keep-alive timer starts again after each answer."""
    monkeypatch.setattr(server, "KEEP_ALIVE_S", 0.2)
    monkeypatch.setattr(lane_connection, "KEEP_ALIVE_S", 0.2)
    monkeypatch.setattr(fast_lane, "SWEEP_S", 0.05)
    cluster: Any = Broken()
    async with served_quart(cluster, has_lane=has_lane) as port:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        for _ in range(3):
            await get_good(stream, port)
            await trio.sleep(0.05)
        assert await stream.receive_some() == b""


async def test_a_reader_that_reads_nothing_does_not_hold_the_end() -> None:
    """hypercorn sends under a shield; closed under its feet, the shield has nothing to wait for."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})

    sock = bind("127.0.0.1", 0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(WebServer(app, sock).run)
        stalled = socket.create_connection(sock.getsockname())
        stalled.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await trio.sleep(0.3)
        began = trio.current_time()
        nursery.cancel_scope.cancel()
    assert trio.current_time() - began < 0.6
    stalled.close()
