"""What nodes of one process share: an event loop of their own. Its contract as `Poller` is in test_poller.py."""

import os
import socket
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any, cast

import pytest
import trio
import trio.testing

from bargetrio.transport import event_loop
from bargetrio.transport.event_loop import EpollPoller, EventLoop
from bargetrio.transport.sockets import SocketNetwork
from tests.transport.pollers import Reader, harness, until


async def test_nodes_of_one_process_share_an_event_loop_and_not_their_ends() -> None:
    """One that fails, in its step or in what it watches, or that is killed, leaves the others their steps."""
    shared = EventLoop()
    first, second, third = (EpollPoller(shared) for _ in range(3))
    steps = [0, 0, 0]
    eventfds = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(3)]
    problems: list[str] = []
    third_scope = trio.CancelScope()

    def fail() -> None:
        raise ValueError("its sync")

    def hear() -> None:
        os.eventfd_read(eventfds[2])

    def make_step(number: int) -> Callable[[], float]:
        def step() -> float:
            steps[number] += 1
            if number == 0 and steps[0] == 3:
                raise KeyError("its step")
            return trio.current_time() + 60

        return step

    async def drive(poller: EpollPoller, number: int) -> None:
        try:
            await poller.drive(make_step(number))
        except (KeyError, ValueError) as problem:
            problems.append(str(problem))

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(shared.run)
            second.watch(eventfds[1], fail)
            third.watch(eventfds[2], hear)
            nursery.start_soon(drive, first, 0)
            nursery.start_soon(drive, second, 1)

            async def live() -> None:
                with third_scope:
                    await third.drive(make_step(2))

            nursery.start_soon(live)
            await until(lambda: min(steps) == 1)
            while not problems:
                first.wake()
                await trio.sleep(0.001)
            assert problems == ["'its step'"]
            os.eventfd_write(eventfds[1], 1)
            await until(lambda: len(problems) == 2)
            assert problems[1] == "its sync"
            before = steps[2]
            os.eventfd_write(eventfds[2], 1)
            await until(lambda: steps[2] == before + 1)
            third_scope.cancel()
            await trio.testing.wait_all_tasks_blocked()
            os.eventfd_write(eventfds[2], 1)  # not watched any more, and the loop does not spin on it
            await trio.testing.wait_all_tasks_blocked()
            assert steps[2] == before + 1
            nursery.cancel_scope.cancel()
    for eventfd in eventfds:
        os.close(eventfd)
    shared.close()


async def test_what_is_watched_is_heard_once_each_time_and_need_not_be_read() -> None:
    """An eventfd's count is never read: a call for each sync is spared. The loop does not spin on it."""
    async with harness(EpollPoller) as home:
        eventfd = os.eventfd(0, os.EFD_NONBLOCK)
        heard: list[None] = []
        os.eventfd_write(eventfd, 1)
        home.poller.watch(eventfd, lambda: heard.append(None))
        for count in range(1, 4):
            await until(lambda count=count: len(heard) == count)  # type: ignore[misc]
            await trio.testing.wait_all_tasks_blocked()
            assert len(heard) == count
            os.eventfd_write(eventfd, 1)
    os.close(eventfd)


async def test_a_descriptor_that_is_used_again_is_not_the_old_connection() -> None:
    """Closed and opened within one step: the task of the old one must not stop the reading of the new one."""
    async with harness(EpollPoller) as home:
        old = await home.reader()
        descriptor = old.connection.fileno()
        near, other = socket.socketpair()
        old.connection.close()
        os.dup2(near.fileno(), descriptor)
        near.close()
        new = Reader(home.poller, home._nursery, (socket.socket(fileno=descriptor), other))
        assert new.connection.fileno() == descriptor
        await old.ended.wait()
        await trio.testing.wait_all_tasks_blocked()
        new.other.sendall(b"hello")
        await until(lambda: new.taken == [b"hello"])


