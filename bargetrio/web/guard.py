"""What stands before the application: Host, Origin, token, and how much may be in flight.

A browser can be made to POST to a port of this machine, and a foreign name can be made to point here: etcd's CVE-2018-1098 and
-1099. So a foreign Origin is refused always, and Host must be one of ours. Plain ASGI: a refusal costs no framework.
"""

import hmac
from collections.abc import Awaitable, Callable
from typing import Any, Final

from bargetrio.protocol.addresses import parse_address
from bargetrio.protocol.errors import BargeError
from bargetrio.web.problems import answer_of

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

IN_FLIGHT: Final = 64
STREAMS: Final = 50
OPEN_PATHS: Final = frozenset({"/livez", "/readyz", "/version", "/"})
"""What a load balancer may ask without a token; and the page itself: it holds nothing, asks for the token, and sends it."""
OPEN_FOLDER: Final = "/static/"

SECURITY_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
POLICY: Final = b"default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"


class Guard:
    """An ASGI application in front of another."""

    def __init__(self, app: App, *, hosts: frozenset[str], token: bytes | None) -> None:
        self._app = app
        self._hosts = hosts
        self._token = token
        self.in_flight = 0
        self.streams = 0
        self.connections: Callable[[], int] = lambda: 0
        """How many connections the server holds; whoever has a server says how to ask it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            return
        headers: dict[bytes, bytes] = dict(scope["headers"])
        streaming = scope["path"] == "/events" and b"text/event-stream" in headers.get(b"accept", b"")
        try:
            self._check(scope, headers)
            if streaming and self.streams >= STREAMS:
                raise BargeError("overloaded", f"{STREAMS} event streams are open; close one, or poll /events")
            if not streaming and self.in_flight >= IN_FLIGHT:
                raise BargeError("overloaded", f"{IN_FLIGHT} requests are in flight")
        except BargeError as error:
            await _refuse(send, error)
            return
        if streaming:
            self.streams += 1
        else:
            self.in_flight += 1
        try:
            await self._app(scope, receive, _with_headers(send))
        finally:
            if streaming:
                self.streams -= 1
            else:
                self.in_flight -= 1

    def _check(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if host not in self._hosts:
            raise BargeError("forbidden", f"this is not {host!r}; other names go to allowed_hosts of the configuration")
        origin = headers.get(b"origin")
        if origin is not None and not self._is_own(origin.decode("latin-1").lower()):
            raise BargeError("forbidden", "a page of another origin may not ask here")
        if headers.get(b"sec-fetch-site", b"").lower() == b"cross-site":
            raise BargeError("forbidden", "a page of another site may not ask here")
        path: str = scope["path"]
        if self._token is not None and path not in OPEN_PATHS and not path.startswith(OPEN_FOLDER):
            given = headers.get(b"authorization", b"")
            if not given:
                raise BargeError("forbidden", "a token is needed: Authorization: Bearer ...", status=401)
            if not hmac.compare_digest(given, b"Bearer " + self._token):
                raise BargeError("forbidden", "this is not the token", status=401)

    def _is_own(self, origin: str) -> bool:
        scheme, _, host = origin.partition("://")
        return scheme in ("http", "https") and host in self._hosts


def hosts_of(apis: list[str], allowed: tuple[str, ...]) -> frozenset[str]:
    """Return the Host values that mean us: our addresses, loopback by its names, and what the configuration allows.

    An allowed host without a port is meant with any of our ports, and with none (a proxy on port 80 or 443).
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


async def _refuse(send: Send, error: BargeError) -> None:
    status, headers, body = answer_of(error)
    pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    pairs += [*SECURITY_HEADERS, (b"content-length", str(len(body)).encode()), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def _with_headers(send: Send) -> Send:
    async def wrapped(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", ()))
            names = {name.lower() for name, _ in headers}
            headers += SECURITY_HEADERS
            if b"content-security-policy" not in names:
                headers.append((b"content-security-policy", POLICY))
            if b"cache-control" not in names:
                headers.append((b"cache-control", b"no-store"))
            message = {**message, "headers": headers}
        await send(message)

    return wrapped
