"""Bulk writes as they are meant to be used: tens of thousands of lines, bad ones between, a leader that dies in the middle."""

import http.client
import json
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from bargetrio.protocol.limits import LINE_BYTES
from bargetrio.web.bulk import BATCH_BYTES, BATCH_LINES, batches_of
from tests.stories.daemon import Daemon, running

NDJSON = {"Content-Type": "application/x-ndjson"}
BAD: tuple[tuple[bytes, str, str], ...] = (
    (b"this is not JSON", "bad_request", "malformed"),
    (b'{"value":"x"}', "bad_request", "key"),
    (b'["key","value"]', "bad_request", "object"),
    (b'{"key":"\xff","value":"x"}', "bad_request", "UTF-8"),
    (b'{"key":"%s","value":"x"}' % (b"k" * 1025), "bad_request", "1024"),
    (b'{"key":"large","value":"%s"}' % (b"v" * (1024 * 1024 + 1)), "bad_request", "1048576"),
    (b'{"key":"changed","value":"x","if_index":4711}', "precondition_failed", ""),
    (b"[" * 40, "bad_request", "deep"),
)
"""A line that must be refused, the error's code, and a word in its detail."""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with running(tmp_path_factory.mktemp("bulk")) as daemon:
        yield daemon


def bulk(daemon: Daemon, lines: list[bytes]) -> list[Any]:
    """Send everything, then read everything, as most HTTP libraries do; return the answers by line."""
    answer = daemon.http("POST", "/keys", b"\n".join(lines), NDJSON, timeout=60)
    assert answer.status == 200
    return by_line(answer.body)


