"""What recovery may cut, and what it must refuse (docs/storage_format.md), beside a naive twin: each kind of record, as the last
one and before others, in the last segment and in earlier ones, flipped, cut, and with holes of whole sectors."""

from collections.abc import Iterator
from copy import deepcopy
from random import Random

import pytest
from msgspec import structs

from bargetrio.raft.messages import Entry
from bargetrio.raft.records import Append, HardState, Install, LogStart, Record, Remembered, Truncate
from bargetrio.simulator.disk import SECTOR, SimulatedDisk
from bargetrio.storage.errors import DamagedLog
from bargetrio.storage.snapshots import RECEIVING
from bargetrio.storage.wal import OpenFolder
from tests.storage.logs import append, digest, entry, file_of, history, open_log, save, truncate

OLD = [entry(1, f"e{index}-{'x' * 40}") for index in range(1, 9)]
SENT = [*OLD[:6], *(entry(2, f"s{index}") for index in range(7, 11))]
"""What a leader's snapshot holds."""
VOTE = HardState(term=3, voted_for=2)

ENDS: dict[str, list[list[Record]]] = {
    "hard_state": [[VOTE]],
    "append": [[append(OLD, entry(1, "n" * 700))]],
    "truncate": [[truncate(OLD, 7)]],
    "all of a write": [[VOTE, truncate(OLD, 4), append(OLD[:3], entry(3, "n"), entry(3, "m" * 600))]],
    "truncate, then a vote": [[truncate(OLD, 7)], [VOTE]],
    "a long one, then a short one": [[append(OLD, entry(1, "n" * 1500))], [VOTE]],
    "a short one, then a long one": [[VOTE], [append(OLD, entry(3, "n" * 1500))]],
    "many short ones": [[HardState(term=3 + number)] for number in range(16)],
    "install": [[Install(snapshot=file_of(SENT)[0])]],
    "install, then more": [[VOTE, Install(snapshot=file_of(SENT)[0]), append(SENT, entry(3, "n"))], [HardState(term=4)]],
}
"""By the kind of record that is the last one: the last writes."""


class Twin:
    """The meaning of a log, in the simplest code."""

    def __init__(self) -> None:
        self.now = Remembered()

    def take(self, records: list[Record]) -> Remembered:
        """Return the persistent state after these."""
        for record in records:
            now = self.now
            match record:
                case HardState():
                    self.now = structs.replace(now, hard_state=record)
                case Append():
                    self.now = structs.replace(now, entries=now.entries + record.entries)
                case Truncate():
                    self.now = structs.replace(now, entries=now.entries[: record.from_index - 1 - now.start.index])
                case Install():
                    of = record.snapshot
                    start = LogStart(index=of.last_index, term=of.last_term, digest=of.digest)
                    self.now = Remembered(hard_state=now.hard_state, snapshot=of, start=start)
        return self.now


