"""Client of the cluster's REST API: the first daemon that answers is used."""

import http.client
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple, NoReturn, TypeVar

import msgspec

from bargetrio.client.interrupted import Interrupted
from bargetrio.protocol.addresses import parse_address
from bargetrio.protocol.errors import APPLIED, BargeError, ErrorCode, NoAnswer, NotSent

T = TypeVar("T")
PIECE_BYTES: Final = 256 * 1024
CONNECT_S: Final = 2.0
SHOWN_BYTES: Final = 500
"""A daemon that does not take the connection by then is passed over."""

BEFORE: Final[dict[int, ErrorCode]] = {
    **dict.fromkeys((400, 404, 405, 406, 408, 411, 413, 414, 415, 417, 421, 426, 428, 431), "bad_request"),
    **dict.fromkeys((401, 403, 407, 451), "forbidden"),
    429: "overloaded",
}
"""What an answer that is no daemon's means, by its status, where a proxy gives it before it passes anything on. After any other a
write may have been done: the proxy may have passed it on, and lost or replaced the daemon's answer."""


class _ProblemAnswer(msgspec.Struct):
    """A daemon's problem. Without `applied` it is another server's, whatever its `error`: proxies send errors as JSON, too."""

    error: ErrorCode
    applied: bool | None
    detail: str = ""
    leader: int | None = None


class Reply(NamedTuple):
    """A successful answer; names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    data: bytes


class Admin:
    """Sends requests to the daemons at `apis`, first to the one that answered last. Errors are those of `Client`."""

    def __init__(self, apis: list[str], token: bytes | None, *, timeout_s: float = 10.0) -> None:
        self._timeout_s = timeout_s
        self._apis = list(dict.fromkeys(apis))
        self._headers = {} if token is None else {"Authorization": f"Bearer {token.decode('ascii', 'replace')}"}

    def ask(
        self,
        method: str,
        path: str,
        answer_type: type[T],
        *,
        required_field: str = "",
        body: object = None,
        timeout_s: float | None = None,
    ) -> T:
        """Return the answer; raise BargeError, no_leader if no daemon answers, or Interrupted.

        An answer of another type counts as none; so does one without `required_field`, for a type whose fields all have defaults.
        A request without an answer is sent to the next daemon if it is idempotent: reads, kill, revive and faults. A change that
        got no answer, and that no other daemon has confirmed, is `outcome_unknown`.
        """

        def decode(reply: Reply) -> T:
            found = msgspec.json.decode(reply.data, type=answer_type)
            if reply.status != 200 or (
                required_field and required_field not in msgspec.json.decode(reply.data, type=dict[str, object])
            ):
                raise ValueError("that is no answer to this request")
            return found

        wait = self._timeout_s if timeout_s is None else timeout_s
        try:
            return self.exchange(method, path, decode, body=body, timeout_s=wait, may_repeat=True)
        except BargeError as error:
            error.of_key = False
            raise

    def exchange(
        self,
        method: str,
        path: str,
        decode: Callable[[Reply], T],
        *,
        body: object = None,
        headers: dict[str, str] | None = None,
        timeout_s: float,
        may_repeat: bool,
        try_next_on: tuple[ErrorCode, ...] = (),
    ) -> T:
        """Return the first successful answer, decoded; raise BargeError or Interrupted.

        `decode` raises ValueError for a malformed one.
        The next daemon is tried if this one certainly got no request, if it answers one of the errors in `try_next_on`, or if it
        gave no answer and `may_repeat`. Else the outcome of a write is unknown. A proxy's error, a page, or an answer about
        another key counts as no answer.
        """
        failures: list[str] = []
        answered: BargeError | None = None
        may_be_done = False
        for api in list(self._apis):
            try:
                reply = self._exchange(api, method, path, body, headers or {}, timeout_s, may_repeat=may_repeat)
                found = _decoded(reply, decode)
            except Interrupted as problem:
                if may_be_done:
                    problem.applied = None
                raise
            except NotSent as problem:
                failures.append(f"{api}: {problem}")
                continue
            except NoAnswer as problem:
                failures.append(f"{api}: {problem}")
                may_be_done = method != "GET"
                if may_repeat:
                    continue
                break
            except BargeError as error:
                self._prefer(api)
                answered = error
                failures.append(f"{api}: {error.detail}")
                if error.code in try_next_on:
                    continue
                break
            self._prefer(api)
            return found
        if may_be_done:
            raise BargeError("outcome_unknown", "; ".join(failures))
        raise answered or _no_daemon(failures)

    def download(self, path: str, take: Callable[[bytes], object], *, timeout_s: float) -> dict[str, str]:
        """Pass the answer to `take`, chunk by chunk; return its headers, names in lower case. Raise BargeError.

        The next daemon is tried if this one can't be reached or can't answer, but not if it breaks off. Exceptions of `take` are
        passed on, and Ctrl-C is a plain KeyboardInterrupt, as it only reads. The time-out is `timeout_s` for each chunk,
        CONNECT_S for a connection.
        """
        failures: list[str] = []
        for api in self._apis:
            connection = _connection(api, min(timeout_s, CONNECT_S))
            try:
                connection.connect()
                connection.sock.settimeout(timeout_s)
                connection.request("GET", path, headers=self._headers)
                response = connection.getresponse()
                if response.status >= 500:
                    failures.append(f"{api}: {_detail(response.read())}")
                    connection.close()
                    continue
                if response.status != 200:
                    _raise_problem(response.status, response.read(), api)
            except (NoAnswer, OSError, http.client.HTTPException) as problem:
                failures.append(f"{api}: {_words(problem)}")
                connection.close()
                continue
            try:
                while piece := _piece(response, api):
                    take(piece)
                if response.length:  # http.client does not report a premature end
                    raise BargeError("no_leader", f"{api} broke off: {response.length:,} bytes are missing")
            finally:
                connection.close()
            return {name.lower(): value for name, value in response.getheaders()}
        raise _no_daemon(failures)

    @contextmanager
    def stream(self, path: str, *, headers: dict[str, str], timeout_s: float) -> Iterator[Iterator[bytes]]:
        """Open a stream of lines at the first daemon that has one; it ends after `timeout_s` without data.

        Raise BargeError if none has; a stream that breaks off just ends. Ctrl-C is a plain KeyboardInterrupt.
        """
        failures: list[str] = []
        for api in list(self._apis):
            connection = _connection(api, timeout_s)
            try:
                try:
                    connection.request("GET", path, headers={**self._headers, **headers})
                    response = connection.getresponse()
                    if response.status != 200:
                        _raise_problem(response.status, response.read(), api)
                except (NoAnswer, OSError, http.client.HTTPException) as problem:
                    failures.append(f"{api}: {problem}")
                    continue
                self._prefer(api)
                yield _lines(response)
                return
            finally:
                connection.close()
        raise _no_daemon(failures)

    def _exchange(
        self, api: str, method: str, path: str, body: object, headers: dict[str, str], timeout_s: float, *, may_repeat: bool
    ) -> Reply:
        """Send the request to one daemon; raise NotSent, NoAnswer, or the BargeError that it answers."""
        headers = {**self._headers, **headers}
        data = None
        if body is not None:
            data = msgspec.json.encode(body)
            headers["Content-Type"] = "application/json"
        sent = False
        connection = _connection(api, min(timeout_s, CONNECT_S))
        try:
            try:
                connection.connect()
                connection.sock.settimeout(timeout_s)
                sent = True  # a Ctrl-C from here on may come after the request was sent
                connection.request(method, path, data, headers)
            except (OSError, http.client.HTTPException) as problem:
                # Not all of it was sent, or this would not have failed: an incomplete request is never executed.
                raise NotSent(_words(problem)) from None
            try:
                response = connection.getresponse()
                answer = response.read()
            except (OSError, http.client.HTTPException) as problem:
                raise NoAnswer(_words(problem)) from None
        except KeyboardInterrupt:
            raise Interrupted(applied=None if sent and method != "GET" else False, of_key=not may_repeat) from None
        finally:
            connection.close()
        if not 200 <= response.status < 300:
            _raise_problem(response.status, answer, api)
        return Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, answer)

    def _prefer(self, api: str) -> None:
        self._apis = [api, *(other for other in self._apis if other != api)]  # at once: other threads read it


def _connection(api: str, timeout_s: float) -> http.client.HTTPConnection:
    host, port = parse_address(api)
    return http.client.HTTPConnection(host, port, timeout=timeout_s)


def _piece(response: http.client.HTTPResponse, api: str) -> bytes:
    """Return the next chunk of an answer; raise BargeError if it breaks off (applied: False, as downloads only read)."""
    try:
        return response.read(PIECE_BYTES)
    except (OSError, http.client.HTTPException) as problem:
        raise BargeError("no_leader", f"{api} broke off: {_words(problem)}") from None


def _detail(data: bytes) -> str:
    """Return the detail of a daemon's problem, or the first part of any other answer."""
    try:
        problem = msgspec.json.decode(data, type=_ProblemAnswer)
    except (ValueError, RecursionError):
        return data[:SHOWN_BYTES].decode(errors="replace")
    return f"{problem.error}: {problem.detail}"


