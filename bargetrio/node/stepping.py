"""Calls a replica's steps with trio's time."""

from typing import Final

import trio

from bargetrio.replica.replica import Replica

STEP_S: Final = 1.0
"""Longest time in seconds between two steps: a node whose last step is older hangs (the watchdog checks)."""


class Stepping:
    """`last_step` is when the last step began; `step` is what `Poller.drive` calls."""

    def __init__(self, replica: Replica) -> None:
        self.last_step = trio.current_time()
        self._replica = replica

    def step(self) -> float:
        """Step the replica; return when the next step is due, within STEP_S."""
        now = self.last_step = trio.current_time()
        deadline = self._replica.step(now)
        return deadline if deadline < now + STEP_S else now + STEP_S
