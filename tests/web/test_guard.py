"""The guard by itself: how much is in flight, whose Host and Origin, and that it gives every place back."""

from typing import Any

import pytest
import trio
import trio.testing

from bargetrio.cluster.daemons import encode_cluster
from bargetrio.web.guard import IN_FLIGHT, STREAMS, Guard, Receive, Scope, Send, hosts_of


class GuardedRequest:
    """One request to a guard, and what it was answered."""

    def __init__(self, path: str = "/keys/a", **headers: str) -> None:
        pairs = {"host": "127.0.0.1:8100", **{name.replace("_", "-"): value for name, value in headers.items()}}
        encoded = [(name.encode(), value.encode()) for name, value in pairs.items()]
        self.scope: Scope = {"type": "http", "method": "GET", "path": path, "headers": encoded}
        self.status = 0

    async def receive(self) -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(self, message: dict[str, Any]) -> None:
        self.status = message.get("status", self.status)


class Slow:
    """An application that answers when the test has it."""

    def __init__(self) -> None:
        self.go = trio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.go.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})


def make(app: Any, token: bytes | None = None) -> Guard:
    return Guard(app, cluster="schöne-1", hosts=hosts_of(["127.0.0.1:8100"], ("barge.example", "localhost:9998")), token=token)


async def test_at_most_so_many_requests_are_in_flight() -> None:
    """The next one gets 503 at once, and there is room again when they are done."""
    app = Slow()
    guard = make(app)
    held, over = [GuardedRequest() for _ in range(IN_FLIGHT)], GuardedRequest()
    async with trio.open_nursery() as nursery:
        for asked in held:
            nursery.start_soon(guard, asked.scope, asked.receive, asked.send)
        await trio.testing.wait_all_tasks_blocked()
        await guard(over.scope, over.receive, over.send)
        app.go.set()
    assert over.status == 503
    assert [asked.status for asked in held] == [200] * IN_FLIGHT
    late = GuardedRequest()
    await guard(late.scope, late.receive, late.send)
    assert (late.status, guard.in_flight) == (200, 0)


async def test_streams_are_counted_apart() -> None:
    """50 open pages take no place of a write; the 51st gets an error."""
    app = Slow()
    guard = make(app)
    pages = [GuardedRequest("/events", accept="text/event-stream") for _ in range(STREAMS + 1)]
    async with trio.open_nursery() as nursery:
        for asked in pages:
            nursery.start_soon(guard, asked.scope, asked.receive, asked.send)
        await trio.testing.wait_all_tasks_blocked()
        assert (guard.in_flight, guard.streams) == (0, STREAMS)
        app.go.set()
    assert sorted(asked.status for asked in pages) == [200] * STREAMS + [503]
    assert guard.streams == 0


async def test_a_handler_that_fails_gives_its_place_back() -> None:
    """Or 64 bugs would close the shop."""

    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("a bug")

    guard = make(broken)
    asked = GuardedRequest()
    with pytest.raises(RuntimeError):
        await guard(asked.scope, asked.receive, asked.send)
    assert guard.in_flight == 0


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"host": "localhost:8100"}, 200),
        ({"host": "LOCALHOST:8100"}, 200),
        ({"host": "localhost:9999"}, 403),
        ({"host": "localhost:9998"}, 200),
        ({"host": "barge.example"}, 200),
        ({"host": "barge.example:8100"}, 200),
        ({"host": "barge.example:9999"}, 403),
        ({"host": "127.0.0.1"}, 403),
        ({"host": "evil.example:8100"}, 403),
        ({"host": ""}, 403),
        ({"origin": "http://127.0.0.1:8100"}, 200),
        ({"origin": "https://barge.example"}, 200),
        ({"origin": "http://127.0.0.1:8101"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "file://"}, 403),
        ({"sec_fetch_site": "same-origin"}, 200),
        ({"sec_fetch_site": "cross-site"}, 403),
    ],
)
async def test_whose_host_and_origin(headers: dict[str, str], status: int) -> None:
    """CVE-2018-1098 and -1099: CSRF, DNS rebinding."""
    app = Slow()
    app.go.set()
    asked = GuardedRequest(**headers)
    await make(app)(asked.scope, asked.receive, asked.send)
    assert asked.status == status


@pytest.mark.parametrize(
    ("cluster", "status"),
    [
        (encode_cluster("schöne-1"), 200),
        ("sch%c3%b6ne-1", 200),
        (encode_cluster("schone-1"), 403),
        ("schöne-1", 403),
        ("%FF%", 403),
        ("", 403),
    ],
)
@pytest.mark.parametrize("path", ["/keys/a", "/livez"])
async def test_a_request_that_is_for_another_cluster_is_refused(path: str, cluster: str, status: int) -> None:
    """OWN-191: an `api` may lead to a daemon of another cluster. Requests that name none are answered (the tests above)."""
    app = Slow()
    app.go.set()
    asked = GuardedRequest(path, barge_cluster=cluster)
    await make(app)(asked.scope, asked.receive, asked.send)
    assert asked.status == status


@pytest.mark.parametrize(
    ("path", "authorization", "status"),
    [
        ("/keys/a", None, 401),
        ("/keys/a", "Bearer secret", 200),
        ("/keys/a", "bearer secret", 401),
        ("/keys/a", "Bearer secre", 401),
        ("/keys/a", "Basic secret", 401),
        ("/livez", None, 200),
        ("/metrics", None, 401),
    ],
)
async def test_the_token(path: str, authorization: str | None, status: int) -> None:
    """Everything but health needs it, where one is set."""
    app = Slow()
    app.go.set()
    asked = GuardedRequest(path) if authorization is None else GuardedRequest(path, authorization=authorization)
    await make(app, b"secret")(asked.scope, asked.receive, asked.send)
    assert asked.status == status
