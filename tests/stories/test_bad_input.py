"""Bad input at every port of a real daemon: a clear error, no loss, no effect on others."""

import contextlib
import hashlib
import hmac
import http.client
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.stories.daemon import Daemon, running, write_configuration


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One daemon for all: each test also shows that the ones before have not hurt it."""
    with running(tmp_path_factory.mktemp("bad")) as daemon:
        assert daemon.put("kept", "safe").status == 201
        term = daemon.node(0)["term"]
        yield daemon
        assert daemon.get("kept").json["value"] == "safe"
        assert daemon.node(0)["term"] == term
        assert "Traceback" not in daemon.output.read_text()


def say(daemon: Daemon, *lines: bytes, node_id: int = 0, hello: bool = True) -> list[bytes]:
    """Send lines to a node's port; return what it answers before it closes or falls silent."""
    host, port = daemon.addresses[node_id].split(":")
    answer = b""
    with socket.create_connection((host, int(port)), 5) as sock:
        sock.settimeout(1.0)
        first = b'{"hello":"client","protocol":1,"cluster":"barge"}\n' if hello else b""
        with contextlib.suppress(OSError):
            sock.sendall(first + b"".join(lines))
            while data := sock.recv(65536):
                answer += data
    return answer.splitlines()


def problem(daemon: Daemon, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, str]:
    """Make a request that must be refused; return (status, error) of the problem."""
    answer = daemon.http(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    assert answer.headers["content-type"] == "application/problem+json", answer.body
    assert answer.json["status"] == answer.status
    assert answer.json["detail"]
    assert answer.json["applied"] is False
    return answer.status, answer.json["error"]


JSON = {"Content_Type": "application/json"}


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "expected"),
    [
        ("GET", "/keys/nobody", None, {}, (404, "not_found")),
        ("DELETE", "/keys/nobody", None, {}, (404, "not_found")),
        ("PUT", "/keys/", b"x", {}, (400, "bad_request")),
        ("PUT", "/keys/%FF", b"x", {}, (400, "bad_request")),
        ("GET", "/keys/%FF", None, {}, (400, "bad_request")),
        ("PUT", "/keys/a%00b", b"x", {}, (400, "bad_request")),
        ("PUT", "/keys/" + "k" * 1025, b"x", {}, (400, "bad_request")),
        ("PUT", "/keys/%ED%A0%80", b"x", {}, (400, "bad_request")),
        ("PUT", "/keys/big", b"v" * (1024 * 1024 + 1), {"Content_Type": "text/plain"}, (413, "bad_request")),
        ("PUT", "/keys/a", b"<a/>", {"Content_Type": "application/xml"}, (415, "bad_request")),
        ("PUT", "/keys/a", b'{"value":5}', JSON, (400, "bad_request")),
        ("PUT", "/keys/a", b'{"value":"x","ttl":5}', JSON, (400, "bad_request")),
        ("PUT", "/keys/a", b'{"value":', JSON, (400, "bad_request")),
        ("PUT", "/keys/a", b"\xff", JSON, (400, "bad_request")),
        ("PUT", "/keys/a", b'{"value_b64":"%%%"}', JSON, (400, "bad_request")),
        ("PUT", "/keys/kept", b"x", {"If_Match": '"99999"'}, (412, "precondition_failed")),
        ("PUT", "/keys/kept", b"x", {"If_None_Match": "*"}, (412, "precondition_failed")),
        ("PUT", "/keys/kept", b"x", {"If_Match": "twelve"}, (400, "bad_request")),
        ("PUT", "/keys/kept", b"x", {"If_Match": '"1"', "If_None_Match": "*"}, (400, "bad_request")),
        ("POST", "/keys", b'{"key":1.5,"value":"x"}', JSON, (400, "bad_request")),
        ("POST", "/keys", b'{"key":true,"value":"x"}', JSON, (400, "bad_request")),
        ("POST", "/keys", b'{"key":"a"}', JSON, (400, "bad_request")),
        ("POST", "/keys", b'{"key":"\\ud800","value":"x"}', JSON, (400, "bad_request")),
        ("POST", "/keys", b'{"key":"a","value":NaN}', JSON, (400, "bad_request")),
        ("POST", "/keys", b"[" * 100_000, JSON, (400, "bad_request")),
        ("POST", "/keys", b'{"key":1,"value":"x"}', {"Content_Type": "text/plain"}, (415, "bad_request")),
        ("POST", "/keys", b'{"key":1,"value":"x"}', {}, (415, "bad_request")),
        ("GET", "/keys?limit=0", None, {}, (400, "bad_request")),
        ("GET", "/keys?limit=1e3", None, {}, (400, "bad_request")),
        ("GET", "/keys?colour=red", None, {}, (400, "bad_request")),
        ("GET", "/keys?prefix=%FF", None, {}, (400, "bad_request")),
        ("GET", "/keys/kept?read=quickly", None, {}, (400, "bad_request")),
        ("PATCH", "/keys/a", b"x", {}, (405, "bad_request")),
        ("GET", "/nodes/1/kill", None, {}, (405, "bad_request")),
        ("GET", "/nodes/7", None, {}, (404, "not_found")),
        ("GET", "/nodes/x", None, {}, (404, "not_found")),
        ("POST", "/nodes/7/kill", None, {}, (404, "not_found")),
        ("POST", "/nodes/-1/revive", None, {}, (404, "not_found")),
        ("POST", "/nodes/1/kill", b"now", {"Content_Type": "text/plain"}, (415, "bad_request")),
        ("PUT", "/faults", b'{"groups":[[0],[7]]}', JSON, (404, "not_found")),
        ("PUT", "/faults", b'{"links":[{"from":0,"to":1,"drop":2}]}', JSON, (400, "bad_request")),
        ("PUT", "/faults", b'{"disks":[{"node":0,"error":"EGGS"}]}', JSON, (400, "bad_request")),
        ("GET", "/events?after=yesterday", None, {}, (400, "bad_request")),
        ("GET", "/events?kind=party", None, {}, (400, "bad_request")),
        ("GET", "/log?node=7", None, {}, (400, "bad_request")),
        ("GET", "/nothing", None, {}, (404, "not_found")),
        ("GET", "/static/../cli.py", None, {}, (404, "not_found")),
        ("POST", "/nodes/1/kill", None, {"Origin": "http://evil.example"}, (403, "forbidden")),
        ("POST", "/nodes/1/kill", None, {"Origin": "null"}, (403, "forbidden")),
        ("POST", "/nodes/1/kill", None, {"Sec_Fetch_Site": "cross-site"}, (403, "forbidden")),
        ("PUT", "/keys/a", b"x", {"Host": "evil.example"}, (403, "forbidden")),
        ("GET", "/log", None, {"Host": "evil.example:8100"}, (403, "forbidden")),
    ],
)
def test_rest_refuses(
    daemon: Daemon, method: str, path: str, body: bytes | None, headers: dict[str, str], expected: tuple[int, str]
) -> None:
    """Each gets an error with the reason, and `applied` is false."""
    assert problem(daemon, method, path, body, **headers) == expected


