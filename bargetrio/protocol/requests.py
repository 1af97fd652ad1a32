"""A client's requests over TCP, and the answers: one JSON object a line (docs/wire_format.md).

    → {"id":1,"op":"put","key":"100","value":"Some Value"}
    ← {"id":1,"ok":true,"key":"100","index":12,"term":3}

Requests are pipelined; answers may come in any order, and have the `id` of their request.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from bargetrio.protocol.errors import APPLIED, BargeError, ErrorCode
from bargetrio.protocol.limits import ITEMS, KEY_BYTES, MAX_INT, MOST_ITEMS, VALUE_BYTES
from bargetrio.protocol.validation import check_key, check_value, decode_value_b64

if TYPE_CHECKING:
    from typing_extensions import TypeIs

RequestId = Annotated[int, Meta(ge=0, le=MAX_INT)]
Index = Annotated[int, Meta(ge=0, le=MAX_INT)]
SHORT_KEY: Final = KEY_BYTES // 4
SHORT_VALUE: Final = VALUE_BYTES // 4
"""Strings of up to this many characters are within the limits: no character has more than four bytes."""
ReadLevel = Literal["linearizable", "lease", "stale"]


class Put(Struct, frozen=True, kw_only=True, tag_field="op", tag="put", omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """Write a key. `if_index`: only if the key's last change has that index (0: it does not exist). `if_absent`: only if new."""

    id: RequestId
    key: str
    value: str | None = None
    value_b64: str | None = None
    if_index: Index | None = None
    if_absent: bool = False


