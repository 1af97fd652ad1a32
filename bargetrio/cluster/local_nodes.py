"""The nodes of this daemon, a slot each (slots.py): life cycle, status, events, health.

Nothing here sends requests to another daemon; cluster.py does.
"""

import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

import msgspec
import trio

from bargetrio.cluster.disk_faults import DiskFaults
from bargetrio.cluster.fault_plan import listed
from bargetrio.cluster.slots import Slot
from bargetrio.eventlog.recorder import Recorder, format_id, parse_id
from bargetrio.node.figures import NodeGauges as NodeGauges
from bargetrio.node.running_node import OpenNode, RunningNode
from bargetrio.node.status import Belief, NodeStatus
from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.events import Event, EventPage, EventQuery
from bargetrio.protocol.views import LeaderView, NodeAnswer, NodeView, PeerView
from bargetrio.replica.figures import Histogram as Histogram  # web knows only cluster
from bargetrio.replica.figures import NodeFigures as NodeFigures
from bargetrio.storage.errors import StorageError

log = logging.getLogger(__name__)

CAUGHT_UP_ENTRIES: Final = 1000
"""A node with more committed entries to apply than this is still catching up."""
HANGS_S: Final = 5.0
"""Age in seconds of a node's write in flight from which the daemon is not ready."""
TEND_S: Final = 2.0
ROOM_BYTES: Final = 48 * 1024 * 1024
"""Free bytes with which a node that a full disk ended is started again."""
EVENTS_A_SLICE: Final = 500
START_S: Final = 10.0
"""Seconds after which a daemon serves though some of its nodes still recover, or wait for their disks."""
START_POLL_S: Final = 0.5
HAND_OVER_S: Final = 0.5
"""How long a stopping daemon waits until a node of another one leads in the place of its own."""
HAND_OVER_POLL_S: Final = 0.005
FORWARDED_S: Final = 0.1
"""How long after that it goes on: requests of its clients find the other leader, and get their answers."""


