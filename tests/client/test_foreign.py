"""What is no answer of a daemon or node says nothing about a write: a proxy's error, a page, another request's answer."""

import json
from collections.abc import Callable
from typing import Any, Final

import pytest

from bargetrio.client import BargeError, Client
from bargetrio.client.admin import BEFORE
from tests.client.servers import BadServer, nobody, problem


def http(status: int, body: bytes = b"<html>x</html>", *headers: bytes) -> bytes:
    """Return an HTTP answer."""
    lines = [b"HTTP/1.1 %d x" % status, b"Content-Type: text/html", *headers, b"Content-Length: %d" % len(body), b"", body]
    return b"\r\n".join(lines)


FOREIGN: Final[dict[str, bytes]] = {
    **{f"{status} by a proxy": http(status) for status in (300, 301, 302, 304, 307, 308, 402, 409, 410, 412, 418, 422, 425)},
    **{f"{status} by a proxy": http(status) for status in (499, 500, 501, 502, 503, 504, 505, 507, 511, 520, 524, 599)},
    "503 with Retry-After": http(503, b"later", b"Retry-After: 1"),
    "a redirect": http(302, b"", b"Location: http://127.0.0.1:1/"),
    "a page": http(200),
    "no body": http(200, b""),
    "204 without an index": http(204, b""),
    "204 with a word as index": http(204, b"", b"Barge-Index: many"),
    "202": http(202, b'{"key":"a","index":3,"term":1}'),
    "an array": http(200, b"[]"),
    "an empty object": http(200, b"{}"),
    "nested too deep": http(200, b"[" * 100_000),
    "bytes that are no UTF-8": http(200, b'{"key":"\xff"}'),
    "another's key": http(200, b'{"key":"b","index":3,"term":1,"value":"x"}'),
    "no entry": http(200, b'{"key":"a","index":0,"term":1}'),
    "204 with index 0": http(204, b"", b"Barge-Index: 0"),
    "an index in words": http(200, b'{"key":"a","index":"3","term":1}'),
    "no HTTP": b"SSH-2.0-OpenSSH\r\n",
    "half a head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "half a body": b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"key"',
    "a cut connection": b"",
    "an error that we do not know": problem("teapot", 503),
    "a problem of somebody else": http(503, b'{"title":"x","status":503,"error":17}'),
    "a proxy's error as JSON": http(503, b'{"error":"overloaded","detail":"upstream"}'),
    "a gateway's error as JSON": http(502, b'{"error":"no_leader"}'),
    "a problem that contradicts itself": http(503, b'{"error":"no_leader","detail":"x","applied":null}'),
    "a problem as a good answer": http(200, b'{"error":"no_leader","detail":"x","applied":false}'),
}

WRITES: Final[dict[str, Callable[[Client], Any]]] = {
    "put": lambda barge: barge.put("a", "1"),
    "conditional put": lambda barge: barge.put("a", "1", if_absent=True),
    "delete": lambda barge: barge.delete("a"),
    "conditional delete": lambda barge: barge.delete("a", if_index=3),
}
CHANGES: Final[dict[str, Callable[[Client], Any]]] = {
    "kill": lambda barge: barge.kill(0),
    "revive": lambda barge: barge.revive(0),
    "readmit": lambda barge: barge.readmit(0),
    "set_faults": lambda barge: barge.set_faults({"groups": [[0], [1]]}),
    "heal": lambda barge: barge.set_faults({}),
}
READS: Final[dict[str, Callable[[Client], Any]]] = {
    "get": lambda barge: barge.get("a"),
    "items": lambda barge: barge.items("a"),
    "leader": lambda barge: barge.leader(),
    "nodes": lambda barge: barge.nodes(),
    "faults": lambda barge: barge.faults(),
}


