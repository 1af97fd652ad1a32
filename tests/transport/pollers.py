"""A poller and its owner, connections that it reads, and what came."""

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio
import trio.testing

from bargetrio.transport.poller import Poller
from bargetrio.transport.sockets import SocketConnection

Make = Callable[[], Poller]


class Reader:
    """A connection that is read, the other end of it, and what came."""

    def __init__(
        self,
        poller: Poller,
        nursery: trio.Nursery,
        pair: tuple[socket.socket, socket.socket] | None = None,
        *,
        is_urgent: bool = False,
    ) -> None:
        near, self.other = socket.socketpair() if pair is None else pair
        self.connection = SocketConnection(near)
        self.taken: list[bytes] = []
        self.room: trio.Event | None = None
        self.bug: Exception | None = None
        self.on_take: Callable[[], object] = lambda: None
        self._is_urgent = is_urgent
        self.ended = trio.Event()
        self.problem: Exception | None = None
        nursery.start_soon(self._read, poller)

    def take(self, data: bytes) -> trio.Event | None:
        """Note what came."""
        if self.bug is not None:
            raise self.bug
        self.taken.append(data)
        self.on_take()
        return self.room

    async def _read(self, poller: Poller) -> None:
        try:
            await poller.read(self.connection, self.take, is_urgent=self._is_urgent)
        except Exception as problem:
            self.problem = problem
        self.ended.set()


class Harness:
    """A poller whose owner it drives."""

    def __init__(self, poller: Poller, nursery: trio.Nursery) -> None:
        self.poller = poller
        self._nursery = nursery
        self.steps = 0
        nursery.start_soon(poller.run)
        nursery.start_soon(poller.drive, self._step)

    async def reader(self) -> Reader:
        """Return one whose reading has begun."""
        reader = Reader(self.poller, self._nursery)
        await trio.testing.wait_all_tasks_blocked()
        return reader

    def _step(self) -> float:
        self.steps += 1
        return trio.current_time() + 60


@asynccontextmanager
async def harness(make: Make) -> AsyncIterator[Harness]:
    """Give a harness, for at most ten seconds."""
    poller = make()
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            yield Harness(poller, nursery)
            nursery.cancel_scope.cancel()
    poller.close()


async def until(condition: Callable[[], object]) -> None:
    """Return when it holds."""
    while not condition():
        await trio.sleep(0.001)
