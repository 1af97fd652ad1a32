"""The table: one sentence an event, in its node's column, coloured by role; and the file that is the same without a server."""

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from bargetrio.eventlog.debug_log import DebugLog
from bargetrio.eventlog.host_facts import LinkDown, NodeKilled
from bargetrio.eventlog.jsonl import EventFile, read_events
from bargetrio.eventlog.recorder import Recorder
from bargetrio.eventlog.render import Column, LogView, log_html, log_page
from bargetrio.eventlog.sentences import sentence
from bargetrio.protocol.events import KINDS, Event
from tests.eventlog.markdown import markdown_table


def event(
    kind: str,
    number: int = 1,
    node: int | None = 0,
    *,
    peer: int | None = None,
    index: int | None = None,
    heartbeat: bool = False,
    **detail: object,
) -> Event:
    return Event(
        id=f"run-{number}",
        time=1_795_459_200.0 + number,
        node=node,
        peer=peer,
        kind=kind,
        term=3,
        index=index,
        heartbeat=heartbeat,
        detail=detail,
    )


ENTRY = {"key": "100", "value": "Some Value"}

SENTENCES = [
    (
        event("vote_requested", peer=1, last_log_index=4, last_log_term=2),
        "asks node 1 for its vote in term 3 (last entry 4, term 2)",
    ),
    (event("vote_granted", peer=1), "votes for node 1 in term 3"),
    (
        event("vote_refused", peer=1, reason="already voted for node 2"),
        "refuses node 1 its vote in term 3: already voted for node 2",
    ),
    (event("pre_vote_refused", peer=2, reason="hears leader 0"), "refuses node 2 a pre-vote in term 3: hears leader 0"),
    (
        event("append_sent", peer=1, index=12, first_index=12, count=1, leader_commit=11, entries=[ENTRY]),
        'appends to node 1: entry 12 {key: 100, value: "Some Value"} (term 3, commit 11)',
    ),
    (
        event("append_accepted", peer=0, index=16, first_index=12, count=5, entries=[ENTRY]),
        'takes from node 0: entries 12 to 16 {key: 100, value: "Some Value"} and 4 more (term 3)',
    ),
    (
        event("append_rejected", peer=0, index=9, reason="no entry 9"),
        "rejects an append of node 0 at index 9 (term 3): no entry 9",
    ),
    (event("log_truncated", index=5, last_index=7), "deletes entries 5 to 7: the leader's log differs there"),
    (event("commit_advanced", index=12, old_index=11), "committed: entry 12 (term 3)"),
    (event("applied", index=12, first_index=12, entries=[ENTRY]), 'applied: entry 12 {key: 100, value: "Some Value"}'),
    (
        event("snapshot_taken", index=120, digest=7, size=4200, log_start=100),
        "saved a snapshot up to entry 120 (4,200 bytes); its log begins after entry 100",
    ),
    (
        event("snapshot_taken", index=12, digest=7, size=42, log_start=0),
        "saved a snapshot up to entry 12 (42 bytes); its log is kept whole",
    ),
    (
        event("snapshot_sent", peer=1, index=120, size=4200, done=False),
        "sends node 1 the state up to entry 120 (4,200 bytes): its next entry was compacted (term 3)",
    ),
    (
        event("snapshot_sent", peer=1, index=120, size=4200, done=True),
        "node 1 has the state up to entry 120; entries follow (term 3)",
    ),
    (
        event("member_changed", index=120, may_vote=False, reason="its disk was replaced: it abstains"),
        "its disk was replaced: it abstains",
    ),
    (
        event("snapshot_installed", peer=0, index=120, digest=7, size=4200),
        "installs node 0's state up to entry 120 (4,200 bytes); its log begins after entry 120 (term 3)",
    ),
    (
        event("node_recovered", index=130, voted_for=None, seconds=0.25, repaired="", snapshot=120),
        "recovered in 0.250 s: snapshot up to 120, log up to 130, term 3",
    ),
    (event("role_changed", old="candidate", new="leader", reason="has votes"), "becomes leader in term 3: has votes"),
    (event("append_sent", peer=1, heartbeat=True, count=0, leader_commit=4), "heartbeat to node 1 (term 3, commit 4)"),
]


@pytest.mark.parametrize(("told", "expected"), SENTENCES)
def test_sentences(told: Event, expected: str) -> None:
    """Who, whom, which term, which entries, and why not."""
    assert sentence(told) == expected


def test_every_kind_has_a_sentence() -> None:
    """Every event on the page has a sentence, except those that do not happen yet."""
    from bargetrio.eventlog.sentences import _SENTENCES

    later: set[str] = set()
    assert set(KINDS) - set(_SENTENCES) == later


def view(*events: Event, **options: object) -> LogView:
    columns = [Column(node_id=0, state="leader", term=3), Column(node_id=1, state="killed")]
    return LogView(
        cluster="barge",
        columns=columns,
        events=list(events),
        heartbeats=7,
        dropped=0,
        **options,  # type: ignore[arg-type]  # LogView's own fields
    )


def rows(document: str) -> list[str]:
    return re.findall(r"<tr id=.*?</tr>", document, re.DOTALL)


def test_newest_first_each_in_its_nodes_column() -> None:
    """The newest is reachable without scrolling."""
    document = log_page(view(event("vote_granted", 1, 0, peer=1, role="follower"), event("vote_granted", 2, 1, peer=0)))
    first, second = rows(document)
    assert 'id="run-2"' in first
    assert first.index("<td></td>") < first.index("votes for")
    assert 'class="role-follower"' in second
    assert second.index("votes for") < second.index("<td></td>")


