"""What a client's session and a replica exchange: batches of requests, tickets that wait, and room for answers."""

from collections import deque
from collections.abc import Iterable
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

    def defer_in(self, reads: "deque[Ticket]") -> None:
        """Queue this read behind those of its session that were deferred before; one that is deferred again is the oldest."""
        if self.is_deferred:
            reads.appendleft(self)
        else:
            self.is_deferred = True
            reads.append(self)


class Batch(NamedTuple):
    """Checked requests that came together, in lines of `size` bytes.

    `commands` are those of the writes, as `kv.commands.encode_command` makes them.
    """

    writes: list[Write]
    commands: list[Raw]
    reads: list[Read]
    size: int = 0
