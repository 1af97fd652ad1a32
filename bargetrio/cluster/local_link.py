"""This daemon as a client of a node that runs in it: requests and answers are passed as objects, in the process's one thread.

A TCP connection to the own process would cost two sends, two receives and each line's JSON: docs/decisions/fast_lane.md has the
figures. What a node promises its clients is the same: when it ends, writes without an answer are of unknown outcome.
"""

from collections.abc import Callable, Sequence
from typing import cast

from msgspec import Struct

from bargetrio.cluster.in_flight import GoodAnswer, RequestBatch, UnansweredRequests
from bargetrio.node.running_node import LocalSession, RunningNode
from bargetrio.protocol.errors import NoAnswer
from bargetrio.protocol.requests import ErrorAnswer


class LocalLink:
    """A client of one node of this process; `running` returns the node, None while it does not run.

    `let_tasks_run` is called when a batch has ended in a step of the node, for the task that waits for it.
    """

    def __init__(self, running: Callable[[], RunningNode | None], let_tasks_run: Callable[[], None]) -> None:
        self._running = running
        self._let_tasks_run = let_tasks_run
        self._open: _OpenSession | None = None

    def begin(self, batch: RequestBatch) -> bool:
        """Pass the batch to the node, and return at once; return False if it does not run, or ends, and the batch was not passed.

        The batch ends when all requests are answered, or the node has ended; that may be within this call.
        """
        node = self._running()
        if node is None:
            return False
        if self._open is None or self._open.node is not node:
            self._open = _OpenSession(node, self._let_tasks_run)
        return self._open.begin(batch)

    def give_up(self, batch: RequestBatch) -> None:
        """Wait no more for its answers, and end it; writes may still be applied."""
        if self._open is not None:
            self._open.in_flight.drop(batch)
        batch.end()

    async def wait(self, batch: RequestBatch) -> None:
        """Wait until a batch that was begun has ended; raise NoAnswer if it lacks answers. Cancelled, it is given up."""
        try:
            await batch.ended.wait()
        finally:
            self.give_up(batch)
        if batch.missing:
            raise NoAnswer("the node has ended")


class _OpenSession:
    """The session with one life of the node."""

    def __init__(self, node: RunningNode, let_tasks_run: Callable[[], None]) -> None:
        self.node = node
        self._let_tasks_run = let_tasks_run
        self.in_flight = UnansweredRequests()
        self._session: LocalSession = node.open_session(self._take, self.in_flight.end_all)

    def begin(self, batch: RequestBatch) -> bool:
        is_taken = False
        try:
            is_taken = self._session.ask(self.in_flight.add(batch))
        finally:
            if not is_taken:
                self.in_flight.drop(batch)
                batch.sent = False
        return is_taken

    def _take(self, answers: Sequence[Struct]) -> None:
        for answer in cast("Sequence[GoodAnswer | ErrorAnswer]", answers):
            batch, place = self.in_flight.pop(answer.id or 0)
            if batch is not None:
                batch.take(place, answer)
                if batch.is_over and batch.on_end is None:
                    self._let_tasks_run()
