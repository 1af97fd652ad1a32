"""Below the application: what is no proper HTTP/1.1 is a problem, too, and nothing behind it is answered (RFC 9112)."""

import socket
from collections.abc import Iterator

import pytest

from tests.stories.daemon import Daemon, running
from tests.web.wire import exchange, request

PLAIN = "Content-Type: text/plain"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with running(tmp_path_factory.mktemp("wire")) as daemon:
        yield daemon


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /livez HTTP/1.1\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nHost: {api}\r\nHost: {api}\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nHost : {api}\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nHost: {api}\r\nX\r\n\r\n", 400),
        (b"GET /keys/\xc3\xa9 HTTP/1.1\r\nHost: {api}\r\n\r\n", 400),
        (b"GET /a b HTTP/1.1\r\nHost: {api}\r\n\r\n", 400),
        (b"GET /livez\r\n\r\n", 400),
        (b"G\x00T /livez HTTP/1.1\r\nHost: {api}\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64), 400),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", 400),
        (b"GET /livez HTTP/3.0\r\nHost: {api}\r\n\r\n", 505),
        (b"GET /livez HTTP/2.0\r\nHost: {api}\r\n\r\n", 505),
        (b"GET /livez HTTP/0.9\r\nHost: {api}\r\n\r\n", 505),
        (b"get /livez HTTP/1.1\r\nHost: {api}\r\n\r\n", 400),
        (b"CONNECT {api} HTTP/1.1\r\nHost: {api}\r\n\r\n", 501),
        (b"GET /%b HTTP/1.1\r\nHost: {api}\r\n\r\n" % (b"a" * 70_000), 414),
        (b"GET /livez HTTP/1.1\r\nHost: {api}\r\nX: %b\r\n\r\n" % (b"a" * 70_000), 431),
        (b"GET /livez HTTP/1.1\r\nHost: {api}\r\n%b\r\n\r\n" % (b"X: a\r\n" * 10_000), 431),
        (b"PUT /keys/w HTTP/1.1\r\nHost: {api}\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        (b"PUT /keys/w HTTP/1.1\r\nHost: {api}\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 501),
        (b"PUT /keys/w HTTP/1.1\r\nHost: {api}\r\nContent-Length: -1\r\n\r\n", 400),
        (b"PUT /keys/w HTTP/1.1\r\nHost: {api}\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nvv", 400),
        (b"PUT /keys/w HTTP/1.1\r\nHost: {api}\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nv", 400),
        (b"PUT /keys/w HTTP/1.0\r\nHost: {api}\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (
            b"GET /events HTTP/1.1\r\nHost: {api}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
            403,
        ),
        (b"GET /events HTTP/1.1\r\nHost: {api}\r\nUpgrade: WebSocket\r\nConnection: upgrade\r\n\r\n", 403),
    ],
)
def test_a_malformed_request_is_answered_with_a_problem(daemon: Daemon, data: bytes, status: int) -> None:
    """Every answer from 400 on; and the connection ends, whatever stands behind it."""
    data = data.replace(b"{api}", daemon.api.encode())
    told = exchange(daemon, data + request(daemon, "GET", "/version"))
    assert [answer.status for answer in told] == [status], told
    assert told[0].is_problem(), told
    assert (told[0].json["applied"], told[0].headers.get("connection")) == (False, "close")
    assert daemon.get("w").status == 404


def test_two_lengths_are_refused_and_nothing_behind_them_is_answered(daemon: Daemon) -> None:
    """RFC 9112, 6.3: a proxy that believed the other one would take what is behind for a request of its own."""
    behind = request(daemon, "PUT", "/keys/smuggled", PLAIN, body=b"v")
    for lines in (
        ["Content-Length: 3", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked", "Content-Length: 3"],
        ["Transfer-Encoding: chunked", f"Content-Length: {5 + len(behind)}"],
        ["transfer-encoding: Chunked", "CONTENT-LENGTH: 0"],
    ):
        for method, path in (("PUT", "/keys/outer"), ("POST", "/keys"), ("DELETE", "/keys/outer"), ("GET", "/livez")):
            told = exchange(daemon, request(daemon, method, path, PLAIN, *lines, body=b"0\r\n\r\n" + behind))
            assert [answer.status for answer in told] == [400], (method, lines, told)
            assert told[0].is_problem() and told[0].headers["connection"] == "close"
    assert daemon.get("smuggled").status == 404
    assert daemon.get("outer").status == 404


def test_an_answer_to_half_a_body_arrives_though_the_client_still_sends(daemon: Daemon) -> None:
    """Closing on unread data would reset the connection, and the client would not see why."""
    host, _, port = daemon.api.partition(":")
    for line, status in (("Content-Encoding: gzip", 415), ("Origin: http://foreign.example", 403), ("Expect: x", 417), ("", 413)):
        with socket.create_connection((host, int(port)), 5) as sock:
            head = ["PUT /keys/large HTTP/1.1", f"Host: {daemon.api}", PLAIN, "Content-Length: 9000000", *filter(None, [line])]
            sock.sendall("\r\n".join(head).encode() + b"\r\n\r\n")
            sock.sendall(b"x" * 2_000_000)  # no broken pipe
            answer = http_status(sock)
        assert answer == status, line


def http_status(sock: socket.socket) -> int:
    """Return the status of the answer."""
    received = b""
    while b"\r\n" not in received:
        piece = sock.recv(65536)
        assert piece, "closed without an answer"
        received += piece
    return int(received.split()[1])


def test_h2c_is_not_switched_to(daemon: Daemon) -> None:
    """RFC 9113 has no Upgrade any more: the request is answered as it came."""
    lines = ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"]
    told = exchange(daemon, request(daemon, "GET", "/livez", *lines))
    assert [answer.status for answer in told] == [200]


def test_methods_and_paths_make_no_labels(daemon: Daemon) -> None:
    """What no table knows is `other`, on every way to an answer."""
    before = daemon.http("GET", "/metrics").body.count(b"\n")
    for number in range(30):
        exchange(daemon, request(daemon, f"FOO{number}", f"/x{number}", "Connection: close"), timeout=2)
        daemon.http("GET", f"/nodes/{number}9")
        daemon.http("GET", f"/static/{number}")
        daemon.http("GET", f"/path/{number}?q={number}", headers={"Host": f"h{number}"})
    text = daemon.http("GET", "/metrics").body.decode()
    assert text.count("\n") - before <= 4
    assert 'method="other",route="other",status="404"' in text
    assert "FOO" not in text
