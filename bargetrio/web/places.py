"""Bounds on concurrent requests: places, and how long a slow client may hold one.

A request holds a place until it is answered. The time that the daemon waits for the client, for the body or for the answer to be
received, is compared with the bytes transferred: a client slower than `BYTES_PER_S` lags. One whose lag in receiving the answer
exceeds `grace_s` loses its place; when all places are taken, the client with the largest lag, of at least `patience_s`, loses its
place to the next request. So slow clients displace each other only.
"""

from collections.abc import Callable
from math import inf
from typing import Any, Final

import trio

from bargetrio.protocol.errors import BargeError

Message = dict[str, Any]
BYTES_PER_S: Final = 16 * 1024
SLICE_BYTES: Final = 32 * 1024
BODY_BYTES: Final = 64 * 1024 * 1024
"""Of all bodies that are not whole; beyond it the request with the longest one loses its place: it was not begun."""


class Place:
    """One request that is being answered. `receive` and `send` wrap the request's own, and measure the client's lag."""

    def __init__(self, receive: Any, send: Any, grace_s: float, bytes_per_s: float, on_body: Callable[["Place"], None]) -> None:
        self._on_body = on_body
        self.scope = trio.CancelScope()
        self.started = False
        """Whether the answer's head is out."""
        self.whole = False
        """Whether the body has come to its end, or the client has gone."""
        self.body_bytes = 0
        """What has come of the body, as long as it is not whole: then it is read, and its value is bounded."""
        self._receive = receive
        self.raw_send = send
        """The request's own, which measures nothing."""
        self._grace_s = grace_s
        self._bytes_per_s = bytes_per_s
        self._receiving = _DelayMeter(bytes_per_s)
        self._sending = _DelayMeter(bytes_per_s)

    async def receive(self) -> Message:
        """Return the next part of the body. Waiting after its end, for the disconnection, does not count as lag."""
        if self.whole:
            message: Message = await self._receive()
            return message
        size = 0
        self._receiving.begin()
        try:
            message = await self._receive()
            size = len(message.get("body", b""))
        finally:
            self._receiving.end(size)
        if self.scope.cancel_called:  # the place was just taken away: the request must not be executed
            await trio.lowlevel.checkpoint()
        self.whole = not message.get("more_body", False)
        self.body_bytes = 0 if self.whole else self.body_bytes + size
        self._on_body(self)
        return message

    async def send(self, message: Message) -> None:
        """Send a part of the answer; the place's scope is cancelled when the client lags too much.

        An incomplete answer is then broken off: the connection, or the HTTP/2 stream, ends. A long part is sent in slices, since
        only the end of a slice shows that the client receives.
        """
        self.started = True
        body, sent = message.get("body", b""), 0
        while len(body) - sent > SLICE_BYTES:
            part = body[sent : sent + SLICE_BYTES]
            await self._send_one({"type": "http.response.body", "body": part, "more_body": True}, SLICE_BYTES)
            sent += SLICE_BYTES
        await self._send_one({**message, "body": body[sent:]} if sent else message, len(body) - sent)

    async def _send_one(self, message: Message, size: int) -> None:
        account = self._sending
        self.scope.deadline = account.begin() + self._grace_s + size / self._bytes_per_s - account.behind_s
        try:
            await self.raw_send(message)
        finally:
            account.end(size)
        self.scope.deadline = inf

    def behind_s(self, now: float) -> float:
        """Return the client's lag in seconds; -inf while the daemon does not wait for it."""
        return max(self._sending.now_behind_s(now), self._receiving.now_behind_s(now))


class _DelayMeter:
    """A client's lag in one direction. Being faster than required gives no credit for later."""

    __slots__ = ("_bytes_per_s", "_since", "behind_s")

    def __init__(self, bytes_per_s: float) -> None:
        self.behind_s = 0.0
        self._bytes_per_s = bytes_per_s
        self._since = inf

    def begin(self) -> float:
        """Begin a wait; return the time."""
        now = self._since = trio.current_time()
        return now

    def end(self, size: int) -> None:
        """End the wait, in which `size` bytes were transferred."""
        self.behind_s = max(0.0, self.behind_s + trio.current_time() - self._since - size / self._bytes_per_s)
        self._since = inf

    def now_behind_s(self, now: float) -> float:
        """Return the client's lag, -inf while the daemon does not wait for it."""
        return self.behind_s + now - self._since


class Places:
    """The places for one kind of request, `most` of them."""

    def __init__(
        self,
        most: int,
        what: str,
        *,
        grace_s: float,
        patience_s: float,
        bytes_per_s: float = BYTES_PER_S,
        body_bytes: int | None = BODY_BYTES,
    ) -> None:
        """`body_bytes` is what all bodies may have together, None where a body is not kept but used as it comes."""
        self._body_bytes = body_bytes
        self._most = most
        self._what = what
        self._grace_s = grace_s
        self._patience_s = patience_s
        self._bytes_per_s = bytes_per_s
        self._held: set[Place] = set()

    def __len__(self) -> int:
        return len(self._held)

    def take(self, receive: Any, send: Any) -> Place:
        """Return a place, if necessary that of the client with the largest lag; raise BargeError(overloaded) if there is none."""
        if len(self._held) >= self._most:
            self._make_room()
        place = Place(receive, send, self._grace_s, self._bytes_per_s, self._bound_bodies)
        self._held.add(place)
        return place

    def release(self, place: Place) -> None:
        """Free the place. Idempotent."""
        self._held.discard(place)

    def _bound_bodies(self, last: Place) -> None:
        """End the requests with the longest bodies while all of them have too many bytes."""
        most = self._body_bytes
        if most is None or last.body_bytes <= most // self._most:  # however many there are, they fit
            return
        while sum(place.body_bytes for place in self._held) > most:
            longest = max(self._held, key=lambda place: place.body_bytes)
            self._held.discard(longest)
            longest.scope.cancel()

    def _make_room(self) -> None:
        now = trio.current_time()
        slowest = max(self._held, key=lambda place: place.behind_s(now))
        if slowest.behind_s(now) < self._patience_s:
            raise BargeError("overloaded", f"{self._most} {self._what}")
        self._held.discard(slowest)
        slowest.scope.cancel()
