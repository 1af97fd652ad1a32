"""One contract for both ways to the disk: each write is reported once, when it lasts, and never after the fence."""

import errno
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from msgspec import Raw

from bargetrio.node.kernel_persister import SMALL_BYTES, KernelPersister, with_kernel_syncs
from bargetrio.node.persister import Persister, ThreadPersister
from bargetrio.raft.messages import Entry
from bargetrio.raft.records import Append, HardState, Record
from bargetrio.replica.figures import Histogram
from bargetrio.storage.kernel_sync import make_kernel_sync
from bargetrio.storage.real_disk import RealDisk
from bargetrio.storage.wal import OpenFolder, open_folder
from bargetrio.transport.event_loop import EpollPoller
from bargetrio.transport.poller import TaskPoller

SEGMENT_BYTES = 4096


class Bench:
    """A real folder, a persister over it, and a loop that waits."""

    def __init__(self, folder: OpenFolder, kind: str) -> None:
        self.folder = folder
        self.poller = EpollPoller()
        self.done: list[tuple[int, str]] = []
        self.threads = 0
        thread = ThreadPersister(self, self.note, "test")
        self.fsync = Histogram()
        self.persister: Persister = thread
        if kind == "kernel":
            self.persister = with_kernel_syncs(thread, folder, self.poller, self.note, self.fsync)
            assert isinstance(self.persister, KernelPersister)
        self._last_index = 0
        self._number = 0

    def write(self, records: Sequence[Record]) -> None:
        """The thread's way, counted."""
        self.threads += 1
        self.folder.write(records)

    def note(self, number: int, failure: OSError | None) -> None:
        """A write has ended."""
        self.done.append((number, "" if failure is None else str(failure)))
        self.poller.wake()

    def begin(self, entries: int, size: int = 10) -> int:
        """Begin a write."""
        first = self._last_index + 1
        self._last_index += entries
        self._number += 1
        batch = tuple(Entry(1, Raw(b'"%b"' % (b"v" * size))) for _ in range(entries))
        self.persister.begin(self._number, [Append(first_index=first, digest=self._number, entries=batch)])
        return self._number

    async def until(self, condition: Callable[[], object]) -> None:
        """Drive as a node does."""
        over = trio.Event()

        def turn() -> float:
            if condition():
                over.set()
            return trio.current_time() + 60

        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.poller.run)
                nursery.start_soon(self.poller.drive, turn)
                await over.wait()
                nursery.cancel_scope.cancel()


@asynccontextmanager
async def bench(path: Path, kind: str) -> AsyncIterator[Bench]:
    """Give one, and read back what lasts."""
    folder = open_folder(RealDisk(path), "test", 0, lambda: "store", segment_bytes=SEGMENT_BYTES)
    bench = Bench(folder, kind)
    yield bench
    await bench.persister.aclose()
    bench.poller.close()
    folder.close()


def entries_on_disk(path: Path) -> int:
    """Recover the folder anew."""
    folder = open_folder(RealDisk(path), "test", 0, lambda: "store")
    count = len(folder.remembered.entries)
    folder.close()
    return count


BOTH = pytest.mark.parametrize("kind", ["thread", "kernel"])


@BOTH
async def test_every_write_is_reported_once_and_lasts(tmp_path: Path, kind: str) -> None:
    """Over segments that begin in between, batches small and large, and a term alone."""
    async with bench(tmp_path / "node", kind) as each:
        each.persister.begin(0, [HardState(term=1, voted_for=0)])
        await each.until(lambda: each.done == [(0, "")])
        for entries, size in [(1, 10), (5, 100), (1, SEGMENT_BYTES), (3, SMALL_BYTES), (40, 50), (1, 1)]:
            number = each.begin(entries, size)
            await each.until(lambda number=number: each.done[-1] == (number, ""))  # type: ignore[misc]
        assert [number for number, _ in each.done] == list(range(7))
    assert entries_on_disk(tmp_path / "node") == 51


async def test_small_writes_need_no_thread_and_are_timed(tmp_path: Path) -> None:
    """What fits into the segment is synced by the kernel; what does not goes the old way."""
    async with bench(tmp_path / "node", "kernel") as each:
        each.begin(1)
        await each.until(lambda: each.done)
        assert (each.threads, sum(each.fsync.counts)) == (0, 1)
        each.begin(2, SMALL_BYTES)
        await each.until(lambda: len(each.done) == 2)
        assert (each.threads, sum(each.fsync.counts)) == (1, 1)


@BOTH
async def test_nothing_is_reported_after_the_fence(tmp_path: Path, kind: str) -> None:
    """A node that is dead promises nothing more, and its folder has no writer when `aclose` returns."""
    async with bench(tmp_path / "node", kind) as each:
        each.begin(1)
        each.persister.fence()
        each.begin(1)
        await each.persister.aclose()
        assert each.done in ([], [(1, "")])  # the thread may have been done before the fence


@pytest.mark.parametrize("by", ["kernel", "thread for the kernel"])
async def test_a_sync_that_ends_after_the_fence_is_not_reported(tmp_path: Path, by: str) -> None:
    """A killed node's folder is released when no thread writes to it; until then the restart waits."""
    async with bench(tmp_path / "node", "kernel") as each:
        persister = each.persister
        assert isinstance(persister, KernelPersister)
        faults = Faults(None)
        if by != "kernel":
            persister._faults = faults
        each.begin(1)
        persister.fence()
        ended = trio.Event()

        async def close() -> None:
            await persister.aclose()
            ended.set()

        if by == "kernel":
            with trio.fail_after(10):
                await trio.lowlevel.wait_readable(persister._sync.eventfd)
            persister.sync_ended()
        else:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(close)
                await trio.sleep(0.1)
                assert not ended.is_set(), "its thread still syncs the file"
                faults.heals.set()
        assert each.done == []


