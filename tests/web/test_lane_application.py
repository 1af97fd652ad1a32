"""Requests in the fast lane that the application answers: in order, within places, and gone with their client."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import trio

from bargetrio.protocol.requests import ListAnswer
from bargetrio.web import guard, lane_connection, places
from bargetrio.web.plain_requests import plain_request
from tests.web.lane_server import Server, answers, serving


class Lists:
    """Answers lists when it may, with as many items as it says, and counts those under way and those that were cancelled."""

    def __init__(self, server: Server) -> None:
        self.may_answer = trio.Event()
        self.value = "x"
        self.now = self.most = self.cancelled = 0
        self.problem: Exception | None = None
        server.cluster.execute = self._execute  # type: ignore[method-assign]

    async def _execute(self, request: Any) -> Any:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await self.may_answer.wait()
        except trio.Cancelled:
            self.cancelled += 1
            raise
        finally:
            self.now -= 1
        if self.problem is not None:
            raise self.problem
        return ListAnswer(id=0, items=[], next=self.value, index=1)


async def until(look: Callable[[], bool]) -> None:
    """Wait; the server's time-out ends it."""
    while not look():
        await trio.sleep(0.01)


async def test_other_routes_are_answered_in_the_lane_in_the_order_of_the_requests() -> None:
    """With keys' requests before, between and behind them, cut anywhere, and then no more to come."""
    async with serving() as server:
        data = server.request("PUT", "/keys/a", "1") + server.request("GET", "/livez")
        data += server.request("GET", "/nothing?", None, "Accept: */*") + server.request("GET", "/keys/a")
        data += server.request("GET", "/version", None, "Content-Length: 0") + server.request("GET", "/openapi.json")
        data += server.request("GET", "/livez") * 2 + server.request("GET", "/keys/none")
        wanted = [201, 200, 404, 200, 200, 200, 200, 200, 404]
        for size in (len(data), 100, 7):
            stream = await server.open()
            for at in range(0, len(data), size):
                await stream.send_all(data[at : at + size])
            await stream.send_eof()
            found = await answers(stream, len(wanted))
            assert [status for status, _ in found] == [
                status if at or size == len(data) else 200 for at, status in enumerate(wanted)
            ]
            assert json.loads(found[4][1])["name"] == "barge"
            await stream.aclose()


async def test_hypercorn_is_not_asked_for_a_plain_request() -> None:
    """What streams, is a bulk write or a backup is hypercorn's."""
    async with serving() as server:
        lists = Lists(server)
        handed_over: list[bytes] = []
        serve = server.web._serve_by_hypercorn

        async def serve_and_count(held: Any, data: bytes) -> bytes | None:
            handed_over.append(data)
            return await serve(held, data)

        server.web._serve_by_hypercorn = serve_and_count  # type: ignore[method-assign]
        stream = await server.open()
        await stream.send_all(server.request("GET", "/keys"))
        await until(lambda: lists.now == 1)
        assert (server.web.connections_of_hypercorn(), server.lane.in_application) == (0, 1)
        lists.may_answer.set()
        assert (await answers(stream, 1))[0][0] == 200
        await until(lambda: server.lane.in_application == 0)
        for asked in (
            server.request("POST", "/keys", "{", "Content-Type: application/x-ndjson"),
            server.request("GET", "/events", None, "Accept: text/event-stream"),
            server.request("GET", "/snapshot"),
        ):
            before = len(handed_over)
            other = await server.open()
            await other.send_all(asked)
            await until(lambda before=before: len(handed_over) == before + 1)  # type: ignore[misc]
            assert handed_over[-1] == asked
            await other.aclose()
        await stream.aclose()


async def test_without_a_place_a_request_is_refused_as_ever_and_what_follows_is_not_executed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By hypercorn, which ends the connection."""
    monkeypatch.setattr(guard, "IN_FLIGHT", 2)
    async with serving() as server:
        lists = Lists(server)
        busy = [await server.open() for _ in range(2)]
        for stream in busy:
            await stream.send_all(server.request("GET", "/keys"))
        await until(lambda: lists.now == 2)
        stream = await server.open()
        await stream.send_all(server.request("GET", "/keys") + server.request("PUT", "/keys/a", "1"))
        ((status, body),) = await answers(stream, 1)
        assert (status, json.loads(body)["error"], json.loads(body)["applied"]) == (503, "overloaded", False)
        assert await stream.receive_some() == b""
        assert "a" not in server.cluster.keys
        lists.may_answer.set()
        for one in busy:
            assert (await answers(one, 1))[0][0] == 200
        for one in [stream, *busy]:
            await one.aclose()


async def test_what_follows_a_request_that_is_handed_over_is_executed_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A place may have become free meanwhile."""
    async with serving() as server:
        monkeypatch.setattr(server.lane, "begin_application", lambda connection, asked: None)
        stream = await server.open()
        data = server.request("PUT", "/keys/a", "1") + server.request("GET", "/livez") + server.request("GET", "/keys/a")
        await stream.send_all(data + server.request("GET", "/version") + server.request("DELETE", "/keys/a"))
        assert [status for status, _ in await answers(stream, 5)] == [201, 200, 200, 200, 204]
        await stream.aclose()