def test_an_event_of_no_node_spans_the_table() -> None:
    """A change of faults is everybody's."""
    (row,) = rows(log_page(view(event("faults_changed", node=None, text="partition: 0 | 1"))))
    assert 'colspan="2"' in row
    assert "partition: 0 | 1" in row


def test_heartbeats_are_hidden_and_counted() -> None:
    """Unless they are asked for."""
    document = log_page(view(event("vote_granted", peer=1)))
    assert "7 heartbeats hidden" in document
    assert "hidden" not in log_page(view(event("vote_granted", peer=1), show_heartbeats=True)).partition('id="counts"')[2]
    beats = [event("append_sent", number, peer=1, index=0, heartbeat=True, count=0, leader_commit=0) for number in range(2, 5)]
    for shows, count in ((False, 1), (True, 4)):
        document = log_page(view(event("node_killed"), *beats, show_heartbeats=shows))
        assert f">{count} events shown" in document
        assert len([row for row in rows(document) if " hidden>" not in row]) == count


def data_of(document: str) -> Any:
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', document, re.DOTALL)
    return json.loads(text)


def test_the_file_needs_nothing_else_and_its_policy_allows_just_it() -> None:
    """One file that can be mailed: scripts and style inside, named by their hashes, nothing fetched."""
    document, policy = log_html(view(event("vote_granted", peer=1)))
    assert "src=" not in document.partition("<body>")[0]
    assert "rel=" not in document
    for tag, name in (("script", "script-src"), ("style", "style-src")):
        texts = re.findall(rf"<{tag}>(.*?)</{tag}>", document, re.DOTALL)
        allowed = re.search(rf"{name} ([^;]+)", policy)
        hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts]
        assert allowed is not None
        assert allowed[1].split() == [f"'sha256-{digest}'" for digest in hashes]
    assert "style=" not in document.partition("<body>")[2]
    assert "unsafe" not in policy


def test_the_file_has_its_events_as_data() -> None:
    """Whole, heartbeats included, with the nodes and the timers' length."""
    beat = event("append_sent", 2, heartbeat=True, peer=1, count=0, leader_commit=4)
    data = data_of(log_html(view(event("vote_granted", peer=1), beat, election_ms=(300, 600)))[0])
    assert [told["id"] for told in data["events"]] == ["run-1", "run-2"]
    assert data["events"][1]["heartbeat"] is True
    assert (data["nodes"], data["election_ms"]) == ([{"id": 0}, {"id": 1}], [300, 600])


def test_nothing_in_an_event_ends_its_element() -> None:
    """Keys, values, reasons, the cluster's name: no `<` of theirs reaches the page."""
    evil = "</script><script>alert('x')</script><!--"
    document = log_html(view(event("link_down", peer=1, reason=evil)))[0]
    assert evil not in document
    assert data_of(document)["events"][0]["detail"]["reason"] == evil


def test_everything_from_outside_is_text() -> None:
    """Keys, values, reasons, names."""
    evil = "<script>alert('x')</script>"
    document = log_page(
        view(
            event(
                "append_sent", peer=1, index=1, first_index=1, count=1, leader_commit=0, entries=[{"key": evil, "value": evil}]
            ),
            event("link_down", peer=1, reason=evil),
        )
    )
    assert evil not in document
    assert document.count("&lt;script&gt;") == 3


def test_markdown_for_documents() -> None:
    """The same sentences, oldest first."""
    table = markdown_table([event("vote_granted", 1, 1, peer=0), event("vote_granted", 3, 0, peer=1)], [0, 1])
    assert table == (
        "| ms | node 0 | node 1 |\n|---|---|---|\n"
        "| 0 |  | votes for node 0 in term 3 |\n| 2000 | votes for node 1 in term 3 |  |\n"
    )


def test_a_recorded_file_is_read_back(tmp_path: Path) -> None:
    """A last line that is not whole is left out; any other bad line is refused with its number."""
    recorder = Recorder("run", wall_clock=lambda: 1.0)
    path = tmp_path / "events.jsonl"
    file = EventFile(path, recorder)
    for _ in range(600):
        recorder.record(0, NodeKilled())
    file.close()
    with path.open("ab") as more:
        more.write(b'{"id":"run-9')
    events = list(read_events(path))
    assert [event.id for event in events] == [f"run-{number}" for number in range(1, 601)]
    path.write_text('{"id":5}\n')
    with pytest.raises(ValueError, match=r"events.jsonl:1"):
        list(read_events(path))


def test_the_file_says_what_it_missed(tmp_path: Path) -> None:
    """Rather than hold anybody up."""
    recorder = Recorder("run", wall_clock=lambda: 1.0, capacity=10)
    file = EventFile(tmp_path / "e", recorder)
    for _ in range(25):
        recorder.record(0, LinkDown(peer=1, reason="x"))
    file.close()
    lines = (tmp_path / "e").read_text().splitlines()
    assert lines[0] == '{"dropped":15}'
    assert len(lines) == 11


def test_the_debug_log_is_replaced_as_a_whole(tmp_path: Path) -> None:
    """Whoever opens log.html meanwhile sees a complete page."""
    recorder = Recorder("run", wall_clock=lambda: 1.0)
    log = DebugLog(tmp_path / "log.html", recorder, lambda: lambda: view(event("vote_granted", peer=1)))
    log.finish()
    assert (tmp_path / "log.html").read_text().endswith("</html>\n")
    assert [path.name for path in tmp_path.iterdir()] == ["log.html"]
