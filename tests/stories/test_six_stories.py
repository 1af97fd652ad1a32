"""The six stories of docs/tour.md, each against the real daemon, checked by its event log."""

import html
import itertools
import json
import re
import threading
import time
from pathlib import Path

from tests.stories.daemon import Daemon, running


def page_says(daemon: Daemon, *sentences: str) -> None:
    """The page alone must show the story."""
    text = html.unescape(daemon.http("GET", "/log?limit=1000").body.decode())
    for sentence in sentences:
        assert sentence in text, sentence


def page_shows(daemon: Daemon, *patterns: str) -> None:
    """The same, where the words depend on what came in one message."""
    text = html.unescape(daemon.http("GET", "/log?limit=1000").body.decode())
    for pattern in patterns:
        assert re.search(pattern, text), pattern


def test_the_first_election(tmp_path: Path) -> None:
    """Raft 5.2: one asks everybody, a majority grants, it leads; within two seconds of the start."""
    began = time.monotonic()
    with running(tmp_path) as daemon:
        assert time.monotonic() - began < 4  # the interpreter's own start included; the two seconds are timed in test_serve.py
        leader = daemon.leader()
        term = daemon.http("GET", "/leader").json["term"]
        others = sorted({0, 1, 2} - {leader})
        asked = [event["peer"] for event in daemon.events("vote_requested", node=leader) if event["term"] == term]
        assert sorted(asked) == others
        granted = [event for event in daemon.events("vote_granted") if event["term"] == term]
        assert granted and all(event["peer"] == leader for event in granted)
        became = daemon.wait_for_event("role_changed", node=leader, new="leader")
        assert became["term"] == term
        nodes = daemon.http("GET", "/nodes").json["nodes"]
        assert sorted((node["id"], node["role"]) for node in nodes) == sorted(
            [(leader, "leader"), *((other, "follower") for other in others)]
        )
        page_says(
            daemon,
            *(f"asks node {other} for its vote in term {term}" for other in others),
            f"votes for node {leader} in term {term}",
            f"becomes leader in term {term}: has the votes of node",
        )


