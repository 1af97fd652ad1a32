"""Keys through a daemon's REST, for a client that knows endpoints and no nodes: the daemon finds the leader."""

from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from bargetrio.client.admin import Admin, Reply
from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.requests import Delete, Get, List, Put, Request

A = TypeVar("A")


class RestKeys:
    """The same questions and answers as over the client protocol."""

    def __init__(self, admin: Admin, timeout_s: float) -> None:
        self._admin = admin
        self._timeout_s = timeout_s

    def close(self) -> None:
        """Nothing is kept open."""

    def execute(self, request: Request, answer_type: type[A]) -> A:
        """Return the answer; raise BargeError. A write that may have been made is never made again (BUG-47)."""
        match request:
            case Put():
                fields = {name: value for name, value in msgspec.to_builtins(request).items() if name not in ("op", "id")}
                reply = self._ask("POST", "/keys", body=fields, is_write=True)
                found = {**_object(reply), "created": reply.status == 201}
            case Get():
                found = self._get(request)
            case Delete():
                found = self._delete(request)
            case List():
                query = urlencode(
                    {
                        "prefix": request.prefix,
                        "after": request.after,
                        "limit": request.limit,
                        "keys_only": int(request.keys_only),
                        "read": request.read,
                    }
                )
                found = _object(self._ask("GET", f"/keys?{query}"))
        try:
            return msgspec.convert({"id": 0, "ok": True, **found}, answer_type)
        except msgspec.ValidationError as problem:
            raise BargeError("bad_request", f"this is no Barge daemon: {problem}") from None

    def _get(self, request: Get) -> dict[str, Any]:
        try:
            return _object(self._ask("GET", f"/keys/{quote(request.key, safe='')}?read={request.read}"))
        except BargeError as error:
            if error.code != "not_found":
                raise
            return {"key": request.key, "index": 0, "value": None}

    def _delete(self, request: Delete) -> dict[str, Any]:
        headers = {} if request.if_index is None else {"If-Match": f'"{request.if_index}"'}
        try:
            reply = self._ask("DELETE", f"/keys/{quote(request.key, safe='')}", headers=headers, is_write=True)
        except BargeError as error:
            if error.code != "not_found":
                raise
            return {"key": request.key, "index": 0, "term": 0, "deleted": False}
        index, term = (int(reply.headers.get(name, 0)) for name in ("barge-index", "barge-term"))
        return {"key": request.key, "index": index, "term": term, "deleted": True}

    def _ask(
        self, method: str, path: str, *, body: Any = None, headers: dict[str, str] | None = None, is_write: bool = False
    ) -> Reply:
        """Ask one daemon after the other until one can answer: what was certainly not done may be asked of the next."""
        return self._admin.exchange(
            method,
            path,
            body=body,
            headers=headers,
            timeout_s=self._timeout_s,
            may_repeat=not is_write,
            pass_over=("no_leader", "overloaded"),
        )


def _object(reply: Reply) -> dict[str, Any]:
    decoded = msgspec.json.decode(reply.data)
    return decoded if isinstance(decoded, dict) else {}