@pytest.mark.parametrize("answer", FOREIGN.values(), ids=FOREIGN)
def test_a_write_answered_by_another_server_is_unknown_and_not_repeated(answer: bytes) -> None:
    """By REST: keys are written once; requests about nodes and faults are retried, and unknown without a confirmation."""
    for name, write in WRITES.items():
        with BadServer("rest", answer) as first, BadServer("rest", answer) as second:
            with Client([], apis=[first.address, second.address], timeout_s=2) as barge, pytest.raises(BargeError) as caught:
                write(barge)
            assert (name, caught.value.code, caught.value.applied) == (name, "outcome_unknown", None)
            assert len(first.asked) + len(second.asked) == 1
    for name, change in CHANGES.items():
        with BadServer("rest", answer) as first, Client([], apis=[first.address, nobody()], nodes_timeout_s=2) as barge:
            with pytest.raises(BargeError) as caught:
                change(barge)
            assert (name, caught.value.code, caught.value.applied) == (name, "outcome_unknown", None)


@pytest.mark.parametrize("answer", [answer for name, answer in FOREIGN.items() if "204" not in name], ids=lambda _: "")
def test_a_read_answered_by_another_server_is_an_error(answer: bytes) -> None:
    """Whatever it is; and nothing else than BargeError comes out."""
    for name in ("get", "items"):
        with BadServer("rest", answer) as first, Client([], apis=[first.address], timeout_s=2) as barge:
            with pytest.raises(BargeError) as caught:
                READS[name](barge)
            assert caught.value.applied is False


def test_other_reads_of_a_page_are_errors_of_ours() -> None:
    """Of nodes and faults, too."""
    for read in READS.values():
        page = BadServer("rest", FOREIGN["a page"])
        with page, Client([], apis=[page.address]) as barge, pytest.raises(BargeError, match="not as a Barge daemon would"):
            read(barge)


@pytest.mark.parametrize("status", [404, 500])
def test_an_answer_nested_deeper_than_python_recurses_is_another_servers(status: int) -> None:
    """A decoder raises RecursionError for it, which is no ValueError: where keys are read, and where a backup is."""
    deep = http(status, b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}")
    for ask in (READS["get"], lambda barge: barge.admin.download("/snapshot", len, timeout_s=2)):
        with BadServer("rest", deep) as server, Client([], apis=[server.address], timeout_s=2) as barge:
            with pytest.raises(BargeError) as caught:
                ask(barge)
            assert caught.value.applied is False


@pytest.mark.parametrize("status", sorted(BEFORE))
def test_a_refusal_by_a_proxy_that_passes_nothing_on_is_certain(status: int) -> None:
    """As a wrong login, a body too large, too many requests: it never reached a daemon."""
    for call in (WRITES["put"], WRITES["delete"], CHANGES["kill"]):
        with BadServer("rest", http(status)) as first, Client([], apis=[first.address]) as barge:
            with pytest.raises(BargeError) as caught:
                call(barge)
            assert (caught.value.code, caught.value.applied) == (BEFORE[status], False)


@pytest.mark.parametrize(
    "address", ["nowhere", ":8101", "x:y", "::1:80", "[::g]:80", "a..b:80", "http://x:1", "1.2.3:1", "x:99999", "\x00:1"]
)
def test_a_redirection_to_what_is_no_address_is_as_one_to_nobody(address: str) -> None:
    """The next node is asked; a write that was refused was not applied."""
    refusal = (
        json.dumps(
            {"id": 1, "ok": False, "error": "not_leader", "detail": "", "applied": False, "leader": 1, "address": address}
        ).encode()
        + b"\n"
    )
    with (
        BadServer("native", refusal) as first,
        BadServer("native", b'{"id":1,"ok":true,"key":"a","index":3,"term":1}\n') as second,
    ):
        with Client([first.address, second.address], timeout_s=5) as barge:
            assert barge.put("a", "1").index == 3
        assert len(first.asked) == len(second.asked) == 1
    with BadServer("native", refusal) as first, Client([first.address], timeout_s=0.2) as barge:
        with pytest.raises(BargeError) as caught:
            barge.put("a", "1")
        assert (caught.value.code, caught.value.applied) == ("no_leader", False)


