"""Who goes first among the nodes of one process: they share a loop, and some work is better done by one after another."""


class Turns:
    """One for all nodes of a process; each gives itself as `by`, and takes back what it took when it ends."""

    def __init__(self) -> None:
        self._saver: object | None = None
        self._hurrying: object | None = None

    def may_save(self, by: object) -> bool:
        """Return whether nobody else is saving its state: one after another, each is done sooner."""
        return self._saver is None or self._saver is by

    def begin_saving(self, by: object) -> None:
        """From now on the others must wait."""
        self._saver = by

    def end_saving(self, by: object) -> None:
        """The next one may."""
        if self._saver is by:
            self._saver = None

    def hurry(self, by: object, *, hurries: bool) -> None:
        """Say whether this node leads and has much to apply, so that clients wait for it: the others' turn comes after it."""
        if hurries:
            self._hurrying = by
        elif self._hurrying is by:
            self._hurrying = None

    def may_apply(self, by: object) -> bool:
        """Return whether nobody else hurries."""
        return self._hurrying is None or self._hurrying is by
