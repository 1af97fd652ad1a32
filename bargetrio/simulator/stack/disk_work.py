"""A node's disk work in virtual time: no threads, but a virtual delay, then the blocking call; implements node's `DiskWork`.

Where the disk gives descriptors, the product's own `KernelPersister` writes, with a kernel that syncs in virtual time.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from errno import EIO
from random import Random
from typing import Final, TypeVar

import trio

from bargetrio.node.kernel_persister import KernelPersister, SplitLog, SyncFaults, is_small
from bargetrio.node.persister import OnDone, Persister, SyncedLog
from bargetrio.raft.records import HardState, Install, Record
from bargetrio.replica.figures import Histogram
from bargetrio.simulator.disk import SimulatedDisk, Unplugged
from bargetrio.simulator.plan import ELECTION_S
from bargetrio.transport.poller import Poller

T = TypeVar("T")


QUICK_S: Final = (0.0002, 0.002)


class VirtualWork:
    """The disk work of one node; `latency_s` is how long a call takes, from and to, `sync_s` a write of the log with its sync."""

    def __init__(self, disk: SimulatedDisk, random: Random, hit: Callable[..., None] = lambda *goals: None) -> None:
        self.latency_s = self.sync_s = QUICK_S
        self.still_until = 0.0
        """The process stands still until then, and its threads with it."""
        self.random = random
        self.hit = hit
        """Counts rare situations (goals.py)."""
        self.disk = disk
        self.fails_kernel_sync = False
        """The next sync that the kernel makes fails."""
        self._hangs_until = 0.0
        self._answers = trio.Event()

    # -- faults ----------------------------------------------------------------------------------------------------------

    @property
    def hangs(self) -> bool:
        """Whether the disk hangs: no call of it ends."""
        return trio.current_time() < self._hangs_until

    def hang(self, until: float) -> None:
        """Have no call of the disk end before that time, or `answer`."""
        self._hangs_until = until

    def answer(self) -> None:
        """End what waits for the disk: it hangs no more, its late syncs have ended, or their process has."""
        self._hangs_until = 0.0
        self._answers.set()
        self._answers = trio.Event()

    def be_quick(self) -> None:
        """Calls and syncs take their usual time again."""
        self.latency_s = self.sync_s = QUICK_S

    def heal(self) -> None:
        """Nothing is slow."""
        self.be_quick()
        self.fails_kernel_sync = False
        self.still_until = 0.0
        self.answer()

    # -- time ------------------------------------------------------------------------------------------------------------

    async def call(self, work: Callable[[], T]) -> T:
        """Run it after a moment."""
        await trio.sleep(self.random.uniform(*self.latency_s))
        await self.wait_while_it_hangs()
        return work()

    async def sync(self, goal_if_late: str, goal_if_hanging: str) -> list[str]:
        """Wait as long as a write of the log and its sync take; return what rare situations that was, if it ends."""
        began = trio.current_time()
        with trio.move_on_after(self.random.uniform(*self.sync_s)):
            await self._answers.wait()
        goals = [goal_if_late] if trio.current_time() - began > ELECTION_S[1] else []
        if self.hangs:
            goals.append(goal_if_hanging)
            await self.wait_while_it_hangs()
        await self.stand_still()
        return goals

    async def wait_while_it_hangs(self) -> None:
        """Wait until the disk answers."""
        while self.hangs:
            with trio.move_on_at(self._hangs_until):
                await self._answers.wait()

    async def stand_still(self) -> None:
        """Wait while the process stands still."""
        while trio.current_time() < self.still_until:
            await trio.sleep_until(self.still_until)

    def persister(self, log: SyncedLog, on_done: OnDone, name: str) -> Persister:
        """Return the virtual one."""
        return VirtualPersister(self, log, on_done)

    def with_kernel_syncs(
        self,
        thread: Persister,
        log: SplitLog,
        poller: Poller,
        on_done: OnDone,
        fsync: Histogram,
        faults: SyncFaults | None = None,
    ) -> Persister:
        """Have the virtual kernel sync, if the disk gives descriptors."""
        if not self.disk.gives_descriptors:
            return thread
        sync = VirtualSync(self)
        by_kernel = VirtualKernelPersister(self, thread, log, sync, on_done, fsync)

        def ended() -> None:
            by_kernel.sync_ended()
            poller.wake()

        sync.ready = ended
        return by_kernel


class VirtualSync:
    """A kernel that syncs a file after a virtual moment; implements `storage.kernel_sync.KernelSync`."""

    eventfd = -1
    """There is none: `ready` is called when one would be readable."""

    def __init__(self, work: VirtualWork) -> None:
        self.is_busy = False
        self.ready: Callable[[], None] = lambda: None
        self._work = work
        self._descriptor = -1

    def begin(self, descriptor: int) -> None:
        """Start."""
        assert not self.is_busy, "one sync at a time"
        self.is_busy = True
        self._descriptor = descriptor
        trio.lowlevel.spawn_system_task(self._run)

    def end(self) -> OSError | None:
        """Sync now; return what went wrong."""
        self.is_busy = False
        disk = self._work.disk
        if self._work.fails_kernel_sync:
            self._work.fails_kernel_sync, disk.fail_at[disk.calls + 1] = False, EIO
        try:
            disk.sync_descriptor(self._descriptor)
        except Unplugged as problem:
            return problem
        except OSError as problem:
            self._work.hit("kernel_sync_failed")
            return problem
        return None

    def close(self) -> None:
        """Nothing runs any more."""
        self.is_busy = False

    async def _run(self) -> None:
        goals = await self._work.sync("late_kernel_sync", "hanging_kernel_sync")
        if self.is_busy:
            self._work.hit(*goals)
            self.ready()


class VirtualKernelPersister(KernelPersister):
    """The product's, whose process may end while a sync is under way: whether the kernel has done it by then is drawn."""

    def __init__(
        self, work: VirtualWork, thread: Persister, log: SplitLog, sync: VirtualSync, on_done: OnDone, fsync: Histogram
    ) -> None:
        super().__init__(thread, log, sync, on_done, fsync)
        self._work = work
        self._virtual = sync

    def sync_ended(self) -> None:
        """Report, as the product; then settle."""
        records = self._records
        super().sync_ended()
        _settle(self._work.disk, records)

    def fence(self) -> None:
        """The process ends here, with bytes written and not synced, or synced and not reported."""
        if self._virtual.is_busy:
            self._work.hit("crash_before_the_sync")
            if self._work.hangs:
                self._work.hit("killed_in_a_hanging_sync")
            if self._work.random.random() < 0.4:
                self._virtual.end()
            _settle(self._work.disk, self._records)
            self._virtual.close()
        super().fence()


