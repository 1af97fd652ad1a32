"""Full collections wait for a quiet moment, but not for ever."""

import gc

import trio
from trio.testing import MockClock

from bargetrio.daemon import gc_policy


class Cluster:
    """Writes at a given rate, and records when a full collection ran."""

    def __init__(self, writes: int) -> None:
        self.writes = writes
        self.collected_at: list[float] = []

    def progress(self) -> int:
        """Return how much was written by now."""
        return int(self.writes * trio.current_time())

    def collect(self) -> None:
        """Note the moment."""
        self.collected_at.append(trio.current_time() - self.began)

    async def live(self, seconds: float) -> list[int]:
        """Return after which seconds everything was looked at."""
        self.began = trio.current_time()
        with trio.move_on_after(seconds):
            await gc_policy.Collector(self.progress, self.collect).run()
        return [round(moment) for moment in self.collected_at]


async def test_a_quiet_daemon_looks_for_garbage_once_a_minute(autojump_clock: MockClock) -> None:
    """Nobody waits for the loop."""
    assert await Cluster(writes=0).live(200) == [60, 120, 180]


async def test_a_busy_daemon_does_so_every_ten_minutes(autojump_clock: MockClock) -> None:
    """A write would wait for a tenth of a second; memory must not grow for ever either."""
    assert await Cluster(writes=100).live(1300) == [600, 1200]


async def test_a_busy_daemon_does_so_as_soon_as_it_is_quiet(autojump_clock: MockClock) -> None:
    """The first second without a write will do."""
    cluster = Cluster(writes=100)
    cluster.progress = lambda: int(min(trio.current_time() - cluster.began, 100.5) * 100)  # type: ignore[method-assign]
    assert await cluster.live(150) == [102]


def test_what_the_start_has_made_is_left_alone() -> None:
    """`begin` sets the thresholds and puts what is there aside."""
    asked: list[tuple[int, int, int]] = []
    gc_policy.pause()
    assert not gc.isenabled()
    try:
        gc_policy.start(lambda *threshold: asked.append(threshold))
        assert gc.get_freeze_count() > 1000
        assert gc.isenabled()
    finally:
        gc.unfreeze()
    assert asked == [(gc_policy.YOUNG, gc_policy.MIDDLE, gc_policy.NEVER)]
