"""Time in a seed: one heap of actions, ordered by time and, at the same time, by scheduling."""

from collections.abc import Callable
from heapq import heappop, heappush
from random import Random
from typing import Any


class World:
    """The clock of a seed. `now` is in seconds since its beginning."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.now = 0.0
        self.steps = 0
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._planned = 0
        self._until = 0.0

    def random(self, name: str) -> Random:
        """Return an independent random source: draws of one part do not affect others."""
        return Random(f"{self.seed}/{name}")

    def at(self, moment: float, action: Callable[..., None], *arguments: Any) -> None:
        """Schedule `action(*arguments)`; a time in the past means at once."""
        self._planned += 1
        heappush(self._heap, (moment if moment > self.now else self.now, self._planned, action, arguments))

    def after(self, seconds: float, action: Callable[..., None], *arguments: Any) -> None:
        """Schedule `action(*arguments)` after a delay in seconds."""
        self._planned += 1
        heappush(self._heap, (self.now + seconds if seconds > 0 else self.now, self._planned, action, arguments))

    def takes_next_step(self) -> bool:
        """Return whether an action scheduled for the present time would be the next: a step may then do it at its end.

        Two of five steps begin so: each message wakes a server, and hardly ever does anything else happen at the same moment.
        """
        if self.now < self._until and (not self._heap or self._heap[0][0] > self.now):
            self.steps += 1
            return True
        return False

    def run(self, until: float, most_steps: int) -> bool:
        """Run actions until that time; return False after more than `most_steps` in all.

        Raise IndexError if there is nothing left to do.
        """
        heap = self._heap
        self._until = until
        while self.now < until and self.steps <= most_steps:
            self.now, _, action, arguments = heappop(heap)
            self.steps += 1
            action(*arguments)
        return self.steps <= most_steps

    def end_moment(self, most_steps: int) -> bool:
        """Run the other actions of the present moment, at which `run` may have stopped between two; as `run` otherwise."""
        heap = self._heap
        while heap and heap[0][0] <= self.now and self.steps <= most_steps:
            self.now, _, action, arguments = heappop(heap)
            self.steps += 1
            action(*arguments)
        return self.steps <= most_steps
