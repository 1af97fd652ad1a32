"""The cluster's REST, asked of the first daemon that answers."""

import http.client
from collections.abc import Callable
from typing import Any, Final

import msgspec

from bargetrio.protocol.errors import BargeError, ErrorCode

PIECE_BYTES: Final = 256 * 1024


class _Problem(msgspec.Struct):
    error: ErrorCode
    detail: str = ""
    leader: int | None = None


class Admin:
    """Knows where daemons may be; remembers the one that answered last."""

    def __init__(self, apis: list[str], token: bytes | None) -> None:
        self._apis = list(dict.fromkeys(apis))
        self._headers = {} if token is None else {"Authorization": f"Bearer {token.decode('ascii', 'replace')}"}

    def ask(self, method: str, path: str, *, timeout_s: float = 10.0) -> Any:
        """Return the decoded answer; raise BargeError, no_leader if no daemon can be reached.

        Only what was not sent is tried elsewhere; kill and revive may also be repeated: twice is no error.
        """
        failures: list[str] = []
        for api in list(self._apis):
            connection = http.client.HTTPConnection(api, timeout=timeout_s)
            try:
                connection.request(method, path, headers=self._headers)
                response = connection.getresponse()
                data = response.read()
            except (OSError, http.client.HTTPException) as problem:
                failures.append(f"{api}: {problem}")
                continue
            finally:
                connection.close()
            self._apis.remove(api)
            self._apis.insert(0, api)
            return self._decoded(response.status, data, api)
        raise BargeError("no_leader", "no daemon answers" + "".join(f"\n  {failure}" for failure in failures))

    def download(self, path: str, take: Callable[[bytes], None], *, timeout_s: float) -> dict[str, str]:
        """Give the answer to `take`, piece by piece; return its headers, names in lower case. Raise BargeError.

        Daemons that can't be reached, or that are not able to answer, are passed over; one that breaks off is not.
        """
        failures: list[str] = []
        for api in self._apis:
            connection = http.client.HTTPConnection(api, timeout=timeout_s)
            try:
                connection.request("GET", path, headers=self._headers)
                response = connection.getresponse()
                if response.status == 503:
                    failures.append(f"{api}: {response.read()[:500].decode(errors='replace')}")
                    continue
                if response.status >= 400:
                    self._decoded(response.status, response.read(), api)
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
        raise BargeError("no_leader", "no daemon answers" + "".join(f"\n  {failure}" for failure in failures))

    @staticmethod
    def _decoded(status: int, data: bytes, api: str) -> Any:
        try:
            if status < 400:
                return msgspec.json.decode(data)
            problem = msgspec.json.decode(data, type=_Problem)
        except ValueError:
            raise BargeError("bad_request", f"{api} answers {status}, and not as a Barge daemon would") from None
        raise BargeError(problem.error, problem.detail, leader=problem.leader, status=status)
