"""A node's folder from a backup: a new cluster that begins with an old one's state.

The same file is restored for every node of the new cluster. The folder is made beside its final place and renamed last, so that
an interrupted restore leaves nothing that a node could start on.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from bargetrio.raft.messages import NodeId, SnapshotMeta
from bargetrio.raft.records import HardState
from bargetrio.raft.standing import origin_of_backup
from bargetrio.storage.errors import StorageError
from bargetrio.storage.real_disk import RealDisk
from bargetrio.storage.snapshots import SnapshotReader, SnapshotStart, SnapshotWriter, Source
from bargetrio.storage.wal import open_folder

LOST_AND_FOUND = "lost+found"


class FileOutside:
    """A file anywhere; raises OSError."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read_part(self, offset: int, size: int) -> bytes:
        """Read."""
        with self._path.open("rb") as file:
            file.seek(offset)
            return file.read(size)


def is_taken(folder: Path) -> bool:
    """Return whether `folder` exists and is not an empty folder; a file system's lost+found is not counted.

    A symbolic link to an empty folder is not taken, a link to nothing is.
    """
    if not folder.exists():
        return folder.is_symlink()
    return not folder.is_dir() or any(entry.name != LOST_AND_FOUND for entry in folder.iterdir())


def restore(
    source: Source,
    name: str,
    folder: Path,
    *,
    cluster: str,
    node_id: NodeId,
    members: tuple[NodeId, ...],
    make_store_id: Callable[[], str],
) -> SnapshotMeta:
    """Make the folder of `node_id` from a backup; raise StorageError where it exists or the file is damaged, or OSError.

    The state is the backup's; cluster, members and store id are the new cluster's. The node begins in the backup's term, unborn:
    it votes once all members have met that began with the same backup.
    """
    if is_taken(folder):
        raise StorageError(f"{folder} is not empty: a backup is restored into a new cluster only")
    folder = folder.resolve()
    is_there = folder.exists()  # it may be a mount point, which can't be replaced: its files are renamed one by one
    beside = folder / f".restoring-{os.getpid()}" if is_there else folder.with_name(f"{folder.name}.restoring-{os.getpid()}")
    shutil.rmtree(beside, ignore_errors=True)
    reader = SnapshotReader(source, name)
    label = reader.start
    disk = RealDisk(beside)
    origin = origin_of_backup(label.last_index, label.last_term, label.digest)
    log = open_folder(disk, cluster, node_id, make_store_id, members=tuple(sorted(members)), origin=origin)
    try:
        log.write([HardState(term=label.last_term)])
        start = SnapshotStart(
            cluster=cluster,
            members=tuple(sorted(members)),
            last_index=label.last_index,
            last_term=label.last_term,
            digest=label.digest,
        )
        writer = SnapshotWriter(disk, start)
        for line in reader:
            writer.add(line)
        snapshot = writer.finish()
    except BaseException:
        log.close()
        shutil.rmtree(beside, ignore_errors=True)
        raise
    log.close()
    try:
        if is_there:
            _move(beside, folder)
        else:
            beside.rename(folder)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    _sync(folder if is_there else folder.parent)
    return snapshot


def _move(source: Path, folder: Path) -> None:
    """Move all files; `meta` last, without which no node starts there."""
    for entry in source.iterdir():
        if entry.name != "meta":
            entry.rename(folder / entry.name)
    _sync(folder)
    (source / "meta").rename(folder / "meta")
    source.rmdir()


def _sync(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
