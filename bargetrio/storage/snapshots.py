"""Snapshot files: the state machine at one index, as lines of text with checksums (docs/storage_format.md).

```
snapshots/0000000000012345-7.snap    complete and synced before it was renamed; the newest one is used
snapshots/taking                     this node saves its state
snapshots/receiving                  from a leader; installed together with a change of the write-ahead log (wal.py)
```
The first line has the metadata, the last one shows that the file is complete. The lines between them are the state machine's, and
opaque to storage.
"""

import re
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from typing import Final, Protocol
from zlib import crc32

import msgspec
from msgspec import Struct

from bargetrio.raft.messages import Index, Natural, NodeId, SnapshotMeta, Term
from bargetrio.raft.standing import Configuration
from bargetrio.storage.disk import Disk, DiskFile, write_all
from bargetrio.storage.errors import DamagedSnapshot
from bargetrio.storage.lines import HEADER, BadLine, decode_line, encode_line, line_length

FORMAT: Final = 2
SYNC_BYTES: Final = 8 * 1024 * 1024
"""A long file is synced piece by piece, so that no sync of the log beside it waits for all of it."""
READ_BYTES: Final = 1024 * 1024
TAKING: Final = "snapshots/taking"
RECEIVING: Final = "snapshots/receiving"

_NAME: Final = re.compile(r"(\d{16,})-(\d+)\.snap")

Take = Callable[[bytes], object]
"""Takes the state machine's lines, in order."""


class SnapshotStart(Struct, frozen=True, kw_only=True, tag_field="record", tag="snapshot", forbid_unknown_fields=True):
    """A snapshot's first line: cluster, index, term, digest and members of the state."""

    format: int = FORMAT
    cluster: str
    members: tuple[NodeId, ...]
    last_index: Index
    last_term: Term
    digest: Natural
    configuration: Configuration | None = None
    """The newest one in the log up to there; a file of format 1 has none."""


class SnapshotEnd(Struct, frozen=True, kw_only=True, tag_field="record", tag="end", forbid_unknown_fields=True):
    """A snapshot's last line: the number of lines of state before it, and the CRC-32 of all lines before it."""

    lines: Natural
    checksum: Natural


