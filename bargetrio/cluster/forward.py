"""Requests of this daemon's own clients, carried to the leader over the client protocol and through elections.

A write is sent again only if it is certain that it was never proposed. Once its line has left and the connection is cut, nobody
knows (BUG-47): the caller is told so. Many requests may travel together; each has its own outcome.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Final, overload

import trio

from bargetrio.cluster.node_link import GoodAnswer, NodeLink, Parcel
from bargetrio.protocol.errors import BargeError, Cut, NotSent
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
)
from bargetrio.transport.network import Network

log = logging.getLogger(__name__)

Outcome = GoodAnswer | BargeError

PAUSE_S: Final = 0.02
"""How long to wait before looking for the leader again."""
GRACE_S: Final = 0.25
"""How much longer than the node's own time-out we wait, so that its answer comes first."""

WATCH_S: Final = 0.1
WRITE_GRACE_S: Final = 1.0
READ_GRACE_S: Final = 0.2
"""Seconds that a node may take to answer once another node leads: it may be deposed, or its process paused."""


class _Errand:
    """Requests to be carried, and what became of each; `left` are the places of those that are still to be carried."""

    def __init__(self, requests: Sequence[Request]) -> None:
        self.requests = requests
        self.outcomes: dict[int, Outcome] = {}
        self.left = list(range(len(requests)))
        self.why = "no node answers"

    def parcel(self) -> Parcel:
        """Return what is left."""
        return Parcel([self.requests[place] for place in self.left])

    def settle(self, parcel: Parcel, silence: str) -> None:
        """Take the parcel's answers; what was certainly not done stays left. `silence` says why the others have no answer."""
        left: list[int] = []
        for place, request, answer in zip(self.left, parcel.requests, parcel.answers, strict=True):
            if answer is None:
                self.why = silence
                if _may_have_effect(parcel, request):
                    self.outcomes[place] = BargeError("outcome_unknown", silence)
                else:
                    left.append(place)
            elif not isinstance(answer, ErrorAnswer):
                self.outcomes[place] = answer
            elif _may_be_sent_again(answer, request):
                self.why = answer.detail
                left.append(place)
            else:
                self.outcomes[place] = answer.as_error()
        self.left = left


class _Ask:
    """A request that a node was sent; cancelled when that node no longer leads and does not say so itself."""

    __slots__ = ("grace_s", "moved_at", "node_id", "scope")

    def __init__(self, node_id: int, grace_s: float) -> None:
        self.node_id = node_id
        self.grace_s = grace_s
        self.moved_at: float | None = None
        self.scope = trio.CancelScope()


