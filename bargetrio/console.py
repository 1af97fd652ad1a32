"""Standard input, output and error: the only module that reads and writes them (docs/client.md, "Output").

Each of the three streams may be closed, full, not read at the other end, or unable to encode a character.

- A command whose answer cannot be written ends with OutputLost; cli/main.py converts that to exit code 7 (1 for EPIPE).
- A daemon (`keep_running`) drops what cannot be written at once, and goes on: its event loop must never wait for a terminal.
- What the stream's encoding lacks is written as `\\xfc`, `\\u65e5` (in JSON as `\\u00fc`, which decodes to the same).
- At a terminal the control characters in data are escaped (`printable`).

Imports nothing of Barge.
"""

import errno
import io
import json
import logging
import os
import re
import select
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

_PIPE_BYTES: Final = 4096
"""Bytes that a pipe which polls as writable takes without blocking (PIPE_BUF)."""
_NOT_ASCII: Final = re.compile("[^\x20-\x7e]")


class OutputLost(Exception):
    """Standard output cannot be written. Not an OSError: no handler for files or sockets may take it for one of theirs."""

    def __init__(self, problem: OSError) -> None:
        super().__init__(f"the answer can't be written to the standard output: {problem.strerror or problem}")
        self.errno = problem.errno


class InputLost(Exception):
    """Standard input is closed or cannot be read; the text says so."""


class _Descriptor(io.BufferedIOBase):
    """Writes to a descriptor without a buffer, so that nothing is left over after an error.

    `drops`: errors are ignored. `waits`: a full pipe or a stopped terminal is waited for.
    """

    def __init__(self, number: int, *, is_closed: bool, drops: bool) -> None:
        self.name = f"<descriptor {number}>"
        self.drops = drops
        self.waits = True
        self._number = number
        self._is_closed = is_closed
        self._cut = False

    def write(self, data: Any) -> int:
        """Write all of it; raise OutputLost."""
        left = memoryview(data).cast("B")
        size = len(left)
        try:
            if self._is_closed:
                raise OSError(errno.EBADF, "it is closed")
            if self._cut and left:
                self._cut = False
                left = memoryview(b"\n" + left.tobytes())
            while left:
                left = left[self._write_some(left) :]
        except BlockingIOError:  # the reader has stopped, and we may not wait: the rest is dropped
            self._cut = len(left) < size
        except OSError as problem:
            if not self.drops:
                raise OutputLost(problem) from None
        return size

    def _write_some(self, data: memoryview) -> int:
        if self.waits:
            try:
                return os.write(self._number, data)
            except BlockingIOError:
                self._poll(None)
                return 0
        if not self._poll(0):
            raise BlockingIOError
        return os.write(self._number, data[:_PIPE_BYTES])

    def _poll(self, timeout_ms: float | None) -> bool:
        poll = select.poll()
        poll.register(self._number, select.POLLOUT)
        return bool(poll.poll(timeout_ms))

    def writable(self) -> bool:
        """It is an output."""
        return True

    def isatty(self) -> bool:
        """Return whether it is a terminal."""
        return not self._is_closed and os.isatty(self._number)

    def fileno(self) -> int:
        """Return the descriptor's number."""
        return self._number


class LogFormatter(logging.Formatter):
    """Writes a log record as one line, whatever its arguments contain; a traceback keeps its lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the line, control characters escaped."""
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:
        """Return the traceback, control characters escaped."""
        return printable_lines(super().formatException(ei))


class _Text(io.TextIOWrapper):
    """A standard stream as text. File names that are not in the locale's encoding (surrogate escapes) are written as UTF-8."""

    def write(self, text: str) -> int:
        """Write it; raise OutputLost."""
        return super().write(text if text.isascii() else restored(text))


class _NoInput(io.StringIO):
    """Standard input that was closed when we started: not an empty one, which would be an empty value or script."""


def prepare() -> None:
    """Make the standard streams safe to use; called once, before anything is read or printed.

    Closed descriptors 0 to 2 are opened on /dev/null first: else the next socket or file would get the number, and our output.
    """
    closed = set()
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            closed.add(number)
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number: this one
    if 0 in closed or sys.stdin is None:
        sys.stdin = _NoInput()
    for name, number in (("stdout", 1), ("stderr", 2)):
        old = getattr(sys, name)
        is_closed = number in closed or old is None
        descriptor = _Descriptor(number, is_closed=is_closed, drops=number == 2)
        setattr(sys, name, _Text(descriptor, encoding=_encoding(old), errors="backslashreplace", write_through=True))