async def test_what_goes_wrong_in_the_loop_itself_ends_its_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug there, and not in a step, is no single node's."""
    poller = EpollPoller()

    def fail(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(poller.loop, "_drain_eventfd", fail)
    with trio.fail_after(5), pytest.RaisesGroup(pytest.RaisesExc(ZeroDivisionError, match="a bug")):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(poller.drive, lambda: trio.current_time() + 60)
            with pytest.RaisesGroup(pytest.RaisesExc(ZeroDivisionError)) as caught:
                await poller.run()
            raise caught.value.exceptions[0]
    poller.close()


async def test_a_pass_reads_so_many_bytes_before_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a hundred busy connections a heartbeat's step came after 25 MB; the others are read in the passes that follow."""
    monkeypatch.setattr(event_loop, "PASS_BYTES", 100_000)
    monkeypatch.setattr(event_loop, "PASS_S", 60)
    monkeypatch.setattr(event_loop, "FEW_READY", 100)
    async with harness(EpollPoller) as home:
        readers = [await home.reader() for _ in range(10)]
        peer = Reader(home.poller, home._nursery, is_urgent=True)
        await trio.testing.wait_all_tasks_blocked()
        order: list[str] = []
        before = home.steps
        for number, reader in enumerate(readers):
            reader.on_take = lambda number=number: order.append(f"{number} after {home.steps - before} steps")  # type: ignore[misc]
        peer.on_take = lambda: order.append(f"peer after {home.steps - before} steps")
        for reader in readers:
            reader.other.sendall(b"x" * 60_000)
        peer.other.sendall(b"a heartbeat")
        await until(lambda: len(order) == 11)
        assert order[:3] == ["0 after 0 steps", "1 after 0 steps", "peer after 0 steps"]
        assert order[3:] == [f"{number} after {number // 2} steps" for number in range(2, 10)]


async def test_a_pass_ends_by_time_and_goes_on_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read may take long to parse: a thousand clients with a heavy head each would hold up heartbeats for seconds."""
    monkeypatch.setattr(event_loop, "PASS_S", 0.002)
    async with harness(EpollPoller) as home:
        readers = [await home.reader() for _ in range(6)]
        peer = Reader(home.poller, home._nursery, is_urgent=True)
        await trio.testing.wait_all_tasks_blocked()
        order: list[str] = []
        before = home.steps

        def heavy(number: int) -> None:
            order.append(f"{number} after {home.steps - before} steps")
            time.sleep(0.003)

        for number, reader in enumerate(readers):
            reader.on_take = lambda number=number: heavy(number)  # type: ignore[misc]
        peer.on_take = lambda: order.append(f"peer after {home.steps - before} steps")
        for reader in readers:
            reader.other.sendall(b"x")
        peer.other.sendall(b"a heartbeat")
        await until(lambda: len(order) == 7)
        assert order[:2] == ["0 after 0 steps", "peer after 0 steps"]
        assert order[2:] == [f"{number} after {number} steps" for number in range(1, 6)]


async def test_who_is_left_for_the_next_pass_may_be_gone_by_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closed in a step between; its descriptor may be another connection's."""
    monkeypatch.setattr(event_loop, "PASS_BYTES", 1)
    async with harness(EpollPoller) as home:
        first, second, third = [await home.reader() for _ in range(3)]
        first.on_take = second.connection.close
        for reader in (first, second, third):
            reader.other.sendall(b"hello")
        await until(lambda: third.taken)
        await second.ended.wait()
        assert (first.taken, second.taken, third.taken) == ([b"hello"], [], [b"hello"])


async def test_wait_all_tasks_blocked_includes_the_loop(autojump_clock: trio.testing.MockClock) -> None:
    """It is a task: a clock of tests jumps only when it has nothing to do, and to no later than a node's next step."""
    poller = EpollPoller()
    steps: list[float] = []
    began = trio.current_time()

    def step() -> float:
        steps.append(trio.current_time() - began)
        return began + 1000 * len(steps)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(poller.run)
        nursery.start_soon(poller.drive, step)
        await trio.sleep(2500)
        nursery.cancel_scope.cancel()
    assert steps == [0, 1000, 2000]
    poller.close()


async def test_where_many_clients_send_much_each_is_read_by_its_share() -> None:
    """256 KiB of each of a thousand before one of them has its turn again would be a quarter of a second."""
    async with harness(EpollPoller) as home:
        readers = [await home.reader() for _ in range(event_loop.FEW_READY + 1)]
        for reader in readers:
            reader.other.sendall(b"x" * 100_000)
        await until(lambda: all(sum(map(len, reader.taken)) == 100_000 for reader in readers))
        assert max(len(piece) for reader in readers for piece in reader.taken[:1]) == event_loop.SHARE_BYTES
        alone = readers[0]
        alone.other.sendall(b"x" * 100_000)
        await until(lambda: sum(map(len, alone.taken)) == 200_000)
        assert len(alone.taken[-1]) > event_loop.SHARE_BYTES


class WatchedEpoll:
    """An epoll that notes how long it is asked to wait, and for which descriptors the wait ended."""

    def __init__(self, epoll: Any) -> None:
        self._epoll = epoll
        self.polls: list[tuple[float, list[int]]] = []

    def poll(self, timeout: float) -> Any:
        """Wait, and note it."""
        found = self._epoll.poll(timeout)
        self.polls.append((timeout, [descriptor for descriptor, _ in found]))
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._epoll, name)


