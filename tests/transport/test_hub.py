"""What nodes of one process share: an event loop of their own. Its contract as `Arrivals` is in test_arrivals.py."""

import os
import socket
from collections.abc import Callable

import pytest
import trio
import trio.testing

from bargetrio.transport import hub
from bargetrio.transport.hub import EpollArrivals, EpollHub
from tests.transport.test_arrivals import Reader, house, until


async def test_nodes_of_one_process_share_a_hub_and_not_their_ends() -> None:
    """One that fails, in its turn or in what it watches, or that is killed, leaves the others their turns."""
    shared = EpollHub()
    first, second, third = (EpollArrivals(shared) for _ in range(3))
    turns = [0, 0, 0]
    bells = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(3)]
    problems: list[str] = []
    third_scope = trio.CancelScope()

    def fail() -> None:
        raise ValueError("its sync")

    def hear() -> None:
        os.eventfd_read(bells[2])

    def make_turn(number: int) -> Callable[[], float]:
        def turn() -> float:
            turns[number] += 1
            if number == 0 and turns[0] == 3:
                raise KeyError("its turn")
            return trio.current_time() + 60

        return turn

    async def drive(arrivals: EpollArrivals, number: int) -> None:
        try:
            await arrivals.drive(make_turn(number))
        except (KeyError, ValueError) as problem:
            problems.append(str(problem))

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(shared.run)
            second.watch(bells[1], fail)
            third.watch(bells[2], hear)
            nursery.start_soon(drive, first, 0)
            nursery.start_soon(drive, second, 1)

            async def live() -> None:
                with third_scope:
                    await third.drive(make_turn(2))

            nursery.start_soon(live)
            await until(lambda: min(turns) == 1)
            while not problems:
                first.ring()
                await trio.sleep(0.001)
            assert problems == ["'its turn'"]
            os.eventfd_write(bells[1], 1)
            await until(lambda: len(problems) == 2)
            assert problems[1] == "its sync"
            before = turns[2]
            os.eventfd_write(bells[2], 1)
            await until(lambda: turns[2] == before + 1)
            third_scope.cancel()
            await trio.testing.wait_all_tasks_blocked()
            os.eventfd_write(bells[2], 1)  # nobody hears it, and the hub does not spin on it
            await trio.testing.wait_all_tasks_blocked()
            assert turns[2] == before + 1
            nursery.cancel_scope.cancel()
    for bell in bells:
        os.close(bell)
    shared.close()


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


async def test_what_the_loop_itself_meets_ends_its_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug there, and not in a turn, is no single node's."""
    arrivals = EpollArrivals()

    def fail(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(arrivals.hub, "_turn", fail)
    with trio.fail_after(5), pytest.RaisesGroup(pytest.RaisesExc(ZeroDivisionError, match="a bug")):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(arrivals.drive, lambda: trio.current_time() + 60)
            with pytest.RaisesGroup(pytest.RaisesExc(ZeroDivisionError)) as caught:
                await arrivals.run()
            raise caught.value.exceptions[0]
    arrivals.close()


async def test_a_look_reads_so_many_bytes_before_the_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a hundred busy connections a heartbeat's turn came after 25 MB; the others are read in the looks that follow."""
    monkeypatch.setattr(hub, "LOOK_BYTES", 100_000)
    async with house(EpollArrivals) as home:
        readers = [await home.reader() for _ in range(10)]
        peer = Reader(home.arrivals, home._nursery, is_urgent=True)
        await trio.testing.wait_all_tasks_blocked()
        order: list[str] = []
        before = home.turns
        for number, reader in enumerate(readers):
            reader.on_take = lambda number=number: order.append(f"{number} after {home.turns - before} turns")  # type: ignore[misc]
        peer.on_take = lambda: order.append(f"peer after {home.turns - before} turns")
        for reader in readers:
            reader.other.sendall(b"x" * 60_000)
        peer.other.sendall(b"a heartbeat")
        await until(lambda: len(order) == 11)
        assert order[:3] == ["0 after 0 turns", "1 after 0 turns", "peer after 0 turns"]
        assert order[3:] == [f"{number} after {number // 2} turns" for number in range(2, 10)]


async def test_who_is_left_for_the_next_look_may_be_gone_by_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closed in a turn between; its descriptor may be another connection's."""
    monkeypatch.setattr(hub, "LOOK_BYTES", 1)
    async with house(EpollArrivals) as home:
        first, second, third = [await home.reader() for _ in range(3)]
        first.on_take = second.connection.close
        for reader in (first, second, third):
            reader.other.sendall(b"hello")
        await until(lambda: third.taken)
        await second.ended.wait()
        assert (first.taken, second.taken, third.taken) == ([b"hello"], [], [b"hello"])


async def test_whoever_waits_until_all_tasks_are_blocked_waits_for_the_loop_too(autojump_clock: trio.testing.MockClock) -> None:
    """It is a task: a clock of tests jumps only when it has nothing to do, and to no later than a node's next turn."""
    arrivals = EpollArrivals()
    turns: list[float] = []
    began = trio.current_time()

    def turn() -> float:
        turns.append(trio.current_time() - began)
        return began + 1000 * len(turns)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(arrivals.run)
        nursery.start_soon(arrivals.drive, turn)
        await trio.sleep(2500)
        nursery.cancel_scope.cancel()
    assert turns == [0, 1000, 2000]
    arrivals.close()
