"""Encoding of one write of the log as one line of text (docs/storage_format.md).

    0000004e 8b1f2c3d 51aa [{"record":"append","first_index":12,"entries":[[3,{"op":"put","key":"100","value":"Some Value"}]]}]
    length   crc32    check payload

Length and CRC are the payload's, in hexadecimal; `check` covers these two, so that a damaged length is not taken for a torn line.
"""

from typing import Final
from zlib import crc32

HEADER: Final = 23
SPACE: Final = 0x20
SECTOR: Final = 512


class BadLine(Exception):
    """There is no complete line at this offset; `torn`: a crash during its write can explain that."""

    def __init__(self, reason: str, *, torn: bool) -> None:
        super().__init__(reason)
        self.torn = torn


def encode_line(payload: bytes) -> bytes:
    """Return the line that holds `payload`."""
    numbers = b"%08x %08x " % (len(payload), crc32(payload))
    return b"%b%04x %b\n" % (numbers, crc32(numbers) & 0xFFFF, payload)


def decode_line(data: bytes, offset: int) -> bytes:
    """Return the payload of the line at `offset`; raise BadLine."""
    length = line_length(data, offset)
    if length is None:
        raise BadLine("no record begins here", torn=looks_torn(data, offset))
    end = offset + length
    payload = data[offset + HEADER : end - 1]
    if end <= len(data) and data[end - 1 : end] == b"\n" and crc32(payload) == int(data[offset + 9 : offset + 17], 16):
        return payload
    torn = end > len(data) or _has_empty_sector(data, offset, end)
    raise BadLine("the record does not match its checksum", torn=torn)


def line_length(data: bytes, offset: int) -> int | None:
    """Return the length of the line that begins at `offset`, None if there is no header."""
    header = data[offset : offset + HEADER]
    if len(header) < HEADER or header[8] != SPACE or header[17] != SPACE or header[22] != SPACE:
        return None
    if header[18:22] != b"%04x" % (crc32(header[:18]) & 0xFFFF):
        return None
    try:
        return HEADER + int(header[:8], 16) + 1
    except ValueError:
        return None


def find_line(data: bytes, start: int) -> int | None:
    """Return the offset of the first complete line at or after `start`, None if there is none."""
    space = data.find(b" ", start)
    while space >= 0:
        offset = space - 8
        if offset >= start and line_length(data, offset) is not None:
            try:
                decode_line(data, offset)
            except BadLine:
                pass
            else:
                return offset
        space = data.find(b" ", space + 1)
    return None


def looks_torn(data: bytes, start: int) -> bool:
    """Return whether the bytes from `start` on can be a line of which some sectors, maybe the first, were never written.

    Text has no zero byte, so the part in a sector is all zero, has no zero, or ends in a newline followed by zeros. Anything
    else, and a line with no missing sector, is damage.
    """
    written = len(data.rstrip(b"\0"))
    lacks = written <= start or data[written - 1 : written] != b"\n"
    place = start
    while place < written:
        stop = min((place // SECTOR + 1) * SECTOR, len(data))
        share = data[place:stop]
        text = share.rstrip(b"\0")
        if not text:
            lacks = True
        elif b"\0" in text or (len(text) < len(share) and text[-1:] != b"\n"):
            return False
        place = stop
    return lacks


def _has_empty_sector(data: bytes, start: int, end: int) -> bool:
    """Return whether a sector of the line was never written (BUG-54): disks write sectors atomically."""
    place = start
    while place < end:
        stop = min((place // SECTOR + 1) * SECTOR, end, len(data))
        if not any(data[place:stop]):
            return True
        place = stop
    return False
