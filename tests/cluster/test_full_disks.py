"""Disks that fill, under real nodes: writes are refused in time, and resume when there is room again."""

import errno
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trio

from bargetrio.cluster import local_nodes
from bargetrio.cluster.disk_faults import DiskFaults
from bargetrio.eventlog.recorder import Recorder
from bargetrio.node import opening, room
from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.views import DiskFault, Faults
from bargetrio.storage.real_disk import RealDisk
from bargetrio.storage.wal import SEGMENT_BYTES
from tests.cluster.harness import Harness


class FillingDisk(RealDisk):
    """Reports a given number of free bytes; without room snapshots fail."""

    free = 1 << 40
    has_room_for_snapshots = True

    def free_bytes(self) -> int:
        """What the test says."""
        return self.free

    def open(self, path: str, *, create: bool = False) -> Any:
        """Fail as a full disk does."""
        file = super().open(path, create=create)
        if path.startswith("snapshots/") and not self.has_room_for_snapshots:
            file.close()
            raise OSError(errno.ENOSPC, "No space left on device")
        return file


def filling(harness: Harness) -> dict[int, FillingDisk]:
    disks = {node_id: FillingDisk(harness.folder / f"node-{node_id}") for node_id in harness.addresses}
    harness.disk_of = lambda node_id: disks[node_id]
    return disks


async def test_a_leader_whose_disk_is_nearly_full_refuses_writes_until_there_is_room(tmp_path: Path) -> None:
    """As overloaded, certainly not applied, with the disk's name; reads continue; event, gauge and status show it."""
    harness = Harness(tmp_path, request_timeout_s=1.0)
    disks, enough = filling(harness), room.ROOM_SEGMENTS * SEGMENT_BYTES
    async with harness.open():
        leader = await harness.leader()
        await harness.put("a")
        disks[leader].free = enough - 1
        await harness.until(lambda: harness.local.gauges()[leader].lacks_room)
        with pytest.raises(BargeError, match=f"the disk of node {leader} is nearly full") as caught:
            await harness.put("b")
        assert (caught.value.code, caught.value.applied) == ("overloaded", False)
        assert await harness.get("a") == "x"
        assert harness.local.status()["nearly_full"] == [leader]
        assert harness.local.gauges()[leader].free_bytes == enough - 1
        again = room.ROOM_AGAIN_SEGMENTS * SEGMENT_BYTES
        disks[leader].free = again - 1  # more than when it began to refuse: it must not begin and end with each write
        await harness.until(lambda: harness.local.gauges()[leader].free_bytes == again - 1)
        assert harness.local.gauges()[leader].lacks_room
        disks[leader].free = again
        await harness.until(lambda: not harness.local.gauges()[leader].lacks_room)
        await harness.put("b")
        page = harness.recorder.page(0, limit=100_000)
        told = [event for kept in page.events if (event := harness.recorder.event(kept)).kind == "disk_space"]
        assert [event.detail["is_low"] for event in told] == [True, False]


async def test_a_node_that_a_full_disk_ended_is_started_again_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After EIO it is not."""
    monkeypatch.setattr(local_nodes, "TEND_S", 0.1)
    harness = Harness(tmp_path)
    async with harness.open():
        await harness.leader()
        victim = next(node_id for node_id in harness.addresses if node_id != harness.local.leader_hint())
        for error in ("ENOSPC", "EIO"):
            await harness.leader()
            await harness.cluster.set_faults(Faults(disks=[DiskFault(node=victim, error=error)]))
            with trio.move_on_after(2):
                while harness.state(victim)[0] != "crashed":
                    with suppress(BargeError):  # it may lead by then
                        await harness.put("a")
            await harness.cluster.set_faults(Faults())
            if error == "ENOSPC":
                await harness.until(lambda: harness.state(victim)[0] == "running")
        await trio.sleep(0.5)
        assert harness.state(victim)[0] == "crashed"


async def test_a_snapshot_that_finds_no_space_is_given_up_and_taken_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node continues; no part of it stays on the disk."""
    monkeypatch.setattr(opening, "SNAPSHOT_AGAIN_S", 0.3)
    harness = Harness(tmp_path, size=1)
    disks = filling(harness)
    async with harness.open():
        await harness.leader()
        await harness.put("a")
        disks[0].has_room_for_snapshots = False
        saved: list[int] = []

        async def back_up() -> None:
            saved.append((await harness.cluster.backup()).index)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(back_up)
            await trio.sleep(0.5)
            await harness.put("b")
            assert harness.state(0) == ("running", "")
            assert not list(tmp_path.glob("node-0/snapshots/*"))
            disks[0].has_room_for_snapshots = True
        assert saved[0] >= 2


