"""The write-ahead log: synced records are recovered, a torn tail is truncated, any other damage is refused."""

import errno
from pathlib import Path
from random import Random

import msgspec
import pytest

from bargetrio.raft.messages import Entry
from bargetrio.raft.records import Append, HardState, Record, Remembered, Truncate
from bargetrio.simulator.disk import SimulatedDisk
from bargetrio.storage.errors import DamagedLog, FolderInUse, StorageError, WrongFolder
from bargetrio.storage.lines import HEADER, encode_line
from bargetrio.storage.real_disk import RealDisk
from bargetrio.storage.wal import open_folder
from tests.storage.logs import append, digest, entry, history, open_log


def reopened(disk: SimulatedDisk) -> Remembered:
    """Return the persistent state after reopening; checks that reopening again gives the same."""
    folder = open_log(disk)
    remembered = folder.remembered
    folder.close()
    again = open_log(disk)
    assert again.remembered == remembered
    again.close()
    return remembered


def test_a_new_folder_remembers_nothing(tmp_path: Path) -> None:
    """Term 0, no vote, no entries."""
    folder = open_log(RealDisk(tmp_path))
    assert folder.remembered == Remembered()
    assert folder.repaired == ""
    folder.close()


def test_the_log_is_text(tmp_path: Path) -> None:
    """It can be read with less."""
    folder = open_log(RealDisk(tmp_path))
    folder.write([HardState(term=3, voted_for=1), append([], entry(3, "Some Value"))])
    folder.close()
    lines = (tmp_path / "wal" / f"{1:016d}.log").read_bytes().rstrip(b"\0").decode().splitlines()
    assert [line[HEADER:] for line in lines] == [
        '[{"record":"segment","sequence":1,"next_index":1,"last_term":0,"digest":0,"hard_state":{"record":"hard_state","term":0,"voted_for":null}}]',
        '[{"record":"hard_state","term":3,"voted_for":1},'
        f'{{"record":"append","first_index":1,"digest":{digest([entry(3, "Some Value")])},"entries":[[3,"Some Value"]]}}]',
    ]


@pytest.mark.parametrize("seed", range(10))
def test_every_write_is_remembered(seed: int, tmp_path: Path) -> None:
    """On the real disk, over segments, truncations and votes."""
    for number, (records, remembered) in enumerate(history(Random(seed), 40)):
        if number % 7 == 0:
            folder = open_log(RealDisk(tmp_path))
        folder.write(records)
        if number % 7 == 6:
            folder.close()
            folder = open_log(RealDisk(tmp_path))
            assert folder.remembered == remembered
            folder.close()
    assert len(list((tmp_path / "wal").iterdir())) > 3


@pytest.mark.slow
def test_a_log_cut_at_every_byte_keeps_its_whole_prefix() -> None:
    """Whatever the length that a crash left of the last segment: all whole records before the cut, nothing else."""
    disk = SimulatedDisk(Random(1))
    folder = open_log(disk, segment_bytes=6000)
    made = history(Random(4), 30)
    for records, _ in made:
        folder.write(records)
    folder.close()
    name = "wal/" + disk.list("wal")[-1]
    whole = disk.read(name).rstrip(b"\0")
    before = _remembered_before_last_segment(made, whole)
    ends = [place + 1 for place, byte in enumerate(whole) if byte == 0x0A]
    assert len(disk.list("wal")) > 2 and len(ends) > 3
    for cut in range(len(whole) + 1):
        copy = _copy(disk)
        copy.put(name, whole[:cut])
        complete = sum(end <= cut for end in ends)
        assert reopened(copy) == before[complete], cut


