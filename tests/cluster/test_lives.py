"""A node is killed during disk work: the work does not affect the restarted node, and no descriptor is reused too early."""

import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import pytest
import trio

from bargetrio.cluster import cluster
from bargetrio.node import kernel_persister
from bargetrio.node.running_node import UNCOMMITTED
from bargetrio.node.server import Node
from bargetrio.protocol.errors import BargeError
from bargetrio.storage.real_disk import RealDisk, RealFile
from tests.cluster.harness import Harness


class HangingSync:
    """The kernel at work on a descriptor, until the test lets it end; notes a descriptor that is not that file's any more."""

    hangs = threading.Event()
    is_free = threading.Event()
    syncs = 0
    complaints: ClassVar[list[str]] = []

    def __init__(self) -> None:
        self.eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.is_busy = False
        self._descriptor = self._inode = -1

    def begin(self, descriptor: int) -> None:
        assert not self.is_busy
        self._descriptor, self._inode, self.is_busy = descriptor, os.fstat(descriptor).st_ino, True
        if self.hangs.is_set():
            HangingSync.syncs += 1
        else:
            os.eventfd_write(self.eventfd, 1)

    def end(self) -> OSError | None:
        if self.hangs.is_set():
            assert self.is_free.wait(20)
        try:
            if os.fstat(self._descriptor).st_ino != self._inode:
                self.complaints.append(f"descriptor {self._descriptor} is another file's")
        except OSError as problem:
            self.complaints.append(f"descriptor {self._descriptor}: {problem}")
        self.is_busy = False
        with suppress(BlockingIOError):
            os.eventfd_read(self.eventfd)
        return None

    def close(self) -> None:
        if self.is_busy:
            self.end()
        os.close(self.eventfd)


async def test_a_sync_that_runs_over_a_kill_keeps_its_descriptor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel syncs a descriptor: closed too early, it may be that of another file, or of none."""
    HangingSync.hangs.clear()
    HangingSync.is_free.clear()
    HangingSync.complaints.clear()
    monkeypatch.setattr(kernel_persister, "make_kernel_sync", HangingSync)
    harness = Harness(tmp_path)
    async with harness.open(), trio.open_nursery() as nursery:
        leader = await harness.leader()
        await harness.put("before", "1")
        victim = (leader + 1) % 3
        HangingSync.syncs = 0
        HangingSync.hangs.set()
        try:
            with trio.move_on_after(0.3):
                await harness.put("during", "2")
            assert HangingSync.syncs >= 2
            answer = await harness.cluster.kill(victim)
            assert answer.state == "killed"
            revived = trio.Event()

            async def revive() -> None:
                await harness.cluster.revive(victim)
                revived.set()

            nursery.start_soon(revive)
            others = [os.open(os.devnull, os.O_RDONLY) for _ in range(50)]
            await trio.sleep(0.3)
            assert not revived.is_set()
        finally:
            HangingSync.is_free.set()
            HangingSync.hangs.clear()
        await revived.wait()
        for other in others:
            os.close(other)
        assert HangingSync.complaints == []
        for node_id in harness.addresses:  # a sync that hung has woken no node
            await harness.cluster.kill(node_id)
            await harness.cluster.revive(node_id)
        await harness.put("after", "3")
        assert (await harness.get("before"), await harness.get("after")) == ("1", "3")
        assert HangingSync.complaints == []


class SlowSnapshots(RealDisk):
    """A disk on which the file of a snapshot is not made until the test says so."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.is_asked = threading.Event()
        self.is_free = threading.Event()
        self.touched_at: list[str] = []

    def open(self, path: str, *, create: bool = False) -> RealFile:
        if create and "snap" in path:
            self.is_asked.set()
            assert self.is_free.wait(20)
            self.touched_at.append(path)
        return super().open(path, create=create)


