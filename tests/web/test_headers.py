"""A header that changes what a request means is heeded or refused, and one that decides something comes once (docs/rest.md)."""

import gzip
from collections.abc import Iterator

import pytest

from tests.stories.daemon import Daemon, running
from tests.web.wire import ask

PLAIN = "Content-Type: text/plain"
JSON = "Content-Type: application/json"
NDJSON = "Content-Type: application/x-ndjson"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with running(tmp_path_factory.mktemp("headers")) as daemon:
        yield daemon


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "br", "identity, gzip", "x-unknown"])
def test_an_encoded_body_is_refused_wherever_one_is_taken(daemon: Daemon, encoding: str) -> None:
    """RFC 9110, 8.4: 415 with Accept-Encoding; nothing is stored as if it were the value."""
    body = gzip.compress(b'{"key":"z","value":"v"}')
    for method, path, media_type in (
        ("PUT", "/keys/z", PLAIN),
        ("PUT", "/keys/z", JSON),
        ("POST", "/keys", JSON),
        ("POST", "/keys", NDJSON),
        ("PUT", "/faults", JSON),
        ("POST", "/nodes/0/readmit", JSON),
    ):
        told = ask(daemon, method, path, media_type, f"Content-Encoding: {encoding}", body=body)
        assert (told.status, told.headers.get("accept-encoding"), told.is_problem()) == (415, "identity", True), (method, path)
    assert daemon.get("z").status == 404


def test_a_body_encoded_as_itself_is_taken(daemon: Daemon) -> None:
    """identity is no encoding."""
    assert ask(daemon, "PUT", "/keys/plain", PLAIN, "Content-Encoding: identity", body=b"v").status == 201
    assert daemon.get("plain").json["value"] == "v"


@pytest.mark.parametrize(
    ("own", "foreign", "status"),
    [
        ("Origin: http://{api}", "Origin: http://foreign.example", 403),
        ("Host: {api}", "Host: foreign.example", 400),
        ("Content-Type: text/plain", "Content-Type: application/json", 400),
        ("Authorization: Bearer a", "Authorization: Bearer b", 401),
        ("Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: cross-site", 403),
        ("Expect: 100-continue", "Expect: 200-maybe", 400),
        ("If-Unmodified-Since: Sat, 29 Oct 1994 19:43:31 GMT", "If-Unmodified-Since: x", 400),
        ("If-Match: {tag}", 'If-Match: "7777"', 400),
        ("If-None-Match: *", 'If-None-Match: "7777"', 400),
        ("If-Match: {tag}", "If-None-Match: *", 400),
        ("Content-Length: 1", "Content-Length: 2", 400),
        ("Content-Encoding: identity", "Content-Encoding: gzip", 415),
    ],
)
def test_what_decides_and_comes_twice_is_refused_in_either_order(daemon: Daemon, own: str, foreign: str, status: int) -> None:
    """Nobody takes the first where another takes the last."""
    tag = daemon.put("twice", "before").headers["etag"]
    lines = [line.format(api=daemon.api, tag=tag) for line in (own, foreign)]
    more = [] if "Content-Type" in own else [PLAIN]
    for order in (lines, lines[::-1]):
        told = ask(daemon, "PUT", "/keys/twice", *order, *more, body=b"v")
        assert (told.status, told.is_problem(), told.json["applied"]) == (status, True, False), (order, told)
    assert daemon.get("twice").json["value"] == "before"


