"""A write of one key, past the framework: what the real server rarely does to it is done here by hand."""

import json
from collections.abc import Sequence
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from bargetrio.cluster.cluster import Cluster
from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.requests import Put, PutAnswer
from bargetrio.protocol.views import LeaderView
from bargetrio.web import bodies, keys
from bargetrio.web.guard import HEAD, NO_QUERY, RequestHead
from bargetrio.web.headers import headers_of
from bargetrio.web.targets import route_of, target_of

Message = dict[str, Any]


class OneNode:
    """A cluster that notes what it is asked, and answers or raises."""

    @property
    def local(self) -> "OneNode":
        """Its own nodes are all there are."""
        return self

    def __init__(self, problem: Exception | None = None) -> None:
        self.asked: list[Put] = []
        self._problem = problem

    async def execute(self, request: Put) -> PutAnswer:
        """Commit at index 7."""
        self.asked.append(request)
        if self._problem is not None:
            raise self._problem
        return PutAnswer(id=0, key=request.key, index=7, term=2, created=True)

    def known_leader(self) -> LeaderView:
        """Node 1 leads."""
        return LeaderView(leader=1, term=2, address="127.0.0.1:1")


async def put(
    cluster: OneNode, messages: Sequence[Message], headers: dict[str, str] | None = None, path: str = "/keys/a"
) -> tuple[int, dict[str, str], Any] | None:
    """Make the request with these messages of its body; return (status, headers, body), None if nothing was answered."""
    waiting = list(messages)
    sent: list[Message] = []

    async def receive() -> Message:
        if not waiting:
            await trio.sleep_forever()
        return waiting.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    given = {"content-type": "text/plain", **(headers or {})}
    target = target_of(path.encode())
    pairs = [(name.encode(), value.encode()) for name, value in given.items()]
    head = RequestHead(route_of(target, "PUT"), target.argument, headers_of(pairs), NO_QUERY, streaming=False, bulk=False)
    scope = {
        HEAD: head,
        "type": "http",
        "method": "PUT",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": pairs,
    }
    await keys.answer_key(cast(Cluster, cluster), scope, receive, send)
    if not sent:
        return None
    start, body = sent
    found = {name.decode(): value.decode() for name, value in start["headers"]}
    assert found["content-length"] == str(len(body["body"]))
    return start["status"], found, json.loads(body["body"])


def part(body: bytes, *, more: bool = False) -> Message:
    """A piece of a body."""
    return {"type": "http.request", "body": body, "more_body": more}


async def test_a_body_comes_in_pieces() -> None:
    """As the network has it."""
    cluster = OneNode()
    answer = await put(cluster, [part(b"Some ", more=True), part(b"", more=True), part(b"Value")])
    assert answer is not None
    status, headers, body = answer
    assert (status, body) == (201, {"key": "a", "index": 7, "term": 2})
    assert (headers["etag"], headers["barge-leader"], headers["barge-term"]) == ('"7"', "1", "2")
    assert [request.value for request in cluster.asked] == ["Some Value"]


async def test_a_client_that_leaves_in_the_middle_writes_nothing() -> None:
    """Half a value is none."""
    cluster = OneNode()
    assert await put(cluster, [part(b"Some ", more=True), {"type": "http.disconnect"}]) is None
    assert cluster.asked == []


@pytest.mark.parametrize("told", [True, False])
async def test_a_body_that_is_too_large_is_refused_before_it_fills_the_memory(told: bool) -> None:
    """By its announced length, or by what came; the rest is not waited for."""
    cluster = OneNode()
    size = bodies.JSON_BODY_BYTES + 1
    messages = [] if told else [part(bytes(size), more=True)]
    answer = await put(cluster, messages, {"content-length": str(size)} if told else {})
    assert answer is not None and answer[0] == 413 and answer[2]["applied"] is False
    assert cluster.asked == []


async def test_a_body_that_does_not_come_is_not_waited_for_for_ever(autojump_clock: MockClock) -> None:
    """A silent client does not keep a place."""
    cluster = OneNode()
    answer = await put(cluster, [part(b"Some ", more=True)])
    assert answer is not None and answer[0] == 408
    assert trio.current_time() == pytest.approx(keys.BODY_TIMEOUT_S)
    assert cluster.asked == []


async def test_what_the_cluster_says_is_passed_on() -> None:
    """An outcome that is unknown is called so."""
    answer = await put(OneNode(BargeError("outcome_unknown", "nobody knows")), [part(b"x")])
    assert answer is not None
    assert (answer[0], answer[2]["error"], answer[2]["applied"], answer[2]["term"]) == (504, "outcome_unknown", None, 2)


async def test_a_bug_ends_its_request_alone() -> None:
    """It is reported as one, and as unknown: the write may have been proposed."""
    answer = await put(OneNode(KeyError("a bug")), [part(b"x")])
    assert answer is not None
    assert (answer[0], answer[2]["error"], answer[2]["applied"]) == (500, "outcome_unknown", None)


async def test_the_key_is_what_stands_in_the_raw_path() -> None:
    """%FF is an error, not a replacement character."""
    cluster = OneNode()
    answer = await put(cluster, [part(b"x")], path="/keys/%FF")
    assert answer is not None and answer[0] == 400
    assert cluster.asked == []
