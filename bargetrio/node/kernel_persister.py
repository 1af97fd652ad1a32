"""The kernel's syncs: small batches are written in the loop, and synced by the kernel where the system has that.

`with_kernel_syncs` puts a `KernelPersister` in front of the log's thread, which writes the large ones.
"""

import errno
import os
import threading
import time
from collections.abc import Sequence
from typing import Final, Protocol

import trio

from bargetrio.node.persister import OnDone, Persister, as_failure
from bargetrio.raft.records import Append, Record
from bargetrio.replica.figures import Histogram
from bargetrio.storage.kernel_sync import KernelSync, make_kernel_sync
from bargetrio.transport.poller import Poller


class SplitLog(Protocol):
    """The write-ahead log with write and sync as separate steps, for a persister with asynchronous syncs; see `OpenFolder`."""

    def write_unsynced(self, records: Sequence[Record]) -> int | None:
        """Write; return the descriptor to be synced, or None if `write` must be called; raises OSError."""
        ...

    def note_synced(self, records: Sequence[Record]) -> None:
        """Note that the records are synced."""
        ...

    def note_failed(self, problem: OSError) -> None:
        """Note that the sync failed: every later write fails."""
        ...


class SyncFaults(Protocol):
    """Injected faults of one node's syncs (PUT /faults)."""

    def are_set(self) -> bool:
        """Return whether a fault is in force."""
        ...

    def inject(self) -> None:
        """Apply the fault: delay, which blocks, or raise OSError."""
        ...


PASSING: Final = frozenset({errno.EAGAIN, errno.ENOMEM, errno.ECANCELED, errno.EBUSY})
"""The kernel had no memory or no worker for a sync and began none: a thread does it instead; the disk has not failed."""


class _ThreadSync:
    """One sync in a thread, if the kernel can't do it; at its end it counts up the eventfd, as the kernel would."""

    def __init__(self, descriptor: int, eventfd: int, faults: SyncFaults | None) -> None:
        self.problem: OSError | None = None
        self.is_over = False
        self._descriptor = descriptor
        self._eventfd = eventfd
        self._faults = faults
        self._thread = threading.Thread(target=self._run, name="sync", daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Wait for its end."""
        self._thread.join()

    def _run(self) -> None:
        try:
            if self._faults is not None:
                self._faults.inject()
            os.fdatasync(self._descriptor)
        except OSError as problem:
            self.problem = problem
        self.is_over = True
        os.eventfd_write(self._eventfd, 1)


SMALL_BYTES: Final = 64 * 1024
"""A batch of commands up to this size is written in the loop itself, which takes some µs; a larger one in the thread."""


class KernelPersister:
    """Writes small batches in the loop, into the page cache, and has the kernel sync them; large ones go to a thread.

    No thread competes with the loop for the GIL, and none has to be woken (docs/decisions/kernel_sync.md). As with a thread, no
    write is reported before its sync has succeeded.
    """

    def __init__(
        self,
        thread: Persister,
        log: SplitLog,
        sync: KernelSync,
        on_done: OnDone,
        fsync: Histogram,
        faults: SyncFaults | None = None,
    ) -> None:
        self._faults = faults
        self._descriptor = -1
        self._by_thread: _ThreadSync | None = None
        """The sync under way, where a thread does it: the kernel had no memory for it, or a fault delays it."""
        self._thread = thread
        self._log = log
        self._sync = sync
        self._on_done = on_done
        self._fsync = fsync
        self._fenced = False
        self._number = 0
        self._records: Sequence[Record] = ()
        self._began = 0.0

    def begin(self, number: int, records: Sequence[Record]) -> None:
        """Write and begin to sync, or pass the write to the thread."""
        if self._fenced:
            return
        began = time.perf_counter()
        try:
            descriptor = self._log.write_unsynced(records) if is_small(records) else None
            if descriptor is None:
                self._thread.begin(number, records)
                return
            self._descriptor = descriptor
            self._begin_sync()
        except Exception as problem:
            failure = as_failure(problem)
            self._log.note_failed(failure)
            self._on_done(number, failure)
            return
        self._number, self._records, self._began = number, records, began

    def _begin_sync(self) -> None:
        if self._faults is not None and self._faults.are_set():
            self._by_thread = _ThreadSync(self._descriptor, self._sync.eventfd, self._faults)
            return
        try:
            self._sync.begin(self._descriptor)
        except OSError as problem:
            if problem.errno not in PASSING:
                raise
            self._by_thread = _ThreadSync(self._descriptor, self._sync.eventfd, None)

    def sync_ended(self) -> None:
        """Report the result of the sync; to be called whenever the eventfd was counted up."""
        by_thread = self._by_thread
        if not self._sync.is_busy:
            if by_thread is None or not by_thread.is_over:
                return
            problem, self._by_thread = by_thread.problem, None
        else:
            try:
                problem = self._sync.end()
            except OSError as trouble:  # of the call, not of the disk: the result of the sync is not known
                problem = trouble
            else:
                if problem is not None and problem.errno in PASSING:
                    self._by_thread = _ThreadSync(self._descriptor, self._sync.eventfd, None)
                    return
        self._fsync.observe(time.perf_counter() - self._began)
        records, self._records = self._records, ()
        if self._fenced:
            return
        if problem is None:
            self._log.note_synced(records)
        else:
            self._log.note_failed(problem)
        self._on_done(self._number, problem)

    def fence(self) -> None:
        """Write and report nothing any more."""
        self._fenced = True
        self._thread.fence()

    async def aclose(self) -> None:
        """Wait for the sync in flight and for the thread, cancelled or not."""
        self.fence()
        with trio.CancelScope(shield=True):
            try:
                if self._by_thread is not None:
                    await trio.to_thread.run_sync(self._by_thread.join)
                if self._sync.is_busy:
                    await trio.to_thread.run_sync(self._sync.end)
                self._sync.close()
            finally:
                await self._thread.aclose()


def with_kernel_syncs(
    thread: Persister, log: SplitLog, poller: Poller, on_done: OnDone, fsync: Histogram, faults: SyncFaults | None = None
) -> Persister:
    """Return a KernelPersister where the system and `poller` support it; else `thread`.

    It calls `on_done` in trio's thread: within `begin`, or when `poller` sees the eventfd counted up.
    """
    try:
        sync = make_kernel_sync()
    except OSError:
        return thread
    persister = KernelPersister(thread, log, sync, on_done, fsync, faults)
    if poller.watch(sync.eventfd, persister.sync_ended):
        return persister
    sync.close()
    return thread


def is_small(records: Sequence[Record]) -> bool:
    """Return whether the commands of a batch are SMALL_BYTES at most."""
    size = 0
    for record in records:
        if isinstance(record, Append):
            size += sum([len(entry.command) for entry in record.entries])
    return size <= SMALL_BYTES
