"""The fast lane: requests read by the event loop, parsed at once, and answered in their order.

```
bytes -> plain request -> group of one connection -> batch of all connections -> outcome -> answer, in the requests' order
             |  └ for another route than a key's: the application, in a task
             └ anything else: the connection is handed over to hypercorn with the bytes that were read, for that one request
```
Only plain requests are taken here (plain_requests.py): over HTTP/1.1, with a whole body of a known length, which the guard lets
pass. Those about a key need no task, and are executed together; for others the application is called (exchange.py). Whatever is
malformed, refused, slow or unusual is handed over as it came, so that it gets the same answer as ever, and no request is read in
two ways: its bytes are taken either here or there. Both lanes have one guard, one table of routes and one way to make an answer.
"""

import logging
from collections.abc import Callable, Sequence
from time import time
from typing import Any, Final, NoReturn, cast
from wsgiref.handlers import format_date_time

import trio

from bargetrio.cluster.cluster import Cluster
from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.requests import Request
from bargetrio.transport.poller import Poller
from bargetrio.transport.sockets import SocketConnection
from bargetrio.web.batches import Batches
from bargetrio.web.exchange import Exchange
from bargetrio.web.guard import Guard, with_common_headers
from bargetrio.web.keys import answer_to
from bargetrio.web.lane_connection import LaneConnection
from bargetrio.web.places import Place
from bargetrio.web.plain_requests import ForApplication, PlainRequest

log = logging.getLogger(__name__)

HELD_BYTES: Final = 16 * 1024 * 1024
"""Of all requests that are not answered, of all connections; beyond it the next one is for the other lane, which takes fewer."""
ALL_UNSENT_BYTES: Final = 64 * 1024 * 1024
"""While all connections together have more than this to send, reads wait, and the client that lags most is disconnected."""
PATIENCE_S: Final = 1.0
"""So far it must lag for that."""
SWEEP_S: Final = 0.5
"""Interval of the checks for connections that are slow or silent."""

_COMMON: Final = b"".join([b"%s: %s\r\n" % pair for pair in with_common_headers([])])
"""The headers that all answers have; those about a key have no others of these names."""


class FastLane:
    """What all connections of a server share: their batches, and the bytes of their requests and answers. Implements Lane."""

    def __init__(self, cluster: Cluster, guard: Guard) -> None:
        self.guard = guard
        self.held_bytes = self.unsent_bytes = 0
        self._cluster = cluster
        self._batches: Batches[tuple[LaneConnection, int]] | None = None
        self._connections: dict[LaneConnection, None] = {}
        self._date = 0, b""
        self.in_application = 0
        """Requests that the application answers: each is a task."""
        guard.in_lane = lambda: self.in_flight

    async def run(self, poller: Poller) -> NoReturn:
        """Execute the batches, and end or hand over who is slow or silent, until cancelled. Runs beside the connections."""
        self._poller = poller
        self._batches = Batches(self._cluster.begin, self._deliver, poller.want_step, lambda: self.may_read)
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(poller.run)
            nursery.start_soon(self._sweep)
            await poller.drive(self._batches.step)
        raise AssertionError("it is cancelled or raises")

    @property
    def in_flight(self) -> int:
        """How many requests wait or are executed."""
        return 0 if self._batches is None else self._batches.in_flight

    def add(self, connection: LaneConnection, group: list[PlainRequest]) -> None:
        """See `lane_connection.Lane`."""
        assert self._batches is not None, "it runs"
        self._batches.add([((connection, place), cast(Request, asked.request)) for place, asked in enumerate(group)])
        self._poller.want_step()

    def begin_application(self, connection: LaneConnection, asked: PlainRequest) -> Exchange | None:
        """See `lane_connection.Lane`."""
        assert isinstance(asked.request, ForApplication)
        exchange = Exchange(asked.method, asked.request, connection.post_part, self._now)
        try:
            place = self.guard.place_of(asked.head, exchange.receive, exchange.send)
        except BargeError:
            return None
        self.in_application += 1
        self._nursery.start_soon(self._call_application, connection, asked, exchange, place)
        self._poller.let_tasks_run()
        return exchange

    async def _call_application(self, connection: LaneConnection, asked: PlainRequest, exchange: Exchange, place: Place) -> None:
        try:
            with exchange.cancel_scope:
                await self.guard.answer(exchange.scope, asked.head, place)
        except Exception as problem:  # a bug in one request must not end the daemon; it is answered, if that was possible
            log.error("a request failed", exc_info=problem)
        finally:
            self.in_application -= 1
        try:
            connection.end_exchange(exchange)
        except Exception as problem:  # a bug in one connection ends that one only
            log.error("a connection ended by an error", exc_info=problem)
            connection.abort()

    def wake(self) -> None:
        """See `lane_connection.Lane`."""
        self._poller.want_step()

    def let_tasks_run(self) -> None:
        """See `lane_connection.Lane`."""
        self._poller.let_tasks_run()

    async def read(self, connection: SocketConnection, take: Callable[[bytes], trio.Event | None]) -> None:
        """See `lane_connection.Lane`."""
        await self._poller.read(connection, take)

    def register(self, connection: LaneConnection) -> None:
        """See `lane_connection.Lane`."""
        self._connections[connection] = None

    def forget(self, connection: LaneConnection) -> None:
        """See `lane_connection.Lane`."""
        self._connections.pop(connection, None)

    def _deliver(self, waiting: Sequence[tuple[LaneConnection, int]], outcomes: Sequence[Any]) -> None:
        known, date = self._cluster.local.known_leader(), self._now()
        for (connection, place), outcome in zip(waiting, outcomes, strict=True):
            try:
                asked = connection.asked_at(place)
                status, headers, body = answer_to(asked.head, outcome, known)
                self.guard.figures.count(asked.method, asked.head.route.path, status)
                lines = [b"HTTP/1.1 %d \r\n" % status, *[b"%s: %s\r\n" % pair for pair in headers], _COMMON, date, body]
                connection.take_answer(place, b"".join(lines))
            except Exception as problem:  # a bug in one connection ends that one only
                log.error("a connection ended by an error", exc_info=problem)
                connection.abort()

    def _now(self) -> bytes:
        second = int(time())
        if second != self._date[0]:
            self._date = second, b"date: " + format_date_time(second).encode("ascii") + b"\r\n\r\n"
        return self._date[1]

    @property
    def has_room(self) -> bool:
        """See `lane_connection.Lane`."""
        return self.held_bytes <= HELD_BYTES

    @property
    def may_read(self) -> bool:
        """See `lane_connection.Lane`."""
        return self.unsent_bytes <= ALL_UNSENT_BYTES

    async def _sweep(self) -> None:
        while True:
            await trio.sleep(SWEEP_S)
            now = trio.current_time()
            for connection in list(self._connections):
                connection.check_time(now)
            for connection in sorted(self._connections, key=lambda connection: -connection.lag_s):  # each once: one may be closed
                if self.may_read or connection.lag_s < PATIENCE_S:
                    break
                connection.abort()
