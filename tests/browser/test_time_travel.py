"""Any moment again on the live page: pause, step, slider, slow motion, jumps and links."""

import itertools
import json
import time
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.chrome import ConsoleErrors
from tests.browser.conftest import COMPARE_STATES, current, seek, wait_for_change, wait_until_all_is_drawn
from tests.stories.daemon import Daemon

PLAY_UNTIL = """async id => {
    const began = performance.now();
    document.getElementById("pause").click();
    while (Barge.app.player.place < Barge.app.timeline.after(id)) { await new Promise(requestAnimationFrame); }
    return performance.now() - began;
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


def test_pause_holds_the_moment_while_the_cluster_goes_on(page: Page, daemon: Daemon) -> None:
    """And live comes back to the end."""
    daemon.put("held", "1")
    wait_until_all_is_drawn(page, daemon)
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
    wait_until_all_is_drawn(page, daemon)
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


ADDRESS_CHANGES = """id => {
    history.pushState(null, "", "#id=" + id);
    document.getElementById("now").textContent = "";
    Barge.app.player.changed();
}"""


def test_an_address_that_changes_just_before_a_drawing_leads_to_its_moment(page: Page, daemon: Daemon) -> None:
    """The address changes at once, its hashchange event comes later: a drawing in between does not write over it."""
    wanted = daemon.events("vote_granted")[0]["id"]
    page.evaluate(ADDRESS_CHANGES, wanted)
    expect(page.locator("#now")).not_to_be_empty()
    assert page.evaluate("location.hash") == f"#id={wanted}"
    page.evaluate("dispatchEvent(new HashChangeEvent('hashchange'))")
    page.wait_for_function("id => document.querySelector('#table tr.current')?.dataset.id === id", arg=wanted)
    page.click("#live")
    page.wait_for_function("() => location.hash === ''")


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
    wait_until_all_is_drawn(page, daemon)
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


def nodes(daemon: Daemon) -> list[Any]:
    found: list[Any] = daemon.http("GET", "/nodes").json["nodes"]
    return found


@pytest.mark.long
def test_a_page_open_for_long_keeps_a_bounded_memory(browser: Browser, daemon: Daemon) -> None:
    """10,000 events at most, whatever comes; a place that fell out is the first that is left."""
    context = browser.new_context()
    page = context.new_page()
    complaints = ConsoleErrors(page)
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
