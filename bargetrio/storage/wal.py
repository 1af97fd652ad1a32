"""The write-ahead log: hard state, entries and truncations of one node, as lines of text in segments.

```
wal/0000000000000001.log   trimmed and synced when the next one began
wal/0000000000000002.log   the last one: preallocated, zeros behind its end
```
`write` is one write and one sync. After a failed one nothing is retried: what the disk holds is unknown until the next recovery,
which writes the last segment anew (BUG-51).
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import msgspec

from bargetrio.raft.records import Append, HardState, Record, Remembered, Truncate
from bargetrio.storage.disk import Disk, DiskFile
from bargetrio.storage.errors import StorageError
from bargetrio.storage.folder import Folder
from bargetrio.storage.lines import encode_line
from bargetrio.storage.recovery import Recovered, SegmentStart, recover, segment_name

SEGMENT_BYTES: Final = 16 * 1024 * 1024

_encode: Final = msgspec.json.Encoder().encode


class OpenFolder:
    """A node's folder, locked, recovered and synced; what it remembers, and the way to remember more."""

    def __init__(self, disk: Disk, folder: Folder, recovered: Recovered, segment_bytes: int) -> None:
        self.store_id = folder.store_id
        self.remembered: Remembered = recovered.remembered
        self.repaired = recovered.repaired
        """What recovery cut off, in words; "" if nothing."""
        self._disk = disk
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._hard_state: HardState = recovered.remembered.hard_state
        self._next_index = len(recovered.remembered.entries) + 1
        self._sequence = recovered.sequence
        self._offset = 0
        self._size = 0
        self._failed = ""
        self._file: DiskFile = self._renew_last_segment(recovered)

    def write(self, records: Sequence[Record]) -> None:
        """Write and sync; raises OSError, and from then on always."""
        if self._failed:
            raise OSError(f"the log failed before: {self._failed}")
        try:
            line = encode_line(_encode(records))
            if self._offset + len(line) > self._size:
                self._roll(len(line))
            self._write_all(line)
            self._file.sync()
        except OSError as problem:
            self._failed = problem.strerror or str(problem)
            raise
        self._note(records)

    def known_stores(self) -> dict[int, str]:
        """Return the store id of each peer that was ever met."""
        return self._folder.known_stores

    def remember_store(self, peer_id: int, store_id: str) -> None:
        """Keep the store id of a peer met for the first time; raises OSError."""
        self._folder.remember_store(peer_id, store_id)

    def close(self) -> None:
        """Give file and lock back; writes nothing."""
        with suppress(OSError):
            self._file.close()
        self._disk.unlock()

    def _note(self, records: Sequence[Record]) -> None:
        for record in records:
            match record:
                case HardState():
                    self._hard_state = record
                case Append():
                    self._next_index = record.first_index + len(record.entries)
                case Truncate():
                    self._next_index = record.from_index

    def _write_all(self, data: bytes) -> None:
        """Write everything at the end; a short write is continued, the error after it stops."""
        while data:
            written = self._file.write_at(self._offset, data)
            if written <= 0:
                raise OSError(5, "the disk takes no more bytes and gives no error")
            self._offset += written
            data = data[written:]

    def _roll(self, needed: int) -> None:
        """Trim and sync the full segment, then begin the next one; its name is on the disk before its first record."""
        self._file.truncate(self._offset)
        self._file.sync()
        self._file.close()
        self._sequence += 1
        self._file = self._disk.open(segment_name(self._sequence), create=True)
        self._begin(self._file, needed)
        self._file.sync()
        self._disk.sync_dir("wal")

    def _begin(self, file: DiskFile, needed: int) -> None:
        start = SegmentStart(sequence=self._sequence, next_index=self._next_index, hard_state=self._hard_state)
        line = encode_line(_encode([start]))
        self._size = max(self._segment_bytes, len(line) + needed)
        self._offset = 0
        file.preallocate(self._size)
        self._file = file
        self._write_all(line)

    def _renew_last_segment(self, recovered: Recovered) -> DiskFile:
        """Write the last segment again: bytes read after a crash, or after a failed sync, need not be on the disk."""
        name, temporary = segment_name(recovered.sequence), "wal/new"
        if self._disk.exists(temporary):
            self._disk.remove(temporary)
        file = self._disk.open(temporary, create=True)
        self._size = max(self._segment_bytes, len(recovered.last_segment))
        file.preallocate(self._size)
        self._file = file
        if recovered.last_segment:
            self._write_all(recovered.last_segment)
        else:
            self._begin(file, 0)
        file.sync()
        self._disk.rename(temporary, name)
        self._disk.sync_dir("wal")
        self._disk.sync_dir("")
        return file


def open_folder(
    disk: Disk,
    cluster: str,
    node_id: int,
    make_store_id: Callable[[], str],
    *,
    segment_bytes: int = SEGMENT_BYTES,
) -> OpenFolder:
    """Lock the folder, check whose it is, recover the log, and return it; raise StorageError or OSError.

    Nothing is answered from what it remembers before everything of it is synced: when this returns, it is.
    """
    disk.lock()
    try:
        folder = Folder(disk, cluster, node_id, make_store_id)
        return OpenFolder(disk, folder, recover(disk), segment_bytes)
    except BaseException as problem:
        disk.unlock()
        if isinstance(problem, OSError):
            raise StorageError(f"the folder of node {node_id} can't be used: {problem.strerror or problem}") from problem
        raise
