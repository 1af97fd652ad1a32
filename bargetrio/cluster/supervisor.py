"""The whole cluster as one daemon presents it; implements `port.Cluster`.

Own nodes are slots; requests go to the leader through the forwarder; other daemons' nodes are asked about over their REST.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

import msgspec
import trio
from msgspec import Struct

from bargetrio.cluster.daemons import REVIVE_TIMEOUT_S, Daemons, Unreachable
from bargetrio.cluster.disk_faults import DiskFaults
from bargetrio.cluster.fault_plan import FaultPlan, listed
from bargetrio.cluster.forward import Forwarder, Outcome
from bargetrio.cluster.merge import Part, merge, path_of
from bargetrio.cluster.node_link import GoodAnswer
from bargetrio.cluster.port import BACKUP_WAIT_S
from bargetrio.cluster.slots import Slot
from bargetrio.eventlog.recorder import Recorder, format_id, parse_id
from bargetrio.node.figures import NodeGauges
from bargetrio.node.running_node import UNCOMMITTED, BackupFile, RunningNode
from bargetrio.node.status import Belief, NodeStatus
from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.events import Event, EventPage, EventQuery
from bargetrio.protocol.requests import List, ListAnswer, Put, Request
from bargetrio.protocol.views import BootstrapAnswer, Faults, LeaderView, NodeAnswer, NodeView, PeerView
from bargetrio.raft.quorum import is_majority, majority_of
from bargetrio.raft.readmission import WHAT_IS_LEFT, no_majority_without
from bargetrio.replica.figures import Histogram, NodeFigures
from bargetrio.storage.errors import StorageError
from bargetrio.transport.faults import LinkFaults

T = TypeVar("T")

log = logging.getLogger(__name__)

CAUGHT_UP_ENTRIES: Final = 1000
"""A node with more committed entries to apply than this is still catching up."""
HANGS_S: Final = 5.0
"""Age in seconds of a node's write in flight from which the daemon is not ready."""
TEND_S: Final = 2.0
ROOM_BYTES: Final = 48 * 1024 * 1024
"""Free bytes with which a node that a full disk ended is started again."""
EVENTS_A_SLICE: Final = 500
READMIT_WAIT_S: Final = 3.0
"""Seconds that a readmission waits for a hello with the new disk, and for the entry to be committed."""
BOOTSTRAP_WAIT_S: Final = 3.0
READMIT_LOOK_S: Final = 0.05
START_S: Final = 10.0
"""Seconds after which a daemon serves though some of its nodes still recover, or wait for their disks."""
START_LOOK_S: Final = 0.5
BACKUP_LOOK_S: Final = 2.0
"""Seconds between two looks of a backup at whether the node that it waits for still runs."""


class _Nodes(Struct, frozen=True):
    nodes: list[NodeView]


