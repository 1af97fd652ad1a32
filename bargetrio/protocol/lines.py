"""Bytes to lines: split on b"\\n" only, never longer than the limit, no line skipped (BUG-57)."""


class LineTooLong(Exception):
    """The peer sent more bytes than a line may have; the connection must be closed."""


class LineReader:
    """Collects received bytes and hands out whole lines without their newline.

    `str.splitlines` would also split at U+2028 and U+0085, which are legal inside a JSON string.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._chunks: list[bytes] = []
        self._size = 0

    @property
    def pending_bytes(self) -> int:
        """What has come of a line that is not whole yet."""
        return self._size

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that `data` completes; raise LineTooLong past the limit."""
        if b"\n" not in data:
            self._size += len(data)
            if self._size > self.limit:
                raise LineTooLong(f"a line may have {self.limit} bytes")
            self._chunks.append(data)
            return []
        if self._chunks:
            self._chunks.append(data)
            data = b"".join(self._chunks)
            self._chunks.clear()
        lines = data.split(b"\n")
        rest = lines.pop()
        if rest:
            self._chunks.append(rest)
        self._size = len(rest)
        limit = self.limit
        if len(data) > limit and (self._size > limit or any(len(line) > limit for line in lines)):
            raise LineTooLong(f"a line may have {limit} bytes")
        return lines
