"""A write may be short, down to one byte: every writer continues with the rest."""

import os
from pathlib import Path
from random import Random

import pytest

from bargetrio.raft.records import HardState
from bargetrio.raft.standing import REPLACED, Standing
from bargetrio.storage.real_disk import RealDisk
from bargetrio.storage.restore import UserFile, restore
from bargetrio.storage.snapshots import FolderFile, SnapshotReceiver, read_snapshot, snapshot_name
from tests.storage.logs import MEMBERS, append, entry, file_of, open_log, save, send, state_after

LOG = [entry(1, f"e{index}") for index in range(1, 6)]


@pytest.fixture(params=["one byte", "some bytes"])
def short(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes take one byte, or a random number."""
    pwrite, random = os.pwrite, Random(1)

    def some(descriptor: int, data: bytes, offset: int) -> int:
        count = 1 if request.param == "one byte" else random.randint(1, len(data))
        return pwrite(descriptor, data[:count], offset)

    monkeypatch.setattr("bargetrio.storage.real_disk.os.pwrite", some)


@pytest.mark.usefixtures("short")
def test_log_meta_and_snapshots_of_a_folder_are_whole(tmp_path: Path) -> None:
    """Everything that a node writes, read after a restart."""
    disk = RealDisk(tmp_path / "node")
    folder = open_log(disk)
    standing = Standing(store="store-0", origin=REPLACED)
    folder.write_standing(standing)
    folder.write([HardState(term=1, voted_for=1), append([], *LOG)])
    saved = save(disk, LOG)
    other, data = file_of([*LOG, entry(2, "more")])
    assert send(SnapshotReceiver(disk, "barge"), data, other) == other.size
    folder.close()
    assert (tmp_path / "node" / "snapshots" / "receiving").read_bytes() == data
    again = open_log(RealDisk(tmp_path / "node"))
    assert again.standing == standing
    assert again.remembered.hard_state == HardState(term=1, voted_for=1)
    assert again.remembered.snapshot == saved
    again.close()
    path = snapshot_name(saved.last_index, saved.last_term)
    lines: list[bytes] = []
    assert read_snapshot(FolderFile(disk, path), path, lines.append)[1] == saved
    assert lines == [state_after(len(LOG))] * 3


@pytest.mark.usefixtures("short")
def test_a_restored_folder_is_whole(tmp_path: Path) -> None:
    """The backup's lines, under the new cluster's label."""
    _, data = file_of(LOG)
    (tmp_path / "backup").write_bytes(data)
    source = UserFile(tmp_path / "backup")
    made = restore(source, "b", tmp_path / "node", cluster="barge", node_id=0, members=MEMBERS, make_store_id=lambda: "s")
    lines: list[bytes] = []
    folder = open_log(RealDisk(tmp_path / "node"), load=lines.append)
    assert folder.remembered.snapshot == made
    assert lines == [state_after(len(LOG))] * 3
    folder.close()


@pytest.mark.parametrize("what", ["meta", "log", "snapshot"])
def test_a_disk_that_takes_nothing_and_gives_no_error_is_a_failed_one(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not retried for ever: the node ends with a reason."""
    disk = RealDisk(tmp_path / "node")
    folder = open_log(disk)
    calls: list[int] = []

    def nothing(descriptor: int, data: bytes, offset: int) -> int:
        calls.append(offset)
        assert len(calls) < 5, "it goes on"
        return 0

    monkeypatch.setattr("bargetrio.storage.real_disk.os.pwrite", nothing)
    with pytest.raises(OSError, match="takes no more bytes"):
        if what == "meta":
            folder.write_standing(Standing(store="store-0", origin=REPLACED))
        elif what == "log":
            folder.write([HardState(term=1)])
        else:
            save(disk, LOG)
    folder.close()
