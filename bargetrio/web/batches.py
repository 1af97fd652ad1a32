"""Requests for keys, of all connections together, executed in batches: one call of the cluster for many of them.

A batch costs the cluster little more than one request: one line of input, one entry's sync, one round of a read. Writes that come
while others are in flight wait for those, as they would wait for the leader's disk anyway; reads never wait, but for room.
"""

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from math import inf
from typing import Any, Final, Generic, TypeVar

import trio

from bargetrio.protocol.requests import Put, Request, is_write

log = logging.getLogger(__name__)

BATCH_REQUESTS: Final = 1_024
BATCH_BYTES: Final = 4 * 1024 * 1024
"""Of the values of one batch of writes."""
READS_IN_FLIGHT: Final = 64
"""Each may be answered by a value of 1 MiB."""
NEXT_BATCH_S: Final = 0.02
"""With n batches of writes in flight, another begins n times this after the newest: a stuck one must not hold up the others."""


Waiting = TypeVar("Waiting")
"""What waits for a request's outcome."""
ExecuteMany = Callable[[Sequence[Request]], Awaitable[Sequence[Any]]]
"""Returns the outcome of each request, in their order; all are writes, or reads of one level. May raise what is a bug."""


class Batches(Generic[Waiting]):
    """Used in trio's thread only."""

    def __init__(
        self,
        execute: ExecuteMany,
        deliver: Callable[[list[Waiting], Sequence[Any]], None],
        nursery: trio.Nursery,
        wake: Callable[[], None],
        let_tasks_run: Callable[[], None] = lambda: None,
        may_read: Callable[[], bool] = lambda: True,
    ) -> None:
        """Batches are executed in `nursery`, in tasks; `let_tasks_run` is called where one was started.

        `deliver` gets the outcomes of a batch with what waits for them: answers, BargeErrors, or an exception that is a bug.
        `wake` has `step` called soon. While `may_read` returns False, reads wait: too much of earlier answers is unsent.
        """
        self._execute = execute
        self._deliver = deliver
        self._let_tasks_run = let_tasks_run
        self._may_read = may_read
        self._nursery = nursery
        self._wake = wake
        self._writes: deque[tuple[Waiting, Request]] = deque()
        self._reads: dict[str, deque[tuple[Waiting, Request]]] = {}
        """By level."""
        self._last_number = 0
        self._writes_began: dict[int, float] = {}
        """When each batch of writes that is in flight began, in their order."""
        self._reads_in_flight = 0

    @property
    def in_flight(self) -> int:
        """How many requests have no outcome yet: those that wait, and the reads and batches of writes in flight."""
        waiting = len(self._writes) + sum(map(len, self._reads.values()))
        return waiting + self._reads_in_flight + len(self._writes_began)

    def add(self, waiting: Waiting, request: Request) -> None:
        """Queue a request for the next step; its outcome is delivered with `waiting`."""
        if is_write(request):
            self._writes.append((waiting, request))
        else:
            self._reads.setdefault(request.read, deque()).append((waiting, request))

    def step(self) -> float:
        """Begin the batches that may begin; return the trio time of the next step, if nothing comes before."""
        for waiting in self._reads.values():
            while waiting and self._reads_in_flight < READS_IN_FLIGHT and self._may_read():
                count = min(len(waiting), READS_IN_FLIGHT - self._reads_in_flight)
                batch = [waiting.popleft() for _ in range(count)]
                self._reads_in_flight += count
                self._nursery.start_soon(self._read, batch)
                self._let_tasks_run()
        if not self._writes:
            return inf
        began = self._writes_began
        now = trio.current_time()
        if began and now < (due := next(reversed(began.values())) + NEXT_BATCH_S * len(began)):
            return due
        number = self._last_number = self._last_number + 1
        began[number] = now
        self._nursery.start_soon(self._write, number, self._next_writes())
        self._let_tasks_run()
        return inf if not self._writes else now + NEXT_BATCH_S

    def _next_writes(self) -> list[tuple[Waiting, Request]]:
        waiting = self._writes
        batch: list[tuple[Waiting, Request]] = []
        size = 0
        while waiting and len(batch) < BATCH_REQUESTS and size < BATCH_BYTES:
            batch.append(waiting.popleft())
            size += _size(batch[-1][1])
        return batch

    async def _read(self, batch: list[tuple[Waiting, Request]]) -> None:
        try:
            await self._run(batch)
        finally:
            self._reads_in_flight -= len(batch)
            self._wake()

    async def _write(self, number: int, batch: list[tuple[Waiting, Request]]) -> None:
        try:
            await self._run(batch)
        finally:
            del self._writes_began[number]
            self._wake()

    async def _run(self, batch: list[tuple[Waiting, Request]]) -> None:
        try:
            outcomes = await self._execute([request for _, request in batch])
        except Exception as problem:  # a bug must not end the daemon
            log.error("a batch of requests failed", exc_info=problem)
            outcomes = [problem] * len(batch)
        self._deliver([waiting for waiting, _ in batch], outcomes)


def _size(request: Request) -> int:
    return len(request.value or request.value_b64 or "") if isinstance(request, Put) else 0
