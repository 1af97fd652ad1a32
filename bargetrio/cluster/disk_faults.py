"""Fault injection for disks: a Disk that delays or fails calls before passing them to the real one.

A delay blocks the node's own worker thread, as a slow disk does; healing ends it at once.
"""

import errno
import os
import threading
from typing import Final

from bargetrio.storage.disk import Disk, DiskFile

ERRORS: Final = {"EIO": errno.EIO, "ENOSPC": errno.ENOSPC}


class DiskFaults:
    """The faults of all nodes' disks; set in the event loop, applied in worker threads."""

    def __init__(self) -> None:
        self._delays: dict[int, float] = {}
        self._errors: dict[int, int] = {}
        self._changed = threading.Event()

    def set(self, delays: dict[int, float], errors: dict[int, int]) -> None:
        """Replace the faults: delays in seconds, errors as errno."""
        self._delays, self._errors = dict(delays), dict(errors)
        changed, self._changed = self._changed, threading.Event()
        changed.set()

    def has(self, node_id: int) -> bool:
        """Return whether a fault is in force for this node."""
        return node_id in self._delays or node_id in self._errors

    def is_full(self, node_id: int) -> bool:
        """Return whether a fault makes every write of this node fail with ENOSPC."""
        return self._errors.get(node_id) == errno.ENOSPC

    def inject(self, node_id: int, *, sync: bool) -> None:
        """Apply the node's fault: delay (a sync) or raise OSError."""
        delay_s = self._delays.get(node_id, 0.0)
        if sync and delay_s:
            self._changed.wait(delay_s)
        number = self._errors.get(node_id)
        if number is not None:
            raise OSError(number, f"{os.strerror(number)} (an injected fault: bargetrio heal, or DELETE /faults, ends it)")


class FaultyFile:
    """An open file of a FaultyDisk."""

    def __init__(self, file: DiskFile, node_id: int, faults: DiskFaults) -> None:
        self._file = file
        self._node_id = node_id
        self._faults = faults

    @property
    def descriptor(self) -> int | None:
        """The real file's; for syncs by the kernel the persister applies `FaultyDisk.sync_faults`."""
        return self._file.descriptor

    def write_at(self, offset: int, data: bytes) -> int:
        """Write, or fail."""
        self._faults.inject(self._node_id, sync=False)
        return self._file.write_at(offset, data)

    def preallocate(self, size: int) -> None:
        """Reserve, or fail."""
        self._faults.inject(self._node_id, sync=False)
        self._file.preallocate(size)

    def truncate(self, size: int) -> None:
        """Truncate, or fail."""
        self._faults.inject(self._node_id, sync=False)
        self._file.truncate(size)

    def sync(self) -> None:
        """Sync late, or fail."""
        self._faults.inject(self._node_id, sync=True)
        self._file.sync()

    def close(self) -> None:
        """Close."""
        self._file.close()


class NodeSyncFaults:
    """Faults of one node's syncs; implements `node.kernel_persister.SyncFaults`."""

    def __init__(self, faults: DiskFaults, node_id: int) -> None:
        self._faults = faults
        self._node_id = node_id

    def are_set(self) -> bool:
        """Return whether a fault is in force."""
        return self._faults.has(self._node_id)

    def inject(self) -> None:
        """Delay, or raise OSError."""
        self._faults.inject(self._node_id, sync=True)


class FaultyDisk:
    """A node's folder with fault injection; reading, listing and locking have no faults."""

    def __init__(self, disk: Disk, node_id: int, faults: DiskFaults) -> None:
        self._disk = disk
        self._node_id = node_id
        self._faults = faults
        self.sync_faults = NodeSyncFaults(faults, node_id)

    def open(self, path: str, *, create: bool = False) -> DiskFile:
        """Open for writing, or fail."""
        self._faults.inject(self._node_id, sync=False)
        return FaultyFile(self._disk.open(path, create=create), self._node_id, self._faults)

    def rename(self, old: str, new: str) -> None:
        """Move, or fail."""
        self._faults.inject(self._node_id, sync=False)
        self._disk.rename(old, new)

    def remove(self, path: str) -> None:
        """Delete, or fail."""
        self._faults.inject(self._node_id, sync=False)
        self._disk.remove(path)

    def sync_dir(self, folder: str) -> None:
        """Sync late, or fail."""
        self._faults.inject(self._node_id, sync=True)
        self._disk.sync_dir(folder)

    def read(self, path: str) -> bytes:
        """Read."""
        return self._disk.read(path)

    def read_part(self, path: str, offset: int, size: int) -> bytes:
        """Read a part."""
        return self._disk.read_part(path, offset, size)

    def exists(self, path: str) -> bool:
        """Return whether the path exists."""
        return self._disk.exists(path)

    def list(self, folder: str) -> list[str]:
        """List."""
        return self._disk.list(folder)

    def make_dir(self, folder: str) -> None:
        """Make a folder."""
        self._disk.make_dir(folder)

    def free_bytes(self) -> int:
        """Return the free bytes: 0 if a fault makes the disk full."""
        return 0 if self._faults.is_full(self._node_id) else self._disk.free_bytes()

    def lock(self) -> None:
        """Lock."""
        self._disk.lock()

    def unlock(self) -> None:
        """Unlock."""
        self._disk.unlock()
