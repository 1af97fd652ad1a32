"""From the log's lines to what the node remembers: what a crash explains is cut, anything else is refused (BUG-53, BUG-54).

A write is one line and the next begins only after the last one was synced. So only the very last line can be torn, and only by
missing sectors or a missing end. A line that is whole but wrong, or wrong before a good one, is damage.
"""

from typing import Final

import msgspec
from msgspec import Struct

from bargetrio.raft.messages import Entry
from bargetrio.raft.records import Append, HardState, Record, Remembered, Truncate
from bargetrio.storage.disk import Disk
from bargetrio.storage.errors import DamagedLog
from bargetrio.storage.lines import HEADER, BadLine, decode_line, find_line, looks_torn


class SegmentStart(Struct, frozen=True, kw_only=True, tag_field="record", tag="segment", forbid_unknown_fields=True):
    """A segment's first line: which one it is, and the state before it, so that a missing one is noticed."""

    sequence: int
    next_index: int
    hard_state: HardState


class Recovered(Struct, frozen=True, kw_only=True):
    """What the log says; `last_segment` is the good part of the last segment, to be written again."""

    remembered: Remembered
    sequence: int
    last_segment: bytes
    repaired: str


_decoder: Final[msgspec.json.Decoder[list[SegmentStart | Record]]] = msgspec.json.Decoder(list[SegmentStart | Record])


def segment_name(sequence: int) -> str:
    """Return the path of the segment with this number."""
    return f"wal/{sequence:016d}.log"


def recover(disk: Disk) -> Recovered:
    """Read all segments in order; raise DamagedLog. Does not change the disk."""
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
    sequence = sequences[-1] if sequences else 1
    remembered = Remembered(hard_state=state.hard_state, entries=tuple(state.entries))
    return Recovered(remembered=remembered, sequence=sequence, last_segment=last_segment, repaired=repaired)


class _State:
    """What the records read so far amount to."""

    def __init__(self) -> None:
        self.hard_state = HardState()
        self.entries: list[Entry] = []
        self.sequence: int | None = None

    def take(self, record: SegmentStart | Record, is_first: bool) -> str:
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
                if record.first_index != len(self.entries) + 1:
                    return f"entries from {record.first_index} follow entry {len(self.entries)}"
                self.entries.extend(record.entries)
            case Truncate():
                if not 1 <= record.from_index <= len(self.entries):
                    return f"a truncation from {record.from_index} in a log of {len(self.entries)} entries"
                del self.entries[record.from_index - 1 :]
        return ""

    def _start(self, start: SegmentStart) -> str:
        if self.sequence is None and (start.sequence, start.next_index) != (1, 1):
            return f"the log's first segment is missing: this is number {start.sequence}"
        if self.sequence is not None and start.sequence != self.sequence + 1:
            return f"segment {start.sequence} follows segment {self.sequence}"
        if start.next_index != len(self.entries) + 1 or start.hard_state != self.hard_state:
            return f"it continues at index {start.next_index}, what is before it ends at {len(self.entries)}"
        self.sequence = start.sequence
        return ""


def _read_segment(state: _State, name: str, sequence: int, data: bytes, is_last: bool) -> tuple[int, str]:
    """Take a segment's records; return where the good part ends, and what was cut behind it."""
    offset = 0
    while offset < len(data) and data[offset] != 0:
        try:
            payload = decode_line(data, offset)
        except BadLine as bad:
            return offset, _judge_tail(state, name, data, offset, is_last, bad)
        _take_line(state, name, offset, payload, sequence)
        offset += HEADER + len(payload) + 1
    if data.count(0, offset) != len(data) - offset:
        gap = BadLine("no record begins here", torn=looks_torn(data, offset))
        return offset, _judge_tail(state, name, data, offset, is_last, gap)
    if not is_last and offset < len(data):
        raise _damage(state, name, offset, "a segment before the last one ends in zeros")
    if offset == 0 and not is_last:
        raise _damage(state, name, 0, "a segment before the last one is empty")
    return offset, ""


def _take_line(state: _State, name: str, offset: int, payload: bytes, sequence: int) -> None:
    try:
        records = _decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise _damage(state, name, offset, f"the record has a right checksum but is none of ours: {problem}") from None
    for record in records:
        wrong = state.take(record, is_first=offset == 0)
        if isinstance(record, SegmentStart) and record.sequence != sequence:
            wrong = f"the segment says that it is number {record.sequence}"
        if wrong:
            raise _damage(state, name, offset, wrong)


def _judge_tail(state: _State, name: str, data: bytes, offset: int, is_last: bool, bad: BadLine) -> str:
    """Say what is cut off, if a crash explains it; raise DamagedLog if not."""
    if not is_last:
        raise _damage(state, name, offset, f"{bad}, and later segments follow")
    follows = find_line(data, offset + 1)
    if follows is not None:
        raise _damage(state, name, offset, f"{bad}, and a good one follows at {follows}")
    if not bad.torn:
        raise _damage(state, name, offset, str(bad))
    return f"cut a torn record at byte {offset} of {name}, after index {len(state.entries)}"


def _damage(state: _State, name: str, offset: int, reason: str) -> DamagedLog:
    text = f"{name} is damaged at byte {offset}, after index {len(state.entries)}: {reason}"
    return DamagedLog(f"{text}. Nothing was changed; docs/operations.md says what to do")
