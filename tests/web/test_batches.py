"""Which requests are executed together, and when, in virtual time."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.requests import Get, Put, ReadLevel, Request
from bargetrio.transport.poller import NOW
from bargetrio.web import batches
from bargetrio.web.batches import NEXT_BATCH_S, QUEUED_S, READS_IN_FLIGHT, Batches
from tests.web.serving import executed


class Slow:
    """A cluster whose batches take as long as the test says; `asked` has the keys of each, and when it began."""

    def __init__(self, seconds: float = 1.0) -> None:
        self.seconds = seconds
        self.asked: list[tuple[float, list[str]]] = []
        self.delivered: list[tuple[int, Any]] = []
        self.began = trio.current_time()
        self.may_read = True
        self.woken = trio.Event()
        self.steps: Batches[int]
        self.nursery: trio.Nursery

    async def execute(self, requests: Sequence[Request]) -> list[str]:
        """Answer each with its key, in capitals."""
        keys = [getattr(request, "key", "") for request in requests]
        self.asked.append((round(trio.current_time() - self.began, 3), keys))
        await trio.sleep(self.seconds)
        if "bug" in keys:
            raise RuntimeError("a bug")
        return [key.upper() for key in keys]

    def begin(self, requests: Sequence[Request], done: Callable[[Sequence[Any]], None]) -> None:
        """Execute in a task."""
        self.nursery.start_soon(executed, self.execute, requests, done)

    def deliver(self, waiting: Sequence[int], outcomes: Sequence[Any]) -> None:
        """Keep them."""
        self.delivered += zip(waiting, outcomes, strict=True)

    async def drive(self) -> None:
        """Call `step` when it is due or was woken, as a poller does."""
        while True:
            with trio.move_on_at(self.steps.step()):
                await self.woken.wait()
            self.woken = trio.Event()

    def wake(self) -> None:
        """Have a step made."""
        self.woken.set()

    def add(self, waiting: int, *requests: Request) -> None:
        """Add a group, numbered from `waiting` on, and wake."""
        self.steps.add(list(enumerate(requests, waiting)))
        self.wake()


@asynccontextmanager
async def slow(seconds: float = 1.0) -> AsyncIterator[Slow]:
    """Run the batches of a slow cluster."""
    cluster = Slow(seconds)
    async with trio.open_nursery() as nursery:
        cluster.nursery = nursery
        cluster.steps = Batches(cluster.begin, cluster.deliver, cluster.wake, lambda: cluster.may_read)
        nursery.start_soon(cluster.drive)
        yield cluster
        nursery.cancel_scope.cancel()


def put(key: str, value: str = "x") -> Put:
    return Put(id=0, key=key, value=value)


def get(key: str, read: ReadLevel = "linearizable") -> Get:
    return Get(id=0, key=key, read=read)


async def test_writes_that_come_meanwhile_go_together_when_the_first_is_answered(autojump_clock: MockClock) -> None:
    """A single one never waits; each gets its own outcome."""
    async with slow(seconds=0.01) as cluster:
        cluster.add(0, put("a"))
        await trio.sleep(0.001)
        for number, key in enumerate("bcd", 1):
            cluster.add(number, put(key))
        await trio.sleep(0.1)
        assert cluster.asked == [(0.0, ["a"]), (0.01, ["b", "c", "d"])]
        assert cluster.delivered == [(0, "A"), (1, "B"), (2, "C"), (3, "D")]
        assert cluster.steps.in_flight == 0


async def test_a_batch_that_does_not_end_holds_up_no_other_for_long(autojump_clock: MockClock) -> None:
    """With n in flight the next begins n times NEXT_BATCH_S after the newest: seconds without a leader make few batches."""
    async with slow(seconds=5.0) as cluster:
        for number in range(500):
            cluster.add(number, put(str(number)))
            await trio.sleep(0.01)
        began = [at for at, _ in cluster.asked]
        assert began[:4] == pytest.approx([0.0, NEXT_BATCH_S, 3 * NEXT_BATCH_S, 6 * NEXT_BATCH_S], abs=0.011)
        assert len(began) < 25
        assert max(later - before for before, later in pairwise(began)) < 0.5


async def test_reads_do_not_wait_for_writes_and_those_of_a_level_go_together(autojump_clock: MockClock) -> None:
    """A batch is of one level: the cluster executes it at one place."""
    async with slow() as cluster:
        cluster.add(0, put("a"))
        await trio.sleep(0.001)
        requests: list[Request] = [get("b"), get("c", "stale"), get("d"), put("e"), get("f", "lease")]
        for number, request in enumerate(requests, 1):
            cluster.add(number, request)
        await trio.sleep(0.001)
        assert sorted(keys for _, keys in cluster.asked) == [["a"], ["b", "d"], ["c"], ["f"]]


async def test_reads_in_flight_are_bounded_and_the_next_ones_follow(autojump_clock: MockClock) -> None:
    """Each may be answered by a value of a mebibyte. They wait, too, while too much is unsent."""
    async with slow() as cluster:
        for number in range(READS_IN_FLIGHT + 5):
            cluster.add(number, get(str(number)))
        await trio.sleep(0.5)
        assert [len(keys) for _, keys in cluster.asked] == [READS_IN_FLIGHT]
        assert cluster.steps.in_flight == READS_IN_FLIGHT + 5
        await trio.sleep(1.0)
        assert [len(keys) for _, keys in cluster.asked] == [READS_IN_FLIGHT, 5]
        await trio.sleep(1.0)
        cluster.may_read = False
        cluster.add(0, get("waits"))
        await trio.sleep(1.0)
        assert len(cluster.asked) == 2
        cluster.may_read = True
        cluster.woken.set()
        await trio.sleep(0.1)
        assert cluster.asked[2][1] == ["waits"]


async def test_a_batch_of_writes_is_bounded_in_number_and_bytes(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest goes with the next one."""
    monkeypatch.setattr(batches, "BATCH_REQUESTS", 10)
    monkeypatch.setattr(batches, "BATCH_BYTES", 100)
    async with slow(seconds=0.001) as cluster:
        for number in range(25):
            cluster.add(number, put(str(number)))
        for number in range(25, 30):
            cluster.add(number, put(str(number), "x" * 60))
        await trio.sleep(1.0)
        assert [len(keys) for _, keys in cluster.asked] == [10, 10, 7, 2, 1]
        assert [number for number, _ in cluster.delivered] == list(range(30))


