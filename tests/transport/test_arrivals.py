"""The contract of `Arrivals`, with all ways to read, on real sockets."""

import socket
import struct
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from bargetrio.transport.arrivals import NOW, Arrivals, TaskArrivals
from bargetrio.transport.hub import EpollArrivals, make_arrivals
from bargetrio.transport.network import Broken
from bargetrio.transport.sockets import SocketConnection

Make = Callable[[], Arrivals]


ALL = pytest.mark.parametrize("make", [TaskArrivals, EpollArrivals])


class Reader:
    """A connection that is read, the other end of it, and what came."""

    def __init__(
        self,
        arrivals: Arrivals,
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
        nursery.start_soon(self._read, arrivals)

    def take(self, data: bytes) -> trio.Event | None:
        """Note what came."""
        if self.bug is not None:
            raise self.bug
        self.taken.append(data)
        self.on_take()
        return self.room

    async def _read(self, arrivals: Arrivals) -> None:
        try:
            await arrivals.read(self.connection, self.take, is_urgent=self._is_urgent)
        except Exception as problem:
            self.problem = problem
        self.ended.set()


class House:
    """Arrivals whose owner is driven by them."""

    def __init__(self, arrivals: Arrivals, nursery: trio.Nursery) -> None:
        self.arrivals = arrivals
        self._nursery = nursery
        self.turns = 0
        nursery.start_soon(arrivals.run)
        nursery.start_soon(arrivals.drive, self._turn)

    async def reader(self) -> Reader:
        """Return one whose reading has begun."""
        reader = Reader(self.arrivals, self._nursery)
        await trio.testing.wait_all_tasks_blocked()
        return reader

    def _turn(self) -> float:
        self.turns += 1
        return trio.current_time() + 60


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


@ALL
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


@ALL
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


@ALL
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


@ALL
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


@ALL
async def test_a_ring_from_any_thread_gives_a_turn_and_its_reason_is_seen(make: Make) -> None:
    """The disk's thread leaves its word, then rings."""
    left: list[int] = []
    seen = trio.Event()

    def turn() -> float:
        if len(left) == 200:
            seen.set()
        return trio.current_time() + 60

    def work() -> None:
        for number in range(200):
            left.append(number)
            arrivals.ring()

    arrivals = make()
    thread = threading.Thread(target=work)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(arrivals.run)
            nursery.start_soon(arrivals.drive, turn)
            thread.start()
            await seen.wait()
            nursery.cancel_scope.cancel()
    thread.join()
    arrivals.close()


@ALL
async def test_a_turn_comes_when_it_is_due_and_at_once_if_that_is_now(make: Make) -> None:
    """Timers hang on it, the next one may be sooner than the last, and a turn too early is no harm."""
    pauses = [0.05, 0.02, 0.0, 0.03, 0.0, 0.0]
    lateness: list[float] = []
    due = 0.0
    over = trio.Event()

    def turn() -> float:
        nonlocal due
        now = trio.current_time()
        if now < due:
            return due
        lateness.append(now - due)
        if not pauses:
            over.set()
            return now + 60
        pause = pauses.pop(0)
        due = now + pause
        return due if pause else NOW

    arrivals = make()
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            due = trio.current_time()
            nursery.start_soon(arrivals.run)
            nursery.start_soon(arrivals.drive, turn)
            await over.wait()
            nursery.cancel_scope.cancel()
    assert max(lateness) < 5
    arrivals.close()


@ALL
async def test_who_always_has_more_lets_others_run(make: Make) -> None:
    """NOW is not a loop of its own."""
    turns = 0

    def turn() -> float:
        nonlocal turns
        turns += 1
        return NOW

    arrivals = make()
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(arrivals.run)
            nursery.start_soon(arrivals.drive, turn)
            for _ in range(20):
                await trio.sleep(0.001)
            nursery.cancel_scope.cancel()
    assert turns > 20
    arrivals.close()


@ALL
async def test_what_a_turn_raises_ends_the_drive(make: Make) -> None:
    """A node that must not go on says so there."""

    def turn() -> float:
        raise KeyError("a bug")

    arrivals = make()
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(arrivals.run)
            with pytest.raises(KeyError, match="a bug"):
                await arrivals.drive(turn)
            nursery.cancel_scope.cancel()
    arrivals.close()


@ALL
async def test_who_always_has_more_holds_up_no_file_no_thread_and_no_timer(make: Make) -> None:
    """What trio itself waits for is noticed between turns, whoever does the waiting."""
    arrivals = make()
    near, far = socket.socketpair()
    near.setblocking(False)
    with near, far, trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(arrivals.run)
            nursery.start_soon(arrivals.drive, lambda: NOW)
            await trio.sleep(0.01)
            await trio.to_thread.run_sync(far.send, b"word")
            await trio.lowlevel.wait_readable(near)
            nursery.cancel_scope.cancel()
    arrivals.close()


@ALL
async def test_a_turn_wakes_a_task_at_once(make: Make) -> None:
    """Though nothing else happens, and nobody's time has come."""
    arrivals = make()
    rung, woken = False, trio.Event()

    def turn() -> float:
        if rung:
            woken.set()
        return trio.current_time() + 60

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(arrivals.run)
            nursery.start_soon(arrivals.drive, turn)
            await trio.testing.wait_all_tasks_blocked()
            rung = True
            bell = threading.Timer(0.05, arrivals.ring)
            bell.start()
            await woken.wait()
            nursery.cancel_scope.cancel()
    bell.join()
    arrivals.close()


async def test_this_system_gets_its_fastest_way() -> None:
    """Linux has epoll."""
    arrivals = make_arrivals()
    assert isinstance(arrivals, EpollArrivals if sys.platform == "linux" else TaskArrivals)
    arrivals.close()
