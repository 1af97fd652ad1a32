"""Requests for keys, of all connections together, executed in batches: one call of the cluster for many of them.

A batch costs the cluster little more than one request: one line of input, one entry's sync, one round of a read. Writes that come
while others are in flight wait for those, as they would wait for the leader's disk anyway; reads wait only while many of their
level are in flight, or too much is unsent.
"""

import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from math import inf
from time import perf_counter
from typing import Any, Final, Generic, TypeVar

import trio

from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.requests import Put, Request, is_write

log = logging.getLogger(__name__)

BATCH_REQUESTS: Final = 1_024
BATCH_BYTES: Final = 4 * 1024 * 1024
"""Of the values of one batch of writes."""
READS_IN_FLIGHT: Final = 64
"""Of each level; each may be answered by a value of 1 MiB."""
QUEUED_S: Final = 5.0
"""A request that has waited for this time to be executed is refused: it had no effect."""
DELIVERED_AT_ONCE: Final = 4
DELIVERY_S: Final = 0.002
"""Outcomes that are delivered without a check of the time, and the time after which others run."""
NEXT_BATCH_S: Final = 0.02
"""With n batches of writes in flight, another begins n times this after the newest: a stuck one must not hold up the others."""


Waiting = TypeVar("Waiting")
"""What waits for a request's outcome."""
ExecuteMany = Callable[[Sequence[Request]], Awaitable[Sequence[Any]]]
"""Returns the outcome of each request, in their order; all are writes, or reads of one level. May raise what is a bug."""
Group = list[tuple[Waiting, Request]]
"""Consecutive requests of one connection, all writes or all reads of one level: they are in one batch, in their order."""


class Batches(Generic[Waiting]):
    """Used in trio's thread only."""

    def __init__(
        self,
        execute: ExecuteMany,
        deliver: Callable[[Sequence[Waiting], Sequence[Any]], None],
        nursery: trio.Nursery,
        wake: Callable[[], None],
        let_tasks_run: Callable[[], None] = lambda: None,
        may_read: Callable[[], bool] = lambda: True,
    ) -> None:
        """Batches are executed in `nursery`, in tasks; `let_tasks_run` is called where one was started.

        `deliver` gets outcomes with what waits for them, some at a time: answers, BargeErrors, or an exception that is a bug.
        `wake` has `step` called soon. While `may_read` returns False, reads wait: too much of earlier answers is unsent.
        """
        self._execute = execute
        self._deliver = deliver
        self._let_tasks_run = let_tasks_run
        self._may_read = may_read
        self.in_flight = 0
        """How many requests have no outcome yet."""
        self._nursery = nursery
        self._wake = wake
        self._writes: deque[tuple[float, Group[Waiting]]] = deque()
        """Each with the time at which it came."""
        self._reads: dict[str, deque[tuple[float, Group[Waiting]]]] = {}
        """By level."""
        self._last_number = 0
        self._writes_began: dict[int, float] = {}
        """When each batch of writes that is in flight began, in their order."""
        self._reads_in_flight: Counter[str] = Counter()
        """By level: those that wait for a leader must not hold up those that need none."""

    def add(self, group: Group[Waiting]) -> None:
        """Queue a connection's next requests for the next step; their outcomes are delivered with what waits for them."""
        request = group[0][1]
        waiting = self._writes if is_write(request) else self._reads.setdefault(request.read, deque())
        waiting.append((trio.current_time(), group))
        self.in_flight += len(group)

    def step(self) -> float:
        """Begin the batches that may begin; return the trio time of the next step, if nothing comes before."""
        now = trio.current_time()
        due = self._give_up(now)
        for level, waiting in self._reads.items():
            while waiting and self._reads_in_flight[level] < READS_IN_FLIGHT and self._may_read():
                batch = self._next(waiting, READS_IN_FLIGHT - self._reads_in_flight[level])
                self._reads_in_flight[level] += len(batch)
                self._nursery.start_soon(self._read, level, batch)
                self._let_tasks_run()
        if not self._writes:
            return due
        began = self._writes_began
        if began and now < (next_batch := next(reversed(began.values())) + NEXT_BATCH_S * len(began)):
            return min(due, next_batch)
        number = self._last_number = self._last_number + 1
        began[number] = now
        self._nursery.start_soon(self._write, number, self._next(self._writes, BATCH_REQUESTS))
        self._let_tasks_run()
        return min(due, now + NEXT_BATCH_S) if self._writes else due

    def _give_up(self, now: float) -> float:
        """Refuse what has waited for QUEUED_S; return when the next one will have."""
        due = inf
        for waiting in (self._writes, *self._reads.values()):
            while waiting and waiting[0][0] + QUEUED_S <= now:
                _, group = waiting.popleft()
                refusal = BargeError("overloaded", f"too many requests wait to be executed; this one did for {QUEUED_S:g} s")
                self._nursery.start_soon(self._answer, group, [refusal] * len(group))
                self._let_tasks_run()
            if waiting:
                due = min(due, waiting[0][0] + QUEUED_S)
        return due

    @staticmethod
    def _next(waiting: deque[tuple[float, Group[Waiting]]], most: int) -> Group[Waiting]:
        """Take groups as a whole until there are `most` requests, or enough bytes: parts of one could change their order."""
        batch: Group[Waiting] = []
        size = 0
        while waiting and len(batch) < most and size < BATCH_BYTES:
            _, group = waiting.popleft()
            batch += group
            size += sum([_size(request) for _, request in group])
        return batch

    async def _read(self, level: str, batch: Group[Waiting]) -> None:
        try:
            await self._run(batch)
        finally:
            self._reads_in_flight[level] -= len(batch)
            self._wake()

    async def _write(self, number: int, batch: Group[Waiting]) -> None:
        try:
            await self._run(batch)
        finally:
            del self._writes_began[number]
            self._wake()

    async def _run(self, batch: Group[Waiting]) -> None:
        try:
            outcomes = await self._execute([request for _, request in batch])
        except Exception as problem:  # a bug must not end the daemon
            log.error("a batch of requests failed", exc_info=problem)
            outcomes = [problem] * len(batch)
        await self._answer(batch, outcomes)

    async def _answer(self, batch: Group[Waiting], outcomes: Sequence[Any]) -> None:
        """Deliver the outcomes, and let others run in between: answers of a mebibyte each take a second together."""
        ends = perf_counter() + DELIVERY_S
        for start in range(0, len(batch), DELIVERED_AT_ONCE):
            if perf_counter() >= ends:
                await trio.lowlevel.checkpoint()
                ends = perf_counter() + DELIVERY_S
            some = slice(start, start + DELIVERED_AT_ONCE)
            self._deliver([waiting for waiting, _ in batch[some]], outcomes[some])
            self.in_flight -= len(batch[some])


def _size(request: Request) -> int:
    return len(request.value or request.value_b64 or "") if isinstance(request, Put) else 0