class Forwarder:
    """Finds the leader for each request and stays with it until there is an answer or the time is over."""

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
    ) -> None:
        self.request_timeout_s = request_timeout_s
        self._leader_hint = leader_hint
        self._local_ids = local_ids
        self._can_lead = can_lead
        self._node_ids = sorted(addresses)
        self._links = {node_id: NodeLink(address, cluster, network, nursery) for node_id, address in addresses.items()}
        self._told_leader: int | None = None
        self._turn = 0
        self._asks: dict[_Ask, None] = {}
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
        """Return the good answer; raise BargeError. Waits at most the request time-out."""
        (outcome,) = await self.execute_many([request])
        if isinstance(outcome, BargeError):
            raise outcome
        return outcome

    async def execute_many(self, requests: Sequence[Request]) -> list[Outcome]:
        """Return what became of each, in the requests' order; they travel together, so all write, or all read at one level."""
        errand = _Errand(requests)
        with trio.move_on_after(self.request_timeout_s + GRACE_S):
            end = trio.current_time() + self.request_timeout_s
            while errand.left and trio.current_time() < end:
                node_id = self._next_node(requests[0])
                if node_id is None:
                    errand.why = "no leader is known"
                else:
                    await self._carry(node_id, errand)
                if errand.left:
                    await trio.sleep(PAUSE_S)
        for place in errand.left:
            detail = f"no leader within {self.request_timeout_s:g} s: {errand.why}"
            errand.outcomes[place] = BargeError("no_leader", detail)
        return [errand.outcomes[place] for place in range(len(requests))]

    async def _carry(self, node_id: int, errand: _Errand) -> None:
        """Carry what is left to one node, and settle what it answered, even if the time ends meanwhile."""
        parcel = errand.parcel()
        silence = "no answer in time; a write may still be applied"
        try:
            await self._ask(node_id, parcel)
        except NotSent as problem:
            silence = str(problem)
            self._forget(node_id)
        except Cut as problem:
            silence = f"no answer of node {node_id}: {problem}"
            self._forget(node_id)
        finally:
            self._learn(node_id, parcel)
            errand.settle(parcel, silence)

    async def _ask(self, node_id: int, parcel: Parcel) -> None:
        """Ask one node; raise Cut, too, when another leads and this one has been silent since."""
        ask = _Ask(node_id, WRITE_GRACE_S if _is_write(parcel.requests[0]) else READ_GRACE_S)
        self._asks[ask] = None
        try:
            with ask.scope:
                await self._links[node_id].ask(parcel)
                return
        finally:
            self._asks.pop(ask, None)
        raise Cut("it does not answer, and another node leads now")

    async def _watch(self) -> None:
        """Look up the leader every WATCH_S, for all requests that wait."""
        while True:
            await trio.sleep(WATCH_S)
            try:
                self._look()
            except Exception as problem:  # a bug here is not the daemon's end: the next look may do better
                log.error("who leads could not be looked up", exc_info=problem)

    def _look(self) -> None:
        leader, now = self._leader_hint() if self._asks else None, trio.current_time()
        for ask in list(self._asks):
            if leader is None or leader == ask.node_id:
                ask.moved_at = None
            elif ask.moved_at is None:
                ask.moved_at = now
            elif now - ask.moved_at > ask.grace_s:
                ask.scope.cancel()

    def _learn(self, node_id: int, parcel: Parcel) -> None:
        """Learn the leader from the last answer: the node that answered, or the one that a refusal names."""
        answer = next((answer for answer in reversed(parcel.answers) if answer is not None), None)
        if isinstance(answer, ErrorAnswer):
            if answer.error == "not_leader":
                self._told_leader = answer.leader
            elif answer.error in ("no_leader", "storage_failed"):
                self._told_leader = None
        elif answer is not None and not _is_stale(parcel.requests[0]):
            self._told_leader = node_id

    def _next_node(self, request: Request) -> int | None:
        if _is_stale(request):
            ids = self._local_ids() or self._node_ids
            self._turn += 1
            return ids[self._turn % len(ids)]
        leader = self._leader_hint()
        if leader is not None:
            return leader
        told = self._told_leader
        if told is not None and told in self._links and self._can_lead(told):
            return told
        others = [node_id for node_id in self._node_ids if self._can_lead(node_id) and node_id not in self._local_ids()]
        if not others:
            return None
        self._turn += 1
        return others[self._turn % len(others)]

    def _forget(self, node_id: int) -> None:
        if self._told_leader == node_id:
            self._told_leader = None


def _is_stale(request: Request) -> bool:
    return isinstance(request, (Get, List)) and request.read == "stale"


def _is_write(request: Request) -> bool:
    return isinstance(request, (Put, Delete))


def _may_have_effect(parcel: Parcel, request: Request) -> bool:
    """A write that has left and was not answered may be applied, now or later (BUG-47)."""
    return parcel.sent and _is_write(request)


def _may_be_sent_again(answer: ErrorAnswer, request: Request) -> bool:
    """Refused before it was proposed, for a reason that another node, or a moment, may mend."""
    return answer.error in ("not_leader", "no_leader") or (answer.error == "storage_failed" and not _is_write(request))