def _lines(response: http.client.HTTPResponse) -> Iterator[bytes]:
    while True:
        try:
            line = response.readline()
        except (OSError, http.client.HTTPException, ValueError):
            return
        if not line:
            return
        yield line


def _words(problem: Exception) -> str:
    if isinstance(problem, TimeoutError):
        return "no answer in time"
    if isinstance(problem, http.client.RemoteDisconnected):
        return "it closed the connection"
    if isinstance(problem, http.client.BadStatusLine):
        return "this is no REST of a daemon"
    return (problem.strerror if isinstance(problem, OSError) else None) or str(problem) or type(problem).__name__


def _no_daemon(failures: list[str]) -> BargeError:
    return BargeError("no_leader", "no daemon answers" + "".join(f"\n  {failure}" for failure in failures))


def _decoded(reply: Reply, decode: Callable[[Reply], T]) -> T:
    try:
        return decode(reply)
    except (ValueError, RecursionError) as problem:
        raise NoAnswer(f"it answers {reply.status}, and not as a Barge daemon would: {problem}") from None


def _raise_problem(status: int, data: bytes, api: str) -> NoReturn:
    """Raise the BargeError of a daemon's answer, or of a proxy's; NoAnswer if that shows nothing about the request."""
    foreign = f"it answers {status}, and not as a Barge daemon would"
    try:
        problem = msgspec.json.decode(data, type=_ProblemAnswer)
    except (ValueError, RecursionError):
        if status in BEFORE:
            raise BargeError(BEFORE[status], f"{api}: {foreign}", status=status) from None
        raise NoAnswer(foreign) from None
    if status < 400 or problem.applied is not APPLIED[problem.error]:
        raise NoAnswer(f"{foreign}: {problem.detail}")
    raise BargeError(problem.error, problem.detail, leader=problem.leader, status=status)
