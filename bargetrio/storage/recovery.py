"""Recovery of the log: a torn last line is truncated, anything else that is wrong is refused as damage (BUG-53, BUG-54).

A write is one line, and begins only after the previous one was synced. So only the last line can be torn, by missing sectors or a
missing end. A complete line that is wrong, or a wrong line before a good one, is damage.
"""

from typing import Final

import msgspec
from msgspec import Struct

from bargetrio.raft.checks import read_configurations
from bargetrio.raft.log import digest_after
from bargetrio.raft.messages import Entry, SnapshotMeta
from bargetrio.raft.records import Append, HardState, LogStart, Remembered, Truncate
from bargetrio.raft.standing import Configuration
from bargetrio.storage.disk import Disk
from bargetrio.storage.errors import DamagedLog
from bargetrio.storage.lines import HEADER, BadLine, decode_line, find_line, looks_torn


class SegmentStart(
    Struct, frozen=True, kw_only=True, tag_field="record", tag="segment", forbid_unknown_fields=True, omit_defaults=True
):
    """A segment's first line: its number, and the state before it, so that a missing segment is detected.

    `last_term` and `digest` are those of entry `next_index` - 1. `after_snapshot`: earlier segments were replaced by a leader's
    snapshot up to that entry.
    """

    sequence: int
    next_index: int
    last_term: int
    digest: int
    hard_state: HardState
    after_snapshot: bool = False


class LogEnd(Struct, frozen=True, kw_only=True):
    """Where a log ends: its last entry's index and term, and its digest."""

    index: int = 0
    term: int = 0
    digest: int = 0


class Recovered(Struct, frozen=True, kw_only=True):
    """The content of the log; `last_segment` is the good part of the last segment, to be written again.

    `segments` are the numbers of all segments, each with the index that its first entry has, or would have. `is_superseded`: a
    snapshot has replaced the log, and the log was not yet begun anew; `end` is the end of the log on the disk nevertheless.
    """

    remembered: Remembered
    segments: list[tuple[int, int]]
    end: LogEnd
    last_segment: bytes
    repaired: str
    is_superseded: bool
    is_new: bool
    """There was no segment."""


LineRecord = SegmentStart | HardState | Append | Truncate
_decoder: Final[msgspec.json.Decoder[list[LineRecord]]] = msgspec.json.Decoder(list[LineRecord])


def segment_name(sequence: int) -> str:
    """Return the path of the segment with this number."""
    return f"wal/{sequence:016d}.log"


def recover(disk: Disk, snapshot: SnapshotMeta | None = None) -> Recovered:
    """Read all segments in order, to continue after `snapshot`; raise DamagedLog. Does not change the disk."""
    disk.make_dir("wal")
    sequences = sorted(int(name[:16]) for name in disk.list("wal") if name.endswith(".log") and name[:16].isdigit())
    state = _State()
    last_segment, repaired = b"", ""
    for sequence in sequences:
        name = segment_name(sequence)
        is_last = sequence == sequences[-1]
        data = disk.read(name)
        end, torn = _read_segment(state, name, sequence, data, is_last)
        if is_last:
            last_segment, repaired = data[:end], torn
    if len(sequences) == 1 and not last_segment:
        # A segment is synced before the previous one is deleted, and the first one before it gets its name (OWN-50).
        raise _damage(state, segment_name(sequences[0]), 0, "the only segment has no first record: term and vote are lost")
    if not sequences and snapshot is not None:
        raise DamagedLog(f"there is a snapshot up to entry {snapshot.last_index} and no log: term and vote are lost")
    if snapshot is None and state.start.index:
        raise DamagedLog(f"the log begins after entry {state.start.index}, and there is no snapshot of what was before")
    if snapshot is not None and snapshot.last_index < state.start.index:
        where = f"the log begins after entry {state.start.index}"
        raise DamagedLog(f"{where}, and the newest snapshot ends at entry {snapshot.last_index}: what is between is missing")
    if last_segment == b"":
        state.segments.append((sequences[-1] if sequences else 1, state.last_index + 1))
    log_end = LogEnd(index=state.last_index, term=state.last_term, digest=state.digest)
    is_superseded = snapshot is not None and not state.holds(snapshot)
    if snapshot is not None and not is_superseded and state.digest_at(snapshot.last_index) != snapshot.digest:
        where = f"entry {snapshot.last_index} of term {snapshot.last_term}"
        raise DamagedLog(f"the log up to {where} is not the one that the newest snapshot was made from: their digests differ")
    return Recovered(
        remembered=_after_snapshot(state, snapshot) if is_superseded and snapshot is not None else state.remembered(snapshot),
        segments=state.segments,
        end=log_end,
        last_segment=last_segment,
        repaired=repaired,
        is_superseded=is_superseded,
        is_new=not sequences,
    )


def _after_snapshot(state: "_State", snapshot: SnapshotMeta) -> Remembered:
    """A crash came between installing a snapshot and beginning the log anew: the log is older (Ongaro 5.1.2)."""
    start = LogStart(index=snapshot.last_index, term=snapshot.last_term, digest=snapshot.digest)
    return Remembered(hard_state=state.hard_state, snapshot=snapshot, start=start)


