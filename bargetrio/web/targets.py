"""Parsing of request targets, for routes and keys; the only place where a path is parsed.

The raw path is split at its slashes; then each part is percent-decoded by itself (RFC 3986, 2.4). So `/%6beys/e` is `/keys/e`,
`/keys%2Fe` is not found, and everything after `/keys/` is the key, literally: dots, double slashes and `;` have no special
meaning.
"""

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from msgspec import Struct

from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.validation import check_key
from bargetrio.web.problems import Refusal
from bargetrio.web.routes import ROUTES, STATIC, Route

_BAD_PERCENT: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_ABSOLUTE: Final = re.compile(rb"https?://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)
KEY_PREFIX: Final = b"/keys/"
KEY_PATH: Final = "/keys/<key>"

_BY_PATH: Final[dict[str, dict[str, Route]]] = {}
for _route in (*ROUTES, STATIC):
    _BY_PATH.setdefault(_route.path, {})[_route.method] = _route
_EXACT: Final = {path.encode(): path for path in _BY_PATH if "<" not in path}
_NODE_PATHS: Final = {path.encode().partition(b"<id>")[2]: path for path in _BY_PATH if path.startswith("/nodes/<id>")}
PATHS: Final = frozenset(_BY_PATH)


class Target(Struct, frozen=True):
    """`path` is that of the table of routes, "" if none; `argument` is the value of its `<key>` (raw), `<id>` or `<name>`.

    `authority`: the host of a target in absolute form (RFC 9112, 3.2.2).
    """

    path: str
    argument: bytes = b""
    authority: bytes | None = None


def target_of(raw_path: bytes) -> Target:
    """Return the target of the path; raise BargeError(bad_request) if it is malformed.

    `raw_path`: the target up to its `?`, as it was sent.
    """
    if raw_path.startswith(KEY_PREFIX) and b"#" not in raw_path:
        return Target(KEY_PATH, raw_path[len(KEY_PREFIX) :])
    if b"#" in raw_path:
        raise BargeError("bad_request", "a request target has no fragment; # in a key is %23")
    absolute = _ABSOLUTE.fullmatch(raw_path)
    if absolute is not None:
        found = target_of(absolute[2] or b"/")
        return Target(found.path, found.argument, absolute[1])
    if not raw_path.startswith(b"/"):
        raise BargeError("bad_request", "a request target is a path that begins with /, or an http URI")
    parts = [percent_decoded(part) for part in raw_path.split(b"/")]
    match parts:
        case [_, b"keys", _, *_]:
            return Target(KEY_PATH, raw_path.split(b"/", 2)[2])
        case [_, b"nodes", node_id, *rest]:
            return Target(_NODE_PATHS.get(b"".join(b"/" + part for part in rest), ""), node_id)
        case [_, b"static", name]:
            return Target(STATIC.path, name)
    if any(b"/" in part for part in parts):  # %2F is not a separator
        return Target("")
    return Target(_EXACT.get(b"/".join(parts), ""))


def route_of(target: Target, method: str) -> Route:
    """Return the route; raise BargeError: not_found, or bad_request with 405 if the path has no such method."""
    methods = _BY_PATH.get(target.path)
    if methods is None:
        raise BargeError("not_found", "there is no such route; GET /openapi.json lists them")
    route = methods.get("GET" if method == "HEAD" else method)
    if route is None:
        allow = allowed(target)
        detail = f"the path has no such method; it has {allow}"
        raise Refusal("bad_request", detail, status=405, headers={"Allow": allow})
    return route


def allowed(target: Target) -> str:
    """Return the value of `Allow` (RFC 9110, 10.2.1); paths with GET have HEAD, and all have OPTIONS."""
    methods = {*_BY_PATH[target.path], "OPTIONS"}
    return ", ".join(sorted(methods | {"HEAD"} if "GET" in methods else methods))


def percent_decoded(raw: bytes) -> bytes:
    """Return the bytes; raise BargeError if a `%` is not followed by two hexadecimal digits."""
    if b"%" not in raw:
        return raw
    if _BAD_PERCENT.search(raw) is not None:
        raise BargeError("bad_request", "a % is not followed by two hexadecimal digits; the character itself is %25")
    return unquote_to_bytes(raw)


def key_of(raw: bytes) -> str:
    """Return the key after `/keys/`; raise BargeError for invalid UTF-8, as in `%FF`."""
    try:
        key = percent_decoded(raw).decode()
    except UnicodeDecodeError:
        raise BargeError("bad_request", "the key is not UTF-8") from None
    check_key(key)
    return key
