"""Pipelines of requests for both lanes, whole and cut anywhere: answered in order, and as by a server without a fast lane."""

import random
import re
from itertools import pairwise
from pathlib import Path

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived
from trio.testing import MockClock

from bargetrio.protocol.requests import Put
from bargetrio.web import lane_connection
from bargetrio.web.guard import Guard
from bargetrio.web.plain_requests import PlainRequest, plain_request
from tests.web.two_servers import HOST, JSON, PROBE, delete, get, put, request, two_servers

LIVEZ = request("GET", "/livez")
MIXED = {
    "one key": [put("a", "1"), get("a"), LIVEZ, get("a"), delete("a"), get("a")],
    "writes of one key": [put("a", str(number)) for number in range(8)] + [get("a")],
    "turns": [put("a"), get("a"), put("a", "w"), get("a"), delete("a"), get("a"), put("a"), get("a", "Accept: text/plain")],
    "levels": [put("a"), get("a?read=stale"), get("a"), get("a?read=lease"), put("a"), get("a?read=stale")],
    "conditions": [
        put("a", "1", "If-None-Match: *"),
        put("a", "2", "If-None-Match: *"),
        put("a", "3", 'If-Match: "1"'),
        get("a"),
    ],
    "chunked between": [put("a"), put("a", "1\r\nw\r\n0\r\n\r\n", "Transfer-Encoding: chunked"), get("a"), delete("a")],
    "refused between": [
        put("a"),
        put("a", "w", "Content-Encoding: gzip"),
        get("a"),
        put("a?x=1"),
        get("a"),
        get("%FF"),
        get("a"),
    ],
    "head and options between": [put("a"), request("HEAD", "/keys/a"), get("a"), request("OPTIONS", "/keys/a"), delete("a")],
    "malformed at the end": [put("a"), get("a"), delete("a"), b"GET /keys/a HTTP/1.1\r\nHost : x\r\n\r\n", put("b")],
    "foreign in the middle": [put("a"), get("a", "Origin: http://foreign.test"), delete("a"), put("b")],
    "closed in the middle": [put("a"), get("a", "Connection: close"), delete("a"), put("b")],
    "HTTP/1.0 in the middle": [put("a"), request("GET", "/keys/a", version="HTTP/1.0"), delete("a")],
    "expecting": [put("a"), put("a", "w", "Expect: 100-continue"), get("a"), delete("a", "Expect: 100-continue"), get("a")],
    "failing": [put("fails/busy"), get("fails/alone"), put("a"), put("fails/unknown"), get("a"), delete("fails/disk"), get("a")],
    "many of the other lane": [LIVEZ, request("GET", "/version"), LIVEZ, get("a"), LIVEZ, LIVEZ, put("a"), LIVEZ],
    "with empty lines": [put("a"), get("a") + b"\r\n", get("a")],
    "written by POST": [request("POST", "/keys", JSON, body=b'{"key":"a","value":"p"}'), get("a"), delete("a"), get("a")],
}
TABLE = [
    *[put(key, value) for key in "ab" for value in ("1", "22", "")],
    *[get(key) for key in "ab"],
    *[delete(key) for key in "ab"],
    get("a", "Accept: text/plain"),
    get("a", 'If-None-Match: "3"'),
    get("b?read=stale"),
    get("b?read=lease"),
    put("a", "n", "If-None-Match: *"),
    put("b", "m", 'If-Match: "2"'),
    request("PUT", "/keys/b", JSON, body=b'{"value_b64":"AP8="}'),
    request("PUT", "/keys/b", JSON, body=b'{"value":1}'),
    put("fails/busy"),
    get("fails/unknown"),
    LIVEZ,
    request("HEAD", "/keys/a"),
    request("OPTIONS", "/keys/a"),
    request("PATCH", "/keys/a"),
    request("GET", "/nothing"),
    get("a", "Connection: keep-alive"),
    get("a?x=1"),
    get("%FF"),
    get("a", "If-Match: x"),
    put("a", "3\r\nchu\r\n0\r\n\r\n", "Transfer-Encoding: chunked"),
    get("a", "Content-Length: 0"),
    request("POST", "/keys", JSON, body=b'{"key":"a","value":"p"}'),
]
"""Requests after which a connection goes on."""
LAST = [
    get("a", "Connection: close"),
    request("GET", "/keys/a", version="HTTP/1.0"),
    put("a", "x", "Content-Length: 1", "Content-Length: 2"),
    put("a", "1\r\nx\r\n0\r\n\r\n", "Content-Length: 11", "Transfer-Encoding: chunked"),
    get("a", "Origin: http://foreign.test"),
    request("GET", "/keys/a", host="other.test"),
    b"GET /keys/a HTTP/1.1\r\nHost : x\r\n\r\n",
    b"\r\n\r\n",
    b"PUT /keys/a\x00 HTTP/1.1\r\n\r\n",
    request("get", "/keys/a"),
    b"DELETE /keys/a HTTP/1.1\r\nHost: barge.test\r\nX",
]
"""Requests after which it does not."""


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Return the pieces between the places."""
    ends = [0, *sorted(places), len(data)]
    return [data[begin:end] for begin, end in pairwise(ends) if begin < end]


@pytest.mark.parametrize("name", MIXED)
async def test_a_pipeline(tmp_path: Path, autojump_clock: MockClock, name: str) -> None:
    """In one piece; and both say what they say to one request after another."""
    requests = MIXED[name]
    async with two_servers(tmp_path) as both:
        told = await both.same(b"".join(requests), then=PROBE)
    (tmp_path / "again").mkdir()
    async with two_servers(tmp_path / "again") as both:
        assert await both.same(*requests, then=PROBE) == told


@pytest.mark.parametrize("name", ["one key", "refused between", "chunked between", "malformed at the end"])
async def test_a_pipeline_cut_anywhere(tmp_path: Path, autojump_clock: MockClock, name: str) -> None:
    """At every fifth place, and at all of them.

    But not between a head that is refused and its body: hypercorn answers such a head before the body is there, and then
    closes the connection; the lane reads the body first, so that the connection goes on. docs/rest.md allows both.
    """
    data = b"".join(MIXED[name])
    heads = [data.index(one) + one.index(b"\r\n\r\n") + 4 for one in MIXED[name] if b"gzip" in one or b"?x=1" in one]
    places = [place for place in range(1, len(data)) if place not in heads]
    async with two_servers(tmp_path) as both:
        for place in places[::5]:
            await both.same(data[:place], data[place:])
        await both.same(*cut(data, places))


async def test_a_refused_body_that_comes_later_is_read_by_the_lane(tmp_path: Path, autojump_clock: MockClock) -> None:
    """The exception above: the answers are equal, and nothing is done; only the connection goes on, or does not."""
    whole = put("a", "v", "Content-Encoding: gzip")
    async with two_servers(tmp_path) as both:
        ours = await both.lane.exchange(whole[:-1], whole[-1:])
        theirs = await both.plain.exchange(whole[:-1], whole[-1:])
        assert (ours.answers, ours.end, theirs.end) == (theirs.answers, "open", "closed")
        both.check_state()


@pytest.mark.parametrize("seed", range(48))
async def test_random_pipelines(tmp_path: Path, autojump_clock: MockClock, seed: int) -> None:
    """1 to 8 requests, cut at up to 6 places, some with pauses in which the lane gives up waiting."""
    rng = random.Random(seed)
    async with two_servers(tmp_path, seed=seed) as both:
        for _ in range(4):
            requests = rng.choices(TABLE, k=rng.randint(1, 8))
            if rng.random() < 0.3:
                requests.append(rng.choice(LAST))
            data = b"".join(requests)
            places = [rng.randrange(len(data)) for _ in range(rng.randrange(7))]
            await both.same(*cut(data, places), pause_s=rng.choice([0.0, 0.0, 1.6]), then=PROBE)
        assert both.lane.cluster.batches > 0 and both.plain.cluster.batches == 0


async def test_a_long_pipeline(tmp_path: Path, autojump_clock: MockClock) -> None:
    """More than is read ahead, in one piece and a request at a time."""
    requests = [put(f"k{number % 7}", str(number)) + get(f"k{number % 5}") + get("k1") for number in range(100)]
    requests[50] += LIVEZ + put("a", "3\r\nchu\r\n0\r\n\r\n", "Transfer-Encoding: chunked")
    async with two_servers(tmp_path) as both:
        told = await both.same(*requests, b"".join(requests), then=PROBE)
        assert len(told.answers) == 2 * 302 + 1


async def test_answers_that_are_read_late(tmp_path: Path, autojump_clock: MockClock) -> None:
    """More than is kept unsent, for both lanes."""
    async with two_servers(tmp_path) as both:
        await both.same(put("large", b"x" * 200_000))
        told = await both.same((get("large") * 20 + LIVEZ) * 3 + put("a") + get("a"), reads_late=True, then=PROBE)
        assert told.statuses == ([200] * 20 + [200]) * 3 + [201, 200, 404]


ENDING = {
    "reads": [get("a"), get("b")],
    "writes": [put("a"), put("a", "2"), get("a"), delete("a"), get("a")],
    "half a head": [put("a"), get("a")[:-5]],
    "half a body": [put("a"), put("a", "vvv")[:-1]],
    "nothing": [],
    "an empty line": [put("a"), b"\r\n"],
    "the end of the connection": [put("a"), get("a", "Connection: close")],
}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ENDING)
async def test_a_client_that_sends_no_more_gets_its_answers(
    tmp_path: Path, autojump_clock: MockClock, name: str, seed: int
) -> None:
    """The lane answers all that came before the end.

    hypercorn alone does not: it takes the end of what a client sends for a disconnection, and drops the answer to a request that
    is being executed then; and in the middle of a body whose head it refuses it may answer nothing (two tasks send at once). So
    the lane is compared with what hypercorn says to a client that goes on.
    """
    data = b"".join(ENDING[name])
    async with two_servers(tmp_path, seed=seed) as both:
        ours = await both.lane.exchange(data, half_close=True)
        theirs = await both.plain.exchange(data, b"")
        if name.startswith("half"):  # nothing comes any more: that is malformed
            assert ours.statuses == [201, 400]
            assert ours.answers[0] == theirs.answers[0]
        else:
            assert ours.answers == theirs.answers
        assert ours.end == "closed"
        assert both.lane.cluster.done == both.plain.cluster.done


@pytest.mark.parametrize("seed", range(20))
async def test_a_client_that_leaves(tmp_path: Path, autojump_clock: MockClock, seed: int) -> None:
    """A beginning of what it asked for is done, in its order, and nothing that did not come whole; no place is lost."""
    rng = random.Random(seed)
    values = [str(number) for number in range(rng.randint(1, 40))]
    data = b"".join(rng.choice([put("a", value), put("a", value) + get("b"), LIVEZ + put("a", value)]) for value in values)
    data = data[: rng.randint(1, len(data))]
    async with two_servers(tmp_path, seed=seed) as both:
        for server in (both.lane, both.plain):
            await server.leave(data)
            written = [request.value for request in server.cluster.done if isinstance(request, Put)]
            assert written == values[: len(written)]
            assert len(written) <= data.count(b"PUT ")
            assert (await server.exchange(LIVEZ + get("b"))).statuses == [200, 404]


async def test_a_body_in_small_pieces_costs_one_parsing_of_its_head(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client must not make the daemon busy by sending little."""
    parsed: list[int] = []

    def counted(data: bytes, at: int, guard: Guard) -> PlainRequest | int:
        parsed.append(at)
        return plain_request(data, at, guard)

    monkeypatch.setattr(lane_connection, "plain_request", counted)
    data = put("a", "x" * 100)
    async with two_servers(tmp_path) as both:
        told = await both.same(*cut(data, list(range(len(data) - 100, len(data)))))
        assert told.statuses == [201]
        assert len(parsed) <= 2


