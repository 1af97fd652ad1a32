"""When the interpreter collects garbage: full collections only when idle, as they block the event loop.

A full collection visits each key and each entry of every log: at a million keys in three nodes it blocked the loop for 75 to
257 ms, once in five seconds of writing (docs/decisions/snapshots.md). There is hardly any garbage in cycles here, so it can
wait.
"""

import gc
from collections.abc import Callable
from typing import Final

import trio

YOUNG: Final = 10_000
MIDDLE: Final = 20
NEVER: Final = 1_000_000_000
"""Young objects are collected as usual, in fractions of a millisecond; full collections are run by `Collector` only."""
POLL_S: Final = 1.0
QUIET_EVERY_S: Final = 60.0
BUSY_EVERY_S: Final = 600.0


def pause() -> None:
    """Disable collections while the nodes recover, which creates millions of long-lived objects; `start` follows."""
    gc.disable()


def start(threshold: Callable[[int, int, int], None] = gc.set_threshold) -> None:
    """Freeze the existing objects, and leave full collections to `Collector`; call it once the nodes have recovered."""
    gc.freeze()
    threshold(YOUNG, MIDDLE, NEVER)
    gc.enable()


class Collector:
    """Runs a full collection once a minute if nothing was written in the last second, and every ten minutes in any case."""

    def __init__(self, progress: Callable[[], int], collect: Callable[[], object] = gc.collect) -> None:
        self._progress = progress
        """A number that changes while writes go on."""
        self._collect = collect

    async def run(self) -> None:
        """Check and collect until cancelled."""
        collected_at = trio.current_time()
        seen = self._progress()
        while True:
            await trio.sleep(POLL_S)
            before, seen = seen, self._progress()
            waited = trio.current_time() - collected_at
            if waited >= (QUIET_EVERY_S if seen == before else BUSY_EVERY_S):
                self._collect()
                collected_at = trio.current_time()