class Source(Protocol):
    """A file to be read in chunks."""

    def read_part(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes from `offset`, fewer only at the end."""
        ...


class FolderFile:
    """A file of a node's folder."""

    def __init__(self, disk: Disk, path: str) -> None:
        self._disk = disk
        self._path = path

    def read_part(self, offset: int, size: int) -> bytes:
        """Read."""
        return self._disk.read_part(self._path, offset, size)


def snapshot_name(last_index: Index, last_term: Term) -> str:
    """Return the path of the snapshot of this index and term."""
    return f"snapshots/{last_index:016d}-{last_term}.snap"


def snapshot_labels(disk: Disk) -> list[tuple[Index, Term]]:
    """Return index and term of all complete snapshots, oldest first; a file of any other name is ignored."""
    if not disk.exists("snapshots"):
        return []
    found = [match for match in map(_NAME.fullmatch, disk.list("snapshots")) if match is not None]
    return sorted((int(match[1]), int(match[2])) for match in found)


def read_piece(disk: Disk, snapshot: SnapshotMeta, offset: int, size: int) -> bytes | None:
    """Return a chunk of a snapshot's file; None if it was deleted meanwhile, as it may be once no follower needs it."""
    try:
        return disk.read_part(snapshot_name(snapshot.last_index, snapshot.last_term), offset, size)
    except FileNotFoundError:
        return None


def remove_snapshots(disk: Disk, keep: Collection[Index]) -> None:
    """Delete the snapshots that are older than the newest of `keep`, but those in it; never a newer one."""
    for last_index, last_term in snapshot_labels(disk):
        if last_index < max(keep) and last_index not in keep:
            disk.remove(snapshot_name(last_index, last_term))


def discard_unfinished(disk: Disk) -> None:
    """Delete the file of a snapshot that was given up; raises OSError."""
    if disk.exists(TAKING):
        disk.remove(TAKING)


class SnapshotWriter:
    """Saves a state, line by line; it becomes a snapshot with `finish`. Every call may raise OSError."""

    def __init__(self, disk: Disk, start: SnapshotStart) -> None:
        disk.make_dir("snapshots")
        self._disk = disk
        self._start = start
        self._file = _create(disk, TAKING)
        self._size = self._synced = self._lines = self._checksum = 0
        self._write(msgspec.json.encode(start))

    def add(self, payload: bytes) -> None:
        """Add a line of the state machine."""
        self._lines += 1
        self._write(payload)

    def finish(self) -> SnapshotMeta:
        """Write the last line, sync, and rename the file: from then on it is a snapshot."""
        self._write(msgspec.json.encode(SnapshotEnd(lines=self._lines, checksum=self._checksum)))
        self._file.sync()
        self._file.close()
        start = self._start
        self._disk.rename(TAKING, snapshot_name(start.last_index, start.last_term))
        self._disk.sync_dir("snapshots")
        self._disk.sync_dir("")
        return _meta(start, self._size, self._checksum)

    def abandon(self) -> None:
        """Close without finishing; the next snapshot overwrites the file."""
        with suppress(OSError):
            self._file.close()

    def _write(self, payload: bytes) -> None:
        line = encode_line(payload)
        write_all(self._file, self._size, line)
        self._size += len(line)
        self._checksum = crc32(line, self._checksum)
        if self._size - self._synced >= SYNC_BYTES:
            self._file.sync()
            self._synced = self._size


class SnapshotReceiver:
    """Stores a leader's snapshot, chunk by chunk, each one synced. Every call may raise OSError."""

    def __init__(self, disk: Disk, cluster: str) -> None:
        self._disk = disk
        self._cluster = cluster
        self._file: DiskFile | None = None
        self._snapshot: SnapshotMeta | None = None
        self._stored = self._checksum = 0

    def store(self, snapshot: SnapshotMeta, offset: int, data: bytes) -> int:
        """Add a chunk; return how many bytes are stored. After the last chunk: 0 unless the file matches `snapshot`.

        A chunk without data deletes the file.
        """
        if not data:
            self._delete()
            return 0
        if offset == 0:
            self._begin(snapshot)
        assert self._file is not None and offset == self._stored, "pieces come in order"
        assert snapshot == self._snapshot, "a file has pieces of one snapshot only"
        write_all(self._file, offset, data)
        self._file.sync()
        self._stored += len(data)
        self._checksum = crc32(data, self._checksum)
        if self._stored < snapshot.size:
            return self._stored
        stored = self._stored
        if not self._is_whole(snapshot):
            self._delete()
            return 0
        self.close()  # an open file occupies the disk though its name is deleted
        return stored

    def close(self) -> None:
        """Close the descriptor."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None
        self._snapshot = None
        self._stored = self._checksum = 0

    def _delete(self) -> None:
        self.close()
        if self._disk.exists(RECEIVING):
            self._disk.remove(RECEIVING)

    def _begin(self, snapshot: SnapshotMeta) -> None:
        self.close()
        self._snapshot = snapshot
        self._disk.make_dir("snapshots")
        self._file = _create(self._disk, RECEIVING)

    def _is_whole(self, snapshot: SnapshotMeta) -> bool:
        if (self._stored, self._checksum) != (snapshot.size, snapshot.checksum):
            return False
        try:
            start = SnapshotReader(FolderFile(self._disk, RECEIVING), RECEIVING).start
        except DamagedSnapshot:
            return False
        return start.cluster == self._cluster and _meta(start, snapshot.size, snapshot.checksum) == snapshot


def install(disk: Disk, snapshot: SnapshotMeta) -> None:
    """Rename the received snapshot: from then on it is a snapshot of this node."""
    disk.rename(RECEIVING, snapshot_name(snapshot.last_index, snapshot.last_term))
    disk.sync_dir("snapshots")
    disk.sync_dir("")


class SnapshotReader:
    """Iterates over the lines of the state, verifying each line and the whole file; raises DamagedSnapshot, OSError."""

    def __init__(self, source: Source, name: str) -> None:
        self._lines = _payloads(source, name)
        self._name = name
        self._meta: SnapshotMeta | None = None
        first = next(self._lines, None)
        if first is None:
            raise DamagedSnapshot(f"{name} is empty")
        self.start = _start(first, name)
        self._size = len(encode_line(first))
        self._checksum = crc32(encode_line(first))

    @property
    def meta(self) -> SnapshotMeta:
        """The file's metadata; available when all lines have been read."""
        assert self._meta is not None, "not read to its end"
        return self._meta

    def __iter__(self) -> Iterator[bytes]:
        """Yield the state's lines, once."""
        waiting: bytes | None = None
        lines = before = 0
        for payload in self._lines:
            if waiting is not None:
                lines += 1
                yield waiting
            waiting = payload  # held back: the last line is not part of the state
            line = encode_line(payload)
            before, self._checksum = self._checksum, crc32(line, self._checksum)
            self._size += len(line)
        end = None if waiting is None else _end(waiting)
        if end is None:
            raise DamagedSnapshot(f"{self._name} is cut off: it has no end record after {self._size} bytes")
        if (end.lines, end.checksum) != (lines, before):
            raise DamagedSnapshot(f"{self._name} is not whole: its end record speaks of {end.lines} lines, {lines} are there")
        self._meta = _meta(self.start, self._size, self._checksum)


def read_snapshot(source: Source, name: str, take: Take) -> tuple[SnapshotStart, SnapshotMeta]:
    """Read the file, passing each line of the state to `take`. Raise DamagedSnapshot, OSError."""
    reader = SnapshotReader(source, name)
    for payload in reader:
        take(payload)
    return reader.start, reader.meta


def copy_snapshot(source: Source, name: str, writer: SnapshotWriter) -> SnapshotMeta:
    """Copy the state of a snapshot to `writer`; return the new file's metadata. Raise DamagedSnapshot, OSError."""
    read_snapshot(source, name, writer.add)
    return writer.finish()


def _payloads(source: Source, name: str) -> Iterator[bytes]:
    """Yield the lines' payloads, reading a block at a time."""
    data, offset = b"", 0
    while True:
        place = 0
        while (length := line_length(data, place)) is not None and place + length <= len(data):
            try:
                payload = decode_line(data, place)
            except BadLine as bad:
                raise DamagedSnapshot(f"{name} is damaged at byte {offset + place}: {bad}") from None
            yield payload
            place += length
        offset, data = offset + place, data[place:]
        more = source.read_part(offset + len(data), READ_BYTES)
        if not more:
            break
        if len(data) >= HEADER and line_length(data, 0) is None:
            break
        data += more
    if data:
        raise DamagedSnapshot(f"{name} is damaged at byte {offset}: no whole record begins here")


def _start(payload: bytes, name: str) -> SnapshotStart:
    try:
        start = msgspec.json.decode(payload, type=SnapshotStart)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise DamagedSnapshot(f"{name} does not begin as a snapshot: {problem}") from None
    if start.format > FORMAT:
        raise DamagedSnapshot(f"{name} has format {start.format}; this program knows {FORMAT}: a newer Barge wrote it")
    return start


def _end(payload: bytes) -> SnapshotEnd | None:
    with suppress(msgspec.DecodeError, UnicodeDecodeError):
        return msgspec.json.decode(payload, type=SnapshotEnd)
    return None


def _meta(start: SnapshotStart, size: int, checksum: int) -> SnapshotMeta:
    return SnapshotMeta(
        last_index=start.last_index,
        last_term=start.last_term,
        digest=start.digest,
        members=start.members,
        configuration=start.configuration,
        size=size,
        checksum=checksum,
    )


def _create(disk: Disk, path: str) -> DiskFile:
    if disk.exists(path):
        disk.remove(path)
    return disk.open(path, create=True)
