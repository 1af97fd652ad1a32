"""One request to an ASGI application, without a socket."""

import json
from typing import Any

import trio
from msgspec import Struct

from bargetrio.web.guard import App


class HttpAnswer(Struct, frozen=True):
    """Status, headers by lower-case name, body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Return the decoded body."""
        return json.loads(self.body)


async def ask(
    app: App, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None, *, query: str = ""
) -> HttpAnswer:
    """Make one request; waits for the whole answer."""
    given = {"host": "simulated:1", **(headers or {})}
    if body:
        given["content-length"] = str(len(body))
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"spec_version": "2.1", "version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in given.items()],
        "client": ("simulated", 2),
        "server": ("simulated", 1),
        "extensions": {},
        "state": {},
    }
    events: list[dict[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]
    status, found = 0, dict[str, str]()
    chunks: list[bytes] = []

    async def receive() -> dict[str, Any]:
        if not events:
            await trio.sleep_forever()
        return events.pop(0)

    async def send(event: dict[str, Any]) -> None:
        nonlocal status, found
        if event["type"] == "http.response.start":
            status = event["status"]
            found = {name.decode().lower(): value.decode() for name, value in event["headers"]}
        else:
            chunks.append(event.get("body", b""))

    await app(scope, receive, send)
    return HttpAnswer(status, found, b"".join(chunks))