def test_a_change_that_one_lost_and_another_refuses_is_unknown() -> None:
    """The first may have killed the node; that the second one says no does not take it back."""
    with BadServer("rest", b"") as first, BadServer("rest", problem("bad_request", 400)) as second:
        with Client([], apis=[first.address, second.address]) as barge, pytest.raises(BargeError) as caught:
            barge.kill(0)
        assert (caught.value.code, caught.value.applied) == ("outcome_unknown", None)
        assert second.asked
    good = http(200, b'{"id":0,"state":"killed","changed":false}')
    first, second = BadServer("rest", b""), BadServer("rest", good)
    with first, second, Client([], apis=[first.address, second.address]) as barge:
        assert barge.kill(0) is False


def test_a_daemons_own_error_counts_also_with_another_status() -> None:
    """A proxy that turns 503 into 500 keeps the body: the code counts."""
    for status in (500, 502, 503):
        with BadServer("rest", problem("no_leader", status)) as first, Client([], apis=[first.address]) as barge:
            with pytest.raises(BargeError) as caught:
                barge.put("a", "1")
            assert (caught.value.code, caught.value.applied) == ("no_leader", False)


NATIVE: Final[dict[str, bytes]] = {
    "no JSON": b"HTTP/1.1 400 Bad Request\r\n",
    "no id": b'{"ok":true,"key":"a","index":1,"term":1}\n',
    "another's key": b'{"id":1,"ok":true,"key":"b","index":1,"term":1,"deleted":true,"value":"x"}\n',
    "no entry": b'{"id":1,"ok":true,"key":"a","index":0,"term":1,"deleted":true,"value":7}\n',
    "no index": b'{"id":1,"ok":true,"key":"a"}\n',
    "an error that we do not know": b'{"id":1,"ok":false,"error":"teapot","detail":"","applied":false}\n',
    "an error that contradicts itself": b'{"id":1,"ok":false,"error":"no_leader","detail":"","applied":null}\n',
    "a goodbye": b'{"id":null,"ok":false,"error":"overloaded","detail":"idle","applied":false}\n',
    "half a line": b'{"id":1,"ok":tr',
    "bytes that are no UTF-8": b'{"id":1,"ok":true,"key":"\xff","index":1,"term":1}\n',
    "a cut connection": b"",
}


@pytest.mark.parametrize("answer", NATIVE.values(), ids=NATIVE)
def test_a_line_that_is_no_answer_leaves_a_write_unknown(answer: bytes) -> None:
    """Over the client protocol; a read is asked again, and ends with no leader."""
    for write in WRITES.values():
        with BadServer("native", answer) as first, Client([first.address], timeout_s=1) as barge:
            with pytest.raises(BargeError) as caught:
                write(barge)
            assert (caught.value.code, caught.value.applied) == ("outcome_unknown", None)
            assert len(first.asked) == 1
    with BadServer("native", answer) as first, Client([first.address], timeout_s=0.2) as barge:
        with pytest.raises(BargeError) as caught:
            barge.get("a")
        assert (caught.value.code, caught.value.applied) == ("no_leader", False)


@pytest.mark.parametrize("way", ["native", "rest"])
@pytest.mark.parametrize("key", ["x/1", "p"])
def test_a_list_of_other_keys_than_those_asked_for_is_refused(way: Any, key: str) -> None:
    """Without the prefix, or not behind `after`."""
    found = {"items": [{"key": key, "index": 1, "value": "x"}], "next": None, "index": 1}
    line = json.dumps({"id": 1, "ok": True, **found}).encode() + b"\n"
    with BadServer(way, line if way == "native" else http(200, json.dumps(found).encode())) as server:
        addresses, apis = ([server.address], []) if way == "native" else ([], [server.address])
        with Client(addresses, apis=apis, timeout_s=0.3) as barge, pytest.raises(BargeError):
            barge.items("p", after="p")
