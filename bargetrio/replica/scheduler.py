"""Schedules work that nodes sharing an event loop must not do at the same time: saving snapshots, applying a long backlog."""

from typing import Final

GRACE_S: Final = 0.25
"""How long the next node in the queue may take to begin, as its disk may be behind what it has applied; then another may save."""

STUCK_S: Final = 600.0
"""A node that saves for longer than this has a disk that hangs: another may save."""


class ProcessScheduler:
    """One scheduler for all nodes of a process; each passes itself as `by`, and calls `leave` when it ends."""

    def __init__(self) -> None:
        self._saver: object | None = None
        self._free_since = self._began = float("-inf")
        self._waiting: list[object] = []
        """The queue of nodes that want to save, least recently saved first."""
        self._saved: list[object] = []
        """Nodes that have saved, the latest one last."""
        self._prioritized: object | None = None

    def request_save(self, by: object) -> None:
        """Queue this node for saving its state, until `begin_saving` or `withdraw_request`.

        One save at a time ends each of them sooner. The queue is fair: without an order one node may be last every time, and its
        log grow to millions of entries (OWN-27).
        """
        if by not in self._waiting:
            self._waiting.append(by)
            self._waiting.sort(key=lambda each: self._saved.index(each) if each in self._saved else -1)

    def withdraw_request(self, by: object) -> None:
        """Remove this node from the queue."""
        if by in self._waiting:
            self._waiting.remove(by)

    def may_save(self, by: object, now: float) -> bool:
        """Return whether this node may begin to save now."""
        if self._saver is not None and now - self._began < STUCK_S:
            return self._saver is by
        return not self._waiting or self._waiting[0] is by or now - self._free_since > GRACE_S

    def begin_saving(self, by: object, now: float) -> None:
        """Begin saving: no other node may save until `end_saving`, or for STUCK_S."""
        self._saver, self._began = by, now
        self._forget(by)
        self._saved.append(by)

    def end_saving(self, by: object, now: float) -> None:
        """End saving: the next node of the queue may begin."""
        if self._saver is by:
            self._saver = None
            self._free_since = now

    def leave(self, by: object, now: float) -> None:
        """Remove a node that ends from the queue, and end its saving and its priority."""
        self.end_saving(by, now)
        self._forget(by)

    def _forget(self, by: object) -> None:
        for each in (self._waiting, self._saved):
            if by in each:
                each.remove(by)

    def prioritize(self, by: object, *, has_priority: bool) -> None:
        """Set whether this node leads and has a long backlog to apply, for which clients wait: the others apply later."""
        if has_priority:
            self._prioritized = by
        elif self._prioritized is by:
            self._prioritized = None

    def may_apply(self, by: object) -> bool:
        """Return whether no other node has priority."""
        return self._prioritized is None or self._prioritized is by
