"""The Persister: one write at a time, synced outside the event loop: only messages that depend on a write wait for the disk.

`ThreadPersister` is a single worker thread a node, which does one encode, one write and one sync a batch. The log below is plain
blocking code. Where the system has it, kernel_persister.py has the kernel sync small batches and passes it the large ones.
"""

import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Protocol

import trio

from bargetrio.raft.records import Record


class SyncedLog(Protocol):
    """The part of the write-ahead log that a persister needs."""

    def write(self, records: Sequence[Record]) -> None:
        """Write and sync; raises OSError, and after that on every call."""
        ...


class Persister(Protocol):
    """Writes in the background; ends each write with exactly one call of `on_done`, in any thread, unless fenced."""

    def begin(self, number: int, records: Sequence[Record]) -> None:
        """Start write `number`; at most one is in flight."""
        ...

    def fence(self) -> None:
        """Write and report nothing any more; a sync in flight can't be stopped."""
        ...

    async def aclose(self) -> None:
        """Fence, and return when no thread uses the folder any more."""
        ...


OnDone = Callable[[int, OSError | None], None]
_Job = tuple[int, Sequence[Record]]


class ThreadPersister:
    """Writes in one worker thread, and reports from there."""

    def __init__(self, log: SyncedLog, on_done: OnDone, name: str) -> None:
        self._log = log
        self._on_done = on_done
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._fenced = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def begin(self, number: int, records: Sequence[Record]) -> None:
        """Pass the records to the thread."""
        self._jobs.put((number, records))

    def fence(self) -> None:
        """Drop a write that has not begun."""
        self._fenced = True
        self._jobs.put(None)

    async def aclose(self) -> None:
        """Wait for the thread, cancelled or not: the folder must have no writer when it is opened again."""
        self.fence()
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._thread.join)

    def _run(self) -> None:
        while True:
            job = self._jobs.get()
            if job is None or self._fenced:
                return
            number, records = job
            failure: OSError | None = None
            try:
                self._log.write(records)
            except Exception as problem:
                failure = as_failure(problem)
            if self._fenced:
                return
            self._on_done(number, failure)
            if failure is not None:
                return


def as_failure(problem: Exception) -> OSError:
    """Return the failure to report: a bug in the log code ends the node like a failed disk."""
    return problem if isinstance(problem, OSError) else OSError(f"{type(problem).__name__}: {problem}")
