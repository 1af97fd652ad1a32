"""A long job takes its share of the loop's time, a larger one without writes, and in short slices."""

import pytest
import trio
from trio.testing import MockClock

from bargetrio.kv.store import Store
from bargetrio.node.pace import BURST_S, QUIET_S, QUIET_SHARE, SAVING_SHARE, Pace

SLICE_S = 0.002


async def work(pace: Pace, clock: MockClock, seconds: float, store: Store | None = None) -> float:
    """Work for a given time; return the share of the time that the work took."""
    began, spent = trio.current_time(), 0.0
    while trio.current_time() - began < seconds:
        with pace:
            clock.jump(SLICE_S)
        spent += SLICE_S
        await pace.rest()
        if store is not None:
            store.last_index += 1
    return spent / (trio.current_time() - began)


async def test_a_busy_store_gives_the_small_share(autojump_clock: MockClock) -> None:
    """However long it lasts."""
    store = Store()
    assert await work(Pace(SAVING_SHARE, store), autojump_clock, 20, store) == pytest.approx(SAVING_SHARE, rel=0.02)


async def test_an_idle_store_allows_the_large_share_until_the_next_write(autojump_clock: MockClock) -> None:
    """Nobody's writes wait; the first one is noticed at once."""
    store = Store()
    pace = Pace(SAVING_SHARE, store)
    assert await work(pace, autojump_clock, QUIET_S) == pytest.approx(SAVING_SHARE, rel=0.1)
    assert await work(pace, autojump_clock, 5) == pytest.approx(QUIET_SHARE, rel=0.02)
    store.last_index += 1
    assert await work(pace, autojump_clock, QUIET_S) == pytest.approx(SAVING_SHARE, rel=0.1)


@pytest.mark.parametrize(("hold_s", "share"), [(0.02, SAVING_SHARE), (0.06, 2 * SLICE_S / 0.064)])
async def test_a_job_that_resumes_late_makes_up_for_it_in_bursts(hold_s: float, share: float, autojump_clock: MockClock) -> None:
    """A loop that others hold for 20 ms each time they run gives the share all the same, and they run after each burst."""
    pace = Pace(SAVING_SHARE)
    began, spent, longest, stretch = trio.current_time(), 0.0, 0.0, 0.0

    async def others() -> None:
        nonlocal stretch
        while True:
            stretch = 0.0
            autojump_clock.jump(hold_s)
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(others)
        while trio.current_time() - began < 20:
            with pace:
                autojump_clock.jump(SLICE_S)
            spent += SLICE_S
            stretch += SLICE_S
            longest = max(longest, stretch)
            await pace.rest()
        nursery.cancel_scope.cancel()
    assert spent / (trio.current_time() - began) == pytest.approx(share, rel=0.05)
    assert longest < 2 * (BURST_S + SLICE_S)  # last in one pass of the loop and first in the next