@pytest.mark.parametrize("before", [b"", get("a"), put("a") + get("a") + LIVEZ])
async def test_http2_with_prior_knowledge(tmp_path: Path, autojump_clock: MockClock, before: bytes) -> None:
    """At once, and after requests over HTTP/1.1; the connection stays with hypercorn."""
    client = H2Connection(H2Configuration(client_side=True, header_encoding=None))
    client.initiate_connection()
    for number, (method, path) in enumerate((("GET", "/keys/a"), ("GET", "/livez"), ("DELETE", "/keys/a"))):
        names = {":method": method, ":path": path, ":scheme": "http", ":authority": HOST}
        client.send_headers(2 * number + 1, list(names.items()), end_stream=True)
    data = client.data_to_send()
    told = []
    async with two_servers(tmp_path) as both:
        for server in (both.lane, both.plain):
            received, end = await server.talk(before + data)
            rest = received[received.rindex(b"\r\n\r\n") + 4 :] if before else received
            if before:
                length = re.findall(rb"content-length: (\d+)", received)[-1]
                rest = rest[int(length) :]
            reader = H2Connection(H2Configuration(client_side=True, header_encoding=None))
            reader.initiate_connection()
            for number in range(3):
                reader.send_headers(
                    2 * number + 1,
                    [(":method", "GET"), (":path", "/"), (":scheme", "http"), (":authority", HOST)],
                    end_stream=True,
                )
            found: dict[int, list[object]] = {1: [], 3: [], 5: []}
            for event in reader.receive_data(rest):
                if isinstance(event, ResponseReceived):
                    found[event.stream_id or 0].append(sorted(pair for pair in event.headers if pair[0] != b"date"))
                elif isinstance(event, DataReceived):
                    found[event.stream_id or 0].append(event.data)
            told.append((end, found))
        assert both.lane.cluster.store.last_index == both.plain.cluster.store.last_index
    assert told[0] == told[1]
    assert all(len(parts) >= 1 for parts in told[0][1].values())
