"""If-Match and If-None-Match (RFC 9110, 13.1): the comparison for reads, and the condition of a write.

If-Match compares strongly: a weak tag matches nothing. If-None-Match compares weakly: `W/"12"` equals `"12"`. A write has one
index (`if_index`), or requires a new key (`if_absent`), as the store evaluates it when the entry is applied: a list, or
`If-Match: *`, is not supported there and refused.
"""

import re
from typing import Final

from msgspec import Struct

from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.limits import INT_DIGITS, QUOTED_CHARACTERS
from bargetrio.web.headers import Headers

_LIST: Final = re.compile(r'[ \t]*+,?[ \t]*+(W/)?"([\x21\x23-\x7e\x80-\xff]*)"[ \t]*+(?=,|\Z)')


class Tag(Struct, frozen=True):
    """An entity tag; `opaque` is the text between the quotes."""

    opaque: str
    weak: bool


def tags_of(name: str, value: bytes) -> list[Tag] | None:
    """Return the tags of a list, None for `*`; raise BargeError(bad_request) if it is neither."""
    text = value.decode("latin-1").strip(" \t,")
    if text == "*":
        return None
    found: list[Tag] = []
    position = 0
    while position < len(text):
        match = _LIST.match(text, position)
        if match is None:
            break
        found.append(Tag(match[2], match[1] is not None))
        position = match.end()
    if not found or position < len(text):
        raise BargeError("bad_request", f'{name} is a list of tags in quotes, as in "12", or *, not {text[:QUOTED_CHARACTERS]!r}')
    return found


def is_fresh(headers: Headers, etag: str) -> bool:
    """Return whether the client's copy is the one of `etag` (with its quotes): the answer is 304 then.

    Raises:
        BargeError: precondition_failed if If-Match names other tags only; bad_request if a header is not well-formed.
    """
    if b"if-match" in headers:
        tags = tags_of("If-Match", headers[b"if-match"])
        if tags is not None and not any(f'"{tag.opaque}"' == etag and not tag.weak for tag in tags):
            raise BargeError("precondition_failed", f"the tag is {etag}")
    if b"if-none-match" not in headers:
        return False
    tags = tags_of("If-None-Match", headers[b"if-none-match"])
    return tags is None or any(f'"{tag.opaque}"' == etag for tag in tags)


def condition_of(headers: Headers) -> tuple[int | None, bool]:
    """Return (if_index, if_absent) of a write.

    Raises:
        BargeError: bad_request for an unsupported condition; precondition_failed for a weak tag, which never matches strongly.
    """
    match, none_match = headers.get(b"if-match"), headers.get(b"if-none-match")
    if match is None and none_match is None:
        return None, False
    if match is not None and none_match is not None:
        raise BargeError("bad_request", "If-Match or If-None-Match, not both")
    if none_match is not None:
        if none_match.strip() != b"*":
            raise BargeError("bad_request", "If-None-Match of a write is *: only if the key is new")
        return None, True
    assert match is not None
    tags = tags_of("If-Match", match)
    if tags is None or len(tags) != 1:
        raise BargeError("bad_request", 'If-Match of a write is one tag, as in "12"; a list or * is not taken')
    tag = tags[0]
    if not (
        tag.opaque.isascii() and tag.opaque.isdigit() and len(tag.opaque) <= INT_DIGITS and str(int(tag.opaque)) == tag.opaque
    ):
        raise BargeError(
            "bad_request",
            f'If-Match is the index of the last change in quotes, as in "12", not {tag.opaque[:QUOTED_CHARACTERS]!r}',
        )
    if tag.weak:
        raise BargeError("precondition_failed", "a weak tag never matches If-Match (RFC 9110, 13.1.1); send it without W/")
    return int(tag.opaque), False
