"""Limits the share of the loop's time that a long job (scanning a million keys) uses."""

from typing import Final

import trio

from bargetrio.kv.store import Store

SAVING_SHARE: Final = 0.10
LOADING_SHARE: Final = 0.25
"""How much of the loop's time a snapshot may take; the nodes of one process save one after another."""
QUIET_SHARE: Final = 0.60
QUIET_S: Final = 1.0
"""After this long without a write, saving may take QUIET_SHARE: no write waits for it."""
BURST_S: Final = 0.003
"""Longest run without yielding to other tasks: about as long as a batch of writes takes."""


class Pace:
    """Keeps a long job to a share of the loop's time, in bursts: in a busy loop it resumes late, and then runs longer.

    The share is larger while `watched`, a store, does not change, as no writes are delayed.

        with pace:
            ...a slice of the job...
        await pace.rest()
    """

    def __init__(self, share: float, watched: Store | None = None) -> None:
        self._share = share
        self._watched = watched
        self._seen_index = -1
        self._seen_at = self._due = self._entered = trio.current_time()
        self._burst = 0.0

    def __enter__(self) -> None:
        self._entered = trio.current_time()

    def __exit__(self, *problem: object) -> None:
        now = trio.current_time()
        spent = now - self._entered
        self._due += spent / self._share_at(now)
        self._burst += spent

    async def rest(self) -> None:
        """Yield to other tasks after each burst, until the share is kept."""
        if self._due > trio.current_time():
            self._burst = 0.0
            await trio.sleep_until(self._due)
        elif self._burst >= BURST_S:
            self._burst = 0.0
            await trio.lowlevel.checkpoint()

    def _share_at(self, now: float) -> float:
        if self._watched is None:
            return self._share
        if self._watched.last_index != self._seen_index:
            self._seen_index, self._seen_at = self._watched.last_index, now
        return QUIET_SHARE if now - self._seen_at >= QUIET_S else self._share
