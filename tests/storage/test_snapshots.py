"""Snapshot files: atomic, verified to the last byte, and consistent with the log (docs/storage_format.md)."""

from copy import deepcopy
from random import Random
from zlib import crc32

import msgspec
import pytest
from msgspec import structs

from bargetrio.raft.messages import SnapshotMeta
from bargetrio.raft.records import HardState, Install, LogStart
from bargetrio.simulator.disk import SimulatedDisk
from bargetrio.storage.errors import DamagedLog, DamagedSnapshot, WrongFolder
from bargetrio.storage.lines import HEADER, encode_line
from bargetrio.storage.recovery import segment_name
from bargetrio.storage.snapshots import (
    RECEIVING,
    TAKING,
    FolderFile,
    SnapshotReceiver,
    SnapshotWriter,
    copy_snapshot,
    read_piece,
    read_snapshot,
    remove_snapshots,
    snapshot_labels,
    snapshot_name,
)
from bargetrio.storage.wal import open_folder
from tests.storage.logs import (
    LOG,
    MEMBERS,
    append,
    digest,
    entry,
    file_of,
    loaded,
    open_log,
    save,
    send,
    start_of,
    state_after,
    truncate,
    with_log,
)


def name_of(snapshot: SnapshotMeta) -> str:
    """The path of its file."""
    return snapshot_name(snapshot.last_index, snapshot.last_term)


# -- the file --------------------------------------------------------------------------------------------------------------


def test_a_snapshot_is_read_as_it_was_written() -> None:
    """Label, lines, size and checksum; and the file is text."""
    disk = SimulatedDisk(Random(1))
    snapshot = save(disk, LOG)
    lines: list[bytes] = []
    start, meta = read_snapshot(FolderFile(disk, name_of(snapshot)), "s", lines.append)
    assert (meta, start) == (snapshot, start_of(8, 1, digest(LOG)))
    assert lines == [state_after(8)] * 3
    assert (meta.size, meta.members, meta.digest) == (len(disk.peek(name_of(snapshot))), MEMBERS, digest(LOG))
    assert snapshot_labels(disk) == [(8, 1)]
    assert disk.peek(name_of(snapshot)).decode().count("\n") == 5


def test_a_state_may_be_empty_or_longer_than_what_is_read_at_once() -> None:
    """No line, and lines of half a mebibyte."""
    disk, folder = with_log(LOG)
    folder.close()
    save(disk, LOG, size=0)
    assert loaded(disk)[1] == []
    writer = SnapshotWriter(disk, start_of(9, 1))
    big = [b'{"%d":"%s"}' % (number, b"x" * 500_000) for number in range(5)]
    for line in big:
        writer.add(line)
    writer.finish()
    lines: list[bytes] = []
    read_snapshot(FolderFile(disk, snapshot_name(9, 1)), "s", lines.append)
    assert lines == big


def test_every_byte_that_is_not_what_was_written_is_found() -> None:
    """Flipped, missing at the end, or too many."""
    snapshot, data = file_of(LOG)
    disk = SimulatedDisk(Random(1))
    broken = [data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :] for place in range(len(data))]
    broken += [data[:length] for length in range(len(data))]
    broken += [data + b"\0", data + data[-60:], data + data]
    for content in broken:
        disk.put("snapshots/file", content)
        with pytest.raises(DamagedSnapshot):
            read_snapshot(FolderFile(disk, "snapshots/file"), "file", lambda payload: None)
    disk.put("snapshots/file", data)
    assert read_snapshot(FolderFile(disk, "snapshots/file"), "file", lambda payload: None)[1] == snapshot


def test_a_line_too_few_is_found_though_every_line_is_right() -> None:
    """The end record counts them, and has a checksum of all."""
    _, data = file_of(LOG)
    lines = data.splitlines(keepends=True)
    disk = SimulatedDisk(Random(1))
    for content in (lines[:1] + lines[2:], lines[:2] + lines[1:], [lines[0], *lines[-1:]]):
        disk.put("snapshots/file", b"".join(content))
        with pytest.raises(DamagedSnapshot, match="not whole"):
            read_snapshot(FolderFile(disk, "snapshots/file"), "file", lambda payload: None)


def test_a_newer_format_is_reported_as_such() -> None:
    """Not as damage."""
    disk = SimulatedDisk(Random(1))
    start = structs.replace(start_of(8, 1), format=3)
    disk.put("snapshots/file", encode_line(msgspec.json.encode(start)))
    with pytest.raises(DamagedSnapshot, match="a newer Barge wrote it"):
        read_snapshot(FolderFile(disk, "snapshots/file"), "file", lambda payload: None)