def test_heartbeats_keep_the_leader_in_office(tmp_path: Path) -> None:
    """Raft 5.2: every 50 ms an empty append to each follower, and no election while they arrive."""
    with running(tmp_path) as daemon:
        leader = daemon.leader()
        term = daemon.node(leader)["term"]
        time.sleep(2)  # more than three longest election timeouts of real silence, were there no heartbeats
        assert daemon.node(leader)["term"] == term
        beats = [event for event in daemon.events("append_sent", node=leader, heartbeats=True) if event["heartbeat"]]
        for follower in {0, 1, 2} - {leader}:
            times = [event["time"] for event in beats if event["peer"] == follower]
            gaps = sorted(later - earlier for earlier, later in itertools.pairwise(times))
            assert 0.03 < gaps[len(gaps) // 2] < 0.1
        shown = daemon.http("GET", "/events?limit=1000").json
        assert not any(event["heartbeat"] for event in shown["events"])
        assert shown["heartbeats"] > 20


def test_a_write_is_replicated_committed_and_learned_by_the_followers(tmp_path: Path) -> None:
    """Raft 5.3: append, majority, commit, apply; the followers learn the commit with the next append."""
    with running(tmp_path) as daemon:
        leader = daemon.leader()
        answer = daemon.http(
            "POST", "/keys", json.dumps({"key": 100, "value": "Some Value"}), {"Content-Type": "application/json"}
        )
        assert answer.status == 201
        index = answer.json["index"]
        entries = [{"key": "100", "value": "Some Value"}]
        for follower in {0, 1, 2} - {leader}:
            sent = daemon.wait_for_event("append_sent", node=leader, peer=follower, index=index)
            assert entries[0].items() <= sent["detail"]["entries"][-1].items()
            daemon.wait_for_event("append_accepted", node=follower, peer=leader, index=index)
            daemon.wait_for_event("commit_advanced", node=follower, index=index)
            daemon.wait_for_event("applied", node=follower, index=index)
        committed = daemon.wait_for_event("commit_advanced", node=leader, index=index)
        for follower in {0, 1, 2} - {leader}:
            learned = daemon.wait_for_event("commit_advanced", node=follower, index=index)
            assert learned["time"] >= committed["time"]
            stale = daemon.http("GET", "/keys/100?read=stale")
            assert stale.json["value"] == "Some Value"
        digests = {event["detail"]["digest"] for event in daemon.events("applied") if event["index"] == index}
        assert len(digests) == 1
        page = daemon.http("GET", "/log").body.decode()
        assert "{key: 100, value: &quot;Some Value&quot;}" in page
        # A follower that was late gets the entries before in the same append: "entries 1 to 2 {no-op}, {key: ...".
        last = rf"(?:entry|entries \d+ to) {index}\b"
        entry = last + r' (?:\{no-op\}, )?\{key: 100, value: "Some Value"\}'
        page_shows(daemon, *(rf"appends to node {follower}: {entry}" for follower in {0, 1, 2} - {leader}))
        page_shows(daemon, rf"takes from node {leader}: {entry}", rf"committed: {last}", rf"applied: {entry}")


def test_a_killed_follower_catches_up(tmp_path: Path) -> None:
    """Raft 5.3: writes go on with a majority; the revived follower gets what it missed."""
    with running(tmp_path) as daemon:
        leader = daemon.leader()
        follower = min({0, 1, 2} - {leader})
        assert daemon.kill_node(follower)["changed"] is True
        assert daemon.kill_node(follower)["changed"] is False
        assert daemon.node(follower)["state"] == "killed"
        for number in range(20):
            assert daemon.put(f"k{number}", str(number)).status == 201
        assert daemon.leader() == leader
        assert daemon.revive_node(follower)["changed"] is True
        last = daemon.node(leader)["commit_index"]
        daemon.wait_for(lambda: daemon.node(follower)["last_applied"] >= last, "the follower to catch up")
        daemon.wait_for_event("node_recovered", node=follower)
        page_says(daemon, "killed", "revived: recovering", "recovered in", f"rejects an append of node {leader}")


def test_a_killed_leader_is_replaced_and_comes_back_as_a_follower(tmp_path: Path) -> None:
    """Raft 5.2, 5.3: a new leader in a higher term; the old one follows it and catches up."""
    with running(tmp_path) as daemon:
        old = daemon.leader()
        old_term = daemon.node(old)["term"]
        assert daemon.put("before", "1").status == 201
        daemon.kill_node(old)
        assert daemon.put("between", "2").status == 201  # waits through the election
        new = daemon.leader()
        assert new != old
        assert daemon.node(new)["term"] > old_term
        daemon.revive_node(old)
        last = daemon.node(new)["commit_index"]
        daemon.wait_for(lambda: daemon.node(old)["last_applied"] >= last, "the old leader to catch up")
        assert daemon.node(old)["role"] == "follower"
        assert daemon.get("before").json["value"] == "1"
        assert daemon.get("between").json["value"] == "2"
        page_says(daemon, "heard no leader in time", f"becomes leader in term {daemon.node(new)['term']}")


def test_a_leader_on_the_small_side_of_a_partition_commits_nothing(tmp_path: Path) -> None:
    """Raft 5.4, 6.2: the large side elects; the small side's leader steps down, its entries are replaced after healing."""
    with running(tmp_path) as daemon:
        old = daemon.leader()
        others = sorted({0, 1, 2} - {old})
        assert daemon.put("shared", "before").status == 201
        before = daemon.node(old)["commit_index"]
        _cut(daemon, [[old], others])
        lost = _put_at(daemon, old, "lost", "by the small side")
        assert lost.get("applied") is None and lost["ok"] is False
        daemon.wait_for(lambda: daemon.leader() in others, "the large side to elect")
        assert daemon.put("shared", "after").status == 200
        assert daemon.node(old)["commit_index"] == before
        assert daemon.http("DELETE", "/faults").status == 200
        last = daemon.node(daemon.leader())["commit_index"]
        daemon.wait_for(lambda: daemon.node(old)["last_applied"] >= last, "the small side to catch up")
        daemon.wait_for_event("log_truncated", node=old)
        page_says(daemon, "faults: partition: ", "heard no majority for", "the leader's log differs there", "all faults healed")
        assert daemon.get("lost").status == 404
        assert daemon.get("shared").json["value"] == "after"


def test_one_node_is_a_cluster(tmp_path: Path) -> None:
    """A majority of one: its own disk."""
    with running(tmp_path, 1) as daemon:
        assert daemon.put("a", "1").status == 201
        assert daemon.get("a").json["value"] == "1"


def test_five_nodes_lose_two_and_go_on_but_not_three(tmp_path: Path) -> None:
    """A minority may fail; without a majority nothing is committed, and the caller gets an error."""
    with running(tmp_path, 5, timing="{heartbeat_ms: 50, election_ms: [300, 600], request_timeout_ms: 1500}") as daemon:
        leader = daemon.leader()
        first, second, third = sorted({0, 1, 2, 3, 4} - {leader})[:3]
        daemon.kill_node(first)
        daemon.kill_node(second)
        assert daemon.put("two", "down").status == 201
        daemon.kill_node(third)
        refused = daemon.put("three", "down")
        assert refused.status in (503, 504)
        assert refused.json["applied"] is (False if refused.status == 503 else None)
        told = daemon.wait_for(lambda: _no_leader(daemon), "the daemon to say that nobody leads")
        assert told == "no_leader"
        daemon.revive_node(third)
        assert daemon.put("four", "again").status == 201


def _no_leader(daemon: Daemon) -> str:
    answer = daemon.http("GET", "/leader")
    return str(answer.json["error"]) if answer.status == 503 else ""


def _cut(daemon: Daemon, groups: list[list[int]]) -> None:
    answer = daemon.http("PUT", "/faults", json.dumps({"groups": groups}), {"Content-Type": "application/json"})
    assert answer.status == 200, answer.body


def _put_at(daemon: Daemon, node_id: int, key: str, value: str) -> dict[str, object]:
    """Send a request to one node over the client protocol, without following the leader."""
    import socket

    host, port = daemon.addresses[node_id].split(":")
    with socket.create_connection((host, int(port)), 10) as sock, sock.makefile("rw", encoding="utf-8", newline="\n") as stream:
        stream.write('{"hello":"client","protocol":1,"cluster":"barge"}\n')
        stream.write(json.dumps({"id": 1, "op": "put", "key": key, "value": value}) + "\n")
        stream.flush()
        stream.readline()
        answer: dict[str, object] = json.loads(stream.readline())
        return answer


def test_writes_of_a_deposed_leader_end_as_unknown(tmp_path: Path) -> None:
    """A write that was proposed and not committed is unknown, never 'failed' (BUG-47)."""
    with running(tmp_path) as daemon:
        old = daemon.leader()
        _cut(daemon, [[old], sorted({0, 1, 2} - {old})])
        answers: list[dict[str, object]] = []
        threads = [threading.Thread(target=lambda n=n: answers.append(_put_at(daemon, old, f"w{n}", "x"))) for n in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert [answer["error"] for answer in answers] == ["outcome_unknown"] * 5
        assert all(answer["applied"] is None for answer in answers)
