"""The Disk port: the file system calls of storage, so that a simulator can lose, tear and reorder unsynced writes.

Paths are relative to the node's folder, separated by "/"; files are 0600, folders 0700, links are not followed. Every call blocks
and raises OSError as the operating system does.
"""

from typing import Protocol


class DiskFile(Protocol):
    """An open file, for writing at offsets that the caller chooses."""

    @property
    def descriptor(self) -> int | None:
        """File descriptor for callers that submit fdatasync themselves; None: call `sync`."""
        ...

    def write_at(self, offset: int, data: bytes) -> int:
        """Write `data` at `offset`; return how many bytes were written (a short write is legal)."""
        ...

    def preallocate(self, size: int) -> None:
        """Extend the file to `size` bytes with zeros, and reserve the blocks."""
        ...

    def truncate(self, size: int) -> None:
        """Truncate the file to `size` bytes."""
        ...

    def sync(self) -> None:
        """Return once the data, and the size if it changed, are on the disk (fdatasync)."""
        ...

    def close(self) -> None:
        """Close the descriptor. Idempotent; does not sync."""
        ...


class Disk(Protocol):
    """A node's folder."""

    def open(self, path: str, *, create: bool = False) -> DiskFile:
        """Open for writing; with `create` the file must not exist yet."""
        ...

    def read(self, path: str) -> bytes:
        """Return the whole file; raise FileNotFoundError if there is none."""
        ...

    def read_part(self, path: str, offset: int, size: int) -> bytes:
        """Return up to `size` bytes from `offset` on, fewer only at the end; raise FileNotFoundError if there is no file."""
        ...

    def exists(self, path: str) -> bool:
        """Return whether there is such a file or folder."""
        ...

    def list(self, folder: str) -> list[str]:
        """Return the names in `folder`, sorted."""
        ...

    def make_dir(self, folder: str) -> None:
        """Create `folder` if it does not exist; its parent must exist."""
        ...

    def rename(self, old: str, new: str) -> None:
        """Rename a file, replacing one of the new name; durable only after sync_dir."""
        ...

    def remove(self, path: str) -> None:
        """Delete a file; durable only after sync_dir."""
        ...

    def sync_dir(self, folder: str) -> None:
        """Sync the names in `folder` (BUG-52); "" is the node's folder itself."""
        ...

    def free_bytes(self) -> int:
        """Return how many bytes this user can still write."""
        ...

    def lock(self) -> None:
        """Lock the folder until `unlock` or the end of the process; raise FolderInUse if it is locked."""
        ...

    def unlock(self) -> None:
        """Release the lock."""
        ...


def write_all(file: DiskFile, offset: int, data: bytes) -> None:
    """Write all of `data`, continuing after short writes. Raise OSError, also if a write takes no byte."""
    while data:
        written = file.write_at(offset, data)
        if written <= 0:
            raise OSError(5, "the disk takes no more bytes and gives no error")
        offset, data = offset + written, data[written:]
