"""The fast lane answers as hypercorn does: the same bytes to a server with a lane and one without, one request at a time.

Status line, headers, body, the connection's fate, what the cluster executed and what the metrics count are equal. Only the order
of headers and `date` may differ. Odd framing is in test_two_lanes_framing.py, pipelines in test_two_lanes_pipelines.py.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from trio.testing import MockClock

from bargetrio.protocol.limits import KEY_BYTES, VALUE_BYTES
from bargetrio.web.plain_requests import BODY_BYTES
from tests.web.two_servers import HOST, JSON, PLAIN, PROBE, TOKEN, TwoServers, delete, get, put, request, two_servers

TAG = 'If-Match: "1"'
"""Of the key "kept"."""
FILL = put("kept", "früh") + put("bytes", b"\x00\xff\xfe") + put("empty", "") + put("large", b"x" * 200_000)


@pytest.fixture
async def both(tmp_path: Path) -> AsyncIterator[TwoServers]:
    async with two_servers(tmp_path) as both:
        filled = await both.same(FILL)
        assert filled.statuses == [201] * 4
        yield both


READS: dict[str, tuple[bytes, int]] = {
    "json": (get("kept"), 200),
    "bytes as json": (get("bytes"), 200),
    "bytes as text": (get("bytes", "Accept: text/plain"), 200),
    "text as bytes": (get("kept", "Accept: application/octet-stream"), 200),
    "text": (get("kept", "Accept: text/plain"), 200),
    "accept with weights": (get("kept", "Accept: application/json;q=0.1, text/plain;q=0.9"), 200),
    "accept twice": (get("kept", "Accept: text/html", "Accept: text/plain"), 200),
    "accept anything": (get("kept", "Accept: */*"), 200),
    "accept unknown": (get("kept", "Accept: image/png"), 200),
    "accept nonsense": (get("kept", "Accept: ;;,,q=x"), 200),
    "accept nothing": (get("kept", "Accept:"), 200),
    "accept beyond ASCII": (get("kept", b"Accept: \xff\xfe"), 200),
    "empty": (get("empty"), 200),
    "empty as text": (get("empty", "Accept: text/plain"), 200),
    "large": (get("large"), 200),
    "large as text": (get("large", "Accept: text/plain"), 200),
    "missing": (get("missing"), 404),
    "missing if-match": (get("missing", "If-Match: *"), 412),
    "missing if-none-match": (get("missing", "If-None-Match: *"), 404),
    "fresh": (get("kept", 'If-None-Match: "1"'), 304),
    "fresh weak": (get("kept", 'If-None-Match: W/"1"'), 304),
    "fresh any": (get("kept", "If-None-Match: *"), 304),
    "fresh in a list": (get("kept", 'If-None-Match: "x","y,z",W/"1"'), 304),
    "fresh in two lines": (get("kept", 'If-None-Match: "x"', 'If-None-Match: "1"'), 304),
    "fresh with spaces behind": (get("kept", 'If-None-Match: \t "1" \t '), 304),
    "stale tag": (get("kept", 'If-None-Match: "x"'), 200),
    "bad tag": (get("kept", "If-None-Match: 7"), 400),
    "no tag": (get("kept", "If-None-Match: "), 400),
    "matches": (get("kept", TAG), 200),
    "matches any": (get("kept", "If-Match: *"), 200),
    "matches in a list": (get("kept", 'If-Match: "x", "1"'), 200),
    "weak never matches": (get("kept", 'If-Match: W/"1"'), 412),
    "matches not": (get("kept", 'If-Match: "x"'), 412),
    "bad match": (get("kept", "If-Match: x"), 400),
    "both conditions": (get("kept", TAG, 'If-None-Match: "1"'), 304),
    "tag beyond ASCII": (get("kept", b'If-None-Match: "\xe9"'), 200),
    "linearizable": (get("kept?read=linearizable"), 200),
    "lease": (get("kept?read=lease"), 200),
    "stale": (get("kept?read=stale"), 200),
    "stale, percent-encoded": (get("kept?re%61d=st%61le"), 200),
    "bad level": (get("kept?read=dirty"), 400),
    "no level": (get("kept?read"), 400),
    "level twice": (get("kept?read=stale&read=stale"), 400),
    "unknown parameter": (get("kept?limit=1"), 400),
    "bad percent in the query": (get("kept?read=%zz"), 400),
    "query not UTF-8": (get("kept?read=%FF"), 400),
    "NUL in the query": (get("kept?read=%00"), 400),
    "empty query": (get("kept?"), 200),
    "only ampersands": (get("kept?&&"), 200),
    "fragment in the query": (get("kept?read=stale#x"), 400),
    "question mark in the query": (get("kept?read=stale?"), 400),
    "range": (get("kept", "Range: bytes=0-1", 'If-Range: "1"'), 200),
    "date": (get("kept", "If-Modified-Since: Sat, 29 Oct 1994 19:43:31 GMT"), 200),
    "date of a write": (get("kept", "If-Unmodified-Since: Sat, 29 Oct 1994 19:43:31 GMT"), 200),
    "prefer": (get("kept", "Prefer: return=minimal", "X-Anything: 1"), 200),
    "content type twice": (get("kept", PLAIN, PLAIN), 400),
    "encoding": (get("kept", "Content-Encoding: gzip"), 415),
    "encoding of none": (get("kept", "Content-Encoding: identity"), 200),
    "content range": (get("kept", "Content-Range: bytes 0-1/2"), 400),
    "method override": (get("kept", "X-HTTP-Method-Override: DELETE"), 400),
    "last event": (get("kept", "Last-Event-ID: 1", "Last-Event-ID: 1"), 400),
    "nobody leads": (get("fails/alone"), 503),
    "busy": (get("fails/busy"), 503),
    "unknown outcome": (get("fails/unknown"), 504),
    "disk": (get("fails/disk"), 504),
    "head": (request("HEAD", "/keys/kept"), 200),
    "head of missing": (request("HEAD", "/keys/missing"), 404),
    "options": (request("OPTIONS", "/keys/kept"), 204),
    "options of all": (request("OPTIONS", "*"), 204),
    "post": (request("POST", "/keys/kept", JSON, body=b'{"value":"x"}'), 405),
    "patch": (request("PATCH", "/keys/kept"), 405),
    "other method": (request("BREW", "/keys/kept"), 405),
    "list": (request("GET", "/keyss"), 404),
}

WRITES: dict[str, tuple[bytes, int]] = {
    "new": (put("new"), 201),
    "again": (put("kept"), 200),
    "no type": (request("PUT", "/keys/new", body=b"v"), 201),
    "form": (request("PUT", "/keys/new", "Content-Type: application/x-www-form-urlencoded", body=b"v"), 201),
    "html": (request("PUT", "/keys/new", "Content-Type: text/html; charset=UTF-8", body=b"v"), 201),
    "latin-1": (request("PUT", "/keys/new", "Content-Type: text/plain; charset=latin1", body=b"v"), 415),
    "image": (request("PUT", "/keys/new", "Content-Type: image/png", body=b"v"), 415),
    "two types in a line": (request("PUT", "/keys/new", "Content-Type: text/plain, text/plain", body=b"v"), 400),
    "two types": (request("PUT", "/keys/new", PLAIN, PLAIN, body=b"v"), 400),
    "bytes": (request("PUT", "/keys/new", "Content-Type: application/octet-stream", body=b"\xff\x00"), 201),
    "bytes as text": (put("new", b"\xff\x00"), 201),
    "empty": (put("new", "", "Content-Length: 0"), 201),
    "no body": (put("new", ""), 201),
    "value": (request("PUT", "/keys/new", JSON, body=b'{"value":"x"}'), 201),
    "value_b64": (request("PUT", "/keys/new", JSON, body=b'{"value_b64":"AP8="}'), 201),
    "value_b64 of text": (request("PUT", "/keys/new", JSON, body=b'{"value_b64":"YQ=="}'), 201),
    "bad value_b64": (request("PUT", "/keys/new", JSON, body=b'{"value_b64":"AP8"}'), 400),
    "both values": (request("PUT", "/keys/new", JSON, body=b'{"value":"x","value_b64":"AP8="}'), 400),
    "neither value": (request("PUT", "/keys/new", JSON, body=b"{}"), 400),
    "no json": (request("PUT", "/keys/new", JSON, body=b"{"), 400),
    "no json at all": (request("PUT", "/keys/new", JSON), 400),
    "json with a number": (request("PUT", "/keys/new", JSON, body=b'{"value":1}'), 400),
    "json with an unknown name": (request("PUT", "/keys/new", JSON, body=b'{"value":"x","if_index":1}'), 400),
    "json with a name twice": (request("PUT", "/keys/new", JSON, body=b'{"value":"x","value":"y"}'), 400),
    "json not UTF-8": (request("PUT", "/keys/new", JSON, body=b'{"value":"\xff"}'), 400),
    "json too deep": (request("PUT", "/keys/new", JSON, body=b"[" * 3000), 400),
    "largest body of the lane": (put("new", b"x" * BODY_BYTES), 201),
    "larger": (put("new", b"x" * (BODY_BYTES + 1)), 201),
    "largest value": (put("new", b"x" * VALUE_BYTES), 201),
    "too large": (put("new", b"x" * (VALUE_BYTES + 1)), 413),
    "too large as json": (request("PUT", "/keys/new", JSON, body=b'{"value":"%b"}' % (b"x" * (VALUE_BYTES + 1))), 413),
    "if new, it is": (put("new", "v", "If-None-Match: *"), 201),
    "if new, it is not": (put("kept", "v", "If-None-Match: *"), 412),
    "if new, by index": (put("new", "v", 'If-Match: "0"'), 201),
    "if new with a tag": (put("new", "v", 'If-None-Match: "1"'), 400),
    "if unchanged": (put("kept", "v", TAG), 200),
    "if unchanged, it is not": (put("kept", "v", 'If-Match: "7777"'), 412),
    "if unchanged, missing": (put("new", "v", TAG), 412),
    "weak tag": (put("kept", "v", 'If-Match: W/"1"'), 412),
    "any tag": (put("kept", "v", "If-Match: *"), 400),
    "list of tags": (put("kept", "v", 'If-Match: "1", "2"'), 400),
    "tags in two lines": (put("kept", "v", TAG, 'If-Match: "2"'), 400),
    "no quotes": (put("kept", "v", "If-Match: 1"), 400),
    "no index": (put("kept", "v", 'If-Match: "abc"'), 400),
    "leading zeros": (put("kept", "v", 'If-Match: "001"'), 400),
    "empty tag": (put("kept", "v", "If-Match: "), 400),
    "huge index": (put("kept", "v", f'If-Match: "{10**30}"'), 400),
    "both conditions": (put("kept", "v", TAG, "If-None-Match: *"), 400),
    "date": (put("kept", "v", "If-Unmodified-Since: Sat, 29 Oct 1994 19:43:31 GMT"), 400),
    "part": (put("kept", "v", "Content-Range: bytes 0-1/2"), 400),
    "encoding": (put("kept", "v", "Content-Encoding: gzip"), 415),
    "encoding twice": (put("kept", "v", "Content-Encoding: identity", "Content-Encoding: identity"), 415),
    "encoding of none": (put("kept", "v", "Content-Encoding: Identity"), 200),
    "override": (put("kept", "v", "X-Method-Override: GET"), 400),
    "query": (put("kept?read=stale"), 400),
    "busy": (put("fails/busy"), 503),
    "nobody leads": (put("fails/alone"), 503),
    "unknown outcome": (put("fails/unknown"), 504),
    "disk": (put("fails/disk"), 504),
    "removed": (delete("kept"), 204),
    "removed if unchanged": (delete("kept", TAG), 204),
    "removed if unchanged, it is not": (delete("kept", 'If-Match: "9"'), 412),
    "removed if new": (delete("kept", "If-None-Match: *"), 412),
    "missing": (delete("missing"), 404),
    "missing if new": (delete("missing", "If-None-Match: *"), 404),
    "missing if unchanged": (delete("missing", TAG), 412),
    "missing by index": (delete("missing", 'If-Match: "0"'), 404),
    "removed with a weak tag": (delete("kept", 'If-Match: W/"1"'), 412),
    "removed if any": (delete("kept", "If-Match: *"), 400),
    "removed with a body": (delete("kept", "Content-Length: 2") + b"{}", 400),
    "removed with an empty body": (delete("kept", "Content-Length: 0"), 204),
    "removed with a type": (delete("kept", JSON), 204),
    "removal that is busy": (delete("fails/busy"), 503),
    "removal of unknown outcome": (delete("fails/unknown"), 504),
    "removed with a query": (delete("kept?read=stale"), 400),
}

KEYS: dict[str, int] = {
    "a%2Fb": 201,
    "a/b//c": 201,
    "/lead": 201,
    "a/": 201,
    "a/../b": 201,
    ".": 201,
    "..": 201,
    "a;v=1": 201,
    "a+b": 201,
    "a%20b%25c": 201,
    "a%0Ab": 201,
    "%E6%97%A5%E6%9C%AC": 201,
    "%ef%bf%bd": 201,
    "a%3Fx": 201,
    "a%23x": 201,
    "!$&'()*,:@~-_": 201,
    'a"<>\\^`{|}': 201,
    "[]": 201,
    "http://other.test/x": 201,
    "": 400,
    "%00": 400,
    "a%00b": 400,
    "%FF": 400,
    "%C0%AF": 400,
    "%ED%A0%80": 400,
    "a%": 400,
    "a%2": 400,
    "a%zz": 400,
    "a#b": 400,
    "#": 400,
    "x" * KEY_BYTES: 201,
    "x" * (KEY_BYTES + 1): 400,
    "%41" * KEY_BYTES: 201,
    "%C3%A9" * (KEY_BYTES // 2): 201,
    "%C3%A9" * (KEY_BYTES // 2) + "x": 400,
    "x" * 15_000: 400,
}

TARGETS: dict[str, int] = {
    "/%6beys/kept": 200,
    "/keys%2Fkept": 404,
    "//keys/kept": 404,
    "/keys//kept": 404,
    "/KEYS/kept": 404,
    "/keys": 200,
    "keys/kept": 400,
    "*": 400,
    f"http://{HOST}/keys/kept": 200,
    f"HTTPS://{HOST.upper()}/keys/kept": 200,
    "http://other.test/keys/kept": 403,
    f"http://user@{HOST}/keys/kept": 403,
    f"ftp://{HOST}/keys/kept": 400,
    "/keys/kept" + "?" * 16_384: 414,
    "/keys/" + "x" * 40_000: 414,
    "/keys/kept?" + "&" * 15_000: 200,
}

GUARDED: dict[str, tuple[list[str | bytes], int]] = {
    "own origin": (["Origin: http://barge.test"], 200),
    "own origin, secure": (["Origin: https://BARGE.test"], 200),
    "foreign origin": (["Origin: http://foreign.test"], 403),
    "null origin": (["Origin: null"], 403),
    "no origin": (["Origin:"], 403),
    "origin twice": (["Origin: http://barge.test", "Origin: http://barge.test"], 403),
    "same site": (["Sec-Fetch-Site: same-site"], 200),
    "cross site": (["Sec-Fetch-Site: cross-site"], 403),
    "cross site, shouted": (["SEC-FETCH-SITE:  Cross-Site "], 403),
    "site twice": (["Sec-Fetch-Site: none", "Sec-Fetch-Site: none"], 403),
    "our cluster": (["Barge-Cluster: barge"], 200),
    "our cluster, encoded": (["Barge-Cluster: b%61rge"], 200),
    "another cluster": (["Barge-Cluster: other"], 403),
    "no cluster": (["Barge-Cluster: "], 403),
    "cluster twice": (["Barge-Cluster: barge", "Barge-Cluster: barge"], 403),
    "cluster beyond ASCII": ([b"Barge-Cluster: \xff"], 403),
    "cluster badly encoded": (["Barge-Cluster: %zz%FF"], 403),
    "host twice": (["Host: barge.test"], 400),
    "two hosts": (["host: other.test"], 400),
    "authorization twice, none needed": (["Authorization: x", "Authorization: x"], 401),
    "authorization, none needed": (["Authorization: x"], 200),
}


@pytest.mark.parametrize("name", READS)
async def test_a_read(autojump_clock: MockClock, both: TwoServers, name: str) -> None:
    """docs/rest.md, "Keys and values"."""
    data, status = READS[name]
    assert (await both.same(data, then=PROBE)).statuses[0] == status


@pytest.mark.parametrize("name", WRITES)
async def test_a_write(autojump_clock: MockClock, both: TwoServers, name: str) -> None:
    """And what is read afterwards."""
    data, status = WRITES[name]
    assert (await both.same(data, then=PROBE)).statuses[0] == status
    for key in ("new", "kept"):
        await both.same(get(key))


async def test_keys(autojump_clock: MockClock, both: TwoServers) -> None:
    """docs/rest.md, "Request targets": everything behind /keys/ is the key."""
    for key, status in KEYS.items():
        told = await both.same(put(key) + get(key) + get(key, "Accept: text/plain") + delete(key))
        expected = [201, 200, 200, 204] if status == 201 else [status] * 4
        assert told.statuses == expected, key[:100]


async def test_targets(autojump_clock: MockClock, both: TwoServers) -> None:
    """Other ways to a key, and targets that are none."""
    for target, status in TARGETS.items():
        told = await both.same(request("GET", target), then=PROBE)
        assert told.statuses[0] == status, target[:100]


@pytest.mark.parametrize("name", GUARDED)
async def test_what_the_guard_looks_at(autojump_clock: MockClock, both: TwoServers, name: str) -> None:
    """docs/rest.md, "Who may ask", of each method; what is refused does nothing."""
    lines, status = GUARDED[name]
    for data, good in ((get("kept", *lines), 200), (put("kept", "w", *lines), 200), (delete("kept", *lines), 204)):
        assert (await both.same(data, then=PROBE)).statuses[0] == (good if status == 200 else status)


async def test_hosts(autojump_clock: MockClock, both: TwoServers) -> None:
    """Only a known name."""
    for host, status in (("BARGE.TEST", 200), ("other.test", 403), ("", 400), (f"{HOST}:80", 403), (" ", 403), (f"{HOST}.", 403)):
        for method in ("GET", "PUT", "DELETE"):
            told = await both.same(request(method, "/keys/missing", host=host), then=PROBE)
            assert (told.statuses[0] < 400 or told.statuses[0] == 404) if status == 200 else told.statuses[0] == status, host
        await both.same(delete("missing"))


async def test_a_token(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Without it nothing is done but the probes."""
    right = f"Authorization: Bearer {TOKEN.decode()}"
    async with two_servers(tmp_path, token=TOKEN) as both:
        for lines, status in (
            ([], 401),
            (["Authorization: "], 401),
            (["Authorization: Bearer wrong"], 401),
            (["Authorization: bearer secret"], 401),
            (["Authorization: Basic c2VjcmV0"], 401),
            ([right + "x"], 401),
            ([right, right], 401),
            ([right], 200),
            ([right + " \t"], 200),
            ([right, "Origin: http://foreign.test"], 403),
        ):
            for data, good in ((put("a", "v", *lines), 201), (get("a", *lines), 200), (delete("a", *lines), 204)):
                told = await both.same(data + request("GET", "/livez"), then=PROBE)
                assert told.statuses[0] == (good if status == 200 else status), lines
