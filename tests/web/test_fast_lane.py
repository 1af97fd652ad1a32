"""Which lane answers a request, and in which order."""

import json

import pytest
import trio

from bargetrio.web import fast_lane, lane_connection, plain_requests
from tests.web.lane_server import answers, serving


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
    monkeypatch.setattr(lane_connection, "PARTIAL_S", 0.1)
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
