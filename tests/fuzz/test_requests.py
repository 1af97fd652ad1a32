"""Targets, headers and parameters of all kinds, mixed at random: one reading, and never an error of ours."""

import json
from random import Random
from typing import Any

import trio

from bargetrio.protocol.requests import Delete, DeleteAnswer, Get, GetAnswer, List, ListAnswer, Put, PutAnswer, Request
from bargetrio.protocol.views import LeaderView
from bargetrio.web.app import make_app

REQUESTS = 1500
PARTS = [
    "/",
    "//",
    "keys",
    "%6beys",
    "a",
    "..",
    "%2e%2e",
    ".",
    "%2f",
    "%00",
    "%ff",
    "%zz",
    "%",
    ";v=1",
    "#x",
    "+",
    "%25",
    "é",
    "*",
    "http:",
]
HEADERS = {
    "host": ["simulated:1", "simulated:1", "foreign:1", ""],
    "origin": ["http://simulated:1", "http://foreign", "null"],
    "content-type": ["text/plain", "application/json", "application/x-ndjson", "text/plain; charset=latin1", "x/y", ""],
    "content-encoding": ["identity", "gzip", ""],
    "content-length": ["0", "1", "x", "99999999"],
    "if-match": ['"7"', 'W/"7"', "*", '"7", "8"', '"', "7", '"x"', ","],
    "if-none-match": ['"7"', 'W/"7"', "*", '"7", *', '"é"', ""],
    "if-unmodified-since": ["x"],
    "content-range": ["bytes 0-0/1"],
    "expect": ["100-continue", "200-ok"],
    "accept": ["text/plain", "text/event-stream", "*/*;q=x", "é"],
    "range": ["bytes=0-0"],
    "x-http-method-override": ["DELETE"],
}
QUERIES = [b"", b"", b"read=stale", b"read=stale&read=lease", b"x=1", b"read=%zz", b"read=%ff", b"&&=&", b"local=1", b"limit=0"]
METHODS = ["GET", "PUT", "DELETE", "HEAD", "OPTIONS", "FOO"]


class OneKey:
    """A cluster that knows every key at index 7, and notes which was asked for."""

    cluster_name = "barge"
    local_ids = node_ids = [0]  # noqa: RUF012

    @property
    def local(self) -> "OneKey":
        """Its own nodes are all there are."""
        return self

    def __init__(self) -> None:
        self.key = ""

    def known_leader(self) -> LeaderView:
        """Node 0."""
        return LeaderView(leader=0, term=1, address="simulated:2")

    async def execute(self, request: Request) -> Any:
        """Answer."""
        match request:
            case Get(key=key):
                self.key = key
                return GetAnswer(id=0, key=key, index=7, value="v")
            case Put(key=key):
                self.key = key
                return PutAnswer(id=0, key=key, index=8, term=1, created=False)
            case Delete(key=key):
                self.key = key
                return DeleteAnswer(id=0, key=key, index=8, term=1, deleted=True)
            case List():
                return ListAnswer(id=0, items=[], next=None, index=7)


Pairs = list[tuple[bytes, bytes]]


async def ask(app: Any, method: str, raw_path: bytes, query: bytes, headers: Pairs) -> tuple[int, Any, bytes]:
    """Make one request; return (status, headers, body)."""
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": b"v" if method == "PUT" else b"", "more_body": False}]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if not messages:
            await trio.sleep_forever()
        return messages.pop(0)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope: dict[str, Any] = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": "/",
        "raw_path": raw_path,
    }
    scope |= {
        "query_string": query,
        "headers": headers,
        "root_path": "",
        "client": None,
        "server": None,
        "state": {},
        "extensions": {},
    }
    scope |= {"asgi": {"spec_version": "2.1", "version": "3.0"}}
    await app(scope, receive, send)
    assert sent, (method, raw_path, headers)
    return sent[0]["status"], dict(sent[0]["headers"]), b"".join(message.get("body", b"") for message in sent[1:])


async def test_no_request_is_read_in_two_ways_or_answered_by_an_error_of_ours() -> None:
    """From 400 on a problem with `applied` false; and a path that names a key names the same for every method."""
    random = Random(18)
    cluster: Any = OneKey()
    app = make_app(cluster, hosts=frozenset({"simulated:1"}), token=None)
    seen: set[int] = set()
    for number in range(REQUESTS):
        start = random.choice(["/keys/", "/keys/", "/", "//", "", "http://simulated:1/keys/", "/livez", "/version"])
        path = (start + "".join(random.choices(PARTS, k=random.randint(0, 4)))).encode()
        if path == b"*" or not path:
            path = b"/keys/x"
        names = random.sample(sorted(HEADERS), random.choice([0, 1, 1, 1, 2]))
        pairs = [
            (name.encode(), random.choice(HEADERS[name]).encode()) for name in names for _ in range(random.choice([1, 1, 1, 2]))
        ]
        if not any(name == b"host" for name, _ in pairs):
            pairs.append((b"host", b"simulated:1"))
        plain = [(b"host", b"simulated:1"), (b"content-type", b"text/plain")]
        keys = set()
        for method in ("GET", "PUT", "DELETE"):
            cluster.key = None
            status, _, _ = await ask(app, method, path, b"", plain if method == "PUT" else plain[:1])
            keys.add((cluster.key, status if cluster.key is None and status != 200 and status != 405 else 0))
        assert len(keys) == 1 or (path.startswith((b"/livez", b"/version", b"/")) and {key for key, _ in keys} == {None}), (
            path,
            keys,
        )
        method = random.choice(METHODS)
        status, headers, body = await ask(app, method, path, random.choice(QUERIES), pairs)
        seen.add(status)
        assert status < 500, (number, method, path, pairs, body)
        if status >= 400:
            assert headers[b"content-type"] == b"application/problem+json", (number, method, path, pairs)
            told = json.loads(body)
            assert (told["status"], told["applied"]) == (status, False)
        assert app.in_flight == app.streams == app.transfers == 0
    missed = {200, 204, 400, 403, 404, 405, 412, 415} - seen
    assert not missed, missed
