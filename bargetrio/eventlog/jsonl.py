"""events.jsonl: one event a line, as `serve --events FILE` records them and as later tools read them again."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Final

import msgspec
import trio

from bargetrio.eventlog.event import Event
from bargetrio.eventlog.recorder import Recorder
from bargetrio.files import open_private

AT_ONCE: Final = 250
PAUSE_S: Final = 0.2
LONGEST_LINE: Final = 1 << 20
"""No event is longer: keys and values are cut."""


class EventFile:
    """Writes what the recorder keeps; falls behind rather than holding anybody up, and says in the file what it missed."""

    def __init__(self, path: Path, recorder: Recorder) -> None:
        self._recorder = recorder
        self._path = path
        self._file = _open(path)
        self._seq = 0
        self._dropped = 0

    async def run(self) -> None:
        """Write until cancelled; a slice at a time, so that nothing else waits long."""
        while True:
            await self._recorder.wait(self._seq)
            while self._write_some():
                await trio.lowlevel.checkpoint()
            self._file.flush()
            await trio.sleep(PAUSE_S)

    def _write_some(self) -> bool:
        """Write the next slice, heartbeats included; return whether there may be more."""
        encode = msgspec.json.Encoder().encode
        page = self._recorder.page(self._seq, heartbeats=True, limit=AT_ONCE)
        lines = [encode(self._recorder.event(kept)) for kept in page.events]
        if page.dropped:
            lines.insert(0, encode({"dropped": page.dropped}))
        self._file.write(b"".join(line + b"\n" for line in lines))
        self._seq = page.last_seq
        return len(page.events) == AT_ONCE

    def reopen(self) -> None:
        """Write what has happened to the file as it is, and go on in a new one of that name: after a rotation (SIGHUP).

        Raises OSError if there can be none; then the old one stays.
        """
        new = _open(self._path)
        old = self._file
        try:
            while self._write_some():
                pass
        finally:
            self._file = new
            old.close()

    def close(self) -> None:
        """Write the rest and close."""
        while self._write_some():
            pass
        self._file.close()


def _open(path: Path) -> IO[bytes]:
    """Open it to append to, for nobody else to read: keys and values are in it. Raise OSError."""
    file = os.fdopen(open_private(path, os.O_RDWR | os.O_APPEND), "a+b")
    try:
        _cut_half_a_line(file)
    except BaseException:
        file.close()
        raise
    return file


def _cut_half_a_line(file: IO[bytes]) -> None:
    """A life that was killed may have left its last line unfinished: what follows must not be glued to it."""
    size = file.seek(0, os.SEEK_END)
    start = max(0, size - LONGEST_LINE)
    file.seek(start)
    tail = file.read()
    if tail and not tail.endswith(b"\n"):
        file.truncate(start + tail.rfind(b"\n") + 1)
    file.seek(0, os.SEEK_END)


def read_events(path: Path, on_dropped: Callable[[], None] = lambda: None) -> Iterator[Event]:
    """Yield the events of a file; a last line that is not whole is left out, any other bad line raises ValueError.

    `on_dropped` is called where the file says that events are missing.
    """
    decoder = msgspec.json.Decoder(Event)
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            if line.startswith(b'{"dropped"'):
                on_dropped()
                continue
            try:
                yield decoder.decode(line)
            except ValueError as problem:
                raise ValueError(f"{path}:{number}: this is not an event: {problem}") from None
