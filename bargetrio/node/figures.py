"""Measurements around a replica: gauges of a running node, and the duration of its log's writes.

They influence no decision, so reading a clock here does not affect reproducible runs.
"""

import time
from collections.abc import Callable, Sequence

from msgspec import Struct

from bargetrio.raft.records import Record
from bargetrio.replica.figures import Histogram


class NodeGauges(Struct, frozen=True, kw_only=True):
    """A running node's present sizes."""

    keys: int
    log_entries: int
    log_bytes: int
    proposals_pending: int
    free_bytes: int | None
    """What its user can still write on the node's disk; None before the first check."""
    lacks_room: bool
    """Whether that is so little that it proposes no writes."""
    oldest_write_s: float
    """For how long the write of the log that is in flight has run; 0 if there is none."""
    client_connections: int
    peer_connections: int


class TimedLog:
    """A write-ahead log that measures its writes, in the disk's thread; implements `persister.SyncedLog`."""

    def __init__(self, write: Callable[[Sequence[Record]], None], fsync: Histogram) -> None:
        self._write = write
        self._fsync = fsync

    def write(self, records: Sequence[Record]) -> None:
        """Write and sync; failed writes are measured, too."""
        began = time.perf_counter()
        try:
            self._write(records)
        finally:
            self._fsync.observe(time.perf_counter() - began)
