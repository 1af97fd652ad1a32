"""What an error means for whoever asked: the exit code, and what is certain about the write."""

from typing import Final

from bargetrio.protocol.errors import BargeError

EXIT_CODES: Final[dict[str, int]] = {
    "not_found": 3,
    "precondition_failed": 4,
    "no_leader": 5,
    "not_leader": 5,
    "overloaded": 5,
    "storage_failed": 6,
    "outcome_unknown": 6,
}
"""What a command ends with; every other error is 1."""

INTERRUPTED: Final = 130
MAY_HAVE_HAPPENED: Final = "the write may have happened: read the key before you repeat it"


class Interrupted(KeyboardInterrupt):
    """Ctrl-C came while a request was under way; `applied` as in BargeError: None where it is a write that may still happen."""

    def __init__(self, *, applied: bool | None) -> None:
        super().__init__()
        self.applied = applied


def exit_code(error: BargeError) -> int:
    """Return what a command that met this error ends with."""
    return EXIT_CODES.get(error.code, 1)


def certainty(error: BargeError) -> str:
    """Return what is certain about the request, in words; "" where the error says it all."""
    if error.code == "outcome_unknown":
        return MAY_HAVE_HAPPENED
    if error.applied is None:
        return "it is unknown whether it took effect"
    return "nothing was changed" if EXIT_CODES.get(error.code) == 5 else ""


def told(error: BargeError) -> str:
    """Return the error in a line: its code, its words, and what is certain about the write."""
    certain = certainty(error)
    return f"{error.code}: {error.detail}" + (f" ({certain})" if certain else "")


def told_interrupted(problem: KeyboardInterrupt) -> str:
    """Return what to say after Ctrl-C: whether the write may have happened."""
    unknown = isinstance(problem, Interrupted) and problem.applied is None
    return f"interrupted: {MAY_HAVE_HAPPENED}" if unknown else "interrupted"
