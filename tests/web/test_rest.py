"""REST of a real daemon, route by route, as curl and programs use it."""

import http.client
import json
import re
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from bargetrio.web.routes import ROUTES
from tests.stories.daemon import Daemon, running

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with running(tmp_path_factory.mktemp("rest")) as daemon:
        yield daemon


def test_a_key_is_written_read_changed_and_removed(daemon: Daemon) -> None:
    """PUT, GET, DELETE, with the index as ETag."""
    created = daemon.put("a", "1")
    assert (created.status, created.json["key"]) == (201, "a")
    assert created.headers["etag"] == f'"{created.json["index"]}"'
    changed = daemon.put("a", "2")
    assert changed.status == 200
    read = daemon.get("a")
    assert read.json == {"key": "a", "index": changed.json["index"], "value": "2"}
    assert read.headers["barge-index"] == str(changed.json["index"])
    assert read.headers["barge-leader"] == str(daemon.leader())
    assert daemon.http("DELETE", "/keys/a").status == 204
    assert daemon.get("a").status == 404


def test_an_answer_without_a_body_states_no_length_and_no_type_of_one(daemon: Daemon) -> None:
    """RFC 9110, 8.6: none in a 204, and in a 304 only that of the 200 in its place."""
    tag = daemon.put("bare", "1").headers["etag"]
    fresh = daemon.http("GET", "/keys/bare", headers={"If-None-Match": tag})
    assert (fresh.status, fresh.body, fresh.headers["etag"]) == (304, b"", tag)
    removed = daemon.http("DELETE", "/keys/bare")
    assert (removed.status, removed.body) == (204, b"")
    for answer in (fresh, removed):
        assert not answer.headers.keys() & {"content-length", "content-type", "transfer-encoding"}


def test_raw_values_come_back_as_they_went_in(daemon: Daemon) -> None:
    """Text, bytes that are not UTF-8, nothing at all; with Accept: text/plain, as JSON with value_b64."""
    for key, value in (("text", "zwölf".encode()), ("bytes", b"\x00\xff\xfe"), ("empty", b"")):
        assert daemon.http("PUT", f"/keys/{key}", value, {"Content-Type": "application/octet-stream"}).status == 201
        raw = daemon.http("GET", f"/keys/{key}", headers={"Accept": "text/plain"})
        assert raw.body == value
    assert daemon.get("bytes").json["value_b64"] == "AP/+"
    assert "value" not in daemon.get("bytes").json
    assert daemon.get("empty").json["value"] == ""


def test_json_values(daemon: Daemon) -> None:
    """PUT with a JSON body, POST with a number as key."""
    assert daemon.http("PUT", "/keys/j", '{"value":"x"}', JSON).status == 201
    answer = daemon.http("POST", "/keys", '{"key":100,"value":"Some Value"}', JSON)
    assert (answer.status, answer.json["key"]) == (201, "100")
    assert daemon.get("100").json["value"] == "Some Value"


def test_any_text_can_be_a_key(daemon: Daemon) -> None:
    """Slashes, spaces, percent signs, newlines, other scripts."""
    for path, key in (
        ("a/b//c", "a/b//c"),
        ("a%2Fb", "a/b"),
        ("%2Flead", "/lead"),
        ("a%20b%25c", "a b%c"),
        ("a%0Ab", "a\nb"),
        ("%E6%97%A5%E6%9C%AC", "日本"),
        ("a?x".replace("?", "%3F"), "a?x"),
        ("%EF%BF%BD", "\ufffd"),
    ):
        assert daemon.http("PUT", f"/keys/{path}", "v", {"Content-Type": "text/plain"}).json["key"] == key
        assert daemon.http("GET", f"/keys/{path}").json["key"] == key