def test_a_body_of_megabytes_is_refused_before_it_is_read(daemon: Daemon) -> None:
    """413 by its announced length; a client that goes on sending may find the connection cut instead."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        assert problem(daemon, "PUT", "/keys/huge", b"v" * (9 * 1024 * 1024), Content_Type="text/plain")[0] == 413
    assert daemon.get("huge").status == 404


def test_an_unknown_node_lists_the_known_ones(daemon: Daemon) -> None:
    """So that the caller need not look."""
    assert "0, 1, 2" in daemon.http("POST", "/nodes/7/kill").json["detail"]


def test_a_wrong_method_says_which_are_right(daemon: Daemon) -> None:
    """405 with Allow (RFC 9110)."""
    assert "POST" in daemon.http("GET", "/nodes/1/kill").headers["allow"]


def test_a_script_in_a_key_is_text_on_the_page(daemon: Daemon) -> None:
    """Keys and values are attacker's text."""
    script = "<script>alert(1)</script>"
    body = json.dumps({"key": script, "value": '"><img src=x onerror=alert(2)>'})
    assert daemon.http("POST", "/keys", body, {"Content-Type": "application/json"}).status == 201
    for path in ("/log", "/log.html"):
        page = daemon.http("GET", path)
        text = page.body.decode()
        assert script not in text
        assert "<img" not in text
        assert ("&lt;script&gt;alert(1)&lt;/script&gt;" if path == "/log" else r"\u003cscript>alert(1)\u003c/script>") in text
        assert "script-src" in page.headers["content-security-policy"] or path == "/log"
        assert "unsafe" not in page.headers["content-security-policy"]
        assert page.headers["x-content-type-options"] == "nosniff"


