"""Limits of core and replica, scaled down so that the few hundred entries of a seed reach them."""

from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from types import ModuleType
from typing import Final

from bargetrio.raft import core, snapshots
from bargetrio.replica import replica, requests

Scaled = tuple[tuple[ModuleType, str, tuple[int, ...]], ...]
"""Modules, their constants, and the values of which one is drawn."""

SCALED: Final[Scaled] = (
    (core, "APPLY_SLICE", (1, 4, 1000)),
    (core, "UNCOMMITTED_ENTRIES", (12, 100_000, 100_000)),
    (core, "UNCOMMITTED_BYTES", (3000, core.UNCOMMITTED_BYTES, core.UNCOMMITTED_BYTES)),
    (snapshots, "COMPACTION_SLICE", (1, 10, 10_000)),
    (replica, "MESSAGES_A_STEP", (1, 3, 256)),
    (replica, "ENTRIES_A_STEP", (1, 10, 1000)),
    (replica, "LONG_BACKLOG", (3, 10_000, 10_000)),
    (requests, "REQUESTS_A_STEP", (1, 3, 2000)),
    (requests, "ANSWER_BYTES_A_STEP", (100, requests.ANSWER_BYTES_A_STEP, requests.ANSWER_BYTES_A_STEP)),
)


@contextmanager
def scaled(random: Random, limits: Scaled = SCALED, *, chance: float = 0.5) -> Iterator[None]:
    """Draw each limit, in every second seed or with that chance; afterwards they are as they were."""
    kept = [(module, name, getattr(module, name)) for module, name, _ in limits]
    drawn = [random.choice(values) for _, _, values in limits]
    try:
        if random.random() < chance:
            for (module, name, _), value in zip(limits, drawn, strict=True):
                setattr(module, name, value)
        yield
    finally:
        for module, name, value in kept:
            setattr(module, name, value)