class Case:
    """A folder on a disk, and what is remembered after each line of its last segment, from before the first one on."""

    def __init__(self, ends: list[list[Record]], segment_bytes: int = 1200, *, with_old_segments: bool = False) -> None:
        self.disk = SimulatedDisk(Random(1))
        folder = open_log(self.disk, segment_bytes)
        if with_old_segments:  # a crash came before the old segments were removed
            folder._drop_first_segment = lambda first_index: False  # type: ignore[method-assign]
        twin = Twin()
        self.after = [twin.now]
        writes: list[list[Record]] = [[HardState(term=1, voted_for=1)]]
        writes += [[append(OLD[:count], new)] for count, new in enumerate(OLD)]
        for records in [*writes, *ends]:
            self._write(folder, twin, records)
        folder.close()
        self.names = [f"wal/{name}" for name in self.disk.list("wal")]
        self.last = self.disk.peek(self.names[-1]).rstrip(b"\0")
        self.lines = [place + 1 for place, byte in enumerate(self.last) if byte == 0x0A]
        assert len(self.lines) == len(self.after) - 1

    def _write(self, folder: OpenFolder, twin: Twin, records: list[Record]) -> None:
        for place, record in enumerate(records):
            if isinstance(record, Install):
                self._write(folder, twin, records[:place])
                self.disk.put(RECEIVING, file_of(SENT)[1])
                folder.write([record])
                now = twin.take([record])
                self.after = [now, now]  # with the segment's first line, or without: the snapshot has its name
                self._write(folder, twin, records[place + 1 :])
                return
        if records:
            segments, before = len(folder._segments), twin.now
            folder.write(records)
            if len(folder._segments) > segments:
                self.after = [before, before]
            elif len(self.after) == 1:
                self.after.append(before)
            self.after.append(twin.take(records))

    def expected(self, whole: int) -> Remembered | None:
        """What the first lines of the last segment amount to; None for damage: the only segment always has its first line."""
        return None if not whole and len(self.names) == 1 else self.after[whole]

    def judge(self, data: bytearray) -> Remembered | None:
        """What the last segment with these bytes must amount to: None for damage, where a good line is behind a bad one."""
        starts = [0, *self.lines[:-1]]
        good = [data[start:end] == self.last[start:end] for start, end in zip(starts, self.lines, strict=True)]
        before = good.index(False) if False in good else len(good)
        return None if any(good[before:]) else self.expected(before)

    def verdict(self, name: str, data: bytes) -> Remembered | None:
        """What recovery makes of the folder with this file in it; None for damage."""
        disk = SimulatedDisk(Random(1))
        for path in self.disk.names():
            disk.put(path, data if path == name else self.disk.peek(path))
        try:
            folder = open_log(disk)
        except DamagedLog as problem:
            assert name in str(problem) or "follows segment" in str(problem) or "before it ends" in str(problem), problem
            return None
        folder.close()
        again = open_log(disk)
        assert again.remembered == folder.remembered
        return folder.remembered


CASES = [pytest.param(ends, id=name) for name, ends in ENDS.items()]


@pytest.mark.parametrize("ends", CASES)
def test_the_last_segment_cut_at_every_length_keeps_its_whole_lines(ends: list[list[Record]]) -> None:
    """A crash may leave a truncated file."""
    case = Case(ends)
    assert case.verdict(case.names[-1], case.last) == case.after[-1]
    for length in range(len(case.last)):
        whole = sum(end <= length for end in case.lines)
        assert case.verdict(case.names[-1], case.last[:length]) == case.expected(whole), length