def test_compare_and_set(daemon: Daemon) -> None:
    """If-Match, If-None-Match, if_index, if_absent; a failed one changes nothing."""
    first = daemon.put("c", "1", **{"If-None-Match": "*"})
    assert first.status == 201
    assert daemon.put("c", "2", **{"If-None-Match": "*"}).status == 412
    tag = first.headers["etag"]
    second = daemon.put("c", "2", **{"If-Match": tag})
    assert second.status == 200
    lost = daemon.put("c", "3", **{"If-Match": tag})
    assert (lost.status, lost.json["error"], lost.json["applied"]) == (412, "precondition_failed", False)
    assert daemon.http("DELETE", "/keys/c", headers={"If-Match": tag}).status == 412
    body = {"key": "c", "value": "4", "if_index": second.json["index"]}
    assert daemon.http("POST", "/keys", json.dumps(body), JSON).status == 200
    assert daemon.http("POST", "/keys", json.dumps({"key": "c", "value": "5", "if_absent": True}), JSON).status == 412
    assert daemon.get("c").json["value"] == "4"


def test_one_of_many_concurrent_compare_and_set_writes_wins(daemon: Daemon) -> None:
    """20 at once with the same ETag: one 200, nineteen 412."""
    tag = daemon.put("race", "0").headers["etag"]
    codes: list[int] = []
    threads = [
        threading.Thread(target=lambda: codes.append(daemon.put("race", "x", **{"If-Match": tag}).status)) for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(codes) == [200] + [412] * 19


def test_an_unchanged_key_is_not_sent_again(daemon: Daemon) -> None:
    """304 to If-None-Match."""
    tag = daemon.put("n", "1").headers["etag"]
    assert daemon.http("GET", "/keys/n", headers={"If-None-Match": tag}).status == 304
    daemon.put("n", "2")
    assert daemon.http("GET", "/keys/n", headers={"If-None-Match": tag}).status == 200


def test_reads_say_how_they_are_made(daemon: Daemon) -> None:
    """linearizable, lease, stale."""
    daemon.put("r", "1")
    for level in ("linearizable", "lease"):
        assert daemon.http("GET", f"/keys/r?read={level}").json["value"] == "1"
    daemon.wait_for(lambda: daemon.http("GET", "/keys/r?read=stale").status == 200, "a follower to know the key")


def test_keys_are_listed_in_order_page_by_page(daemon: Daemon) -> None:
    """prefix, after, limit, keys_only."""
    for number in range(25):
        daemon.put(f"list/{number:02}", str(number))
    found: list[str] = []
    after = ""
    while True:
        page = daemon.http("GET", f"/keys?prefix=list/&limit=10&after={after}").json
        found += [item["key"] for item in page["items"]]
        assert len(page["items"]) <= 10
        if page["next"] is None:
            break
        after = page["next"]
    assert found == [f"list/{number:02}" for number in range(25)]
    only = daemon.http("GET", "/keys?prefix=list/&keys_only=1&limit=1").json["items"]
    assert only == [{"key": "list/00", "index": only[0]["index"]}]


def test_bulk_writes_stream_both_ways(daemon: Daemon) -> None:
    """Answers come while lines are still being sent; 2,000 lines, all answered."""
    host, port = daemon.api.split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    connection.putrequest("POST", "/keys")
    connection.putheader("Content-Type", "application/x-ndjson")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()

    def chunk(data: bytes) -> None:
        connection.send(b"%x\r\n%b\r\n" % (len(data), data))

    chunk(b'{"key":"bulk/first","value":"1"}\n')
    assert connection.sock is not None
    assert b"200" in connection.sock.recv(15)  # the answer begins before the request has ended
    for number in range(20):
        chunk(b"".join(b'{"key":"bulk/%d","value":"x"}\n' % (100 * number + extra) for extra in range(100)))
    connection.send(b"0\r\n\r\n")
    received = b""
    while not received.endswith(b"0\r\n\r\n"):
        data = connection.sock.recv(65536)
        assert data
        received += data
    connection.close()
    assert received.count(b'"ok":true') == 2001
    assert received.count(b'"ok":false') == 0
    assert daemon.get("bulk/1999").json["value"] == "x"


def test_a_bulk_line_without_newline_at_the_end_counts(daemon: Daemon) -> None:
    """curl --data-binary sends the file as it is; empty lines are no lines."""
    body = b'{"key":"e1","value":"1"}\n\n{"key":"e2","value":"2"}'
    answer = daemon.http("POST", "/keys", body, {"Content-Type": "application/x-ndjson"})
    assert sorted(json.loads(line)["line"] for line in answer.body.splitlines()) == [1, 3]


def test_nodes_report_their_state(daemon: Daemon) -> None:
    """Every field of docs/rest.md; the leader knows its followers' progress."""
    leader = daemon.leader()
    view = daemon.node(leader)
    fields = ("id", "address", "state", "role", "term", "voted_for", "leader", "commit_index", "last_applied")
    assert {*fields, "last_log_index", "last_log_term", "peers"} <= set(view)
    assert (view["role"], view["leader"], view["voted_for"]) == ("leader", leader, leader)
    assert all(peer["connected"] and peer["progress"] == "replicate" for peer in view["peers"])


def test_faults_are_shown_replaced_and_healed(daemon: Daemon) -> None:
    """GET, PUT, DELETE; each change is an event."""
    faults: dict[str, Any] = {"links": [{"from": 0, "to": 1, "delay_ms": 5}]}
    told = daemon.http("PUT", "/faults", json.dumps(faults), JSON).json
    assert told["links"] == [{"from": 0, "to": 1, "cut": False, "drop": 0.0, "delay_ms": 5.0}]
    assert daemon.http("GET", "/faults").json == told
    assert daemon.http("DELETE", "/faults").json == {"groups": [], "links": [], "disks": []}
    texts = [event["detail"]["text"] for event in daemon.events("faults_changed")]
    assert texts[-2:] == ["faults: link 0 → 1: 5 ms late", "all faults healed"]


def test_faults_are_said_once(daemon: Daemon) -> None:
    """What is in force is never longer than the cluster; a name given twice in JSON is ambiguous."""
    link = {"from": 0, "to": 1, "delay_ms": 5}
    disk = {"node": 0, "delay_ms": 5}
    wrongs: list[dict[str, Any]] = [
        {"links": [link] * 100_000},
        {"links": [link, {**link, "cut": True}]},
        {"disks": [disk, disk]},
        {"groups": [[]] * 9},
    ]
    for wrong in wrongs:
        told = daemon.http("PUT", "/faults", json.dumps(wrong), JSON)
        assert (told.status, told.json["applied"]) == (400, False)
        assert len(told.body) < 500
    twice = '{"links":[{"from":0,"to":1,"delay_ms":5,"delay_ms":6}]}'
    assert daemon.http("PUT", "/faults", twice, JSON).status == 400
    unknown = daemon.http("PUT", "/faults", '{"disks":[{"node":9,"delay_ms":5}]}', JSON)
    assert (unknown.status, unknown.json["error"]) == (404, "not_found"), "as a kill of it"
    assert daemon.http("GET", "/faults").json == {"groups": [], "links": [], "disks": []}


@pytest.mark.parametrize(
    "body",
    [
        '{"key":"dup","value":"a","value":"b"}',
        '{"key":"dup","key":"dup2","value":"b"}',
        '{"key":"dup","value":"a","\\u0076alue":"b"}',
        '{"key":"dup","value":"a", "val\\u0075e" : "b"}',
        '{"key":"dup","value":"a","if_absent":true,"if_absent":false}',
    ],
)
def test_a_name_twice_in_json_is_refused(daemon: Daemon, body: str) -> None:
    """One reader takes the first, another the last."""
    assert daemon.http("POST", "/keys", body, JSON).status == 400
    line = daemon.http("POST", "/keys", body, {"Content-Type": "application/x-ndjson"}).json
    assert (line["ok"], line["applied"]) == (False, False)
    assert daemon.http("PUT", "/keys/dup", '{"value":"a","value":"b"}', JSON).status == 400
    assert daemon.get("dup").status == 404


def test_a_value_may_look_like_a_name(daemon: Daemon) -> None:
    """`"value":"value"` is no name twice, nor is JSON in a value."""
    for value in ("value", "key", '{"value":1,"value":2}', "\u00e9\u0041"):
        body = json.dumps({"key": "looks", "value": value})
        assert daemon.http("POST", "/keys", body, JSON).status in (200, 201)
        assert daemon.get("looks").json["value"] == value


def test_events_as_json_are_read_on_from_a_cursor(daemon: Daemon) -> None:
    """`next` misses nothing and repeats nothing."""
    before = daemon.http("GET", "/events?limit=5").json
    daemon.put("cursor", "1")
    daemon.wait_for_event("applied", node=0)
    after = daemon.http("GET", f"/events?after={before['next']}&limit=1000").json
    ids = {event["id"] for event in before["events"]}
    assert after["events"]
    assert not ids & {event["id"] for event in after["events"]}


def test_events_as_a_stream_and_resumed(daemon: Daemon) -> None:
    """Frames with id, event, data; Last-Event-ID resumes after the last one."""

    def frames(last_id: str, wanted: int) -> tuple[list[dict[str, Any]], str]:
        connection = http.client.HTTPConnection(daemon.api, timeout=10)
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last_id} if last_id else {})}
        connection.request("GET", "/events?kind=commit_advanced&node=0", headers=headers)
        response = connection.getresponse()
        assert response.headers["Content-Type"].startswith("text/event-stream")
        found: list[dict[str, Any]] = []
        cursor = ""
        while len(found) < wanted or not cursor:
            line = response.readline().decode()
            if line.startswith("id: "):
                cursor = line[4:].strip()
            elif line.startswith("data: {"):
                found.append(json.loads(line[6:]))
        connection.close()
        return found, cursor

    first, cursor = frames("", 1)
    daemon.put("stream", "1")
    second, _ = frames(cursor, 1)
    assert second[0]["time"] > first[-1]["time"]
    assert {event["kind"] for event in first + second} == {"commit_advanced"}


