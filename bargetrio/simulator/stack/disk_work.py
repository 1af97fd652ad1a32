"""The disk's side in virtual time: no threads, a virtual moment, then the blocking call; implements node's `DiskWork`.

Where the disk gives descriptors, the product's own `KernelPersister` writes, with a kernel that syncs in virtual time.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from random import Random
from typing import TypeVar

import trio

from bargetrio.node.figures import Histogram
from bargetrio.node.persister import KernelPersister, Log, OnDone, Persister, SplitLog, SyncFaults
from bargetrio.raft.records import HardState, Install, Record
from bargetrio.simulator.disk import SimulatedDisk
from bargetrio.transport.arrivals import Arrivals

T = TypeVar("T")


class VirtualWork:
    """One node's; `latency_s` is how long a write takes, from and to."""

    def __init__(self, disk: SimulatedDisk, random: Random) -> None:
        self.latency_s = (0.0002, 0.002)
        self.still_until = 0.0
        """The process stands still until then, and its threads with it."""
        self.random = random
        self._disk = disk

    async def call(self, work: Callable[[], T]) -> T:
        """Run it after a moment."""
        await trio.sleep(self.random.uniform(*self.latency_s))
        return work()

    async def stand_still(self) -> None:
        """Wait while the process stands still."""
        while trio.current_time() < self.still_until:
            await trio.sleep_until(self.still_until)

    def persister(self, log: Log, on_done: OnDone, name: str) -> Persister:
        """Return the virtual one."""
        return VirtualPersister(self, log, on_done, self._disk, self.random)

    def with_kernel_syncs(
        self,
        thread: Persister,
        log: SplitLog,
        arrivals: Arrivals,
        on_done: OnDone,
        fsync: Histogram,
        faults: SyncFaults | None = None,
    ) -> Persister:
        """Have the virtual kernel sync, if the disk gives descriptors."""
        if not self._disk.gives_descriptors:
            return thread
        sync = VirtualSync(self, self._disk)
        persister = VirtualKernelPersister(thread, log, sync, on_done, fsync, self._disk, self.random)

        def ended() -> None:
            persister.sync_ended()
            arrivals.ring()

        sync.ready = ended
        return persister


class VirtualSync:
    """A kernel that syncs a file after a virtual moment; implements `storage.kernel_sync.KernelSync`."""

    eventfd = -1
    """There is none: `ready` is called when one would be readable."""

    def __init__(self, work: VirtualWork, disk: SimulatedDisk) -> None:
        self.is_busy = False
        self.ready: Callable[[], None] = lambda: None
        self._work = work
        self._disk = disk
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
        try:
            self._disk.sync_descriptor(self._descriptor)
        except OSError as problem:
            return problem
        return None

    def close(self) -> None:
        """Nothing runs any more."""
        self.is_busy = False

    async def _run(self) -> None:
        await trio.sleep(self._work.random.uniform(*self._work.latency_s))
        await self._work.stand_still()
        if self.is_busy:
            self.ready()


class VirtualKernelPersister(KernelPersister):
    """The product's, whose process may end while a sync is under way: the kernel has it done by then or not, as chance has it."""

    def __init__(
        self,
        thread: Persister,
        log: SplitLog,
        sync: VirtualSync,
        on_done: OnDone,
        fsync: Histogram,
        disk: SimulatedDisk,
        random: Random,
    ) -> None:
        super().__init__(thread, log, sync, on_done, fsync)
        self._virtual = sync
        self._disk = disk
        self._random = random

    def sync_ended(self) -> None:
        """Report, as the product; then settle."""
        records = self._records
        super().sync_ended()
        _settle(self._disk, records)

    def fence(self) -> None:
        """The process ends here, with bytes written and not synced, or synced and not told."""
        if self._virtual.is_busy:
            if self._random.random() < 0.4:
                self._virtual.end()
            _settle(self._disk, self._records)
            self._virtual.close()
        super().fence()


class VirtualPersister:
    """Writes after a virtual moment. Once fenced, the write in flight gets as far as chance has it, and then nothing more."""

    def __init__(self, work: VirtualWork, log: Log, on_done: OnDone, disk: SimulatedDisk, random: Random) -> None:
        self._work = work
        self._log = log
        self._on_done = on_done
        self._disk = disk
        self._random = random
        self._in_flight: Sequence[Record] | None = None
        self._fenced = False

    def begin(self, number: int, records: Sequence[Record]) -> None:
        """Start."""
        self._in_flight = records
        trio.lowlevel.spawn_system_task(self._write, number, records)

    def fence(self) -> None:
        """The process ends here: between two calls of the disk, if it is in the middle of a write."""
        if self._fenced:
            return
        self._fenced = True
        if self._in_flight is not None and self._random.random() < 0.7:
            self._disk.unplugged_at = self._disk.calls + self._random.choice((1, 2, 2, 2, 3, 4))
            with suppress(OSError):
                self._log.write(self._in_flight)
            _settle(self._disk, self._in_flight)
        self._disk.unplugged_at = self._disk.calls

    async def aclose(self) -> None:
        """Nothing runs any more."""
        self.fence()
        await trio.lowlevel.checkpoint()

    async def _write(self, number: int, records: Sequence[Record]) -> None:
        await trio.sleep(self._random.uniform(*self._work.latency_s))
        await self._work.stand_still()
        if self._fenced:
            return
        failure: OSError | None = None
        try:
            self._log.write(records)
        except OSError as problem:
            failure = problem
        _settle(self._disk, records)
        self._in_flight = None
        self._on_done(number, failure)


def _settle(disk: SimulatedDisk, records: Sequence[Record]) -> None:
    """A disk that lies lies about entries only, as in ring 1."""
    if disk.lies and any(isinstance(record, (HardState, Install)) for record in records):
        disk.settle()