class _State:
    """The result of the records read so far."""

    def __init__(self) -> None:
        self.hard_state = HardState()
        self.start = LogStart()
        self.entries: list[Entry] = []
        self.configurations: list[Configuration] = []
        self.last_term = 0
        self.digest = 0
        self.segments: list[tuple[int, int]] = []

    @property
    def last_index(self) -> int:
        """The index of the last entry."""
        return self.start.index + len(self.entries)

    def holds(self, snapshot: SnapshotMeta) -> bool:
        """Return whether the log has the snapshot's last entry: then later entries are valid (Figure 13, 6)."""
        place = snapshot.last_index - self.start.index
        if place > len(self.entries):
            return False
        return snapshot.last_term == (self.entries[place - 1].term if place else self.start.term)

    def digest_at(self, index: int) -> int:
        """Return the running digest of the log up to `index`, which is between its start and its end."""
        return digest_after(self.start.digest, self.entries[: index - self.start.index])

    def remembered(self, snapshot: SnapshotMeta | None) -> Remembered:
        """Return the result, as the persistent state of a core."""
        return Remembered(
            hard_state=self.hard_state,
            snapshot=snapshot,
            start=self.start,
            entries=tuple(self.entries),
            configurations=tuple(self.configurations),
        )

    def take(self, record: LineRecord, is_first: bool) -> str:
        """Apply a record; return what is wrong with it, "" if nothing."""
        if is_first != isinstance(record, SegmentStart):
            return "a segment begins with its start record, and only there"
        match record:
            case SegmentStart():
                return self._start(record)
            case HardState():
                if record.term < self.hard_state.term:
                    return f"the term falls from {self.hard_state.term} to {record.term}"
                self.hard_state = record
            case Append():
                if record.first_index != self.last_index + 1:
                    return f"entries from {record.first_index} follow entry {self.last_index}"
                try:
                    self.configurations += read_configurations(record.entries, record.first_index, record.configurations)
                except (ValueError, RecursionError) as problem:
                    return str(problem)
                self.entries.extend(record.entries)
                if record.entries:
                    self.last_term, self.digest = record.entries[-1].term, record.digest
            case Truncate():
                if not 1 <= record.from_index <= self.last_index:
                    return f"a truncation from {record.from_index} in a log that ends at {self.last_index}"
                self._truncate(record)
        return ""

    def _truncate(self, record: Truncate) -> None:
        kept = record.from_index - 1 - self.start.index
        if kept < 0:  # it truncated entries of deleted segments
            self.start = LogStart(index=record.from_index - 1, term=record.last_term, digest=record.digest)
        del self.entries[max(kept, 0) :]
        while self.configurations and self.configurations[-1].index >= record.from_index:
            self.configurations.pop()
        self.last_term, self.digest = record.last_term, record.digest

    def _start(self, start: SegmentStart) -> str:
        before = (self.last_index + 1, self.last_term, self.digest, self.hard_state)
        if self.segments and start.sequence != self.segments[-1][0] + 1:
            return f"segment {start.sequence} follows segment {self.segments[-1][0]}"
        if not self.segments or start.after_snapshot:
            self.start = LogStart(index=start.next_index - 1, term=start.last_term, digest=start.digest)
            self.entries.clear()
            self.configurations.clear()
            self.last_term, self.digest, self.hard_state = start.last_term, start.digest, start.hard_state
        elif (start.next_index, start.last_term, start.digest, start.hard_state) != before:
            return f"it continues at index {start.next_index}, what is before it ends at {self.last_index}"
        self.segments.append((start.sequence, start.next_index))
        return ""


def _read_segment(state: _State, name: str, sequence: int, data: bytes, is_last: bool) -> tuple[int, str]:
    """Apply a segment's records; return where the good part ends, and a text about what was truncated after it."""
    offset = 0
    while offset < len(data) and data[offset] != 0:
        try:
            payload = decode_line(data, offset)
        except BadLine as bad:
            return offset, _check_tail(state, name, data, offset, is_last, bad)
        _take_line(state, name, offset, payload, sequence)
        offset += HEADER + len(payload) + 1
    if data.count(0, offset) != len(data) - offset:
        gap = BadLine("no record begins here", torn=looks_torn(data, offset))
        return offset, _check_tail(state, name, data, offset, is_last, gap)
    if not is_last and offset < len(data):
        raise _damage(state, name, offset, "a segment before the last one ends in zeros")
    if offset == 0 and not is_last:
        raise _damage(state, name, 0, "a segment before the last one is empty")
    return offset, ""


def _take_line(state: _State, name: str, offset: int, payload: bytes, sequence: int) -> None:
    try:
        records = _decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise _damage(state, name, offset, f"the record has a valid checksum but is not a known record: {problem}") from None
    for record in records:
        wrong = state.take(record, is_first=offset == 0)
        if isinstance(record, SegmentStart) and record.sequence != sequence:
            wrong = f"the segment says that it is number {record.sequence}"
        if wrong:
            raise _damage(state, name, offset, wrong)


def _check_tail(state: _State, name: str, data: bytes, offset: int, is_last: bool, bad: BadLine) -> str:
    """Return a text about the truncated tail if a crash explains it; else raise DamagedLog."""
    if not is_last:
        raise _damage(state, name, offset, f"{bad}, and later segments follow")
    follows = find_line(data, offset + 1)
    if follows is not None:
        raise _damage(state, name, offset, f"{bad}, and a good one follows at {follows}")
    if not bad.torn:
        raise _damage(state, name, offset, str(bad))
    return f"cut a torn record at byte {offset} of {name}, after index {state.last_index}"


def _damage(state: _State, name: str, offset: int, reason: str) -> DamagedLog:
    text = f"{name} is damaged at byte {offset}, after index {state.last_index}: {reason}"
    return DamagedLog(f"{text}. Nothing was changed; docs/operations.md says what to do")