class Supervisor:
    """Starts and ends this daemon's nodes, and answers for the whole cluster."""

    def __init__(
        self,
        *,
        cluster: str,
        addresses: dict[int, str],
        apis: dict[int, str],
        local_ids: list[int],
        make_node: Callable[[int], RunningNode],
        recorder: Recorder,
        link_faults: LinkFaults,
        disk_faults: DiskFaults,
        daemons: Daemons,
        free_bytes: Callable[[int], Awaitable[int]] | None = None,
    ) -> None:
        """`free_bytes(node)` returns the free bytes of a node's disk, running or not; it may raise OSError."""
        self._free_bytes = free_bytes
        self.cluster_name = cluster
        self.node_ids = sorted(addresses)
        self.local_ids = sorted(local_ids)
        self.recorder = recorder
        self.forwarder: Forwarder | None = None
        self.loop_lag = Histogram()
        self._addresses = addresses
        self._apis = apis
        self._own_apis = {apis[node_id] for node_id in local_ids}
        self._slots = {node_id: Slot(node_id, make_node, recorder) for node_id in self.local_ids}
        self._figures = {node_id: NodeFigures() for node_id in self.local_ids}
        self._disk_faults = disk_faults
        self._fault_plan = FaultPlan(self.node_ids, link_faults, disk_faults, recorder)
        self._daemons = daemons
        self._nursery: trio.Nursery | None = None
        self._started_at = time.monotonic()

    # -- life ------------------------------------------------------------------------------------------------------------

    async def start(self, nursery: trio.Nursery, forwarder: Forwarder) -> dict[int, str]:
        """Start all own nodes in `nursery` at once; return the reasons of those that can't start.

        A node that was killed meanwhile, as by a signal that stops the daemon, is not among them. Where one node runs, the others
        are waited for START_S at most: a disk that hangs must not keep the daemon from serving.
        """
        self._nursery = nursery
        self.forwarder = forwarder
        left, none_left = set(self._slots), trio.Event()

        async def begin(slot: Slot) -> None:
            await slot.start(nursery)
            left.discard(slot.node_id)
            if not left:
                none_left.set()

        for slot in self._slots.values():
            nursery.start_soon(begin, slot)
        with trio.move_on_after(START_S):
            await none_left.wait()
        while left and not self.running_ids():
            with trio.move_on_after(START_LOOK_S):
                await none_left.wait()
        if left:
            log.warning("the daemon serves while node %s still recovers, or waits for its disk", listed(sorted(left)))
        for slot in self._slots.values():
            nursery.start_soon(self._tend, slot, nursery)
        return {node_id: slot.reason for node_id, slot in self._slots.items() if slot.state == "crashed"}

    async def _tend(self, slot: Slot, nursery: trio.Nursery) -> None:
        """Start a node again that a full disk ended, once there is room; any other failed disk waits for an operator.

        One task a node: a look at a disk that hangs, and a long recovery, keep no other node waiting.
        """
        while True:
            await trio.sleep(TEND_S)
            try:
                await self._tend_one(slot, nursery)
            except Exception as problem:  # a bug here must not end the daemon: the next look may do better
                log.error("node %d could not be looked after", slot.node_id, exc_info=problem)

    async def _tend_one(self, slot: Slot, nursery: trio.Nursery) -> None:
        if slot.state == "crashed" and slot.was_out_of_space and await self._has_room(slot.node_id):
            log.info("node %d: its disk has room again, it is started", slot.node_id)
            with suppress(BargeError):  # the slot tells why it can't
                await slot.revive(nursery)

    def lost_all(self) -> bool:
        """Return whether every own node has crashed, and none waits for room on its disk."""
        return all(slot.state == "crashed" and not slot.was_out_of_space for slot in self._slots.values())

    def none_lives(self) -> bool:
        """Return whether no own node runs or starts and at least one has crashed (for the watchdog)."""
        states = {slot.state for slot in self._slots.values()}
        return not states & {"running", "starting"} and "crashed" in states

    def stop(self) -> None:
        """Crash all nodes of this daemon without waiting; injected disk delays end."""
        self._disk_faults.set({}, {})
        for slot in self._slots.values():
            slot.crash("the daemon stops")

    def hanging(self) -> list[int]:
        """Return the living nodes whose loop does not turn (for the watchdog)."""
        now = trio.current_time()
        return [node_id for node_id, slot in self._slots.items() if slot.hangs(now)]

    # -- keys ------------------------------------------------------------------------------------------------------------

    async def execute(self, request: Request) -> GoodAnswer:
        """Carry the request to the leader."""
        assert self.forwarder is not None
        return await self.forwarder.execute(request)

    async def backup(self) -> BackupFile:
        """Ask the leader for its commit index, then the own node that has applied most for a snapshot up to it.

        That node has request_timeout to apply it; then the snapshot is taken, which may last BACKUP_WAIT_S.
        """
        assert self.forwarder is not None
        answer = await self.execute(List(id=0, limit=1, keys_only=True))
        assert isinstance(answer, ListAnswer)
        patience_s = self.forwarder.request_timeout_s
        end = trio.current_time() + patience_s
        with trio.move_on_after(BACKUP_WAIT_S):
            while running := self.running_ids():
                applied, node_id = max((self._view(self._slots[node_id]).last_applied or 0, node_id) for node_id in running)
                left = end - trio.current_time()
                if applied < answer.index and left <= 0:
                    detail = (
                        f"no node of this daemon has applied index {answer.index} within {patience_s:g} s ({applied} is the last)"
                    )
                    raise BargeError("no_leader", f"{detail}: it does not hear the leader, or is far behind; ask another daemon")
                with trio.move_on_after(BACKUP_LOOK_S if applied >= answer.index else min(BACKUP_LOOK_S, left)):
                    return await self._slots[node_id].backup(answer.index)
            raise BargeError("no_leader", "no node of this daemon lives; ask another daemon")
        raise BargeError("overloaded", f"no snapshot was taken within {BACKUP_WAIT_S:g} s; ask another daemon, or later")

    async def execute_many(self, requests: Sequence[Put]) -> list[Outcome]:
        """Carry the writes to the leader together."""
        assert self.forwarder is not None
        return await self.forwarder.execute_many(requests)

    # -- who leads -------------------------------------------------------------------------------------------------------

    def leader_hint(self) -> int | None:
        """Return the id of `known_leader`."""
        found = self.known_leader()
        return None if found is None else found.leader

    def running_ids(self) -> list[int]:
        """Return the ids of own nodes that run."""
        return [node_id for node_id, slot in self._slots.items() if slot.state == "running"]

    def can_lead(self, node_id: int) -> bool:
        """Return False for an own node that does not run."""
        return node_id not in self._slots or self._slots[node_id].state == "running"

    async def leader(self, *, local: bool = False) -> LeaderView:
        """Return the leader of the highest term that a node with a quorum knows."""
        found = self.known_leader()
        if found is None and not local:
            found = self._confirmed_leader(await self._ask_others("GET", "/leader?local=1", LeaderView))
        if found is None:
            raise BargeError("no_leader", "no majority of the nodes follows a leader")
        return found

    def _confirmed_leader(self, answers: dict[str, Any]) -> LeaderView | None:
        """Return the leader of the highest term that other daemons know, unless the leader's own daemon, or this one, denies it.

        A follower names its leader for an election timeout after the last message: the leader may have stepped down meanwhile.
        """
        told = {api: answer for api, answer in answers.items() if isinstance(answer, LeaderView)}
        views: list[LeaderView] = []
        for view in told.values():
            api = self._apis.get(view.leader)
            own_word = told.get(api) if api is not None else None
            is_silent = api is not None and isinstance(answers.get(api), Unreachable)
            is_denied = view.leader in self._slots or not (is_silent or own_word == view)
            if not is_denied:
                views.append(view)
        return max(views, key=lambda view: view.term, default=None)

    def known_leader(self) -> LeaderView | None:
        """Return the leader of the highest term that own nodes know; an own node counts only if it leads by its own state."""
        beliefs = {node_id: slot.belief() for node_id, slot in self._slots.items()}
        best: tuple[int, int] | None = None
        for belief in beliefs.values():
            if belief is None or not belief.has_quorum or belief.leader is None or (best is not None and belief.term <= best[0]):
                continue
            if belief.leader in self._slots and not _leads(beliefs.get(belief.leader), belief.term):
                continue
            best = belief.term, belief.leader
        if best is None:
            return None
        term, leader = best
        return LeaderView(leader=leader, term=term, address=self._addresses[leader])

    # -- nodes -----------------------------------------------------------------------------------------------------------

    async def nodes(self, *, local: bool = False) -> list[NodeView]:
        """Return a view of every node."""
        views = {node_id: self._view(slot) for node_id, slot in self._slots.items()}
        if not local and len(views) < len(self.node_ids):
            for answer in (await self._ask_others("GET", "/nodes?local=1", _Nodes)).values():
                if isinstance(answer, _Nodes):
                    views.update({view.id: view for view in answer.nodes})
        if local:
            return self.local_views()
        return [views.get(node_id, self._view_from_afar(node_id)) for node_id in self.node_ids]

    def local_views(self) -> list[NodeView]:
        """Return a view of each own node."""
        return [self._view(slot) for slot in self._slots.values()]

    async def kill(self, node_id: int, *, local: bool = False) -> NodeAnswer:
        """Crash the node."""
        self._check_known(node_id)
        slot = self._slots.get(node_id)
        if slot is None:
            return await self._elsewhere(node_id, "kill", local=local)
        changed = await slot.kill()
        return NodeAnswer(id=node_id, state=slot.state, changed=changed)

    async def revive(self, node_id: int, *, local: bool = False) -> NodeAnswer:
        """Start the node again."""
        self._check_known(node_id)
        slot = self._slots.get(node_id)
        if slot is None:
            return await self._elsewhere(node_id, "revive", local=local)
        assert self._nursery is not None
        changed = await slot.revive(self._nursery)
        return NodeAnswer(id=node_id, state=slot.state, changed=changed)

    async def readmit(self, node_id: int, *, local: bool = False) -> NodeAnswer:
        """Ask the leader, here or at its daemon, until its entry is committed."""
        self._check_known(node_id)
        try:
            leader = (await self.leader()).leader
        except BargeError as problem:
            raise await self._why_nobody_takes_in(node_id, problem) from None
        slot = self._slots.get(leader)
        if slot is None:
            if local:
                raise BargeError("not_leader", f"node {leader} leads, and does not run in this daemon", leader=leader)
            return await self._ask_daemon_of(leader, f"/nodes/{node_id}/readmit?local=1", READMIT_WAIT_S + 1.0)
        is_proposed = False
        reason: str | None = None  # None: not answered
        with trio.move_on_after(READMIT_WAIT_S):
            while reason is None or reason:
                reason = None
                reason = await slot.readmit(node_id)
                is_proposed = is_proposed or UNCOMMITTED in reason
                if reason:
                    await trio.sleep(READMIT_LOOK_S)
        if reason is None:
            raise BargeError("outcome_unknown", f"node {leader}, which leads, did not answer: ask again")
        if not reason:
            state = self._slots[node_id].state if node_id in self._slots else "unreachable"
            return NodeAnswer(id=node_id, state=state, changed=is_proposed)
        if is_proposed:
            raise BargeError("outcome_unknown", f"node {node_id}'s new disk {UNCOMMITTED}: ask again")
        known = self.known_leader()
        if known is None or known.leader != leader:
            raise BargeError("no_leader", f"node {leader} leads no more: ask again")
        raise BargeError("bad_request", reason)

    async def _why_nobody_takes_in(self, node_id: int, problem: BargeError) -> BargeError:
        """Return `problem`, or more of it: where too many disks are lost there will be no leader however long one waits."""
        members = len(self.node_ids)
        if not is_majority(members - 1, members):
            return BargeError("bad_request", no_majority_without(node_id, members))
        able = [view.id for view in await self.nodes() if view.may_vote and view.id != node_id]
        if is_majority(len(able), members):
            return problem
        here = f"{listed(able)} run{'s' if len(able) == 1 else ''}" if able else "none runs"
        detail = f"there is no leader: of the members but node {node_id}, with disks that count, {here}"
        detail += f", and {majority_of(members)} must"
        return BargeError(problem.code, f"{detail}; if they are lost, {WHAT_IS_LEFT}")

    async def bootstrap(self) -> BootstrapAnswer:
        """Ask the lowest of the own nodes that run, until the set of the members' stores is on its disk."""
        node_id = min(self.running_ids(), default=min(self._slots))
        slot = self._slots[node_id]
        reason: str | None = None  # None: not answered
        with trio.move_on_after(BOOTSTRAP_WAIT_S):
            while reason is None or (reason and not self._is_born(node_id)):
                reason = None
                reason = await slot.bootstrap()
                if reason:
                    await trio.sleep(READMIT_LOOK_S)
            while not reason and not self._is_born(node_id):
                await trio.sleep(READMIT_LOOK_S)
        if reason:
            raise BargeError("bad_request", reason)
        if reason is None or not self._is_born(node_id):
            raise BargeError("outcome_unknown", f"node {node_id} has not written the set of members to its disk yet: ask again")
        return BootstrapAnswer(node=node_id, members=self.node_ids)

    def _is_born(self, node_id: int) -> bool:
        status = self._slots[node_id].status()
        return status is not None and status.is_born

    # -- faults ----------------------------------------------------------------------------------------------------------

    async def faults(self) -> Faults:
        """Return the faults in force."""
        return self._fault_plan.faults

    async def set_faults(self, faults: Faults, *, local: bool = False) -> Faults:
        """Put exactly these faults in force everywhere; raise BargeError where a daemon is silent or refuses them."""
        self._fault_plan.check(faults)
        self._fault_plan.apply(faults)
        if not local:
            answers = await self._ask_others("PUT", "/faults?local=1", Faults, faults)
            left = [f"{api} ({_why_not(answer)})" for api, answer in answers.items() if isinstance(answer, Exception)]
            if left:
                raise BargeError("outcome_unknown", f"in force here and at every daemon but {', '.join(left)}")
        return faults

    # -- events ----------------------------------------------------------------------------------------------------------

    async def events(self, query: EventQuery, *, local: bool = False) -> EventPage:
        """Return the events of all daemons, merged by time."""
        own = await self._own_events(query)
        parts = [Part(page=own, run=self.recorder.run)]
        unreachable: list[int] = []
        if not local and len(self._slots) < len(self.node_ids):
            for api, answer in (await self._ask_others("GET", path_of(query), EventPage)).items():
                if isinstance(answer, EventPage):
                    parts.append(Part(page=answer, run=answer.next.rpartition("-")[0]))
                else:
                    unreachable += [node_id for node_id in self.node_ids if self._apis[node_id] == api]
        if len(parts) == 1 and not unreachable:
            return own
        return merge(parts, query, unreachable)

    async def wait_for_event(self) -> None:
        """Return when this daemon has a new event that is not a heartbeat."""
        await self.recorder.wait(self.recorder.last_seq)

    async def _own_events(self, query: EventQuery) -> EventPage:
        recorder = self.recorder
        after_seq: int | None = None
        for cursor in query.after.split(",") if query.after else ():
            try:
                run, seq = parse_id(cursor)
            except ValueError as problem:
                raise BargeError("bad_request", f"after: {problem}") from None
            if run == recorder.run:
                after_seq = seq
        if query.after and after_seq is None:
            after_seq = 0  # another run: this daemon was started again since, and all that it has is new
        page = recorder.page(
            after_seq, nodes=query.nodes, kinds=query.kinds, heartbeats=query.heartbeats, limit=query.limit, thin=query.live
        )
        events: list[Event] = []
        for start in range(0, len(page.events), EVENTS_A_SLICE):
            events += [recorder.event(kept) for kept in page.events[start : start + EVENTS_A_SLICE]]
            await trio.lowlevel.checkpoint()
        return EventPage(
            events=events,
            next=format_id(recorder.run, page.last_seq),
            dropped=page.dropped,
            heartbeats=page.heartbeats,
            skipped=page.skipped,
            beats=recorder.beats() if query.live else [],
        )

    def event_counts(self) -> dict[tuple[int | None, str], int]:
        """Return how many events there were."""
        return dict(self.recorder.counts)

    def figures(self) -> dict[int, NodeFigures]:
        """Return the counters; a node that is built gets its own of them, whichever life it is."""
        return self._figures

    def gauges(self) -> dict[int, NodeGauges]:
        """Return the sizes."""
        found = {node_id: slot.gauges() for node_id, slot in self._slots.items()}
        return {node_id: gauges for node_id, gauges in found.items() if gauges is not None}

    # -- health ----------------------------------------------------------------------------------------------------------

    def ready(self) -> str:
        """Return "" or why this daemon is not ready."""
        statuses = self._statuses()
        if not statuses:
            return "no node of this daemon runs"
        for node_id, status in statuses.items():
            if not status.may_vote:
                return f"node {node_id} takes no part in elections: {status.abstains}"
        if self.known_leader() is None:
            return "no leader with a quorum is known"
        for node_id, status in statuses.items():
            if status.lag > CAUGHT_UP_ENTRIES:
                return f"node {node_id} is still catching up: it lacks {status.lag} entries"
        for node_id, gauges in self.gauges().items():
            if gauges.oldest_write_s > HANGS_S:
                return f"the disk of node {node_id} has not ended a write for {gauges.oldest_write_s:.0f} s"
        return ""

    def status(self) -> dict[str, Any]:
        """Return what /status tells."""
        leader = self.known_leader()
        statuses = self._statuses()
        return {
            "cluster": self.cluster_name,
            "uptime_s": round(time.monotonic() - self._started_at, 3),
            "leader": None if leader is None else leader.leader,
            "term": None if leader is None else leader.term,
            "ready": not self.ready(),
            "nodes": self.node_ids,
            "nearly_full": [node_id for node_id, gauges in self.gauges().items() if gauges.lacks_room],
            "local_nodes": {str(node_id): slot.state for node_id, slot in self._slots.items()},
            "keys": max((status.keys for status in statuses.values()), default=0),
            "commit_index": max((status.commit_index for status in statuses.values()), default=0),
            "events": self.recorder.last_seq,
            "heartbeats": self.recorder.heartbeats,
        }

    # -- helpers ---------------------------------------------------------------------------------------------------------

    async def _has_room(self, node_id: int) -> bool:
        if self._free_bytes is None:
            return True
        try:
            return await self._free_bytes(node_id) >= ROOM_BYTES
        except (OSError, StorageError):  # the folder is away: who has taken it away gives it back, or revives the node
            return False

    def _statuses(self) -> dict[int, NodeStatus]:
        found: dict[int, NodeStatus] = {}
        for node_id, slot in self._slots.items():
            status = slot.status()
            if status is not None:
                found[node_id] = status
        return found

    def _view(self, slot: Slot) -> NodeView:
        node_id, status = slot.node_id, slot.status()
        address, api = self._addresses[node_id], self._apis[node_id]
        if status is None:
            return NodeView(id=node_id, address=address, api=api, state=slot.state, reason=slot.reason)
        return NodeView(
            id=node_id,
            address=address,
            api=api,
            state="running",
            role=status.role,
            term=status.term,
            voted_for=status.voted_for,
            leader=status.leader,
            may_vote=status.may_vote,
            reason=status.abstains,
            commit_index=status.commit_index,
            last_applied=status.last_applied,
            last_log_index=status.last_log_index,
            last_log_term=status.last_log_term,
            log_start=status.log_start,
            snapshot_index=status.snapshot_index,
            peers=[msgspec.convert(msgspec.structs.asdict(peer), PeerView) for peer in status.peers],
        )

    def _view_from_afar(self, node_id: int) -> NodeView:
        reason = f"its daemon at {self._apis[node_id]} does not answer"
        return NodeView(id=node_id, address=self._addresses[node_id], api=self._apis[node_id], state="unreachable", reason=reason)

    def _check_known(self, node_id: int) -> None:
        if node_id not in self._addresses:
            raise BargeError("not_found", f"there is no node {node_id}; the nodes are {listed(self.node_ids)}")

    async def _elsewhere(self, node_id: int, verb: str, *, local: bool) -> NodeAnswer:
        """Ask the daemon that runs the node: its own, or the one that says so."""
        if local:
            raise BargeError("not_found", f"node {node_id} does not run in this daemon; it runs {listed(self.local_ids)}")
        timeout_s = REVIVE_TIMEOUT_S if verb == "revive" else 5.0
        return await self._ask_daemon_of(node_id, f"/nodes/{node_id}/{verb}?local=1", timeout_s)

    async def _ask_daemon_of(self, node_id: int, path: str, timeout_s: float) -> NodeAnswer:
        """POST to the daemon that runs the node: its own, or the one that says so."""
        may_be_done = False
        others = [self._apis[node_id], *(api for api in self._other_apis() if api != self._apis[node_id])]
        for api in others:
            try:
                return await self._daemons.ask(api, "POST", path, NodeAnswer, timeout_s=timeout_s)
            except Unreachable:
                may_be_done = True
            except BargeError as problem:
                if problem.code not in ("not_found", "not_leader"):
                    if may_be_done and problem.applied is False:
                        break
                    raise
        raise BargeError("outcome_unknown", f"node {node_id} runs in no daemon that answers (asked {', '.join(others)})")

    def _other_apis(self) -> list[str]:
        return sorted({self._apis[node_id] for node_id in self.node_ids if node_id not in self._slots} - self._own_apis)

    async def _ask_others(self, method: str, path: str, kind: type[Any], body: Any = None) -> dict[str, Any]:
        """Ask every other daemon at once; the answer of each, or the exception it ended with."""
        answers: dict[str, Any] = {}

        async def ask(api: str) -> None:
            try:
                answers[api] = await self._daemons.ask(api, method, path, kind, body)
            except (Unreachable, BargeError) as problem:
                answers[api] = problem

        await _all(ask(api) for api in self._other_apis())
        return {api: answers[api] for api in sorted(answers)}


def _why_not(problem: Exception) -> str:
    """Return why another daemon did not do what it was asked, in words."""
    return problem.detail if isinstance(problem, BargeError) else "it can't be reached"


async def _all(tasks: Iterable[Awaitable[None]]) -> None:
    async def run(task: Awaitable[None]) -> None:
        await task

    async with trio.open_nursery() as nursery:
        for task in tasks:
            nursery.start_soon(run, task)


def _leads(belief: Belief | None, term: int) -> bool:
    return belief is not None and belief.leads and belief.term == term and belief.has_quorum
