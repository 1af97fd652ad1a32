"""The port by which a node waits: for what comes on its connections, for a wake-up, for its next deadline.

```
drive -> [connection 1: recv, take] [connection 2: recv, take] ... -> step -> ...
```
There are two. `event_loop.EpollPoller` is on an event loop that all nodes of the process share, one task with an epoll; waking a
task for each piece that comes costs more than reading it (docs/decisions/one_task_a_node.md). `TaskPoller` reads each connection
in a task, where the system has no epoll or the connections are no sockets, as in the simulator. Both pass the same tests.
"""

import threading
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn, Protocol

import trio

from bargetrio.transport.network import Connection

NOW: Final = float("-inf")

Take = Callable[[bytes], trio.Event | None]
"""Takes what came. Returns an event to wait for before more is read, None to go on; what it raises ends the reading."""

Step = Callable[[], float]
"""A node's step: takes what came, and returns the trio time of the next one if nothing comes before, or NOW.

Steps, `Take` and what is watched may run in a task that other nodes share: they may set events and start tasks in a nursery that
they know, but find no context variable of their node's, and must not leave a cancel scope open.
"""

BeforeStep = Callable[[], Awaitable[None]]
"""Awaited before each step, by which a simulation makes a process stand still."""


class Poller(Protocol):
    """One node's port."""

    def wake(self) -> None:
        """Request a step of the node. Thread-safe."""
        ...

    def want_step(self) -> None:
        """As `wake`, in trio's thread only: cheaper within a step, a `Take` or a watched call of a node of the same process."""
        ...

    def let_tasks_run(self) -> None:
        """Let trio's other tasks run soon: for a step, or a `Take`, that has started one or set an event that one waits for."""
        ...

    async def drive(self, step: Step) -> NoReturn:
        """Call `step`: at once, after input, after each wake-up, and when due. Cancellable.

        Other tasks run in between, also where it returns NOW each time. Ends with what `step` or a watched call raises.
        """
        ...

    async def read(self, connection: Connection, take: Take, *, is_urgent: bool = False) -> None:
        """Pass received bytes to `take` until the connection ends; raises Broken, and what `take` raises. Cancellable.

        An urgent connection, like a peer's, is read before others.
        """
        ...

    def watch(self, descriptor: int, ready: Callable[[], None]) -> bool:
        """While the node is driven, call `ready` before its step when the descriptor has become readable, once more or anew.

        It need not be read for that: it is watched edge-triggered. Returns False if this kind can't.
        """
        ...

    async def run(self) -> None:
        """Must run beside `drive` and `read`. May return at once; ends when it is cancelled."""
        ...

    def close(self) -> None:
        """Close its descriptors; `drive`, `read` and `wake` are not called any more."""
        ...


class TaskPoller:
    """Each connection is read by the task that calls `read`; implements Poller. `before_step` is awaited before each step."""

    def __init__(self, before_step: BeforeStep | None = None) -> None:
        self._wakeup = trio.Event()
        self._before_step = before_step
        self._thread = threading.get_ident()
        self._token = trio.lowlevel.current_trio_token()

    def wake(self) -> None:
        """Set the event, in trio's thread."""
        if threading.get_ident() == self._thread:
            self._wakeup.set()
        else:
            self._token.run_sync_soon(self.wake)

    def want_step(self) -> None:
        """Set the event."""
        self._wakeup.set()

    def let_tasks_run(self) -> None:
        """Return: they run whenever this task waits."""

    async def drive(self, step: Step) -> NoReturn:
        """Call `step` after each wake-up."""
        deadline = NOW
        while True:
            if deadline == NOW:
                await trio.lowlevel.checkpoint()
            else:
                with trio.move_on_at(deadline):
                    await self._wakeup.wait()
            self._wakeup = trio.Event()
            if self._before_step is not None:
                await self._before_step()
            deadline = step()

    async def read(self, connection: Connection, take: Take, *, is_urgent: bool = False) -> None:
        """Read, and wake the node for each piece."""
        await read_in_this_task(connection, take, self.wake)

    def watch(self, descriptor: int, ready: Callable[[], None]) -> bool:
        """Return False."""
        return False

    async def run(self) -> None:
        """Return."""

    def close(self) -> None:
        """Return."""


async def read_in_this_task(connection: Connection, take: Take, wake: Callable[[], None]) -> None:
    """Pass received bytes to `take` until the connection ends, and call `wake` after each; raises Broken."""
    while data := await connection.receive():
        room = take(data)
        wake()
        if room is not None:
            await room.wait()
