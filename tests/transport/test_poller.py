"""The contract of `Poller`, with all ways to read, on real sockets."""

import socket
import struct
import sys
import threading

import pytest
import trio
import trio.testing

from bargetrio.transport.event_loop import EpollPoller, make_poller
from bargetrio.transport.network import Broken
from bargetrio.transport.poller import NOW, TaskPoller
from bargetrio.transport.sockets import SocketConnection
from tests.transport.pollers import Make, harness, until

ALL = pytest.mark.parametrize("make", [TaskPoller, EpollPoller])


@ALL
async def test_input_is_taken_in_order_and_the_end_is_reported(make: Make) -> None:
    """Bytes, then the end of the stream."""
    async with harness(make) as home:
        reader = await home.reader()
        for piece in (b"one", b"two"):
            reader.other.sendall(piece)
            await until(lambda piece=piece: reader.taken[-1:] == [piece])  # type: ignore[misc]
        reader.other.close()
        await reader.ended.wait()
        assert reader.problem is None


@ALL
async def test_a_reset_and_a_close_at_this_end_are_broken_connections(make: Make) -> None:
    """No task waits for ever for a closed connection."""
    async with harness(make) as home:
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
                    await home.poller.read(connection, lambda data: None)

            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            other.close()
        listener.close()
        connection.close()


@ALL
async def test_what_take_raises_ends_that_connection_alone(make: Make) -> None:
    """A bug with one client is not the node's."""
    async with harness(make) as home:
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
    """Back-pressure: only the connection that sends too much is blocked at its socket."""
    async with harness(make) as home:
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
async def test_a_wake_up_from_any_thread_causes_a_step_that_sees_its_reason(make: Make) -> None:
    """The disk's thread queues its report, then wakes the loop."""
    left: list[int] = []
    seen = trio.Event()

    def step() -> float:
        if len(left) == 200:
            seen.set()
        return trio.current_time() + 60

    def work() -> None:
        for number in range(200):
            left.append(number)
            poller.wake()

    poller = make()
    thread = threading.Thread(target=work)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(poller.run)
            nursery.start_soon(poller.drive, step)
            thread.start()
            await seen.wait()
            nursery.cancel_scope.cancel()
    thread.join()
    poller.close()


@ALL
async def test_a_step_is_made_when_it_is_due_and_at_once_if_that_is_now(make: Make) -> None:
    """Timers hang on it, the next one may be sooner than the last, and a step too early is no harm."""
    pauses = [0.05, 0.02, 0.0, 0.03, 0.0, 0.0]
    lateness: list[float] = []
    due = 0.0
    over = trio.Event()

    def step() -> float:
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

    poller = make()
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            due = trio.current_time()
            nursery.start_soon(poller.run)
            nursery.start_soon(poller.drive, step)
            await over.wait()
            nursery.cancel_scope.cancel()
    assert max(lateness) < 5
    poller.close()


@ALL
async def test_a_connection_that_always_has_more_lets_others_run(make: Make) -> None:
    """NOW is not a loop of its own."""
    steps = 0

    def step() -> float:
        nonlocal steps
        steps += 1
        return NOW

    poller = make()
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(poller.run)
            nursery.start_soon(poller.drive, step)
            for _ in range(20):
                await trio.sleep(0.001)
            nursery.cancel_scope.cancel()
    assert steps > 20
    poller.close()


@ALL
async def test_what_a_step_raises_ends_the_drive(make: Make) -> None:
    """A node that must not go on says so there."""

    def step() -> float:
        raise KeyError("a bug")

    poller = make()
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(poller.run)
            with pytest.raises(KeyError, match="a bug"):
                await poller.drive(step)
            nursery.cancel_scope.cancel()
    poller.close()


@ALL
async def test_a_connection_that_always_has_more_delays_no_file_no_thread_and_no_timer(make: Make) -> None:
    """Events that trio waits for are handled between steps."""
    poller = make()
    near, far = socket.socketpair()
    near.setblocking(False)
    with near, far, trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(poller.run)
            nursery.start_soon(poller.drive, lambda: NOW)
            await trio.sleep(0.01)
            await trio.to_thread.run_sync(far.send, b"word")
            await trio.lowlevel.wait_readable(near)
            nursery.cancel_scope.cancel()
    poller.close()


@ALL
async def test_a_step_wakes_a_task_at_once(make: Make) -> None:
    """Though nothing else happens, and no deadline has passed."""
    poller = make()
    asked, woken = False, trio.Event()

    def step() -> float:
        if asked:
            woken.set()
        return trio.current_time() + 60

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(poller.run)
            nursery.start_soon(poller.drive, step)
            await trio.testing.wait_all_tasks_blocked()
            asked = True
            timer = threading.Timer(0.05, poller.wake)
            timer.start()
            await woken.wait()
            nursery.cancel_scope.cancel()
    timer.join()
    poller.close()


async def test_this_system_gets_its_fastest_way() -> None:
    """Linux has epoll."""
    poller = make_poller()
    assert isinstance(poller, EpollPoller if sys.platform == "linux" else TaskPoller)
    poller.close()