class Get(Struct, frozen=True, kw_only=True, tag_field="op", tag="get", omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """Read a key: at the leader and confirmed by a quorum unless `read` says otherwise."""

    id: RequestId
    key: str
    read: ReadLevel = "linearizable"


class Delete(
    Struct, frozen=True, kw_only=True, tag_field="op", tag="delete", omit_defaults=True, forbid_unknown_fields=True, gc=False
):
    """Remove a key; the answer says whether it existed."""

    id: RequestId
    key: str
    if_index: Index | None = None


class List(
    Struct, frozen=True, kw_only=True, tag_field="op", tag="list", omit_defaults=True, forbid_unknown_fields=True, gc=False
):
    """Read keys in order: those that start with `prefix`, after `after`, at most `limit`."""

    id: RequestId
    prefix: str = ""
    after: str = ""
    limit: Annotated[int, Meta(ge=1, le=MOST_ITEMS)] = ITEMS
    keys_only: bool = False
    read: ReadLevel = "linearizable"


Write = Put | Delete
Read = Get | List
Request = Write | Read
READS: Final = frozenset({Get, List})


def is_write(request: Request) -> "TypeIs[Write]":
    """Return whether the request may change the store: unanswered, its outcome is unknown, and it must not be sent again.

    Whatever is not known to be a read is one.
    """
    return type(request) not in READS


class Answer(Struct, frozen=True, kw_only=True, gc=False):
    """The fields of every answer: decode this to find its request, then the rest by `ok`."""

    id: int
    ok: bool


class PutAnswer(Struct, frozen=True, kw_only=True, gc=False):
    """The write is committed and applied; `index` and `term` are those of its log entry; `created` is there if the key is new."""

    id: int
    ok: Literal[True] = True
    key: str
    index: int
    term: int
    created: bool | msgspec.UnsetType = msgspec.UNSET


class DeleteAnswer(Struct, frozen=True, kw_only=True, gc=False):
    """The removal is committed and applied; `deleted` is False where there was nothing to remove."""

    id: int
    ok: Literal[True] = True
    key: str
    index: int
    term: int
    deleted: bool


class GetAnswer(Struct, frozen=True, kw_only=True, gc=False):
    """`index` is the key's last change; value null and index 0 if there is none. `value_b64` where it is not UTF-8."""

    id: int
    ok: Literal[True] = True
    key: str
    index: int
    value: str | None = None
    value_b64: str | msgspec.UnsetType = msgspec.UNSET


class Item(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One key of a list."""

    key: str
    index: int
    value: str | None = None
    value_b64: str | None = None


class ListAnswer(Struct, frozen=True, kw_only=True):
    """`next` is what to ask `after` for the next page, null at the end; `index` is the state the list was read at."""

    id: int
    ok: Literal[True] = True
    items: list[Item]
    next: str | None
    index: int


class ErrorAnswer(Struct, frozen=True, kw_only=True, omit_defaults=False):
    """Something else than success. `applied`: false is certain, null is unknown."""

    id: int | None
    ok: Literal[False] = False
    error: ErrorCode
    detail: str = ""
    leader: int | None = None
    address: str | None = None
    applied: bool | None

    @classmethod
    def of(cls, request_id: int | None, error: BargeError) -> "ErrorAnswer":
        """Return the answer for `error`."""
        return cls(
            id=request_id,
            error=error.code,
            detail=error.detail,
            leader=error.leader,
            address=error.address,
            applied=APPLIED[error.code],
        )

    def as_error(self) -> BargeError:
        """Return this answer as an exception."""
        return BargeError(self.error, self.detail, leader=self.leader, address=self.address)


_decoder: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)
_envelope_decoder: msgspec.json.Decoder["_Envelope"]


class _Envelope(Struct, frozen=True):
    id: RequestId


_envelope_decoder = msgspec.json.Decoder(_Envelope)


class MalformedLine(Exception):
    """Not a request; the connection must be closed after one error line, as no line may be skipped."""


class BadRequest(Exception):
    """A request with an id but an invalid field; the connection stays open."""

    def __init__(self, request_id: int, error: BargeError) -> None:
        super().__init__(error.detail)
        self.request_id = request_id
        self.error = error


def decode_request(line: bytes) -> Request:
    """Return the valid request in `line`; raise MalformedLine or BadRequest."""
    try:
        request = _decoder.decode(line)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as problem:
        raise _what_is_wrong(line, problem) from None
    try:
        check_request(request)
    except BargeError as error:
        raise BadRequest(request.id, error) from None
    return request


def decode_requests(lines: Sequence[bytes]) -> list[Request] | None:
    """Return the requests of many lines, in a third of the time; None if one is invalid: `decode_request` finds which.

    Requests contain no nested object, so a line that ends in a brace ends one. If the numbers of lines, of closing braces and of
    objects are equal, each line has one object and none spans two lines.
    """
    text = b"\n".join(lines)
    try:
        requests = _decoder.decode_lines(text)
        if not len(requests) == len(lines) == text.count(b"}\n") + text.endswith(b"}"):
            return None
        for request in requests:
            if not is_plain(request):
                check_request(request)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, BargeError):
        return None
    return requests


def value_size(request: Request) -> int:
    """Return how long the value is that a request carries, in characters of its JSON: what it takes in memory, roughly."""
    return len(request.value or request.value_b64 or "") if isinstance(request, Put) else 0


def is_plain(request: Request) -> bool:
    """Return whether this is the usual case, which is always valid: a get or a put of a short text, under a short key.

    By type: of a msgspec class isinstance takes several times as long to say no.
    """
    if type(request) is Get:
        return 0 < len(request.key) <= SHORT_KEY and "\0" not in request.key
    return (
        type(request) is Put
        and request.value is not None
        and 0 < len(request.key) <= SHORT_KEY
        and "\0" not in request.key
        and len(request.value) <= SHORT_VALUE
        and request.value_b64 is None
        and request.if_index is None
        and not request.if_absent
    )


def check_request(request: Request) -> None:
    """Raise BargeError(bad_request) for an invalid key or value; decoding has checked the types."""
    if isinstance(request, List):
        if request.prefix:
            check_key(request.prefix)
        if request.after:
            check_key(request.after)
        return
    check_key(request.key)
    if isinstance(request, Put):
        if (request.value is None) == (request.value_b64 is None):
            raise BargeError("bad_request", "a put has either value or value_b64")
        if request.value is not None:
            check_value(request.value)
        elif request.value_b64 is not None:
            decode_value_b64(request.value_b64)
        if request.if_absent and request.if_index is not None:
            raise BargeError("bad_request", "a put has if_index or if_absent, not both")


def _what_is_wrong(line: bytes, problem: Exception) -> Exception:
    if isinstance(problem, RecursionError):
        return MalformedLine("the JSON is nested too deep")
    try:
        line.decode()  # msgspec raises UnicodeDecodeError for it, from 0.23 on DecodeError
    except UnicodeDecodeError:
        return MalformedLine("the line is not UTF-8")
    if nested_too_deep(line):
        return MalformedLine("the JSON is nested too deep")
    try:
        envelope = _envelope_decoder.decode(line)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as worse:
        return MalformedLine(str(worse))
    return BadRequest(envelope.id, BargeError("bad_request", str(problem)))


def nested_too_deep(line: bytes, depth: int = 16) -> bool:
    """Return whether brackets outside strings nest deeper than `depth`; called only for lines that did not decode."""
    level = 0
    in_string = escaped = False
    for byte in line:
        if in_string:
            if escaped:
                escaped = False
            elif byte == 0x5C:
                escaped = True
            elif byte == 0x22:
                in_string = False
        elif byte == 0x22:
            in_string = True
        elif byte in b"[{":
            level += 1
            if level > depth:
                return True
        elif byte in b"]}":
            level -= 1
    return False
