"""Odd, malformed and hostile framing: a server with a fast lane answers as one without it, and does as little.

One case differs and is not compared here: of a head of more than 64 KiB that comes at once hypercorn's server reads a part, and
h11 refuses it by itself, where the lane has read the whole, and the guard refuses it. The answer has other common headers then,
and is counted.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from trio.testing import MockClock

from bargetrio.web.plain_requests import HEAD_BYTES
from tests.web.two_servers import HOST, PLAIN, PROBE, TwoServers, delete, get, put, request, two_servers

FILL = put("kept", "früh") + put("empty", "")


@pytest.fixture
async def both(tmp_path: Path) -> AsyncIterator[TwoServers]:
    async with two_servers(tmp_path) as both:
        filled = await both.same(FILL)
        assert filled.statuses == [201] * 2
        yield both


HEADS: dict[str, bytes | tuple[bytes, ...]] = {
    "length twice, equal": put("kept", "5vvvv", "Content-Length: 5", "Content-Length: 5"),
    "length twice, different": put("kept", "5vvvv", "Content-Length: 5", "Content-Length: 1"),
    "length twice, smaller first": put("kept", "5vvvv", "Content-Length: 1", "Content-Length: 5"),
    "length with chunked": put("kept", "1\r\nv\r\n0\r\n\r\n", "Content-Length: 11", "Transfer-Encoding: chunked"),
    "chunked with length": put("kept", "1\r\nv\r\n0\r\n\r\n", "Transfer-Encoding: chunked", "Content-Length: 11"),
    "chunked": put("kept", "1\r\nv\r\n0\r\n\r\n", "Transfer-Encoding: chunked"),
    "chunked with an extension": put("kept", "1;a=b\r\nv\r\n0\r\n\r\n", "Transfer-Encoding: Chunked"),
    "chunked with a trailer": put("kept", "1\r\nv\r\n0\r\nX: y\r\n\r\n", "Transfer-Encoding: chunked", "Trailer: X"),
    "chunked badly": put("kept", "zz\r\nv\r\n0\r\n\r\n", "Transfer-Encoding: chunked"),
    "chunked with bare LF": put("kept", "1\nv\n0\n\n", "Transfer-Encoding: chunked"),
    "chunked get": get("kept", "Transfer-Encoding: chunked") + b"0\r\n\r\n",
    "chunked delete": delete("kept", "Transfer-Encoding: chunked") + b"1\r\nv\r\n0\r\n\r\n",
    "coded": put("kept", "v", "Transfer-Encoding: gzip, chunked"),
    "coded as identity": put("kept", "v", "Transfer-Encoding: identity"),
    "coded as nothing": put("kept", "v", "Transfer-Encoding:", "Content-Length: 1"),
    "coded with a vertical tab": put("kept", "v", b"Transfer-Encoding: \x0bchunked", "Content-Length: 1"),
    "coding's name with a space": put("kept", "0\r\n\r\n", "Transfer-Encoding : chunked", "Content-Length: 5"),
    "coding's name with an underscore": put("kept", "0\r\n\r\n", "Transfer_Encoding: chunked", "Content-Length: 5"),
    "length +5": put("kept", "vvvvv", "Content-Length: +5"),
    "length -5": put("kept", "vvvvv", "Content-Length: -5"),
    "length 5, 5": put("kept", "vvvvv", "Content-Length: 5, 5"),
    "length 5,5": put("kept", "vvvvv", "Content-Length: 5,5"),
    "length 5, 6": put("kept", "vvvvv", "Content-Length: 5, 6"),
    "length 5 5": put("kept", "vvvvv", "Content-Length: 5 5"),
    "length 0x5": put("kept", "vvvvv", "Content-Length: 0x5"),
    "length 5.0": put("kept", "vvvvv", "Content-Length: 5.0"),
    "length 1_0": put("kept", "v" * 10, "Content-Length: 1_0"),
    "length 05": put("kept", "vvvvv", "Content-Length: 05"),
    "length 000005": put("kept", "vvvvv", "Content-Length: 000005"),
    "length 0000000005": put("kept", "vvvvv", "Content-Length: 0000000005"),
    "length with 30 zeros": put("kept", "vvvvv", "Content-Length: " + "0" * 30 + "5"),
    "length 5 and a tab": put("kept", "vvvvv", "Content-Length: \t5\t"),
    "length in other digits": put("kept", "vvvvv", "Content-Length: ٥"),
    "length in superscript": put("kept", "vvvvv", b"Content-Length: \xb2"),
    "no length": put("kept", "", "Content-Length:"),
    "length in a folded line": put("kept", "vvvvv", "Content-Length:\r\n 5"),
    "length and a folded line": put("kept", "vvvvv", "Content-Length: 5\r\n 6"),
    "huge length": put("kept", "vvvvv", f"Content-Length: {2**64 + 5}"),
    "huge length of 25 digits": put("kept", "vvvvv", f"Content-Length: {10**24}"),
    "length of 4 GiB": put("kept", "vvvvv", f"Content-Length: {2**32 + 5}"),
    "length too short": put("kept", "vvvvv", "Content-Length: 2"),
    "length zero with a body": put("kept", "vvvvv", "Content-Length: 0"),
    "length zero with a request behind": put("kept", delete("kept"), "Content-Length: 0"),
    "length's name with a space": put("kept", "vvvvv", "Content-Length : 5"),
    "get with a body": get("kept", "Content-Length: 5") + b"vvvvv",
    "get with a request as its body": get("kept", f"Content-Length: {len(delete('kept'))}") + delete("kept"),
    "get with an empty body": get("kept", "Content-Length: 0"),
    "get with bytes behind": get("kept") + b"vvvvv",
    "delete with a body": delete("kept", "Content-Length: 5") + b"vvvvv",
    "delete with a request as its body": delete("kept", f"Content-Length: {len(put('kept'))}") + put("kept"),
    "bare LF everywhere": get("kept").replace(b"\r\n", b"\n"),
    "bare LF everywhere, a request behind": get("kept").replace(b"\r\n", b"\n") + get("empty"),
    "bare LF everywhere in a write": put("kept", "a\r\n\r\nb").replace(b"\r\n", b"\n", 4),
    "bare LF in the request line": get("kept").replace(b"\r\n", b"\n", 1),
    "bare LF in one header": get("kept", "X: a\nY: b"),
    "bare LF before the end": get("kept", "X: a\n"),
    "bare LF at the end": get("kept")[:-2] + b"\n",
    "bare LF at the end, a request behind": get("kept")[:-2] + b"\n" + get("empty"),
    "LF CR LF at the end": get("kept")[:-4] + b"\n\r\n" + get("empty"),
    "bare LF hides a length": put("kept", "", "X: a\nContent-Length: 5") + b"vvvvv",
    "bare LF and a Host": request("GET", "/keys/kept", f"X: a\nHost: {HOST}", host=""),
    "bare CR in a header": get("kept", "X: a\rY: b"),
    "bare CR hides a length": put("kept", "", "X: a\rContent-Length: 5") + b"vvvvv",
    "bare CR in the request line": get("kept").replace(b" HTTP", b"\r HTTP"),
    "CR CR LF": get("kept", "X: a\r"),
    "bare CR at the end": get("kept")[:-2] + b"\r\r",
    "folded": get("kept", 'If-None-Match: "x",\r\n "1"'),
    "folded by a tab": get("kept", 'If-None-Match: "x",\r\n\t"1"'),
    "folded at once": get("kept", "If-None-Match:\r\n *"),
    "folded to nothing": get("kept", "If-None-Match: *\r\n "),
    "folded before the first header": get("kept").replace(b"Host", b" X: y\r\nHost"),
    "folded host": request("GET", "/keys/kept", f"Host:\r\n {HOST}", host=""),
    "space before the colon": get("kept", 'If-Match : "7"'),
    "tab before the colon": get("kept", 'If-Match\t: "7"'),
    "space before the name": get("kept", ' If-Match: "7"'),
    "space before the host": request("GET", "/keys/kept", f" Host: {HOST}", host=""),
    "no space behind the colon": get("kept", 'If-None-Match:"1"'),
    "no colon": get("kept", "If-Match"),
    "no name": get("kept", ": a"),
    "name with a parenthesis": get("kept", "X(y): a"),
    "name beyond ASCII": get("kept", b"X\xff: a"),
    "name with all signs": get("kept", "!#$%&'*+-.^_`|~: a"),
    "NUL in a name": get("kept", b"X\x00: a"),
    "NUL in a value": get("kept", b"X: a\x00b"),
    "NUL in a tag": get("kept", b'If-Match: "1\x00"'),
    "NUL in the target": get("kept\x00"),
    "NUL before the request": b"\x00" + get("kept"),
    "NUL in the method": b"GE\x00T" + get("kept")[3:],
    "control bytes in a value": get("kept", b"X: \x01\x02\x1f"),
    "DEL in a value": get("kept", b"X: \x7f"),
    "vertical tab in a value": get("kept", b"X: a\x0bb"),
    "form feed around a tag": get("kept", b'If-None-Match: \x0c"1"\x0c'),
    "obs-text in a value": get("kept", b"X: \x80\xff"),
    "no break space around a tag": get("kept", b'If-None-Match: \xa0"1"\xa0'),
    "NEL in a value": get("kept", b"X: a\x85Content-Length: 5"),
    "tab in a value": get("kept", "X: a\tb"),
    "expect": put("kept", "v", "Expect: 100-continue"),
    "expect and wait": (put("kept", "v", "Expect: 100-continue")[:-1], b"v"),
    "expect, shouted": put("kept", "v", "EXPECT: 100-Continue"),
    "expect of a read": get("kept", "Expect: 100-continue"),
    "expect of nothing": put("kept", "", "Expect: 100-continue", "Content-Length: 0"),
    "expect twice": put("kept", "v", "Expect: 100-continue", "Expect: 100-continue"),
    "expect something else": put("kept", "v", "Expect: 200-ok"),
    "expect and refused": (put("kept", "v", "Expect: 100-continue", "Content-Encoding: gzip")[:-1],),
    "HTTP/1.0": request("GET", "/keys/kept", version="HTTP/1.0"),
    "HTTP/1.0 without a host": request("GET", "/keys/kept", version="HTTP/1.0", host=""),
    "HTTP/1.0 kept alive": request("GET", "/keys/kept", "Connection: keep-alive", version="HTTP/1.0"),
    "HTTP/1.0 write": request("PUT", "/keys/kept", PLAIN, body=b"v", version="HTTP/1.0"),
    "HTTP/1.0 write without a length": request("PUT", "/keys/kept", PLAIN, version="HTTP/1.0") + b"vvvvv",
    "HTTP/0.9": b"GET /keys/kept\r\n\r\n",
    "HTTP/0.9 told": request("GET", "/keys/kept", version="HTTP/0.9"),
    "HTTP/1.2": request("GET", "/keys/kept", version="HTTP/1.2"),
    "HTTP/1.9": request("GET", "/keys/kept", version="HTTP/1.9"),
    "HTTP/2.0": request("GET", "/keys/kept", version="HTTP/2.0"),
    "HTTP/3.0": request("GET", "/keys/kept", version="HTTP/3.0"),
    "HTTP/1.10": request("GET", "/keys/kept", version="HTTP/1.10"),
    "HTTP/01.1": request("GET", "/keys/kept", version="HTTP/01.1"),
    "HTTP/11": request("GET", "/keys/kept", version="HTTP/11"),
    "HTTP 1.1": request("GET", "/keys/kept", version="HTTP 1.1"),
    "http/1.1": request("GET", "/keys/kept", version="http/1.1"),
    "ICE/1.1": request("GET", "/keys/kept", version="ICE/1.1"),
    "RTSP/1.1": request("GET", "/keys/kept", version="RTSP/1.1"),
    "close": get("kept", "Connection: close") + get("kept"),
    "close, shouted": get("kept", "CONNECTION: CLOSE") + get("kept"),
    "close a write": put("kept", "v", "Connection: close") + get("kept"),
    "close in a list": get("kept", "Connection: x, close") + get("kept"),
    "keep alive": get("kept", "Connection: Keep-Alive", "Keep-Alive: timeout=5, max=100") + get("kept"),
    "keep alive and close": get("kept", "Connection: keep-alive", "Connection: close") + get("kept"),
    "close and keep alive": get("kept", "Connection: close", "Connection: keep-alive") + get("kept"),
    "connection to a header": put("kept", "v", "Connection: Content-Length") + get("kept"),
    "connection to nothing": get("kept", "Connection:") + get("kept"),
    "connection to x": get("kept", "Connection: x") + get("kept"),
    "proxy connection": get("kept", "Proxy-Connection: close") + get("kept"),
    "te": get("kept", "TE: trailers", "Connection: TE") + get("kept"),
    "trailer": put("kept", "v", "Trailer: X") + get("kept"),
    "upgrade to h2c": get("kept", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")
    + get("kept"),
    "upgrade without a connection": get("kept", "Upgrade: h2c") + get("kept"),
    "upgrade to websocket": get(
        "kept",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub24=",
    )
    + get("kept"),
    "upgrade a write to websocket": put("kept", "v", "Connection: Upgrade", "Upgrade: WebSocket") + get("kept"),
    "connect": request("CONNECT", HOST) + get("kept"),
    "connect to a key": request("CONNECT", "/keys/kept") + get("kept"),
    "lower-case get": request("get", "/keys/kept") + get("kept"),
    "lower-case put": request("put", "/keys/kept", PLAIN, body=b"v") + get("kept"),
    "mixed-case": request("Delete", "/keys/kept") + get("kept"),
    "two spaces behind the method": request("GET ", "/keys/kept"),
    "two spaces behind the target": request("GET", "/keys/kept "),
    "five spaces behind the target": request("PUT", "/keys/kept    ", PLAIN, body=b"v"),
    "two spaces and a query": request("GET", "/keys/kept?read=stale "),
    "space behind the version": request("GET", "/keys/kept", version="HTTP/1.1 "),
    "tab behind the method": get("kept").replace(b"GET ", b"GET\t"),
    "tab behind the target": get("kept").replace(b" HTTP", b"\tHTTP"),
    "tab in the target": get("ke\tpt"),
    "space in the target": get("ke pt"),
    "form feed in the target": get("ke\x0cpt"),
    "DEL in the target": get("kept\x7f"),
    "raw UTF-8 in the target": get("é"),
    "raw UTF-8 in the query": get("kept?read=é"),
    "raw bytes in the target": get("kept").replace(b"kept", b"\xff\x80"),
    "space before the method": b" " + get("kept"),
    "CR LF before the request": b"\r\n" + get("kept"),
    "two CR LF before the request": b"\r\n\r\n" + get("kept"),
    "LF before the request": b"\n" + get("kept"),
    "CR LF behind the request": get("kept") + b"\r\n",
    "CR LF behind a body": put("kept") + b"\r\n" + get("kept"),
    "no request at all": b"\r\n\r\n",
    "one byte": b"G",
    "a key without an end": b"GET /keys/kept",
    "a head without an end": get("kept")[:-2],
    "a head without its last byte": get("kept")[:-1],
    "a body without an end": put("kept", "vvvvv")[:-1],
    "a refused body without an end": put("kept", "vvvvv", "Content-Encoding: gzip")[:-1],
    "a body that waits for another lane": put("kept", "vvvvv", "Content-Length: 4000000"),
    "a body that is refused by its length": put("kept", "vvvvv", "Content-Length: 9000000"),
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "a long header": get("kept", b"X: " + b"a" * 40_000),
    "many headers": get("kept", *["X: a"] * 7_000),
    "many headers that fit": get("kept", *["X: a"] * 1_000),
    "many names that fit": get("kept", *[f"X{number}: a" for number in range(1_000)]),
    "a head that does not end": get("kept", b"X: " + b"a" * 20_000)[:-4],
    "a name that does not end": get("kept", b"X" * 20_000)[:-4],
}


@pytest.mark.parametrize("name", HEADS)
async def test_framing(autojump_clock: MockClock, both: TwoServers, name: str) -> None:
    """RFC 9112, and what is none."""
    data = HEADS[name]
    pieces = (data,) if isinstance(data, bytes) else data
    await both.same(*pieces, then=PROBE)


async def test_heads_about_as_long_as_they_may_be(autojump_clock: MockClock, both: TwoServers) -> None:
    """HEAD_BYTES, in one piece and in two."""
    for size in range(HEAD_BYTES - 4, HEAD_BYTES + 80, 3):
        data = get("kept", b"X: " + b"a" * (size - len(get("kept", b"X: "))))
        assert len(data) == size
        for pieces in ((data,), (data[:-1], data[-1:]), (data[:9000], data[9000:])):
            await both.same(*pieces, then=PROBE)
