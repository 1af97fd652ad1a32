"""The waiting of trio's loop, for a loop that waits in its place (hub.py).

trio tells an instrument when it is about to wait, and how long; with what it waits, and whether a task could run by now, it keeps
to itself. That is looked up here and nowhere else (what it gains: docs/decisions/one_task_a_node.md). Where it is not found, in
another version of trio, `borrow` gives None, and the borrower waits as a task like all others: slower, and otherwise the same.

What a borrower does in that place runs outside of any task, and trio sees nothing of it. So for tests a node that always has more
is idle, and `wait_all_tasks_blocked` with a cushion, or a MockClock with an `autojump_threshold` above 0, never sees rest.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import trio

_IS_LENT: Final = trio.lowlevel.RunVar("its waiting is lent", default=False)


class TrioWait:
    """What the trio loop of this thread waits with."""

    def __init__(self) -> None:
        runner = _find_runner()
        if runner.is_guest:
            raise AttributeError("a guest's host does the waiting")
        self.descriptor: int = runner.io_manager._epoll.fileno()
        """Readable when trio has something to read, a thread's or a signal's word included."""
        self._runnable = runner.runq
        self._wake = runner.io_manager.force_wakeup

    def has_tasks(self) -> bool:
        """Return whether a task can run now."""
        return bool(self._runnable)

    def skip(self) -> None:
        """Have trio not wait this time: tasks, or deadlines, are not those by which it chose how long."""
        self._wake()


def _find_runner() -> Any:
    from trio._core._run import GLOBAL_RUN_CONTEXT  # here, so that a trio without it is one that lends nothing

    return GLOBAL_RUN_CONTEXT.runner


@contextmanager
def borrow() -> Iterator[TrioWait | None]:
    """Lend the waiting of the loop that runs here, to one borrower at a time; None if it can't be had."""
    try:
        wait = None if _IS_LENT.get() else TrioWait()
    except (AttributeError, ImportError):
        wait = None
    if wait is None:
        yield None
        return
    _IS_LENT.set(True)
    try:
        yield wait
    finally:
        _IS_LENT.set(False)