def watch_polls(loop: EventLoop) -> WatchedEpoll:
    watched = WatchedEpoll(loop._epoll)
    loop._epoll = cast(Any, watched)
    return watched


@pytest.mark.parametrize(("may_wait", "busy_wakes"), [(True, 0), (False, 0), (True, 1_000_000)])
async def test_the_loop_waits_by_itself_only_while_it_is_busy_and_nothing_is_awaited_through_trio(
    may_wait: bool, busy_wakes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wake through trio costs ten polls; but what trio serves would be late, and an idle loop would wait in vain."""
    monkeypatch.setattr(event_loop, "BUSY_WAKES", busy_wakes)
    loop = EventLoop(lambda: may_wait)
    watched = watch_polls(loop)

    def play(other: socket.socket) -> None:
        other.settimeout(5)
        for _ in range(100):
            other.sendall(b"ping")
            assert other.recv(10) == b"pong"

    async with harness(lambda: EpollPoller(loop)) as home:
        home._nursery.start_soon(loop.run)
        reader = await home.reader()
        reader.on_take = lambda: os.write(reader.connection.fileno(), b"pong")
        await trio.to_thread.run_sync(play, reader.other)
    loop.close()
    assert max(timeout for timeout, _ in watched.polls) == (event_loop.WAIT_S if may_wait and not busy_wakes else 0)


async def test_the_loop_is_busy_after_many_wakes_in_a_row() -> None:
    """Each soon after the one before: a pause begins the count anew."""
    loop = EventLoop(lambda: True)
    async with harness(lambda: EpollPoller(loop)) as home:
        home._nursery.start_soon(loop.run)
        reader = await home.reader()
        most = 0
        for _ in range(event_loop.BUSY_WAKES + 4):
            reader.other.sendall(b"ping")
            await trio.sleep(2 * event_loop.BUSY_S)
            most = max(most, loop._wakes)
        assert most < event_loop.BUSY_WAKES
    loop.close()


async def test_where_the_loop_waits_by_itself_trio_accepts_new_connections_at_once_and_its_tasks_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With input that never ends: whoever connects ends the wait, and the slice after it does not wait."""
    monkeypatch.setattr(event_loop, "BUSY_WAKES", 0)
    loop = EventLoop(lambda: True)
    watched = watch_polls(loop)
    is_over = threading.Event()
    listening: list[int] = []

    def listen(descriptor: int) -> None:
        listening.append(descriptor)
        loop.register_listener(descriptor)

    def play(other: socket.socket) -> None:
        while not is_over.wait(0.0002):
            other.sendall(b"ping")

    async with harness(lambda: EpollPoller(loop)) as home:
        home._nursery.start_soon(loop.run)
        reader = await home.reader()
        home._nursery.start_soon(trio.to_thread.run_sync, play, reader.other)
        await until(lambda: len(reader.taken) > 10)
        began = trio.current_time()
        for _ in range(100):
            await trio.lowlevel.checkpoint()
        assert trio.current_time() - began < 100 * 10 * (event_loop.WAITING_SLICE_S + event_loop.WAIT_S)
        network = SocketNetwork(listen)
        listener = await network.listen("127.0.0.1", 0)
        with socket.socket(fileno=os.dup(listening[0])) as same:
            address = same.getsockname()
            watched.polls.clear()
            for _ in range(20):
                with socket.create_connection(address):
                    (await listener.accept()).close()
        is_over.set()
        listener.close()
    loop.close()
    ended_by = [at for at, (_, found) in enumerate(watched.polls) if listening[0] in found]
    assert len(ended_by) > 3, "others are accepted before the loop looks"
    assert not any(timeout for at in ended_by for timeout, _ in watched.polls[at + 1 : at + 2])


async def test_a_slice_ends_at_the_first_deadline_of_a_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a slice may be, and also where the deadline is set within it: other nodes' input delays no heartbeat."""
    monkeypatch.setattr(event_loop, "BUSY_WAKES", 0)
    monkeypatch.setattr(event_loop, "WAITING_SLICE_S", 2.0)
    loop = EventLoop(lambda: True)
    beats: list[float] = []
    beating = EpollPoller(loop)

    def step() -> float:
        now = trio.current_time()
        if len(reader.taken) < 20:
            return now + 60
        beats.append(now)
        return now + 0.02

    def go_on() -> None:
        if len(beats) < 5:
            reader.other.sendall(b"ping")  # there is always more to read
        if len(reader.taken) == 20:
            beating.wake()

    async with harness(lambda: EpollPoller(loop)) as home:
        home._nursery.start_soon(loop.run)
        reader = await home.reader()
        reader.on_take = go_on
        home._nursery.start_soon(beating.drive, step)
        await trio.testing.wait_all_tasks_blocked()
        reader.other.sendall(b"ping")
        await until(lambda: len(beats) >= 5)
    loop.close()
    assert max(later - earlier for earlier, later in pairwise(beats)) < 1.0


async def test_what_is_awaited_through_trio_is_counted() -> None:
    """Who was accepted and has not been heard, and what the kernel does not take; not the end of a dialled connection."""
    network = SocketNetwork()
    listener = await network.listen("127.0.0.1", 0)
    address = listener._socket.getsockname()  # type: ignore[attr-defined]
    async with trio.open_nursery() as nursery:
        dialled = await network.connect(*address)
        accepted = await listener.accept()
        nursery.start_soon(dialled.receive)
        await trio.testing.wait_all_tasks_blocked()
        assert network.waits.count == 0
        nursery.start_soon(accepted.receive)
        await trio.testing.wait_all_tasks_blocked()
        assert network.waits.count == 1
        dialled.post(b"hello")
        await until(lambda: network.waits.count == 0)
        for count, each in enumerate((accepted, dialled), 1):
            each.post(b"x" * 2**25)
            nursery.start_soon(each.write)
            await until(lambda count=count: network.waits.count == count)  # type: ignore[misc]
        nursery.cancel_scope.cancel()
    assert network.waits.count == 0
    dialled.close()
    accepted.close()
    listener.close()


async def test_steps_that_nodes_want_of_each_other_are_made_without_the_eventfd(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wanted in a take, in a step, and from a task; one that nobody drives is not called."""
    shared = EventLoop()
    first, second, third = (EpollPoller(shared) for _ in range(3))
    steps: list[str] = []
    wakes: list[None] = []
    left = 3

    def step_first() -> float:
        nonlocal left
        steps.append("first")
        if left:
            left -= 1
            second.want_step()
            third.want_step()
        return trio.current_time() + 60

    def step_second() -> float:
        steps.append("second")
        first.want_step()
        return trio.current_time() + 60

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(shared.run)
            nursery.start_soon(first.drive, step_first)
            await until(lambda: steps == ["first"])
            nursery.start_soon(second.drive, step_second)
            await until(lambda: left == 0)
            await trio.testing.wait_all_tasks_blocked()
            steps.clear()
            wake = shared.wake

            def count() -> None:
                wakes.append(None)
                wake()

            monkeypatch.setattr(shared, "wake", count)
            second.want_step()  # from a task
            await until(lambda: steps == ["second", "first"])
            assert len(wakes) == 1
            by_pass: list[list[str]] = []
            make_pass = shared._pass

            def pass_and_count(wait_s: float) -> bool:
                before = len(steps)
                is_any = make_pass(wait_s)
                by_pass.append(steps[before:])
                return is_any

            monkeypatch.setattr(shared, "_pass", pass_and_count)
            left, reader = 2, Reader(first, nursery)
            reader.on_take = second.want_step
            await trio.testing.wait_all_tasks_blocked()
            steps.clear()
            reader.other.sendall(b"x")
            await until(lambda: left == 0)
            await trio.testing.wait_all_tasks_blocked()
            assert steps == ["first", "second", "first", "second", "first"]
            assert [found for found in by_pass if found] == [steps[:4], steps[4:]], "three rounds without a poll, then one"
            assert len(wakes) == 1
            nursery.cancel_scope.cancel()
    shared.close()
