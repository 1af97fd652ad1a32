"""The Disk port on a real file system."""

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from bargetrio.storage.errors import FolderInUse, StorageError

_OPEN: Final = os.O_CLOEXEC | os.O_NOFOLLOW


class RealFile:
    """An open file of a node's folder."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @property
    def descriptor(self) -> int | None:
        """The file descriptor, None once it is closed."""
        return self._descriptor if self._descriptor >= 0 else None

    def write_at(self, offset: int, data: bytes) -> int:
        """Write at `offset`."""
        return os.pwrite(self._descriptor, data, offset)

    def preallocate(self, size: int) -> None:
        """Reserve the blocks, so that a full disk is reported here and not in the middle of a batch."""
        try:
            os.posix_fallocate(self._descriptor, 0, size)
        except OSError as problem:
            if problem.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
            os.ftruncate(self._descriptor, size)

    def truncate(self, size: int) -> None:
        """Truncate to `size`."""
        os.ftruncate(self._descriptor, size)

    def sync(self) -> None:
        """Return when the data is on the disk."""
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        """Close the descriptor, once only: its number may be another file's later."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class RealDisk:
    """A node's folder; created if it does not exist. Holds one descriptor of the folder and, when locked, one of the lock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._root: int | None = None
        self._lock: int | None = None

    def open(self, path: str, *, create: bool = False) -> RealFile:
        """Open for writing."""
        flags = os.O_RDWR | (os.O_CREAT | os.O_EXCL if create else 0) | _OPEN
        return RealFile(os.open(path, flags, 0o600, dir_fd=self._folder()))

    def read(self, path: str) -> bytes:
        """Return the whole file."""
        with os.fdopen(os.open(path, os.O_RDONLY | _OPEN, dir_fd=self._folder()), "rb") as file:
            return file.read()

    def read_part(self, path: str, offset: int, size: int) -> bytes:
        """Return a part of the file."""
        with os.fdopen(os.open(path, os.O_RDONLY | _OPEN, dir_fd=self._folder()), "rb", buffering=0) as file:
            file.seek(offset)
            parts: list[bytes] = []
            while size and (part := file.read(size)):
                parts.append(part)
                size -= len(part)
            return b"".join(parts)

    def exists(self, path: str) -> bool:
        """Return whether there is such a name."""
        try:
            os.stat(path, dir_fd=self._folder(), follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def list(self, folder: str) -> list[str]:
        """Return the names, sorted."""
        descriptor = self._open_folder(folder)
        try:
            return sorted(os.listdir(descriptor))
        finally:
            os.close(descriptor)

    def make_dir(self, folder: str) -> None:
        """Create the folder if it is not there."""
        with suppress(FileExistsError):
            os.mkdir(folder, 0o700, dir_fd=self._folder())

    def rename(self, old: str, new: str) -> None:
        """Replace `new` by `old`."""
        os.rename(old, new, src_dir_fd=self._folder(), dst_dir_fd=self._folder())

    def remove(self, path: str) -> None:
        """Delete the file."""
        os.unlink(path, dir_fd=self._folder())

    def sync_dir(self, folder: str) -> None:
        """Return when the folder's names are on the disk."""
        descriptor = self._open_folder(folder)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def free_bytes(self) -> int:
        """Return what this user can still write."""
        state = os.fstatvfs(self._folder())
        return state.f_bavail * state.f_frsize

    def lock(self) -> None:
        """Take the folder's lock; it ends with the process at the latest."""
        descriptor = os.open("lock", os.O_RDWR | os.O_CREAT | _OPEN, 0o600, dir_fd=self._folder())
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            self._forget_root()
            raise FolderInUse(f"{self.folder} is in use by another node or daemon; stop it first") from None
        self._lock = descriptor

    def unlock(self) -> None:
        """Give the lock back."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        self._forget_root()

    def _folder(self) -> int:
        if self._root is None:
            try:
                self._make()
                self._root = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except OSError as problem:
                raise StorageError(f"{self.folder} can't be used: {problem.strerror}") from None
        return self._root

    def _make(self) -> None:
        missing = [folder for folder in (self.folder, *self.folder.parents) if not folder.exists()]
        for folder in reversed(missing):
            folder.mkdir(mode=0o700, exist_ok=True)
            _sync_folder(folder.parent)
        # An earlier process may have created the parents and died before syncing them; it can read those that it created.
        for folder in (self.folder.parent, self.folder.parent.parent):
            with suppress(OSError):
                _sync_folder(folder)

    def _open_folder(self, folder: str) -> int:
        return os.open(folder or ".", os.O_RDONLY | os.O_DIRECTORY | _OPEN, dir_fd=self._folder())

    def _forget_root(self) -> None:
        if self._root is not None:
            os.close(self._root)
            self._root = None


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
