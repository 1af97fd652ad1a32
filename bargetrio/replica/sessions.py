"""What a client's session and a replica exchange: batches of requests, tickets that wait, and room for answers."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from sys import maxsize
from typing import Any, Final, NamedTuple, Protocol

from msgspec import Raw, Struct

from bargetrio.protocol.requests import Read, Write

RESUMED: Final = 16
"""Sessions that waited for room for their answers and are resumed together."""


class Session(Protocol):
    """A client's connection. Answers are collected in `answers` during a step; `flush` sends them at its end."""

    answers: list[Struct]
    room: int
    """Bytes of answers to reads that may be made before the next `flush`; without any left, reads are deferred."""

    def flush(self) -> None:
        """Send what is in `answers`, and empty it."""
        ...

    def defer(self, ticket: "Ticket") -> None:
        """Keep a read for `take_deferred`, unless its time is over or its client is gone."""
        ...

    def take_deferred(self) -> Iterable["Ticket"]:
        """Yield the reads that were deferred, in their order, while there is room for their answers."""
        ...

    def resume(self) -> None:
        """There may be room for the answers to reads that were deferred."""
        ...


class AnswerRoom:
    """Bytes of answers to reads that may still be made, one for all replicas of a process; beyond it reads are deferred.

    `free` is what is left, below 0 if a last answer was larger. `waiting` are the sessions that have deferred reads for it, any
    objects with the method `Session.resume`.
    """

    def __init__(self, free: int = maxsize) -> None:
        self.free = free
        self.waiting: dict[Any, None] = {}

    def resume(self) -> None:
        """Resume up to RESUMED of the waiting sessions, first in first out, if there is room."""
        waiting = self.waiting
        if self.free > 0:
            for session in list(islice(waiting, RESUMED)):
                del waiting[session]
                session.resume()


class Ticket(Struct, eq=False):
    """A request that waits: exactly one answer goes to its client, whoever gives it first.

    `read` is the read to be executed, None for a write: its value is in the log, and a ticket that is done may stay in a queue
    until older ones are. `is_deferred` is set when a read may be answered, and waits for its client to fetch earlier answers.
    """

    session: Session
    request_id: int
    read: Read | None
    deadline: float
    done: bool = False
    is_deferred: bool = False


class DeferredReads:
    """The reads of one session that wait for room for their answers, in their order."""

    def __init__(self) -> None:
        self._tickets: deque[Ticket] = deque()
        self._has_ended = False

    def __len__(self) -> int:
        """Return how many they are, with those that timed out meanwhile."""
        return len(self._tickets)

    def add(self, ticket: Ticket) -> bool:
        """Keep a read unless it has timed out or the session has ended; return whether it is kept.

        It is the last one, or the first one if it was deferred before: it was taken when there was room, and now there is none.
        """
        if ticket.done:
            return False
        if self._has_ended:
            ticket.done = True
            return False
        if ticket.is_deferred:
            self._tickets.appendleft(ticket)
        else:
            ticket.is_deferred = True
            self._tickets.append(ticket)
        return True

    def take_while(self, has_room: Callable[[], bool]) -> Iterator[Ticket]:
        """Yield those that have not timed out, while there is room; `has_room` is called before each."""
        while self._tickets and has_room():
            ticket = self._tickets.popleft()
            if not ticket.done:
                yield ticket

    def end(self) -> None:
        """The session has ended: nobody waits for their answers, nor for those of later ones."""
        self._has_ended = True
        for ticket in self._tickets:
            ticket.done = True
        self._tickets.clear()


class Batch(NamedTuple):
    """Checked requests that came together, in lines of `size` bytes.

    `commands` are those of the writes, as `kv.commands.encode_command` makes them.
    """

    writes: list[Write]
    commands: list[Raw]
    reads: list[Read]
    size: int = 0
