"""Reading a snapshot as a backup while the replica runs."""

from collections import Counter
from typing import Final

import trio

from bargetrio.node.disk_work import DiskWork
from bargetrio.raft.messages import Index, SnapshotMeta
from bargetrio.storage.disk import Disk
from bargetrio.storage.snapshots import snapshot_name

READERS: Final = 2
"""Pieces of backups that are read at once, however many clients fetch one: the node's own snapshots need threads, too."""
READ_BYTES: Final = 256 * 1024


class Backup:
    """Implements `running_node.BackupFile`. `pins` is `replica.jobs.SnapshotJobs.pins`: the file is kept until this is closed."""

    def __init__(
        self, snapshot: SnapshotMeta, disk: Disk, work: DiskWork, pins: Counter[Index], readers: trio.CapacityLimiter
    ) -> None:
        self.index, self.term = snapshot.last_index, snapshot.last_term
        self.size, self.checksum = snapshot.size, snapshot.checksum
        self._disk = disk
        self._work = work
        self._pins = pins
        self._readers = readers
        self._offset = 0
        pins[self.index] += 1

    async def read(self) -> bytes:
        """Return the next chunk, b"" at the end."""
        path = snapshot_name(self.index, self.term)
        async with self._readers:
            data = await self._work.call(lambda: self._disk.read_part(path, self._offset, READ_BYTES))
        self._offset += len(data)
        return data

    def close(self) -> None:
        """Release the file."""
        self._pins[self.index] -= 1
        if self._pins[self.index] <= 0:
            del self._pins[self.index]
