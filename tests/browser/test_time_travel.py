"""Any moment again: pause, step, slider, slow motion, jumps and links; on the live page, in files, in replays."""

import itertools
import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from bargetrio.eventlog.event import Event
from bargetrio.eventlog.jsonl import read_events
from bargetrio.eventlog.render import Column, LogView, log_html
from bargetrio.eventlog.sentences import sentence
from bargetrio.simulator.commands import simulate
from tests.browser.chrome import Complaints
from tests.stories.daemon import Daemon, running

PLAY_UNTIL = """async id => {
    const began = performance.now();
    document.getElementById("pause").click();
    while (Barge.app.player.place < Barge.app.timeline.after(id)) { await new Promise(requestAnimationFrame); }
    return performance.now() - began;
}"""
COMPARE_STATES = """() => {
    const timeline = Barge.app.timeline, wrong = [];
    const freeze = value => {
        if (value && typeof value === "object") { Object.freeze(value); Object.values(value).forEach(freeze); }
    };
    let state = timeline.base;
    timeline.events.forEach((event, i) => {
        freeze(state);
        if (i % 37 === 0 && JSON.stringify(timeline.at(timeline.first + i)) !== JSON.stringify(state)) { wrong.push(i); }
        state = Barge.model.apply(state, event);
    });
    return wrong;
}"""
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
ADD_EVENTS = """async () => {
    const sizes = [];
    const made = index => ({
        id: "made-" + index, time: 1e9 + index, kind: "append_sent", node: index % 3, peer: (index + 1) % 3,
        term: 9, index, heartbeat: false, detail: {first_index: index, count: 1, leader_commit: index - 1, digest: 1,
            role: "leader", entries: [{key: "k" + index, value: "x".repeat(32)}]}});
    for (let i = 0; i < 60; i++) {
        Barge.app.timeline.add(Array.from({length: 1000}, (_, j) => made(100000 + i * 1000 + j)));
        await new Promise(done => setTimeout(done, 5));
        sizes.push(Barge.app.timeline.events.length);
    }
    return sizes;
}"""


def current(page: Page) -> str:
    """Return the id of the event that the page stands at."""
    return str(page.locator("#table tr.current").get_attribute("data-id"))


def wait_for_change(page: Page, before: str) -> str:
    page.wait_for_function("id => document.querySelector('#table tr.current')?.dataset.id !== id", arg=before)
    return current(page)


def seek(page: Page, event_id: str) -> None:
    page.evaluate("id => { location.hash = '#id=' + id; }", event_id)
    page.wait_for_function("id => document.querySelector('#table tr.current')?.dataset.id === id", arg=event_id)


# -- live --------------------------------------------------------------------------------------------------------------------


def test_pause_holds_the_moment_while_the_cluster_goes_on(page: Page, daemon: Daemon) -> None:
    """And live comes back to the end."""
    daemon.put("held", "1")
    page.wait_for_timeout(400)
    page.click("#pause")
    expect(page.locator("#pause")).to_have_attribute("aria-label", "play")
    held, logs = current(page), page.locator("table.logs").inner_text()
    last = daemon.put("later", "2").json["index"]
    page.wait_for_function("index => Barge.app.timeline.end.nodes[0].applied >= index", arg=last)
    assert (current(page), page.locator("table.logs").inner_text()) == (held, logs)
    expect(page.locator("[data-act='kill']").first).to_be_disabled()
    page.click("#live")
    expect(page.locator("#summary")).to_contain_text(f"committed {last}")
    expect(page.locator("[data-act='kill']").first).to_be_enabled()


