"""Requests for keys, of all connections together, executed in batches: one call of the cluster for many of them.

A batch costs the cluster little more than one request: one step, one sync, one round of a read. Requests that come while others
of their kind are in flight wait for those, as they would wait for the leader's disk, or for the next round, anyway.
"""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from time import perf_counter
from typing import Any, Final, Generic, TypeVar

import trio

from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.requests import Request, is_write, value_size
from bargetrio.transport.poller import NOW

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
"""With n batches of a kind in flight, another begins n times this after the newest: a stuck one must not hold up the others."""


Waiting = TypeVar("Waiting")
"""What waits for a request's outcome."""
Begin = Callable[[Sequence[Request], Callable[[Sequence[Any]], None]], None]
"""Begins to execute requests, all writes or all reads of one level; has the second argument called once with their outcomes.

An outcome is an answer, a BargeError, or an exception that is a bug. The call may come before `Begin` returns.
"""
Group = list[tuple[Waiting, Request]]
"""Consecutive requests of one connection, all writes or all reads of one level: they are in one batch, in their order."""


class _RequestKind(Generic[Waiting]):
    """The writes, or the reads of one level: groups that wait, and batches in flight. Those of one kind hold up no other."""

    def __init__(self, most: float) -> None:
        """`most` requests are in flight."""
        self.waiting: deque[tuple[float, Group[Waiting]]] = deque()
        """Each with the time at which it came."""
        self._most = most
        self._began: dict[_Batch[Waiting], float] = {}
        """When each batch that is in flight began, in their order."""
        self._in_flight = 0

    def next_at(self) -> float:
        """Return when the next batch may begin, before now if at once: while others are in flight it waits a little for them."""
        if not self.waiting or self._in_flight >= self._most:
            return inf
        return next(reversed(self._began.values())) + NEXT_BATCH_S * len(self._began) if self._began else NOW

    def begin(self, now: float) -> "_Batch[Waiting]":
        """Take the next batch: groups as a whole until they are enough: parts of one could change their order."""
        batch = _Batch(self)
        most = min(BATCH_REQUESTS, self._most - self._in_flight)
        size = 0
        while self.waiting and len(batch.requests) < most and size < BATCH_BYTES:
            _, group = self.waiting.popleft()
            batch.requests += group
            size += sum([value_size(request) for _, request in group])
        self._in_flight += len(batch.requests)
        self._began[batch] = now
        return batch

    def release(self, batch: "_Batch[Waiting]") -> None:
        """Its outcomes are delivered. One that was refused was not in flight."""
        if self._began.pop(batch, None) is not None:
            self._in_flight -= len(batch.requests)


class _Batch(Generic[Waiting]):
    """Requests that are executed together; when they have ended, their outcomes, and how many of these are delivered."""

    def __init__(self, kind: _RequestKind[Waiting]) -> None:
        self.kind = kind
        self.requests: Group[Waiting] = []
        self.outcomes: Sequence[Any] = ()
        self.delivered = 0


class Batches(Generic[Waiting]):
    """Used in trio's thread only."""

    def __init__(
        self,
        begin: Begin,
        deliver: Callable[[Sequence[Waiting], Sequence[Any]], None],
        wake: Callable[[], None],
        may_read: Callable[[], bool] = lambda: True,
    ) -> None:
        """`deliver` gets outcomes with what waits for them, some at a time, in a step.

        `wake` has `step` called soon. While `may_read` returns False, reads wait: too much of earlier answers is unsent.
        """
        self._begin = begin
        self._deliver = deliver
        self._may_read = may_read
        self.in_flight = 0
        """How many requests have no outcome yet, or are not delivered."""
        self._wake = wake
        self._writes: _RequestKind[Waiting] = _RequestKind(inf)
        self._reads: dict[str, _RequestKind[Waiting]] = {}
        """By level."""
        self._ended: deque[_Batch[Waiting]] = deque()
        """Batches whose outcomes are to be delivered."""

    def add(self, group: Group[Waiting]) -> None:
        """Queue a connection's next requests for the next step; their outcomes are delivered with what waits for them."""
        request = group[0][1]
        kind = self._writes if is_write(request) else self._reads_of(request.read)
        kind.waiting.append((trio.current_time(), group))
        self.in_flight += len(group)

    def _reads_of(self, level: str) -> _RequestKind[Waiting]:
        if level not in self._reads:
            self._reads[level] = _RequestKind(READS_IN_FLIGHT)
        return self._reads[level]

    def step(self) -> float:
        """Deliver outcomes, or begin the batches that may begin; return the trio time of the next step, if nothing comes before.

        Not both: what the clients that are answered ask next is read first, and is in the same batch.
        """
        if self._ended:
            self._deliver_some()
            return NOW
        now = trio.current_time()
        due = self._give_up(now)
        for kind in self._reads.values():
            if self._may_read():
                due = min(due, self._begin_next(kind, now))
        return min(due, self._begin_next(self._writes, now))

    def _begin_next(self, kind: _RequestKind[Waiting], now: float) -> float:
        """Begin a batch if one may begin; return when the next one may, if none ends before."""
        if kind.next_at() <= now:
            batch = kind.begin(now)
            try:
                self._begin([request for _, request in batch.requests], partial(self._end, batch))
            except Exception as problem:  # a bug must not end the lane
                log.error("a batch of requests failed", exc_info=problem)
                self._end(batch, [problem] * len(batch.requests))
        return kind.next_at()

    def _give_up(self, now: float) -> float:
        """Refuse what has waited for QUEUED_S; return when the next one will have."""
        due = inf
        for kind in (self._writes, *self._reads.values()):
            waiting = kind.waiting
            while waiting and waiting[0][0] + QUEUED_S <= now:
                batch = _Batch(kind)
                batch.requests = waiting.popleft()[1]
                refusal = BargeError("overloaded", f"too many requests wait to be executed; this one did for {QUEUED_S:g} s")
                self._end(batch, [refusal] * len(batch.requests))
            if waiting:
                due = min(due, waiting[0][0] + QUEUED_S)
        return due

    def _end(self, batch: _Batch[Waiting], outcomes: Sequence[Any]) -> None:
        """Have the outcomes delivered in the next step: this may be called in a step of a node, which must not be held up."""
        batch.outcomes = outcomes
        self._ended.append(batch)
        self._wake()

    def _deliver_some(self) -> None:
        """Deliver outcomes for DELIVERY_S: answers of a mebibyte each take a second together."""
        ends = perf_counter() + DELIVERY_S
        while self._ended:
            batch = self._ended[0]
            some = slice(batch.delivered, batch.delivered + DELIVERED_AT_ONCE)
            waiting = [waiting for waiting, _ in batch.requests[some]]
            batch.delivered += len(waiting)
            self.in_flight -= len(waiting)
            if batch.delivered == len(batch.requests):
                self._ended.popleft()
                batch.kind.release(batch)
            self._deliver(waiting, batch.outcomes[some])
            if perf_counter() >= ends:
                break
