"""events.jsonl: one event a line, written by `serve --events FILE`, read by `check` and `replay`."""

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Final

import msgspec
import trio

from bargetrio.eventlog.recorder import Recorder
from bargetrio.files import check_ours, open_private
from bargetrio.protocol.events import Event

log = logging.getLogger(__name__)

AT_ONCE: Final = 250
PAUSE_S: Final = 0.2
LONGEST_LINE: Final = 1 << 20
"""No event is longer: keys, values and other texts are cut."""
KEPT_FREE: Final = 512 * 1024 * 1024
KEPT_FREE_SHARE: Final = 0.1
"""Bytes that the record leaves free on the file system of the nodes' logs, or this share of it if that is less."""


class EventFile:
    """Writes the recorder's events without delaying a node: if it falls behind, a line in the file has the number of lost events.

    A write may be short, or fail: the rest is kept and written first when there is room again, so no line is torn and no event is
    written twice. `beside`: a folder whose file system must not be filled by this file.
    """

    def __init__(self, path: Path, recorder: Recorder, beside: Path | None = None) -> None:
        self._recorder = recorder
        self._path = path
        self._file = _open(path)
        self._seq = 0
        self._slice = b""
        self._written = 0
        """Bytes of the slice that are in the file."""
        self._is_last_slice = True
        self._beside = beside
        self._is_held = False

    async def run(self) -> None:
        """Write until cancelled, a slice at a time. Raises OSError, after which it may be called again."""
        while True:
            if self._written == len(self._slice):
                await self._recorder.wait(self._seq)
            while self._may_write() and self._write_some():
                await trio.lowlevel.checkpoint()
            await trio.sleep(PAUSE_S)

    def _write_some(self) -> bool:
        """Write the rest of a slice, or the next one; return whether there may be more."""
        if self._written == len(self._slice):
            self._slice, self._written = self._next_slice(), 0
        rest = memoryview(self._slice)
        while self._written < len(self._slice):
            self._written += self._file.write(rest[self._written :])
        return not self._is_last_slice

    def _next_slice(self) -> bytes:
        """Return the lines of the next events, heartbeats included."""
        encode = msgspec.json.Encoder().encode
        page = self._recorder.page(self._seq, heartbeats=True, limit=AT_ONCE)
        lines = [encode(self._recorder.event(kept)) for kept in page.events]
        if page.dropped:
            lines.insert(0, encode({"dropped": page.dropped}))
        self._seq = page.last_seq
        self._is_last_slice = len(page.events) < AT_ONCE
        return b"".join(line + b"\n" for line in lines)

    def _may_write(self) -> bool:
        """Return whether more space is free than is reserved for the nodes' logs."""
        is_held = self._beside is not None and _is_scarce(self._file, self._beside)
        if is_held and not self._is_held:
            log.warning("the event file waits: it is on the nodes' file system, which has little room left")
        self._is_held = is_held
        return not is_held

    def reopen(self) -> None:
        """Write the rest to the present file and continue in a new one of the same name: after a rotation (SIGHUP).

        Raises OSError if that can't be opened; then the old file is kept.
        """
        new = _open(self._path)
        old = self._file
        try:
            while self._may_write() and self._write_some():
                pass
        finally:
            self._end_with_a_whole_line()
            self._file = new
            old.close()

    def close(self) -> None:
        """Write the rest and close; without room for it, end with a complete line. Raises OSError."""
        try:
            while self._may_write() and self._write_some():
                pass
        finally:
            self._end_with_a_whole_line()
            self._file.close()

    def _end_with_a_whole_line(self) -> None:
        """Truncate a partly written line; the next write begins with it."""
        if self._written < len(self._slice):
            _cut_half_a_line(self._file)
            self._written = self._slice.rfind(b"\n", 0, self._written) + 1


def _is_scarce(file: IO[bytes], beside: Path) -> bool:
    try:
        if os.fstat(file.fileno()).st_dev != beside.stat().st_dev:
            return False
        found = os.fstatvfs(file.fileno())
    except OSError:
        return False
    return found.f_bavail < min(KEPT_FREE / found.f_frsize, KEPT_FREE_SHARE * found.f_blocks)


def check_record(path: Path) -> None:
    """Raise OSError if the file exists and is not a record of events: it must not be changed."""
    check_ours(path, (b'{"id":', b'{"dropped":'), "record of events")


def _open(path: Path) -> IO[bytes]:
    """Open it for appending, mode 0600 as it has keys and values. Raise OSError, also if it is another kind of file."""
    check_record(path)
    # Unbuffered: a buffered file would not report short writes.
    file = os.fdopen(open_private(path, os.O_RDWR | os.O_APPEND), "a+b", buffering=0)
    try:
        _cut_half_a_line(file)
    except BaseException:
        file.close()
        raise
    return file


def _cut_half_a_line(file: IO[bytes]) -> None:
    """Truncate an incomplete last line, as a killed process may leave one."""
    size = file.seek(0, os.SEEK_END)
    start = max(0, size - LONGEST_LINE)
    file.seek(start)
    tail = file.read()
    if tail and not tail.endswith(b"\n"):
        file.truncate(start + tail.rfind(b"\n") + 1)
    file.seek(0, os.SEEK_END)


def read_events(path: Path, on_dropped: Callable[[int], object] = lambda count: None) -> Iterator[Event]:
    """Yield the events of a file; an incomplete last line is ignored, any other bad line raises ValueError.

    `on_dropped` is called with the number of lost events wherever the file records a loss.
    """
    return (event for event, _ in read_sized_events(path, on_dropped))


def read_sized_events(path: Path, on_dropped: Callable[[int], object] = lambda count: None) -> Iterator[tuple[Event, int]]:
    """As `read_events`, each with the bytes of its line."""
    decoder = msgspec.json.Decoder(Event)
    with path.open("rb") as file:
        number = 0
        while line := file.readline(LONGEST_LINE + 1):
            number += 1
            if len(line) > LONGEST_LINE:
                raise ValueError(f"{path}:{number}: this is not an event: the line is longer than {LONGEST_LINE} bytes")
            if not line.endswith(b"\n"):
                return
            if line.startswith(b'{"dropped"'):
                on_dropped(_dropped_in(path, number, line))
                continue
            try:
                event = decoder.decode(line)
            except (ValueError, RecursionError) as problem:
                raise ValueError(f"{path}:{number}: this is not an event: {problem}") from None
            yield event, len(line)


def _dropped_in(path: Path, number: int, line: bytes) -> int:
    try:
        return msgspec.json.decode(line, type=dict[str, int])["dropped"]
    except ValueError as problem:
        raise ValueError(f"{path}:{number}: this is not an event: {problem}") from None
