"""Forwarding of requests of this daemon's clients to the leader, with retries after elections.

A node of this process is asked by objects (local_link.py), another one over the client protocol (node_link.py).

A write is retried only if it was certainly never proposed. If it was sent and the connection ended, the outcome is unknown
(BUG-47), and the caller gets outcome_unknown. Requests are sent in batches; each has its own outcome.
"""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from typing import Final, overload

import trio

from bargetrio.cluster.in_flight import GoodAnswer, RequestBatch
from bargetrio.cluster.local_link import LocalLink
from bargetrio.cluster.node_link import NodeLink
from bargetrio.node.running_node import RunningNode
from bargetrio.protocol.errors import BargeError, NoAnswer, NotSent
from bargetrio.protocol.requests import (
    Delete,
    DeleteAnswer,
    ErrorAnswer,
    Get,
    GetAnswer,
    List,
    ListAnswer,
    Put,
    PutAnswer,
    Request,
    is_write,
)
from bargetrio.transport.network import Network
from bargetrio.transport.poller import Poller

log = logging.getLogger(__name__)

Outcome = GoodAnswer | BargeError
Done = Callable[[Sequence[Outcome | Exception]], None]
"""Takes the outcome of each request, in their order; an exception that is no BargeError is a bug."""

PAUSE_S: Final = 0.02
"""How long to wait before searching for the leader again."""
GRACE_S: Final = 0.25
"""How much longer than the node's own time-out we wait, so that its answer comes first."""

WATCH_S: Final = 0.1
WRITE_GRACE_S: Final = 1.0
READ_GRACE_S: Final = 0.2
"""Seconds that a node may take to answer once another node leads: it may be deposed, or its process paused."""

NOT_LEADING: Final = "it does not answer, and another node leads now"


class _PendingBatch:
    """Requests and their outcomes; `left` are the positions of those without an outcome."""

    def __init__(self, requests: Sequence[Request], end: float) -> None:
        """`end` is when to give up, in trio's time."""
        self.requests = requests
        self.end = end
        self.outcomes: dict[int, Outcome] = {}
        self.left = list(range(len(requests)))
        self.why = "no node answers"

    def batch(self, on_end: Callable[[], None] | None = None) -> RequestBatch:
        """Return the requests without an outcome."""
        return RequestBatch([self.requests[place] for place in self.left], on_end)

    def take_answers(self, batch: RequestBatch, reason: str) -> None:
        """Set outcomes from the batch's answers; what certainly had no effect stays in `left`. `reason`: why others have none."""
        left: list[int] = []
        for place, request, answer in zip(self.left, batch.requests, batch.answers, strict=True):
            if answer is None:
                self.why = reason
                if _may_have_effect(batch, request):
                    self.outcomes[place] = BargeError("outcome_unknown", reason)
                else:
                    left.append(place)
            elif not isinstance(answer, ErrorAnswer):
                self.outcomes[place] = answer
            elif _may_be_retried(answer, request):
                self.why = answer.detail
                left.append(place)
            else:
                self.outcomes[place] = answer.as_error()
        self.left = left

    def in_order(self) -> list[Outcome]:
        """Return all outcomes, in the requests' order."""
        return [self.outcomes[place] for place in range(len(self.requests))]


class _SentRequest:
    """A batch in flight to a node; given up when another node leads and this one does not answer."""

    __slots__ = ("ends_at", "give_up", "grace_s", "moved_at", "node_id", "why")

    def __init__(self, node_id: int, batch: RequestBatch, give_up: Callable[[], None], ends_at: float = inf) -> None:
        """`ends_at`: when it is given up in any case, in trio's time."""
        self.ends_at = ends_at
        self.node_id = node_id
        self.give_up = give_up
        self.grace_s = WRITE_GRACE_S if is_write(batch.requests[0]) else READ_GRACE_S
        self.moved_at: float | None = None
        self.why = "the node has ended"
        """Why there is no answer."""


