"""The contract of `Arrivals`, with both ways to read, on real sockets."""

import os
import socket
import struct
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from bargetrio.transport.arrivals import NOW, Arrivals, EpollArrivals, TaskArrivals, make_arrivals
from bargetrio.transport.stream import Broken, SocketConnection

BOTH = pytest.mark.parametrize("make", [TaskArrivals, EpollArrivals])
Make = Callable[[], Arrivals]


class Reader:
    """A connection that is read, the other end of it, and what came."""

    def __init__(
        self, arrivals: Arrivals, nursery: trio.Nursery, pair: tuple[socket.socket, socket.socket] | None = None
    ) -> None:
        near, self.other = socket.socketpair() if pair is None else pair
        self.connection = SocketConnection.__new__(SocketConnection)  # a pair has no TCP options to set
        near.setblocking(False)
        vars(self.connection).update(_socket=near, _unsent=bytearray(), _wake=trio.Event(), _closed=False, on_close=None)
        self.taken: list[bytes] = []
        self.room: trio.Event | None = None
        self.bug: Exception | None = None
        self.ended = trio.Event()
        self.problem: Exception | None = None
        nursery.start_soon(self._read, arrivals)

    def take(self, data: bytes) -> trio.Event | None:
        """Note what came."""
        if self.bug is not None:
            raise self.bug
        self.taken.append(data)
        return self.room

    async def _read(self, arrivals: Arrivals) -> None:
        try:
            await arrivals.read(self.connection, self.take)
        except Exception as problem:
            self.problem = problem
        self.ended.set()


class House:
    """Arrivals whose owner waits for them in a loop."""

    def __init__(self, arrivals: Arrivals, nursery: trio.Nursery) -> None:
        self.arrivals = arrivals
        self._nursery = nursery
        nursery.start_soon(self._loop)

    async def reader(self) -> Reader:
        """Return one whose reading has begun."""
        reader = Reader(self.arrivals, self._nursery)
        await trio.testing.wait_all_tasks_blocked()
        return reader

    async def _loop(self) -> None:
        while True:
            await self.arrivals.wait(trio.current_time() + 60)


@asynccontextmanager
async def house(make: Make) -> AsyncIterator[House]:
    """Give a house, for at most ten seconds."""
    arrivals = make()
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            yield House(arrivals, nursery)
            nursery.cancel_scope.cancel()
    arrivals.close()


async def until(condition: Callable[[], object]) -> None:
    """Return when it holds."""
    while not condition():
        await trio.sleep(0.001)


@BOTH
async def test_what_comes_is_taken_in_order_and_the_end_is_told(make: Make) -> None:
    """Bytes, then the other side's goodbye."""
    async with house(make) as home:
        reader = await home.reader()
        for piece in (b"one", b"two"):
            reader.other.sendall(piece)
            await until(lambda piece=piece: reader.taken[-1:] == [piece])  # type: ignore[misc]
        reader.other.close()
        await reader.ended.wait()
        assert reader.problem is None


@BOTH
async def test_a_reset_and_a_close_at_this_end_are_broken_connections(make: Make) -> None:
    """Nobody waits for ever for a connection that is gone."""
    async with house(make) as home:
        reset, closed = await home.reader(), await home.reader()
        closed.connection.close()
        await closed.ended.wait()
        assert isinstance(closed.problem, Broken)
        listener = socket.create_server(("127.0.0.1", 0))
        other = socket.create_connection(listener.getsockname())
        reset.connection.close()
        tcp, _ = listener.accept()
        connection = SocketConnection(tcp)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        async with trio.open_nursery() as nursery:

            async def read() -> None:
                with pytest.raises(Broken):
                    await home.arrivals.read(connection, lambda data: None)

            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            other.close()
        listener.close()
        connection.close()


@BOTH
async def test_what_take_raises_ends_that_connection_alone(make: Make) -> None:
    """A bug with one client is not the node's."""
    async with house(make) as home:
        bad, good = await home.reader(), await home.reader()
        bad.bug = KeyError("a bug")
        bad.other.sendall(b"x")
        await bad.ended.wait()
        assert bad.problem is bad.bug
        good.other.sendall(b"y")
        await until(lambda: good.taken == [b"y"])
        assert not good.ended.is_set()


@BOTH
async def test_nothing_more_is_read_until_there_is_room(make: Make) -> None:
    """Back-pressure: who sends too much waits at its socket, and nobody else does."""
    async with house(make) as home:
        eager, other = await home.reader(), await home.reader()
        eager.room = room = trio.Event()
        eager.other.sendall(b"first")
        await until(lambda: eager.taken == [b"first"])
        eager.room = None
        eager.other.sendall(b"second")
        other.other.sendall(b"z")
        await until(lambda: other.taken == [b"z"])
        await trio.testing.wait_all_tasks_blocked()
        assert eager.taken == [b"first"]
        room.set()
        await until(lambda: eager.taken == [b"first", b"second"])


@BOTH
async def test_a_ring_from_any_thread_ends_the_wait_and_its_reason_is_seen(make: Make) -> None:
    """The disk's thread leaves its word, then rings."""
    arrivals = make()
    left: list[int] = []

    def work() -> None:
        for number in range(200):
            left.append(number)
            arrivals.ring()

    thread = threading.Thread(target=work)
    thread.start()
    with trio.fail_after(10):
        while len(left) < 200:
            await arrivals.wait(trio.current_time() + 60)
    thread.join()
    arrivals.close()


@BOTH
async def test_the_wait_ends_at_its_deadline_and_at_once_if_that_is_now(make: Make) -> None:
    """Timers hang on it, the next one may be sooner than the last, and an early return is no harm."""
    arrivals = make()
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(arrivals.run)
            for pause in (0.05, 0.02, 0.03):
                began = trio.current_time()
                arrivals.ring()
                await arrivals.wait(began + 60)
                while trio.current_time() < began + pause:
                    await arrivals.wait(began + pause)
                await arrivals.wait(NOW)
                assert trio.current_time() < began + 5
            nursery.cancel_scope.cancel()
    arrivals.close()


async def test_a_descriptor_that_is_used_again_is_not_the_old_connection() -> None:
    """Closed and opened within one turn: the task of the old one must not stop the reading of the new one."""
    async with house(EpollArrivals) as home:
        old = await home.reader()
        descriptor = old.connection.fileno()
        near, other = socket.socketpair()
        old.connection.close()
        os.dup2(near.fileno(), descriptor)
        near.close()
        new = Reader(home.arrivals, home._nursery, (socket.socket(fileno=descriptor), other))
        assert new.connection.fileno() == descriptor
        await old.ended.wait()
        await trio.testing.wait_all_tasks_blocked()
        new.other.sendall(b"hello")
        await until(lambda: new.taken == [b"hello"])


async def test_this_system_gets_its_fastest_way() -> None:
    """Linux has epoll."""
    arrivals = make_arrivals()
    assert isinstance(arrivals, EpollArrivals if hasattr(__import__("select"), "epoll") else TaskArrivals)
    arrivals.close()
