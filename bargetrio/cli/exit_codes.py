"""Exit codes and texts of errors: what is certain about the write."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from signal import SIGINT, SIGTERM
from typing import Final

from bargetrio.cli import signals
from bargetrio.client.interrupted import Interrupted
from bargetrio.protocol.errors import BargeError, ErrorCode

EXIT_CODES: Final[dict[ErrorCode, int]] = {
    "bad_request": 1,
    "forbidden": 1,
    "cannot_start": 1,
    "not_found": 3,
    "precondition_failed": 4,
    "no_leader": 5,
    "not_leader": 5,
    "overloaded": 5,
    "not_ready": 5,
    "storage_failed": 6,
    "outcome_unknown": 6,
}
"""What a command ends with (docs/client.md)."""

OUTPUT_LOST: Final = 7
"""What was asked was done, and the answer, or the file that was to hold it, could not be written on this machine."""
INTERRUPTED: Final = 128 + SIGINT
TERMINATED: Final = 128 + SIGTERM
MAY_HAVE_HAPPENED: Final = "the write may have happened: read the key before you repeat it"
MAY_BE_CHANGED: Final = "it may have been done: check before you repeat it"


def exit_code(error: BargeError) -> int:
    """Return the exit code of a command for this error."""
    return EXIT_CODES[error.code]


def certainty(error: BargeError) -> str:
    """Return in words whether the request may have had an effect; "" if the error's text says it."""
    if error.code == "outcome_unknown":
        return MAY_HAVE_HAPPENED if error.of_key else MAY_BE_CHANGED
    if error.applied is None:
        return "it is unknown whether it took effect"
    return "nothing was changed" if EXIT_CODES[error.code] == 5 else ""


def error_text(error: BargeError) -> str:
    """Return the error as one line: code, detail, and whether the write may have been applied."""
    certain = certainty(error)
    return f"{error.code}: {error.detail}" + (f" ({certain})" if certain else "")


def interrupt_code(problem: KeyboardInterrupt) -> int:
    """Return the exit code after SIGINT or SIGTERM, as a shell reports them."""
    return TERMINATED if signals.is_terminated(problem) else INTERRUPTED


def interrupt_fields(problem: KeyboardInterrupt) -> dict[str, object]:
    """Return the error after SIGINT or SIGTERM as an object: {"error", "detail", "applied"}.

    `applied` is None for a write that may be applied, and where the signal came while no request was waited for.
    """
    error = "terminated" if signals.is_terminated(problem) else "interrupted"
    if not isinstance(problem, Interrupted):
        return {"error": error, "detail": "", "applied": None}
    if problem.applied is None:
        return {"error": error, "detail": MAY_HAVE_HAPPENED if problem.of_key else MAY_BE_CHANGED, "applied": None}
    return {"error": error, "detail": "nothing was changed", "applied": problem.applied}


def interrupt_text(problem: KeyboardInterrupt) -> str:
    """Return the same as one line."""
    fields = interrupt_fields(problem)
    return f"{fields['error']}: {fields['detail']}" if fields["detail"] else str(fields["error"])


@contextmanager
def dropping_tracebacks(problem: BaseException) -> Iterator[None]:
    """At the end free the frames that `problem` interrupted, with `sys.unraisablehook` silenced meanwhile.

    A signal may come in the middle of any constructor of the standard library; from Python 3.13 on the finalizer of such a
    half-built object of io complains on stderr of the attributes that it misses. The tracebacks keep these objects alive.
    """
    try:
        yield
    finally:
        hook, sys.unraisablehook = sys.unraisablehook, lambda unraisable: None
        try:
            left = [problem]
            while left:
                each = left.pop()
                each.__traceback__ = None
                left += [other for other in (each.__cause__, each.__context__) if other is not None and other.__traceback__]
        finally:
            sys.unraisablehook = hook
