"""Errors as RFC 9457 problems: a text, one of the table's codes, and whether the write was applied."""

import http
from typing import Any, Final

import msgspec

from bargetrio.protocol.errors import HTTP_STATUS, TITLE, BargeError, ErrorCode

CONTENT_TYPE: Final = "application/problem+json"
RETRY_AFTER_S: Final = "1"


class Refusal(BargeError):
    """An error whose answer has additional headers, like Accept-Encoding of a 415 or Allow of a 405."""

    def __init__(self, code: ErrorCode, detail: str, *, status: int, headers: dict[str, str]) -> None:
        super().__init__(code, detail, status=status)
        self.headers = headers


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """The body of every answer from 400 on. `applied`: false is certain, null is unknown."""

    title: str
    status: int
    detail: str
    error: str
    leader: int | None = None
    term: int | None = None
    applied: bool | None = False


def problem_of(error: BargeError, term: int | None = None) -> Problem:
    """Return the problem for `error`; an unusual status gets its own title."""
    title = TITLE[error.code] if error.status == HTTP_STATUS[error.code] else http.HTTPStatus(error.status).phrase
    return Problem(
        title=title,
        status=error.status,
        detail=error.detail,
        error=error.code,
        leader=error.leader,
        term=term,
        applied=error.applied,
    )


def answer_of(error: BargeError, term: int | None = None) -> tuple[int, dict[str, str], bytes]:
    """Return (status, headers, body)."""
    headers = {"Content-Type": CONTENT_TYPE}
    if error.status == 503 and error.applied is False:  # clients retry by themselves after Retry-After
        headers["Retry-After"] = RETRY_AFTER_S
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, Refusal):
        headers.update(error.headers)
    return error.status, headers, msgspec.json.encode(problem_of(error, term))


def of_http(status: int, description: str) -> BargeError:
    """Return the error for a refusal of the web framework: no such route, wrong method, body too large."""
    if status == 404:
        return BargeError("not_found", description)
    if status >= 500:
        return BargeError("outcome_unknown", description, status=status)
    return BargeError("bad_request", description, status=status)


JSON: Final = "application/json"


def json_body(value: Any) -> bytes:
    """Return the value as one line of JSON, for reading in a terminal."""
    return msgspec.json.encode(value) + b"\n"
