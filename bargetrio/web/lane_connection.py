"""One connection in the fast lane: its bytes are parsed, its requests executed in their order, its answers sent in that order.

Consecutive requests of a kind are executed together, the next ones when those are answered. Whatever is not plain is handed over.
"""

from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

import trio

from bargetrio.protocol.requests import is_write
from bargetrio.transport.sockets import SocketConnection
from bargetrio.web.exchange import Exchange
from bargetrio.web.guard import Guard
from bargetrio.web.places import BYTES_PER_S
from bargetrio.web.plain_requests import ForApplication, NotPlain, PlainRequest, plain_request

PARTIAL_S: Final = 1.0
"""A request that is not whole by then is handed over: the other lane bounds how slow a client may be."""
PIPELINED: Final = 32
"""Requests of one connection that are read ahead."""
GROUP: Final = 16
"""Of them are executed together."""
UNPARSED_BYTES: Final = 64 * 1024
"""While the application answers a request of a connection, no more than this is read ahead."""
UNSENT_BYTES: Final = 64 * 1024
"""While a connection has more than this to send, its next requests wait."""
KEEP_ALIVE_S: Final = 60.0
"""How long a connection may be silent between two requests."""
SEND_S: Final = 15.0
"""How far a client may lag with receiving its answers, beside their time at BYTES_PER_S."""
GONE_S: Final = 1.0
"""How long the application may go on with a request whose client sends no more: it may have gone."""
APPLICATION: Final = "application"
"""The kind of a request that is executed alone."""


class Lane(Protocol):
    """What all connections of a server share; fast_lane.py has it."""

    guard: Guard
    held_bytes: int
    """Of requests that are not answered."""
    unsent_bytes: int
    """Of answers, which the kernel has not taken yet."""

    @property
    def has_room(self) -> bool:
        """Whether the requests that wait are not too many bytes."""

    @property
    def may_read(self) -> bool:
        """Whether the unsent answers are not too many bytes."""

    def add(self, connection: "LaneConnection", group: list[PlainRequest]) -> None:
        """Have a group of requests about keys executed soon; `connection` takes the answers, each with its place."""

    def begin_application(self, connection: "LaneConnection", asked: PlainRequest) -> Exchange | None:
        """Have the application answer a request; return None if there is no place for it."""

    def wake(self) -> None:
        """Have reads executed that waited for room."""

    def let_tasks_run(self) -> None:
        """As `Poller.let_tasks_run`."""

    async def read(self, connection: SocketConnection, take: Callable[[bytes], trio.Event | None]) -> None:
        """As `Poller.read`."""

    def register(self, connection: "LaneConnection") -> None:
        """Have its time bounded."""

    def forget(self, connection: "LaneConnection") -> None:
        """Bound its time no more."""


