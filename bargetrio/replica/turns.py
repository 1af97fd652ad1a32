"""Who goes first among the nodes of one process: they share a loop, and some work is better done by one after another."""

from typing import Final

GRACE_S: Final = 0.25
"""Who is next may not be able to begin at once (its disk is behind what it has applied); for so long the others wait for it."""

STUCK_S: Final = 600.0
"""A node that saves for longer than this has a disk that hangs: the others wait no more."""


class Turns:
    """One for all nodes of a process; each gives itself as `by`, and takes back what it took when it ends."""

    def __init__(self) -> None:
        self._saver: object | None = None
        self._free_since = self._began = float("-inf")
        self._waiting: list[object] = []
        """Who wants to save; who has not saved for longest comes first."""
        self._saved: list[object] = []
        """Who has saved, the latest one last."""
        self._prioritized: object | None = None

    def want_to_save(self, by: object) -> None:
        """This node wants to save its state, until it begins or says that it does not.

        One after another, each is done sooner, and each has its turn.
        Without an order one node may come last again and again, and its log grow to millions of entries (OWN-27).
        """
        if by not in self._waiting:
            self._waiting.append(by)
            self._waiting.sort(key=lambda each: self._saved.index(each) if each in self._saved else -1)

    def want_no_more(self, by: object) -> None:
        """This node does not want to save its state any more."""
        if by in self._waiting:
            self._waiting.remove(by)

    def may_save(self, by: object, now: float) -> bool:
        """Return whether this node may begin to save now."""
        if self._saver is not None and now - self._began < STUCK_S:
            return self._saver is by
        return not self._waiting or self._waiting[0] is by or now - self._free_since > GRACE_S

    def begin_saving(self, by: object, now: float) -> None:
        """From now on the others must wait."""
        self._saver, self._began = by, now
        self._forget(by)
        self._saved.append(by)

    def end_saving(self, by: object, now: float) -> None:
        """The next one may."""
        if self._saver is by:
            self._saver = None
            self._free_since = now

    def leave(self, by: object, now: float) -> None:
        """This node ends: it saves no more, and waits no more."""
        self.end_saving(by, now)
        self._forget(by)

    def _forget(self, by: object) -> None:
        for each in (self._waiting, self._saved):
            if by in each:
                each.remove(by)

    def prioritize(self, by: object, *, has_priority: bool) -> None:
        """Say whether this node leads and has much to apply, so that clients wait for it: the others' turn comes after it."""
        if has_priority:
            self._prioritized = by
        elif self._prioritized is by:
            self._prioritized = None

    def may_apply(self, by: object) -> bool:
        """Return whether nobody else has priority."""
        return self._prioritized is None or self._prioritized is by
