"""Checks before the application: target, Host, Origin, token, cluster, headers, and the number of requests in flight.

A browser can be made to POST to a port of this machine (CSRF), and a foreign name can be made to resolve to it (DNS rebinding):
etcd's CVE-2018-1098 and -1099. So a foreign Origin is always refused, and Host must be one of `hosts_of`. Plain ASGI, so that a
refusal does not run the framework.

Probes have reserved places, so that other requests cannot make /livez fail (docs/rest.md, "How much at a time").
"""

import hmac
from collections.abc import Awaitable, Callable
from math import inf
from typing import Any, Final

import trio
from msgspec import Struct

from bargetrio.cluster.daemons import CLUSTER_HEADER, decode_cluster
from bargetrio.protocol.addresses import parse_address
from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.limits import QUOTED_CHARACTERS
from bargetrio.web.headers import Headers, check_headers, headers_of, media_type_of
from bargetrio.web.metrics import WebCounters
from bargetrio.web.places import Message, Place, Places
from bargetrio.web.problems import answer_of
from bargetrio.web.query import Query, pairs_of
from bargetrio.web.routes import ROUTES, STATIC, Route
from bargetrio.web.targets import Target, allowed, route_of, target_of

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

IN_FLIGHT: Final = 64
STREAMS: Final = 50
TRANSFERS: Final = 16
PROBES: Final = 32
GRACE_S: Final = 15.0
"""How far a client may lag with its body, or with receiving the answer."""
TRANSFER_GRACE_S: Final = 30.0
PATIENCE_S: Final = 1.0
"""So far behind a client loses its place to a new one, if all are taken and it is the furthest."""
LONG_PATIENCE_S: Final = 5.0
"""The same for bulk writes, backups and event streams."""
REFUSAL_S: Final = 5.0
PROBE_PATHS: Final = frozenset({"/livez", "/readyz", "/metrics"})
OPEN_PATHS: Final = frozenset({"/livez", "/readyz", "/version", "/", STATIC.path})
"""What a load balancer may ask without a token; and the page itself: it holds nothing, asks for the token, and sends it."""
_CLUSTER_HEADER: Final = CLUSTER_HEADER.lower().encode()
HEAD: Final = "barge.head"
"""Under this name the scope holds what was read of the request."""
NDJSON: Final = "application/x-ndjson"

SECURITY_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
POLICY: Final = b"default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
NO_QUERY: Final = Query({})
_EVERYTHING: Final = ", ".join(sorted({"HEAD", "OPTIONS", *(route.method for route in ROUTES)}))


class RequestHead(Struct, frozen=True):
    """Target and headers of one request, parsed by the guard; handlers use only these."""

    route: Route
    argument: bytes
    headers: Headers
    query: Query
    streaming: bool
    """Whether it asks for events as a stream."""
    bulk: bool
    """Whether it is a bulk write."""