def test_a_bad_line_of_a_bulk_write_spoils_no_other(daemon: Daemon) -> None:
    """Each line has its own answer."""
    lines = [b'{"key":"b1","value":"1"}', b'{"key":"","value":"1"}', b"garbage", b'{"key":"b2","value":"2"}']
    answer = daemon.http("POST", "/keys", b"\n".join(lines), {"Content-Type": "application/x-ndjson"})
    told = sorted((json.loads(line) for line in answer.body.splitlines()), key=lambda line: int(line["line"]))
    assert [line["ok"] for line in told] == [True, False, False, True]
    assert [line.get("applied") for line in told[1:3]] == [False, False]
    assert daemon.get("b2").json["value"] == "2"


# -- the node port -----------------------------------------------------------------------------------------------------------


def test_http_on_the_node_port_gets_one_error_and_is_closed(daemon: Daemon) -> None:
    """BUG-57: a browser's POST has bad lines and then a good one, which is not read."""
    body = b'{"id":1,"op":"put","key":"smuggled","value":"x"}\n'
    request = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n\r\n" + body
    (line,) = say(daemon, request, hello=False)
    assert json.loads(line)["hello"] == "refused"
    assert daemon.get("smuggled").status == 404


@pytest.mark.parametrize(
    "line",
    [
        b"garbage\n",
        b"\x16\x03\x01\x02\x00\n",
        b"[1,2]\n",
        b'"text"\n',
        b'{"op":"get","key":"a"}\n',
        b'{"id":true,"op":"get","key":"a"}\n',
        b'{"id":"1","op":"get","key":"a"}\n',
        b'{"id":1,"op":"get","key":"\xff"}\n',
        b'{"id":1,"op":' + b"[" * 100_000 + b"\n",
        b'{"id":1,"op":"put","key":"a","value":"' + b"x" * (8 * 1024 * 1024) + b'"}\n',
        b'{"hello":"client","protocol":1,"cluster":"barge"}\n',
    ],
    ids=["garbage", "tls", "list", "text", "no id", "bool id", "text id", "not utf-8", "deep", "long", "second hello"],
)
def test_what_is_no_request_gets_one_error_line_and_the_end(daemon: Daemon, line: bytes) -> None:
    """And the good line behind it is not read."""
    answers = say(daemon, line, b'{"id":9,"op":"get","key":"kept","read":"stale"}\n')
    assert len(answers) == 2
    told = json.loads(answers[1])
    assert (told["ok"], told["error"], told["id"], told["applied"]) == (False, "bad_request", None, False)


@pytest.mark.parametrize(
    "fields",
    [
        {"op": "fly"},
        {"op": "put", "key": "a"},
        {"op": "put", "key": "a", "value": "x", "value_b64": "eA=="},
        {"op": "put", "key": "", "value": "x"},
        {"op": "put", "key": "a\0", "value": "x"},
        {"op": "put", "key": "k" * 1025, "value": "x"},
        {"op": "put", "key": "a", "value": "v" * (1024 * 1024 + 1)},
        {"op": "put", "key": "a", "value": 5},
        {"op": "put", "key": "a", "value": "x", "if_index": -1},
        {"op": "put", "key": "a", "value": "x", "colour": "red"},
        {"op": "get", "key": "a", "read": "quickly"},
        {"op": "list", "limit": 5000},
    ],
)
def test_a_bad_field_is_an_error_and_the_connection_stays(daemon: Daemon, fields: dict[str, Any]) -> None:
    """With the request's own id."""
    bad = json.dumps({"id": 7, **fields}).encode() + b"\n"
    good = b'{"id":8,"op":"get","key":"kept","read":"stale"}\n'
    told = {answer["id"]: answer for answer in map(json.loads, say(daemon, bad, good)[1:])}
    assert (told[7]["ok"], told[7]["error"], told[7]["applied"]) == (False, "bad_request", False)
    assert told[8]["value"] == "safe"


