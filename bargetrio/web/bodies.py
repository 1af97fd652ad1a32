"""Request bodies: decoding and validation, by the same rules as on the client protocol."""

import json
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta, Struct

from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.limits import JSON_DEPTH, QUOTED_CHARACTERS, VALUE_BYTES
from bargetrio.protocol.requests import Delete, Index, Put, check_request, nested_too_deep
from bargetrio.protocol.validation import text_or_b64

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


_NAMES: Final = tuple(f'"{field.encode_name}"'.encode() for field in msgspec.structs.fields(KeyBody))
_key_body: Final = msgspec.json.Decoder(KeyBody)
_value_body: Final = msgspec.json.Decoder(ValueBody)


def decode_json(data: bytes, decoder: "msgspec.json.Decoder[T]", *, flat: bool = True) -> T:
    """Return the decoded body; raise BargeError(bad_request) with the error.

    `flat`: the decoder accepts one object, with the names of a key's body only.
    """
    try:
        decoded = decoder.decode(data)
        if not flat or _may_repeat(data):
            json.loads(data, object_pairs_hook=_once)
        return decoded
    except UnicodeDecodeError:
        detail = "the body is not UTF-8"
    except (ValueError, RecursionError) as problem:
        if isinstance(problem, RecursionError) or nested_too_deep(data, JSON_DEPTH):
            detail = "the JSON is nested too deep"
        else:
            detail = f"the body is not valid: {problem}"
    raise BargeError("bad_request", detail)


def _may_repeat(data: bytes) -> bool:
    """Return whether a flat object may have a name twice: a fast test, without false negatives.

    Of two equal names the decoder takes the last, other parsers the first. A quote inside a string is escaped, so `"value"` with
    both quotes is a name, or a value that is the same word; a name can also be written with escapes, all below U+0080.
    """
    return b"\\u00" in data or any(data.count(name) > 1 for name in _NAMES)


def _once(pairs: list[tuple[str, object]]) -> None:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice[:QUOTED_CHARACTERS]!r} occurs in it twice")


def put_of_key_body(data: bytes) -> Put:
    """Return the put of a body like `{"key":100,"value":"Some Value"}`."""
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
    """Return the delete of the key, validated."""
    return Delete(id=0, key=key, if_index=if_index)
