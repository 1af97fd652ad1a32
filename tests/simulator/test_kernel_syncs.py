"""Writes and syncs in two steps, as where the kernel syncs: the simulated disk, the log on it, and both rings."""

import errno
from collections.abc import Callable, Sequence
from random import Random

import pytest
import trio

from bargetrio.raft.records import Record, Remembered
from bargetrio.replica.figures import Histogram
from bargetrio.simulator.disk import SimulatedDisk, SimulatedFile
from bargetrio.simulator.plan import draw
from bargetrio.simulator.seed import run
from bargetrio.simulator.stack.disk_work import VirtualWork
from bargetrio.storage.errors import DamagedLog, StorageError
from bargetrio.storage.wal import OpenFolder
from bargetrio.transport.poller import TaskPoller
from tests.storage.logs import append, entry, history, open_log


def disk_with_descriptors(random: Random) -> SimulatedDisk:
    disk = SimulatedDisk(random)
    disk.gives_descriptors = True
    return disk


def descriptor(file: SimulatedFile) -> int:
    number = file.descriptor
    assert number is not None
    return number


def test_a_descriptor_means_the_file_that_has_it_now() -> None:
    """Closed it means none, and soon another file: a sync that comes too late must not seem to have synced the first one."""
    disk = disk_with_descriptors(Random(1))
    first, second = (disk.open(name, create=True) for name in ("a", "b"))
    disk.sync_dir("")
    for file in (first, second):
        file.write_at(0, b"text")
    disk.sync_descriptor(descriptor(first))
    assert disk.image() == {"a": b"text", "b": b""}
    number = descriptor(second)
    second.close()
    assert second.descriptor is None
    with pytest.raises(OSError) as caught:
        disk.sync_descriptor(number)
    assert caught.value.errno == errno.EBADF
    assert descriptor(disk.open("c", create=True)) == number
    second.close()
    disk.sync_descriptor(number)
    assert disk.image()["b"] == b""


@pytest.mark.parametrize("end", [SimulatedDisk.crash, SimulatedDisk.end_process])
def test_a_process_takes_its_descriptors_with_it(end: Callable[[SimulatedDisk], object]) -> None:
    """What the next one opens begins with the lowest number again."""
    disk = disk_with_descriptors(Random(1))
    number = descriptor(disk.open("a", create=True))
    end(disk)
    with pytest.raises(OSError):
        disk.sync_descriptor(number)


def test_after_a_failed_sync_nothing_is_written() -> None:
    """BUG-51: the log takes no further record, and asks nothing more of the disk."""
    disk = disk_with_descriptors(Random(1))
    folder = open_log(disk, segment_bytes=4096)
    records = [append([], entry(1, "a"))]
    number = folder.write_unsynced(records)
    assert number is not None
    disk.fail_at[disk.calls + 1] = errno.EIO
    with pytest.raises(OSError) as caught:
        disk.sync_descriptor(number)
    folder.note_failed(caught.value)
    calls = disk.calls
    for write in (folder.write, folder.write_unsynced):
        with pytest.raises(OSError, match="failed before"):
            write(records)
    assert disk.calls == calls


@pytest.mark.parametrize("seed", range(150))
def test_a_crash_between_write_and_sync_loses_nothing_that_was_reported(seed: int) -> None:
    """At any call, with short writes and errors: it boots, and remembers what was synced, with the write in flight or without."""
    random = Random(seed)
    disk = disk_with_descriptors(random)
    disk.short_writes = random.random() < 0.5
    made = history(random, 25)
    remembered, next_write = Remembered(), 0
    for _ in range(4):
        for number in range(disk.calls + 1, disk.calls + 200):
            if random.random() < 0.02:
                disk.fail_at[number] = random.choice([errno.EIO, errno.ENOSPC])
        try:
            folder = open_log(disk, segment_bytes=2048)
            assert folder.remembered in (remembered, made[next_write][1])
            if folder.remembered != remembered:
                next_write += 1
            remembered = folder.remembered
            while next_write < len(made) - 5:
                if not write_in_two_steps(folder, disk, made[next_write][0], ends=random.random() < 0.9):
                    break
                remembered = made[next_write][1]
                next_write += 1
        except (OSError, StorageError) as problem:
            assert not isinstance(problem, DamagedLog), problem
        disk.fail_at.clear()
        if random.random() < 0.5:
            disk.crash()
        else:
            disk.end_process()
    assert open_log(disk).remembered in (remembered, made[next_write][1])


def write_in_two_steps(folder: OpenFolder, disk: SimulatedDisk, records: Sequence[Record], *, ends: bool) -> bool:
    """Write and sync; return False if the sync was never made, as something ended the process before."""
    number = folder.write_unsynced(records)
    if number is None:
        folder.write(records)
        return True
    if ends:
        disk.sync_descriptor(number)
        folder.note_synced(records)
    return ends


def test_half_of_the_nodes_write_so() -> None:
    """Drawn by the seed."""
    plans = [draw(Random(f"{seed}"), Random(f"rare {seed}"), 5) for seed in range(200)]
    assert 400 < sum(len(plan.kernel_synced) for plan in plans) < 600


def test_ring_1_crashes_and_fails_between_write_and_sync() -> None:
    """In its first seeds already, and no promise is broken."""
    kinds = frozenset({"crashes", "kills", "fsync_errors", "slow_disks"})
    results = [run(seed, 3, kinds) for seed in range(20)]
    assert [result.failure for result in results] == [None] * 20
    assert all(any(goal in result.goals for result in results) for goal in ("crash_before_the_sync", "kernel_sync_failed"))


