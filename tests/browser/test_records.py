"""A record as a page, without a daemon: log.html, replays, runs of the simulator; and what the page makes of events."""

import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from bargetrio.cli.simulate import simulate
from bargetrio.eventlog.jsonl import read_events
from bargetrio.eventlog.render import Column, LogView, log_html
from bargetrio.eventlog.sentences import sentence
from bargetrio.protocol.events import Event
from tests.browser.conftest import COMPARE_STATES, seek, wait_for_change
from tests.stories.daemon import Daemon, running

REJECTION = """() => {
    let seq = 0, state = Barge.model.initial([{id: 0}, {id: 1}]);
    const marks = [];
    const tell = (node, kind, index, detail) => {
        const own = {heartbeat: false, detail: {role: node ? "follower" : "leader", ...detail}};
        state = Barge.model.apply(state, {id: `run-${++seq}`, time: seq, node, peer: 1 - node, kind, term: 2, index, ...own});
        marks.push({...state.nodes[0].peers[1], last: state.nodes[1].last, log: state.nodes[1].log.map(entry => entry.index)});
    };
    tell(1, "append_accepted", 4, {first_index: 1, count: 4, entries: []});
    tell(0, "role_changed", null, {old: "candidate", new: "leader", reason: ""});
    tell(0, "append_sent", 5, {first_index: 5, count: 1, leader_commit: 2, entries: []});
    tell(1, "append_rejected", 3, {reason: "no such entry"});
    tell(1, "log_truncated", 3, {last_index: 4});
    tell(1, "append_accepted", 5, {first_index: 3, count: 3, entries: []});
    return marks.slice(2);
}"""
TERMS = """() => {
    const views = [0, 1].map(id => ({id: id, state: "running", last_log_index: 9}));
    let seq = 0, state = Barge.model.initial(views);
    const tell = (node, kind, term, index, detail) => {
        const own = {heartbeat: false, detail: {role: node ? "follower" : "leader", entries: [], ...detail}};
        state = Barge.model.apply(state, {id: `run-${++seq}`, time: seq, node, peer: 1 - node, kind, term, index, ...own});
    };
    tell(0, "applied", 2, 6, {first_index: 4, first_term: 2});
    tell(0, "append_sent", 3, 9, {first_index: 4, first_term: 2, last_term: 3, count: 6, leader_commit: 2});
    tell(1, "append_accepted", 3, 9, {first_index: 4, first_term: 2, last_term: 3, count: 6});
    return [0, 1].map(id => state.nodes[id].log.map(entry => entry.term));
}"""


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the events.jsonl and log.html of a run in which a leader was killed."""
    folder = tmp_path_factory.mktemp("record")
    with running(folder, 3, "--debug", "--events", "events.jsonl") as daemon:
        daemon.put("<script>alert(1)</script>", "</script><script>alert(2)</script>")
        daemon.kill_node(daemon.leader())
        daemon.put("after", "1")
        daemon.wait_for(lambda: "after" in (folder / "log.html").read_text(), "log.html to be written")
        daemon.stop()
    return folder


def check_file(page: Page, record: Path) -> None:
    """The page of this record, without a daemon: its end, its elections, its moments."""
    events = list(read_events(record / "events.jsonl"))
    expect(page.locator("#cards .role-killed")).to_have_count(3)  # the daemon has stopped
    expect(page.locator("#keys")).to_be_hidden()
    seek(page, [event.id for event in events if event.kind == "applied"][-1])
    expect(page.locator("#cards .role-leader")).to_have_count(1)
    expect(page.locator("#cards .role-killed")).to_have_count(1)
    expect(page.locator("table.logs")).to_contain_text("<script>alert(1)</script>")
    granted = next(event for event in events if event.kind == "vote_granted")
    seek(page, granted.id)
    expect(page.locator(f"#cards .card[data-node='{granted.peer}']")).to_contain_text("candidate")
    expect(page.locator("#now")).to_have_text(f"node {granted.node} {sentence(granted)}")
    page.click("#forward")
    wait_for_change(page, granted.id)
    page.click("[data-jump='fault']")
    expect(page.locator("#now")).to_contain_text("killed")
    page.select_option("#speed", "5")
    page.click("#pause")
    expect(page.locator("#pause")).to_have_attribute("aria-label", "play", timeout=15000)


def test_log_html_from_disk(empty_page: Page, record: Path) -> None:
    """One file, opened from disk: the same page, offline."""
    empty_page.context.set_offline(True)
    empty_page.goto((record / "log.html").as_uri())
    check_file(empty_page, record)


@pytest.mark.parametrize(("nodes", "place"), [(3, "aside"), (5, "#left")])
def test_the_logs_of_a_file_stand_where_they_can_be_read(empty_page: Page, tmp_path: Path, nodes: int, place: str) -> None:
    """Beside the ring, where there are no forms, if so many columns are wide enough there; else below it."""
    columns = [Column(node_id=node, state="follower") for node in range(nodes)]
    file = tmp_path / "log.html"
    file.write_text(log_html(LogView(cluster="c", columns=columns, events=[], heartbeats=0, dropped=0))[0], encoding="utf-8")
    empty_page.goto(file.as_uri())
    expect(empty_page.locator(f"{place} > #logs")).to_be_visible()


def test_log_html_of_the_daemon(empty_page: Page, daemon: Daemon, tmp_path: Path) -> None:
    """Served under its own policy, and saved."""
    daemon.put("saved", "1")
    empty_page.goto(f"http://{daemon.api}/log.html")
    expect(empty_page.locator("#table")).to_contain_text("{key: saved")
    file = tmp_path / "log.html"
    file.write_bytes(daemon.http("GET", "/log.html").body)
    empty_page.goto(file.as_uri())
    expect(empty_page.locator("#table")).to_contain_text("{key: saved")


def barge(*arguments: str | Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "bargetrio", *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_replay_writes_the_page(empty_page: Page, record: Path, tmp_path: Path) -> None:
    """With the timers' length and an end, if they are given."""
    out = tmp_path / "run.html"
    told, _ = barge("replay", record / "events.jsonl", "--html", out, "--election-ms", "600").communicate(timeout=20)
    assert "of 3 nodes" in told
    empty_page.goto(out.as_uri())
    check_file(empty_page, record)
    events = list(read_events(record / "events.jsonl"))
    until = next(event for event in events if event.kind == "vote_granted")
    barge("replay", record / "events.jsonl", "--html", out, "--until", until.id).communicate(timeout=20)
    empty_page.goto(out.as_uri())
    expect(empty_page.locator("#now")).to_have_text(f"node {until.node} {sentence(until)}")


