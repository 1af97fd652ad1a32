"""The whole cluster, through any of its daemons: the interface of REST and the page.

Keys go to the leader through the forwarder; this daemon's own nodes are in local_nodes.py, others are reached over REST.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

import trio

from bargetrio.cluster.daemons import KILL_TIMEOUT_S, REVIVE_TIMEOUT_S, Daemons, Unreachable
from bargetrio.cluster.disk_faults import DiskFaults
from bargetrio.cluster.fault_plan import FaultPlan, listed
from bargetrio.cluster.forward import Done, Forwarder, Outcome
from bargetrio.cluster.in_flight import GoodAnswer
from bargetrio.cluster.local_nodes import LocalNodes
from bargetrio.cluster.merge import DaemonPage, merge, path_of
from bargetrio.node.running_node import UNCOMMITTED
from bargetrio.node.running_node import BackupFile as BackupFile  # web knows only cluster
from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.events import EventPage, EventQuery
from bargetrio.protocol.requests import List, ListAnswer, Request
from bargetrio.protocol.views import BootstrapAnswer, Faults, LeaderView, NodeAnswer, NodesAnswer, NodeView, Successor
from bargetrio.raft.quorum import is_majority, majority_of
from bargetrio.raft.readmission import WHAT_IS_LEFT, no_majority_without
from bargetrio.transport.faults import LinkFaults

T = TypeVar("T")

BACKUP_WAIT_S: Final = 120.0
"""Seconds that a backup waits for a snapshot to be taken; a million keys take some 8 s."""
BACKUP_POLL_S: Final = 2.0
"""Seconds between two checks of a backup whether the node that it waits for still runs."""
READMIT_WAIT_S: Final = 3.0
"""Seconds that a readmission waits for a hello with the new disk, and for the entry to be committed."""
BOOTSTRAP_WAIT_S: Final = 3.0
TRANSFER_WAIT_S: Final = 3.0
READMIT_POLL_S: Final = 0.05
TRANSFER_POLL_S: Final = 0.005
LAST_ANSWER_S: Final = 0.5
"""Seconds that the last repetition of a readmission or bootstrap has for its answer, after the time for new ones is over."""


class Cluster:
    """Every call raises BargeError, and no other exception that a caller could cause. All may be cancelled.

    With `local` a request is not passed on to other daemons; they send it to each other.
    """

    def __init__(
        self,
        nodes: LocalNodes,
        forwarder: Forwarder,
        *,
        link_faults: LinkFaults,
        disk_faults: DiskFaults,
        daemons: Daemons,
        nursery: trio.Nursery,
    ) -> None:
        """Revived nodes live in `nursery`, as those that `nodes` starts."""
        self.local = nodes
        self.forwarder = forwarder
        self.cluster_name = nodes.cluster_name
        self.local_ids = nodes.ids
        self.node_ids = sorted(nodes.addresses)
        self._apis = nodes.apis
        self._own_apis = {nodes.apis[node_id] for node_id in nodes.ids}
        self._fault_plan = FaultPlan(self.node_ids, link_faults, disk_faults, nodes.recorder)
        self._daemons = daemons
        self._nursery = nursery

    # -- keys ----------------------------------------------------------------------------------------------------------

    async def execute(self, request: Request) -> GoodAnswer:
        """Forward one request to the leader (a stale read to a local node), again after an election.

        Waits at most request_timeout; then raises no_leader if it was never proposed, outcome_unknown if it may have been.
        """
        return await self.forwarder.execute(request)

    async def execute_many(self, requests: Sequence[Request]) -> list[Outcome]:
        """Forward requests in one batch, all writes or all reads of one level; return the outcome of each, as of `execute`."""
        return await self.forwarder.execute_many(requests)

    def begin(self, requests: Sequence[Request], done: Done) -> None:
        """Begin `execute_many`, and return; `done` is called with the outcomes, once, maybe within this call.

        Where a node of this daemon can execute them no task is started: `done` is called in that node's step, and must be short.
        """
        self.forwarder.begin(requests, done)

    async def backup(self) -> BackupFile:
        """Return a snapshot of everything committed at the time of the call, from a node of this daemon.

        Raises BargeError: no_leader if the commit index is not known, no own node runs, or none has applied up to it within
        request_timeout; overloaded if the snapshot is not taken within BACKUP_WAIT_S.
        """
        # The leader's commit index; then the own node that has applied most has request_timeout to apply up to it.
        answer = await self.execute(List(id=0, limit=1, keys_only=True))
        assert isinstance(answer, ListAnswer)
        patience_s = self.forwarder.request_timeout_s
        end = trio.current_time() + patience_s
        with trio.move_on_after(BACKUP_WAIT_S):
            while running := self.local.running():
                applied, node_id = max((self.local.view(node_id).last_applied or 0, node_id) for node_id in running)
                left = end - trio.current_time()
                if applied < answer.index and left <= 0:
                    detail = (
                        f"no node of this daemon has applied index {answer.index} within {patience_s:g} s ({applied} is the last)"
                    )
                    raise BargeError("no_leader", f"{detail}: it does not hear the leader, or is far behind; ask another daemon")
                with trio.move_on_after(BACKUP_POLL_S if applied >= answer.index else min(BACKUP_POLL_S, left)):
                    return await running[node_id].backup(answer.index)
            raise BargeError("no_leader", "no node of this daemon runs; ask another daemon")
        raise BargeError("overloaded", f"no snapshot was taken within {BACKUP_WAIT_S:g} s; ask another daemon, or later")

    # -- nodes ---------------------------------------------------------------------------------------------------------

    async def leader(self, *, local: bool = False) -> LeaderView:
        """Return the leader of the highest term, as known to a node with a quorum."""
        found = self.local.known_leader()
        if found is None and not local:
            found = self._confirmed_leader(await self._ask_others("GET", "/leader?local=1", LeaderView))
        if found is None:
            raise BargeError("no_leader", "no majority of the nodes follows a leader")
        return found

    def _confirmed_leader(self, answers: dict[str, Any]) -> LeaderView | None:
        """Return the leader of the highest term in others' answers, unless the leader's own daemon, or this one, denies it.

        A follower reports its leader for an election timeout after the last message; the leader may have stepped down meanwhile.
        """
        views_by_api = {api: answer for api, answer in answers.items() if isinstance(answer, LeaderView)}
        views: list[LeaderView] = []
        for view in views_by_api.values():
            api = self._apis.get(view.leader)
            own_word = views_by_api.get(api) if api is not None else None
            is_silent = api is not None and isinstance(answers.get(api), Unreachable)
            is_denied = view.leader in self.local.slots or not (is_silent or own_word == view)
            if not is_denied:
                views.append(view)
        return max(views, key=lambda view: view.term, default=None)

    async def nodes(self, *, local: bool = False) -> list[NodeView]:
        """Return a view of every node."""
        own = self.local.views()
        if local:
            return own
        views = {view.id: view for view in own}
        refusals: dict[str, str] = {}
        if len(views) < len(self.node_ids):
            for api, answer in (await self._ask_others("GET", "/nodes?local=1", NodesAnswer)).items():
                if isinstance(answer, NodesAnswer):
                    views.update({view.id: view for view in answer.nodes})
                elif isinstance(answer, BargeError):
                    refusals[api] = _refused_by(api, answer)
        return [views.get(node_id, self._remote_view(node_id, refusals)) for node_id in self.node_ids]

    async def kill(self, node_id: int, *, local: bool = False) -> NodeAnswer:
        """Crash the node; return once its port refuses. An unknown id raises not_found, which lists the known ones."""
        self._check_known(node_id)
        if node_id in self.local.slots:
            return await self.local.kill(node_id)
        return await self._on_other_daemon(node_id, "kill", local=local)

    async def revive(self, node_id: int, *, local: bool = False) -> NodeAnswer:
        """Start the node again; return once it has recovered and listens; raise cannot_start or outcome_unknown."""
        self._check_known(node_id)
        if node_id in self.local.slots:
            return await self.local.revive(node_id, self._nursery)
        return await self._on_other_daemon(node_id, "revive", local=local)

    async def readmit(self, node_id: int, *, local: bool = False) -> NodeAnswer:
        """Readmit a node whose disk was lost and replaced, by an entry of the log that is committed without counting the node.

        Returns once that is committed, or if the node is a member with this disk (`changed` is false); the node votes when it has
        caught up. Raises BargeError: no_leader; bad_request, with what must be done first, or why it can't be done;
        outcome_unknown if the entry is in the log and not committed in time: retry.
        """
        self._check_known(node_id)
        try:
            leader = (await self.leader()).leader
        except BargeError as problem:
            raise await self._why_not_readmitted(node_id, problem) from None
        slot = self.local.slots.get(leader)
        if slot is None:
            if local:
                raise BargeError("not_leader", f"node {leader} leads, and does not run in this daemon", leader=leader)
            return await self._ask_daemon_of(leader, f"/nodes/{node_id}/readmit?local=1", READMIT_WAIT_S + 1.0, NodeAnswer)
        is_proposed = False

        async def ask() -> str:
            nonlocal is_proposed
            reason = await slot.readmit(node_id)
            is_proposed = is_proposed or UNCOMMITTED in reason
            return reason

        reason = await _repeated(ask, READMIT_WAIT_S)
        if reason is None:
            raise BargeError("outcome_unknown", f"node {leader}, which leads, did not answer: try again")
        if not reason:
            state = self.local.slots[node_id].state if node_id in self.local.slots else "unreachable"
            return NodeAnswer(id=node_id, state=state, changed=is_proposed)
        if is_proposed:
            raise BargeError("outcome_unknown", f"node {node_id}'s new disk {UNCOMMITTED}: try again")
        known = self.local.known_leader()
        if known is None or known.leader != leader:
            raise BargeError("no_leader", f"node {leader} leads no more: try again")
        raise BargeError("bad_request", reason)

    async def transfer(self, wanted: Successor, *, local: bool = False) -> LeaderView:
        """Have the leader transfer its leadership (Ongaro 3.10): to this node, or to the one that has most of its entries.

        Returns the new leader, or the present one if it is that, or is not the one that should be replaced. Raises BargeError:
        not_found, no_leader; bad_request, with the reason, if that node could not be elected at once; outcome_unknown if it was
        not in time: it may still be.
        """
        to = wanted.to
        for named in (to, wanted.instead_of):
            if named is not None:
                self._check_known(named)
        found = await self.leader()
        slot = self.local.slots.get(found.leader)
        if found.leader == to or wanted.instead_of not in (None, found.leader):
            return found
        if slot is None:
            if local:
                raise BargeError("not_leader", f"node {found.leader} leads, and does not run in this daemon", leader=found.leader)
            wait_s, body = TRANSFER_WAIT_S + 1.0, Successor(to=to, instead_of=found.leader)
            return await self._ask_daemon_of(found.leader, "/leader?local=1", wait_s, LeaderView, body)
        reason: str | None = None
        with trio.move_on_after(TRANSFER_WAIT_S):
            others = [node_id for node_id in self.node_ids if node_id != found.leader and to in (None, node_id)]
            reason = await slot.transfer(others)
            while not reason:
                known = self.local.known_leader()
                if known is not None and known.leader != found.leader and to in (None, known.leader):
                    return known
                await trio.sleep(TRANSFER_POLL_S)
        if reason:
            known = self.local.known_leader()
            if known is None or known.leader != found.leader:
                raise BargeError("no_leader", f"node {found.leader} leads no more: try again")
            raise BargeError("bad_request", reason)
        who = "no other node leads" if to is None else f"node {to} does not lead"
        raise BargeError("outcome_unknown", f"{who} yet: it was not elected in time")

    async def _why_not_readmitted(self, node_id: int, problem: BargeError) -> BargeError:
        """Return `problem`, or a more exact one if too many disks are lost for a leader ever to be elected."""
        members = len(self.node_ids)
        if not is_majority(members - 1, members):
            return BargeError("bad_request", no_majority_without(node_id, members))
        able = [view.id for view in await self.nodes() if view.may_vote and view.id != node_id]
        if is_majority(len(able), members):
            return problem
        here = f"only node {listed(able)} has" if len(able) == 1 else f"only nodes {listed(able)} have" if able else "none has"
        detail = f"there is no leader: {majority_of(members)} members beside node {node_id} must run with a disk that counts"
        detail += f", and {here} one that does"
        return BargeError(problem.code, f"{detail}; if they are lost, {WHAT_IS_LEFT}")

    async def bootstrap(self) -> BootstrapAnswer:
        """Begin the cluster with the members that are present: the operator asserts that the others never had data in it.

        Absent ones are readmitted later. Raises BargeError: bad_request if a member is born already, this daemon's node too, or
        if less than a majority is present; outcome_unknown if the set of members is not on the disk in time: retry.
        """
        node_id = min(self.local.running_ids(), default=min(self.local.slots))
        slot = self.local.slots[node_id]
        end = trio.current_time() + BOOTSTRAP_WAIT_S
        reason = await _repeated(slot.bootstrap, BOOTSTRAP_WAIT_S, lambda: self._is_born(node_id))
        with trio.move_on_at(end):
            while not reason and not self._is_born(node_id):
                await trio.sleep(READMIT_POLL_S)
        if reason:
            raise BargeError("bad_request", reason)
        if reason is None or not self._is_born(node_id):
            raise BargeError("outcome_unknown", f"node {node_id} has not written the birth set to its disk yet: try again")
        return BootstrapAnswer(node=node_id, members=self.node_ids)

    def _is_born(self, node_id: int) -> bool:
        status = self.local.slots[node_id].status()
        return status is not None and status.is_born

    # -- faults --------------------------------------------------------------------------------------------------------

    async def faults(self) -> Faults:
        """Return the faults in force."""
        return self._fault_plan.faults

    async def set_faults(self, faults: Faults, *, local: bool = False) -> Faults:
        """Replace the faults in force everywhere; raise BargeError if a daemon does not answer or refuses them."""
        self._fault_plan.check(faults)
        self._fault_plan.apply(faults)
        if not local:
            answers = await self._ask_others("PUT", "/faults?local=1", Faults, faults)
            left = [f"{api} ({_why_not(answer)})" for api, answer in answers.items() if isinstance(answer, Exception)]
            if left:
                raise BargeError("outcome_unknown", f"in force here and at every daemon but {', '.join(left)}")
        return faults

    # -- events --------------------------------------------------------------------------------------------------------

    async def events(self, query: EventQuery, *, local: bool = False) -> EventPage:
        """Return the events of all daemons, merged by time."""
        own = await self.local.events(query)
        parts = [DaemonPage(page=own, run=self.local.recorder.run)]
        unreachable: list[int] = []
        if not local and len(self.local.slots) < len(self.node_ids):
            for api, answer in (await self._ask_others("GET", path_of(query), EventPage)).items():
                if isinstance(answer, EventPage):
                    parts.append(DaemonPage(page=answer, run=answer.next.rpartition("-")[0]))
                else:
                    unreachable += [node_id for node_id in self.node_ids if self._apis[node_id] == api]
        if len(parts) == 1 and not unreachable:
            return own
        return merge(parts, query, unreachable)

    # -- other daemons -------------------------------------------------------------------------------------------------

    def _remote_view(self, node_id: int, refusals: dict[str, str]) -> NodeView:
        api = self._apis[node_id]
        reason = refusals.get(api, f"its daemon at {api} does not answer")
        return NodeView(id=node_id, address=self.local.addresses[node_id], api=api, state="unreachable", reason=reason)

    def _check_known(self, node_id: int) -> None:
        if node_id not in self.local.addresses:
            raise BargeError("not_found", f"there is no node {node_id}; the nodes are {listed(self.node_ids)}")

    async def _on_other_daemon(self, node_id: int, verb: str, *, local: bool) -> NodeAnswer:
        """Forward kill or revive to the daemon that runs the node."""
        if local:
            raise BargeError("not_found", f"node {node_id} does not run in this daemon; it runs {listed(self.local.ids)}")
        timeout_s = REVIVE_TIMEOUT_S if verb == "revive" else KILL_TIMEOUT_S
        return await self._ask_daemon_of(node_id, f"/nodes/{node_id}/{verb}?local=1", timeout_s, NodeAnswer)

    async def _ask_daemon_of(self, node_id: int, path: str, timeout_s: float, kind: type[T], body: Any = None) -> T:
        """POST to the daemon that runs the node: by its configured `api`, or the one that reports the node as its own."""
        may_be_done = False
        others = [self._apis[node_id], *(api for api in self._other_apis() if api != self._apis[node_id])]
        for api in others:
            try:
                return await self._daemons.ask(api, "POST", path, kind, body, timeout_s=timeout_s)
            except Unreachable:
                may_be_done = True
            except BargeError as problem:
                if problem.code == "forbidden":
                    raise BargeError("forbidden", _refused_by(api, problem), status=problem.status) from None
                if problem.code not in ("not_found", "not_leader"):
                    if may_be_done and problem.applied is False and problem.code != "cannot_start":  # that, only its own knows
                        break
                    raise
        raise BargeError("outcome_unknown", f"node {node_id} runs in no daemon that answers (asked {', '.join(others)})")

    def _other_apis(self) -> list[str]:
        return sorted({self._apis[node_id] for node_id in self.node_ids if node_id not in self.local.slots} - self._own_apis)

    async def _ask_others(self, method: str, path: str, kind: type[Any], body: Any = None) -> dict[str, Any]:
        """Send the request to all other daemons concurrently; return the answer or the exception of each."""
        answers: dict[str, Any] = {}

        async def ask(api: str) -> None:
            try:
                answers[api] = await self._daemons.ask(api, method, path, kind, body)
            except (Unreachable, BargeError) as problem:
                answers[api] = problem

        await _all(ask(api) for api in self._other_apis())
        return {api: answers[api] for api in sorted(answers)}


def _refused_by(api: str, problem: BargeError) -> str:
    return f"the daemon at {api} refuses this one: {problem.detail}"


async def _repeated(ask: Callable[[], Awaitable[str]], wait_s: float, is_over: Callable[[], bool] = lambda: False) -> str | None:
    """Repeat a command for `wait_s` while it is refused; return the last answer, "" if it is not refused, None if none came.

    The last repetition is not cut off when the time is over, but has LAST_ANSWER_S: else the reason of a refusal would be lost
    where the end of the time falls into a call, and the caller would have to call the outcome unknown.
    """
    end = trio.current_time() + wait_s
    reason: str | None = None
    with trio.move_on_at(end + LAST_ANSWER_S):
        while reason is None or (reason and not is_over() and trio.current_time() < end):
            if reason:
                await trio.sleep(READMIT_POLL_S)
            reason = None
            reason = await ask()
    return reason


def _why_not(problem: Exception) -> str:
    """Return as text why the request to another daemon failed."""
    return problem.detail if isinstance(problem, BargeError) else "it can't be reached"


async def _all(tasks: Iterable[Awaitable[None]]) -> None:
    async def run(task: Awaitable[None]) -> None:
        await task

    async with trio.open_nursery() as nursery:
        for task in tasks:
            nursery.start_soon(run, task)