def test_a_state_can_be_put_under_another_label() -> None:
    """For a new cluster with an old one's state."""
    disk = SimulatedDisk(Random(1))
    snapshot = save(disk, LOG)
    copied = copy_snapshot(FolderFile(disk, name_of(snapshot)), "s", SnapshotWriter(disk, start_of(1, 1)))
    assert (copied.last_index, copied.digest) == (1, 0)
    assert snapshot_labels(disk) == [(1, 1), (8, 1)]


def test_a_piece_of_a_file_that_went_meanwhile_is_none() -> None:
    """A deposed leader still reads a chunk of a file that is no longer needed: no disk failure (OWN-20)."""
    disk = SimulatedDisk(Random(1))
    snapshot, newer = save(disk, LOG[:4]), save(disk, LOG)
    assert read_piece(disk, snapshot, 10, 5) == disk.peek(name_of(snapshot))[10:15]
    remove_snapshots(disk, {newer.last_index})
    assert read_piece(disk, snapshot, 10, 5) is None


def test_only_what_is_older_and_not_needed_goes() -> None:
    """Never a newer one: a leader's may have come meanwhile (BUG-31)."""
    disk = SimulatedDisk(Random(1))
    for count in (2, 4, 6, 8):
        save(disk, LOG[:count])
    remove_snapshots(disk, {2, 6})
    assert [index for index, _ in snapshot_labels(disk)] == [2, 6, 8]


# -- with the log ------------------------------------------------------------------------------------------------------------


def test_the_log_goes_on_behind_the_snapshot() -> None:
    """Entries that are in both are not applied twice: the label says how far the state is (BUG-29)."""
    disk, folder = with_log(LOG)
    snapshot = save(disk, LOG[:5])
    folder.close()
    remembered, state = loaded(disk)
    assert (remembered.snapshot, remembered.start, remembered.entries) == (snapshot, LogStart(), tuple(LOG))
    assert state == [state_after(5)] * 3


def test_trimming_leaves_what_follows_the_snapshot() -> None:
    """Whole segments go; index, term and digest of the entry before the first one are known (BUG-30)."""
    disk, folder = with_log(LOG)
    snapshot = save(disk, LOG[:6])
    folder.trim(6 + 1, {6})
    folder.close()
    assert not disk.exists(segment_name(1))
    remembered, _ = loaded(disk)
    start = remembered.start.index
    assert 0 < start <= 6
    assert remembered.start == LogStart(index=start, term=1, digest=digest(LOG[:start]))
    assert remembered.entries == tuple(LOG[start:])
    assert remembered.snapshot == snapshot


def test_trimming_over_a_truncation() -> None:
    """It truncated entries of deleted segments."""
    old = [*LOG[:6], *(entry(1, "o" * 200) for _ in range(4))]
    disk, folder = with_log(old)
    new = entry(3, "new")
    folder.write([HardState(term=3), truncate(old, 7), append(old[:6], new)])
    after = [*old[:6], new]
    for number in range(3):
        folder.write([append(after, entry(3, f"n{number}" + "x" * 200))])
        after.append(entry(3, f"n{number}" + "x" * 200))
    snapshot = save(disk, after)
    folder.trim(len(after) + 1, {snapshot.last_index})
    folder.close()
    remembered, _ = loaded(disk)
    assert remembered.entries == tuple(after[remembered.start.index :])
    assert remembered.start.digest == digest(after[: remembered.start.index])


def test_a_segment_that_is_missing_is_never_passed_over() -> None:
    """Neither in the middle, nor between the snapshot and the log, nor without any snapshot (BUG-30, BUG-34)."""
    disk, folder = with_log(LOG)
    save(disk, LOG[:4])
    folder.close()
    segments = [name for name in disk.names() if name.startswith("wal/")]
    assert len(segments) > 3
    for missing in segments[1:-1]:
        there = deepcopy(disk)
        there.remove(missing)
        with pytest.raises(DamagedLog, match="follows segment"):
            open_log(there)
    between = deepcopy(disk)
    for name in segments[:-1]:
        between.remove(name)
    with pytest.raises(DamagedLog, match="what is between is missing"):
        open_log(between)
    for count in range(1, len(segments)):
        start = msgspec.json.decode(disk.peek(segments[count]).split(b"\n", 1)[0][HEADER:])[0]["next_index"] - 1
        for last_index in range(max(start - 1, 1), start + 2):  # of whose snapshot to the very entry nothing may be missing
            there = SimulatedDisk(Random(1))
            open_log(there).close()
            there.remove(segments[0])
            for name in segments[count:]:
                there.put(name, disk.peek(name))
            save(there, [*LOG, *LOG][:last_index])
            if last_index < start:
                with pytest.raises(DamagedLog, match="what is between is missing"):
                    open_log(there)
            else:
                open_log(there).close()
    without = deepcopy(disk)
    for name in (*segments[:2], snapshot_name(4, 1)):
        without.remove(name)
    with pytest.raises(DamagedLog, match="there is no snapshot"):
        open_log(without)


