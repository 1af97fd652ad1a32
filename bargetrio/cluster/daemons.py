"""Client of the other daemons' REST: each answers for the nodes it runs.

Blocking http.client in threads, with a time-out for each kind of question: an unreachable daemon must not delay this one's
answers.
"""

import http.client
import threading
from functools import partial
from typing import Any, Final, TypeVar
from urllib.parse import quote, unquote

import msgspec
import trio

from bargetrio.protocol.errors import BargeError, ErrorCode

T = TypeVar("T")

CLUSTER_HEADER: Final = "Barge-Cluster"
"""Names the cluster that a request of another daemon is for, percent-encoded: an `api` may lead to a daemon of another one."""

TIMEOUT_S: Final = 1.0
KILL_TIMEOUT_S: Final = 5.0
REVIVE_TIMEOUT_S: Final = 60.0
"""A node with a long log takes its time to recover."""
MOST_AT_ONCE: Final = 16
MOST_ANSWER_BYTES: Final = 64 * 1024 * 1024
"""Of all answers that are being read or decoded; the one that would take more is given up."""
READ_BYTES: Final = 256 * 1024


def encode_cluster(name: str) -> str:
    """Return the value of CLUSTER_HEADER: a cluster's name may have letters that a header may not."""
    return quote(name, safe="")


def decode_cluster(value: bytes) -> str:
    """Return the name in a CLUSTER_HEADER; what can't be decoded is in no name, so it differs from each."""
    return unquote(value.decode("latin-1"), errors="replace")


class Unreachable(Exception):
    """The daemon did not answer, or not as this API: whether the request had an effect is unknown."""


class _Problem(msgspec.Struct, frozen=True):
    error: ErrorCode
    detail: str = ""


class _AnswerMemory:
    """Bytes of answers that are being read or decoded, for the threads of `Daemons`."""

    def __init__(self) -> None:
        self._used_bytes = 0
        self._lock = threading.Lock()

    def take(self, size: int) -> bool:
        """Count more bytes, or return False if they would be too many."""
        with self._lock:
            if self._used_bytes + size > MOST_ANSWER_BYTES:
                return False
            self._used_bytes += size
            return True

    def release(self, size: int) -> None:
        """Subtract them."""
        with self._lock:
            self._used_bytes -= size


class Daemons:
    """Sends requests to other daemons of `cluster`; `apis` has the REST address of each node's daemon."""

    def __init__(self, apis: dict[int, str], token: bytes | None, *, cluster: str) -> None:
        self.apis = apis
        self._headers = {CLUSTER_HEADER: encode_cluster(cluster)}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token.decode('ascii', 'replace')}"
        self._limiter = trio.CapacityLimiter(MOST_AT_ONCE)
        self._memory = _AnswerMemory()

    async def ask(self, api: str, method: str, path: str, kind: type[T], body: Any = None, *, timeout_s: float = TIMEOUT_S) -> T:
        """Return the answer, decoded as `kind`; raise Unreachable, or the BargeError that the other daemon answered."""
        work = partial(self._ask, api, method, path, kind, body, timeout_s)
        return await trio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=self._limiter)

    def _ask(self, api: str, method: str, path: str, kind: type[T], body: Any, timeout_s: float) -> T:
        headers = self._headers.copy()
        data = None
        if body is not None:
            data = msgspec.json.encode(body)
            headers["Content-Type"] = "application/json"
        connection = http.client.HTTPConnection(api, timeout=timeout_s)
        answer = bytearray()
        try:
            connection.request(method, path, data, headers)
            response = connection.getresponse()
            while piece := response.read(READ_BYTES):
                if not self._memory.take(len(piece)):
                    detail = f"answers of other daemons have more than {MOST_ANSWER_BYTES >> 20} MiB together"
                    raise Unreachable(f"the answer of {api} is not read: {detail}")
                answer += piece
            return _decode(api, response.status, answer, kind)
        except (OSError, http.client.HTTPException) as problem:
            raise Unreachable(f"{api} does not answer: {problem}") from None
        finally:
            connection.close()
            self._memory.release(len(answer))


def _decode(api: str, status: int, answer: bytearray, kind: type[T]) -> T:
    try:
        if 200 <= status < 300:
            return msgspec.json.decode(answer, type=kind)
        problem = msgspec.json.decode(answer, type=_Problem)
    except (ValueError, RecursionError):
        raise Unreachable(f"{api} answers {status}, and not as a daemon would") from None
    raise BargeError(problem.error, problem.detail, status=status)
