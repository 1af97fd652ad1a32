"""A disk in memory that forgets like a real one: what was not synced may be lost, torn at sectors, or reach the disk alone.

It can also be lost with all its files, be set back to an old image, and lie: report a sync that it has not done.
"""

import errno
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Final

from bargetrio.storage.errors import FolderInUse

SECTOR: Final = 512


@dataclass(slots=True)
class _Inode:
    """A file's bytes as the program sees them, as the disk has them, and the writes between the two."""

    seen: bytearray = field(default_factory=bytearray)
    synced: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes]] = field(default_factory=list)
    is_log: bool = False
    earlier: deque[bytes] = field(default_factory=deque)
    """Of a log's segment: what was synced before each of the last syncs, the oldest first, while the disk lies."""


Image = Mapping[str, bytes]
"""The files of a folder, as they were on the disk at one moment."""


class Unplugged(OSError):
    """The process or the machine ended before this call."""


@dataclass(slots=True)
class Unsynced:
    """A file: its bytes on the disk, the length it is meant to have, and the writes that no sync has covered."""

    synced: bytes
    size: int
    pending: list[tuple[int, bytes]]


class SimulatedFile:
    """An open file."""

    def __init__(self, disk: "SimulatedDisk", inode: _Inode) -> None:
        self._disk = disk
        self._inode = inode
        self._life = disk.life
        self._descriptor = disk.descriptor_for(self)

    @property
    def descriptor(self) -> int | None:
        """What `SimulatedDisk.sync_descriptor` takes; None where the disk gives none, and when the file is closed."""
        return self._descriptor

    def write_at(self, offset: int, data: bytes) -> int:
        """Write, all or as much as an injected fault leaves."""
        data = data[: self._disk.call(self._life, offset, len(data))]
        seen = self._inode.seen
        grown = offset + len(data) - len(seen)
        if grown > 0:
            self._disk.take_space(grown)
            seen.extend(bytes(grown))
        seen[offset : offset + len(data)] = data
        self._inode.pending.append((offset, data))
        return len(data)

    def preallocate(self, size: int) -> None:
        """Reserve; sizes and zeros count as synced at once, as they hold no data."""
        self._disk.call(self._life)
        grown = max(0, size - len(self._inode.seen))
        self._disk.take_space(grown)
        self._inode.seen.extend(bytes(grown))

    def truncate(self, size: int) -> None:
        """Truncate."""
        self._disk.call(self._life)
        inode = self._inode
        inode.earlier.clear()
        del inode.seen[size:]
        inode.pending = [(offset, data[: size - offset]) for offset, data in inode.pending if offset < size]

    def sync(self) -> None:
        """Everything written since the last one is on the disk; after an error it is never written, though it can be read."""
        inode = self._inode
        try:
            self._disk.call(self._life)
        except Unplugged:
            raise
        except OSError:
            inode.pending.clear()
            raise
        synced, size = inode.synced, len(inode.seen)
        if self._disk.lies and inode.is_log and inode.pending and synced and synced[0]:
            inode.earlier.append(bytes(synced))
            if len(inode.earlier) > self._disk.lies:
                inode.earlier.popleft()
        if len(synced) != size:
            del synced[size:]
            synced.extend(bytes(size - len(synced)))
        for offset, data in inode.pending:
            end = min(offset + len(data), size)
            if end > offset:
                synced[offset:end] = data[: end - offset]
        inode.pending.clear()

    def close(self) -> None:
        """Release the descriptor; the next file that is opened may get the same."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            self._disk.closed(descriptor, self)


class SimulatedDisk:
    """A node's folder in memory. Errors: `fail_at[n]` is the errno of the n-th call, counted from 1 over the disk's life.

    From call `unplugged_at` on nothing is done any more, until a crash or the process's end.
    """

    def __init__(self, random: Random, *, capacity: int = 1 << 30) -> None:
        self.life = 0
        self.calls = 0
        self.fail_at: dict[int, int] = {}
        self.unplugged_at: int | None = None
        self.short_writes = False
        self.lies = 0
        """The next power failure loses up to this number of the log's last writes, though they were synced."""
        self.gives_descriptors = False
        """Whether files have descriptors, so that a log's writes and their syncs can be two steps (`write_unsynced`)."""
        self._open: dict[int, SimulatedFile] = {}
        """The open files by descriptor, as the system has them for one process."""
        self._random = random
        self._free = self._capacity = capacity
        self._names: dict[str, _Inode] = {}
        self._synced_names: dict[str, _Inode] = {}
        self._folders: set[str] = {""}
        self._unsynced_folders: set[str] = set()
        """Created folders whose names are not synced: a power failure may lose them with their content."""
        self._locked = False
        self._ends_early: Mapping[str, int] = {}

    # -- the port --------------------------------------------------------------------------------------------------------

    def open(self, path: str, *, create: bool = False) -> SimulatedFile:
        """Open or create."""
        self.call(self.life)
        if create:
            if path in self._names:
                raise FileExistsError(errno.EEXIST, "exists", path)
            self._names[path] = _Inode(is_log=path.startswith("wal/"))
        return SimulatedFile(self, self._inode(path))

    def read(self, path: str) -> bytes:
        """Return what the program would see."""
        self.call(self.life)
        return bytes(self._inode(path).seen)

    def read_part(self, path: str, offset: int, size: int) -> bytes:
        """Return a part of what the program would see."""
        self.call(self.life)
        if path in self._ends_early:
            size = max(0, min(size, self._ends_early[path] - offset))
        return bytes(self._inode(path).seen[offset : offset + size])

    def exists(self, path: str) -> bool:
        """Return whether there is such a name."""
        return path in self._names or path in self._folders

    def list(self, folder: str) -> list[str]:
        """Return the names, sorted."""
        self.call(self.life)
        prefix = f"{folder}/" if folder else ""
        return sorted(name[len(prefix) :] for name in self._names if name.startswith(prefix) and "/" not in name[len(prefix) :])

    def make_dir(self, folder: str) -> None:
        """Lasting after sync_dir of the folder around it; no call that could fail."""
        if folder not in self._folders:
            self._folders.add(folder)
            self._unsynced_folders.add(folder)

    def rename(self, old: str, new: str) -> None:
        """Lasting after sync_dir."""
        self.call(self.life)
        self._names[new] = self._names.pop(old)

    def remove(self, path: str) -> None:
        """Lasting after sync_dir."""
        self.call(self.life)
        del self._names[path]

    def sync_dir(self, folder: str) -> None:
        """The names of this folder are on the disk."""
        self.call(self.life)
        if not folder:
            self._unsynced_folders.clear()
        for names in (self._synced_names, self._names):
            for name in [name for name in names if name.rpartition("/")[0] == folder]:
                if name in self._names:
                    self._synced_names[name] = self._names[name]
                else:
                    del self._synced_names[name]

    def sync_descriptor(self, descriptor: int) -> None:
        """Sync the open file that has this descriptor now, as the kernel would; raise OSError as its `sync`, or EBADF."""
        file = self._open.get(descriptor)
        if file is None:
            raise OSError(errno.EBADF, "no open file has this descriptor")
        file.sync()

    def free_bytes(self) -> int:
        """Return what is left."""
        return self._free

    def lock(self) -> None:
        """Lock the folder; raise if it is locked."""
        if self._locked:
            raise FolderInUse("the simulated folder is in use")
        self._locked = True

    def unlock(self) -> None:
        """Unlock the folder."""
        self._locked = False

    # -- faults ----------------------------------------------------------------------------------------------------------

    def end_process(self) -> None:
        """The program ended, the machine did not: what was written can be read, and a later power failure may still lose it."""
        self.life += 1
        self._open.clear()
        self.unplugged_at = None
        self._locked = False

    def names_after_crash(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the names that last, and those if every unsynced creation, renaming and removal has reached the disk."""
        old = sorted(name for name in self._synced_names if name.rpartition("/")[0] not in self._unsynced_folders)
        return tuple(old), tuple(sorted(self._names))

    def unsynced(self, name: str, *, lasting: bool) -> "Unsynced":
        """Return a file's content on the disk, and its unsynced writes; `lasting`: the one that the synced name means."""
        inode = self._synced_names[name] if lasting else self._names[name]
        return Unsynced(bytes(inode.synced), len(inode.seen), list(inode.pending))

    def peek(self, path: str) -> bytes:
        """Return a file's content for the checkers; not a call of the disk."""
        return bytes(self._inode(path).seen)

    def names(self) -> tuple[str, ...]:
        """Return all names for the checkers; not a call of the disk."""
        return tuple(sorted(self._names))

    @contextmanager
    def ending_early(self, ends: Mapping[str, int]) -> Iterator[None]:
        """Within this context these files end early for partial reads."""
        self._ends_early = ends
        try:
            yield
        finally:
            self._ends_early = {}

    def fill(self) -> None:
        """Take all space."""
        self._free = 0

    def free_space(self, size: int = 1 << 30) -> None:
        """Give space back."""
        self._free = size

    def crash(self) -> bool:
        """Power off: each unsynced write reaches the disk whole, in part, or not at all, whatever its order; names likewise.

        Return whether the disk lost something that it had reported as synced.
        """
        lied = False
        self.life += 1
        self._open.clear()
        self.unplugged_at = None
        self._locked = False
        for inode in self._inodes():
            if inode.earlier:
                lied = True
                inode.synced = bytearray(inode.earlier[-self._random.randint(1, len(inode.earlier))])
                inode.seen = bytearray(inode.synced)
                inode.pending.clear()
                inode.earlier.clear()
            else:
                self._lose(inode)
        self.lies = 0
        self._names = survivors = self._names_that_last()
        for folder in sorted(self._unsynced_folders):
            if self._random.random() < 0.5:
                self._folders.remove(folder)
                for name in [name for name in survivors if name.rpartition("/")[0] == folder]:
                    del survivors[name]
        self._unsynced_folders.clear()
        self._synced_names = dict(survivors)
        return lied

    def lie(self, most: int) -> None:
        """From here on lie about the log's syncs, until the next power failure: it takes the last 1 to `most` of them.

        Each write of the log is lost whole or not at all, so recovery finds a log that is right, and shorter. Segments that were
        full before and writes that `settle` covers are safe, as is everything else in the folder.
        """
        self.lies = most

    def settle(self) -> None:
        """Everything synced so far is durable, even on a lying disk."""
        for inode in self._inodes():
            inode.earlier.clear()

    def image(self) -> Image:
        """Return the folder as a power failure would leave it now, if nothing that is not synced reached the disk."""
        return {
            name: bytes(inode.synced)
            for name, inode in self._synced_names.items()
            if name.rpartition("/")[0] not in self._unsynced_folders
        }

    def put_back(self, image: Image) -> None:
        """Put an image in the place of the whole folder; the process has ended."""
        self.end_process()
        self.lies = 0
        self._names = {
            name: _Inode(bytearray(data), bytearray(data), is_log=name.startswith("wal/")) for name, data in image.items()
        }
        self._synced_names = dict(self._names)
        self._folders = {"", *(name.rpartition("/")[0] for name in image)}
        self._unsynced_folders.clear()
        self._free = self._capacity - sum(map(len, image.values()))

    def lose(self) -> None:
        """The disk is gone, and an empty one is in its place; the process has ended."""
        self.put_back({})

    def reseed(self, seed: int) -> None:
        """Draw from another random source from here on."""
        self._random = Random(seed)

    def flip(self, path: str, offset: int, value: int) -> None:
        """Damage one byte."""
        inode = self._inode(path)
        inode.seen[offset] = inode.synced[offset] = value

    def put(self, path: str, data: bytes) -> None:
        """Set a file's content, as if it had always been so."""
        self._folders.add(path.rpartition("/")[0])
        self._names[path] = self._synced_names[path] = _Inode(bytearray(data), bytearray(data))

    def descriptor_for(self, file: SimulatedFile) -> int | None:
        """Return the lowest unused number, if this disk gives descriptors."""
        if not self.gives_descriptors:
            return None
        descriptor = 0
        while descriptor in self._open:
            descriptor += 1
        self._open[descriptor] = file
        return descriptor

    def closed(self, descriptor: int, file: SimulatedFile) -> None:
        """Release a descriptor, unless it was an earlier process's."""
        if self._open.get(descriptor) is file:
            del self._open[descriptor]

    def call(self, life: int, offset: int = 0, wants: int = 0) -> int:
        """Count a call, fail it if that is planned, and say how many bytes of a write it takes: short ones end with a sector."""
        self.calls += 1
        if life != self.life:
            raise OSError(errno.EIO, "this disk has crashed")
        if self.unplugged_at is not None and self.calls >= self.unplugged_at:
            raise Unplugged(errno.EIO, "unplugged")
        failure = self.fail_at.get(self.calls)
        if failure is not None:
            raise OSError(failure, "injected")
        if not self.short_writes:
            return wants
        ends = [end - offset for end in range((offset // SECTOR + 1) * SECTOR, offset + wants, SECTOR)]
        return self._random.choice([*ends, wants])

    def take_space(self, size: int) -> None:
        """Use free space; raise ENOSPC."""
        if size > self._free:
            raise OSError(errno.ENOSPC, "no space left")
        self._free -= size

    def _inode(self, path: str) -> _Inode:
        try:
            return self._names[path]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, "no such file", path) from None

    def _inodes(self) -> Sequence[_Inode]:
        return list({id(inode): inode for inode in (*self._names.values(), *self._synced_names.values())}.values())

    def _names_that_last(self) -> dict[str, _Inode]:
        """Each creation, renaming and removal that was not synced has reached the disk or not, in no order."""
        survivors = dict(self._synced_names)
        for name, inode in sorted(self._names.items()):
            if survivors.get(name) is not inode and self._random.random() < 0.5:
                survivors[name] = inode
        lasting = {id(inode) for inode in self._names.values()}
        there = {id(survivors[name]) for name in survivors if name in self._names}
        for name, inode in sorted(self._synced_names.items()):
            # What was renamed has its old name as long as it has not its new one.
            is_lost = id(inode) in lasting and id(inode) not in there
            if name not in self._names and not is_lost and self._random.random() < 0.5:
                del survivors[name]
        return survivors

    def _lose(self, inode: _Inode) -> None:
        disk = inode.synced
        if len(inode.seen) != len(disk) and self._random.random() < 0.5:
            del disk[len(inode.seen) :]
            disk.extend(bytes(len(inode.seen) - len(disk)))
        touched: dict[int, list[tuple[int, bytes]]] = {}
        for offset, data in inode.pending:
            for start, piece in _sectors(offset, data):
                touched.setdefault(start // SECTOR, []).append((start, piece))
        # Now and then all but one sector are there: a hole in the middle is the hardest to distinguish from a whole record.
        hole = self._random.choice(list(touched)) if touched and self._random.random() < 0.3 else None
        for sector, pieces in touched.items():
            kept = len(pieces) - (sector == hole) if hole is not None else self._random.randint(0, len(pieces))
            for start, piece in pieces[:kept]:
                disk.extend(bytes(max(0, start + len(piece) - len(disk))))
                disk[start : start + len(piece)] = piece
        inode.pending.clear()
        inode.seen = bytearray(disk)


def _sectors(offset: int, data: bytes) -> list[tuple[int, bytes]]:
    pieces: list[tuple[int, bytes]] = []
    place = offset
    while place < offset + len(data):
        stop = min((place // SECTOR + 1) * SECTOR, offset + len(data))
        pieces.append((place, data[place - offset : stop - offset]))
        place = stop
    return pieces