class Guard:
    """ASGI middleware that checks requests and bounds their number; `cluster` is the name of this daemon's cluster."""

    def __init__(self, app: App, *, cluster: str, hosts: frozenset[str], token: bytes | None) -> None:
        self._app = app
        self._cluster = cluster
        self._hosts = hosts
        self._token = token
        self.figures = WebCounters()
        self._requests = Places(IN_FLIGHT, "requests are in flight", grace_s=GRACE_S, patience_s=PATIENCE_S)
        self._transfers = Places(
            TRANSFERS,
            "bulk writes and backups are in flight",
            grace_s=TRANSFER_GRACE_S,
            patience_s=LONG_PATIENCE_S,
            body_bytes=None,
        )
        self._streams = Places(
            STREAMS, "event streams are open; close one, or poll /events", grace_s=GRACE_S, patience_s=LONG_PATIENCE_S
        )
        self._probes = Places(PROBES, "probes are being answered", grace_s=GRACE_S, patience_s=0, bytes_per_s=inf)
        self.connections: Callable[[], int] = lambda: 0
        """How many connections the server holds; whoever has a server says how to ask it."""
        self.in_lane: Callable[[], int] = lambda: 0
        """How many requests the fast lane executes; it says how to ask it."""

    @property
    def in_flight(self) -> int:
        """Return how many requests are being answered, without streams, transfers and probes."""
        return len(self._requests) + self.in_lane()

    @property
    def streams(self) -> int:
        """Return how many event streams are open."""
        return len(self._streams)

    @property
    def transfers(self) -> int:
        """Return how many bulk writes and backups are in progress."""
        return len(self._transfers)

    def head_of(self, method: str, raw_path: bytes, query_string: bytes, pairs: list[tuple[bytes, bytes]]) -> RequestHead:
        """Return the checked head of a request that needs no place; raise BargeError. Names in `pairs` are in lower case."""
        headers = headers_of(pairs)
        target = target_of(raw_path)
        self._check(target, headers)
        return _head_of(target, method, headers, query_string)

    def place_of(self, head: RequestHead, receive: Receive, send: Send) -> Place:
        """Return a place for a request of `head_of`, for `answer`, which frees it; raise BargeError(overloaded)."""
        return self._places_of(head).take(receive, send)

    async def answer(self, scope: Scope, head: RequestHead, place: Place) -> None:
        """Have the application answer a request that has its place, and free that; raise what is a bug, after an answer."""
        method: str = scope["method"]
        path = head.route.path
        try:
            with place.scope:
                await self._app({**scope, HEAD: head}, place.receive, self._counted_send(place, method, path))
            if place.scope.cancelled_caught and not place.started:
                taken = BargeError("overloaded", "the body did not come, and others waited for the place or its memory")
                self.figures.count(method, path, taken.status)
                await refuse(scope, place.raw_send, taken)
        except Exception as problem:
            if not place.started:
                unknown = BargeError("outcome_unknown", f"an error in the daemon: {type(problem).__name__}", status=500)
                self.figures.count(method, path, unknown.status)
                await refuse(scope, place.raw_send, unknown)
            raise
        finally:
            self._places_of(head).release(place)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http":
            return  # lifespan; websockets are refused in protocols.py
        method: str = scope["method"]
        path = ""
        try:
            refusal: BargeError | None = scope.get("state", {}).get("refusal")
            if refusal is not None:
                raise refusal
            headers = headers_of(scope["headers"])
            raw_path: bytes = scope.get("raw_path") or scope["path"].encode()
            whole_server = raw_path == b"*" and method == "OPTIONS"
            target = Target("") if whole_server else target_of(raw_path)
            path = target.path
            self._check(target, headers)
            if whole_server or (method == "OPTIONS" and path):
                allow = _EVERYTHING if whole_server else allowed(target)
                self.figures.count(method, path, 204)
                await _answer(send, 204, {"Allow": allow}, b"")
                return
            head = _head_of(target, method, headers, scope.get("query_string", b""))
            place = self.place_of(head, receive, send)
        except BargeError as error:
            self.figures.count(method, path, error.status)
            await refuse(scope, send, error)
            return
        await self.answer(scope, head, place)

    def _places_of(self, head: RequestHead) -> Places:
        if head.route.path in PROBE_PATHS:
            return self._probes
        if head.streaming:
            return self._streams
        if head.bulk or head.route.name == "snapshot":
            return self._transfers
        return self._requests

    def _check(self, target: Target, headers: Headers) -> None:
        host = headers.get(b"host", b"").decode("latin-1").lower()
        for name in (host,) if target.authority is None else (host, target.authority.decode("latin-1").lower()):
            if name not in self._hosts:
                which = f"this is not {name[:QUOTED_CHARACTERS]!r}" if name else "the request names no Host"
                raise BargeError("forbidden", f"{which}; add other names and ports to allowed_hosts in the configuration")
        origin = headers.get(b"origin")
        if origin is not None and not self._is_own(origin.decode("latin-1").lower()):
            raise BargeError("forbidden", "requests of pages of another origin are refused")
        if headers.get(b"sec-fetch-site", b"").strip().lower() == b"cross-site":
            raise BargeError("forbidden", "requests of pages of another site are refused")
        if self._token is not None and target.path not in OPEN_PATHS:
            given = headers.get(b"authorization", b"")
            if not given:
                raise BargeError("forbidden", "a token is needed: Authorization: Bearer ...", status=401)
            if not hmac.compare_digest(given, b"Bearer " + self._token):
                raise BargeError("forbidden", "the token is wrong", status=401)
        asked = headers.get(_CLUSTER_HEADER)
        if asked is not None and (name := decode_cluster(asked)) != self._cluster:
            raise BargeError("forbidden", f"this is a daemon of cluster {self._cluster!r}, not of {name[:QUOTED_CHARACTERS]!r}")

    def _is_own(self, origin: str) -> bool:
        scheme, _, host = origin.partition("://")
        return scheme in ("http", "https") and host in self._hosts

    def _counted_send(self, place: Place, method: str, path: str) -> Send:
        """Return the application's `send`, which counts the answer and adds the common headers."""

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.figures.count(method, path, message["status"])
                message = {**message, "headers": with_common_headers(list(message.get("headers", ())))}
            await place.send(message)

        return send


