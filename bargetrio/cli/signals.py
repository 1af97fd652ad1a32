"""SIGINT (Ctrl-C) and SIGTERM during a command: exceptions, which the client library converts to `Interrupted`.

At all other times they have the kernel's default (`__main__.py`), and end the process without output: before a command begins,
while its last message is written, and while the process ends. A signal that was ignored at the start of the process, as by
`nohup`, stays ignored.
"""

import math
import signal
import time
from types import FrameType
from typing import Any, Final

REPEAT_S: Final = 0.2
"""Signals within this time count as one: a second exception would replace the one that says what is certain about the write."""


class Terminated(KeyboardInterrupt):
    """SIGTERM."""


class _Handler:
    """Raises KeyboardInterrupt at SIGINT, Terminated at SIGTERM; nothing for `REPEAT_S` after that."""

    def __init__(self) -> None:
        self._raised_at = -math.inf

    def __call__(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if now - self._raised_at >= REPEAT_S:
            self._raised_at = now
            raise Terminated if number == signal.SIGTERM else KeyboardInterrupt


_handler: Final = _Handler()
_before: Final[dict[int, Any]] = {}
"""What handled the signals before `begin`."""


def begin(*numbers: int) -> None:
    """Raise KeyboardInterrupt, or Terminated, at these signals from now on; what a command needs is imported before.

    An exception in the middle of an import may be swallowed there, or leave a module half made.
    """
    for number in numbers:
        handles = signal.getsignal(number)
        if handles not in (signal.SIG_IGN, _handler):
            _before[number] = handles
            signal.signal(number, _handler)


def ignore() -> None:
    """Ignore the signals of `begin` from now on: while the message about one is made."""
    for number in _before:
        signal.signal(number, signal.SIG_IGN)


def end() -> None:
    """Handle the signals of `begin` as before it again."""
    while _before:
        number, handles = next(iter(_before.items()))
        signal.signal(number, handles)
        del _before[number]


def is_terminated(problem: BaseException) -> bool:
    """Return whether SIGTERM caused this exception, or one that it replaced."""
    each: BaseException | None = problem
    while each is not None and not isinstance(each, Terminated):
        each = each.__cause__ or each.__context__
    return each is not None
