"""The connection of all clients to one life of a server: queues their requests, and passes each answer to its asker."""

from collections.abc import Callable, Iterator
from typing import Final, Protocol

from msgspec import Struct, structs

from bargetrio.kv.commands import encode_command
from bargetrio.protocol.requests import (
    DeleteAnswer,
    ErrorAnswer,
    GetAnswer,
    ListAnswer,
    PutAnswer,
    Request,
    is_write,
)
from bargetrio.replica.inbox import Inbox
from bargetrio.replica.sessions import Batch, DeferredReads, Ticket
from bargetrio.simulator.memory import Breach

ROOM: Final = 1 << 40
"""Bytes of answers that a connection takes: clients fetch them at once."""

NO_LEADER_BACKOFF: Final = 3
"""Factor of a client's pause before a retry after `no_leader`."""

AnyAnswer = PutAnswer | DeleteAnswer | GetAnswer | ListAnswer | ErrorAnswer


class Asker(Protocol):
    """Waits for one answer; none comes if the server ends first."""

    def answered(self, answer: AnyAnswer) -> None:
        """Take the answer."""
        ...


class ClientsSession:
    """Implements `replica.sessions.Session`.

    `answered(request, asker, answer)` is called for each answer, at the end of a step.
    """

    def __init__(self, inbox: Inbox, answered: Callable[[Request, Asker, AnyAnswer], None]) -> None:
        self.answers: list[Struct] = []
        self.room = ROOM
        self._inbox = inbox
        self._answered = answered
        self._asked: dict[int, tuple[Request, Asker]] = {}
        self._deferred = DeferredReads()
        self._next_id = 0

    def ask(self, request: Request, asker: Asker) -> None:
        """Put a request into the inbox, under an id unique in this life; the caller schedules a step."""
        self._next_id += 1
        request = structs.replace(request, id=self._next_id)
        self._asked[request.id] = request, asker
        if is_write(request):
            self._inbox.take_requests(self, Batch([request], [encode_command(request)], []))
        else:
            self._inbox.take_requests(self, Batch([], [], [request]))

    def flush(self) -> None:
        """Pass the answers to their askers."""
        answers, self.answers, self.room = self.answers, [], ROOM
        for answer in answers:
            assert isinstance(answer, AnyAnswer)
            assert answer.id is not None
            if answer.id not in self._asked:
                raise Breach("one answer for each request", f"{answer} is a second one, or nobody asked")
            request, asker = self._asked.pop(answer.id)
            self._answered(request, asker, answer)

    @property
    def unanswered(self) -> int:
        """How many requests have no answer."""
        return len(self._asked)

    def asked(self, request_id: int) -> Request | None:
        """Return the request that waits under this id."""
        return self._asked.get(request_id, (None, None))[0]

    def defer(self, ticket: Ticket) -> None:
        """Keep a read for the next step, which has room for its answer."""
        if self._deferred.add(ticket):
            self.room = 0  # later reads wait behind this one

    def take_deferred(self) -> Iterator[Ticket]:
        """Yield the reads that were deferred, in their order, while there is room."""
        self.room = ROOM
        yield from self._deferred.take_while(lambda: self.room > 0)

    def resume(self) -> None:
        """Have the deferred reads executed in the next step."""
        self._inbox.session_has_room(self)
