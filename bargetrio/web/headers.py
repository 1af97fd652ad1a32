"""Parsing and validation of a request's headers: duplicates of single-valued headers, and unsupported ones, are refused.

A header that changes the meaning of a request is supported or refused, never ignored (docs/rest.md has the table). Guard and
handlers both use the result, so that they can't take different ones of two equal lines.
"""

from typing import Final

from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.limits import QUOTED_CHARACTERS
from bargetrio.web.problems import Refusal
from bargetrio.web.routes import Route

Headers = dict[bytes, bytes]
"""Names in lower case. Lines of a list (`Accept`, `If-Match`) are joined by commas, as RFC 9110, 5.3 has it."""

_FORBIDDEN_TWICE: Final = frozenset({b"host", b"origin", b"sec-fetch-site", b"barge-cluster"})
_ONCE: Final = frozenset(
    {
        b"authorization",
        b"content-length",
        b"content-range",
        b"content-type",
        b"expect",
        b"if-modified-since",
        b"if-range",
        b"if-unmodified-since",
        b"last-event-id",
        b"range",
    }
)
_CHECKED: Final = frozenset(
    {
        b"content-encoding",
        b"content-range",
        b"expect",
        b"if-match",
        b"if-none-match",
        b"if-unmodified-since",
        b"transfer-encoding",
        b"x-http-method",
        b"x-http-method-override",
        b"x-method-override",
    }
)
_OVERRIDES: Final = (b"x-http-method", b"x-http-method-override", b"x-method-override")
_SAFE: Final = frozenset({"GET", "HEAD"})


def headers_of(pairs: list[tuple[bytes, bytes]]) -> Headers:
    """Return the headers by name; raise BargeError for a duplicate of a single-valued header."""
    found: Headers = {}
    for name, value in pairs:
        if name in found:
            if name in _FORBIDDEN_TWICE:
                raise BargeError("forbidden", f"{_titled(name)} is given twice")
            if name in _ONCE:
                raise BargeError(
                    "bad_request", f"{_titled(name)} is given twice", status=401 if name == b"authorization" else None
                )
            found[name] += b", " + value
        else:
            found[name] = value
    return found


def check_headers(headers: Headers, route: Route, method: str) -> None:
    """Raise BargeError for a header that would change the meaning of the request, and is not supported by this route."""
    for name in headers.keys() & _CHECKED:
        value = headers[name]
        if name == b"content-encoding":
            if value.strip().lower() not in (b"", b"identity"):
                detail = f"a body comes as it is, not encoded as {_shown(value)}"
                raise Refusal("bad_request", detail, status=415, headers={"Accept-Encoding": "identity"})
        elif name == b"expect":
            if value.strip().lower() != b"100-continue":
                raise BargeError("bad_request", f"Expect can be 100-continue, not {_shown(value)}", status=417)
        elif name == b"content-range":
            raise BargeError("bad_request", "a value is written whole; Content-Range is not taken")
        elif name in _OVERRIDES:
            raise BargeError("bad_request", f"the method is that of the request line; {_titled(name)} is not taken")
        elif name == b"if-unmodified-since":
            if method not in _SAFE:
                raise BargeError("bad_request", "keys have no date of their last change; a condition on a write is If-Match")
        elif name == b"if-none-match" and method in _SAFE:
            pass  # without tags to compare a read is answered in full, as with these values
        elif name in (b"if-match", b"if-none-match") and _titled(name) not in route.conditions:
            raise BargeError("bad_request", f"{method} {route.path} takes no {_titled(name)}{_instead(route)}")
    if route.body is None and method != "POST" and has_body(headers):
        raise BargeError("bad_request", f"{method} {route.path} takes no body")


def has_body(headers: Headers) -> bool:
    """Return whether the headers announce a body that is not empty (with HTTP/2 a body may come without them)."""
    return headers.get(b"content-length", b"0").strip(b"0") != b"" or b"transfer-encoding" in headers


def media_type_of(headers: Headers) -> str:
    """Return the media type of the body in lower case, "" without one; text must be UTF-8.

    Raises:
        BargeError: bad_request with status 415 for another charset, whose bytes would be stored as UTF-8, or as binary.
    """
    text = headers.get(b"content-type", b"").decode("latin-1")
    if "," in text.partition(";")[0]:  # two lines joined by a proxy
        raise BargeError("bad_request", "Content-Type is given twice")
    if ";" not in text:
        return text.strip().lower()
    media_type, *parameters = text.split(";")
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset" and value.strip().strip('"').lower() not in ("utf-8", "utf8", "us-ascii"):
            raise BargeError("bad_request", f"text comes as UTF-8, not as {value.strip()[:QUOTED_CHARACTERS]!r}", status=415)
    return media_type.strip().lower()


def _instead(route: Route) -> str:
    return "; the condition goes into the body: if_index, if_absent" if route.name == "post_keys" else ""


def _titled(name: bytes) -> str:
    return name.decode("latin-1").title()


def _shown(value: bytes) -> str:
    return repr(value[:QUOTED_CHARACTERS].decode("latin-1"))