class VirtualPersister:
    """Writes after a virtual moment. Once fenced, the write in flight stops at a drawn point, and no other begins."""

    def __init__(self, work: VirtualWork, log: SyncedLog, on_done: OnDone) -> None:
        self._work = work
        self._log = log
        self._on_done = on_done
        self._in_flight: Sequence[Record] | None = None
        self._fenced = False

    def begin(self, number: int, records: Sequence[Record]) -> None:
        """Start."""
        self._in_flight = records
        if self._work.disk.gives_descriptors and not is_small(records):
            self._work.hit("large_batch_by_thread")
        trio.lowlevel.spawn_system_task(self._write, number, records)

    def fence(self) -> None:
        """The process ends here: between two calls of the disk, if it is in the middle of a write."""
        if self._fenced:
            return
        self._fenced = True
        disk = self._work.disk
        if self._in_flight is not None:
            self._work.hit("crash_in_a_write", *(["killed_in_a_hanging_sync"] if self._work.hangs else []))
        if self._in_flight is not None and self._work.random.random() < 0.7:
            disk.unplugged_at = disk.calls + self._work.random.choice((1, 2, 2, 2, 3, 4))
            with suppress(OSError):
                self._log.write(self._in_flight)
            _settle(disk, self._in_flight)
        disk.unplugged_at = disk.calls

    async def aclose(self) -> None:
        """Wait for the disk: a node that is killed while its process goes on can't leave a thread in its folder."""
        self.fence()
        with trio.CancelScope(shield=True):
            await self._work.wait_while_it_hangs()
        await trio.lowlevel.checkpoint()

    async def _write(self, number: int, records: Sequence[Record]) -> None:
        goals = await self._work.sync("late_sync", "hanging_sync")
        if self._fenced:
            return
        self._work.hit(*goals)
        failure: OSError | None = None
        try:
            self._log.write(records)
        except OSError as problem:
            failure = problem
            self._work.hit("write_failed")
        _settle(self._work.disk, records)
        self._in_flight = None
        self._on_done(number, failure)


def _settle(disk: SimulatedDisk, records: Sequence[Record]) -> None:
    """A lying disk loses entries only, as in ring 1."""
    if disk.lies and any(isinstance(record, (HardState, Install)) for record in records):
        disk.settle()
