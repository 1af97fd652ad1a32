"""The cluster's REST, asked of the first daemon that answers."""

import http.client
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple, NoReturn

import msgspec

from bargetrio.client.connection import Cut, NotSent
from bargetrio.client.outcome import Interrupted
from bargetrio.protocol.addresses import parse_address
from bargetrio.protocol.errors import BargeError, ErrorCode

PIECE_BYTES: Final = 256 * 1024
CONNECT_S: Final = 2.0
"""A daemon that does not take the connection by then is passed over."""


class _Problem(msgspec.Struct):
    error: ErrorCode
    detail: str = ""
    leader: int | None = None


class Reply(NamedTuple):
    """A good answer; names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    data: bytes


class Admin:
    """Knows where daemons may be; remembers the one that answered last."""

    def __init__(self, apis: list[str], token: bytes | None, *, timeout_s: float = 10.0) -> None:
        self._timeout_s = timeout_s
        self._apis = list(dict.fromkeys(apis))
        self._headers = {} if token is None else {"Authorization": f"Bearer {token.decode('ascii', 'replace')}"}

    def ask(self, method: str, path: str, *, body: Any = None, timeout_s: float | None = None) -> Any:
        """Return the decoded answer; raise BargeError, no_leader if no daemon can be reached.

        What gets no answer is asked of the next daemon: reads, and kill, revive and faults, which may be repeated.
        """
        wait = self._timeout_s if timeout_s is None else timeout_s
        data = self.exchange(method, path, body=body, timeout_s=wait, may_repeat=True).data
        try:
            return msgspec.json.decode(data)
        except ValueError:
            raise BargeError("bad_request", "this is no Barge daemon: it answers with something else than JSON") from None

    def exchange(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        headers: dict[str, str] | None = None,
        timeout_s: float,
        may_repeat: bool,
        pass_over: tuple[ErrorCode, ...] = (),
    ) -> Reply:
        """Return the first daemon's good answer; raise BargeError.

        The next daemon is asked if this one was certainly not asked, if it tells one of the errors in `pass_over`, or if it gave
        no answer and the request may be repeated. Else the outcome is unknown.
        """
        failures: list[str] = []
        told: BargeError | None = None
        for api in list(self._apis):
            try:
                reply = self._exchange(api, method, path, body, headers or {}, timeout_s, may_repeat=may_repeat)
            except NotSent as problem:
                failures.append(f"{api}: {problem}")
                continue
            except Cut as problem:
                if not may_repeat:
                    raise BargeError("outcome_unknown", f"{api}: {problem}") from None
                failures.append(f"{api}: {problem}")
                continue
            except BargeError as error:
                self._prefer(api)
                if error.code not in pass_over:
                    raise
                told = error
                continue
            self._prefer(api)
            return reply
        raise told or _no_daemon(failures)

    def download(self, path: str, take: Callable[[bytes], None], *, timeout_s: float) -> dict[str, str]:
        """Give the answer to `take`, piece by piece; return its headers, names in lower case. Raise BargeError.

        Daemons that can't be reached, or that are not able to answer, are passed over; one that breaks off is not.
        """
        failures: list[str] = []
        for api in self._apis:
            connection = _connection(api, timeout_s)
            try:
                connection.request("GET", path, headers=self._headers)
                response = connection.getresponse()
                if response.status == 503:
                    failures.append(f"{api}: {response.read()[:500].decode(errors='replace')}")
                    continue
                if response.status >= 400:
                    _raise_problem(response.status, response.read(), api)
            except (OSError, http.client.HTTPException) as problem:
                failures.append(f"{api}: {problem}")
                connection.close()
                continue
            try:
                while piece := response.read(PIECE_BYTES):
                    take(piece)
            except (OSError, http.client.HTTPException) as problem:
                raise BargeError("storage_failed", f"{api} broke off: {problem}") from None
            finally:
                connection.close()
            return {name.lower(): value for name, value in response.getheaders()}
        raise _no_daemon(failures)

    @contextmanager
    def stream(self, path: str, *, headers: dict[str, str], timeout_s: float) -> Iterator[Iterator[bytes]]:
        """Open a stream of lines at the first daemon that has one; silence for `timeout_s` ends it. Raise BargeError."""
        failures: list[str] = []
        for api in list(self._apis):
            connection = _connection(api, timeout_s)
            try:
                try:
                    connection.request("GET", path, headers={**self._headers, **headers})
                    response = connection.getresponse()
                    if response.status >= 400:
                        _raise_problem(response.status, response.read(), api)
                except (OSError, http.client.HTTPException) as problem:
                    failures.append(f"{api}: {problem}")
                    continue
                self._prefer(api)
                yield _lines(response)
                return
            finally:
                connection.close()
        raise _no_daemon(failures)

    def _exchange(
        self, api: str, method: str, path: str, body: Any, headers: dict[str, str], timeout_s: float, *, may_repeat: bool
    ) -> Reply:
        """Ask one daemon; raise NotSent, Cut, or the BargeError that it tells."""
        headers = {**self._headers, **headers}
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        sent = False
        connection = _connection(api, min(timeout_s, CONNECT_S))
        try:
            try:
                connection.connect()
                connection.sock.settimeout(timeout_s)
                sent = True  # as far as a Ctrl-C may know
                connection.request(method, path, data, headers)
            except (OSError, http.client.HTTPException) as problem:
                # Not all of it left, or this would not have failed: half a request is never carried out.
                raise NotSent(_words(problem)) from None
            try:
                response = connection.getresponse()
                answer = response.read()
            except (OSError, http.client.HTTPException) as problem:
                raise Cut(_words(problem)) from None
        except KeyboardInterrupt:
            raise Interrupted(applied=None if sent and not may_repeat else False) from None
        finally:
            connection.close()
        if response.status >= 400:
            _raise_problem(response.status, answer, api)
        return Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, answer)

    def _prefer(self, api: str) -> None:
        self._apis.remove(api)
        self._apis.insert(0, api)


def _connection(api: str, timeout_s: float) -> http.client.HTTPConnection:
    host, port = parse_address(api)
    return http.client.HTTPConnection(host, port, timeout=timeout_s)


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


def _raise_problem(status: int, data: bytes, api: str) -> NoReturn:
    try:
        problem = msgspec.json.decode(data, type=_Problem)
    except ValueError:
        raise BargeError("bad_request", f"{api} answers {status}, and not as a Barge daemon would") from None
    raise BargeError(problem.error, problem.detail, leader=problem.leader, status=status)
