"""What an error means for whoever asked: the exit code, and what is certain about the write."""

from typing import Final

from bargetrio.client.interrupted import Interrupted
from bargetrio.protocol.errors import BargeError, ErrorCode

EXIT_CODES: Final[dict[ErrorCode, int]] = {
    "bad_request": 1,
    "forbidden": 1,
    "not_found": 3,
    "precondition_failed": 4,
    "no_leader": 5,
    "not_leader": 5,
    "overloaded": 5,
    "storage_failed": 6,
    "outcome_unknown": 6,
}
"""What a command ends with (docs/client.md)."""

OUTPUT_LOST: Final = 7
"""What was asked was done, and the answer, or the file that was to hold it, could not be written on this machine."""
INTERRUPTED: Final = 130
MAY_HAVE_HAPPENED: Final = "the write may have happened: read the key before you repeat it"
MAY_BE_CHANGED: Final = "it may have been done: check before you repeat it"


def exit_code(error: BargeError) -> int:
    """Return what a command that met this error ends with."""
    return EXIT_CODES[error.code]


def certainty(error: BargeError) -> str:
    """Return what is certain about the request, in words; "" where the error says it all."""
    if error.code == "outcome_unknown":
        return MAY_HAVE_HAPPENED
    if error.applied is None:
        return "it is unknown whether it took effect"
    return "nothing was changed" if EXIT_CODES[error.code] == 5 else ""


def told(error: BargeError) -> str:
    """Return the error in a line: its code, its words, and what is certain about the write."""
    certain = certainty(error)
    return f"{error.code}: {error.detail}" + (f" ({certain})" if certain else "")


def told_interrupted(problem: KeyboardInterrupt) -> str:
    """Return what to say after Ctrl-C: whether the write may have happened."""
    if not isinstance(problem, Interrupted) or problem.applied is not None:
        return "interrupted"
    return f"interrupted: {MAY_HAVE_HAPPENED if problem.of_key else MAY_BE_CHANGED}"