async def test_a_client_that_resets_its_connection_ends_its_request() -> None:
    """Its place is free for others."""
    async with serving() as server:
        lists = Lists(server)
        stream = await server.open()
        await stream.send_all(server.request("GET", "/keys"))
        await until(lambda: lists.now == 1)
        stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        await stream.aclose()
        await until(lambda: lists.cancelled == 1)
        await until(lambda: server.lane.guard.in_flight == 0)


async def test_a_client_that_sends_no_more_keeps_its_place_for_a_moment_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have gone; a short answer still comes."""
    monkeypatch.setattr(lane_connection, "GONE_S", 0.2)
    async with serving() as server:
        lists = Lists(server)
        before, after = await server.open(), await server.open()
        await before.send_all(server.request("GET", "/keys"))
        await until(lambda: lists.now == 1)
        await before.aclose()
        await after.send_all(server.request("GET", "/livez") + server.request("GET", "/keys"))
        await after.send_eof()
        assert (await answers(after, 1))[0][0] == 200
        await until(lambda: lists.cancelled == 2)
        await until(lambda: server.lane.guard.in_flight == server.web.connections() == 0)
        await after.aclose()


async def test_a_client_of_hypercorn_that_has_gone_ends_its_request() -> None:
    """The framework sees it."""
    async with serving() as server:
        lists = Lists(server)
        stream = await server.open()
        await stream.send_all(server.request("GET", "/keys", None, "TE: trailers"))
        await until(lambda: lists.now == 1)
        await stream.aclose()
        await until(lambda: lists.cancelled == 1)
        assert server.lane.in_application == 0


async def test_a_bug_behind_an_answer_of_the_application_ends_that_connection_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs in a task of the lane."""
    async with serving() as server:
        stream, other = await server.open(), await server.open()

        def fail(data: bytes, at: int, guard: Any) -> Any:
            if data.startswith(b"DELETE", at):
                raise RuntimeError("a bug")
            return plain_request(data, at, guard)

        monkeypatch.setattr(lane_connection, "plain_request", fail)
        await stream.send_all(server.request("GET", "/livez") + server.request("DELETE", "/keys/a"))
        await until(lambda: server.web.connections() == 1)
        await other.send_all(server.request("GET", "/livez"))
        assert (await answers(other, 1))[0][0] == 200
        for one in (stream, other):
            await trio.aclose_forcefully(one)


@pytest.mark.parametrize("text", ["x" * 3_000_000, "\n" * 3_000_000])
async def test_a_long_answer_waits_for_its_client_and_comes_whole(text: str) -> None:
    """What is unsent is bounded; other connections go on."""
    async with serving() as server:
        lists = Lists(server)
        lists.value = text
        lists.may_answer.set()
        stream = await server.open()
        await stream.send_all(server.request("GET", "/keys") + server.request("GET", "/livez"))
        await trio.sleep(0.3)
        assert 0 < server.lane.unsent_bytes <= lane_connection.UNSENT_BYTES + places.SLICE_BYTES
        other = await server.open()
        await other.send_all(server.request("GET", "/livez"))
        assert (await answers(other, 1))[0][0] == 200
        (_, body), (status, _) = await answers(stream, 2)
        assert json.loads(body)["next"] == text
        assert status == 200
        for one in (stream, other):
            await one.aclose()


async def test_a_client_that_does_not_receive_loses_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the guard's grace: an answer that is broken off ends the connection."""
    monkeypatch.setattr(guard, "GRACE_S", 0.2)
    monkeypatch.setattr(places, "BYTES_PER_S", 10_000_000)
    async with serving() as server:
        lists = Lists(server)
        lists.value = "x" * 6_000_000
        lists.may_answer.set()
        stream = await server.open()
        await stream.send_all(server.request("GET", "/keys"))
        await until(lambda: server.lane.in_application == 1)
        await until(lambda: server.lane.in_application == 0)
        began = trio.current_time()
        await until(lambda: server.web.connections() == 0)
        assert trio.current_time() - began < 2.0
        assert server.lane.guard.in_flight == 0
        await stream.aclose()


async def test_a_bug_in_a_handler_is_an_answer_and_the_connection_goes_on() -> None:
    """As by hypercorn."""
    async with serving() as server:
        lists = Lists(server)
        lists.problem = RuntimeError("a bug")
        lists.may_answer.set()
        stream = await server.open()
        await stream.send_all(server.request("GET", "/keys") + server.request("GET", "/livez"))
        assert [status for status, _ in await answers(stream, 2)] == [500, 200]
        await stream.aclose()


async def test_what_is_read_ahead_of_an_answer_is_bounded() -> None:
    """The client's next requests wait in its socket."""
    async with serving() as server:
        lists = Lists(server)
        stream = await server.open()
        put = server.request("PUT", "/keys/a", "x" * 20_000)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, server.request("GET", "/keys") + put * 300)
            await trio.sleep(0.5)
            assert server.lane.held_bytes < lane_connection.UNPARSED_BYTES + 1024 * 1024
            assert not server.cluster.keys
            lists.may_answer.set()
            found = await answers(stream, 301)
            assert [status for status, _ in found] == [200, 201] + [200] * 299
        await stream.aclose()