@pytest.mark.parametrize(
    ("method", "path", "lines", "status"),
    [
        ("PUT", "/keys/m", ["Content-Range: bytes 0-0/2"], 400),
        ("PUT", "/keys/m", ["If-Unmodified-Since: Sat, 29 Oct 1994 19:43:31 GMT"], 400),
        ("DELETE", "/keys/m", ["If-Unmodified-Since: Sat, 29 Oct 1994 19:43:31 GMT"], 400),
        ("PUT", "/keys/m", ["Expect: something"], 417),
        ("POST", "/keys", ["If-None-Match: *"], 400),
        ("POST", "/keys", ['If-Match: "1"'], 400),
        ("PUT", "/faults", ['If-Match: "1"'], 400),
        ("POST", "/nodes/0/kill", ['If-Match: "1"'], 400),
        ("GET", "/nodes", ['If-Match: "1"'], 400),
        ("POST", "/keys", ["X-HTTP-Method-Override: DELETE"], 400),
        ("PUT", "/keys/m", ["X-HTTP-Method: DELETE"], 400),
        ("PUT", "/keys/m", ["X-Method-Override: DELETE"], 400),
        ("PUT", "/keys/m", ["Content-Type: text/plain; charset=iso-8859-1"], 415),
        ("PUT", "/keys/m", ["Content-Type: text/plain; charset=utf-16"], 415),
        ("POST", "/keys", ["Content-Type: application/json; charset=utf-16"], 415),
        ("POST", "/keys", ["Content-Type: application/x-ndjson; charset=latin1"], 415),
    ],
)
def test_a_header_that_is_not_heeded_is_refused(daemon: Daemon, method: str, path: str, lines: list[str], status: int) -> None:
    """It asks for something else than what would be done."""
    if method in ("PUT", "POST") and not any(line.startswith("Content-Type") for line in lines):
        lines = [*lines, PLAIN if path.startswith("/keys/") else JSON]
    told = ask(daemon, method, path, *lines, body=b'{"key":"m","value":"v"}' if method in ("PUT", "POST") else b"")
    assert (told.status, told.is_problem(), told.json["applied"]) == (status, True, False)
    assert daemon.get("m").status == 404
    assert daemon.node(0)["state"] == "running"


def test_a_header_that_changes_nothing_is_passed_over(daemon: Daemon) -> None:
    """Range of a read (RFC 9110, 14.2), Prefer, dates on a read, and tags where there are none."""
    daemon.put("range", "0123456789")
    for line in ("Range: bytes=0-1", "Prefer: respond-async", "If-Modified-Since: Sat, 29 Oct 2094 19:43:31 GMT", "If-Range: x"):
        told = ask(daemon, "GET", "/keys/range", line)
        assert (told.status, told.json["value"]) == (200, "0123456789"), line
    assert ask(daemon, "GET", "/nodes", 'If-None-Match: "1"').status == 200
    assert ask(daemon, "PUT", "/keys/range", PLAIN, "Expect: 100-continue", body=b"v").status == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [("DELETE", "/keys/body"), ("GET", "/keys/body"), ("GET", "/keys"), ("DELETE", "/faults"), ("GET", "/leader")],
)
def test_a_body_that_no_handler_reads_is_refused(daemon: Daemon, method: str, path: str) -> None:
    """A condition in the body of a DELETE would be taken for heeded."""
    daemon.put("body", "v")
    assert ask(daemon, method, path, JSON, body=b'{"if_index":1}').status == 400
    chunked = b'e\r\n{"if_index":1}\r\n0\r\n\r\n'
    assert ask(daemon, method, path, JSON, "Transfer-Encoding: chunked", body=chunked).status == 400
    assert daemon.get("body").json["value"] == "v"
    assert ask(daemon, "POST", "/nodes/0/kill", JSON, body=b'{"after_s":60}').status == 400
    assert daemon.node(0)["state"] == "running"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/keys/q?reed=stale"),
        ("GET", "/keys/q?read=stale&read=linearizable"),
        ("GET", "/keys/q?read=stale&READ=stale"),
        ("GET", "/keys/q?read=%zz"),
        ("GET", "/keys/q?read=%ff"),
        ("GET", "/keys?limit=1&limit=2"),
        ("GET", "/keys?limit=%31%30%30%31"),
        ("GET", "/keys?keys_only=perhaps"),
        ("PUT", "/keys/q?if_absent=1"),
        ("DELETE", "/keys/q?if_index=1"),
        ("POST", "/keys?if_absent=1"),
        ("GET", "/livez?verbose"),
        ("GET", "/metrics?name=barge_term"),
        ("GET", "/?x=1"),
        ("GET", "/static/main.js?v=1"),
        ("GET", "/events?after=1&after=2"),
        ("POST", "/nodes/0/kill?dry_run=1"),
        ("DELETE", "/faults?links=1"),
        ("GET", "/keys?keys_only"),
        ("GET", "/keys?limit="),
        ("GET", "/keys/q?read="),
        ("GET", "/leader?local"),
    ],
)
def test_a_parameter_that_a_route_does_not_know_is_refused(daemon: Daemon, method: str, path: str) -> None:
    """On every route, in both kinds of POST /keys; and one that is given twice, or is not well-formed."""
    kinds = (PLAIN,) if method == "PUT" else (JSON, NDJSON) if path.startswith("/keys?if_absent") else ("Accept: */*",)
    for kind in kinds:
        body = b'{"key":"q","value":"v"}' if kind != "Accept: */*" else b""
        told = ask(daemon, method, path, kind, body=body)
        assert (told.status, told.is_problem()) == (400, True), (kind, told)
    assert daemon.get("q").status == 404
    assert daemon.node(0)["state"] == "running"


