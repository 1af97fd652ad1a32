"""Keys through a daemon's REST, for a client with endpoints instead of node addresses: the daemon finds the leader."""

from collections.abc import Callable
from typing import TypeVar
from urllib.parse import quote, urlencode

import msgspec

from bargetrio.client.admin import Admin, Reply
from bargetrio.client.connection import checked
from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.requests import Delete, Get, List, Put, Request

A = TypeVar("A")


class RestKeys:
    """The same requests, answers and errors as over the client protocol."""

    def __init__(self, admin: Admin, timeout_s: float) -> None:
        self._admin = admin
        self._timeout_s = timeout_s

    def close(self) -> None:
        """Do nothing: there is no open connection."""

    def execute(self, request: Request, answer_type: type[A]) -> A:
        """Return the answer; raise BargeError or Interrupted. A write that may have been applied is never retried (BUG-47)."""

        def decode(reply: Reply) -> A:
            fields = _fields(request, reply)
            return checked(request, msgspec.convert({"id": 0, "ok": True, **fields}, answer_type))

        path = "/keys"
        match request:
            case Put():
                fields = {name: value for name, value in msgspec.to_builtins(request).items() if name not in ("op", "id")}
                return self._ask("POST", path, decode, body=fields, is_write=True)
            case Get():
                path += f"/{quote(request.key, safe='')}?read={request.read}"
                return self._ask_for_key(path, decode, answer_type, {"key": request.key, "index": 0, "value": None})
            case Delete():
                headers = {} if request.if_index is None else {"If-Match": f'"{request.if_index}"'}
                nothing = {"key": request.key, "index": 0, "term": 0, "deleted": False}
                path += f"/{quote(request.key, safe='')}"
                return self._ask_for_key(path, decode, answer_type, nothing, method="DELETE", headers=headers, is_write=True)
            case List():
                query = {
                    "prefix": request.prefix,
                    "after": request.after,
                    "limit": request.limit,
                    "keys_only": int(request.keys_only),
                    "read": request.read,
                }
                return self._ask("GET", f"{path}?{urlencode(query)}", decode)

    def _ask_for_key(
        self,
        path: str,
        decode: Callable[[Reply], A],
        answer_type: type[A],
        nothing: dict[str, object],
        *,
        method: str = "GET",
        headers: dict[str, str] | None = None,
        is_write: bool = False,
    ) -> A:
        """Send the request; `nothing` are the fields of the answer if there is no such key."""
        try:
            return self._ask(method, path, decode, headers=headers, is_write=is_write)
        except BargeError as error:
            if error.code != "not_found":
                raise
            return msgspec.convert({"id": 0, "ok": True, **nothing}, answer_type)

    def _ask(
        self,
        method: str,
        path: str,
        decode: Callable[[Reply], A],
        *,
        body: object = None,
        headers: dict[str, str] | None = None,
        is_write: bool = False,
    ) -> A:
        """Try one daemon after the other until one answers; the next one only if the request certainly had no effect."""
        return self._admin.exchange(
            method,
            path,
            decode,
            body=body,
            headers=headers,
            timeout_s=self._timeout_s,
            may_repeat=not is_write,
            try_next_on=("no_leader", "overloaded"),
        )


def _fields(request: Request, reply: Reply) -> dict[str, object]:
    """Return the fields of the client protocol's answer; raise ValueError unless this is a daemon's answer to this request."""
    if isinstance(request, Delete):
        index, term = reply.headers.get("barge-index", ""), reply.headers.get("barge-entry-term", "0")
        if reply.status != 204 or not (index.isdigit() and term.isdigit()):
            raise ValueError("it has no index")
        return {"key": request.key, "index": int(index), "term": int(term), "deleted": True}
    if reply.status not in ((200, 201) if isinstance(request, Put) else (200,)):
        raise ValueError("that is no answer to this request")
    found = msgspec.json.decode(reply.data)
    if not isinstance(found, dict):
        raise ValueError("its answer is no object")
    if isinstance(request, Get) and found.get("index") == 0:
        raise ValueError("a key that is not there is 404")
    return {**found, "created": reply.status == 201} if isinstance(request, Put) else found
