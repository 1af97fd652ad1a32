"""Requests that are sent to a node together, and which of them are not answered yet."""

import logging
from collections.abc import Callable, Sequence

import trio
from msgspec.structs import replace

from bargetrio.protocol.requests import DeleteAnswer, ErrorAnswer, GetAnswer, ListAnswer, PutAnswer, Request

log = logging.getLogger(__name__)

GoodAnswer = PutAnswer | GetAnswer | DeleteAnswer | ListAnswer


class RequestBatch:
    """Requests that are sent together, and their answers by position; None: no answer yet.

    `ended` is set, and `on_end` called, once: when all are answered, or none will be any more.
    """

    __slots__ = ("answers", "ended", "first", "is_over", "missing", "on_end", "requests", "sent")

    def __init__(self, requests: Sequence[Request], on_end: Callable[[], None] | None = None) -> None:
        self.requests = requests
        self.answers: list[GoodAnswer | ErrorAnswer | None] = [None] * len(requests)
        self.missing = len(requests)
        self.sent = False
        self.first = 0
        """The number of the first one where it was sent."""
        self.ended = trio.Event()
        self.is_over = False
        self.on_end = on_end

    def take(self, place: int, answer: GoodAnswer | ErrorAnswer) -> None:
        """Set the answer of the request at position `place`; the last one ends the batch."""
        self.answers[place] = answer
        self.missing -= 1
        if not self.missing:
            self.end()

    def end(self) -> None:
        """No further answer comes. Idempotent."""
        if not self.is_over:
            self.is_over = True
            self.ended.set()
            if self.on_end is not None:
                try:
                    self.on_end()
                except Exception as problem:  # a bug with one batch costs no other
                    log.error("a batch of requests ended by an error", exc_info=problem)


class UnansweredRequests:
    """The requests of one connection that are not answered, by the number that each was sent with."""

    def __init__(self) -> None:
        self._waiting: dict[int, tuple[RequestBatch, int]] = {}
        self._last_number = 0

    def __len__(self) -> int:
        """Return how many they are."""
        return len(self._waiting)

    def add(self, batch: RequestBatch) -> list[Request]:
        """Return the requests, each with its number as its id, to be sent."""
        first = batch.first = self._last_number + 1
        self._last_number += len(batch.requests)
        for place in range(len(batch.requests)):
            self._waiting[first + place] = batch, place
        batch.sent = True
        return [replace(request, id=number) for number, request in enumerate(batch.requests, first)]

    def pop(self, number: int) -> tuple[RequestBatch | None, int]:
        """Return the batch that waits for this answer, and the position in it; None if none does any more."""
        return self._waiting.pop(number, (None, 0))

    def drop(self, batch: RequestBatch) -> None:
        """Wait no more for answers of this batch."""
        if batch.missing:
            for number in range(batch.first, batch.first + len(batch.requests)):
                if self._waiting.get(number, (None, 0))[0] is batch:
                    del self._waiting[number]

    def end_all(self) -> None:
        """Nothing is answered any more: end all batches."""
        waiting, self._waiting = self._waiting, {}
        for batch, _ in waiting.values():
            batch.end()
