"""One contract for the real disk and the simulated one."""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from bargetrio.raft.messages import Entry
from bargetrio.raft.records import HardState
from bargetrio.simulator.disk import SimulatedDisk
from bargetrio.storage.disk import Disk
from bargetrio.storage.errors import FolderInUse, StorageError
from bargetrio.storage.real_disk import RealDisk
from bargetrio.storage.snapshots import SnapshotReceiver
from tests.storage.logs import append, entry, file_of, open_log, save, send

MakeDisk = Callable[[Path], Disk]
disks = pytest.mark.parametrize(
    "make_disk", [lambda path: RealDisk(path / "node"), lambda _path: SimulatedDisk(Random(1))], ids=["real", "simulated"]
)


@disks
def test_what_is_written_is_read(make_disk: MakeDisk, tmp_path: Path) -> None:
    """At any offset, with zeros where nothing was written."""
    disk = make_disk(tmp_path)
    disk.make_dir("wal")
    disk.make_dir("wal")
    file = disk.open("wal/a", create=True)
    file.preallocate(10)
    assert file.write_at(2, b"abc") == 3
    file.sync()
    assert disk.read("wal/a") == b"\0\0abc\0\0\0\0\0"
    file.truncate(4)
    assert disk.read("wal/a") == b"\0\0ab"
    file.close()
    assert disk.list("wal") == ["a"]
    assert disk.exists("wal/a") and disk.exists("wal") and not disk.exists("wal/b")


@disks
def test_a_file_that_is_closed_twice_closes_no_other(make_disk: MakeDisk, tmp_path: Path) -> None:
    """The number of a closed descriptor may belong to another file a moment later (OWN-19)."""
    disk = make_disk(tmp_path)
    first = disk.open("a", create=True)
    first.close()
    second = disk.open("b", create=True)
    first.close()
    assert second.write_at(0, b"mine") == 4
    second.sync()
    assert disk.read("b") == b"mine"


@disks
def test_a_part_of_a_file_is_read(make_disk: MakeDisk, tmp_path: Path) -> None:
    """Fewer bytes only at the end."""
    disk = make_disk(tmp_path)
    disk.open("a", create=True).write_at(0, b"abcdef")
    assert [disk.read_part("a", *place) for place in ((0, 2), (4, 9), (6, 1), (7, 1))] == [b"ab", b"ef", b"", b""]
    with pytest.raises(FileNotFoundError):
        disk.read_part("b", 0, 1)


def test_reads_of_a_few_bytes_are_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """read(2) may return fewer bytes than requested before the end, too: on a network file system, after a signal."""
    fdopen = os.fdopen

    class Few:
        """A file that gives three bytes at a time."""

        def __init__(self, descriptor: int) -> None:
            self._file = fdopen(descriptor, "rb", buffering=0)

        def __enter__(self) -> "Few":
            return self

        def __exit__(self, *_: object) -> None:
            self._file.close()

        def seek(self, offset: int) -> None:
            self._file.seek(offset)

        def read(self, size: int) -> bytes:
            return self._file.read(min(size, 3)) or b""

    disk = RealDisk(tmp_path / "node")
    disk.open("a", create=True).write_at(0, b"abcdefghij")
    monkeypatch.setattr("bargetrio.storage.real_disk.os.fdopen", lambda descriptor, *_, **__: Few(descriptor))
    found = [disk.read_part("a", *place) for place in ((0, 10), (1, 7), (4, 99), (10, 5))]
    monkeypatch.undo()
    assert found == [b"abcdefghij", b"bcdefgh", b"efghij", b""]


@disks
def test_names_change_as_requested(make_disk: MakeDisk, tmp_path: Path) -> None:
    """Rename replaces; create requires a new name; a missing file raises FileNotFoundError."""
    disk = make_disk(tmp_path)
    for name in ("a", "b"):
        disk.open(name, create=True).close()
    with pytest.raises(FileExistsError):
        disk.open("a", create=True)
    disk.rename("a", "b")
    disk.sync_dir("")
    assert not disk.exists("a")
    disk.remove("b")
    with pytest.raises(FileNotFoundError):
        disk.read("b")
    with pytest.raises(FileNotFoundError):
        disk.open("b")
    assert disk.free_bytes() > 0


