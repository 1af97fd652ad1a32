"""The disk's side in virtual time: no threads, a virtual moment, then the blocking call; implements node's `DiskWork`."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from random import Random
from typing import TypeVar

import trio

from bargetrio.node.persister import Log, OnDone, Persister
from bargetrio.raft.records import HardState, Install, Record
from bargetrio.simulator.disk import SimulatedDisk

T = TypeVar("T")


class VirtualWork:
    """One node's; `latency_s` is how long a write takes, from and to."""

    def __init__(self, disk: SimulatedDisk, random: Random) -> None:
        self.latency_s = (0.0002, 0.002)
        self.still_until = 0.0
        """The process stands still until then, and its threads with it."""
        self._disk = disk
        self._random = random

    async def call(self, work: Callable[[], T]) -> T:
        """Run it after a moment."""
        await trio.sleep(self._random.uniform(*self.latency_s))
        return work()

    async def stand_still(self) -> None:
        """Wait while the process stands still."""
        while trio.current_time() < self.still_until:
            await trio.sleep_until(self.still_until)

    def persister(self, log: Log, on_done: OnDone, name: str) -> Persister:
        """Return the virtual one."""
        return VirtualPersister(self, log, on_done, self._disk, self._random)


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
            self._settle(self._in_flight)
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
        self._settle(records)
        self._in_flight = None
        self._on_done(number, failure)

    def _settle(self, records: Sequence[Record]) -> None:
        """A disk that lies lies about entries only, as in ring 1."""
        if self._disk.lies and any(isinstance(record, (HardState, Install)) for record in records):
            self._disk.settle()
