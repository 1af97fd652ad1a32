"""A request in the fast lane that is for the application: a call of ASGI without a web server around it.

The request has come whole, so nothing more of it is received. The answer is sent as it is made, and waits while the client lags.
"""

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final

import trio

from bargetrio.web.places import Message
from bargetrio.web.plain_requests import ForApplication

IN_LANE: Final = "in_lane"
"""A key of the scope's state: nothing of the answer is streamed, and the lane bounds its time."""


class Exchange:
    """One request and its answer; `scope`, `receive` and `send` are ASGI's.

    `post` sends bytes and waits while too many are unsent; it returns False where the client has gone. `date` returns the line of
    the answer's date and the end of its head.
    """

    def __init__(
        self, method: str, asked: ForApplication, post: Callable[[bytes], Awaitable[bool]], date: Callable[[], bytes]
    ) -> None:
        self.scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": asked.path.decode("latin-1"),
            "raw_path": asked.path,
            "query_string": asked.query,
            "root_path": "",
            "headers": asked.pairs,
            "client": None,
            "server": None,
            "extensions": {},
            "state": {IN_LANE: True},
        }
        self.is_whole = False
        """Whether the answer has been sent to its end."""
        self.is_last = False
        """Whether it says that the connection ends."""
        self.cancel_scope = trio.CancelScope()
        self._body: bytes | None = asked.body
        self._post = post
        self._date = date
        self._head = b""

    async def receive(self) -> Message:
        """Return the body, then wait until the application has ended."""
        body, self._body = self._body, None
        if body is not None:
            return {"type": "http.request", "body": body, "more_body": False}
        await trio.sleep_forever()
        raise AssertionError("it is cancelled")

    async def send(self, message: Message) -> None:
        """Send a part of the answer; its head with the first part of its body."""
        if message["type"] == "http.response.start":
            self._head = self._head_of(message["status"], message["headers"])
            return
        data = self._head + message.get("body", b"")
        self._head = b""
        self.is_whole = not message.get("more_body", False)
        if data and not await self._post(data):
            self.cancel_scope.cancel()
            await trio.lowlevel.checkpoint()

    def _head_of(self, status: int, headers: list[tuple[bytes, bytes]]) -> bytes:
        names = {name for name, _ in headers}
        if b"content-length" not in names and status not in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED):
            raise ValueError("an answer in the fast lane has a length")
        self.is_last = (b"connection", b"close") in headers
        return b"".join([b"HTTP/1.1 %d \r\n" % status, *[b"%s: %s\r\n" % pair for pair in headers], self._date()])
