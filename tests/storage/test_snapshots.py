"""Snapshots as files: whole or not there, checked to the last byte, and never apart from the log (docs/storage_format.md)."""

import errno
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from random import Random

import msgspec
import pytest
from msgspec import structs

from bargetrio.raft.messages import Entry, SnapshotMeta
from bargetrio.raft.records import HardState, Install, LogStart, Record, Remembered
from bargetrio.simulator.disk import SimulatedDisk
from bargetrio.storage.errors import DamagedLog, DamagedSnapshot, WrongFolder
from bargetrio.storage.lines import encode_line
from bargetrio.storage.real_disk import RealDisk
from bargetrio.storage.recovery import segment_name
from bargetrio.storage.snapshots import (
    RECEIVING,
    TAKING,
    FileOf,
    SnapshotReceiver,
    SnapshotWriter,
    copy_snapshot,
    read_piece,
    read_snapshot,
    remove_snapshots,
    snapshot_labels,
    snapshot_name,
)
from bargetrio.storage.wal import OpenFolder, open_folder
from tests.storage.logs import (
    MEMBERS,
    append,
    digest,
    entry,
    file_of,
    open_log,
    save,
    send,
    start_of,
    state_after,
    truncate,
)

LOG = [entry(1, f"e{index}") for index in range(1, 9)]


def name_of(snapshot: SnapshotMeta) -> str:
    """The path of its file."""
    return snapshot_name(snapshot.last_index, snapshot.last_term)


def loaded(disk: SimulatedDisk) -> tuple[Remembered, list[bytes]]:
    """Return what the folder remembers, and the state that it loads."""
    state: list[bytes] = []
    folder = open_log(disk, load=state.append)
    folder.close()
    return folder.remembered, state


def with_log(entries: list[Entry], segment_bytes: int = 300) -> tuple[SimulatedDisk, OpenFolder]:
    """A folder with these entries, a write for each."""
    disk = SimulatedDisk(Random(1))
    folder = open_log(disk, segment_bytes)
    folder.write([HardState(term=entries[0].term, voted_for=1)])
    for count, new in enumerate(entries):
        folder.write([append(entries[:count], new)])
    return disk, folder


# -- the file --------------------------------------------------------------------------------------------------------------


def test_a_snapshot_is_read_as_it_was_written() -> None:
    """Label, lines, size and checksum; and the file is text."""
    disk = SimulatedDisk(Random(1))
    snapshot = save(disk, LOG)
    lines: list[bytes] = []
    start, meta = read_snapshot(FileOf(disk, name_of(snapshot)), "s", lines.append)
    assert (meta, start) == (snapshot, start_of(8, 1, digest(LOG)))
    assert lines == [state_after(8)] * 3
    assert (meta.size, meta.members, meta.digest) == (len(disk.peek(name_of(snapshot))), MEMBERS, digest(LOG))
    assert snapshot_labels(disk) == [(8, 1)]
    assert disk.peek(name_of(snapshot)).decode().count("\n") == 5


def test_a_state_may_be_empty_or_longer_than_what_is_read_at_once() -> None:
    """No line, and lines of half a mebibyte."""
    disk = SimulatedDisk(Random(1))
    save(disk, LOG, size=0)
    assert loaded(disk)[1] == []
    writer = SnapshotWriter(disk, start_of(9, 1))
    big = [b'{"%d":"%s"}' % (number, b"x" * 500_000) for number in range(5)]
    for line in big:
        writer.add(line)
    writer.finish()
    lines: list[bytes] = []
    read_snapshot(FileOf(disk, snapshot_name(9, 1)), "s", lines.append)
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
            read_snapshot(FileOf(disk, "snapshots/file"), "file", lambda payload: None)
    disk.put("snapshots/file", data)
    assert read_snapshot(FileOf(disk, "snapshots/file"), "file", lambda payload: None)[1] == snapshot


def test_a_line_too_few_is_found_though_every_line_is_right() -> None:
    """The end record counts them, and has a checksum of all."""
    _, data = file_of(LOG)
    lines = data.splitlines(keepends=True)
    disk = SimulatedDisk(Random(1))
    for content in (lines[:1] + lines[2:], lines[:2] + lines[1:], [lines[0], *lines[-1:]]):
        disk.put("snapshots/file", b"".join(content))
        with pytest.raises(DamagedSnapshot, match="not whole"):
            read_snapshot(FileOf(disk, "snapshots/file"), "file", lambda payload: None)


