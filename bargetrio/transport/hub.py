"""The event loop that all nodes of a process share: an epoll over their sockets, served by one trio task.

```
run: wait -> [recv, take] [recv, take] [a sync has ended] ... -> turn of node 0 -> turn of node 2 -> look again -> ...
```
trio waits for the epoll as for any file. When it is readable, the task reads what has come, gives the nodes that got something
their turn, and looks again, until nothing is left or its time slice is over. So a message wakes one task and not one for each
connection: docs/decisions/one_task_a_node.md has the figures. The nodes share nothing but this loop: what a turn raises ends the
node whose turn it was.
"""

import os
import select
import sys
import time
from collections.abc import Callable
from typing import Final, NoReturn

import trio

from bargetrio.transport.arrivals import NOW, Arrivals, Take, TaskArrivals, Turn, read_in_this_task
from bargetrio.transport.network import Broken, Connection
from bargetrio.transport.sockets import SocketConnection

TIME_SLICE_S: Final = 0.001
"""Longest time in seconds that the loop keeps for itself before trio's other tasks run; one look may take longer."""
LOOK_BYTES: Final = 1024 * 1024
"""Bytes after which a look reads no more clients before the nodes take their turns; peers and ended syncs are served in each."""


class EpollHub:
    """Made and run once a process; each node has an EpollArrivals of it. All calls but `ring` are made in trio's thread."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._bell, select.EPOLLIN)
        self._has_rung = False
        self._handlers: dict[int, _Handler] = {}
        self._driven: list[EpollArrivals] = []
        self._due: list[EpollArrivals] = []
        """Who takes its turn after this look."""
        self._left: list[int] = []
        """Descriptors that were readable and not served in the last look: they come first in the next."""
        self._alarm = trio.CancelScope()
        """`_keep_time` rings at its deadline. It costs nothing while deadlines move on; a scope for each wait costs 7 µs."""

    async def run(self) -> NoReturn:
        """Serve the nodes until cancelled; what is wrong with the loop itself is raised here."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_time)
            await self._serve()
        raise AssertionError("it is cancelled or raises")

    def ring(self) -> None:
        """Write to an eventfd. What somebody left before he called is seen: the bell is heard first, then who has rung."""
        if not self._has_rung:
            self._has_rung = True
            os.eventfd_write(self._bell, 1)

    def close(self) -> None:
        """Close the epoll and its bell; nobody is driven or read any more."""
        self._epoll.close()
        os.close(self._bell)

    # -- for EpollArrivals ---------------------------------------------------------------------------------------------------

    def add(self, arrivals: "EpollArrivals") -> None:
        """Drive it, beginning with a turn at once."""
        self._driven.append(arrivals)
        arrivals.ring()

    def remove(self, arrivals: "EpollArrivals") -> None:
        """Drive it no more."""
        if arrivals in self._driven:
            self._driven.remove(arrivals)

    def register(self, descriptor: int, handler: "_Handler") -> None:
        """Call it when the descriptor is readable."""
        self._epoll.register(descriptor, select.EPOLLIN)
        self._handlers[descriptor] = handler

    def forget(self, descriptor: int, handler: "_Handler") -> bool:
        """Call it no more; return whether it was registered: a descriptor that was closed may be another's by now."""
        if self._handlers.get(descriptor) is not handler:
            return False
        del self._handlers[descriptor]
        self._epoll.unregister(descriptor)
        return True

    # -- the loop ------------------------------------------------------------------------------------------------------------

    async def _serve(self) -> NoReturn:
        while True:
            await trio.lowlevel.wait_readable(self._epoll.fileno())
            ends = time.perf_counter() + TIME_SLICE_S
            while self._look():
                if time.perf_counter() >= ends:
                    await trio.lowlevel.checkpoint()
                    ends = time.perf_counter() + TIME_SLICE_S

    def _look(self) -> bool:
        """Read what is ready, once each, and give their turn to those who want it; return whether any did."""
        ready = self._epoll.poll(0)
        if self._left:
            left = dict.fromkeys(self._left)
            ready = [(descriptor, 0) for descriptor in left] + [pair for pair in ready if pair[0] not in left]
            self._left = []
        size = 0
        for descriptor, _ in ready:
            if (handler := self._handlers.get(descriptor)) is not None:
                if size >= LOOK_BYTES and not handler.is_urgent:
                    self._left.append(descriptor)
                    continue
                if not handler.arrivals.is_due:
                    handler.arrivals.is_due = True
                    self._due.append(handler.arrivals)
                size += handler.ready()
            elif descriptor == self._bell:
                self._hear_the_bell()
        due, self._due = self._due, []
        for arrivals in due:
            arrivals.is_due = False
            if arrivals in self._driven:
                self._turn(arrivals)
        return bool(due)

    def _hear_the_bell(self) -> None:
        os.eventfd_read(self._bell)
        self._has_rung = False
        now = trio.current_time()
        for arrivals in self._driven:
            if arrivals.has_rung or arrivals.deadline <= now:
                arrivals.has_rung = False
                self._want(arrivals)

    def _turn(self, arrivals: "EpollArrivals") -> None:
        deadline = arrivals.take_turn()
        if deadline == NOW:
            self._want(arrivals)
        elif deadline < self._alarm.deadline:
            self._alarm.deadline = deadline

    def _want(self, arrivals: "EpollArrivals") -> None:
        if not arrivals.is_due:
            arrivals.is_due = True
            self._due.append(arrivals)

    async def _keep_time(self) -> None:
        """Ring when the first deadline has come that anybody waits for; and at first, whatever was before."""
        self.ring()
        while True:
            now = trio.current_time()
            later = (arrivals.deadline for arrivals in self._driven if arrivals.deadline > now)
            self._alarm = trio.CancelScope(deadline=min(later, default=float("inf")))
            with self._alarm:
                await trio.sleep_forever()
            self.ring()


