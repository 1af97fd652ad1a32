"""The event loop that all nodes of a process share: an epoll over their sockets, served by one trio task.

```
run: wait -> [recv, take] [recv, take] [a sync has ended] ... -> step of node 0 -> step of node 2 -> poll again -> ...
```
trio waits for the epoll as for any file. When it is readable, the task reads what has come, has the nodes that got something make
a step, and polls again, until nothing is left or its time slice is over. So what comes on many connections wakes one task. While
nothing else is awaited through trio (`may_wait`), the task waits at its own epoll until the slice is over: what answers a
message, or ends a sync, mostly comes within it, and a wake through trio costs as much processor time as ten polls. It does so
only while it is busy: between heartbeats nothing comes. A new connection (`register_listener`) ends such a wait: trio accepts it.
docs/decisions/one_task_a_node.md has the figures. The nodes share nothing but this loop: what a step raises ends the node whose
step it was.
"""

import os
import select
import sys
import time
from collections.abc import Callable
from typing import Final, NoReturn

import trio

from bargetrio.transport.network import Broken, Connection
from bargetrio.transport.poller import NOW, Poller, Step, Take, TaskPoller, read_in_this_task
from bargetrio.transport.sockets import RECEIVE_BYTES, SocketConnection

TIME_SLICE_S: Final = 0.001
"""Longest time in seconds before the loop yields to trio's other tasks; one pass over all that is ready may take longer."""
WAITING_SLICE_S: Final = 0.004
"""The same where it may wait: nothing else is awaited through trio but its deadlines, and the first of them ends the slice."""
WAIT_S: Final = 0.001
"""Longest time in seconds for which a pass waits in a time slice, where it may; `select.epoll` rounds up to milliseconds."""
BUSY_S: Final = 0.005
BUSY_WAKES: Final = 8
"""The loop is busy after this many wakes through trio, each within BUSY_S seconds after the last pass: heartbeats make fewer."""
PASS_BYTES: Final = 1024 * 1024
PASS_S: Final = 0.005
"""Bytes and seconds after which a pass reads no more clients before the nodes' steps; peers and ended syncs are always served."""
ROUNDS_OF_STEPS: Final = 3
"""A step may want another node's, as that of the API's requests the leader's, and this one the other's again: without a poll."""
FEW_READY: Final = 4
SHARE_BYTES: Final = 32 * 1024
"""Where more than a few connections are ready, a client is read in pieces of this size, so that it is read again soon."""