def test_a_newer_format_is_told_as_such() -> None:
    """Not as damage that somebody would want to repair."""
    disk = SimulatedDisk(Random(1))
    start = structs.replace(start_of(8, 1), format=2)
    disk.put("snapshots/file", encode_line(msgspec.json.encode(start)))
    with pytest.raises(DamagedSnapshot, match="a newer Barge wrote it"):
        read_snapshot(FileOf(disk, "snapshots/file"), "file", lambda payload: None)


def test_a_state_can_be_put_under_another_label() -> None:
    """For who makes a new cluster of an old one's state."""
    disk = SimulatedDisk(Random(1))
    snapshot = save(disk, LOG)
    copied = copy_snapshot(FileOf(disk, name_of(snapshot)), "s", SnapshotWriter(disk, start_of(1, 1)))
    assert (copied.last_index, copied.digest) == (1, 0)
    assert snapshot_labels(disk) == [(1, 1), (8, 1)]


def test_a_piece_of_a_file_that_went_meanwhile_is_none() -> None:
    """A leader that was deposed still reads a piece, and its file is not needed any more: no fault of the disk (OWN-20)."""
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
    """What it cut was in segments that are gone."""
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
    without = deepcopy(disk)
    for name in (*segments[:2], snapshot_name(4, 1)):
        without.remove(name)
    with pytest.raises(DamagedLog, match="there is no snapshot"):
        open_log(without)


def test_a_damaged_snapshot_is_not_passed_over_for_an_older_one() -> None:
    """The log behind the older one is gone (BUG-34): the node does not start, and says which file it is."""
    disk, folder = with_log(LOG)
    save(disk, LOG[:4])
    newest = save(disk, LOG)
    folder.close()
    disk.flip(name_of(newest), 100, 7)
    with pytest.raises(DamagedSnapshot, match=name_of(newest)):
        open_log(disk)
    assert snapshot_labels(disk) == [(4, 1), (8, 1)]


def test_a_snapshot_of_other_members_or_of_another_cluster_is_refused() -> None:
    """It is the state of a cluster that this configuration does not name (BUG-36, BUG-40)."""
    disk, folder = with_log(LOG)
    save(disk, LOG)
    folder.close()
    with pytest.raises(WrongFolder, match="nodes 0, 1, 2; the configuration names nodes 0, 1, 4"):
        open_folder(disk, "barge", 0, lambda: "store-0", members=(4, 1, 0))
    other = SimulatedDisk(Random(1))
    SnapshotWriter(other, structs.replace(start_of(3, 1), cluster="other")).finish()
    with pytest.raises(WrongFolder, match="cluster 'other'"):
        open_log(other)


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


# -- crashes ---------------------------------------------------------------------------------------------------------------


def crashes(
    make: Callable[[], tuple[SimulatedDisk, OpenFolder]],
    work: Callable[[SimulatedDisk, OpenFolder], object],
    check: Callable[[SimulatedDisk], object],
) -> int:
    """Let `work` end before each of its disk calls, by a kill, a power failure, or one after the other; return how many."""
    call = 0
    while True:
        call += 1
        for ends in ("k", "p", "kp", "kkp"):
            for luck in range(6):
                disk, folder = make()
                disk.reseed(luck)
                disk.unplugged_at = disk.calls + call
                try:
                    work(disk, folder)
                except OSError:
                    pass
                else:
                    return call - 1
                for end in ends[:-1]:
                    assert end == "k"
                    disk.end_process()
                    check(disk)
                disk.end_process() if ends[-1] == "k" else disk.crash()
                check(disk)
                check(disk)


def test_a_crash_while_saving_leaves_the_old_state_or_the_new_one() -> None:
    """Whatever call it comes before."""

    def work(disk: SimulatedDisk, folder: OpenFolder) -> None:
        save(disk, LOG, size=40)
        folder.trim(9, {8})

    def make() -> tuple[SimulatedDisk, OpenFolder]:
        disk, folder = with_log(LOG)
        save(disk, LOG[:4])
        return disk, folder

    def check(disk: SimulatedDisk) -> None:
        remembered, state = loaded(disk)
        assert remembered.snapshot is not None
        assert remembered.snapshot.last_index in (4, 8)
        assert set(state) == {state_after(remembered.snapshot.last_index)}
        start = remembered.start.index
        assert start <= remembered.snapshot.last_index
        assert remembered.entries == tuple(LOG[start:])

    assert crashes(make, work, check) > 40


