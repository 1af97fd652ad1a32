"""Restore of a node's folder from a backup: a new cluster begins with an old one's state.

The same file is restored for every node of the new cluster. The folder is made beside its final path and renamed last, so that
no node can start on an interrupted restore, and the same command can be run again.
"""

import errno
import os
import shutil
import stat
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
UNFINISHED = ".restoring-"
"""How the folder begins that a restore into a mount point makes in it; one is left by SIGKILL or a power failure only."""


class UserFile:
    """A file at any path, which the user has chosen; raises OSError."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read_part(self, offset: int, size: int) -> bytes:
        """Read."""
        # Without O_NONBLOCK opening a pipe blocks until it has a writer.
        with open(os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError(errno.EINVAL, "it is no regular file", str(self._path))
            file.seek(offset)
            return file.read(size)


def is_in_use(folder: Path) -> bool:
    """Return whether `folder` exists and is not an empty folder; lost+found and an unfinished restore are not counted.

    A symbolic link to an empty folder is free, a dangling one is in use.
    """
    if not folder.exists():
        return folder.is_symlink()
    return not folder.is_dir() or any(map(_is_counted, folder.iterdir()))


def _is_counted(entry: Path) -> bool:
    return entry.name != LOST_AND_FOUND and not entry.name.startswith(UNFINISHED)


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
    """Make the folder of `node_id` from a backup; raise StorageError if it exists or the file is damaged, or OSError.

    The state is the backup's; cluster, members and store id are the new cluster's. The node begins in the backup's term, unborn:
    it votes once all members, restored from the same backup, have been introduced to each other.
    """
    if is_in_use(folder):
        raise StorageError(f"{folder} is not empty: a backup is restored into a new cluster only")
    folder = folder.resolve()
    is_there = folder.exists()  # maybe a mount point, which can't be replaced: its files are renamed one by one
    beside = folder / f"{UNFINISHED}{os.getpid()}" if is_there else folder.with_name(f"{folder.name}.restoring-{os.getpid()}")
    for left in (*folder.glob(f"{UNFINISHED}*"), beside):
        shutil.rmtree(left, ignore_errors=True)
    try:
        snapshot = _make(beside, source, name, cluster, node_id, tuple(sorted(members)), make_store_id)
        if is_there:
            _move(beside, folder)
        else:
            beside.rename(folder)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    _sync(folder if is_there else folder.parent)
    return snapshot


def _make(
    place: Path,
    source: Source,
    name: str,
    cluster: str,
    node_id: NodeId,
    members: tuple[NodeId, ...],
    make_store_id: Callable[[], str],
) -> SnapshotMeta:
    """Make a node's folder in `place`, synced; if this raises, the caller deletes the rest."""
    reader = SnapshotReader(source, name)
    label = reader.start
    disk = RealDisk(place)
    origin = origin_of_backup(label.last_index, label.last_term, label.digest)
    log = open_folder(disk, cluster, node_id, make_store_id, members=members, origin=origin)
    try:
        log.write([HardState(term=label.last_term)])
        start = SnapshotStart(
            cluster=cluster,
            members=members,
            last_index=label.last_index,
            last_term=label.last_term,
            digest=label.digest,
        )
        writer = SnapshotWriter(disk, start)
        for line in reader:
            writer.add(line)
        return writer.finish()
    finally:
        log.close()


def _move(source: Path, folder: Path) -> None:
    """Move all files; `meta` last, as no node starts without it."""
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