@pytest.mark.parametrize(
    "query", ["limit=5", "limit=x", "local=1", "live=1&node=0", "live=1&kind=applied", "live=1&heartbeats=1", "after=x", "live"]
)
def test_a_stream_of_events_refuses_what_it_does_not_heed(daemon: Daemon, query: str) -> None:
    """The JSON page takes these parameters; a stream passed them over."""
    told = ask(daemon, "GET", f"/events?{query}", "Accept: text/event-stream")
    assert (told.status, told.is_problem()) == (400, True)


@pytest.mark.parametrize("first", [True, False])
def test_two_lines_of_accept_are_one_list_for_a_key_too(daemon: Daemon, first: bool) -> None:
    """The framework took the first line only (docs/rest.md promises one list)."""
    daemon.put("accepted", "v")
    lines = ["Accept: text/plain", "Accept: application/xml"]
    told = ask(daemon, "GET", "/keys/accepted", *(lines if first else reversed(lines)))
    assert (told.headers["content-type"], told.body) == ("text/plain; charset=utf-8", b"v")


@pytest.mark.parametrize("joined", ["text/plain, application/json", "application/json, text/plain"])
def test_two_content_types_that_were_joined_on_the_way_are_two(daemon: Daemon, joined: str) -> None:
    """RFC 9110, 5.3 lets a proxy join lines; the first one decided what the value is."""
    told = ask(daemon, "PUT", "/keys/joined", f"Content-Type: {joined}", body=b'{"value":"v"}')
    assert (told.status, told.is_problem()) == (400, True)
    assert daemon.get("joined").status == 404


def test_events_are_a_stream_by_one_reading_of_accept(daemon: Daemon) -> None:
    """Two lines of Accept are one list: the guard, which counts streams, and the handler read the same."""
    for lines in (
        ["Accept: text/event-stream", "Accept: application/json"],
        ["Accept: application/json", "Accept: text/event-stream"],
    ):
        before = daemon.http("GET", "/metrics").body
        assert b"barge_http_streams 0.0" in before
        import socket

        host, _, port = daemon.api.partition(":")
        with socket.create_connection((host, int(port)), 5) as sock:
            head = "\r\n".join(["GET /events HTTP/1.1", f"Host: {daemon.api}", *lines])
            sock.sendall(head.encode() + b"\r\n\r\n")
            assert b"text/event-stream" in sock.recv(4096)
            assert b"barge_http_streams 1.0" in daemon.http("GET", "/metrics").body
        daemon.wait_for(lambda: b"barge_http_streams 0.0" in daemon.http("GET", "/metrics").body, "the stream to end")