@pytest.mark.parametrize(
    ("hello", "words"),
    [
        ({"hello": "client", "protocol": 1, "cluster": "other"}, "cluster"),
        ({"hello": "client", "protocol": 9, "cluster": "barge"}, "protocol"),
        (
            {"hello": "peer", "protocol": 3, "cluster": "other", "node": 1, "to": 0, "standing": {"store": "s"}, "nonce": "n"},
            "cluster",
        ),
        ({"hello": "peer", "protocol": 3, "cluster": "barge", "node": 7, "to": 0, "standing": {"store": "s"}, "nonce": "n"}, "7"),
        ({"hello": "peer", "protocol": 3, "cluster": "barge", "node": 0, "to": 0, "standing": {"store": "s"}, "nonce": "n"}, "0"),
        ({"hello": "peer", "protocol": 3, "cluster": "barge", "node": 1, "to": 2, "standing": {"store": "s"}, "nonce": "n"}, "2"),
        (
            {
                "hello": "peer",
                "protocol": 3,
                "cluster": "barge",
                "node": 1,
                "to": 0,
                "standing": {"store": "foreign"},
                "nonce": "n",
            },
            "store",
        ),
        ({"hello": "world"}, ""),
    ],
)
def test_a_wrong_hello_is_refused_in_words(daemon: Daemon, hello: dict[str, Any], words: str) -> None:
    """Wrong cluster, protocol, peer id, target, a foreign store."""
    told = json.loads(say(daemon, json.dumps(hello).encode() + b"\n", hello=False)[-1])
    assert told["hello"] == "refused"
    assert words in told["detail"]


def test_a_thousand_silent_connections_keep_no_client_out(daemon: Daemon) -> None:
    """The oldest unauthenticated connection is closed: a client is still admitted, and no term changes."""
    host, port = daemon.addresses[daemon.leader()].split(":")
    with contextlib.ExitStack() as stack:
        for _ in range(1000):
            stack.enter_context(socket.create_connection((host, int(port)), 5))
        assert daemon.put("among", "others").status == 201
        assert say(daemon, b'{"id":1,"op":"get","key":"kept","read":"stale"}\n')


def test_a_thousand_rest_clients_change_no_term(daemon: Daemon) -> None:
    """256 connections are served or get an error; the rest is refused; Raft is not affected."""
    host, port = daemon.api.split(":")
    term = daemon.node(0)["term"]
    request = b"GET /keys/kept HTTP/1.1\r\nHost: " + daemon.api.encode() + b"\r\n\r\n"
    codes: list[bytes] = []
    with contextlib.ExitStack() as stack:
        sockets = []
        for _ in range(1000):
            sock = stack.enter_context(socket.create_connection((host, int(port)), 10))
            with contextlib.suppress(OSError):
                sock.sendall(request)
            sockets.append(sock)
        for sock in sockets:
            with contextlib.suppress(OSError):
                codes.append(sock.recv(4096)[9:12])
    assert codes.count(b"200") >= 64
    assert set(codes) <= {b"200", b"503", b""}
    daemon.wait_for(lambda: daemon.put("after", "them").status in (200, 201), "REST to be free again")
    assert daemon.node(0)["term"] == term


@pytest.mark.long
def test_a_slow_request_does_not_hold_a_connection_for_ever(daemon: Daemon) -> None:
    """Half a request head is cut by the server's own time-out; others are served meanwhile."""
    host, port = daemon.api.split(":")
    with socket.create_connection((host, int(port)), 30) as sock:
        sock.sendall(b"GET /log HTTP/1.1\r\nHos")
        assert daemon.get("kept").status == 200
        sock.settimeout(25)
        began = time.monotonic()
        sock.recv(1024)
        assert time.monotonic() - began < 20


# -- secrets -----------------------------------------------------------------------------------------------------------------