def bulk_as_curl_does(daemon: Daemon, lines: list[bytes]) -> list[Any]:
    """Read while sending; return the answers by line."""
    body = b"\n".join(lines)
    host, _, port = daemon.api.partition(":")
    head = (
        f"POST /keys HTTP/1.1\r\nHost: {daemon.api}\r\nContent-Type: application/x-ndjson\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection((host, int(port)), 60) as sock:
        sending = threading.Thread(target=sock.sendall, args=(head.encode() + body,))
        sending.start()
        response = http.client.HTTPResponse(sock)
        response.begin()
        told = response.read()
        sending.join(10)
    return by_line(told)


def by_line(body: bytes) -> list[Any]:
    """Return the answers in the order of their lines."""
    return sorted((json.loads(line) for line in body.splitlines()), key=lambda told: int(told["line"]))


def stored(daemon: Daemon, prefix: str) -> dict[str, int]:
    """Return every key that begins so, with its index."""
    found: dict[str, int] = {}
    after: str | None = ""
    while after is not None:
        page = daemon.http("GET", f"/keys?keys_only=1&limit=1000&prefix={prefix}&after={after}").json
        found.update({item["key"]: item["index"] for item in page["items"]})
        after = page["next"]
    return found


def wait_for_commits(daemon: Daemon, node_id: int, count: int) -> None:
    """Return when the node has committed `more` entries more."""
    end = daemon.node(node_id)["commit_index"] + count
    daemon.wait_for(lambda: daemon.node(node_id)["commit_index"] >= end, f"{count} commits", 30)


def test_forty_thousand_lines(daemon: Daemon) -> None:
    """Each is answered once, by its number, and is in the store with the index of the answer."""
    told = bulk(daemon, [b'{"key":"long/%d","value":"%064d"}' % (number, number) for number in range(40_000)])
    assert [line["line"] for line in told] == list(range(1, 40_001))
    assert all(line["ok"] for line in told)
    assert stored(daemon, "long/") == {f"long/{line['line'] - 1}": line["index"] for line in told}
    assert daemon.get("long/31415").json["value"] == f"{31415:064}"


def test_bad_lines_between_thousands_of_good_ones(daemon: Daemon) -> None:
    """Each bad line has an error of its own and spoils no other; an empty line is none."""
    lines = [b'{"key":"good/%d","value":"x"}' % number for number in range(4000)]
    for place, (line, _, _) in enumerate(BAD):
        lines[500 * place + 7] = line
    lines[100] = b""
    lines[200] = b"  \r"
    told = {line["line"]: line for line in bulk(daemon, lines)}
    assert set(range(1, 4001)) - set(told) == {101, 201}
    for place, (_, code, word) in enumerate(BAD):
        line = told[500 * place + 8]
        assert (line["ok"], line["error"], line["applied"]) == (False, code, False)
        assert word in line["detail"], line
    assert Counter(line["ok"] for line in told.values()) == {True: 3998 - len(BAD), False: len(BAD)}
    assert len(stored(daemon, "good/")) == 3998 - len(BAD)
    assert daemon.get("large").status == daemon.get("changed").status == 404


def test_a_line_that_is_too_long_ends_the_reading(daemon: Daemon) -> None:
    """The beginning of the next line is not known; earlier lines are answered, and so is the long one."""
    long = b'{"key":"long","value":"%s"}' % (b"v" * LINE_BYTES)
    lines = [b'{"key":"before","value":"x"}', long, b'{"key":"c","value":"x"}']
    connection = http.client.HTTPConnection(daemon.api, timeout=20)
    connection.request("POST", "/keys", b"\n".join(lines), NDJSON)
    told = [json.loads(line) for line in connection.getresponse().read().splitlines()]
    connection.close()
    assert sorted((line["line"], line["ok"]) for line in told) == [(1, True), (2, False)]
    assert daemon.get("c").status == 404


def test_a_leader_that_dies_under_a_bulk_write_loses_and_doubles_nothing(daemon: Daemon) -> None:
    """BUG-47, by the line: ok is in the store at its index and nowhere else, unknown may be, not applied is not."""
    lines = [b'{"key":"killed/%d","value":"%064d"}' % (number, number) for number in range(80_000)]
    found: list[Any] = []
    sending = threading.Thread(target=lambda: found.extend(bulk_as_curl_does(daemon, lines)))
    sending.start()
    for _ in range(2):
        leader = daemon.leader()
        wait_for_commits(daemon, leader, 3_000)
        daemon.kill_node(leader)
        daemon.leader()
        daemon.revive_node(leader)
    sending.join(60)
    assert [line["line"] for line in found] == list(range(1, 80_001))
    kept = stored(daemon, "killed/")
    known = {f"killed/{line['line'] - 1}": line["index"] for line in found if line["ok"]}
    assert {key: kept.get(key) for key in known} == known
    lost = {f"killed/{line['line'] - 1}" for line in found if not line["ok"] and line["applied"] is False}
    assert not lost & set(kept)
    assert {line["error"] for line in found if not line["ok"]} <= {"outcome_unknown", "no_leader", "overloaded"}
    assert len(known) > 30_000


def test_a_batch_is_bounded_in_lines_and_in_bytes() -> None:
    """500 lines of 1 MiB would be 500 MiB, and 16 such batches of a request wait; a longer line goes alone."""
    random = Random(1)
    for _ in range(300):
        lines = [bytes(random.choice((0, 10, 100_000, BATCH_BYTES - 10, 2 * BATCH_BYTES))) for _ in range(random.randint(0, 12))]
        found = list(batches_of(lines))
        assert [line for batch, _ in found for line in batch] == lines
        assert all(size == sum(map(len, batch)) for batch, size in found)
        assert all(size <= BATCH_BYTES or len(batch) == 1 for batch, size in found)
    assert [len(batch) for batch, _ in batches_of([b"x"] * (2 * BATCH_LINES + 1))] == [BATCH_LINES, BATCH_LINES, 1]


def test_long_lines_are_carried_a_few_megabytes_at_a_time(daemon: Daemon) -> None:
    """All of them arrive, each with its answer."""
    lines = [b'{"key":"long/%d","value":"%s"}' % (number, b"v" * 700_000) for number in range(24)]
    answers = bulk(daemon, lines)
    assert [answer["ok"] for answer in answers] == [True] * 24
    assert len(daemon.http("GET", "/keys/long/23").body) >= 700_000