def test_a_damaged_snapshot_is_not_passed_over_for_an_older_one() -> None:
    """The log after the older one is deleted (BUG-34): the node does not start, and the error has the file."""
    disk, folder = with_log(LOG)
    save(disk, LOG[:4])
    newest = save(disk, LOG)
    folder.close()
    disk.flip(name_of(newest), 100, 7)
    with pytest.raises(DamagedSnapshot, match=name_of(newest)):
        open_log(disk)
    assert snapshot_labels(disk) == [(4, 1), (8, 1)]


@pytest.mark.parametrize("index", [4, 6, 8])
def test_a_snapshot_of_another_log_with_the_same_last_term_is_damage(index: int) -> None:
    """An earlier entry differs: neither is known to be right, so the node does not start and changes nothing.

    Where the terms differ, or the log is shorter, a leader's snapshot had just taken the log's place (Figure 13, Raft 7).
    """
    disk, folder = with_log(LOG)
    folder.close()
    save(disk, [*LOG[:2], entry(1, "another"), *LOG[3:index]])
    before = disk.image()
    with pytest.raises(DamagedLog, match=f"the log up to entry {index} of term 1 is not the one"):
        open_log(disk)
    assert disk.image() == before
    disk.remove(snapshot_name(index, 1))
    save(disk, [*LOG[:2], entry(1, "another"), *LOG[3 : index - 1], entry(2, "of a later term")])
    assert loaded(disk)[0].start.index == index


def test_a_log_that_begins_with_another_entry_than_its_snapshot_ends_with_is_damage() -> None:
    """The log was trimmed up to the snapshot: what is left of it is the digest before its first entry."""
    disk, folder = with_log(LOG)
    received, data = file_of([*LOG, entry(2, "more")])
    send(SnapshotReceiver(disk, "barge"), data, received)
    folder.write([HardState(term=2)])
    folder.write([Install(snapshot=received)])
    folder.close()
    assert loaded(disk)[0].start == LogStart(index=9, term=2, digest=received.digest)
    disk.remove(name_of(received))
    save(disk, [*LOG[:7], entry(1, "another"), entry(2, "more")])
    with pytest.raises(DamagedLog, match="their digests differ"):
        open_log(disk)


def test_a_snapshot_of_other_members_or_of_another_cluster_is_refused() -> None:
    """It is the state of a cluster that this configuration does not name (BUG-36, BUG-40)."""
    disk, folder = with_log(LOG)
    save(disk, LOG)
    folder.close()
    with pytest.raises(WrongFolder, match="nodes 0, 1, 2; the configuration names nodes 0, 1, 4"):
        open_folder(disk, "barge", 0, lambda: "store-0", members=(4, 1, 0))
    of_others = SimulatedDisk(Random(1))
    SnapshotWriter(of_others, structs.replace(start_of(3, 1), members=(0, 1, 4))).finish()
    with pytest.raises(WrongFolder, match="is the state of a cluster of nodes 0, 1, 4"):
        open_log(of_others)
    other = SimulatedDisk(Random(1))
    SnapshotWriter(other, structs.replace(start_of(3, 1), cluster="other")).finish()
    with pytest.raises(WrongFolder, match="cluster 'other'"):
        open_log(other)


def test_what_is_not_needed_of_a_received_file_is_deleted() -> None:
    """When it is given up, and when it was not what it should be; then it may begin again."""
    disk, _ = with_log(LOG[:3])
    snapshot, data = file_of(LOG)
    receiver = SnapshotReceiver(disk, "barge")
    receiver.store(snapshot, 0, data[:100])
    assert disk.exists(RECEIVING)
    assert receiver.store(snapshot, 0, b"") == 0
    assert not disk.exists(RECEIVING)
    assert send(receiver, data[:-1] + b"x", snapshot) == 0
    assert not disk.exists(RECEIVING)
    assert send(receiver, data, snapshot) == snapshot.size


