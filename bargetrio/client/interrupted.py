"""Ctrl-C during a request of the library."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C came while a request was under way; `applied` as in BargeError: None where it is a write that may still happen.

    `of_key` is False where that is no write of a key but a change to nodes or faults.
    """

    def __init__(self, *, applied: bool | None, of_key: bool = True) -> None:
        super().__init__()
        self.applied = applied
        self.of_key = of_key
