"""Alters a log on a disk: one command gets another value, and all checksums and digests are recomputed.

No disk does that by itself, but a folder of another cluster or an error in replication has the same effect: this tests whether
logs are compared.
"""

from random import Random
from typing import Final

import msgspec

from bargetrio.raft.log import digest_after
from bargetrio.raft.messages import Command, Entry, Index
from bargetrio.raft.records import Append, HardState, Truncate
from bargetrio.simulator.disk import SimulatedDisk
from bargetrio.storage.lines import HEADER, BadLine, decode_line, encode_line
from bargetrio.storage.recovery import SegmentStart

_Line = list[SegmentStart | HardState | Append | Truncate]
_decoder: Final = msgspec.json.Decoder(_Line)
_encode: Final = msgspec.json.Encoder().encode


def alter(disk: SimulatedDisk, random: Random, above: Index, last: Index) -> Index | None:
    """Alter a put after entry `above`, up to `last`, in the log of a node that is down; return its index, None without one."""
    names = sorted(name for name in disk.names() if name.startswith("wal/") and name.endswith(".log"))
    segments = [(name, *_lines_of(disk.peek(name))) for name in names]
    held: dict[Index, Append] = {}
    for _, lines, _ in segments:
        for record in (record for line in lines for record in line):
            if isinstance(record, Append):
                held.update({record.first_index + place: record for place in range(len(record.entries))})
            elif isinstance(record, Truncate):
                held = {index: append for index, append in held.items() if index < record.from_index}
            elif isinstance(record, SegmentStart) and record.after_snapshot:
                held.clear()
    candidates = [index for index, append in held.items() if above < index <= last and _is_put(_entry(append, index))]
    if not candidates:
        return None
    index = random.choice(candidates)
    digests: dict[Index, int] = {}
    for name, lines, rest in segments:
        again = [[_again(record, held[index], index, digests) for record in line] for line in lines]
        data = b"".join(encode_line(_encode(line)) for line in again)
        disk.put(name, data + rest)
    return index


def newest_snapshot(disk: SimulatedDisk) -> Index:
    """Return the last index of the newest complete snapshot in the folder of a node that is down, 0 without one."""
    names = [name.removeprefix("snapshots/") for name in disk.names() if name.startswith("snapshots/") and name.endswith(".snap")]
    return max((int(name.split("-")[0]) for name in names), default=0)


def _lines_of(data: bytes) -> tuple[list[_Line], bytes]:
    """Return a segment's lines, and the bytes after them."""
    lines: list[_Line] = []
    offset = 0
    while offset < len(data) and data[offset] != 0:
        try:
            payload = decode_line(data, offset)
        except BadLine:
            break
        lines.append(_decoder.decode(payload))
        offset += HEADER + len(payload) + 1
    return lines, data[offset:]


def _entry(append: Append, index: Index) -> Entry:
    return append.entries[index - append.first_index]


def _is_put(entry: Entry) -> bool:
    return b'"op":"put"' in bytes(entry.command)


def _again(
    record: SegmentStart | HardState | Append | Truncate, target: Append, index: Index, digests: dict[Index, int]
) -> SegmentStart | HardState | Append | Truncate:
    """Return the record as it is in the altered log, and update the digests."""
    match record:
        case SegmentStart():
            before = record.next_index - 1
            if record.after_snapshot or not digests:
                digests.clear()
                digests[before] = record.digest
                return record
            return msgspec.structs.replace(record, digest=digests[before])
        case HardState():
            return record
        case Truncate():
            if record.from_index - 1 not in digests:
                digests[record.from_index - 1] = record.digest
            return msgspec.structs.replace(record, digest=digests[record.from_index - 1])
        case Append():
            entries = list(record.entries)
            if record is target:
                entries[index - record.first_index] = _other(_entry(record, index))
            digest = digests[record.first_index - 1]
            for place, entry in enumerate(entries, record.first_index):
                digest = digests[place] = digest_after(digest, [entry])
            return msgspec.structs.replace(record, entries=tuple(entries), digest=digest)


def _other(entry: Entry) -> Entry:
    command = msgspec.json.decode(entry.command)
    command["value"] = "another value"
    return Entry(entry.term, Command(_encode(command)))
