"""A daemon that writes down how long each batch's write and sync took: `python -m tests.stories.timed_daemon FILE serve ...`.

The histogram of /metrics has these durations by bucket only, and a bucket's bound is up to 2.5 times what was in it.
"""

import sys
import time
from pathlib import Path
from typing import NamedTuple, TextIO

from bargetrio.cli import main
from bargetrio.replica.figures import Histogram, NodeFigures


class Sync(NamedTuple):
    """When a write and sync ended, by the monotonic clock that all processes share, and how long it took, in seconds."""

    ended_at: float
    seconds: float


class RecordedHistogram(Histogram):
    """Also appends each observation to a file; one write(2) a line, so that threads may share it."""

    __slots__ = ("_file",)

    def __init__(self, file: TextIO) -> None:
        super().__init__()
        self._file = file

    def observe(self, seconds: float) -> None:
        """Count one, and write it down."""
        super().observe(seconds)
        self._file.write(f"{time.monotonic()!r} {seconds!r}\n")


def record_syncs(path: Path) -> None:
    """Have the figures of all nodes of this process write to `path`."""
    file = path.open("a", buffering=1)
    begin = NodeFigures.__init__

    def begin_recorded(figures: NodeFigures) -> None:
        begin(figures)
        figures.fsync = RecordedHistogram(file)

    NodeFigures.__init__ = begin_recorded  # type: ignore[assignment, method-assign]  # the only place that knows how each one begins


def slowest_sync_s(path: Path, began: float, ended: float) -> float:
    """Return the longest of the syncs that ran at some time between two moments of the monotonic clock; 0 if none did."""
    syncs = [Sync(*map(float, line.split())) for line in path.read_text().splitlines()]
    return max((sync.seconds for sync in syncs if sync.ended_at >= began and sync.ended_at - sync.seconds <= ended), default=0.0)


if __name__ == "__main__":
    record_syncs(Path(sys.argv.pop(1)))
    main()
