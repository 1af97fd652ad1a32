"""Time in a seed: one heap of things to do, in the order of their moments and, at the same moment, of their planning."""

import heapq
from collections.abc import Callable
from random import Random
from typing import Any


class World:
    """The clock that everything in a seed shares. `now` is seconds since its beginning."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.now = 0.0
        self.steps = 0
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._planned = 0

    def random(self, name: str) -> Random:
        """Return a source of randomness of its own: what one part draws changes nothing for the others."""
        return Random(f"{self.seed}/{name}")

    def at(self, moment: float, action: Callable[..., None], *arguments: Any) -> None:
        """Plan `action(*arguments)`; a moment that has passed means at once."""
        self._planned += 1
        heapq.heappush(self._heap, (max(moment, self.now), self._planned, action, arguments))

    def after(self, seconds: float, action: Callable[..., None], *arguments: Any) -> None:
        """Plan `action(*arguments)` in so many seconds."""
        self.at(self.now + seconds, action, *arguments)

    def step(self) -> None:
        """Do the next thing; raise IndexError if there is none."""
        self.now, _, action, arguments = heapq.heappop(self._heap)
        self.steps += 1
        action(*arguments)