class EventLoop:
    """Made and run once a process; each node has an EpollPoller on it. All calls but `wake` are made in trio's thread."""

    def __init__(self, may_wait: Callable[[], bool] = lambda: False) -> None:
        """`may_wait`, asked in each slice, says whether trio's tasks may be late by up to `WAITING_SLICE_S` and `WAIT_S`."""
        self._may_wait = may_wait
        self._must_yield = False
        """Whether a task of trio's has something to do since the time slice began: a new connection, or what a step said."""
        self._wakes = 0
        """How many wakes came soon after one another."""
        self._slice_ends = float("-inf")
        """When the time slice ends, by `time.perf_counter`."""
        self._epoll = select.epoll()
        self._eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._eventfd, select.EPOLLIN)
        self._is_woken = False
        self._handlers: dict[int, _ReadyHandler] = {}
        self._driven: list[EpollPoller] = []
        self._due: list[EpollPoller] = []
        """Who makes a step at the end of this pass."""
        self.is_passing = False
        """Whether a pass reads or makes steps now."""
        self._left: list[int] = []
        """Descriptors that were readable and not served in the last pass: they come first in the next."""
        self._alarm = trio.CancelScope()
        """`_keep_time` wakes the loop at its deadline. A later deadline costs nothing; a scope for each wait would cost 7 µs."""

    async def run(self) -> NoReturn:
        """Serve the nodes until cancelled; raises what goes wrong in the loop itself, and not in a node's step."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_time)
            await self._serve()
        raise AssertionError("it is cancelled or raises")

    def wake(self) -> None:
        """Thread-safe. What was queued before this call is seen: the eventfd is drained before the queues are read."""
        if not self._is_woken:
            self._is_woken = True
            os.eventfd_write(self._eventfd, 1)

    def close(self) -> None:
        """Close the epoll and the eventfd; no node is driven and no connection read any more."""
        self._epoll.close()
        os.close(self._eventfd)

    def register_listener(self, descriptor: int) -> None:
        """Have each new connection at this listening socket end the wait; the epoll forgets the socket when it is closed."""
        self._epoll.register(descriptor, select.EPOLLIN | select.EPOLLET)

    # -- for EpollPoller ---------------------------------------------------------------------------------------------------

    def add(self, poller: "EpollPoller") -> None:
        """Have it make steps from now on, the first one at once."""
        self._driven.append(poller)
        poller.wake()

    def yield_soon(self) -> None:
        """End the time slice after this pass."""
        self._must_yield = True

    def remove(self, poller: "EpollPoller") -> None:
        """Have it make no more steps."""
        if poller in self._driven:
            self._driven.remove(poller)

    def register(self, descriptor: int, handler: "_ReadyHandler", *, is_edge_triggered: bool = False) -> None:
        """Call the handler whenever the descriptor is readable; edge-triggered, once each time that it becomes so."""
        self._epoll.register(descriptor, select.EPOLLIN | (select.EPOLLET if is_edge_triggered else 0))
        self._handlers[descriptor] = handler

    def forget(self, descriptor: int, handler: "_ReadyHandler") -> bool:
        """Unregister it; return whether it was registered: a descriptor that was closed may be another connection's by now."""
        if self._handlers.get(descriptor) is not handler:
            return False
        del self._handlers[descriptor]
        self._epoll.unregister(descriptor)
        return True

    # -- the loop ------------------------------------------------------------------------------------------------------------

    async def _serve(self) -> NoReturn:
        while True:
            waits_since = time.perf_counter()
            await trio.lowlevel.wait_readable(self._epoll.fileno())
            self._wakes = self._wakes + 1 if time.perf_counter() - waits_since < BUSY_S else 0
            wait_s = self._begin_slice()
            while self._pass(wait_s):
                if self._must_yield or time.perf_counter() >= self._slice_ends:
                    await trio.lowlevel.checkpoint()
                    wait_s = self._begin_slice()

    def _begin_slice(self) -> float:
        """Return how long a pass of this time slice waits."""
        may_wait = self._wakes >= BUSY_WAKES and self._may_wait() and not self._must_yield
        self._must_yield = False
        self._slice_ends = time.perf_counter() + (WAITING_SLICE_S if may_wait else TIME_SLICE_S)
        self._end_slice_at(self._alarm.deadline)
        return WAIT_S if may_wait else 0.0

    def _end_slice_at(self, deadline: float) -> None:
        """End the time slice at this time of trio's, if it would end later."""
        self._slice_ends = min(self._slice_ends, time.perf_counter() + deadline - trio.current_time())

    def _pass(self, wait_s: float) -> bool:
        """Read what is ready, once each, then have the nodes that are due make a step; return whether there were any."""
        ready = self._epoll.poll(0 if self._due or self._left else wait_s)
        self.is_passing = True
        if self._left:
            left = dict.fromkeys(self._left)
            ready = [(descriptor, 0) for descriptor in left] + [pair for pair in ready if pair[0] not in left]
            self._left = []
        size = clients = 0
        ends = time.perf_counter() + PASS_S
        share = RECEIVE_BYTES if len(ready) <= FEW_READY else SHARE_BYTES
        for descriptor, _ in ready:
            if (handler := self._handlers.get(descriptor)) is not None:
                if not handler.is_urgent:
                    if size >= PASS_BYTES or (clients and time.perf_counter() >= ends):
                        self._left.append(descriptor)
                        continue
                    clients += 1
                if not handler.poller.is_due:
                    handler.poller.is_due = True
                    self._due.append(handler.poller)
                size += handler.ready(RECEIVE_BYTES if handler.is_urgent else share)
            elif descriptor == self._eventfd:
                self._drain_eventfd()
            else:  # a listening socket, or one that was forgotten in this pass
                self._must_yield = True
        is_any_due = bool(self._due)
        again: list[EpollPoller] = []
        for _ in range(ROUNDS_OF_STEPS):
            if not (due := self._due):
                break
            self._due = []
            for poller in due:
                poller.is_due = False
                deadline = poller.make_step()
                if deadline < self._alarm.deadline:
                    if deadline == NOW:
                        again.append(poller)
                    else:
                        self._alarm.deadline = deadline
                        self._end_slice_at(deadline)
        for poller in again:
            self.want(poller)
        self.is_passing = False
        return is_any_due

    def _drain_eventfd(self) -> None:
        os.eventfd_read(self._eventfd)
        self._is_woken = False
        now = trio.current_time()
        for poller in self._driven:
            if poller.is_woken or poller.deadline <= now:
                poller.is_woken = False
                self.want(poller)

    def want(self, poller: "EpollPoller") -> None:
        """Have it make a step at the end of this pass, or, after a few rounds of steps, of the next one."""
        if not poller.is_due:
            poller.is_due = True
            self._due.append(poller)

    async def _keep_time(self) -> None:
        """Wake the loop at the first deadline that a node has; and at the start, for what was queued before."""
        self.wake()
        while True:
            now = trio.current_time()
            later = (poller.deadline for poller in self._driven if poller.deadline > now)
            self._alarm = trio.CancelScope(deadline=min(later, default=float("inf")))
            with self._alarm:
                await trio.sleep_forever()
            self.wake()


class _ReadyHandler:
    """What is called when a descriptor is readable, and whose step follows; `ready` returns how many bytes it read, of a most."""

    def __init__(self, poller: "EpollPoller", ready: Callable[[int], int], *, is_urgent: bool) -> None:
        self.poller = poller
        self.ready = ready
        self.is_urgent = is_urgent