def test_a_received_file_is_closed_when_it_is_whole(tmp_path: Path) -> None:
    """Or the disk would keep its bytes after it was deleted."""
    disk = RealDisk(tmp_path)
    disk.make_dir("snapshots")
    snapshot, data = file_of(LOG)
    before = len(os.listdir("/proc/self/fd"))
    assert send(SnapshotReceiver(disk, "barge"), data, snapshot) == snapshot.size
    assert len(os.listdir("/proc/self/fd")) == before
    disk.unlock()


@pytest.mark.parametrize("log", [LOG[:3], [*LOG[:5], *(entry(2, f"other {number}") for number in range(6))]])
def test_a_crash_while_receiving_and_installing_leaves_the_old_state_or_the_new_one(log: list[Entry]) -> None:
    """A shorter log, and one that conflicts: before it all of the old, then the snapshot, then what followed it."""
    of = [*LOG, entry(3, "last")]
    snapshot, data = file_of(of, size=12)
    new = entry(3, "behind")

    def work(disk: SimulatedDisk, folder: OpenFolder) -> None:
        send(SnapshotReceiver(disk, "barge"), data, snapshot, piece=300)
        records: list[Record] = [HardState(term=3, voted_for=2), Install(snapshot=snapshot), append(of, new)]
        folder.write(records)

    old = Remembered(hard_state=HardState(term=1, voted_for=1), entries=tuple(log))
    with_vote = structs.replace(old, hard_state=HardState(term=3, voted_for=2))
    start = LogStart(index=9, term=3, digest=digest(of))
    installed = structs.replace(with_vote, snapshot=snapshot, start=start, entries=())
    whole = structs.replace(installed, entries=(new,))
    seen: set[int] = set()

    def check(disk: SimulatedDisk) -> None:
        remembered, state = loaded(disk)
        possible = [old, with_vote, installed, whole]
        assert remembered in possible
        assert state == ([state_after(9)] * 12 if remembered.snapshot is not None else [])
        seen.add(possible.index(remembered))

    assert crashes(lambda: with_log(log), work, check) > 15
    assert seen == {0, 1, 2, 3}


def test_a_crash_while_trimming_leaves_no_gap() -> None:
    """Removals reach the disk in no order, unless a sync stands between them (OWN-18)."""

    def work(disk: SimulatedDisk, folder: OpenFolder) -> None:
        folder.trim(9, {8})

    def make() -> tuple[SimulatedDisk, OpenFolder]:
        disk, folder = with_log(LOG)
        save(disk, LOG)
        return disk, folder

    def check(disk: SimulatedDisk) -> None:
        remembered, _ = loaded(disk)
        assert remembered.entries == tuple(LOG[remembered.start.index :])

    assert crashes(make, work, check) > 3


class SlowToRemove(SimulatedDisk):
    """Its first removal takes long: another thread may go on meanwhile."""

    def __init__(self) -> None:
        super().__init__(Random(1))
        self.has_begun = threading.Event()
        self.may_end = threading.Event()
        self.is_slow = False
        self.removed: list[str] = []

    def remove(self, path: str) -> None:
        """Wait, the first time."""
        if self.is_slow:
            self.is_slow = False
            self.has_begun.set()
            self.may_end.wait(10)
        super().remove(path)
        self.removed.append(path)


