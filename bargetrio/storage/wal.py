"""The write-ahead log: hard state, entries and truncations of one node, as lines of text in segments.

```
wal/0000000000000001.log   truncated to its content and synced when the next one was begun
wal/0000000000000002.log   the last one: preallocated, zeros after its end
```
`write` is one write and one sync. After a failure nothing is retried: the content of the disk is unknown until the next recovery,
which rewrites the last segment (BUG-51).
"""

import threading
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import Final

import msgspec
from msgspec import structs

from bargetrio.raft.messages import Index, NodeId, SnapshotMeta
from bargetrio.raft.records import Append, HardState, Install, Record, Remembered, Truncate
from bargetrio.raft.standing import EARLIER, EMPTY, Standing, origin_of_backup
from bargetrio.storage.disk import Disk, DiskFile
from bargetrio.storage.errors import DamagedLog, StorageError, WrongFolder
from bargetrio.storage.folder import Folder, listed
from bargetrio.storage.lines import encode_line
from bargetrio.storage.recovery import LogEnd, Recovered, SegmentStart, recover, segment_name
from bargetrio.storage.snapshots import (
    RECEIVING,
    TAKING,
    FolderFile,
    Take,
    install,
    read_snapshot,
    remove_snapshots,
    snapshot_labels,
    snapshot_name,
)

SEGMENT_BYTES: Final = 16 * 1024 * 1024

_encode: Final = msgspec.json.Encoder().encode


