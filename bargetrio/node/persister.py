"""The Persister: one write at a time, beside the loop, so that nothing but promises waits for the disk.

`ThreadPersister` is the real one: a single worker thread a node, which does one encode, one write and one sync a batch. The
log code below it is plain blocking code and never knows.
"""

import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Protocol, TypeVar

import trio

from bargetrio.raft.records import Record

T = TypeVar("T")


class StorageFailed(Exception):
    """A write or sync failed. Nothing is retried: whether the bytes are there can't be known any more (BUG-51)."""


class Log(Protocol):
    """What the persister needs of the write-ahead log."""

    def write(self, records: Sequence[Record]) -> None:
        """Write and sync; raises OSError once and for all."""
        ...


class Persister(Protocol):
    """Writes in the background; ends each write with exactly one call of `on_done`, in whichever thread, unless fenced."""

    def begin(self, number: int, records: Sequence[Record]) -> None:
        """Start write `number`; at most one is in flight."""
        ...

    def fence(self) -> None:
        """From now on nothing is written and nothing is reported; a sync that runs already can't be stopped."""
        ...

    async def aclose(self) -> None:
        """Fence, and return when no thread touches the folder any more."""
        ...


class DiskWork(Protocol):
    """Where a node's blocking disk code runs: really in threads, in a simulation after a virtual moment."""

    async def call(self, work: Callable[[], T]) -> T:
        """Run `work` beside the loop; must not be cancelled half-way."""
        ...

    def persister(self, log: Log, on_done: "OnDone", name: str) -> Persister:
        """Return what writes `log`."""
        ...


class ThreadWork:
    """In threads."""

    async def call(self, work: Callable[[], T]) -> T:
        """Run it in one of trio's."""
        return await trio.to_thread.run_sync(work)

    def persister(self, log: Log, on_done: "OnDone", name: str) -> Persister:
        """Write in a thread of the node's own."""
        return ThreadPersister(log, on_done, name)


OnDone = Callable[[int, OSError | None], None]
_Job = tuple[int, Sequence[Record]]


class ThreadPersister:
    """Writes in one worker thread, and reports from there."""

    def __init__(self, log: Log, on_done: OnDone, name: str) -> None:
        self._log = log
        self._on_done = on_done
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._fenced = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def begin(self, number: int, records: Sequence[Record]) -> None:
        """Hand the records to the thread."""
        self._jobs.put((number, records))

    def fence(self) -> None:
        """Drop what has not begun."""
        self._fenced = True
        self._jobs.put(None)

    async def aclose(self) -> None:
        """Wait for the thread, cancelled or not: the folder must have no writer when somebody opens it again."""
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
            except OSError as problem:
                failure = problem
            except Exception as problem:  # a bug in the log code ends the node as a failed disk does
                failure = OSError(f"{type(problem).__name__}: {problem}")
            if self._fenced:
                return
            self._on_done(number, failure)
            if failure is not None:
                return