def test_a_live_stream_goes_on_after_its_last_event_id(daemon: Daemon) -> None:
    """As a browser asks that was cut off: nothing is missing and nothing comes twice."""

    def first_page(headers: dict[str, str]) -> tuple[str, list[str]]:
        stream = http.client.HTTPConnection(daemon.api, timeout=5)
        stream.request("GET", "/events?live=1", headers={"Accept": "text/event-stream", **headers})
        response = stream.getresponse()
        cursor = ""
        while not (line := response.readline()).startswith(b"data: "):
            cursor = line[4:].decode().strip() if line.startswith(b"id: ") else cursor
        stream.close()
        return cursor, [event["id"] for event in json.loads(line[6:])["events"]]

    cursor, before = first_page({})
    daemon.put("live", "1")
    _, after = first_page({"Last-Event-ID": cursor})
    assert after and before
    assert not set(after) & set(before)
    told = [event["id"] for event in daemon.events()]
    assert told[told.index(before[-1]) + 1] == after[0]


def test_the_page_is_not_sent_again_while_nothing_happens(daemon: Daemon) -> None:
    """304 to its tag, heartbeats notwithstanding; the filters work without a script."""
    query = "/log?kind=role_changed&node=0"
    page = daemon.http("GET", query)
    assert page.status == 200
    again = daemon.http("GET", query, headers={"If-None-Match": page.headers["etag"]})
    assert (again.status, again.body) == (304, b"")
    text = page.body.decode()
    assert 'value="role_changed" checked' in text
    assert 'data-kind="vote_granted"' not in text


