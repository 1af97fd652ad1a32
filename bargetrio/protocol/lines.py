"""Splits received bytes into lines: on b"\\n" only, never longer than the limit, no line skipped (BUG-57)."""


class LineTooLong(Exception):
    """The peer sent more bytes than a line may have; the connection must be closed."""


class LineReader:
    """Collects received bytes and returns complete lines without their newline.

    `str.splitlines` would also split at U+2028 and U+0085, which are legal inside a JSON string.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._partial = bytearray()
        """One buffer: a list of what came would take fifty bytes for each piece, and a client can send pieces of one byte."""

    @property
    def pending_bytes(self) -> int:
        """How many bytes of an incomplete line have been received."""
        return len(self._partial)

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that `data` completes; raise LineTooLong past the limit, and keep nothing."""
        partial = self._partial
        if b"\n" not in data:
            partial += data
            if len(partial) > self.limit:
                partial.clear()
                raise LineTooLong(f"a line may have {self.limit} bytes")
            return []
        if partial:
            partial += data
            data = bytes(partial)
            partial.clear()
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
        self._partial.clear()