class LaneConnection:
    """One connection while it is in the lane. All calls are made in trio's thread."""

    def __init__(self, lane: Lane, connection: SocketConnection) -> None:
        self._lane = lane
        self._connection = connection
        self._buffer = b""
        """From the beginning of the first request that is not parsed."""
        self._needed = 0
        """How many bytes that request has at least, if known: with each piece of a body its head is not parsed again."""
        self._asked: deque[PlainRequest] = deque()
        self._group: list[PlainRequest] = []
        """The requests that are executed, and their answers."""
        self._answers: list[bytes] = []
        self._left = 0
        self._exchange: Exchange | None = None
        """The request that the application answers."""
        self._awaits_application = False
        """Whether such a request is there: what follows is not parsed before its answer, so that it can be handed over."""
        self._sends_no_more = False
        self._has_sent = trio.Event()
        self._room = trio.Event()
        self._is_paused = False
        self._ends = False
        """Whether the lane reads no more: what is in the buffer is for the other lane, or nothing comes any more."""
        self._is_over = False
        """Whether the client has gone, or the other lane serves it."""
        self._at_rest = trio.Event()
        self._scope = trio.CancelScope()
        self._partial_since: float | None = None
        self._since = trio.current_time()
        """When it last received or sent anything."""
        self.lag_s = 0.0
        """How far its client lags with receiving, as of the last check; having been faster before does not help."""
        self._checked_at = self._since
        self._sent_before = 0
        self._unsent = 0
        """How many bytes of this connection are in `FastLane.unsent_bytes`."""
        self._held = 0
        """How many of `FastLane.held_bytes` are this connection's."""
        connection.outgoing.on_room = self._has_room

    async def serve(self, data: bytes) -> bytes | None:
        """Answer requests, `data` and what follows; return the bytes for the other lane, None where the client has gone.

        When it returns, everything before is answered and sent. Raises Broken.
        """
        self._lane.register(self)
        try:
            with self._scope:
                if data and (room := self._take(data)) is not None:
                    await room.wait()
                await self._lane.read(self._connection, self._take)
                self._sends_no_more = True
                self._bound_exchange()
            while self._asked or self._group or self._connection.unsent_bytes:
                self._at_rest = trio.Event()
                await self._at_rest.wait()
            return self._buffer or None
        finally:
            self._is_over = True
            if self._exchange is not None:
                self._exchange.cancel_scope.cancel()
            self._connection.outgoing.on_room = None
            self._lane.forget(self)
            self._lane.held_bytes -= self._held
            self._lane.unsent_bytes -= self._unsent
            if self._unsent:
                self._lane.wake()

    # -- reading -----------------------------------------------------------------------------------------------------------

    def _take(self, data: bytes) -> trio.Event | None:
        self._since = trio.current_time()
        self._hold(len(data))
        self._buffer = self._buffer + data if self._buffer else data
        if len(self._buffer) >= self._needed or self._ends:
            self._parse()
        elif not self._lane.has_room:
            self._hand_over()
        if not self._is_paused:
            return None
        self._room = trio.Event()
        return self._room

    def _parse(self) -> None:
        """Parse the requests that are whole, and execute the first of them."""
        at, size = 0, len(self._buffer)
        self._needed = 0
        while at < size and len(self._asked) < PIPELINED and not (self._ends or self._awaits_application):
            try:
                asked = self._next(at)
            except NotPlain:
                self._hand_over()
                break
            if isinstance(asked, int):
                self._needed = asked
                break
            self._asked.append(asked)
            self._awaits_application = isinstance(asked.request, ForApplication)
            at += asked.size
        if at:
            self._buffer = self._buffer[at:]
            self._partial_since = None
        is_ahead = len(self._asked) >= PIPELINED or (self._awaits_application and len(self._buffer) > UNPARSED_BYTES)
        self._is_paused = self._ends or is_ahead
        if not self._buffer or self._is_paused or self._awaits_application:
            self._partial_since = None
        elif self._partial_since is None:
            self._partial_since = self._since
        self._execute()

    def _next(self, at: int) -> PlainRequest | int:
        if not self._lane.has_room:
            raise NotPlain
        return plain_request(self._buffer, at, self._lane.guard)

    def _hold(self, size: int) -> None:
        self._held += size
        self._lane.held_bytes += size

    def _hand_over(self) -> None:
        self._ends = self._is_paused = True
        self._partial_since = None
        self._scope.cancel()
        self._lane.let_tasks_run()

    # -- executing and answering -------------------------------------------------------------------------------------------

    def _execute(self) -> None:
        """Have the next requests executed, unless others are, or too much is to be sent."""
        if self._group or self._connection.unsent_bytes > UNSENT_BYTES:
            return
        asked = self._asked
        if self._connection.is_closed:  # nobody waits for the rest, and what comes is not read any more
            asked.clear()
            self._buffer = b""
            self._ends = True
            self._room.set()
        if not asked:
            if not self._connection.unsent_bytes:
                self._at_rest.set()
                self._lane.let_tasks_run()
            return
        kind = _kind_of(asked[0])
        if kind == APPLICATION:
            self._begin_exchange(asked.popleft())
            return
        while asked and len(self._group) < GROUP and _kind_of(asked[0]) == kind:
            self._group.append(asked.popleft())
        self._left = len(self._group)
        self._answers = [b""] * self._left
        self._lane.add(self, self._group)

    def _begin_exchange(self, asked: PlainRequest) -> None:
        assert isinstance(asked.request, ForApplication)
        self._exchange = self._lane.begin_application(self, asked)
        if self._exchange is not None:
            self._group = [asked]
            self._bound_exchange()
            return
        self._awaits_application = False
        self._buffer = asked.request.data + self._buffer  # nothing behind it was parsed
        self._hand_over()

    def _bound_exchange(self) -> None:
        if self._exchange is not None and self._sends_no_more:
            self._exchange.cancel_scope.deadline = trio.current_time() + GONE_S

    def asked_at(self, place: int) -> PlainRequest:
        """Return the request at this place of the group."""
        return self._group[place]

    def take_answer(self, place: int, answer: bytes) -> None:
        """Keep the answer; with the last one of a group, send all, and go on."""
        self._answers[place] = answer
        self._left -= 1
        if self._left or self._is_over:
            return
        lines, self._answers = b"".join(self._answers), []
        self._connection.post(lines)
        self._end_group()

    async def post_part(self, data: bytes) -> bool:
        """Send a part of the application's answer, and wait while too much is unsent; return False where the client has gone."""
        self._connection.post(data)
        self._watch_sending()
        while self._connection.unsent_bytes > UNSENT_BYTES and not self._is_over:
            self._has_sent = trio.Event()
            await self._has_sent.wait()
        return not (self._is_over or self._connection.is_closed)

    def end_exchange(self, exchange: Exchange) -> None:
        """Go on after the application's answer; one that is not whole ends the connection: the client would wait for its rest."""
        self._exchange = None
        self._awaits_application = False
        if self._is_over:
            return
        if not exchange.is_whole:
            self.abort()
        if exchange.is_last:
            self._buffer = b""
            self._hand_over()
        self._end_group()

    def _end_group(self) -> None:
        """Go on after a group that was answered."""
        self._since = trio.current_time()
        self._hold(-sum([asked.size for asked in self._group]))
        self._group = []
        self._watch_sending()
        if self._ends or not (self._is_paused or self._buffer):
            self._execute()
            return
        was_paused = self._is_paused
        self._parse()
        if was_paused and not self._is_paused:
            self._room.set()
            self._lane.let_tasks_run()

    def _has_room(self) -> None:
        """What was to be sent has left, or the connection is closed."""
        self._watch_sending()
        self._execute()
        self._has_sent.set()
        if self._exchange is not None:
            self._lane.let_tasks_run()

    def _watch_sending(self) -> None:
        unsent = self._connection.unsent_bytes
        lane = self._lane
        was_full = not lane.may_read
        lane.unsent_bytes += unsent - self._unsent
        self._unsent = unsent
        if was_full and lane.may_read:
            lane.wake()

    # -- time --------------------------------------------------------------------------------------------------------------

    def check_time(self, now: float) -> None:
        """End the connection if its client receives too slowly or is silent; hand it over if a request does not come whole."""
        self._watch_sending()
        sent = self._connection.outgoing.pushed_bytes
        if self._unsent:
            self.lag_s = max(0.0, self.lag_s + now - self._checked_at - (sent - self._sent_before) / BYTES_PER_S)
        else:
            self.lag_s = 0.0
        self._checked_at, self._sent_before = now, sent
        if self.lag_s > SEND_S:
            self.abort()
        elif self._partial_since is not None:
            if now - self._partial_since > PARTIAL_S:
                self._hand_over()
        elif self.is_idle and now - self._since > KEEP_ALIVE_S:
            self._connection.close()

    def abort(self) -> None:
        """Close the connection with a reset."""
        self._connection.abort()

    @property
    def is_idle(self) -> bool:
        """Whether no request has begun to come and no answer is to be sent."""
        return not (self._group or self._asked or self._buffer or self._connection.unsent_bytes)

    @property
    def idle_since(self) -> float | None:
        """Since when; None while a request is executed or its answer sent."""
        return None if self._group or self._asked or self._connection.unsent_bytes else self._since


def _kind_of(asked: PlainRequest) -> str:
    request = asked.request
    if isinstance(request, ForApplication):
        return APPLICATION
    return "write" if is_write(request) else request.read