def test_replay_serves_the_page_to_this_machine_only(empty_page: Page, record: Path) -> None:
    """A name that was made to point here gets nothing."""
    process = barge("replay", record / "events.jsonl")
    try:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(2)]
        address = lines[1].split()[-1]
        empty_page.goto(address)
        check_file(empty_page, record)
        foreign = urllib.request.Request(address, headers={"Host": "evil.example"})
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(foreign)
    finally:
        process.terminate()
        process.communicate(timeout=10)


def test_replay_names_what_it_cannot_read(tmp_path: Path) -> None:
    """A file that is none, an event that is not there."""
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"id":5}\n')
    process = barge("replay", bad, "--html", tmp_path / "x.html")
    assert "bad.jsonl:1" in process.communicate(timeout=20)[1]
    assert process.returncode == 2
    bad.write_text("")
    process = barge("replay", bad, "--until", "x-1")
    assert "there is no event 'x-1'" in process.communicate(timeout=20)[1]


# -- runs of the simulator ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Event]]:
    """A failing run (an entry of an old term committed by counting) as a page, and its events."""
    folder = tmp_path_factory.mktemp("simulated")
    arguments = ["--break", "figure_8", "--seeds", "200", "--html", str(folder / "run.html"), "--events", str(folder / "e.jsonl")]
    with pytest.raises(SystemExit):
        simulate(arguments)
    return folder / "run.html", list(read_events(folder / "e.jsonl"))


def test_a_failing_run_of_the_simulator(empty_page: Page, simulated: tuple[Path, list[Event]]) -> None:
    """What broke is the title; every moment can be gone to, and the timers run by its clock."""
    file, events = simulated
    empty_page.goto(file.as_uri())
    expect(empty_page.locator("#name")).to_contain_text("seed")
    elections = [event for event in events if event.kind == "role_changed" and event.detail["new"] == "leader"]
    seek(empty_page, elections[-1].id)
    expect(empty_page.locator(f"#cards .card[data-node='{elections[-1].node}']")).to_contain_text("★ leader")


def test_the_page_has_the_words_of_the_table(empty_page: Page, simulated: tuple[Path, list[Event]], record: Path) -> None:
    """sentences.js says what sentences.py says, of every event of two runs."""
    for file, events in (simulated, (record / "log.html", list(read_events(record / "events.jsonl")))):
        empty_page.goto(file.as_uri())
        told = dict(empty_page.evaluate("Barge.app.timeline.events.map(event => [event.id, Barge.words.sentence(event)])"))
        assert len(told) > 60
        for event in events:
            if event.id in told:
                assert told[event.id] == sentence(event)


def test_the_state_at_an_event_is_the_replay_up_to_it(empty_page: Page, simulated: tuple[Path, list[Event]]) -> None:
    """Snapshots save time and change nothing; apply leaves the state it was given as it was."""
    empty_page.goto(simulated[0].as_uri())
    wrong = empty_page.evaluate(COMPARE_STATES)
    assert wrong == []


def test_a_rejected_append_moves_next_back_and_a_truncation_cuts_the_log(
    empty_page: Page, simulated: tuple[Path, list[Event]]
) -> None:
    """Raft 5.3, on the model alone: a leader learns where a follower's log ends; a follower's differing tail goes."""
    empty_page.goto(simulated[0].as_uri())
    marks = empty_page.evaluate(REJECTION)
    assert marks == [
        {"next": 6, "last": 4, "log": [1, 2, 3, 4]},
        {"next": 3, "last": 4, "log": [1, 2, 3, 4]},
        {"next": 3, "last": 2, "log": [1, 2]},
        {"next": 6, "match": 5, "last": 5, "log": [1, 2, 3, 4, 5]},
    ]


def test_a_page_opened_late_has_the_terms_of_its_events(empty_page: Page, simulated: tuple[Path, list[Event]]) -> None:
    """Of old entries, too: an event has the terms of its first and last one, and terms never decrease."""
    empty_page.goto(simulated[0].as_uri())
    assert empty_page.evaluate(TERMS) == [[2, 2, 2, None, None, 3], [2, 2, 2, None, None, 3]]
