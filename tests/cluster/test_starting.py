"""A node that starts can be killed: then it never runs, whatever its recovery does."""

import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import trio

from bargetrio.cluster import local_nodes
from bargetrio.cluster.cluster import Cluster
from bargetrio.cluster.daemons import Daemons
from bargetrio.cluster.slots import Slot
from bargetrio.node.server import Node
from bargetrio.protocol.errors import BargeError
from bargetrio.storage.real_disk import RealDisk
from tests.cluster.harness import Harness, one_daemon


class SlowToRecover(RealDisk):
    """A disk on which nothing can be listed until it is let go."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.is_asked = threading.Event()
        self.is_free = threading.Event()

    def list(self, folder: str) -> list[str]:
        self.is_asked.set()
        assert self.is_free.wait(20)
        return super().list(folder)


@contextmanager
def slow_disks(harness: Harness) -> Iterator[list[SlowToRecover]]:
    """Give nodes that start from now on such disks; let all go at the end."""
    disks: list[SlowToRecover] = []

    def make(node_id: int) -> SlowToRecover:
        disks.append(SlowToRecover(harness.folder / f"node-{node_id}"))
        return disks[-1]

    harness.disk_of = make
    try:
        yield disks
    finally:
        for disk in disks:
            disk.is_free.set()


async def test_a_kill_in_a_long_recovery_is_a_kill(tmp_path: Path) -> None:
    """It answers at once, and truly; when the disk is done the node does not run, and a revive works after that."""
    harness = Harness(tmp_path)
    async with harness.open(), trio.open_nursery() as nursery:
        victim = (await harness.leader() + 1) % 3
        await harness.cluster.kill(victim)
        with slow_disks(harness) as disks:
            answers: list[str] = []

            async def revive() -> None:
                answers.append((await harness.cluster.revive(victim)).state)

            nursery.start_soon(revive)
            await harness.until(lambda: bool(disks) and disks[0].is_asked.is_set())
            assert harness.state(victim) == ("starting", "")
            assert harness.local.status()["local_nodes"][str(victim)] == "starting"
            assert not harness.local.can_lead(victim)
            began = trio.current_time()
            answer = await harness.cluster.kill(victim)
            assert (answer.state, answer.changed) == ("killed", True)
            assert trio.current_time() - began < 1
            assert (await harness.cluster.kill(victim)).changed is False
            disks[0].is_free.set()
            await harness.until(lambda: bool(answers))
            assert answers == ["killed"]
            await trio.sleep(0.3)
            assert harness.state(victim)[0] == "killed"
            host, port = harness.addresses[victim].split(":")
            with pytest.raises(OSError):
                await trio.open_tcp_stream(host, int(port))
        harness.disk_of = lambda node_id: RealDisk(harness.folder / f"node-{node_id}")
        answer = await harness.cluster.revive(victim)
        assert (answer.state, answer.changed) == ("running", True)
        await harness.put("after")
        kinds = [kept.fact.kind for kept in harness.recorder.page(None, nodes=frozenset({victim}), limit=10_000).events]
        told = [kind for kind in kinds if kind in ("node_killed", "node_revived", "node_recovered", "node_crashed")]
        assert told == ["node_recovered", "node_killed", "node_revived", "node_killed", "node_revived", "node_recovered"]


async def test_a_revive_meets_a_node_that_was_killed_while_it_recovers(tmp_path: Path) -> None:
    """It waits until the killed node has released the folder, and starts another: never two on a folder."""
    harness = Harness(tmp_path)
    async with harness.open(), trio.open_nursery() as nursery:
        victim = (await harness.leader() + 1) % 3
        await harness.cluster.kill(victim)
        with slow_disks(harness) as disks:
            nursery.start_soon(harness.cluster.revive, victim)
            await harness.until(lambda: bool(disks) and disks[0].is_asked.is_set())
            await harness.cluster.kill(victim)
            nursery.start_soon(harness.cluster.revive, victim)
            await trio.sleep(0.2)
            assert len(disks) == 1
            disks[0].is_free.set()
            await harness.until(lambda: len(disks) == 2)
            disks[1].is_free.set()
            await harness.until(lambda: harness.state(victim)[0] == "running")


async def test_a_node_that_says_it_runs_after_it_was_killed_does_not(tmp_path: Path) -> None:
    """The kill comes between its last wait and its report."""
    harness = Harness(tmp_path)
    slots: list[Slot] = []

    @asynccontextmanager
    async def killed_at_the_last_moment(node_id: int) -> AsyncIterator[Node]:
        async with harness.open_node(node_id) as node:
            slots[0].crash()
            yield node

    normal = harness.node_of
    async with harness.open():
        victim = (await harness.leader() + 1) % 3
        slots.append(harness.local.slots[victim])
        await harness.cluster.kill(victim)

        harness.node_of = killed_at_the_last_moment
        answer = await harness.cluster.revive(victim)
        assert (answer.state, answer.changed) == ("killed", True)
        await trio.sleep(0.2)
        assert harness.state(victim)[0] == "killed"
        host, port = harness.addresses[victim].split(":")
        with pytest.raises(OSError):
            await trio.open_tcp_stream(host, int(port))
        harness.node_of = normal
        assert (await harness.cluster.revive(victim)).state == "running"


async def test_a_start_that_fails_is_still_reported(tmp_path: Path) -> None:
    """Crashed, not killed."""
    harness = Harness(tmp_path)
    async with harness.open():
        victim = (await harness.leader() + 1) % 3
        await harness.cluster.kill(victim)

        def broken(node_id: int) -> Any:
            raise OSError(5, "no disk")

        harness.node_of = broken
        with pytest.raises(BargeError, match="no disk"):
            await harness.cluster.revive(victim)
        assert harness.state(victim) == ("crashed", "no disk")


async def test_a_daemon_can_be_stopped_while_a_node_recovers(tmp_path: Path) -> None:
    """What stops it kills the node that starts; that is no failure to start."""
    harness = Harness(tmp_path)
    with slow_disks(harness) as disks:
        problems: list[dict[int, str]] = []
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:

                async def start() -> None:
                    problems.append(await harness.local.start(nursery))

                nursery.start_soon(start)
                await harness.until(lambda: len(disks) == 3 and all(disk.is_asked.is_set() for disk in disks))
                harness.local.stop()
                for disk in disks:
                    disk.is_free.set()
                await harness.until(lambda: bool(problems))
                nursery.cancel_scope.cancel()
    assert problems == [{}]
    assert [harness.state(node_id)[0] for node_id in range(3)] == ["killed"] * 3


class Recovering:
    """A node that runs, or fails, after a given time of recovery."""

    def __init__(self, recovery_s: float, problem: Exception | None = None) -> None:
        self.recovery_s = recovery_s
        self.problem = problem

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Recovering"]:
        await trio.sleep(self.recovery_s)
        if self.problem is not None:
            raise self.problem
        yield self

    async def run(self) -> None:
        await trio.sleep_forever()

    def fence(self) -> None:
        """There is nothing to be cut."""


def daemon_of(nodes: dict[int, Recovering], nursery: trio.Nursery) -> Cluster:
    apis = {node_id: f"api:{node_id}" for node_id in nodes}
    return one_daemon(
        apis=apis,
        local_ids=list(nodes),
        daemons=Daemons({}, None, cluster="barge"),
        open_node=lambda node_id: cast(Any, nodes[node_id].open()),
        nursery=nursery,
    )


@asynccontextmanager
async def started(nodes: dict[int, Recovering], within_s: float) -> AsyncIterator[tuple[Cluster, dict[int, str]]]:
    """The daemon's nodes, and why some can't start; at the end all are crashed, as a daemon that stops has it."""
    async with trio.open_nursery() as nursery:
        cluster = daemon_of(nodes, nursery)
        try:
            with trio.fail_after(within_s):
                problems = await cluster.local.start(nursery)
            yield cluster, problems
        finally:
            cluster.local.stop()
            nursery.cancel_scope.cancel()


async def test_a_daemon_serves_with_the_nodes_that_run_while_one_waits_for_its_disk(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """For START_S it waits for all. A revive of the one that still starts is answered, and says why it does not run."""
    async with started({0: Recovering(1e6), 1: Recovering(1.0), 2: Recovering(2.0)}, local_nodes.START_S + 1.0) as (
        cluster,
        problems,
    ):
        assert (problems, cluster.local.running_ids(), cluster.local.can_lead(0)) == ({}, [1, 2], False)
        with trio.fail_after(60), pytest.raises(BargeError, match="node 0 is starting") as caught:
            await cluster.revive(0)
        assert caught.value.code == "outcome_unknown", "its disk has not failed, and it may run yet"
        assert (await cluster.kill(0)).changed


class LongToEnd(Recovering):
    """A node that ends long after its kill: its disk hangs."""

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Recovering"]:
        try:
            yield self
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(100.0)


async def test_a_revive_learns_that_the_disk_still_works_for_the_life_before(autojump_clock: trio.testing.MockClock) -> None:
    """BUG-183: it certainly did nothing, and the disk may only be slow: that is no `storage_failed`."""
    async with started({0: LongToEnd(0.0), 1: Recovering(0.0)}, 1.0) as (cluster, _):
        assert (await cluster.kill(0)).changed
        with trio.fail_after(60), pytest.raises(BargeError, match="node 0 can't start: it still waits for its disk") as caught:
            await cluster.revive(0)
        assert (caught.value.code, caught.value.applied) == ("cannot_start", False)
        await trio.sleep(100.0)
        assert (await cluster.revive(0)).changed


async def test_a_daemon_without_a_node_that_runs_waits_for_one(autojump_clock: trio.testing.MockClock) -> None:
    """A long recovery is awaited, and a node that can't start is reported, as before."""
    async with started({0: Recovering(300.0)}, 301.0) as (cluster, problems):
        assert (problems, cluster.local.running_ids()) == ({}, [0])
    async with started({0: Recovering(1.0), 1: Recovering(2.0, OSError(5, "Input/output error"))}, 3.0) as (cluster, problems):
        assert problems == {1: "Input/output error"}


async def test_a_peer_whose_name_does_not_resolve_is_named(tmp_path: Path) -> None:
    """In the event of the link, and by the node itself, which can't listen there."""
    harness = Harness(tmp_path)
    harness.addresses[2] = "barge.invalid:7102"
    async with harness.open():
        reason = "the name 'barge.invalid' does not resolve: "
        assert reason in harness.problems[2]
        told: list[Any] = []
        while not told:
            await trio.sleep(0.01)
            page = harness.recorder.page(0, nodes=frozenset({0}), kinds=frozenset({"link_down"}), limit=1000)
            told = [event for event in map(harness.recorder.event, page.events) if event.peer == 2]
        assert told[0].detail["reason"].startswith(reason)
