"""Crashes at any time while a snapshot is saved, received or installed, or the log trimmed for it."""

import errno
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from random import Random

import pytest
from msgspec import structs

from bargetrio.raft.messages import Entry
from bargetrio.raft.records import HardState, Install, LogStart, Record, Remembered
from bargetrio.simulator.disk import SimulatedDisk
from bargetrio.storage.real_disk import RealDisk
from bargetrio.storage.recovery import segment_name
from bargetrio.storage.snapshots import (
    SnapshotReceiver,
    SnapshotWriter,
    snapshot_labels,
)
from bargetrio.storage.wal import OpenFolder
from tests.storage.logs import (
    LOG,
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
    with_log,
)


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


@pytest.mark.slow
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


@pytest.mark.slow
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
    """Removals reach the disk in any order, unless there is a sync between them (OWN-18)."""

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
    """Its first removal takes long: another thread may run meanwhile."""

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


def test_after_a_removal_that_failed_there_is_no_other() -> None:
    """The disk fails while a segment is removed; another thread's trim, that had begun before the node stopped, removes nothing:
    the next segment must not be gone while that one is there (OWN-35)."""
    for call in range(1, 5):
        disk, folder = with_log(LOG)
        save(disk, LOG)
        disk.fail_at[disk.calls + call] = errno.EIO
        for _ in range(2):
            with suppress(OSError):
                folder.trim(9, {8})
        for ended in (disk.end_process, disk.crash):
            ended()
            remembered, _ = loaded(disk)
            assert remembered.start.index + len(remembered.entries) == 8, f"call {call}"


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


def test_trimming_beside_a_segment_that_was_empty_when_it_was_opened() -> None:
    """A crash came between its name and its first record: what it begins with is the entry behind the last one."""
    for index in range(1, len(LOG)):
        disk, folder = with_log(LOG)
        folder.close()
        last = max(int(name[:16]) for name in disk.list("wal"))
        full = disk.open(segment_name(last))
        full.truncate(len(disk.peek(segment_name(last)).rstrip(b"\0")))
        full.close()
        disk.open(segment_name(last + 1), create=True).close()
        folder = open_log(disk, segment_bytes=300)
        snapshot = save(disk, LOG[:index])
        folder.trim(index + 1, {index})
        folder.close()
        remembered, _ = loaded(disk)
        assert remembered.snapshot == snapshot
        assert remembered.entries == tuple(LOG[remembered.start.index :]) and remembered.start.index <= index


def test_a_snapshots_name_lasts_before_the_log_is_begun_anew_for_it() -> None:
    """Its writer was killed before the sync; after a restart the log is removed, and then the power fails (OWN-17)."""
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


@pytest.mark.parametrize("sync_bytes", [1, 100, 300, 1 << 20])
def test_a_saved_file_is_synced_to_its_end_however_long_it_is(sync_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is synced every so many bytes, and what is left of it before it gets its name."""
    monkeypatch.setattr("bargetrio.storage.snapshots.SYNC_BYTES", sync_bytes)
    for size in range(20):
        disk, folder = with_log(LOG)
        disk.reseed(size)
        snapshot = save(disk, LOG, size)
        folder.trim(len(LOG) + 1, {len(LOG)})
        disk.crash()
        remembered, state = loaded(disk)
        assert remembered.snapshot == snapshot and len(state) == size


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
