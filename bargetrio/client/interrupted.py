"""Ctrl-C during a request of the library."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a request; `applied` as in BargeError: None for a write that may still be applied.

    `of_key` is False for a change of nodes or faults.
    """

    def __init__(self, *, applied: bool | None, of_key: bool = True) -> None:
        super().__init__()
        self.applied = applied
        self.of_key = of_key