def test_steps_slider_and_keys(page: Page, daemon: Daemon) -> None:
    """One event back and on; the slider goes anywhere; the keyboard does the same."""
    daemon.put("step", "1")
    page.wait_for_timeout(300)
    page.click("#pause")
    events = [event["id"] for event in daemon.events()]
    assert current(page) == events[-1]
    page.click("#back")
    assert wait_for_change(page, events[-1]) == events[-2]
    page.keyboard.press("ArrowLeft")
    assert wait_for_change(page, events[-2]) == events[-3]
    page.click("#forward")
    assert wait_for_change(page, events[-3]) == events[-2]
    page.locator("#slider").fill("5")
    assert wait_for_change(page, events[-2]) == events[4]
    page.locator("#slider").press("ArrowRight")
    assert wait_for_change(page, events[4]) == events[5]
    page.locator("h1").click()
    page.keyboard.press("Home")
    expect(page.locator("#moment")).to_have_text("no event")
    page.keyboard.press("End")
    expect(page.locator("#live")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press(" ")
    expect(page.locator("#pause")).to_have_attribute("aria-label", "play")


SLOW_DRAWING = """() => {
    const draw = Barge.Table.prototype.draw;
    Barge.Table.prototype.draw = function () {
        const began = performance.now();
        while (performance.now() - began < 100) { }
        return draw.apply(this, arguments);
    };
}"""


def test_a_step_is_shown_at_once_where_drawing_is_slow(page: Page, daemon: Daemon) -> None:
    """What the cluster does is drawn in a tenth of the time, here once a second; what a person asks for does not wait so."""
    daemon.put("slow", "1")
    page.click("#pause")
    page.evaluate(SLOW_DRAWING)
    began = time.monotonic()
    for _ in range(6):
        before = current(page)
        page.keyboard.press("ArrowLeft")
        wait_for_change(page, before)
    assert time.monotonic() - began < 4


def test_jumps_to_election_commit_and_fault(page: Page, daemon: Daemon) -> None:
    """Forward by a press, back with Shift."""
    victim = min({0, 1, 2} - {daemon.leader()})
    daemon.kill_node(victim)
    daemon.revive_node(victim)
    page.locator("h1").click()
    page.keyboard.press("Home")
    page.click("[data-jump='election']")
    expect(page.locator("#table tr.current")).to_contain_text("becomes candidate in term 1")
    page.click("[data-jump='commit']")
    expect(page.locator("#table tr.current")).to_have_attribute("data-kind", "commit_advanced")
    wanted = "Barge.app.timeline.events.filter(event => event.kind === 'node_killed').pop()?.id"
    page.wait_for_function(f"() => {wanted}")
    seek(page, page.evaluate(wanted))
    page.keyboard.press("F")
    assert wait_for_change(page, page.evaluate(wanted))
    page.keyboard.press("f")
    expect(page.locator("#table tr.current")).to_contain_text("killed")
    expect(page.locator(f"#cards .card[data-node='{victim}']")).to_contain_text("killed")
    page.keyboard.press("f")
    expect(page.locator("#table tr.current")).to_contain_text("revived")
    page.keyboard.press("F")
    expect(page.locator("#table tr.current")).to_contain_text("killed")
    page.keyboard.press("E")
    expect(page.locator("#table tr.current")).to_contain_text("becomes leader")


def test_a_link_leads_to_its_moment_after_a_reload_too(page: Page, daemon: Daemon) -> None:
    """#id=<run>-<seq>."""
    (granted, *_) = daemon.events("vote_granted")
    page.goto(f"http://{daemon.api}/#id={granted['id']}")
    page.wait_for_function("id => document.querySelector('#table tr.current')?.dataset.id === id", arg=granted["id"])
    candidate = page.locator(f"#ring .node[data-node='{granted['peer']}']")
    expect(candidate.locator(".role-text")).to_have_text("candidate")
    expect(candidate.locator(".vote-granted")).to_have_count(2)
    expect(page.locator("#ring .pulse-yes")).to_have_text("vote")
    page.reload()
    page.wait_for_function("id => document.querySelector('#table tr.current')?.dataset.id === id", arg=granted["id"])
    page.click("#back")
    before = wait_for_change(page, granted["id"])
    assert page.evaluate("location.hash") == f"#id={before}"


def test_slow_motion(page: Page, daemon: Daemon) -> None:
    """At 1/100 a write of eight milliseconds takes most of a second."""
    disks = [{"node": node, "delay_ms": 8} for node in range(3)]
    daemon.http("PUT", "/faults", json.dumps({"disks": disks}), {"Content-Type": "application/json"})
    daemon.put("slow", "1")
    events = daemon.events()
    received = [event for event in events if event["kind"] == "request_received"][-1]
    answered = [event for event in events if event["kind"] == "request_answered"][-1]
    page.wait_for_function("id => Barge.app.timeline.after(id) >= 0", arg=answered["id"])
    seek(page, received["id"])
    page.select_option("#speed", "0.01")
    took = page.evaluate(PLAY_UNTIL, answered["id"])
    times = [event["time"] for event in events[events.index(received) : events.index(answered) + 1]]
    slowed = [(later - earlier) * 1000 * 100 for earlier, later in itertools.pairwise(times)]
    expected = sum(min(wait, 1200) for wait in slowed)  # a longer wait is shortened
    assert expected * 0.9 <= took <= expected * 1.1 + 300
    page.click("#live")


# -- files -------------------------------------------------------------------------------------------------------------------


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


def test_the_model_knows_what_the_nodes_know(page: Page, daemon: Daemon) -> None:
    """Term, vote, role, log, commit and applied from events alone are those of /nodes; a leader's view of followers too."""
    for number in range(5):  # each is seen before the next is written: of many events at once a page is told only the newest
        index = daemon.put(f"model{number}", "x").json["index"]
        page.wait_for_function(
            "index => Object.values(Barge.app.timeline.end.nodes).every(node => node.applied >= index)", arg=index
        )
    daemon.kill_node(daemon.leader())
    daemon.put("model", "y")
    leader = daemon.leader()
    last = daemon.node(leader)["commit_index"]
    page.wait_for_function("([id, index]) => Barge.app.timeline.end.nodes[id].applied >= index", arg=[leader, last])
    daemon.wait_for(lambda: all(node["last_applied"] in (last, None) for node in nodes(daemon)), "all to apply it")
    page.wait_for_timeout(300)
    state: Any = page.evaluate("Barge.app.timeline.end.nodes")
    for view in nodes(daemon):
        node = state[str(view["id"])]
        assert node["state"] == view["state"]
        if view["state"] != "running":
            continue
        names = {"role": "role", "term": "term", "votedFor": "voted_for", "leader": "leader", "last": "last_log_index"}
        names |= {"commit": "commit_index", "applied": "last_applied"}
        assert {name: node[name] for name in names} == {name: view[field] for name, field in names.items()}
        for peer in view["peers"]:
            if view["role"] == "leader" and peer["connected"]:
                assert node["peers"][str(peer["id"])] == {"match": peer["match_index"], "next": peer["next_index"]}
        assert [entry["index"] for entry in node["log"]][-5:] == list(range(last - 4, last + 1))


def test_a_rejected_append_moves_next_back_and_a_truncation_cuts_the_log(
    empty_page: Page, simulated: tuple[Path, list[Event]]
) -> None:
    """5.3, on the model alone: a leader learns where a follower's log ends; a follower's differing tail goes."""
    empty_page.goto(simulated[0].as_uri())
    marks = empty_page.evaluate(REJECTION)
    assert marks == [
        {"next": 6, "last": 4, "log": [1, 2, 3, 4]},
        {"next": 3, "last": 4, "log": [1, 2, 3, 4]},
        {"next": 3, "last": 2, "log": [1, 2]},
        {"next": 6, "match": 5, "last": 5, "log": [1, 2, 3, 4, 5]},
    ]


def test_a_page_opened_late_knows_the_terms_of_what_it_is_told(empty_page: Page, simulated: tuple[Path, list[Event]]) -> None:
    """Of old entries too: an event tells the terms of its first and last one, and terms never fall."""
    empty_page.goto(simulated[0].as_uri())
    assert empty_page.evaluate(TERMS) == [[2, 2, 2, None, None, 3], [2, 2, 2, None, None, 3]]


def nodes(daemon: Daemon) -> list[Any]:
    found: list[Any] = daemon.http("GET", "/nodes").json["nodes"]
    return found


def test_a_page_open_for_long_keeps_a_bounded_memory(browser: Browser, daemon: Daemon) -> None:
    """10,000 events at most, whatever comes; a place that fell out is the first that is left."""
    context = browser.new_context()
    page = context.new_page()
    complaints = Complaints(page)
    page.goto(f"http://{daemon.api}/")
    expect(page.locator("#cards .role-leader")).to_have_count(1)
    page.click("#pause")
    sizes = page.evaluate(ADD_EVENTS)
    assert max(sizes) <= 10_000
    assert page.evaluate("Barge.app.timeline.places.size") == sizes[-1]
    client = context.new_cdp_session(page)
    client.send("HeapProfiler.collectGarbage")
    heap = json.loads(page.evaluate("JSON.stringify(performance.memory.usedJSHeapSize)"))
    assert heap < 100_000_000
    page.wait_for_timeout(200)
    assert page.evaluate("Barge.app.player.place") == page.evaluate("Barge.app.timeline.first")
    assert page.evaluate(COMPARE_STATES) == []  # what was dropped is in the state that is left
    assert complaints.said == []
    context.close()
