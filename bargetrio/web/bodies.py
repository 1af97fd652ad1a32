"""What comes in over HTTP, checked by the same rules as on the client protocol, before anything is asked of the cluster."""

from typing import Annotated, Final, Literal, TypeVar
from urllib.parse import unquote_to_bytes

import msgspec
from msgspec import Meta, Struct

from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.limits import JSON_DEPTH, VALUE_BYTES
from bargetrio.protocol.requests import Delete, Index, Put, ReadLevel, check_request, nested_too_deep
from bargetrio.protocol.validation import check_key, text_or_b64

JSON_BODY_BYTES: Final = 8 * 1024 * 1024
RAW_TYPES: Final = ("", "application/octet-stream", "application/x-www-form-urlencoded")
"""Media types of a raw value beside text/*; the last is what curl says of `-d` by itself."""

T = TypeVar("T")
_I64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]


class ValueBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`PUT /keys/<key>` as JSON."""

    value: str | None = None
    value_b64: str | None = None


class KeyBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /keys`, and a line of a bulk write. An integer key is its canonical decimal text."""

    key: _I64 | str
    value: str | None = None
    value_b64: str | None = None
    if_index: Index | None = None
    if_absent: bool = False


_key_body: Final = msgspec.json.Decoder(KeyBody)
_value_body: Final = msgspec.json.Decoder(ValueBody)


def decode_json(data: bytes, decoder: "msgspec.json.Decoder[T]") -> T:
    """Return what the body holds; raise BargeError(bad_request) that says what is wrong with it."""
    try:
        return decoder.decode(data)
    except UnicodeDecodeError:
        detail = "the body is not UTF-8"
    except (ValueError, RecursionError) as problem:
        if isinstance(problem, RecursionError) or nested_too_deep(data, JSON_DEPTH):
            detail = "the JSON is nested too deep"
        else:
            detail = f"the body is not as it should be: {problem}"
    raise BargeError("bad_request", detail)


def put_of_key_body(data: bytes) -> Put:
    """Return the put that `{"key":100,"value":"Some Value"}` asks for."""
    body = decode_json(data, _key_body)
    put = Put(
        id=0,
        key=str(body.key),
        value=body.value,
        value_b64=body.value_b64,
        if_index=body.if_index,
        if_absent=body.if_absent,
    )
    check_request(put)
    return put


def put_of_value_body(key: str, data: bytes, media_type: str, if_index: int | None, if_absent: bool) -> Put:
    """Return the put of one key's value, raw or JSON."""
    if media_type == "application/json":
        body = decode_json(data, _value_body)
        value, value_b64 = body.value, body.value_b64
    elif media_type in RAW_TYPES or media_type.startswith("text/"):
        if len(data) > VALUE_BYTES:
            detail = f"the value has {len(data)} bytes; at most {VALUE_BYTES} are allowed"
            raise BargeError("bad_request", detail, status=413)
        value, value_b64 = text_or_b64(data)
    else:
        detail = f"a value comes as text/plain, application/octet-stream or application/json, not {media_type}"
        raise BargeError("bad_request", detail, status=415)
    put = Put(id=0, key=key, value=value, value_b64=value_b64, if_index=if_index, if_absent=if_absent)
    check_request(put)
    return put


def delete_of(key: str, if_index: int | None) -> Delete:
    """Return the delete of a checked key."""
    return Delete(id=0, key=key, if_index=if_index)


def key_of(raw_path: bytes) -> str:
    """Return the key in `/keys/<key>` as the client sent it: `%FF` is an error, not a replacement character."""
    raw = unquote_to_bytes(raw_path.partition(b"?")[0].removeprefix(b"/keys/"))
    try:
        key = raw.decode()
    except UnicodeDecodeError:
        raise BargeError("bad_request", "the key is not UTF-8") from None
    check_key(key)
    return key


def condition_of(if_match: str | None, if_none_match: str | None) -> tuple[int | None, bool]:
    """Return (if_index, if_absent) from the headers of a write."""
    if if_match is not None and if_none_match is not None:
        raise BargeError("bad_request", "If-Match or If-None-Match, not both")
    if if_none_match is not None:
        if if_none_match.strip() != "*":
            raise BargeError("bad_request", "If-None-Match of a write is *: only if the key is new")
        return None, True
    return (None if if_match is None else etag_index(if_match)), False


def etag_index(text: str) -> int:
    """Return the index that an ETag stands for: `"12"` is 12."""
    inner = text.strip().removeprefix('"').removesuffix('"')
    if not (text.strip() == f'"{inner}"' and inner.isascii() and inner.isdigit() and len(inner) < 19):
        raise BargeError("bad_request", f'If-Match is the index of the last change in quotes, as in "12", not {text[:40]!r}')
    return int(inner)


# -- the query ---------------------------------------------------------------------------------------------------------------


class Query:
    """The query string of one request: every parameter is known, checked, and given once unless it may repeat."""

    def __init__(self, pairs: dict[str, list[str]], *allowed: str) -> None:
        for name in pairs:
            if name not in allowed:
                known = f"; known are {', '.join(allowed)}" if allowed else ""
                raise BargeError("bad_request", f"unknown parameter {name[:40]!r}{known}")
        self._pairs = pairs

    def text(self, name: str) -> str:
        """Return the parameter, "" if it is not there."""
        values = self._pairs.get(name, [""])
        if len(values) > 1:
            raise BargeError("bad_request", f"{name} is given {len(values)} times")
        value = values[0]
        if "\0" in value:
            raise BargeError("bad_request", f"{name} holds a NUL character")
        return value

    def number(self, name: str, default: int, low: int, high: int) -> int:
        """Return a whole number."""
        text = self.text(name)
        if not text:
            return default
        if not (text.isascii() and text.isdigit() and len(text) < 19 and low <= int(text) <= high):
            raise BargeError("bad_request", f"{name} is a number from {low} to {high}, not {text[:40]!r}")
        return int(text)

    def flag(self, name: str) -> bool:
        """Return a yes or no."""
        text = self.text(name).lower()
        if text in ("1", "true", "yes", "on"):
            return True
        if text in ("", "0", "false", "no", "off"):
            return False
        raise BargeError("bad_request", f"{name} is 1 or 0, not {text[:40]!r}")

    def read_level(self) -> ReadLevel:
        """Return how the read is to be made."""
        text = self.text("read") or "linearizable"
        levels: dict[str, Literal["linearizable", "lease", "stale"]] = {
            "linearizable": "linearizable",
            "lease": "lease",
            "stale": "stale",
        }
        if text not in levels:
            raise BargeError("bad_request", f"read is linearizable, lease or stale, not {text[:40]!r}")
        return levels[text]

    def ids(self, name: str, known: list[int]) -> frozenset[int]:
        """Return node ids; the parameter may repeat."""
        found: set[int] = set()
        for text in self._pairs.get(name, []):
            if not (text.isascii() and text.isdigit() and len(text) < 19 and int(text) in known):
                raise BargeError("bad_request", f"{name}: there is no node {text[:40]!r}; the nodes are {known}")
            found.add(int(text))
        return frozenset(found)

    def words(self, name: str, known: tuple[str, ...]) -> frozenset[str]:
        """Return some of the known words; the parameter may repeat."""
        for text in self._pairs.get(name, []):
            if text not in known:
                raise BargeError("bad_request", f"there is no {name} {text[:40]!r}; known are {', '.join(known)}")
        return frozenset(self._pairs.get(name, []))