class Idle:
    """A node that does nothing."""

    async def run(self) -> None:
        await trio.sleep_forever()

    def fence(self) -> None: ...


async def test_a_bug_while_the_free_space_is_looked_up_ends_nothing(autojump_clock: trio.testing.MockClock) -> None:
    """The task stands beside the nodes: the next look starts the node again."""
    lives: list[str] = []

    @asynccontextmanager
    async def open_node(node_id: int) -> AsyncIterator[Any]:
        lives.append("began")
        if len(lives) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        yield Idle()

    looks: Iterator[Exception | int] = iter([ValueError("a bug"), 1 << 40])

    async def free_bytes(node_id: int) -> int:
        found = next(looks)
        if isinstance(found, Exception):
            raise found
        return found

    nodes = local_nodes.LocalNodes(
        cluster="barge",
        addresses={0: "node:1"},
        apis={0: "api:1"},
        local_ids=[0],
        open_node=open_node,
        recorder=Recorder("test", wall_clock=lambda: 0.0),
        disk_faults=DiskFaults(),
        free_bytes=free_bytes,
    )
    async with trio.open_nursery() as nursery:
        assert await nodes.start(nursery) == {}
        assert nodes.slots[0].reason == "No space left on device"
        with trio.fail_after(60):
            while not nodes.running_ids():
                await trio.sleep(0.1)
        nursery.cancel_scope.cancel()
    assert len(lives) == 2


async def test_a_disk_that_hangs_keeps_no_other_node_waiting_for_room(autojump_clock: trio.testing.MockClock) -> None:
    """Each node's disk is looked at by itself: the look at the first one's never ends, the second one's has room again."""
    ended: set[int] = set()

    @asynccontextmanager
    async def open_node(node_id: int) -> AsyncIterator[Any]:
        if node_id not in ended:
            ended.add(node_id)
            raise OSError(errno.ENOSPC, "No space left on device")
        yield Idle()

    async def free_bytes(node_id: int) -> int:
        if node_id == 0:
            await trio.sleep_forever()
        return 1 << 40

    nodes = local_nodes.LocalNodes(
        cluster="barge",
        addresses={0: "node:1", 1: "node:2"},
        apis={0: "api:1", 1: "api:1"},
        local_ids=[0, 1],
        open_node=open_node,
        recorder=Recorder("test", wall_clock=lambda: 0.0),
        disk_faults=DiskFaults(),
        free_bytes=free_bytes,
    )
    async with trio.open_nursery() as nursery:
        await nodes.start(nursery)
        with trio.move_on_after(60):
            while not nodes.running_ids():
                await trio.sleep(0.1)
        assert nodes.running_ids() == [1]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("size", "problem"), [(1, errno.ENOSPC), (3, errno.ENOSPC), (3, errno.EIO)])
async def test_a_node_whose_disk_is_full_at_the_start_is_started_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, problem: int
) -> None:
    """The daemon serves meanwhile, also if that is its only node; any other failure at the start ends it."""
    monkeypatch.setattr(local_nodes, "TEND_S", 0.1)

    class Broken(RealDisk):
        problem: int | None = None

        def open(self, path: str, *, create: bool = False) -> Any:
            if self.problem is not None and create:
                raise OSError(self.problem, os.strerror(self.problem))
            return super().open(path, create=create)

    harness = Harness(tmp_path, size)
    disks = {node_id: Broken(harness.folder / f"node-{node_id}") for node_id in harness.addresses}
    disks[0].problem = problem
    harness.disk_of = disks.__getitem__
    async with harness.open():
        assert harness.local.slots[0].state == "crashed"
        if problem == errno.EIO:
            assert list(harness.problems) == [0]
            return
        assert harness.problems == {}
        assert "No space left" in harness.local.slots[0].reason
        assert not harness.local.all_crashed(), "the daemon goes on"
        assert "node 0 crashed" in harness.local.ready()
        disks[0].problem = None
        await harness.until(lambda: harness.local.ready() == "")
        await harness.put("a")
