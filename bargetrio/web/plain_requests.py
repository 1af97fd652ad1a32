"""Parsing of the requests that the fast lane takes: those that are plain and whole.

A request is taken from its bytes as a whole or not at all. Not plain is whatever RFC 9112 lets two parsers read differently, or
forbids; what the guard or the route refuses; and what needs more than an answer (100-continue, an upgrade, another version).
httptools (llhttp) refuses malformed heads, as bare LF, folded lines, a space before the colon, two lengths.
"""

import re
from typing import Final

import httptools
from msgspec import Struct

from bargetrio.protocol.requests import Request
from bargetrio.web.guard import Guard, RequestHead
from bargetrio.web.keys import KEY_ROUTES
from bargetrio.web.rest import STREAMED

HEAD_BYTES: Final = 4 * 1024
BODY_BYTES: Final = 32 * 1024
"""A longer head or body is for the other lane, which reads it as it comes."""
LENGTH_DIGITS: Final = 6
"""Of a body's length."""

END_OF_HEAD: Final = b"\r\n\r\n"
_FIRST_LINE: Final = re.compile(rb"[A-Z]+ [^ \t\r\n]+ HTTP/1\.1\r\n")
_STARTS: Final = (b"GET /", b"PUT /", b"DELETE /", b"POST /")
_NOT_PLAIN: Final = frozenset(
    {b"expect", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"}
)
_WITH_BODY: Final = frozenset({"PUT", "POST"})


class ForApplication(Struct):
    """A request that the ASGI application answers: its target's path and query, its headers and body, and all its bytes."""

    path: bytes
    query: bytes
    pairs: list[tuple[bytes, bytes]]
    body: bytes
    data: bytes


class PlainRequest(Struct):
    """A request: its checked head, and what it asks of the cluster, or of the application. `size`: of its bytes."""

    method: str
    head: RequestHead
    request: Request | ForApplication
    size: int


class NotPlain(Exception):
    """The request is for the other lane."""


class _Head:
    """What httptools finds in a head; its parser calls the methods."""

    def __init__(self) -> None:
        self.url = b""
        self.pairs: list[tuple[bytes, bytes]] = []
        self.is_whole = False

    def on_url(self, url: bytes) -> None:
        """Take a part of the target."""
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        self.pairs.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self.is_whole = True


def plain_request(data: bytes, at: int, guard: Guard) -> PlainRequest | int:
    """Return the request that begins at `at`, or how many bytes it has at least, if it is not whole; raise NotPlain."""
    if not data.startswith(_STARTS, at) and not any(start.startswith(data[at : at + len(start)]) for start in _STARTS):
        raise NotPlain
    end = data.find(END_OF_HEAD, at, at + HEAD_BYTES)
    if end < 0:
        if len(data) - at >= HEAD_BYTES or data.find(b"\n\n", at) >= 0 or data.find(b"\n\r\n", at) >= 0:
            raise NotPlain
        return len(data) - at + 1
    end += len(END_OF_HEAD)
    lines = data[at:end]
    # llhttp takes many spaces and RTSP in the first line; bare LF it refuses, but the end of the head was found without it.
    if _FIRST_LINE.match(lines) is None or lines.count(b"\n") != lines.count(b"\r\n"):
        raise NotPlain
    found = _Head()
    parser = httptools.HttpRequestParser(found)
    try:
        parser.feed_data(lines)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        raise NotPlain from None
    method = parser.get_method().decode("ascii")
    if not found.is_whole:
        raise NotPlain
    length = _body_length(method, found.pairs)
    if len(data) < end + length:
        return end + length - at
    size = end + length - at
    path, _, query = found.url.partition(b"?")
    try:
        head = guard.head_of(method, path, query, found.pairs)
        if (route := KEY_ROUTES.get(head.route.name)) is not None:
            return PlainRequest(method, head, route.asked(head)(data[end : end + length]), size)
    except Exception:  # refused, or a bug: the other lane answers
        raise NotPlain from None
    if head.streaming or head.bulk or head.route.name in STREAMED:
        raise NotPlain
    body = data[end : end + length]
    return PlainRequest(method, head, ForApplication(path, query, found.pairs, body, data[at : end + length]), size)


def _body_length(method: str, pairs: list[tuple[bytes, bytes]]) -> int:
    """Return the length of the body in bytes; raise NotPlain."""
    length = 0
    for name, value in pairs:
        if name == b"content-length":
            if not value.isdigit() or len(value) > LENGTH_DIGITS:
                raise NotPlain
            length = int(value)
            if length > (BODY_BYTES if method in _WITH_BODY else 0):
                raise NotPlain
        elif name in _NOT_PLAIN or (name == b"connection" and value.lower() != b"keep-alive"):
            raise NotPlain
    return length