class _Handler:
    """What is done about a descriptor, and whose turn it is then; `ready` returns how many bytes it has read."""

    def __init__(self, arrivals: "EpollArrivals", ready: Callable[[], int], *, is_urgent: bool) -> None:
        self.arrivals = arrivals
        self.ready = ready
        self.is_urgent = is_urgent


class _Reading:
    """One connection that is read; `stopped` is set when its task has something to do: wait for room, end, or raise."""

    def __init__(self, arrivals: "EpollArrivals", connection: SocketConnection, take: Take, *, is_urgent: bool) -> None:
        self.descriptor = connection.fileno()
        self.handler = _Handler(arrivals, self.take_now, is_urgent=is_urgent)
        self.stopped = trio.Event()
        self.room: trio.Event | None = None
        self.problem: Exception | None = None
        self._hub = arrivals.hub
        self._receive = connection.receive_now
        self._take = take

    def take_now(self) -> int:
        """Read once and hand over; return how many bytes."""
        data = b""
        try:
            data = self._receive()
            if data:
                self.room = self._take(data)
        except BlockingIOError:
            return 0
        except OSError as problem:
            self.problem = Broken(str(problem))
        except Exception as problem:  # raised again in the task that serves this connection
            self.problem = problem
        else:
            if data and self.room is None:
                return len(data)
        self.stop()
        return len(data)

    def stop(self) -> None:
        """Read no more."""
        self._hub.forget(self.descriptor, self.handler)
        self.stopped.set()

    def close(self) -> None:
        """The connection is about to be closed at this end: its number may be another's in a moment."""
        if self._hub.forget(self.descriptor, self.handler):
            self.problem = Broken("closed here")
            self.stopped.set()


class EpollArrivals:
    """One node's share of the hub; `has_rung`, `is_due` and `deadline` are the hub's notes about it."""

    def __init__(self, hub: EpollHub | None = None) -> None:
        self._owns_hub = hub is None
        self.hub = EpollHub() if hub is None else hub
        self.has_rung = self.is_due = False
        self.deadline = float("inf")
        self._watched: dict[int, _Handler] = {}
        self._turn: Turn | None = None
        self._problem: Exception | None = None
        self._over = trio.Event()

    def ring(self) -> None:
        """Note it, then ring the hub's bell."""
        self.has_rung = True
        self.hub.ring()

    async def drive(self, turn: Turn) -> NoReturn:
        """Have the hub do it."""
        assert self._turn is None, "one at a time"
        self._turn = turn
        self._over = trio.Event()
        for descriptor, handler in self._watched.items():
            self.hub.register(descriptor, handler)
        self.hub.add(self)
        try:
            await self._over.wait()
        finally:
            self._stop()
        assert self._problem is not None
        raise self._problem

    def take_turn(self) -> float:
        """Take a turn, for the hub; never raises. Returns when the next one is due."""
        assert self._turn is not None
        try:
            self.deadline = self._turn()
        except Exception as problem:  # raised in the task that calls `drive`
            self.fail(problem)
        return self.deadline

    def fail(self, problem: Exception) -> None:
        """End `drive` with this."""
        self._problem = problem
        self._stop()
        self._over.set()

    async def read(self, connection: Connection, take: Take, *, is_urgent: bool = False) -> None:
        """Have the hub read it, and sleep until it is over; what is no socket is read here."""
        if not isinstance(connection, SocketConnection):
            return await read_in_this_task(connection, take, self.ring)
        while True:
            if connection.fileno() < 0:
                raise Broken("closed here")
            reading = _Reading(self, connection, take, is_urgent=is_urgent)
            connection.on_close = reading.close
            try:
                self.hub.register(reading.descriptor, reading.handler)
                await reading.stopped.wait()
            finally:
                connection.on_close = None
                self.hub.forget(reading.descriptor, reading.handler)
            if reading.problem is not None:
                raise reading.problem
            if reading.room is None:
                return
            await reading.room.wait()

    def watch(self, descriptor: int, ready: Callable[[], None]) -> bool:
        """Add it to the epoll as long as the node is driven."""

        def call() -> int:
            try:
                ready()
            except Exception as problem:  # raised in the task that calls `drive`
                self.fail(problem)
            return 0

        handler = self._watched[descriptor] = _Handler(self, call, is_urgent=True)
        if self._turn is not None:
            self.hub.register(descriptor, handler)
        return True

    async def run(self) -> None:
        """Run the hub, if it is this node's own."""
        if self._owns_hub:
            await self.hub.run()

    def close(self) -> None:
        """Close the hub, if it is this node's own."""
        if self._owns_hub:
            self.hub.close()

    def _stop(self) -> None:
        """Take no more turns."""
        if self._turn is not None:
            self._turn = None
            self.deadline = float("inf")
            self.hub.remove(self)
            for descriptor, handler in self._watched.items():
                self.hub.forget(descriptor, handler)


def make_hub() -> EpollHub | None:
    """Return a process's loop; None where the system has no epoll, and its nodes make do with tasks."""
    return EpollHub() if sys.platform == "linux" else None


def make_arrivals(hub: EpollHub | None = None) -> Arrivals:
    """Return the fastest that this system has; without a hub, for a node alone."""
    return EpollArrivals(hub) if sys.platform == "linux" else TaskArrivals()