async def test_a_bug_in_one_batch_is_the_outcome_of_its_requests(autojump_clock: MockClock) -> None:
    """The next batches are executed."""
    async with slow(seconds=0.01) as cluster:
        cluster.add(0, put("bug"))
        cluster.add(1, put("b"))
        await trio.sleep(0.1)
        cluster.add(2, put("c"))
        await trio.sleep(0.1)
        (_, first), (_, second), (_, third) = cluster.delivered
        assert isinstance(first, RuntimeError)
        assert first is second
        assert third == "C"


async def test_a_group_is_in_one_batch(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of it in two batches could be executed in another order: the first may be repeated after an election."""
    monkeypatch.setattr(batches, "BATCH_REQUESTS", 10)
    async with slow(seconds=0.01) as cluster:
        for first in range(0, 28, 4):
            cluster.add(first, *[put(str(number)) for number in range(first, first + 4)])
        await trio.sleep(1.0)
        assert [len(keys) for _, keys in cluster.asked] == [12, 12, 4]
        assert [number for number, _ in cluster.delivered] == list(range(28))


async def test_reads_of_a_level_do_not_hold_up_those_of_another(autojump_clock: MockClock) -> None:
    """Without a leader linearizable reads wait for seconds, and stale ones need none."""
    async with slow(seconds=30.0) as cluster:
        for number in range(2 * READS_IN_FLIGHT):
            cluster.add(number, get(str(number)))
        await trio.sleep(0.1)
        cluster.add(0, get("stale", "stale"))
        await trio.sleep(0.1)
        assert cluster.asked[-1] == (0.1, ["stale"])


@pytest.mark.parametrize("request_of", [get, put])
async def test_what_waits_too_long_is_refused_and_had_no_effect(request_of: Any, autojump_clock: MockClock) -> None:
    """QUEUED_S after it came; what is in flight has time-outs of its own."""
    async with slow(seconds=100.0) as cluster:
        for number in range(200):
            cluster.add(number, request_of(str(number)))
        await trio.sleep(QUEUED_S + 0.1)
        refused = [number for number, _ in cluster.delivered]
        asked = [key for _, keys in cluster.asked for key in keys]
        assert sorted([*map(str, refused), *asked], key=int) == [str(number) for number in range(200)]
        assert all(isinstance(outcome, BargeError) and outcome.applied is False for _, outcome in cluster.delivered)
        if request_of is get:
            assert len(refused) == 200 - READS_IN_FLIGHT


async def test_what_answered_clients_ask_next_goes_with_what_waited() -> None:
    """Else there are two batches that alternate, each of half of the clients, and the disk syncs twice."""
    asked: list[list[Request]] = []
    ends: list[Callable[[Sequence[Any]], None]] = []

    def begin(requests: Sequence[Request], done: Callable[[Sequence[Any]], None]) -> None:
        asked.append(list(requests))
        ends.append(done)

    steps: Batches[int] = Batches(begin, lambda waiting, outcomes: None, lambda: None)
    steps.add([(0, put("a"))])
    steps.step()
    steps.add([(1, put("waited"))])
    steps.step()
    ends[0](["A"])
    assert steps.step() == NOW
    assert asked == [[put("a")]], "first the connections are read"
    steps.add([(2, put("next"))])
    steps.step()
    assert asked == [[put("a")], [put("waited"), put("next")]]
