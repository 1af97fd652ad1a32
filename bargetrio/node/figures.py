"""What is measured around a replica: a living node's sizes, and how long its log's writes take.

Nothing here decides anything, so what a clock tells may be kept without harm to repeatable runs.
"""

import time
from collections.abc import Callable, Sequence

from msgspec import Struct

from bargetrio.raft.records import Record
from bargetrio.replica.figures import Histogram


class NodeGauges(Struct, frozen=True, kw_only=True):
    """A living node's sizes at this moment."""

    keys: int
    log_entries: int
    log_bytes: int
    proposals_pending: int
    free_bytes: int | None
    """What its user can still write on the node's disk; None before it was first looked at."""
    lacks_room: bool
    """Whether that is so little that it proposes no writes."""
    oldest_write_s: float
    """For how long the write of the log that is in flight has run; 0 if there is none."""
    client_connections: int
    peer_connections: int


class TimedLog:
    """A write-ahead log whose writes are timed, where they happen: in the disk's thread; implements `persister.Log`."""

    def __init__(self, write: Callable[[Sequence[Record]], None], fsync: Histogram) -> None:
        self._write = write
        self._fsync = fsync

    def write(self, records: Sequence[Record]) -> None:
        """Write and sync; a failure took its time, too."""
        began = time.perf_counter()
        try:
            self._write(records)
        finally:
            self._fsync.observe(time.perf_counter() - began)