class _Reading:
    """One connection that is read; `stopped` is set when its task must wait for room, return or raise."""

    def __init__(self, poller: "EpollPoller", connection: SocketConnection, take: Take, *, is_urgent: bool) -> None:
        self.descriptor = connection.fileno()
        self.handler = _ReadyHandler(poller, self.take_now, is_urgent=is_urgent)
        self.stopped = trio.Event()
        self.room: trio.Event | None = None
        self.problem: Exception | None = None
        self._loop = poller.loop
        self._receive = connection.receive_now
        self._take = take

    def take_now(self, most_bytes: int) -> int:
        """Read once and hand it over; return how many bytes it was."""
        data = b""
        try:
            data = self._receive(most_bytes)
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
        self._loop.forget(self.descriptor, self.handler)
        self.stopped.set()

    def close(self) -> None:
        """The connection is about to be closed at this end, and its descriptor may be another's in a moment."""
        if self._loop.forget(self.descriptor, self.handler):
            self.problem = Broken("closed here")
            self.stopped.set()


class EpollPoller:
    """One node on an event loop; implements Poller. `is_woken`, `is_due` and `deadline` are the loop's."""

    def __init__(self, loop: EventLoop | None = None) -> None:
        self._owns_loop = loop is None
        self.loop = EventLoop() if loop is None else loop
        self.is_woken = self.is_due = False
        self.deadline = float("inf")
        self._watched: dict[int, _ReadyHandler] = {}
        self._step: Step | None = None
        self._problem: Exception | None = None
        self._over = trio.Event()

    def wake(self) -> None:
        """Thread-safe."""
        self.is_woken = True
        self.loop.wake()

    def want_step(self) -> None:
        """Within a pass, have the step made at its end; an eventfd would be written and read for nothing."""
        if self.loop.is_passing:
            self.loop.want(self)
        else:
            self.wake()

    def let_tasks_run(self) -> None:
        """End the loop's time slice after this pass."""
        self.loop.yield_soon()

    async def drive(self, step: Step) -> NoReturn:
        """Have the loop call `step`, and the handlers of what is watched."""
        assert self._step is None, "one at a time"
        self._step = step
        self._over = trio.Event()
        for descriptor, handler in self._watched.items():
            self.loop.register(descriptor, handler, is_edge_triggered=True)
        self.loop.add(self)
        try:
            await self._over.wait()
        finally:
            self._stop()
        assert self._problem is not None, "only `fail` ends the wait"
        raise self._problem

    def make_step(self) -> float:
        """Make a step, called by the loop, if it is driven; what it raises ends `drive`. Returns when the next one is due."""
        if (step := self._step) is None:
            return self.deadline
        try:
            self.deadline = step()
        except Exception as problem:  # raised in the task that calls `drive`
            self.fail(problem)
        return self.deadline

    def fail(self, problem: Exception) -> None:
        """End `drive` with this."""
        self._problem = problem
        self._stop()
        self._over.set()

    async def read(self, connection: Connection, take: Take, *, is_urgent: bool = False) -> None:
        """Have the loop read it, and wait until that is over; what is no socket is read in this task."""
        if not isinstance(connection, SocketConnection):
            return await read_in_this_task(connection, take, self.wake)
        while True:
            if connection.fileno() < 0:
                raise Broken("closed here")
            reading = _Reading(self, connection, take, is_urgent=is_urgent)
            connection.on_close = reading.close
            try:
                self.loop.register(reading.descriptor, reading.handler)
                await reading.stopped.wait()
            finally:
                connection.on_close = None
                self.loop.forget(reading.descriptor, reading.handler)
            if reading.problem is not None:
                raise reading.problem
            if reading.room is None:
                return
            await reading.room.wait()

    def watch(self, descriptor: int, ready: Callable[[], None]) -> bool:
        """Have it in the epoll while the node is driven."""

        def call(most_bytes: int) -> int:
            try:
                ready()
            except Exception as problem:  # raised in the task that calls `drive`
                self.fail(problem)
            return 0

        handler = self._watched[descriptor] = _ReadyHandler(self, call, is_urgent=True)
        if self._step is not None:
            self.loop.register(descriptor, handler, is_edge_triggered=True)
        return True

    async def run(self) -> None:
        """Run the loop, if it is this node's own."""
        if self._owns_loop:
            await self.loop.run()

    def close(self) -> None:
        """Close the loop, if it is this node's own."""
        if self._owns_loop:
            self.loop.close()

    def _stop(self) -> None:
        """Make no more steps."""
        if self._step is not None:
            self._step = None
            self.deadline = float("inf")
            self.loop.remove(self)
            for descriptor, handler in self._watched.items():
                self.loop.forget(descriptor, handler)


def make_event_loop(may_wait: Callable[[], bool] = lambda: False) -> EventLoop | None:
    """Return the loop of a process; None where the system has no epoll: then each node's connections are read by tasks."""
    return EventLoop(may_wait) if sys.platform == "linux" else None


def make_poller(loop: EventLoop | None = None) -> Poller:
    """Return the fastest that this system has; without `loop`, with a loop of its own."""
    return EpollPoller(loop) if sys.platform == "linux" else TaskPoller()