class OpenFolder:
    """A node's folder, locked, recovered and synced: the persistent state, and the writes to it."""

    def __init__(self, disk: Disk, folder: Folder, recovered: Recovered, segment_bytes: int) -> None:
        self.remembered: Remembered = recovered.remembered
        self.repaired = recovered.repaired
        """What recovery cut off, in words; "" if nothing."""
        self.was_superseded = recovered.is_superseded
        """Whether a crash came after a leader's snapshot had got its name and before the log was begun anew."""
        self._disk = disk
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._hard_state: HardState = recovered.remembered.hard_state
        self._end = recovered.end
        self._segments = recovered.segments
        self._guard = threading.Lock()
        """`trim` comes from another thread than `write`."""
        self._removing = threading.Lock()
        """Both may remove segments: one after another, the oldest first."""
        self._offset = 0
        self._size = 0
        self._failed: OSError | None = None
        self._file: DiskFile = self._renew_last_segment(recovered)
        if recovered.is_superseded and self.remembered.snapshot is not None:
            self._begin_anew_after(self.remembered.snapshot)

    def release_recovered(self) -> None:
        """Free the recovered state, once the core has it."""
        self.remembered = Remembered(hard_state=self.remembered.hard_state)

    def write(self, records: Sequence[Record]) -> None:
        """Write and sync; raises OSError, and after that on every call.

        Atomic: after a crash all records are there or none. With an `Install`, which changes files, there are three steps: the
        records before it, the snapshot, the records after it.
        """
        self._check_not_failed()
        try:
            for place, record in enumerate(records):
                if type(record) is Install:
                    self._write_line(records[:place])
                    self._install(record.snapshot)
                    records = records[place + 1 :]
                    break
            self._write_line(records)
        except OSError as problem:
            self.note_failed(problem)
            raise

    def write_unsynced(self, records: Sequence[Record]) -> int | None:
        """Write without a sync, if possible, and return the descriptor of the file to be synced.

        Nothing else may be written or acknowledged until `note_synced` or `note_failed` is called. None: nothing was written;
        call `write`, since a new segment begins, a snapshot is installed, or the file has no descriptor. Raises OSError as
        `write` does.
        """
        self._check_not_failed()
        descriptor = self._file.descriptor
        if descriptor is None or any(isinstance(record, Install) for record in records):
            return None
        line = encode_line(_encode(records))
        if self._offset + len(line) > self._size:
            return None
        try:
            self._write_all(line)
        except OSError as problem:
            self.note_failed(problem)
            raise
        return descriptor

    def note_synced(self, records: Sequence[Record]) -> None:
        """Note that the write of `write_unsynced` is synced."""
        self._note(records)

    def note_failed(self, problem: OSError) -> None:
        """Note that a write or sync failed: every later write raises the same errno (BUG-51), as a full disk may pass."""
        if self._failed is None:
            self._failed = OSError(problem.errno, f"the log failed before: {problem.strerror or problem}")

    def trim(self, first_index: Index, keep: Collection[Index]) -> None:
        """Delete the segments without entries from `first_index` on, and all older snapshots but those in `keep`.

        May run concurrently with `write`, in another thread; raises OSError.
        """
        while self._drop_first_segment(first_index):
            pass
        remove_snapshots(self._disk, keep)

    @property
    def earlier_stores(self) -> dict[int, str]:
        """Return the peers' store ids that an earlier version has recorded in the folder."""
        return self._folder.earlier_stores

    @property
    def standing(self) -> Standing:
        """Return this store's standing, as it is on the disk."""
        return self._folder.standing

    def write_standing(self, standing: Standing) -> None:
        """Write it to `meta` and sync; raises OSError. One call of this or `replace_store` at a time."""
        self._folder.write_standing(standing)

    def replace_store(self) -> Standing:
        """Give the folder a new store id, as it lost entries that it had acknowledged; raises OSError."""
        return self._folder.replace_store()

    def close(self) -> None:
        """Close the file and release the lock; writes nothing."""
        with suppress(OSError):
            self._file.close()
        self._disk.unlock()

    def _check_not_failed(self) -> None:
        if self._failed is not None:
            raise OSError(*self._failed.args)

    def _write_line(self, records: Sequence[Record]) -> None:
        if records:
            line = encode_line(_encode(records))
            if self._offset + len(line) > self._size:
                self._roll(len(line))
            self._write_all(line)
            self._file.sync()
            self._note(records)

    def _note(self, records: Sequence[Record]) -> None:
        for record in records:
            match record:
                case HardState():
                    self._hard_state = record
                case Append():
                    last = record.first_index + len(record.entries) - 1
                    self._end = LogEnd(index=last, term=record.entries[-1].term, digest=record.digest)
                case Truncate():
                    self._end = LogEnd(index=record.from_index - 1, term=record.last_term, digest=record.digest)
                case Install():
                    raise AssertionError("an installation is no line")

    def _install(self, snapshot: SnapshotMeta) -> None:
        """Install the received snapshot, then begin the log anew; recovery completes this after a crash in between."""
        install(self._disk, snapshot)
        self._begin_anew_after(snapshot)

    def _begin_anew_after(self, snapshot: SnapshotMeta) -> None:
        self._end = LogEnd(index=snapshot.last_index, term=snapshot.last_term, digest=snapshot.digest)
        self._roll(0, after_snapshot=True)
        while self._drop_first_segment(snapshot.last_index + 1):
            pass

    def _drop_first_segment(self, first_index: Index) -> bool:
        """Delete the oldest segment if it has no entry from `first_index` on; return whether it was deleted.

        Each removal is synced before the next one, also of another thread, and none follows a failed one: otherwise a crash could
        leave a gap between segments (OWN-18, OWN-23, OWN-35).
        """
        with self._removing:
            self._check_not_failed()
            with self._guard:
                if len(self._segments) < 2 or self._segments[1][1] > first_index:
                    return False
                sequence, _ = self._segments.pop(0)
            try:
                self._disk.remove(segment_name(sequence))
                self._disk.sync_dir("wal")
            except OSError as problem:  # the next one must not be deleted while this one may exist
                self.note_failed(problem)
                raise
            return True

    def _write_all(self, data: bytes) -> None:
        """Write all of `data` at the end, continuing after short writes; raises OSError."""
        while data:
            written = self._file.write_at(self._offset, data)
            if written <= 0:
                raise OSError(5, "the disk takes no more bytes and gives no error")
            self._offset += written
            data = data[written:]

    def _roll(self, needed: int, *, after_snapshot: bool = False) -> None:
        """Truncate and sync the full segment, then begin the next one; its name is synced before its first record is written."""
        self._file.truncate(self._offset)
        self._file.sync()
        self._file.close()
        sequence = self._segments[-1][0] + 1
        self._file = self._disk.open(segment_name(sequence), create=True)
        self._begin(self._file, sequence, needed, after_snapshot=after_snapshot)
        self._file.sync()
        self._disk.sync_dir("wal")
        with self._guard:  # only now: `trim` may delete the previous one, and with it term and vote (OWN-21)
            self._segments.append((sequence, self._end.index + 1))

    def _begin(self, file: DiskFile, sequence: int, needed: int, *, after_snapshot: bool = False) -> None:
        end = self._end
        start = SegmentStart(
            sequence=sequence,
            next_index=end.index + 1,
            last_term=end.term,
            digest=end.digest,
            hard_state=self._hard_state,
            after_snapshot=after_snapshot,
        )
        line = encode_line(_encode([start]))
        self._size = max(self._segment_bytes, len(line) + needed)
        self._offset = 0
        file.preallocate(self._size)
        self._file = file
        self._write_all(line)

    def _renew_last_segment(self, recovered: Recovered) -> DiskFile:
        """Rewrite the last segment: bytes read after a crash, or after a failed sync, need not be on the disk."""
        name, temporary = segment_name(recovered.segments[-1][0]), "wal/new"
        if self._disk.exists(temporary):
            self._disk.remove(temporary)
        file = self._disk.open(temporary, create=True)
        self._size = max(self._segment_bytes, len(recovered.last_segment))
        file.preallocate(self._size)
        self._file = file
        if recovered.last_segment:
            self._write_all(recovered.last_segment)
        else:
            self._begin(file, recovered.segments[-1][0], 0)
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
    members: tuple[NodeId, ...] | None = None,
    origin: str = EMPTY,
    load: Take = lambda payload: None,
    segment_bytes: int = SEGMENT_BYTES,
) -> OpenFolder:
    """Lock the folder, check cluster, node and members, recover snapshot and log, and return it.

    `load` is called with each line of the newest snapshot's state. The folder's members, and the snapshot's, must be `members`.
    `origin`: a new folder's initial state (standing.py). When this returns, everything recovered is synced, so it may be
    acknowledged. Blocks; run it in a thread.

    Raises StorageError (FolderInUse, WrongFolder, DamagedLog, DamagedSnapshot), also for an OSError of the disk.
    """
    disk.lock()
    try:
        folder = Folder(disk, cluster, node_id, make_store_id, members=members, origin=origin)
        snapshot = _read_newest(disk, cluster, members, load)
        recovered = recover(disk, snapshot)
        if recovered.is_new and (folder.earlier_stores or folder.standing.identity):
            raise DamagedLog("the cluster is born, and there is no log: term and vote are lost (docs/operations.md)")
        if folder.standing.origin == EARLIER and not _has_voted_or_acknowledged(recovered.remembered):
            begun = EMPTY if snapshot is None else origin_of_backup(snapshot.last_index, snapshot.last_term, snapshot.digest)
            folder.write_standing(structs.replace(folder.standing, origin=begun))
        return OpenFolder(disk, folder, recovered, segment_bytes)
    except BaseException as problem:
        disk.unlock()
        if isinstance(problem, OSError):
            raise StorageError(f"the folder of node {node_id} can't be used: {problem.strerror or problem}") from problem
        raise


