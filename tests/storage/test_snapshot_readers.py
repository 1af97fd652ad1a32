"""Every reader of a snapshot verifies its end record before it uses the file: valid lines alone are not enough."""

from collections.abc import Callable
from pathlib import Path
from random import Random

import msgspec
import pytest
from click.testing import CliRunner

from bargetrio.cli.backup import snapshot as command
from bargetrio.raft.messages import SnapshotMeta
from bargetrio.simulator.disk import SimulatedDisk
from bargetrio.storage.errors import DamagedSnapshot
from bargetrio.storage.lines import HEADER, encode_line
from bargetrio.storage.restore import UserFile, restore
from bargetrio.storage.snapshots import (
    FolderFile,
    SnapshotEnd,
    SnapshotReceiver,
    SnapshotWriter,
    copy_snapshot,
    read_snapshot,
    snapshot_name,
)
from tests.storage.logs import MEMBERS, digest, entry, open_log, send, start_of

LOG = [entry(1, f"e{index}") for index in range(1, 9)]
LINES = [b'{"a":["1",1]}', b'{"b":["2",2]}', b'{"c":["3",3]}']


def saved(disk: SimulatedDisk) -> tuple[SnapshotMeta, bytes]:
    """A snapshot of three lines, and its bytes."""
    writer = SnapshotWriter(disk, start_of(8, 1, digest(LOG)))
    for line in LINES:
        writer.add(line)
    snapshot = writer.finish()
    return snapshot, disk.peek(snapshot_name(8, 1))


def payload(line: bytes) -> bytes:
    """What a line holds."""
    return line[HEADER:-1]


def wrong_files() -> dict[str, bytes]:
    """Files in which each line is valid, but the file is not."""
    _, data = saved(SimulatedDisk(Random(1)))
    lines = data.splitlines(keepends=True)
    start, one, two, three, end = lines
    later = start_of(9, 1, digest(LOG))
    told = msgspec.json.decode(payload(end), type=SnapshotEnd)
    other = encode_line(b'{"b":["9",2]}')
    return {
        "a line is another one": b"".join([start, one, other, three, end]),
        "two lines have changed places": b"".join([start, two, one, three, end]),
        "a line twice, another one missing": b"".join([start, one, one, three, end]),
        "the label is another one": b"".join([encode_line(msgspec.json.encode(later)), one, two, three, end]),
        "the end is another file's": b"".join([*lines[:4], encode_line(msgspec.json.encode(SnapshotEnd(lines=3, checksum=1)))]),
        "the end counts one line less": b"".join(
            [*lines[:4], encode_line(msgspec.json.encode(SnapshotEnd(lines=2, checksum=told.checksum)))]
        ),
        "a line behind the end": b"".join([*lines, one]),
        "two ends": b"".join([*lines, end]),
        "no end": b"".join(lines[:4]),
    }


def load(data: bytes, folder: Path) -> None:
    """A node starts."""
    disk = SimulatedDisk(Random(1))
    open_log(disk).close()
    disk.put(snapshot_name(8, 1), data)
    state: list[bytes] = []
    open_log(disk, load=state.append)
    assert state == LINES


def install(data: bytes, folder: Path) -> None:
    """The state of a file that was received is read as this."""
    disk = SimulatedDisk(Random(1))
    disk.put("file", data)
    state: list[bytes] = []
    read_snapshot(FolderFile(disk, "file"), "file", state.append)
    assert state == LINES


def copy(data: bytes, folder: Path) -> None:
    """Put under another label."""
    disk = SimulatedDisk(Random(1))
    disk.put("file", data)
    try:
        copy_snapshot(FolderFile(disk, "file"), "file", SnapshotWriter(disk, start_of(8, 1)))
    except DamagedSnapshot:
        assert not disk.exists(snapshot_name(8, 1))
        raise


def restored(data: bytes, folder: Path) -> None:
    """A new cluster from a backup."""
    (folder / "backup").write_bytes(data)
    try:
        source = UserFile(folder / "backup")
        restore(source, "b", folder / "n", cluster="new", node_id=0, members=MEMBERS, make_store_id=lambda: "s")
    except DamagedSnapshot:
        assert [path.name for path in folder.iterdir()] == ["backup"]
        raise


def inspected(data: bytes, folder: Path) -> None:
    """`snapshot inspect`."""
    (folder / "backup").write_bytes(data)
    done = CliRunner().invoke(command, ["inspect", str(folder / "backup")])
    if done.exit_code:
        raise DamagedSnapshot(done.output)
    assert "whole" in done.output


READERS = [load, install, copy, restored, inspected]


@pytest.mark.parametrize("read", READERS, ids=lambda read: read.__name__)
def test_a_file_with_valid_lines_and_a_wrong_end_is_refused_by_every_reader(
    read: Callable[[bytes, Path], None], tmp_path: Path
) -> None:
    """And the right one is."""
    for what, data in wrong_files().items():
        with pytest.raises(DamagedSnapshot):
            read(data, tmp_path)
            pytest.fail(f"{read.__name__} believes a file in which {what}")
    read(saved(SimulatedDisk(Random(1)))[1], tmp_path)


def test_what_was_received_is_compared_with_what_was_announced() -> None:
    """By size and checksum of the whole, and by its label."""
    snapshot, data = saved(SimulatedDisk(Random(1)))
    for what, wrong in wrong_files().items():
        assert send(SnapshotReceiver(SimulatedDisk(Random(1)), "barge"), wrong, snapshot) != snapshot.size, what
    assert send(SnapshotReceiver(SimulatedDisk(Random(1)), "barge"), data, snapshot) == len(data)
