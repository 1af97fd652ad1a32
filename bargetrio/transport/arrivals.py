"""Who reads a node's connections: a loop shared by all nodes of the process, where the system has epoll; else a task for each.

```
drive -> [connection 1: recv, take] [connection 2: recv, take] ... -> turn -> ...
```
A task that wakes for each piece costs more than what it reads: docs/decisions/one_task_a_node.md has figures. Both ways pass the
same tests; the simulator's network, whose connections are no sockets, is read by tasks. `hub.py` is the way with epoll.
"""

import threading
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn, Protocol

import trio

from bargetrio.transport.network import Connection

NOW: Final = float("-inf")

Take = Callable[[bytes], trio.Event | None]
"""Takes what came. Returns an event to wait for before more is read, None to go on; what it raises ends the reading."""


Turn = Callable[[], float]
"""A node's turn: takes what came, and returns the moment when it wants to be called again though nothing comes, or NOW.

Turns, `Take` and what is watched may run in a task that other nodes share: they can set events and start tasks in a nursery that
they know, but find no context variable of their node's, and must not leave a cancel scope open.
"""

Turnstile = Callable[[], Awaitable[None]]
"""Waited for before each turn: how a simulation makes a process stand still."""


class Arrivals(Protocol):
    """One node's."""

    def ring(self) -> None:
        """Have the node take a turn; may be called from any thread."""
        ...

    async def drive(self, turn: Turn) -> NoReturn:
        """Call `turn`: now, whenever something came or somebody rang, and when it is time; it may come too early, for nothing.

        Others run in between, also where it says NOW each time. Ends with what `turn` or a watched call raises, or cancelled.
        """
        ...

    async def read(self, connection: Connection, take: Take, *, is_urgent: bool = False) -> None:
        """Hand what comes to `take` until the connection ends; raises Broken, and what `take` raises.

        What is urgent, as a peer's messages are, does not wait until all that came from others is read.
        """
        ...

    def watch(self, descriptor: int, ready: Callable[[], None]) -> bool:
        """While the node is driven, call `ready` before its turn if the descriptor is readable; False if this kind can't."""
        ...

    async def run(self) -> None:
        """Do what must be done beside `drive` and `read`, until cancelled."""
        ...

    def close(self) -> None:
        """Give descriptors back; nobody drives, reads or rings any more."""
        ...


class TaskArrivals:
    """Each connection is read by the task that calls `read`."""

    def __init__(self, turnstile: Turnstile | None = None) -> None:
        self._bell = trio.Event()
        self._turnstile = turnstile
        self._thread = threading.get_ident()
        self._token = trio.lowlevel.current_trio_token()

    def ring(self) -> None:
        """Set the bell, in trio's thread."""
        if threading.get_ident() == self._thread:
            self._bell.set()
        else:
            self._token.run_sync_soon(self.ring)

    async def drive(self, turn: Turn) -> NoReturn:
        """Turn for each sound of the bell."""
        deadline = NOW
        while True:
            if deadline == NOW:
                await trio.lowlevel.checkpoint()
            else:
                with trio.move_on_at(deadline):
                    await self._bell.wait()
            self._bell = trio.Event()
            if self._turnstile is not None:
                await self._turnstile()
            deadline = turn()

    async def read(self, connection: Connection, take: Take, *, is_urgent: bool = False) -> None:
        """Read and ring."""
        await read_in_this_task(connection, take, self.ring)

    def watch(self, descriptor: int, ready: Callable[[], None]) -> bool:
        """Tasks read connections only."""
        return False

    async def run(self) -> None:
        """There is nothing to do."""

    def close(self) -> None:
        """There is nothing to give back."""


async def read_in_this_task(connection: Connection, take: Take, ring: Callable[[], None]) -> None:
    """Read as a task does, ringing for each piece."""
    while data := await connection.receive():
        room = take(data)
        ring()
        if room is not None:
            await room.wait()