class Ring2Write:
    """One node's log under the product's KernelPersister, with the simulated kernel."""

    def __init__(self, *, gives_descriptors: bool = True) -> None:
        self.disk = SimulatedDisk(Random(1))
        self.disk.gives_descriptors = gives_descriptors
        self.folder = open_log(self.disk, segment_bytes=4096)
        self.completions: list[tuple[int, OSError | None]] = []
        self.reached: list[str] = []
        work = self.work = VirtualWork(self.disk, Random(2), lambda *goals: self.reached.extend(goals))
        thread = work.persister(self.folder, self.note, "disk")
        self.persister = work.with_kernel_syncs(thread, self.folder, TaskPoller(), self.note, Histogram())
        self.records = [append([], entry(1, "a"))]

    def note(self, number: int, failure: OSError | None) -> None:
        self.completions.append((number, failure))


async def test_ring_2_reports_a_write_only_when_the_simulated_kernel_has_synced_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The bytes are written within `begin`; the sync's end comes later."""
    ring = Ring2Write()
    before, seen = ring.disk.image(), ring.disk.calls
    ring.persister.begin(1, ring.records)
    assert (ring.completions, ring.disk.calls, ring.disk.image()) == ([], seen + 1, before)
    await trio.sleep(0.01)
    assert ring.completions == [(1, None)]
    assert ring.disk.image() != before
    await ring.persister.aclose()


async def test_ring_2_has_a_failed_sync_stop_the_log(autojump_clock: trio.testing.MockClock) -> None:
    """BUG-51."""
    ring = Ring2Write()
    ring.disk.fail_at[ring.disk.calls + 2] = errno.EIO
    ring.persister.begin(1, ring.records)
    await trio.sleep(0.01)
    ((number, failure),) = ring.completions
    assert number == 1 and failure is not None and failure.errno == errno.EIO
    with pytest.raises(OSError, match="failed before"):
        ring.folder.write(ring.records)
    await ring.persister.aclose()


async def test_ring_2_can_have_the_next_sync_of_the_kernel_fail(autojump_clock: trio.testing.MockClock) -> None:
    """Once, and it is counted."""
    ring = Ring2Write()
    ring.work.fails_kernel_sync = True
    ring.persister.begin(1, ring.records)
    await trio.sleep(0.01)
    ((_, failure),) = ring.completions
    assert failure is not None and failure.errno == errno.EIO
    assert (ring.reached, ring.work.fails_kernel_sync) == (["kernel_sync_failed"], False)
    await ring.persister.aclose()


async def test_ring_2_reports_no_sync_whose_process_has_ended(autojump_clock: trio.testing.MockClock) -> None:
    """And from then on the disk takes nothing."""
    ring = Ring2Write()
    ring.persister.begin(1, ring.records)
    await ring.persister.aclose()
    calls = ring.disk.calls
    await trio.sleep(1)
    assert (ring.completions, ring.disk.calls) == ([], calls)


both_ways = pytest.mark.parametrize("gives_descriptors", [True, False])


@both_ways
async def test_ring_2_ends_a_sync_that_hangs_when_the_disk_answers(
    gives_descriptors: bool, autojump_clock: trio.testing.MockClock
) -> None:
    """Nothing is told before, by the kernel or by the thread."""
    ring = Ring2Write(gives_descriptors=gives_descriptors)
    ring.work.hang(trio.current_time() + 3)
    ring.persister.begin(1, ring.records)
    await trio.sleep(2.9)
    assert (ring.completions, ring.reached) == ([], [])
    await trio.sleep(0.2)
    assert (ring.completions, ring.reached) == ([(1, None)], ["hanging_kernel_sync" if gives_descriptors else "hanging_sync"])
    await ring.persister.aclose()


@both_ways
async def test_ring_2_has_a_killed_node_wait_for_its_disk_and_report_nothing(
    gives_descriptors: bool, autojump_clock: trio.testing.MockClock
) -> None:
    """A thread that is in the folder can't be ended, only the process can."""
    ring = Ring2Write(gives_descriptors=gives_descriptors)
    crash = "crash_before_the_sync" if gives_descriptors else "crash_in_a_write"
    ring.work.hang(began := trio.current_time() + 3)
    ring.persister.begin(1, ring.records)
    await trio.sleep(1)
    with trio.move_on_after(0.5):
        await ring.persister.aclose()
    assert trio.current_time() == began
    await trio.sleep(1)
    assert (ring.completions, ring.reached) == ([], [crash, "killed_in_a_hanging_sync"])


@both_ways
async def test_ring_2_has_syncs_that_outlast_elections(gives_descriptors: bool, autojump_clock: trio.testing.MockClock) -> None:
    """Of both kinds; calls that are no syncs are as quick as ever."""
    ring = Ring2Write(gives_descriptors=gives_descriptors)
    ring.work.sync_s = (1.5, 1.8)
    ring.persister.begin(1, ring.records)
    assert await ring.work.call(lambda: "done") == "done"
    await trio.sleep(1.4)
    assert ring.completions == []
    await trio.sleep(0.5)
    assert ring.completions == [(1, None)]
    assert ring.reached == ["late_kernel_sync" if gives_descriptors else "late_sync"]
    await ring.persister.aclose()