def test_a_file_has_pieces_of_one_snapshot_only() -> None:
    """Also where two have the same last index: their bytes differ, as each node cuts its state into slices of its own."""
    disk, _ = with_log(LOG[:3])
    snapshot, data = file_of(LOG)
    other, other_data = file_of(LOG, size=7)
    receiver = SnapshotReceiver(disk, "barge")
    receiver.store(snapshot, 0, data[:100])
    with pytest.raises(AssertionError, match="one snapshot"):
        receiver.store(other, 100, other_data[100:200])
    assert send(receiver, other_data, other) == other.size


def test_what_was_not_finished_is_forgotten() -> None:
    """A snapshot that was being saved, and one that was being received."""
    disk, folder = with_log(LOG)
    writer = SnapshotWriter(disk, start_of(8, 1))
    writer.add(state_after(8))
    writer.abandon()
    snapshot, data = file_of(LOG)
    receiver = SnapshotReceiver(disk, "barge")
    receiver.store(snapshot, 0, data[:100])
    receiver.close()
    folder.close()
    remembered, state = loaded(disk)
    assert (remembered.snapshot, remembered.entries, state) == (None, tuple(LOG), [])
    assert not disk.exists(TAKING) and not disk.exists(RECEIVING)


# -- receiving -------------------------------------------------------------------------------------------------------------


def test_pieces_make_the_file_that_was_sent() -> None:
    """And each says how much is stored."""
    disk, folder = with_log(LOG[:2])
    snapshot, data = file_of(LOG)
    receiver = SnapshotReceiver(disk, "barge")
    assert receiver.store(snapshot, 0, data[:100]) == 100
    assert receiver.store(snapshot, 100, data[100:]) == snapshot.size
    assert disk.peek(RECEIVING) == data
    folder.write([Install(snapshot=snapshot)])
    assert disk.peek(name_of(snapshot)) == data


def test_a_file_that_is_not_what_was_announced_counts_as_nothing() -> None:
    """Another checksum, another label, another cluster's, pieces of two files; then it can be sent again (BUG-36)."""
    disk = SimulatedDisk(Random(1))
    snapshot, data = file_of(LOG)
    other, other_data = file_of([*LOG[:7], entry(1, "xx")])
    assert len(other_data) == len(data)
    receiver = SnapshotReceiver(disk, "barge")
    assert send(receiver, other_data, snapshot) == 0
    assert send(receiver, data[:100] + other_data[100:], snapshot) == 0
    assert send(receiver, data, structs.replace(snapshot, last_term=2)) == 0
    assert send(receiver, data, structs.replace(snapshot, members=(0, 1))) == 0
    assert send(receiver, data + b"x", snapshot) == 0
    assert send(SnapshotReceiver(disk, "other"), data, snapshot) == 0
    assert send(receiver, data, snapshot) == snapshot.size
    assert other != snapshot


def test_a_file_of_another_name_beside_the_snapshots_is_ignored() -> None:
    """A backup copied there, or an editor's file, neither stops the node nor is deleted."""
    disk, folder = with_log(LOG)
    snapshot = save(disk, LOG[:5])
    folder.close()
    for name in ("backup.snap", "5-1.snap", "notes", f"{name_of(snapshot).removeprefix('snapshots/')}.bak"):
        file = disk.open(f"snapshots/{name}", create=True)
        file.write_at(0, b"of somebody else")
        file.sync()
        file.close()
    disk.sync_dir("snapshots")
    assert snapshot_labels(disk) == [(snapshot.last_index, snapshot.last_term)]
    remembered, _ = loaded(disk)
    assert remembered.snapshot == snapshot
    assert disk.exists("snapshots/backup.snap")


def test_a_received_file_nested_deeper_than_python_recurses_is_not_whole() -> None:
    """A decoder raises RecursionError for it: that must not end the node that is sent such a file."""
    disk = SimulatedDisk(Random(1))
    deep = b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    start = msgspec.json.encode(start_of(3, 1)).replace(b'"configuration":null', b'"configuration":' + deep)
    data = encode_line(start)
    meta = SnapshotMeta(last_index=3, last_term=1, digest=0, members=MEMBERS, size=len(data), checksum=crc32(data))
    assert SnapshotReceiver(disk, "barge").store(meta, 0, data) == 0
