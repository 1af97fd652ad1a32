"""Splits received bytes into lines: on b"\\n" only, never longer than the limit, no line skipped (BUG-57)."""

from typing import Final

BLOCK_BYTES: Final = 64 * 1024
"""A long line is kept in blocks of this size: buffers of many clients that all grow leave holes between them (OWN-172)."""


class LineTooLong(Exception):
    """The peer sent more bytes than a line may have; the connection must be closed."""


class LineReader:
    """Collects received bytes and returns complete lines without their newline.

    `str.splitlines` would also split at U+2028 and U+0085, which are legal inside a JSON string.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._blocks: list[bytes] = []
        """The beginning of a long line; of what is not a block yet a list would take fifty bytes for each piece of one byte."""
        self._blocks_bytes = 0
        self._partial = bytearray()
        """What came after the blocks."""

    @property
    def pending_bytes(self) -> int:
        """How many bytes of an incomplete line have been received."""
        return self._blocks_bytes + len(self._partial)

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that `data` completes; raise LineTooLong past the limit, and keep nothing."""
        partial = self._partial
        if b"\n" not in data:
            partial += data
            if len(partial) >= BLOCK_BYTES:
                self._blocks.append(bytes(partial))
                self._blocks_bytes += len(partial)
                partial.clear()
            if self.pending_bytes > self.limit:
                self.clear()
                raise LineTooLong(f"a line may have {self.limit} bytes")
            return []
        if partial or self._blocks:
            data = b"".join((*self._blocks, partial, data))
            self.clear()
        lines = data.split(b"\n")
        rest = lines.pop()
        limit = self.limit
        if len(data) > limit and (len(rest) > limit or any(len(line) > limit for line in lines)):
            raise LineTooLong(f"a line may have {limit} bytes")
        if rest:
            partial += rest
        return lines

    def clear(self) -> None:
        """Drop an incomplete line."""
        self._blocks.clear()
        self._blocks_bytes = 0
        self._partial.clear()