class Forwarder:
    """Finds the leader for each request, and retries until there is an answer or the request time-out passes."""

    def __init__(
        self,
        *,
        cluster: str,
        addresses: dict[int, str],
        request_timeout_s: float,
        leader_hint: Callable[[], int | None],
        local_ids: Callable[[], list[int]],
        can_lead: Callable[[int], bool],
        network: Network,
        nursery: trio.Nursery,
        running: Callable[[int], RunningNode | None] = lambda node_id: None,
        poller: Poller | None = None,
    ) -> None:
        """`running` returns a node of this process that runs, None for another one.

        `poller` reads the connections to nodes, if there is one; without it tasks of `nursery` do.
        """
        self.request_timeout_s = request_timeout_s
        self._leader_hint = leader_hint
        self._local_ids = local_ids
        self._can_lead = can_lead
        self._node_ids = sorted(addresses)
        self._nursery = nursery
        self._let_tasks_run: Callable[[], None] = (lambda: None) if poller is None else poller.let_tasks_run
        self._local_links = {node_id: LocalLink(partial(running, node_id), self._let_tasks_run) for node_id in addresses}
        self._links = {node_id: NodeLink(address, cluster, network, nursery, poller) for node_id, address in addresses.items()}
        self._known_leader: int | None = None
        self._round_robin = 0
        self._in_flight: dict[_SentRequest, None] = {}
        nursery.start_soon(self._watch)

    @overload
    async def execute(self, request: Put) -> PutAnswer: ...
    @overload
    async def execute(self, request: Get) -> GetAnswer: ...
    @overload
    async def execute(self, request: Delete) -> DeleteAnswer: ...
    @overload
    async def execute(self, request: List) -> ListAnswer: ...
    @overload
    async def execute(self, request: Request) -> GoodAnswer: ...
    async def execute(self, request: Request) -> GoodAnswer:
        """Return the successful answer; raise BargeError. Waits at most the request time-out.

        Cancelled, a write may still be applied.
        """
        (outcome,) = await self.execute_many([request])
        if isinstance(outcome, BargeError):
            raise outcome
        return outcome

    async def execute_many(self, requests: Sequence[Request]) -> list[Outcome]:
        """Return the outcome of each, in the requests' order. All must be writes, or reads of one level, as they form one batch.

        Cancelled, writes may still be applied.
        """
        return await self._execute(self._pending(requests))

    def begin(self, requests: Sequence[Request], done: Done) -> None:
        """Begin `execute_many`, and return; `done` is called with the outcomes, once, maybe within this call.

        Where a node of this process can execute them no task is started: `done` is called in that node's step, and must be short.
        """
        pending = self._pending(requests)
        node_id = self._next_node(requests[0])
        if node_id is None or not self._begin_here(node_id, pending, done):
            self._execute_soon(pending, done)

    def _pending(self, requests: Sequence[Request]) -> _PendingBatch:
        return _PendingBatch(requests, trio.current_time() + self.request_timeout_s)

    def _begin_here(self, node_id: int, pending: _PendingBatch, done: Done) -> bool:
        """Ask a node of this process, which times requests out by itself while it runs; return False if it is none, or ends."""

        def ended() -> None:
            self._in_flight.pop(sent, None)
            if batch.missing:
                self._forget(node_id)
            self._update_leader(node_id, batch)
            pending.take_answers(batch, f"no answer of node {node_id}: {sent.why}")
            if pending.left:
                self._execute_soon(pending, done)
            else:
                done(pending.in_order())

        link = self._local_links[node_id]
        batch = pending.batch(ended)
        sent = _SentRequest(node_id, batch, partial(link.give_up, batch), pending.end + GRACE_S)
        self._in_flight[sent] = None
        try:
            if link.begin(batch):
                return True
        except BaseException:
            self._in_flight.pop(sent, None)
            raise
        self._in_flight.pop(sent, None)
        return False

    def _execute_soon(self, pending: _PendingBatch, done: Done) -> None:
        async def execute() -> None:
            outcomes: Sequence[Outcome | Exception]
            try:
                outcomes = await self._execute(pending)
            except Exception as problem:  # a bug must not end the daemon
                log.error("a batch of requests failed", exc_info=problem)
                outcomes = [problem] * len(pending.requests)
            done(outcomes)

        self._nursery.start_soon(execute)
        self._let_tasks_run()

    async def _execute(self, pending: _PendingBatch) -> list[Outcome]:
        """Execute what has no outcome yet."""
        with trio.move_on_at(pending.end + GRACE_S):
            while pending.left and trio.current_time() < pending.end:
                node_id = self._next_node(pending.requests[0])
                if node_id is None:
                    pending.why = "no leader is known"
                else:
                    await self._send_batch(node_id, pending)
                if pending.left:
                    await trio.sleep(PAUSE_S)
        for place in pending.left:
            detail = f"no leader within {self.request_timeout_s:g} s: {pending.why}"
            pending.outcomes[place] = BargeError("no_leader", detail)
        return pending.in_order()

    async def _send_batch(self, node_id: int, pending: _PendingBatch) -> None:
        """Send the requests without an outcome to one node, and take its answers, also if cancelled by the time-out."""
        batch = pending.batch()
        reason = "no answer in time; a write may still be applied"
        try:
            await self._ask(node_id, batch)
        except NotSent as problem:
            reason = str(problem)
            self._forget(node_id)
        except NoAnswer as problem:
            reason = f"no answer of node {node_id}: {problem}"
            self._forget(node_id)
        finally:
            self._update_leader(node_id, batch)
            pending.take_answers(batch, reason)

    async def _ask(self, node_id: int, batch: RequestBatch) -> None:
        """Send the batch to one node; raise NotSent, or NoAnswer, also if another node leads and this one does not answer."""
        scope = trio.CancelScope()
        sent = _SentRequest(node_id, batch, scope.cancel)
        self._in_flight[sent] = None
        try:
            with scope:
                link = self._local_links[node_id]
                if link.begin(batch):
                    await link.wait(batch)
                else:
                    await self._links[node_id].ask(batch)
                return
        finally:
            self._in_flight.pop(sent, None)
        raise NoAnswer(NOT_LEADING)

    async def _watch(self) -> None:
        """Check who leads every WATCH_S, for all requests that wait."""
        while True:
            await trio.sleep(WATCH_S)
            try:
                self._check_leader()
            except Exception as problem:  # a bug here must not end the daemon
                log.error("who leads could not be determined", exc_info=problem)

    def _check_leader(self) -> None:
        leader, now = self._leader_hint() if self._in_flight else None, trio.current_time()
        for sent in list(self._in_flight):
            if now > sent.ends_at:
                sent.why = "it does not answer in time"
                sent.give_up()
            elif leader is None or leader == sent.node_id:
                sent.moved_at = None
            elif sent.moved_at is None:
                sent.moved_at = now
            elif now - sent.moved_at > sent.grace_s:
                sent.why = NOT_LEADING
                sent.give_up()

    def _update_leader(self, node_id: int, batch: RequestBatch) -> None:
        """Take the leader from the last answer: the node that answered, or the one in a refusal."""
        answer = next((answer for answer in reversed(batch.answers) if answer is not None), None)
        if isinstance(answer, ErrorAnswer):
            if answer.error == "not_leader":
                self._known_leader = answer.leader
            elif answer.error in ("no_leader", "storage_failed"):
                self._known_leader = None
        elif answer is not None and not _is_stale(batch.requests[0]):
            self._known_leader = node_id

    def _next_node(self, request: Request) -> int | None:
        if _is_stale(request):
            ids = self._local_ids() or self._node_ids
            self._round_robin += 1
            return ids[self._round_robin % len(ids)]
        leader = self._leader_hint()
        if leader is not None:
            return leader
        known = self._known_leader
        if known is not None and known in self._links and self._can_lead(known):
            return known
        others = [node_id for node_id in self._node_ids if self._can_lead(node_id) and node_id not in self._local_ids()]
        if not others:
            return None
        self._round_robin += 1
        return others[self._round_robin % len(others)]

    def _forget(self, node_id: int) -> None:
        if self._known_leader == node_id:
            self._known_leader = None


def _is_stale(request: Request) -> bool:
    return not is_write(request) and request.read == "stale"


def _may_have_effect(batch: RequestBatch, request: Request) -> bool:
    """Return whether it is a write that was sent and not answered: it may be applied, now or later (BUG-47)."""
    return batch.sent and is_write(request)


def _may_be_retried(answer: ErrorAnswer, request: Request) -> bool:
    """Return whether it was refused before it was proposed, for a reason that may not hold at another node or later."""
    return answer.error in ("not_leader", "no_leader") or (answer.error == "storage_failed" and not is_write(request))