def test_a_missing_or_wrong_token_is_401(tmp_path: Path) -> None:
    """Where one is set; health is asked without."""
    (tmp_path / "token").write_text("open sesame\n")
    (tmp_path / "token").chmod(0o600)
    daemon = Daemon(write_configuration(tmp_path, 1, extra="api_token_file: token\n"))
    try:
        daemon.start()
        assert problem(daemon, "PUT", "/keys/a", b"x") == (401, "forbidden")
        assert problem(daemon, "PUT", "/keys/a", b"x", Authorization="Bearer open sesam") == (401, "forbidden")
        assert problem(daemon, "GET", "/log") == (401, "forbidden")
        good = {"Authorization": "Bearer open sesame"}
        daemon.wait_for(lambda: daemon.http("GET", "/leader", headers=good).status == 200, "a leader")
        assert daemon.http("PUT", "/keys/a", b"x", good).status == 201
        for path in ("/livez", "/", "/static/model.js"):  # the page holds nothing; it asks for the token itself
            assert daemon.http("GET", path).status == 200
        for path in ("/log.html", "/events", "/static/../nodes", "//", "/%2e/nodes"):
            assert daemon.http("GET", path).status in (401, 404), path
    finally:
        daemon.end()


def test_a_peer_without_the_secret_is_refused(tmp_path: Path) -> None:
    """The proof of another secret, and none at all; nodes with the right one elect a leader."""
    (tmp_path / "secret").write_text("between us\n")
    (tmp_path / "secret").chmod(0o600)
    daemon = Daemon(write_configuration(tmp_path, 3, extra="peer_secret_file: secret\n"))
    try:
        daemon.start()
        daemon.leader()
        store = json.loads((tmp_path / "data" / "node-1" / "meta").read_text())["standing"]["store"]
        hello = {
            "hello": "peer",
            "protocol": 3,
            "cluster": "barge",
            "node": 1,
            "to": 0,
            "standing": {"store": store},
            "nonce": "n" * 32,
        }
        for secret in (b"guessed", None):
            host, port = daemon.addresses[0].split(":")
            with socket.create_connection((host, int(port)), 5) as sock, sock.makefile("rwb") as stream:
                stream.write(json.dumps(hello).encode() + b"\n")
                stream.flush()
                answer = json.loads(stream.readline())
                assert answer["proof"] != ""
                text = f"barge dialler 1 0 {hello['nonce']} {answer['nonce']}".encode()
                proof = "" if secret is None else hmac.new(secret, text, hashlib.sha256).hexdigest()
                stream.write(json.dumps({"proof": proof or "none"}).encode() + b"\n")
                stream.flush()
                told = stream.readline()
                assert json.loads(told)["hello"] == "refused"
                with contextlib.suppress(OSError):
                    assert stream.read() == b""
    finally:
        daemon.end()


def test_a_peers_message_that_contradicts_itself_ends_its_connection_alone(daemon: Daemon) -> None:
    """It has an index beyond its entries; the receiving node continues, and so does the real node 1."""
    standing = json.loads((daemon.configuration.parent / "data" / "node-1" / "meta").read_text())["standing"]
    hello = {"hello": "peer", "protocol": 3, "cluster": "barge", "node": 1, "to": 0, "standing": standing, "nonce": "n"}
    append = {
        "type": "append_request",
        "term": 99,
        "leader_id": 1,
        "prev_log_index": 0,
        "prev_log_term": 0,
        "entries": [[99, None]],
        "leader_commit": 0,
        "round": 1,
        "configurations": [5],
    }
    answers = say(daemon, json.dumps(hello).encode() + b"\n", json.dumps(append).encode() + b"\n", hello=False)
    assert [json.loads(answer)["hello"] for answer in answers] == ["node", "accepted"]

    def is_reported() -> bool:  # beside it there may be one of the start, when node 1 was not there yet
        reasons = [event["detail"]["reason"] for event in daemon.events("link_down", node=0) if event["peer"] == 1]
        return any("closed its link" in reason and "entry 5 is said to hold a configuration" in reason for reason in reasons)

    daemon.wait_for(is_reported, "node 0 to say why it closed the link")
    assert {node["state"] for node in daemon.http("GET", "/nodes").json["nodes"]} == {"running"}


def test_http_clients_see_the_reason_in_python_too(daemon: Daemon) -> None:
    """The standard library's client reads a problem without help."""
    connection = http.client.HTTPConnection(daemon.api)
    connection.request("GET", "/keys/nobody")
    assert json.loads(connection.getresponse().read())["error"] == "not_found"
    connection.close()
