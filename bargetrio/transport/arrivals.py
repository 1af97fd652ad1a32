"""Who reads a node's connections: its own loop, all of them in one pass, where the system has epoll; elsewhere a task for each.

```
wait -> [connection 1: recv, take] [connection 2: recv, take] ... -> the loop's pass -> wait
```
A task that wakes for each piece costs more than what it reads: docs/decisions/one_task_a_node.md has figures. Both ways pass the
same tests; the simulator's network, whose connections are no sockets, is read by tasks.
"""

import os
import select
import sys
import threading
from collections.abc import Callable
from typing import Final, Protocol

import trio

from bargetrio.transport.stream import Broken, Connection, SocketConnection

NOW: Final = float("-inf")

Take = Callable[[bytes], trio.Event | None]
"""Takes what came. Returns an event to wait for before more is read, None to go on; what it raises ends the reading."""


class Arrivals(Protocol):
    """One node's."""

    def ring(self) -> None:
        """Have `wait` return; may be called from any thread."""
        ...

    async def wait(self, deadline: float) -> None:
        """Let others run, and return once something came, somebody rang, or it is `deadline`: at once for `NOW`.

        May return too early, with nothing.
        """
        ...

    async def read(self, connection: Connection, take: Take) -> None:
        """Hand what comes to `take` until the connection ends; raises Broken, and what `take` raises."""
        ...

    def watch(self, descriptor: int, ready: Callable[[], None]) -> bool:
        """Have `wait` call `ready` whenever the descriptor is readable; return False if this kind can't. It ends with `close`."""
        ...

    async def run(self) -> None:
        """Keep time for `wait` until cancelled; must run beside it."""
        ...

    def close(self) -> None:
        """Give descriptors back; nobody waits, reads or rings any more."""
        ...


def make_arrivals() -> Arrivals:
    """Return the fastest that this system has."""
    return EpollArrivals() if sys.platform == "linux" else TaskArrivals()


class TaskArrivals:
    """Each connection is read by the task that calls `read`."""

    def __init__(self) -> None:
        self._bell = trio.Event()
        self._thread = threading.get_ident()
        self._token = trio.lowlevel.current_trio_token()

    def ring(self) -> None:
        """Set the bell, in trio's thread."""
        if threading.get_ident() == self._thread:
            self._bell.set()
        else:
            self._token.run_sync_soon(self.ring)

    async def wait(self, deadline: float) -> None:
        """Wait for the bell."""
        if deadline == NOW:
            await trio.lowlevel.checkpoint()
        else:
            with trio.move_on_at(deadline):
                await self._bell.wait()
        self._bell = trio.Event()

    async def read(self, connection: Connection, take: Take) -> None:
        """Read and ring."""
        await _read_in_this_task(connection, take, self.ring)

    def watch(self, descriptor: int, ready: Callable[[], None]) -> bool:
        """Tasks read connections only."""
        return False

    async def run(self) -> None:
        """There is nothing to do: `wait` looks at the time itself."""

    def close(self) -> None:
        """There is nothing to give back."""


class _Reading:
    """One connection that is read; `stopped` is set when its task has something to do: wait for room, end, or raise."""

    def __init__(self, connection: SocketConnection, take: Take) -> None:
        self.connection = connection
        self.take = take
        self.stopped = trio.Event()
        self.room: trio.Event | None = None
        self.problem: Exception | None = None

    def take_now(self) -> bool:
        """Read once and hand over; return whether to go on."""
        try:
            data = self.connection.receive_now()
            if data:
                self.room = self.take(data)
        except BlockingIOError:
            return True
        except OSError as problem:
            self.problem = Broken(str(problem))
        except Exception as problem:  # raised again in the task that serves this connection
            self.problem = problem
        else:
            if data and self.room is None:
                return True
        self.stopped.set()
        return False


class EpollArrivals:
    """An epoll of the node's own, which trio awaits as one file; `wait` reads everything that is ready in it."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._bell, select.EPOLLIN)
        self._has_rung = False
        self._readings: dict[int, _Reading] = {}
        self._watched: dict[int, Callable[[], None]] = {}
        self._alarm = trio.CancelScope()
        """`run` rings at its deadline: an alarm of a loop's own costs nothing while deadlines move on, a scope a wait 7 µs."""

    def ring(self) -> None:
        """Write to an eventfd. Whoever left something before it called is seen: `wait` hears the bell first and looks then."""
        if not self._has_rung:
            self._has_rung = True
            os.eventfd_write(self._bell, 1)

    async def wait(self, deadline: float) -> None:
        """Wait for the epoll, then read what is ready, once each; may return before the deadline with nothing."""
        if deadline == NOW:
            await trio.lowlevel.checkpoint()
        else:
            if deadline < self._alarm.deadline:
                self._alarm.deadline = deadline
            await trio.lowlevel.wait_readable(self._epoll.fileno())
        for descriptor, _ in self._epoll.poll(0):
            if descriptor == self._bell:
                os.eventfd_read(self._bell)
                self._has_rung = False
            elif descriptor in self._watched:
                self._watched[descriptor]()
            elif (reading := self._readings.get(descriptor)) is not None and not reading.take_now():
                self._forget(descriptor)

    async def read(self, connection: Connection, take: Take) -> None:
        """Have `wait` read it, and sleep until it is over; what is no socket is read here."""
        if not isinstance(connection, SocketConnection):
            return await _read_in_this_task(connection, take, self.ring)
        while True:
            descriptor = connection.fileno()
            if descriptor < 0:
                raise Broken("closed here")
            reading = self._readings[descriptor] = _Reading(connection, take)
            connection.on_close = lambda descriptor=descriptor, reading=reading: self._closed(descriptor, reading)
            self._epoll.register(descriptor, select.EPOLLIN)
            try:
                await reading.stopped.wait()
            finally:
                connection.on_close = None
                if self._readings.get(descriptor) is reading:
                    self._forget(descriptor)
            if reading.problem is not None:
                raise reading.problem
            if reading.room is None:
                return
            await reading.room.wait()

    def watch(self, descriptor: int, ready: Callable[[], None]) -> bool:
        """Add it to the epoll."""
        self._watched[descriptor] = ready
        self._epoll.register(descriptor, select.EPOLLIN)
        return True

    async def run(self) -> None:
        """Ring when the first deadline has come that somebody waited for."""
        while True:
            with self._alarm:
                await trio.sleep_forever()
            self._alarm = trio.CancelScope()
            self.ring()

    def close(self) -> None:
        """Close the epoll and its bell."""
        self._epoll.close()
        os.close(self._bell)

    def _forget(self, descriptor: int) -> None:
        del self._readings[descriptor]
        self._epoll.unregister(descriptor)

    def _closed(self, descriptor: int, reading: _Reading) -> None:
        """The connection is about to be closed at this end: its number may be another's in a moment."""
        if self._readings.get(descriptor) is reading:
            self._forget(descriptor)
            reading.problem = Broken("closed here")
            reading.stopped.set()


async def _read_in_this_task(connection: Connection, take: Take, ring: Callable[[], None]) -> None:
    while data := await connection.receive():
        room = take(data)
        ring()
        if room is not None:
            await room.wait()