def with_common_headers(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return an answer's headers with those that all answers have; names are in lower case."""
    names = {name.lower() for name, _ in headers}
    headers += SECURITY_HEADERS
    if b"content-security-policy" not in names:
        headers.append((b"content-security-policy", POLICY))
    if b"cache-control" not in names:
        headers.append((b"cache-control", b"no-store"))
    return headers


def _head_of(target: Target, method: str, headers: Headers, query_string: bytes) -> RequestHead:
    route = route_of(target, method)
    check_headers(headers, route, method)
    query = Query(pairs_of(query_string), *route.query) if query_string else NO_QUERY
    streaming = route.name == "events" and method == "GET" and b"text/event-stream" in headers.get(b"accept", b"").lower()
    bulk = route.name == "post_keys" and media_type_of(headers) == NDJSON
    return RequestHead(route, target.argument, headers, query, streaming, bulk)


def hosts_of(apis: list[str], allowed: tuple[str, ...]) -> frozenset[str]:
    """Return the accepted Host values: the API addresses, the names of loopback, and the configuration's allowed hosts.

    A name without a port is accepted with the port of each API address; an allowed host also without one (a proxy on port 80 or
    443).
    """
    ports = sorted({parse_address(api)[1] for api in apis})
    names = ["localhost", "127.0.0.1", "[::1]"]
    hosts = set(apis)
    for name in allowed:
        if ":" in name.rpartition("]")[2]:
            hosts.add(name)
        else:
            hosts.add(name)
            names.append(name)
    hosts.update(f"{name}:{port}" for name in names for port in ports)
    hosts.update(name for name in names if 80 in ports)
    return frozenset(host.lower() for host in hosts)


async def refuse(scope: Scope, send: Send, error: BargeError) -> None:
    """Answer with the problem. Over HTTP/1 the connection ends if the error would also apply to the next request."""
    status, headers, body = answer_of(error)
    headers["Content-Length"] = str(len(body))
    if (error.code in ("forbidden", "overloaded") or "refusal" in scope.get("state", {})) and scope.get("http_version") != "2":
        headers["Connection"] = "close"
    await _answer(send, status, headers, body)


async def _answer(send: Send, status: int, headers: dict[str, str], body: bytes) -> None:
    """Send an answer that needs no place; given up if the client does not receive it within a few seconds."""
    pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    with trio.move_on_after(REFUSAL_S):
        await send({"type": "http.response.start", "status": status, "headers": [*pairs, *SECURITY_HEADERS]})
        await send({"type": "http.response.body", "body": body, "more_body": False})
