"""Runs many seeds on several cores, and minimizes a failing one."""

import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from itertools import islice
from multiprocessing import get_context
from typing import Final

from msgspec import Struct

from bargetrio.simulator.breaks import broken
from bargetrio.simulator.goals import GOALS
from bargetrio.simulator.seed import Result, run

A_PIECE: Final = 10
"""Seeds that a process takes at once; of ring 2, a tenth."""
SIZES: Final = (3, 5, 3, 5, 7, 3, 5, 4, 2, 3, 5, 6, 3, 5, 1)
"""Cluster sizes by seed, where none is asked for."""


class Order(Struct, frozen=True, kw_only=True):
    """What to run: seeds, sizes, which kinds of fault may be on, which bug is planted."""

    first: int
    count: int
    nodes: int | None = None
    allowed: frozenset[str] | None = None
    broken: str | None = None
    stack: bool = False
    """Ring 2 instead of ring 1."""

    def size(self, seed: int) -> int:
        """Return the number of nodes of a seed."""
        return self.nodes if self.nodes is not None else SIZES[seed % len(SIZES)]


class Tally(Struct, kw_only=True):
    """The results of the seeds so far."""

    seeds: int = 0
    simulated_s: float = 0.0
    operations: int = 0
    unknown: int = 0
    committed: int = 0
    goals: Counter[str]
    failures: list[Result]

    def add(self, result: Result) -> None:
        """Count one result."""
        self.seeds += 1
        self.simulated_s += result.simulated_s
        self.operations += result.operations
        self.unknown += result.unknown
        self.committed += result.committed
        self.goals.update(result.goals)
        if result.failure is not None:
            self.failures.append(result)

    def missing(self, goals: Iterable[str] = GOALS) -> list[str]:
        """Return which of `goals` no seed reached."""
        return [goal for goal in goals if not self.goals[goal]]


def run_one(order: Order, seed: int, *, keep: bool = False) -> Result:
    """Run one seed in this process."""
    with broken(order.broken):
        if order.stack:
            from bargetrio.simulator.stack import seed as stack

            return stack.run(seed, order.size(seed), order.allowed, keep=keep)
        return run(seed, order.size(seed), order.allowed, keep=keep)


def run_all(order: Order, jobs: int, on_done: Callable[[Tally], None], *, keep_going: bool = False) -> Tally:
    """Run all seeds, `jobs` processes at a time; stop after the first failure unless `keep_going`.

    `on_done` is called after each piece with the results so far.
    """
    tally = Tally(goals=Counter(), failures=[])
    for results in _results(order, jobs):
        for result in results:
            tally.add(result)
        on_done(tally)
        if tally.failures and not keep_going:
            break
    tally.failures.sort(key=lambda result: result.seed)
    return tally


def _results(order: Order, jobs: int) -> Iterator[list[Result]]:
    last = order.first + order.count
    size = 1 if order.stack else A_PIECE
    pieces = (range(start, min(start + size, last)) for start in range(order.first, last, size))
    if jobs == 1 or order.count <= size:
        for piece in pieces:
            yield _run_piece(order, piece)
        return
    spawned = get_context("spawn")  # a fork is unsafe if the caller has threads
    with ProcessPoolExecutor(jobs, spawned) as pool:
        running: set[Future[list[Result]]] = set()
        try:
            with _children_miss_interrupts():  # the first submissions start them all
                running |= {pool.submit(_run_piece, order, piece) for piece in islice(pieces, 2 * jobs)}
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for piece in islice(pieces, len(done)):
                    running.add(pool.submit(_run_piece, order, piece))
                for future in done:
                    yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _children_miss_interrupts() -> Iterator[None]:
    """Processes started here ignore Ctrl-C, which the parent handles: the blocked signal mask is inherited."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)  # a signal received meanwhile is delivered now


def _run_piece(order: Order, piece: range) -> list[Result]:
    return [run_one(order, seed) for seed in piece]


def shrink(order: Order, result: Result) -> Result:
    """Return the same seed with as few kinds of fault as still break the same rule."""
    assert result.failure is not None
    for kind in result.kinds:
        fewer = Order(
            first=result.seed,
            count=1,
            nodes=result.nodes,
            allowed=frozenset(result.kinds) - {kind},
            broken=order.broken,
            stack=order.stack,
        )
        again = run_one(fewer, result.seed)
        if again.failure is not None and again.failure.rule == result.failure.rule:
            result = again
    return result


def replay_line(order: Order, result: Result) -> str:
    """Return the command that replays this seed."""
    parts = [f"bargetrio simulate{' --stack' if order.stack else ''} --seed {result.seed} --nodes {result.nodes}"]
    if order.allowed is not None or result.kinds != result.drawn:
        parts.append(f"--faults {','.join(result.kinds) or 'none'}")
    if order.broken is not None:
        parts.append(f"--break {order.broken}")
    return " ".join(parts)
