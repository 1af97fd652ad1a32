"""A simulated server's write-ahead log: each write takes a moment, and a crash may come at any point of it."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Generic

from bargetrio.raft.records import HardState, Install, Record
from bargetrio.replica.inbox import Inbox
from bargetrio.simulator.machine import Machine
from bargetrio.simulator.observer import S, Watcher
from bargetrio.storage.wal import OpenFolder


class TimedWal(Generic[S]):
    """The log of one life; implements `replica.ports.Wal`.

    Where the disk gives descriptors a small write is two steps, as with the product's `KernelPersister`: written at once, and
    synced at its end. Elsewhere both happen at its end. `begun` is called with each write's duration, `wake` when it has ended.
    """

    def __init__(
        self,
        server: S,
        watcher: Watcher[S],
        *,
        machine: Machine,
        folder: OpenFolder,
        inbox: Inbox,
        begun: Callable[[float], None],
        wake: Callable[[], None],
    ) -> None:
        self._server = server
        self._watcher = watcher
        self._machine = machine
        self._folder = folder
        self._inbox = inbox
        self._begun = begun
        self._wake = wake
        self._in_flight: tuple[int, Sequence[Record]] | None = None
        self._unsynced: int | None = None
        """The descriptor to be synced, when the write in flight is written and only its sync is missing."""
        self._is_over = False

    @property
    def is_writing(self) -> bool:
        """Whether a write is in flight."""
        return self._in_flight is not None

    @property
    def is_syncing(self) -> bool:
        """Whether a write is written, and its sync, a step of its own, has not ended."""
        return self._unsynced is not None

    def begin(self, number: int, records: Sequence[Record]) -> None:
        """Begin a write."""
        assert self._in_flight is None, "one write at a time"
        machine = self._machine
        seconds = machine.random.uniform(*machine.disk_s)
        self._in_flight = number, records
        self._watcher.writing(self._server, records)
        self._begun(seconds)
        if machine.disk.gives_descriptors:
            try:
                self._unsynced = self._folder.write_unsynced(records)
            except OSError as problem:
                self._in_flight = None
                self._inbox.write_ended(number, problem)
                return
        machine.world.after(seconds, self._end, number, records)

    def _end(self, number: int, records: Sequence[Record]) -> None:
        if self._is_over:
            return
        machine = self._machine
        until = max(machine.paused_until, machine.disk_hangs_until)
        if machine.world.now < until:  # the whole process stands still, its threads too, or the disk does
            machine.world.at(min(until, machine.world.now + 0.5), self._end, number, records)  # it may heal before
            return
        descriptor, self._unsynced = self._unsynced, None
        self._in_flight = None
        failure: OSError | None = None
        try:
            if descriptor is None:
                self._folder.write(records)
            else:
                self._sync(descriptor, records)
        except OSError as problem:
            failure = problem
        else:
            self._settle(records)
            self._watcher.synced(self._server, records)
        self._inbox.write_ended(number, failure)
        self._wake()

    def _sync(self, descriptor: int, records: Sequence[Record]) -> None:
        """End the sync of what was written before; raise OSError."""
        try:
            self._machine.disk.sync_descriptor(descriptor)
        except OSError as problem:
            self._folder.note_failed(problem)
            self._watcher.sync_failed(self._server)
            raise
        self._folder.note_synced(records)

    def break_off(self) -> None:
        """The process ends: the write in flight is not begun, between two calls of the disk, or done and not yet reported."""
        self._is_over = True
        if self._in_flight is None:
            return
        records, disk, random = self._in_flight[1], self._machine.disk, self._machine.random
        if self._unsynced is not None:
            if random.random() < 0.4:
                with suppress(OSError):
                    disk.sync_descriptor(self._unsynced)
        else:
            installs = any(isinstance(record, Install) for record in records)
            calls = random.randint(1, 18) if installs else random.choice((1, 2, 2, 2, 3, 4))
            disk.unplugged_at = disk.calls + calls
            with suppress(OSError):
                self._folder.write(records)
        self._settle(records)

    def _settle(self, records: Sequence[Record]) -> None:
        """A lying disk loses entries only: the loss of a vote could never be detected."""
        disk = self._machine.disk
        if disk.lies and any(type(record) in (HardState, Install) for record in records):
            disk.settle()
