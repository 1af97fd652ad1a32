"""Nodes of one process share a loop: one of them saves its state at a time, and a leader with much to apply goes first."""

from random import Random

import trio
from msgspec import Raw
from trio.testing import MockClock

from bargetrio.eventlog.host_facts import HostFact
from bargetrio.kv.store import Store
from bargetrio.raft.core import Core
from bargetrio.raft.facts import Applied, Fact
from bargetrio.raft.messages import AppendRequest, Entry, NodeId
from bargetrio.raft.records import HardState, Remembered
from bargetrio.raft.snapshot_state import SnapshotPolicy
from bargetrio.replica.replica import LONG_BACKLOG
from bargetrio.replica.scheduler import GRACE_S, STUCK_S, ProcessScheduler
from tests.replica.hosts import Begun, Hosted, Nobody

ENTRIES = 3 * LONG_BACKLOG
LOG = tuple(Entry(1, Raw(b'{"op":"put","key":"k%d","value":"v"}' % (index % 100))) for index in range(1, ENTRIES + 1))


class Harness(Nobody):
    """Two nodes of one process that know nothing of each other's cluster, and what they apply, in order."""

    def __init__(self) -> None:
        self.scheduler = ProcessScheduler()
        self.applied: list[tuple[NodeId, int]] = []
        self.nodes: dict[NodeId, Hosted] = {}
        self.begun = Begun()

    def add(self, node_id: NodeId, node_ids: tuple[NodeId, ...]) -> Hosted:
        """Add a node whose log is long and whose store is empty."""
        core = Core(
            node_id=node_id,
            node_ids=node_ids,
            remembered=Remembered(hard_state=HardState(term=1), entries=LOG),
            heartbeat_s=0.05,
            election_s=(0.3, 0.6),
            random=Random(1),
            now=trio.current_time(),
            snapshot_policy=SnapshotPolicy(entries=LONG_BACKLOG // 2),
        )
        found = self.nodes[node_id] = Hosted(core, events=self, jobs=self.begun, scheduler=self.scheduler)
        return found

    def record(self, node_id: NodeId | None, fact: Fact | HostFact) -> None:
        """Note what is applied; the follower learns what is committed when the leader begins."""
        if isinstance(fact, Applied) and node_id is not None:
            self.applied.append((node_id, fact.index))
            if len(self.applied) == 1 and 1 in self.nodes:
                append = AppendRequest(
                    term=1,
                    leader_id=2,
                    prev_log_index=ENTRIES,
                    prev_log_term=1,
                    entries=(),
                    leader_commit=ENTRIES,
                    round=0,
                )
                self.nodes[1].inbox.take_message(append)


async def test_a_leader_with_much_to_apply_goes_first(autojump_clock: MockClock) -> None:
    """After a restart of all nodes of a process clients wait for the leader, not for the others."""
    harness = Harness()
    leader, follower = harness.add(0, (0,)), harness.add(1, (1, 2, 3))
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(leader.run)
            nursery.start_soon(follower.run)
            while follower.core.last_applied < ENTRIES:
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
    begins = next(place for place, (node_id, _) in enumerate(harness.applied) if node_id == 1)
    node_id, index = harness.applied[begins - 1]
    assert node_id == 0
    assert index > ENTRIES - LONG_BACKLOG
    assert leader.core.last_applied > ENTRIES


async def test_a_leader_that_ends_lets_the_others_go_on(autojump_clock: MockClock) -> None:
    """Killed in the middle of its backlog."""
    harness = Harness()
    leader, follower = harness.add(0, (0,)), harness.add(1, (1, 2, 3))
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(follower.run)
            async with trio.open_nursery() as life:
                life.start_soon(leader.run)
                while len(harness.applied) < 3:
                    await trio.lowlevel.checkpoint()
                    autojump_clock.jump(0.001)
                life.cancel_scope.cancel()
            while follower.core.last_applied < ENTRIES:
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
    assert leader.core.last_applied < ENTRIES - LONG_BACKLOG


async def test_a_node_with_much_to_apply_does_not_save_before(autojump_clock: MockClock) -> None:
    """What it saved would be old by the time it has applied, and whoever waits for it would wait longer."""
    harness = Harness()
    leader = harness.add(0, (0,))
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(leader.run)
            while not harness.begun.jobs:
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
    (job,) = harness.begun.jobs
    assert job.kind == "save" and job.store is not None
    assert job.store.last_index >= ENTRIES - LONG_BACKLOG


def may_save(scheduler: ProcessScheduler, node: str, now: float, *, wants: bool) -> bool:
    """Say what a node wants; return whether it may."""
    if wants:
        scheduler.request_save(node)
    else:
        scheduler.withdraw_request(node)
    return scheduler.may_save(node, now)


def test_one_saves_at_a_time() -> None:
    """And only who began can end it."""
    scheduler = ProcessScheduler()
    assert may_save(scheduler, "a", 0, wants=False) and may_save(scheduler, "b", 0, wants=False)
    scheduler.begin_saving("a", 0)
    assert may_save(scheduler, "a", 1, wants=False) and not may_save(scheduler, "b", 1, wants=True)
    scheduler.end_saving("b", 1)
    assert not may_save(scheduler, "b", 1, wants=True)
    scheduler.end_saving("a", 2)
    assert may_save(scheduler, "b", 2, wants=True)


def test_each_has_its_turn_to_save() -> None:
    """Whoever looks first: of those who want to, it is the one that has not saved for longest."""
    scheduler = ProcessScheduler()
    order = []
    for node in "abc":
        scheduler.begin_saving(node, 0)
        scheduler.end_saving(node, 0)
    for now in range(12):
        for node in "cba":
            may_save(scheduler, node, now, wants=True)
        may = [node for node in "cba" if may_save(scheduler, node, now, wants=True)]
        (saver,) = may
        order.append(saver)
        scheduler.begin_saving(saver, now)
        scheduler.end_saving(saver, now + 1)
    assert "".join(order) == "abc" * 4


def test_a_node_that_cannot_save_delays_others_for_a_short_time_only() -> None:
    """The next one's disk hangs, or it does not want to any more, or its node has ended: the others go on."""
    scheduler = ProcessScheduler()
    for node in "abc":
        scheduler.begin_saving(node, 0)
        scheduler.end_saving(node, 0)
    assert may_save(scheduler, "a", 0.0, wants=True) and not may_save(scheduler, "b", 0.1, wants=True)
    assert may_save(scheduler, "b", GRACE_S + 0.01, wants=True)
    scheduler.begin_saving("c", 0)
    scheduler.end_saving("c", 1)
    assert not may_save(scheduler, "b", 1, wants=True)
    may_save(scheduler, "a", 1, wants=False)
    assert may_save(scheduler, "b", 1, wants=True) and not may_save(scheduler, "c", 1, wants=True)
    scheduler.leave("b", 1)
    assert may_save(scheduler, "c", 1, wants=True)
    scheduler.begin_saving("c", 2)
    assert not may_save(scheduler, "a", 1 + STUCK_S, wants=True)
    assert may_save(scheduler, "a", 3 + STUCK_S, wants=True)


async def test_a_node_whose_disk_is_full_has_no_turn_while_it_waits(autojump_clock: MockClock) -> None:
    """The others would wait for it again and again, and it would not begin."""
    harness = Harness()
    full = harness.add(1, (1, 2)).replica
    full.snapshots.maybe_save(full.core, Store(), 5.0, is_due=True)
    assert harness.scheduler._waiting == [full.snapshots]
    full.snapshots._again_at = 10.0
    full.snapshots.maybe_save(full.core, Store(), 6.0, is_due=True)
    assert harness.scheduler._waiting == [] and harness.scheduler.may_save("another", 6.0)
