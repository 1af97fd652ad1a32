"""The errors that a caller can get: their codes, HTTP statuses, and whether the write was applied (docs/rest.md).

`applied` is False if the write was never proposed: it has no effect and may be sent again. None: unknown, the write may still be
applied; a client must not repeat it unless it is idempotent (BUG-47). So a status on which clients and proxies retry by
themselves, 503 with Retry-After, is sent only with False (web/problems.py).
"""

from typing import Final, Literal

ErrorCode = Literal[
    "bad_request",
    "not_found",
    "precondition_failed",
    "not_leader",
    "no_leader",
    "overloaded",
    "not_ready",
    "storage_failed",
    "cannot_start",
    "outcome_unknown",
    "forbidden",
]

APPLIED: Final[dict[ErrorCode, bool | None]] = {
    "bad_request": False,
    "not_found": False,
    "precondition_failed": False,
    "not_leader": False,
    "no_leader": False,
    "overloaded": False,
    "not_ready": False,
    "storage_failed": None,
    "cannot_start": False,
    "outcome_unknown": None,
    "forbidden": False,
}

HTTP_STATUS: Final[dict[ErrorCode, int]] = {
    "bad_request": 400,
    "not_found": 404,
    "precondition_failed": 412,
    "not_leader": 503,
    "no_leader": 503,
    "overloaded": 503,
    "not_ready": 503,
    "storage_failed": 504,
    "cannot_start": 409,
    "outcome_unknown": 504,
    "forbidden": 403,
}

TITLE: Final[dict[ErrorCode, str]] = {
    "bad_request": "The request is not valid",
    "not_found": "Not found",
    "precondition_failed": "The condition does not hold",
    "not_leader": "This node is not the leader",
    "no_leader": "The cluster has no leader",
    "overloaded": "Too much is in flight",
    "not_ready": "This daemon is not ready",
    "storage_failed": "This node's disk failed",
    "cannot_start": "The node can't start",
    "outcome_unknown": "The outcome is unknown",
    "forbidden": "Not allowed",
}


class BargeError(Exception):
    """An answer other than success, with what the caller needs to decide whether to retry.

    `leader` and `address` are the leader's if it is known; `status` overrides the code's usual HTTP status (413, 415, 401).
    `of_key` is False where the request was about no key, as all that `client/admin.py` sends.
    """

    of_key = True

    def __init__(
        self,
        code: ErrorCode,
        detail: str,
        *,
        leader: int | None = None,
        address: str | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.code: ErrorCode = code
        self.detail = detail
        self.leader = leader
        self.address = address
        self.status = HTTP_STATUS[code] if status is None else status

    @property
    def applied(self) -> bool | None:
        """False: certainly no effect. None: unknown."""
        return APPLIED[self.code]


class NotSent(Exception):
    """The other side can't be reached, or refused the connection: certainly no request was sent."""


class NoAnswer(Exception):
    """No answer to a request that was sent: the connection ended, the time-out passed, or the answer is malformed."""
