"""A process in a pseudo-terminal, and what a person would see there: a terminal emulator reads along."""

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyte

ROWS, COLUMNS = 60, 120
PATIENCE_S = 20.0
"""How long to wait for what must come; it only matters where something is wrong."""

_LAUNCH = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execvp(sys.argv[1], sys.argv[1:])"
"""Makes the terminal the process's own, so that Ctrl-C is a signal."""


class _Screen(pyte.Screen):
    """Answers what programs ask of a terminal (where is the cursor?)."""

    def __init__(self, answer: Callable[[bytes], object]) -> None:
        super().__init__(COLUMNS, ROWS)
        self._answer = answer

    def write_process_input(self, data: str) -> None:
        """Send the terminal's answer."""
        self._answer(data.encode())


class Terminal:
    """Type into it, and wait for what shows."""

    def __init__(self, process: "subprocess.Popen[bytes]", main: int) -> None:
        self.process = process
        self._main = main
        self._screen = _Screen(self._write)
        self._stream = pyte.ByteStream(self._screen)
        self.raw = b""

    @property
    def text(self) -> str:
        """What is to be seen, without blanks at the ends of lines."""
        return "\n".join(line.rstrip() for line in self._screen.display).rstrip("\n")

    @property
    def line(self) -> str:
        """The line with the cursor."""
        return str(self._screen.display[self._screen.cursor.y]).rstrip()

    @property
    def is_cooked(self) -> bool:
        """Whether the terminal echoes and edits lines, as a shell expects to find it."""
        wanted = termios.ICANON | termios.ECHO
        return bool(termios.tcgetattr(self._main)[3] & wanted == wanted)

    def colour_of(self, words: str) -> str:
        """Return the colour of the last such words on the screen."""
        for row in range(ROWS - 1, -1, -1):
            column = self._screen.display[row].rfind(words)
            if column >= 0:
                return str(self._screen.buffer[row][column].fg)
        raise AssertionError(f"{words!r} is not to be seen:\n{self.text}")

    def type(self, text: str) -> None:
        """Press the keys."""
        self._write(text.encode())

    def until(self, look: str | Callable[[], object], patience_s: float = PATIENCE_S) -> None:
        """Return once the words are to be seen, or `look` is true; fail at the deadline, or if the process ended without."""
        end = time.monotonic() + patience_s
        seen = (lambda: look in self.text) if isinstance(look, str) else look
        while not seen():
            if time.monotonic() > end:
                raise AssertionError(f"waited {patience_s} s for {look!r}; the screen:\n{self.text}")
            if not self._read(0.05) and self.process.poll() is not None and not self._read(0) and not seen():
                raise AssertionError(f"it ended with {self.process.returncode} before {look!r}; the screen:\n{self.text}")

    def end(self, patience_s: float = PATIENCE_S) -> int:
        """Return the exit code, once it has ended by itself."""
        self.until(lambda: self.process.poll() is not None, patience_s)
        while self._read(0):
            pass
        return self.process.wait()

    def _read(self, wait_s: float) -> bool:
        """Take what has come; return whether there was something."""
        if not select.select([self._main], [], [], wait_s)[0]:
            return False
        try:
            data = os.read(self._main, 65536)
        except OSError:  # nobody has the other side open any more
            time.sleep(min(wait_s, 0.01))
            return False
        self.raw += data
        self._stream.feed(data)
        return bool(data)

    def _write(self, data: bytes) -> None:
        os.write(self._main, data)


@contextmanager
def terminal(command: Sequence[str], folder: Path, **environment: str) -> Iterator[Terminal]:
    """Run the command in a terminal of its own; whatever still runs at the end is killed, with its children in that session."""
    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    names = ("NO_COLOR", "BARGE_ENDPOINTS", "BARGE_TOKEN_FILE", "BARGE_HISTORY", "LINES", "COLUMNS")
    base = {name: value for name, value in os.environ.items() if name not in names}
    process = subprocess.Popen(
        [sys.executable, "-c", _LAUNCH, *command],
        stdin=side,
        stdout=side,
        stderr=side,
        cwd=folder,
        env={**base, "TERM": "xterm-256color", "HOME": str(folder), "BARGE_HISTORY": "", **environment},
        start_new_session=True,
    )
    os.close(side)
    try:
        yield Terminal(process, main)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(main)


def bargetrio(*arguments: str) -> list[str]:
    """Return the command line of `bargetrio`, with the interpreter that runs the tests."""
    return [sys.executable, "-m", "bargetrio", *arguments]
