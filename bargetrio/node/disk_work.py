"""A node's blocking disk code runs outside the loop: the port for it, and the threads of the product."""

from collections.abc import Callable
from typing import Final, Protocol, TypeVar

import trio

from bargetrio.node.kernel_persister import SplitLog, SyncFaults, with_kernel_syncs
from bargetrio.node.persister import OnDone, Persister, SyncedLog, ThreadPersister
from bargetrio.replica.figures import Histogram
from bargetrio.transport.poller import Poller

T = TypeVar("T")

THREADS: Final = 8
"""Threads for blocking disk work of one life of a node, beside the one that writes its log."""


class DiskWork(Protocol):
    """Runs a node's blocking disk code: in threads, or in a simulation after a delay in virtual time."""

    async def call(self, work: Callable[[], T]) -> T:
        """Run `work` outside the loop; not cancellable while it runs."""
        ...

    def persister(self, log: SyncedLog, on_done: OnDone, name: str) -> Persister:
        """Return a persister for `log`."""
        ...

    def with_kernel_syncs(
        self,
        thread: Persister,
        log: SplitLog,
        poller: Poller,
        on_done: OnDone,
        fsync: Histogram,
        faults: SyncFaults | None = None,
    ) -> Persister:
        """Return a persister that writes small batches in the loop and large ones by `thread`; else `thread`."""
        ...


class ThreadWork:
    """Runs it in threads, at most THREADS for each node: a hanging disk occupies its own node's threads only."""

    def __init__(self) -> None:
        self._limiter = trio.CapacityLimiter(THREADS)

    async def call(self, work: Callable[[], T]) -> T:
        """Run `work` in a thread; not cancellable."""
        return await trio.to_thread.run_sync(work, limiter=self._limiter)

    def persister(self, log: SyncedLog, on_done: OnDone, name: str) -> Persister:
        """Return a persister with a thread of its own."""
        return ThreadPersister(log, on_done, name)

    def with_kernel_syncs(
        self,
        thread: Persister,
        log: SplitLog,
        poller: Poller,
        on_done: OnDone,
        fsync: Histogram,
        faults: SyncFaults | None = None,
    ) -> Persister:
        """Return a persister with asynchronous syncs by the kernel, if supported."""
        return with_kernel_syncs(thread, log, poller, on_done, fsync, faults)
