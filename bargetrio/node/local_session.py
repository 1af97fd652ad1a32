"""A client in the node's own process: its requests and answers are passed as objects.

It is checked as any other client: a request that is not plainly valid is decoded from its line, as one that comes over TCP.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec
from msgspec import Struct

from bargetrio.kv.commands import encode_command
from bargetrio.node.clients import MOST_UNSENT_BYTES, REQUEST_BYTES, bounded
from bargetrio.node.running_node import TakeAnswers
from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.requests import (
    BadRequest,
    ErrorAnswer,
    ListAnswer,
    MalformedLine,
    Read,
    Request,
    Write,
    decode_request,
    is_plain,
    is_write,
    value_size,
)
from bargetrio.replica.inbox import Inbox
from bargetrio.replica.sessions import AnswerRoom, Batch, DeferredReads, Ticket

log = logging.getLogger(__name__)

_encode: Final = msgspec.json.Encoder().encode


class InProcessSession:
    """Implements `replica.sessions.Session` and `running_node.LocalSession`."""

    def __init__(
        self,
        inbox: Inbox,
        wake: Callable[[], None],
        answer_room: AnswerRoom,
        take: TakeAnswers,
        ended: Callable[[], None],
    ) -> None:
        """`wake` has the replica make a step soon."""
        self.answers: list[Struct] = []
        self.room = MOST_UNSENT_BYTES
        self._inbox = inbox
        self._wake = wake
        self._answer_room = answer_room
        self._take = take
        self._ended = ended
        self._deferred = DeferredReads()
        self._is_open = True

    def ask(self, requests: Sequence[Request]) -> bool:
        """See `running_node.LocalSession`."""
        if not self._is_open:
            return False
        checked = [request if is_plain(request) else _checked(request) for request in requests]
        writes: list[Write] = []
        reads: list[Read] = []
        refusals: list[Struct] = []
        size = 0
        for request in checked:
            if isinstance(request, ErrorAnswer):
                refusals.append(request)
                continue
            size += REQUEST_BYTES + value_size(request)
            if is_write(request):
                writes.append(request)
            else:
                reads.append(request)
        if writes or reads:
            self._inbox.take_requests(self, Batch(writes, [encode_command(write) for write in writes], reads, size))
            self._wake()
        if refusals:
            self._take(refusals)
        return True

    def end(self) -> None:
        """End the session, as its node ends; requests in flight may still be applied. Idempotent."""
        if not self._is_open:
            return
        self._is_open, self.room = False, 0
        self._deferred.end()
        self._answer_room.waiting.pop(self, None)
        try:
            self._ended()
        except Exception as problem:  # a bug in a client must not keep the node from its end
            log.error("a session ended by an error", exc_info=problem)

    # -- for the replica ---------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Pass the answers on; their room is free again."""
        answers, self.answers = self.answers, []
        if self._is_open:
            self.room = 0 if self._deferred else MOST_UNSENT_BYTES
            if self._deferred:
                self.resume()
        try:
            self._take([bounded(answer) if type(answer) is ListAnswer else answer for answer in answers])
        except Exception as problem:  # a bug in a client must not end the node
            log.error("answers were not taken", exc_info=problem)

    def defer(self, ticket: Ticket) -> None:
        """See `replica.sessions.Session`."""
        if self._deferred.add(ticket):
            self._wait_for_room()

    def take_deferred(self) -> Iterable[Ticket]:
        """See `replica.sessions.Session`."""
        self.room = MOST_UNSENT_BYTES
        yield from self._deferred.take_while(lambda: self.room > 0 and self._answer_room.free > 0)
        if self._deferred:
            self._wait_for_room()

    def resume(self) -> None:
        """See `replica.sessions.Session`."""
        self._inbox.session_has_room(self)

    def _wait_for_room(self) -> None:
        self.room = 0  # later reads are executed after the deferred ones
        if self._answer_room.free <= 0:
            self._answer_room.waiting[self] = None


def _checked(request: Request) -> Request | ErrorAnswer:
    """Return the request as its line is decoded, which checks all of it; else the answer that it is not valid."""
    try:
        return decode_request(_encode(request))
    except BadRequest as bad:
        return ErrorAnswer.of(request.id, bad.error)
    except MalformedLine as problem:
        return ErrorAnswer.of(request.id, BargeError("bad_request", str(problem)))