class LocalNodes:
    """A slot per node of this daemon. `addresses` and `apis` are those of all nodes of the cluster."""

    def __init__(
        self,
        *,
        cluster: str,
        addresses: dict[int, str],
        apis: dict[int, str],
        local_ids: list[int],
        open_node: OpenNode,
        recorder: Recorder,
        disk_faults: DiskFaults,
        free_bytes: Callable[[int], Awaitable[int]] | None = None,
    ) -> None:
        """`free_bytes(node)` returns the free bytes on a node's disk, whether it runs or not; it may raise OSError."""
        self.cluster_name = cluster
        self.ids = sorted(local_ids)
        self.addresses = addresses
        self.apis = apis
        self.recorder = recorder
        self.loop_lag = Histogram()
        self.slots = {node_id: Slot(node_id, open_node, recorder) for node_id in self.ids}
        self._free_bytes = free_bytes
        self._figures = {node_id: NodeFigures() for node_id in self.ids}
        self._disk_faults = disk_faults
        self._started_at = time.monotonic()

    # -- life cycle ----------------------------------------------------------------------------------------------------

    async def start(self, nursery: trio.Nursery) -> dict[int, str]:
        """Start all own nodes in `nursery` concurrently; return the reasons of those that can't start.

        A node that was killed meanwhile, as by a signal that stops the daemon, is not among them, nor one whose disk is full: it
        is started when there is room. Once one node runs, the others are awaited for START_S at most: a disk that hangs must not
        keep the daemon from serving.
        """
        left, none_left = set(self.slots), trio.Event()

        async def begin(slot: Slot) -> None:
            await slot.start(nursery)
            left.discard(slot.node_id)
            if not left:
                none_left.set()

        for slot in self.slots.values():
            nursery.start_soon(begin, slot)
        with trio.move_on_after(START_S):
            await none_left.wait()
        while left and not self.running_ids():
            with trio.move_on_after(START_POLL_S):
                await none_left.wait()
        if left:
            log.warning("the daemon serves while node %s still recovers, or waits for its disk", listed(sorted(left)))
        for slot in self.slots.values():
            nursery.start_soon(self._restart_when_room, slot, nursery)
        crashed = {node_id: slot for node_id, slot in self.slots.items() if slot.state == "crashed"}
        for node_id in [node_id for node_id, slot in crashed.items() if slot.was_out_of_space]:
            log.warning("node %d can't start before its disk has space: the daemon serves, and starts it then", node_id)
        return {node_id: slot.reason for node_id, slot in crashed.items() if not slot.was_out_of_space}

    async def _restart_when_room(self, slot: Slot, nursery: trio.Nursery) -> None:
        """Restart a node that ended because of a full disk, once there is room; other disk failures wait for an operator.

        One task a node, so that a hanging disk or a long recovery delays no other node.
        """
        while True:
            await trio.sleep(TEND_S)
            try:
                await self._restart_one(slot, nursery)
            except Exception as problem:  # a bug here must not end the daemon
                log.error("node %d could not be checked", slot.node_id, exc_info=problem)

    async def _restart_one(self, slot: Slot, nursery: trio.Nursery) -> None:
        if slot.state == "crashed" and slot.was_out_of_space and await self._has_room(slot.node_id):
            log.info("node %d: its disk has space again; it is started", slot.node_id)
            with suppress(BargeError):  # the slot's status has the reason
                await slot.revive(nursery)

    async def _has_room(self, node_id: int) -> bool:
        if self._free_bytes is None:
            return True
        try:
            return await self._free_bytes(node_id) >= ROOM_BYTES
        except (OSError, StorageError):  # the folder is missing: the operator must restore it, or revive the node
            return False

    def all_crashed(self) -> bool:
        """Return whether every own node has crashed, and none will be restarted for room on its disk."""
        return all(slot.state == "crashed" and not slot.was_out_of_space for slot in self.slots.values())

    def none_running(self) -> bool:
        """Return whether no own node runs or starts, and one has crashed that does not wait for room (for the watchdog)."""
        states = {slot.state for slot in self.slots.values()}
        has_crashed = any(slot.state == "crashed" and not slot.was_out_of_space for slot in self.slots.values())
        return not states & {"running", "starting"} and has_crashed

    async def hand_over(self) -> None:
        """Where an own node leads, have one of another daemon elected, and wait until it leads, HAND_OVER_S at most. Cancellable.

        Then wait for a moment more: requests that were refused meanwhile are sent to it.
        """
        others = [node_id for node_id in self.addresses if node_id not in self.slots]
        if not others or not self._leading():
            return
        with trio.move_on_after(HAND_OVER_S):
            while (known := self.known_leader()) is None or known.leader in self.slots:
                for slot in self._leading():  # it may be refused at first, as by a leader that has just been elected
                    await slot.transfer(others)
                await trio.sleep(HAND_OVER_POLL_S)
            await trio.sleep(FORWARDED_S)

    def _leading(self) -> list[Slot]:
        return [slot for slot in self.slots.values() if (belief := slot.belief()) is not None and belief.leads]

    def stop(self) -> None:
        """Crash all nodes of this daemon without waiting, and end injected disk delays."""
        self._disk_faults.set({}, {})
        for slot in self.slots.values():
            slot.crash("the daemon stops")

    def hanging(self) -> list[int]:
        """Return the running nodes whose loop makes no progress (for the watchdog)."""
        now = trio.current_time()
        return [node_id for node_id, slot in self.slots.items() if slot.hangs(now)]

    async def kill(self, node_id: int) -> NodeAnswer:
        """Crash an own node."""
        slot = self.slots[node_id]
        changed = await slot.kill()
        return NodeAnswer(id=node_id, state=slot.state, changed=changed)

    async def revive(self, node_id: int, nursery: trio.Nursery) -> NodeAnswer:
        """Start an own node again in `nursery`; return once it has recovered and listens; raises as `Slot.revive`."""
        slot = self.slots[node_id]
        changed = await slot.revive(nursery)
        return NodeAnswer(id=node_id, state=slot.state, changed=changed)

    # -- leader --------------------------------------------------------------------------------------------------------

    def known_leader(self) -> LeaderView | None:
        """Return the leader of the highest term known to own nodes; an own node counts only if it is leader itself."""
        beliefs = {node_id: slot.belief() for node_id, slot in self.slots.items()}
        best: tuple[int, int] | None = None
        for belief in beliefs.values():
            if belief is None or not belief.has_quorum or belief.leader is None or (best is not None and belief.term <= best[0]):
                continue
            if belief.leader in self.slots and not _leads(beliefs.get(belief.leader), belief.term):
                continue
            best = belief.term, belief.leader
        if best is None:
            return None
        term, leader = best
        return LeaderView(leader=leader, term=term, address=self.addresses[leader])

    def leader_hint(self) -> int | None:
        """Return the id of `known_leader`."""
        found = self.known_leader()
        return None if found is None else found.leader

    def running_ids(self) -> list[int]:
        """Return the ids of own nodes that run."""
        return list(self.running())

    def running(self) -> dict[int, RunningNode]:
        """Return the own nodes that run, by id."""
        return {node_id: slot.node for node_id, slot in self.slots.items() if slot.node is not None}

    def running_node(self, node_id: int) -> RunningNode | None:
        """Return an own node that runs, None for any other."""
        slot = self.slots.get(node_id)
        return None if slot is None else slot.node

    def can_lead(self, node_id: int) -> bool:
        """Return False for an own node that does not run."""
        return node_id not in self.slots or self.slots[node_id].state == "running"

    # -- status --------------------------------------------------------------------------------------------------------

    def views(self) -> list[NodeView]:
        """Return a view of each own node."""
        return [self._view(slot) for slot in self.slots.values()]

    def view(self, node_id: int) -> NodeView:
        """Return a view of an own node."""
        return self._view(self.slots[node_id])

    def _view(self, slot: Slot) -> NodeView:
        node_id, status = slot.node_id, slot.status()
        address, api = self.addresses[node_id], self.apis[node_id]
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
            reason=status.reason,
            commit_index=status.commit_index,
            last_applied=status.last_applied,
            last_log_index=status.last_log_index,
            last_log_term=status.last_log_term,
            log_start=status.log_start,
            snapshot_index=status.snapshot_index,
            peers=[msgspec.convert(msgspec.structs.asdict(peer), PeerView) for peer in status.peers],
        )

    def _statuses(self) -> dict[int, NodeStatus]:
        found: dict[int, NodeStatus] = {}
        for node_id, slot in self.slots.items():
            status = slot.status()
            if status is not None:
                found[node_id] = status
        return found

    def figures(self) -> dict[int, NodeFigures]:
        """Return each node's counters, which continue when it is started again."""
        return self._figures

    def gauges(self) -> dict[int, NodeGauges]:
        """Return the gauges of running nodes."""
        found = {node_id: slot.gauges() for node_id, slot in self.slots.items()}
        return {node_id: gauges for node_id, gauges in found.items() if gauges is not None}

    # -- events --------------------------------------------------------------------------------------------------------

    async def events(self, query: EventQuery) -> EventPage:
        """Return the events of this daemon; raise BargeError(bad_request) for a malformed cursor."""
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
            after_seq = 0  # the daemon was restarted since: all its events are new
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

    async def wait_for_event(self) -> None:
        """Return when this daemon has a new event that is not a heartbeat."""
        await self.recorder.wait(self.recorder.last_seq)

    def event_counts(self) -> dict[tuple[int | None, str], int]:
        """Return how many events there were."""
        return dict(self.recorder.counts)

    # -- health --------------------------------------------------------------------------------------------------------

    def ready(self) -> str:
        """Return "" if each node of this daemon that no operator has killed takes part, and one runs; else the reasons.

        A node takes part if it runs, may vote, has a leader with a quorum or is one, is not far behind, and its disk answers.
        """
        statuses = self._statuses()
        knows_leader = self.known_leader() is not None
        reasons: list[str] = []
        if not statuses:
            reasons.append("no node of this daemon runs")
        elif not knows_leader and any(status.may_vote for status in statuses.values()):
            reasons.append("no leader with a quorum is known")
        reasons += [self._why_not_ready(slot, knows_leader=knows_leader) for slot in self.slots.values()]
        return "; ".join(filter(None, reasons))

    def _why_not_ready(self, slot: Slot, *, knows_leader: bool) -> str:
        """Return why a node takes no part; "" if it does, was killed, or lacks only the leader that this daemon does not know."""
        node, status = f"node {slot.node_id}", slot.status()
        if slot.state == "crashed":
            return f"{node} crashed: {slot.reason}"
        if slot.state == "starting":
            return f"{node} recovers, or waits for its disk"
        if status is None:
            return ""
        if not status.may_vote:
            return f"{node} takes no part in elections: {status.abstains}"
        if not status.has_quorum:
            refusals = f": {status.refusals}" if status.refusals else ""
            if knows_leader:
                return f"{node} has no leader with a quorum{refusals}"
            return f"{node} has none{refusals}" if refusals else ""
        if status.lag > CAUGHT_UP_ENTRIES or (status.lag and status.is_catching_up):
            return f"{node} is still catching up: it lacks {status.lag} entries"
        gauges = slot.gauges()
        if gauges is not None and gauges.oldest_write_s > HANGS_S:
            return f"the disk of {node} has not ended a write for {gauges.oldest_write_s:.0f} s"
        return ""

    def status(self) -> dict[str, Any]:
        """Return the content of /status."""
        leader = self.known_leader()
        statuses = self._statuses()
        return {
            "cluster": self.cluster_name,
            "uptime_s": round(time.monotonic() - self._started_at, 3),
            "leader": None if leader is None else leader.leader,
            "term": None if leader is None else leader.term,
            "ready": not self.ready(),
            "nodes": sorted(self.addresses),
            "nearly_full": [node_id for node_id, gauges in self.gauges().items() if gauges.lacks_room],
            "local_nodes": {str(node_id): slot.state for node_id, slot in self.slots.items()},
            "keys": max((status.keys for status in statuses.values()), default=0),
            "commit_index": max((status.commit_index for status in statuses.values()), default=0),
            "events": self.recorder.last_seq,
            "heartbeats": self.recorder.heartbeats,
        }


def _leads(belief: Belief | None, term: int) -> bool:
    return belief is not None and belief.leads and belief.term == term and belief.has_quorum