class HeldLog:
    """A log whose write does not end until the test says so."""

    def __init__(self) -> None:
        self.is_asked = threading.Event()
        self.is_free = threading.Event()
        self.has_ended = False

    def write(self, records: Sequence[Record]) -> None:
        self.is_asked.set()
        assert self.is_free.wait(20)
        self.has_ended = True


async def test_the_folder_has_no_writer_when_the_thread_is_closed() -> None:
    """A killed node's last write may take long: the restarted node opens the folder only after it."""
    held = HeldLog()
    done: list[int] = []
    persister = ThreadPersister(held, lambda number, failure: done.append(number), "held")
    persister.begin(1, [])
    async with trio.open_nursery() as nursery:
        await trio.to_thread.run_sync(held.is_asked.wait)
        nursery.start_soon(persister.aclose)
        with trio.move_on_after(0.2) as waited:
            while nursery.child_tasks:
                await trio.sleep(0.01)
        assert waited.cancelled_caught
        held.is_free.set()
    assert held.has_ended and done == []


class FailingSync:
    """A disk that says EIO when it is asked to sync, or at the end of it."""

    def __init__(self, at: str) -> None:
        self._at = at
        self._sync = make_kernel_sync()
        self.eventfd = self._sync.eventfd

    @property
    def is_busy(self) -> bool:
        return self._sync.is_busy

    def begin(self, descriptor: int) -> None:
        """Fail, or begin."""
        if self._at == "begin":
            raise OSError(errno.EIO, "no")
        self._sync.begin(descriptor)

    def end(self) -> OSError | None:
        """End badly."""
        self._sync.end()
        return OSError(errno.EIO, "no")

    def close(self) -> None:
        self._sync.close()


@pytest.mark.parametrize("at", ["begin", "end"])
async def test_a_sync_that_fails_is_reported_and_nothing_is_written_after_it(
    tmp_path: Path, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """BUG-51: what the disk holds is unknown from now on."""
    monkeypatch.setattr("bargetrio.node.kernel_persister.make_kernel_sync", lambda: FailingSync(at))
    async with bench(tmp_path / "node", "kernel") as each:
        each.begin(1)
        await each.until(lambda: each.done)
        assert [number for number, why in each.done if why.endswith("no")] == [1]
        with pytest.raises(OSError, match="failed before"):
            each.folder.write([HardState(term=9)])
        each.begin(1)
        await each.until(lambda: len(each.done) == 2)
        assert each.done[1] == (2, "[Errno 5] the log failed before: no")


class RefusingSync(FailingSync):
    """A kernel without memory for a sync: it says so at once, or when the sync should have ended."""

    def begin(self, descriptor: int) -> None:
        """Refuse, or begin."""
        if self._at == "begin":
            raise OSError(errno.EAGAIN, "no")
        super().begin(descriptor)

    def end(self) -> OSError | None:
        """Say that it was not done."""
        super().end()
        return OSError(errno.ECANCELED, "no")


@pytest.mark.parametrize("at", ["begin", "end"])
async def test_where_the_kernel_has_no_memory_for_a_sync_a_thread_makes_it(
    tmp_path: Path, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EAGAIN, ENOMEM, ECANCELED: nothing was begun, so nothing is lost, and the node continues."""
    monkeypatch.setattr("bargetrio.node.kernel_persister.make_kernel_sync", lambda: RefusingSync(at))
    async with bench(tmp_path / "node", "kernel") as each:
        for number in (1, 2, 3):
            assert each.begin(1) == number
            await each.until(lambda number=number: each.done[-1:] == [(number, "")])  # type: ignore[misc]
        assert each.threads == 0
    assert entries_on_disk(tmp_path / "node") == 3


class Faults:
    """A delay that the test ends, and then perhaps an error."""

    def __init__(self, problem: OSError | None) -> None:
        self.heals = threading.Event()
        self._problem = problem

    def are_set(self) -> bool:
        return True

    def inject(self) -> None:
        self.heals.wait(10)
        if self._problem is not None:
            raise self._problem


@pytest.mark.parametrize("problem", [None, OSError(errno.EIO, "no")], ids=str)
async def test_faults_hold_up_the_syncs_of_what_the_loop_wrote(tmp_path: Path, problem: OSError | None) -> None:
    """They act on the product's own way: written in the loop, synced beside it, reported when that has ended."""
    async with bench(tmp_path / "node", "kernel") as each:
        assert isinstance(each.persister, KernelPersister)
        faults = each.persister._faults = Faults(problem)
        each.begin(1)
        with trio.move_on_after(0.05):
            await each.until(lambda: each.done)
        assert (each.done, each.threads) == ([], 0)
        faults.heals.set()
        await each.until(lambda: each.done)
        assert [number for number, why in each.done if why.endswith("no") == (problem is not None)] == [1]


async def test_a_loop_that_cannot_watch_descriptors_gets_the_thread(tmp_path: Path) -> None:
    """Tasks that read connections hear no eventfd."""
    folder = open_folder(RealDisk(tmp_path / "node"), "test", 0, lambda: "store")
    thread = ThreadPersister(folder, lambda number, failure: None, "test")
    assert with_kernel_syncs(thread, folder, TaskPoller(), lambda number, failure: None, Histogram()) is thread
    await thread.aclose()
    folder.close()