def test_segments_go_one_by_one_though_two_threads_remove_them() -> None:
    """A snapshot is installed while another one's log is being trimmed: a crash must not find the second segment gone and the
    first one there (OWN-23)."""
    disk = SlowToRemove()
    folder = open_log(disk, segment_bytes=300)
    for index, new in enumerate(LOG):
        folder.write([append(LOG[:index], new)])
    segments = [segment_name(sequence) for sequence in range(1, 4)]
    assert all(disk.exists(name) for name in segments)
    save(disk, LOG[:6])
    snapshot, data = file_of([*LOG, entry(1, "e9")])
    send(SnapshotReceiver(disk, "barge"), data, snapshot)
    disk.is_slow = True
    trimming = threading.Thread(target=folder.trim, args=(7, {6}))
    trimming.start()
    assert disk.has_begun.wait(10)
    installing = threading.Thread(target=folder.write, args=([Install(snapshot=snapshot)],))
    installing.start()
    installing.join(0.2)  # it can't end: it has segments to remove
    disk.may_end.set()
    trimming.join(10)
    installing.join(10)
    removed = [name for name in disk.removed if name in segments]
    assert removed == sorted(removed), "the oldest first"


def test_trimming_beside_a_segment_that_is_not_begun_yet() -> None:
    """The disk fails in the middle of beginning a segment, and a snapshot lets go of all before it (OWN-21)."""
    for call in range(1, 12):
        disk, folder = with_log(LOG)
        save(disk, LOG)
        disk.fail_at[disk.calls + call] = errno.EIO
        with suppress(OSError):
            folder.write([append(LOG, entry(1, "x" * 1000))])
        with suppress(OSError):
            folder.trim(9, {8})
        for ended in (disk.end_process, disk.crash):
            ended()
            remembered, _ = loaded(disk)
            assert remembered.hard_state == HardState(term=1, voted_for=1), f"term and vote went with call {call}"
            assert remembered.start.index + len(remembered.entries) >= 8


def test_a_snapshots_name_lasts_before_the_log_is_begun_anew_for_it() -> None:
    """Its giver was killed before the sync; the next life removes the log, and then the power fails (OWN-17)."""
    for luck in range(10):
        disk, folder = with_log(LOG[:3])
        disk.reseed(luck)
        snapshot, data = file_of(LOG)
        send(SnapshotReceiver(disk, "barge"), data, snapshot)
        disk.unplugged_at = disk.calls + 2  # after the renaming
        with pytest.raises(OSError):
            folder.write([Install(snapshot=snapshot)])
        disk.end_process()
        assert loaded(disk)[0].snapshot == snapshot
        disk.crash()
        assert loaded(disk)[0].snapshot == snapshot


def test_two_snapshots_in_quick_succession() -> None:
    """One is installed while another is being saved (BUG-31, BUG-35): the newer one counts, whichever gets its name last."""
    disk, folder = with_log(LOG[:5])
    writer = SnapshotWriter(disk, start_of(4, 1, digest(LOG[:4])))
    writer.add(state_after(4))
    snapshot, data = file_of(LOG)
    send(SnapshotReceiver(disk, "barge"), data, snapshot)
    folder.write([Install(snapshot=snapshot)])
    writer.finish()
    newer, newer_data = file_of([*LOG, entry(1, "e9")])
    send(SnapshotReceiver(disk, "barge"), newer_data, newer)
    assert loaded(deepcopy_closed(disk))[0].snapshot == snapshot
    folder.write([Install(snapshot=newer)])
    folder.trim(10, {9})
    folder.close()
    remembered, state = loaded(disk)
    assert (remembered.snapshot, remembered.start.index, remembered.entries) == (newer, 9, ())
    assert state == [state_after(9)] * 3
    assert snapshot_labels(disk) == [(9, 1)]


def deepcopy_closed(disk: SimulatedDisk) -> SimulatedDisk:
    """The same folder after its process was killed."""
    there = deepcopy(disk)
    there.end_process()
    return there


def test_a_log_that_a_snapshot_has_superseded_is_begun_anew() -> None:
    """The crash came between the snapshot's name and the new segment; the entries before it are not the leader's."""
    log = [*LOG[:5], *(entry(2, f"other {number}") for number in range(6))]
    disk, folder = with_log(log)
    folder.close()
    snapshot = save(disk, [*LOG, entry(3, "last")])
    folder = open_log(disk)
    assert folder.was_superseded
    assert (folder.remembered.snapshot, folder.remembered.entries) == (snapshot, ())
    new = entry(3, "behind")
    folder.write([append([*LOG, entry(3, "last")], new)])
    folder.close()
    again = open_log(disk)
    assert not again.was_superseded
    assert (again.remembered.start.index, again.remembered.entries) == (9, (new,))