def _has_voted_or_acknowledged(remembered: Remembered) -> bool:
    """Return whether this folder of an earlier version may have given a vote or acknowledged an entry."""
    hard_state, snapshot = remembered.hard_state, remembered.snapshot
    begun_at = 0 if snapshot is None else snapshot.last_term
    return hard_state.voted_for is not None or hard_state.term != begun_at or len(remembered.entries) > 0


def _read_newest(disk: Disk, cluster: str, members: tuple[NodeId, ...] | None, load: Take) -> SnapshotMeta | None:
    """Load the newest snapshot; older and unfinished ones are deleted. A damaged one is an error, not skipped (BUG-34)."""
    for name in (TAKING, RECEIVING):
        if disk.exists(name):
            disk.remove(name)
    labels = snapshot_labels(disk)
    if not labels:
        return None
    # The log may be truncated for this snapshot, so its name must be durable: its writer may have died before syncing it
    # (OWN-17).
    disk.sync_dir("snapshots")
    disk.sync_dir("")
    name = snapshot_name(*labels[-1])
    start, snapshot = read_snapshot(FolderFile(disk, name), name, load)
    if start.cluster != cluster:
        raise WrongFolder(f"{name} belongs to cluster {start.cluster!r}, not {cluster!r}")
    if members is not None and start.members != tuple(sorted(members)):
        had, has = listed(start.members), listed(tuple(sorted(members)))
        raise WrongFolder(f"{name} is the state of a cluster of nodes {had}; the configuration names nodes {has}")
    remove_snapshots(disk, {snapshot.last_index})
    return snapshot
