"""The errors that a caller can meet: their codes, HTTP statuses, and whether the write was applied (docs/rest.md).

`applied` is the point of the table. False: the write was never proposed, it has no effect and may be sent again. None: nobody
knows, the write may still happen; a client must not blindly repeat what is not idempotent (BUG-47). So a status that clients and
proxies repeat by themselves, 503 with Retry-After, goes only with False (web/problems.py).
"""

from typing import Final, Literal

ErrorCode = Literal[
    "bad_request",
    "not_found",
    "precondition_failed",
    "not_leader",
    "no_leader",
    "overloaded",
    "storage_failed",
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
    "storage_failed": None,
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
    "storage_failed": 504,
    "outcome_unknown": 504,
    "forbidden": 403,
}

TITLE: Final[dict[ErrorCode, str]] = {
    "bad_request": "The request is not valid",
    "not_found": "There is no such thing",
    "precondition_failed": "The key is not as the request demands",
    "not_leader": "This node is not the leader",
    "no_leader": "The cluster has no leader",
    "overloaded": "Too much is in flight",
    "storage_failed": "This node's disk failed",
    "outcome_unknown": "The outcome is unknown",
    "forbidden": "Not allowed",
}


class BargeError(Exception):
    """An answer other than success; carries what the caller needs to decide what to do next.

    `leader` and `address` name the leader where it is known; `status` overrides the code's usual HTTP status (413, 415, 401).
    """

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
        """False: certainly without effect. None: unknown."""
        return APPLIED[self.code]


class NotSent(Exception):
    """The other side can't be reached, or does not want us: certainly nothing was asked."""


class Cut(Exception):
    """No answer to a request that had left: the connection ended, the time was over, or what came is no answer to it."""