def test_one_folder_has_one_user(tmp_path: Path) -> None:
    """The lock holds within a process too, and ends with unlock."""
    first, second = RealDisk(tmp_path / "node"), RealDisk(tmp_path / "node")
    first.lock()
    with pytest.raises(FolderInUse, match="in use"):
        second.lock()
    first.unlock()
    second.lock()
    second.unlock()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="/proc tells what is open")
def test_a_folder_that_is_given_back_has_no_descriptor_open(tmp_path: Path) -> None:
    """Nor one that was refused: a node may be killed and revived a thousand times."""
    holder = RealDisk(tmp_path / "node")
    holder.lock()
    before = sorted(os.listdir("/proc/self/fd"))
    refused = RealDisk(tmp_path / "node")
    with pytest.raises(FolderInUse):
        refused.lock()
    assert sorted(os.listdir("/proc/self/fd")) == before
    disk = RealDisk(tmp_path / "other")
    disk.lock()
    disk.make_dir("wal")
    disk.open("wal/a", create=True).close()
    assert (disk.list("wal"), disk.read_part("wal/a", 0, 1), disk.read("wal/a")) == (["a"], b"", b"")
    assert disk.free_bytes() > 0
    disk.sync_dir("wal")
    disk.unlock()
    assert sorted(os.listdir("/proc/self/fd")) == before
    holder.unlock()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="/proc tells what is open")
def test_a_log_that_is_closed_has_no_descriptor_open(tmp_path: Path) -> None:
    """After rolling, taking a snapshot, receiving another, trimming, and reopening."""
    before = sorted(os.listdir("/proc/self/fd"))
    disk = RealDisk(tmp_path / "node")
    log, entries = open_log(disk, segment_bytes=300), list[Entry]()
    log.write([HardState(term=1)])
    for number in range(20):
        log.write([append(entries, entry(1, f"{number:040}"))])
        entries.append(entry(1, f"{number:040}"))
    assert len(disk.list("wal")) > 5
    at_most = len(before) + 4  # folder, lock, segment, and the next one or a received file
    assert len(os.listdir("/proc/self/fd")) <= at_most
    save(disk, entries[:10])
    receiver = SnapshotReceiver(disk, "barge")
    other, data = file_of([*entries, entry(1, "more")])
    for _ in range(3):
        receiver.store(other, 0, data[:50])
    assert len(os.listdir("/proc/self/fd")) <= at_most
    assert send(receiver, data, other) == other.size
    receiver.store(other, 0, data[:50])
    receiver.close()
    log.trim(8, {10})
    log.close()
    assert sorted(os.listdir("/proc/self/fd")) == before
    open_log(RealDisk(tmp_path / "node"), segment_bytes=300).close()
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_no_other_user_can_read_it(tmp_path: Path) -> None:
    """0700 and 0600; no link is followed."""
    disk = RealDisk(tmp_path / "deep" / "node")
    disk.open("a", create=True).close()
    disk.make_dir("wal")
    assert stat.S_IMODE((tmp_path / "deep" / "node").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "deep" / "node" / "wal").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "deep" / "node" / "a").stat().st_mode) == 0o600
    (tmp_path / "deep" / "node" / "link").symlink_to("a")
    with pytest.raises(OSError):
        disk.read("link")


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """There is a file at the folder's path."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"file/node can't be used"):
        RealDisk(tmp_path / "file" / "node").lock()


def test_a_crash_loses_what_was_not_synced() -> None:
    """The simulated disk drops unsynced writes."""
    lost = kept = 0
    for seed in range(40):
        disk = SimulatedDisk(Random(seed))
        file = disk.open("a", create=True)
        file.preallocate(2000)
        file.write_at(0, b"a" * 512)
        file.sync()
        disk.sync_dir("")
        file.write_at(512, b"b" * 1024)
        disk.crash()
        data = disk.read("a")
        assert data[:512] == b"a" * 512
        sectors = {bytes(data[512:1024]).strip(b"\0"), bytes(data[1024:1536]).strip(b"\0")}
        lost += b"" in sectors
        kept += b"b" * 512 in sectors
        with pytest.raises(OSError):
            file.sync()
    assert lost and kept


def test_a_folder_that_an_earlier_life_made_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have died before syncing the name (OWN-42); the parents of a new folder are synced one by one."""
    synced: list[str] = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr("bargetrio.storage.real_disk.os.fsync", note)
    for _ in range(2):
        synced.clear()
        disk = RealDisk(tmp_path / "data" / "node-0")
        disk.lock()
        assert {str(tmp_path), str(tmp_path / "data")} <= set(synced)
        disk.unlock()