@pytest.mark.parametrize("segment_bytes", [1200, 100_000])
@pytest.mark.parametrize("ends", CASES)
def test_a_hole_is_torn_only_if_no_good_line_stands_behind_it(ends: list[list[Record]], segment_bytes: int) -> None:
    """Whole sectors that were never written, one, several in a row, or some: before a good record that is damage."""
    case = Case(ends, segment_bytes)
    size = len(case.last) + 700
    count = -(-len(case.last) // SECTOR)
    random, verdicts = Random(1), set[bool]()
    holes = [set(range(first, last + 1)) for first in range(count) for last in range(first, count)]
    holes += [{sector for sector in range(count) if random.random() < 0.4} for _ in range(30)]
    for hole in holes:
        data = bytearray(case.last.ljust(size, b"\0"))
        for sector in hole:
            end = min((sector + 1) * SECTOR, size)
            data[sector * SECTOR : end] = bytes(end - sector * SECTOR)
        expected = case.judge(data)
        verdicts.add(expected is None)
        assert case.verdict(case.names[-1], bytes(data)) == expected, hole
    assert verdicts == {True, False} or segment_bytes == 1200


@pytest.mark.parametrize("ends", CASES)
def test_a_hole_from_a_records_beginning_to_the_next_sector_is_torn_only_if_no_good_line_follows(
    ends: list[list[Record]],
) -> None:
    """The sector's beginning was synced with earlier records; the next record may begin a few bytes behind the hole."""
    case = Case(ends, 100_000)
    verdicts = list[bool]()
    for start in [0, *case.lines[:-1]]:
        data = bytearray(case.last)
        end = min((start // SECTOR + 1) * SECTOR, len(data))
        data[start:end] = bytes(end - start)
        expected = case.judge(data)
        verdicts.append(expected is None)
        assert case.verdict(case.names[-1], bytes(data)) == expected, start
    assert verdicts[0], "a hole in the first record is followed by others"


@pytest.mark.parametrize("ends", CASES)
def test_a_flipped_bit_anywhere_is_damage(ends: list[list[Record]]) -> None:
    """In every line of every segment: no crash explains it."""
    case = Case(ends)
    for name in case.names:
        data = case.disk.peek(name)
        for offset in range(0, len(data.rstrip(b"\0")), 1 if name == case.names[-1] else 7):
            flipped = bytearray(data)
            flipped[offset] ^= 1 << (offset % 7)
            assert case.verdict(name, bytes(flipped)) is None, (name, offset)


@pytest.mark.parametrize("ends", CASES)
def test_an_earlier_segment_is_whole_or_damaged(ends: list[list[Record]]) -> None:
    """The next one proves that it was synced: no length and no hole of it is what a crash leaves."""
    case = Case(ends)
    for name in case.names[:-1]:
        data = case.disk.peek(name)
        assert case.verdict(name, data) == case.after[-1]
        for changed in _cut_or_holed(data):
            assert case.verdict(name, changed) is None, (name, len(changed))


def _cut_or_holed(data: bytes) -> Iterator[bytes]:
    for length in range(0, len(data), 3):
        yield data[:length]
    for line in [place for place, byte in enumerate(data) if byte == 0x0A]:
        yield data[:line]
        if line + 1 < len(data):
            yield data[: line + 1]
    yield data + b"\0"
    for place in range(0, len(data), SECTOR):
        yield data[:place] + bytes(len(data[place : place + SECTOR])) + data[place + SECTOR :]


def test_what_a_snapshot_replaced_is_passed_over_whatever_it_says() -> None:
    """A crash came before the old segments were removed: what is behind them says all that counts, and holes in them do not."""
    case = Case(ENDS["install, then more"], with_old_segments=True)
    assert len(case.names) > 1
    assert case.verdict(case.names[-1], case.last) == case.after[-1]
    for length in range(len(case.last)):
        whole = sum(end <= length for end in case.lines)
        remembered = case.verdict(case.names[-1], case.last[:length])
        assert remembered is not None
        assert (remembered.snapshot, remembered.entries) == (case.after[whole].snapshot, case.after[whole].entries), length


@pytest.mark.parametrize("seed", range(150))
def test_a_log_of_which_the_beginning_is_gone_is_what_it_was(seed: int) -> None:
    """Trimmed for a snapshot anywhere, with truncations that reach before the first segment that was kept."""
    random = Random(seed)
    disk = SimulatedDisk(Random(1))
    folder = open_log(disk, segment_bytes=random.choice([300, 700]))
    remembered = Remembered()
    for records, remembered in history(random, 40):  # noqa: B007  # the last one counts
        folder.write(records)
    entries: list[Entry] = list(remembered.entries)
    index = random.randint(1, len(entries))
    snapshot = save(disk, entries[:index])
    folder.trim(random.randint(1, index) + 1, {index})
    for _ in range(2):
        folder.close()
        folder = open_log(disk)
        found = folder.remembered
        start = found.start
        assert start.index <= index
        assert (found.hard_state, found.snapshot) == (remembered.hard_state, snapshot)
        assert found.entries == tuple(entries[start.index :])
        assert (start.term, start.digest) == (entries[start.index - 1].term if start.index else 0, digest(entries[: start.index]))
        disk.crash()
    new = entry(remembered.hard_state.term + 1, "new")
    folder = open_log(disk)
    folder.write([HardState(term=new.term), append(entries, new)])
    folder.close()
    assert open_log(disk).remembered.entries[-1] == new


def test_a_log_that_is_gone_is_no_new_log() -> None:
    """Term and vote were in it: a node that starts without them could vote twice in a term (OWN-50)."""
    disk = SimulatedDisk(Random(1))
    folder = open_log(disk)
    folder.write([VOTE, append([], *OLD)])
    unborn = folder.standing
    folder.write_standing(structs.replace(unborn, identity="born"))
    folder.close()
    born = deepcopy(disk)
    born.remove("wal/0000000000000001.log")
    with pytest.raises(DamagedLog, match="there is no log"):
        open_log(born)
    folder = open_log(disk)
    folder.write_standing(unborn)
    folder.close()
    save(disk, OLD)
    disk.remove("wal/0000000000000001.log")
    with pytest.raises(DamagedLog, match="snapshot up to entry 8 and no log"):
        open_log(disk)
