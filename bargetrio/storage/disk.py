"""The Disk port: all that the log asks of a file system, so that a simulator can lose, tear and reorder what was not synced.

Paths are relative to the node's folder, with "/" between; files are 0600, folders 0700, links are not followed. Every call blocks
and raises OSError as the operating system does.
"""

from typing import Protocol


class DiskFile(Protocol):
    """An open file, for writing at places that the caller chooses."""

    @property
    def descriptor(self) -> int | None:
        """The open file's number, for who has the kernel sync it; None if `sync` must be called."""
        ...

    def write_at(self, offset: int, data: bytes) -> int:
        """Write as much of `data` as the disk takes at `offset`; return how many bytes (a short write is legal)."""
        ...

    def preallocate(self, size: int) -> None:
        """Make the file `size` bytes long, zeros where nothing was written, blocks reserved."""
        ...

    def truncate(self, size: int) -> None:
        """Cut the file to `size` bytes."""
        ...

    def sync(self) -> None:
        """Return once the data, and the size if it changed, are on the disk (fdatasync)."""
        ...

    def close(self) -> None:
        """Give the descriptor back, once however often it is called; promises nothing about the data."""
        ...


class Disk(Protocol):
    """A node's folder."""

    def open(self, path: str, *, create: bool = False) -> DiskFile:
        """Open for writing; with `create` it must not exist yet."""
        ...

    def read(self, path: str) -> bytes:
        """Return the whole file; raise FileNotFoundError if there is none."""
        ...

    def read_part(self, path: str, offset: int, size: int) -> bytes:
        """Return up to `size` bytes from `offset` on, fewer only at the file's end; raise FileNotFoundError."""
        ...

    def exists(self, path: str) -> bool:
        """Return whether there is such a file or folder."""
        ...

    def list(self, folder: str) -> list[str]:
        """Return the names in `folder`, sorted."""
        ...

    def make_dir(self, folder: str) -> None:
        """Create `folder` if it is not there; its own folder must be."""
        ...

    def rename(self, old: str, new: str) -> None:
        """Move a file over whatever has the new name; lasting only after sync_dir."""
        ...

    def remove(self, path: str) -> None:
        """Delete a file; lasting only after sync_dir."""
        ...

    def sync_dir(self, folder: str) -> None:
        """Return once the names in `folder` are on the disk (BUG-52); "" is the node's folder itself."""
        ...

    def free_bytes(self) -> int:
        """Return how much this user can still write."""
        ...

    def lock(self) -> None:
        """Take the folder's one lock until `unlock` or the end of the process; raise FolderInUse if somebody has it."""
        ...

    def unlock(self) -> None:
        """Give the lock back."""
        ...


def write_all(file: DiskFile, offset: int, data: bytes) -> None:
    """Write all of it: a short write is continued, the error after it stops. Raise OSError, also where nothing is taken."""
    while data:
        written = file.write_at(offset, data)
        if written <= 0:
            raise OSError(5, "the disk takes no more bytes and gives no error")
        offset, data = offset + written, data[written:]