def keep_running() -> None:
    """From now on output that cannot be written at once is dropped: for daemons. Needs `prepare`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, _Text) and isinstance(stream.buffer, _Descriptor):
            stream.buffer.drops = True
            stream.buffer.waits = False


def give_up_output() -> None:
    """Drop what is printed from now on: after OutputLost."""
    if isinstance(sys.stdout, _Text) and isinstance(sys.stdout.buffer, _Descriptor):
        sys.stdout.buffer.drops = True


# -- output --------------------------------------------------------------------------------------------------------------


def say(text: str = "", *, newline: bool = True, styled: bool = False) -> None:
    """Print text; raise OutputLost. At a terminal control characters are escaped, unless they are our own (`styled`)."""
    shown = text if styled or not is_terminal() else printable_lines(text)
    sys.stdout.write(shown + "\n" if newline else shown)
    sys.stdout.flush()


def say_bytes(data: bytes) -> None:
    """Print these bytes and nothing else; raise OutputLost."""
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def say_json(*encoded: bytes) -> None:
    """Print JSON, a line each; raise OutputLost."""
    say("".join(_json_text(line, sys.stdout, escapes=is_terminal()) + "\n" for line in encoded), newline=False, styled=True)


def complain(text: str, *, styled: bool = False) -> None:
    """Print to standard error; lost where that cannot be written. Control characters are escaped, in a pipe, too."""
    with suppress(OSError):
        sys.stderr.write((text if styled else printable_lines(text)) + "\n")
        sys.stderr.flush()


def complain_json(encoded: bytes) -> None:
    """Print a line of JSON to standard error, control characters escaped as JSON does it."""
    complain(_json_text(encoded, sys.stderr, escapes=True), styled=True)


def is_terminal() -> bool:
    """Return whether standard output is a terminal."""
    return bool(sys.stdout.isatty())


def terminal_width() -> int | None:
    """Return how many columns the terminal has that standard output is ($COLUMNS wins), None if it is none."""
    return max(1, shutil.get_terminal_size().columns) if is_terminal() else None


def can_encode(text: str) -> bool:
    """Return whether standard output's encoding has these characters."""
    try:
        text.encode(_encoding(sys.stdout))
    except UnicodeEncodeError:
        return False
    return True


def encodable(text: str) -> str:
    """Return the text as it will be written: what standard output's encoding lacks is escaped."""
    if text.isascii():
        return text
    encoding = _encoding(sys.stdout)
    return restored(text).encode(encoding, "backslashreplace").decode(encoding)


# -- input ---------------------------------------------------------------------------------------------------------------


def read_input(limit: int) -> bytes:
    """Return up to `limit` bytes of standard input; raise InputLost."""
    _check_input()
    try:
        return sys.stdin.buffer.read(limit)
    except (OSError, ValueError) as problem:
        raise InputLost(_input_problem(problem)) from None


def input_lines() -> Iterator[str]:
    """Yield standard input's lines with their ends, split at newlines only; raise InputLost.

    Bytes that are no text become lone surrogates, which no key or value may hold. A byte order mark is no part of a line.
    """
    _check_input()
    if isinstance(sys.stdin, io.TextIOWrapper):
        # Without a locale Python takes everything for ASCII; keys and values are UTF-8.
        encoding = "utf-8-sig" if _encoding(sys.stdin).replace("_", "-") in ("utf-8", "ascii", "ansi-x3.4-1968") else None
        sys.stdin.reconfigure(encoding=encoding or sys.stdin.encoding, errors="surrogateescape", newline="\n")
    try:
        yield from sys.stdin
    except (OSError, ValueError) as problem:
        raise InputLost(_input_problem(problem)) from None


def input_is_terminal() -> bool:
    """Return whether standard input is a terminal."""
    return sys.stdin.isatty()


def _check_input() -> None:
    if isinstance(sys.stdin, _NoInput):
        raise InputLost("the standard input is closed")


def _input_problem(problem: Exception) -> str:
    return f"the standard input can't be read: {(isinstance(problem, OSError) and problem.strerror) or problem}"


# -- text ----------------------------------------------------------------------------------------------------------------


def printable(text: str) -> str:
    """Return the text in one line, with all that a terminal would obey and not show escaped: `\\x1b`, `\\n`, `\\u202e`."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escape(char) for char in restored(text))


def printable_lines(text: str) -> str:
    """Return the text safe for a terminal; its lines stay lines, and tabs tabs."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in "\n\t" else _escape(char) for char in restored(text))


def restored(text: str) -> str:
    """Return UTF-8 text that a locale of another encoding made surrogate escapes of (arguments, paths); else the text itself."""
    try:
        return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode()
    except (UnicodeEncodeError, UnicodeDecodeError):
        return text


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def _json_text(encoded: bytes, stream: Any, *, escapes: bool) -> str:
    """Return JSON as text that the stream can encode, without control characters if it `escapes`; it decodes to the same."""
    text = encoded.decode()
    if text.isascii() and text.isprintable():
        return text
    if escapes:
        text = "".join(char if char.isprintable() else _json_escape(char) for char in text)
    try:
        text.encode(_encoding(stream))
    except UnicodeEncodeError:
        text = _NOT_ASCII.sub(lambda found: _json_escape(found[0]), text)
    return text


def _json_escape(char: str) -> str:
    return json.dumps(char)[1:-1].replace("\x7f", "\\u007f")


def _encoding(stream: Any) -> str:
    return (getattr(stream, "encoding", None) or "utf-8").lower()