def test_health(daemon: Daemon) -> None:
    """livez, readyz, status, version."""
    assert daemon.http("GET", "/livez").json == {"live": True}
    daemon.wait_for(lambda: daemon.http("GET", "/readyz").status == 200, "each node to hear the leader")
    assert daemon.http("GET", "/readyz").json == {"ready": True}
    status = daemon.http("GET", "/status").json
    assert (status["leader"], status["nodes"]) == (daemon.leader(), [0, 1, 2])
    assert daemon.http("GET", "/version").json["name"] == "barge"


def test_metrics_in_prometheus_form(daemon: Daemon) -> None:
    """Roles, terms, indices, events, requests by route and status."""
    daemon.get("a")
    text = daemon.http("GET", "/metrics").body.decode()
    leader = daemon.leader()
    assert f'barge_node_role{{node="{leader}",role="leader"}} 1.0' in text
    for name in ("barge_term", "barge_commit_index", "barge_events_total", "barge_http_requests_total", "barge_keys"):
        assert f"# TYPE {name.removesuffix('_total')}" in text
        assert f"\n{name}" in text
    assert 'route="/keys/<key>"' in text


def test_openapi_is_the_table_of_routes(daemon: Daemon) -> None:
    """Every route, and every reference leads somewhere."""
    document = daemon.http("GET", "/openapi.json").json
    paths = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert paths == {(route.method, route.path.replace("<", "{").replace(">", "}")) for route in ROUTES}
    text = json.dumps(document)
    for name in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert name in document["components"]["schemas"]