async def test_a_snapshot_that_is_saved_over_a_kill_ends_with_its_life(tmp_path: Path) -> None:
    """The restarted node waits until the old thread has ended; its unfinished files are deleted."""
    harness = Harness(tmp_path)
    disks: dict[int, list[SlowSnapshots]] = {}

    def make(node_id: int) -> SlowSnapshots:
        disks.setdefault(node_id, []).append(SlowSnapshots(tmp_path / f"node-{node_id}"))
        return disks[node_id][-1]

    harness.disk_of = make
    async with harness.open(), trio.open_nursery() as nursery:
        victim = (await harness.leader() + 1) % 3
        for number in range(20):
            await harness.put(f"k{number}", str(number))
        node = harness.local.slots[victim].node
        node.replica.ask_for_snapshot()  # type: ignore[union-attr]
        old = disks[victim][0]
        try:
            await harness.until(old.is_asked.is_set)
            assert (await harness.cluster.kill(victim)).state == "killed"
            states: list[str] = []

            async def revive() -> None:
                states.append((await harness.cluster.revive(victim)).state)

            nursery.start_soon(revive)
            await trio.sleep(0.3)
            assert states == [] and len(disks[victim]) == 1
        finally:
            old.is_free.set()
        await harness.until(lambda: bool(states))
        touched = list(old.touched_at)
        new = disks[victim][-1]
        new.is_free.set()
        node = harness.local.slots[victim].node
        node.replica.ask_for_snapshot()  # type: ignore[union-attr]
        await harness.until(lambda: harness.local.views()[victim].snapshot_index >= 20)  # type: ignore[operator]
        assert old.touched_at == touched
        await harness.put("after", "x")
        await harness.until(lambda: node.store.get("after") is not None)  # type: ignore[union-attr]
        snapshots = [path.name for path in (tmp_path / f"node-{victim}").rglob("*snap*") if path.is_file()]
        assert len(snapshots) == 1, snapshots


async def test_a_kill_fences_the_node_before_anything_else_runs(tmp_path: Path) -> None:
    """Its tasks may still run until they are cancelled: nothing is reported or written any more."""
    harness = Harness(tmp_path)
    async with harness.open():
        victim = (await harness.leader() + 1) % 3
        slot = harness.local.slots[victim]
        node = slot.node
        assert isinstance(node, Node)
        assert slot.crash()
        assert node.replica.step(0.0) == float("inf")
        assert all(link._connection is None for link in node.outbox.links.values())


@pytest.mark.parametrize("command", ["readmit", "bootstrap"])
async def test_the_reason_of_a_refusal_is_not_lost_where_the_time_ends_within_a_call(
    tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OWN-200: "did not answer", outcome unknown, was said of what each call had refused."""
    monkeypatch.setattr(cluster, "READMIT_WAIT_S", 0.1)
    monkeypatch.setattr(cluster, "BOOTSTRAP_WAIT_S", 0.1)
    harness = Harness(tmp_path)
    async with harness.open():
        leader = await harness.leader()
        monkeypatch.setattr(harness.cluster, "_is_born", lambda node_id: False)

        async def refuse(*_: int) -> str:
            await trio.sleep(0.2)
            return "first things first"

        for slot in harness.local.slots.values():
            monkeypatch.setattr(slot, command, refuse)
        with pytest.raises(BargeError, match="first things first") as caught:
            await (harness.cluster.bootstrap() if command == "bootstrap" else harness.cluster.readmit((leader + 1) % 3))
        assert (caught.value.code, caught.value.applied) == ("bad_request", False)


async def test_a_readmission_that_is_not_committed_in_time_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its entry is in the log, and may be committed later: that is no bad request."""
    monkeypatch.setattr(cluster, "READMIT_WAIT_S", 0.1)
    harness = Harness(tmp_path)
    async with harness.open():
        leader = await harness.leader()

        async def readmit(node_id: int) -> str:
            return f"node {node_id}'s new disk {UNCOMMITTED}"

        monkeypatch.setattr(harness.local.slots[leader], "readmit", readmit)
        with pytest.raises(BargeError) as caught:
            await harness.cluster.readmit((leader + 1) % 3)
        assert (caught.value.code, caught.value.applied) == ("outcome_unknown", None)