def test_a_cut_before_the_last_segment_is_damage() -> None:
    """A later segment proves that the earlier one was synced whole (BUG-54)."""
    disk = SimulatedDisk(Random(1))
    folder = open_log(disk)
    for records, _ in history(Random(4), 30):
        folder.write(records)
    folder.close()
    name = "wal/" + disk.list("wal")[-2]
    whole = disk.read(name)
    for cut in (0, 1, len(whole) // 2, len(whole) - 1):
        copy = _copy(disk)
        copy.put(name, whole[:cut])
        with pytest.raises(DamagedLog, match="damaged at byte"):
            open_log(copy)


@pytest.mark.slow
def test_a_flipped_byte_anywhere_is_found() -> None:
    """Every byte of every segment, four ways. Only a zero over a byte that is alone in its sector imitates a torn write."""
    disk = SimulatedDisk(Random(1))
    folder = open_log(disk, segment_bytes=2048)
    made = history(Random(11), 12)
    for records, _ in made:
        folder.write(records)
    folder.close()
    names = [f"wal/{name}" for name in disk.list("wal")]
    assert len(names) >= 2
    undecidable: list[tuple[str, int, int]] = []
    for name in names:
        data = disk.read(name)
        for offset, byte in enumerate(data.rstrip(b"\0")):
            for value in sorted({byte ^ 1, byte ^ 0x80, 0, 0xFF, 0x0A} - {byte}):
                copy = _copy(disk)
                copy.flip(name, offset, value)
                try:
                    open_log(copy).close()
                except DamagedLog:
                    continue
                undecidable.append((name, offset, value))
    for name, offset, value in undecidable:
        whole = disk.read(name)
        end = len(whole.rstrip(b"\0"))
        last_line = whole.rstrip(b"\0\n").rfind(b"\n") + 1
        alone = (offset % 512 == 511 and offset == last_line) or (offset % 512 == 0 and offset == end - 1)
        assert name == names[-1] and value == 0 and alone, (name, offset, value)


def test_a_wrong_byte_among_the_zeros_is_found() -> None:
    """After the end there are only zeros; one stray byte is no torn write."""
    disk = SimulatedDisk(Random(1))
    folder = open_log(disk, segment_bytes=4096)
    folder.write([append([], entry(1, "a"))])
    folder.close()
    name = "wal/" + disk.list("wal")[-1]
    data = disk.read(name)
    for offset in range(len(data.rstrip(b"\0")), len(data), 37):
        copy = _copy(disk)
        copy.flip(name, offset, 0x41)
        with pytest.raises(DamagedLog):
            open_log(copy)


def test_a_missing_segment_is_found() -> None:
    """The first, or one in the middle."""
    disk = SimulatedDisk(Random(1))
    folder = open_log(disk)
    for records, _ in history(Random(4), 30):
        folder.write(records)
    folder.close()
    names = disk.list("wal")
    for gone in (names[0], names[len(names) // 2]):
        copy = _copy(disk)
        copy.remove(f"wal/{gone}")
        with pytest.raises(DamagedLog):
            open_log(copy)


@pytest.mark.parametrize("seed", range(300))
def test_a_crash_loses_nothing_that_was_synced(seed: int) -> None:
    """Lost, torn, reordered unsynced sectors and names, crash after crash: it boots (BUG-53, BUG-55) and remembers (BUG-01)."""
    random = Random(seed)
    disk = SimulatedDisk(random)
    disk.short_writes = random.random() < 0.5
    made = history(random, 25)
    remembered = Remembered()
    next_write = 0
    for _ in range(4):
        for number in range(disk.calls + 1, disk.calls + 200):
            if random.random() < 0.02:
                disk.fail_at[number] = random.choice([errno.EIO, errno.ENOSPC])
        try:
            folder = open_log(disk)
            assert folder.remembered in (remembered, made[next_write][1])
            if folder.remembered != remembered:
                next_write += 1  # the write that was in flight reached the disk after all
            remembered = folder.remembered
            while next_write < len(made) - 5:
                folder.write(made[next_write][0])
                remembered = made[next_write][1]
                next_write += 1
        except (OSError, StorageError) as problem:
            assert not isinstance(problem, DamagedLog), problem
        disk.fail_at.clear()
        disk.crash()
    folder = open_log(disk)
    assert folder.remembered in (remembered, made[next_write][1])


@pytest.mark.parametrize("failure", [errno.EIO, errno.ENOSPC])
def test_an_error_at_each_of_the_first_hundred_calls_stops_the_log(failure: int) -> None:
    """Nothing is retried after it (BUG-51), and what was acknowledged before is there after the crash."""
    stopped = 0
    for call in range(1, 101):
        disk = SimulatedDisk(Random(call))
        made = history(Random(7), 60)
        disk.fail_at[call] = failure
        remembered, done = Remembered(), 0
        try:
            folder = open_log(disk, segment_bytes=600)
            for records, after in made:
                folder.write(records)
                remembered, done = after, done + 1
        except (OSError, StorageError):
            stopped += 1
            if done:
                calls = disk.calls
                with pytest.raises(OSError, match="failed before") as again:
                    folder.write(made[done][0])
                with pytest.raises(OSError, match="failed before") as trimming:
                    folder.trim(1, {0})
                assert again.value.errno == trimming.value.errno == failure, "a full disk passes, and is told as one"
                assert disk.calls == calls
        disk.crash()
        assert open_log(disk, segment_bytes=600).remembered in (remembered, made[done][1])
    assert stopped == 100


def test_a_disk_that_is_full_stops_the_log_and_space_lets_it_go_on() -> None:
    """BUG-55: no zeros or half records are left that would keep the node from starting."""
    disk = SimulatedDisk(Random(3), capacity=40_000)
    folder = open_log(disk, segment_bytes=4096)
    folder.write([HardState(term=1)])
    written: list[Entry] = []
    with pytest.raises(OSError):
        for _ in range(1000):
            folder.write([append(written, entry(1, "x" * 500))])
            written.append(entry(1, "x" * 500))
    folder.close()
    disk._free += 20_000
    folder = open_log(disk, segment_bytes=4096)
    assert len(folder.remembered.entries) in (len(written), len(written) + 1)


def test_vote_and_term_are_one_record() -> None:
    """BUG-02: no crash can separate them."""
    disk = SimulatedDisk(Random(1))
    folder = open_log(disk)
    folder.write([HardState(term=5, voted_for=2)])
    disk.crash()
    assert reopened(disk).hard_state == HardState(term=5, voted_for=2)


def test_a_record_larger_than_a_segment_has_one_of_its_own() -> None:
    """A value may have a megabyte whatever the segment size."""
    disk = SimulatedDisk(Random(1))
    folder = open_log(disk)
    big = entry(1, "x" * 5000)
    folder.write([HardState(term=1), append([], big)])
    folder.write([append([big], entry(1, "small"))])
    folder.close()
    assert reopened(disk).entries == (big, entry(1, "small"))


def test_records_that_contradict_each_other_are_damage() -> None:
    """A gap, a truncation of nothing, a falling term: right checksums do not make a right log."""
    for records in (
        [Append(first_index=2, digest=0, entries=(entry(1, "a"),))],
        [Truncate(from_index=1, last_term=0, digest=0)],
        [HardState(term=2), HardState(term=1)],
    ):
        disk = SimulatedDisk(Random(1))
        folder = open_log(disk)
        folder.write(records)
        folder.close()
        with pytest.raises(DamagedLog):
            open_log(disk)


@pytest.mark.parametrize(
    ("field", "other"),
    [("sequence", 3), ("next_index", 3), ("last_term", 2), ("digest", 1), ("hard_state", {"record": "hard_state", "term": 2})],
)
def test_a_segment_begins_with_what_the_one_before_it_ends_with(field: str, other: object) -> None:
    """Each number by itself: where one differs, a record, a vote perhaps, is missing between them."""
    disk = SimulatedDisk(Random(1))
    folder = open_log(disk)
    folder.write([HardState(term=1, voted_for=1), append([], entry(1, "x" * 600))])
    folder.write([append([entry(1, "x" * 600)], entry(1, "y" * 600))])
    folder.close()
    name = "wal/0000000000000002.log"
    data = disk.peek(name)
    begin, behind = data.split(b"\n", 1)
    (start,) = msgspec.json.decode(begin[HEADER:])
    assert start[field] != other
    disk.put(name, encode_line(msgspec.json.encode([{**start, field: other}])) + behind.rstrip(b"\0"))
    with pytest.raises(DamagedLog):
        open_log(disk)


def test_another_cluster_node_or_format_is_refused(tmp_path: Path) -> None:
    """`meta` has the cluster and node of the folder."""
    open_folder(RealDisk(tmp_path), "barge", 0, lambda: "s").close()
    for cluster, node_id, says in (("other", 0, "cluster 'barge'"), ("barge", 1, "node 0")):
        with pytest.raises(WrongFolder, match=says):
            open_folder(RealDisk(tmp_path), cluster, node_id, lambda: "s")
    (tmp_path / "meta").write_text('{"format":1,"cluster":"barge","node":0,"store":"s"}')
    with pytest.raises(WrongFolder, match="from before there were snapshots"):
        open_folder(RealDisk(tmp_path), "barge", 0, lambda: "s")
    (tmp_path / "meta").write_text('{"format":4,"cluster":"barge","node":0,"store":"s","more":1}')
    with pytest.raises(WrongFolder, match="newer Barge"):
        open_folder(RealDisk(tmp_path), "barge", 0, lambda: "s")
    (tmp_path / "meta").write_text("nonsense")
    with pytest.raises(StorageError, match="meta is damaged"):
        open_folder(RealDisk(tmp_path), "barge", 0, lambda: "s")
    (tmp_path / "meta").unlink()
    with pytest.raises(WrongFolder, match="no file meta"):
        open_folder(RealDisk(tmp_path), "barge", 0, lambda: "s")


def test_a_refused_folder_is_given_back(tmp_path: Path) -> None:
    """A refusal leaves no lock behind; a second opening of a good one is refused."""
    with pytest.raises(WrongFolder):
        open_folder(RealDisk(tmp_path), "barge", 0, lambda: "s").close()
        open_folder(RealDisk(tmp_path), "barge", 1, lambda: "s")
    folder = open_folder(RealDisk(tmp_path), "barge", 0, lambda: "s")
    with pytest.raises(FolderInUse):
        open_folder(RealDisk(tmp_path), "barge", 0, lambda: "s")
    folder.close()


def _copy(disk: SimulatedDisk) -> SimulatedDisk:
    copy = SimulatedDisk(Random(0))
    copy.make_dir("wal")
    for name in disk.list(""):
        copy.put(name, disk.read(name))
    for name in disk.list("wal"):
        copy.put(f"wal/{name}", disk.read(f"wal/{name}"))
    return copy


def _remembered_before_last_segment(made: list[tuple[list[Record], Remembered]], whole: bytes) -> list[Remembered]:
    """What must be remembered when 0, 1, 2, ... lines of the last segment are whole; its first line is the segment's start."""
    lines = whole.count(b"\n")
    after = [Remembered(), *(remembered for _, remembered in made)]
    last = after[-lines:]
    return [last[0], *last]


def test_the_length_is_checked_by_itself() -> None:
    """A flipped length is damage, not the end of the log."""
    line = encode_line(b"[]")
    assert line[:8] == b"00000002" and line[HEADER:] == b"[]\n"