def test_a_body_of_another_type_is_a_documented_refusal(daemon: Daemon) -> None:
    """Whatever takes a body, or `{}`, says 415 for a text; nothing is done."""
    paths = daemon.http("GET", "/openapi.json").json["paths"]
    tried = []
    for path, operations in paths.items():
        for method in operations.keys() & {"post", "put"} - ({"put"} if path == "/keys/{key}" else set()):  # that takes any text
            answer = daemon.http(method.upper(), path.replace("{id}", "0"), "x", {"Content-Type": "text/plain"})
            assert answer.status == 415, (method, path, answer.body)
            assert "415" in operations[method]["responses"], (method, path)
            tried.append(path)
    nodes = ["/nodes/{id}/kill", "/nodes/{id}/readmit", "/nodes/{id}/revive"]
    assert sorted(tried) == ["/bootstrap", "/faults", "/keys", "/leader", *nodes]
    assert daemon.node(0)["state"] == "running"


def test_the_root_is_the_page_and_all_that_it_needs_is_here(daemon: Daemon) -> None:
    """No file of it comes from elsewhere; the policy would not let it."""
    page = daemon.http("GET", "/")
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert page.headers["content-security-policy"].startswith("default-src 'self';")
    text = page.body.decode()
    assert "style=" not in text and "onclick" not in text and "//" not in text.partition("<body>")[0]
    wanted = re.findall(r'(?:src|href)="(/static/[^"]+)"', text)
    assert len(wanted) > 10
    for path in wanted:
        assert daemon.http("GET", path).status == 200, path


def test_a_live_page_gets_a_summary_of_heartbeats(daemon: Daemon) -> None:
    """Instead of forty events a second: the age of each node's last one."""
    page = daemon.http("GET", "/events?live=1").json
    leader = daemon.leader()
    assert {(beat["node"], beat["peer"]) for beat in page["beats"]} >= {(node, leader) for node in {0, 1, 2} - {leader}}
    assert all(beat["age_ms"] < 1000 for beat in page["beats"])
    assert not any(event["heartbeat"] for event in page["events"])
    assert daemon.http("GET", "/status").json["election_ms"] == [300, 600]


def test_a_live_stream_sends_whole_pages_at_most_ten_a_second(daemon: Daemon) -> None:
    """One JSON object a frame, with the cursor as its id; something at least every two seconds."""
    stream = http.client.HTTPConnection(daemon.api, timeout=5)
    stream.request("GET", "/events?live=1", headers={"Accept": "text/event-stream"})
    response = stream.getresponse()
    began, pages = time.monotonic(), []
    while time.monotonic() - began < 1:
        line = response.readline()
        if line.startswith(b"data: "):
            pages.append(json.loads(line[6:]))
    stream.close()
    assert 2 <= len(pages) <= 11
    assert all(page["next"] and page["beats"] for page in pages)


def test_a_write_whose_leader_is_killed_is_unknown_or_done(daemon: Daemon) -> None:
    """Waiting REST writes get 504 when their node is killed; the others get an answer, and none waits for ever."""
    codes: list[int] = []
    stop = threading.Event()

    def write(number: int) -> None:
        while not stop.is_set():
            codes.append(daemon.put(f"k{number}", "x").status)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        leader = daemon.leader()
        daemon.kill_node(leader)
        daemon.revive_node(leader)
        daemon.wait_for(daemon.caught_up, "the cluster to catch up")
    stop.set()
    for thread in threads:
        thread.join(15)
    assert set(codes) <= {200, 201, 504}
    assert codes.count(200) > 10
