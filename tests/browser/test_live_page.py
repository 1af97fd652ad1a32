"""The live page on a real daemon: it shows the actual state, every button works, and its outcome is shown."""

import json
import math
import re
from typing import Any

import pytest
from playwright.sync_api import Browser, Dialog, Page, expect

from tests.browser.conftest import heal, seek, wait_until_all_is_drawn
from tests.stories.daemon import Daemon


def card(page: Page, node_id: int) -> Any:
    return page.locator(f"#cards .card[data-node='{node_id}']")


def ring_node(page: Page, node_id: int) -> Any:
    return page.locator(f"#ring .node[data-node='{node_id}']")


def press(page: Page, act: str, node_id: int) -> None:
    page.click(f"#cards [data-act='{act}'][data-id='{node_id}']")


def outcome(page: Page, text: str) -> None:
    expect(page.locator("#outcome")).to_have_text(re.compile(text + r".* \(\d+(\.\d)? ms\)"))


def followers(daemon: Daemon) -> list[int]:
    return sorted({0, 1, 2} - {daemon.leader()})


def test_it_shows_the_leader_and_the_logs(page: Page, daemon: Daemon) -> None:
    """Ring, cards, logs and table say the same as /nodes."""
    index = daemon.put("apple", "red").json["index"]
    leader, term = daemon.leader(), daemon.node(daemon.leader())["term"]
    expect(page.locator("#summary")).to_have_text(f"node {leader} leads · term {term} · committed {index}")
    expect(ring_node(page, leader).locator(".role-text")).to_have_text("★ leader")
    for follower in followers(daemon):
        expect(ring_node(page, follower).locator(".role-text")).to_have_text("follower")
        expect(card(page, follower)).to_contain_text(f"log {index} · committed {index}")
    row = page.locator("table.logs tbody tr", has=page.locator(f"th:text-is('{index}')"))
    expect(row.locator(".entry:not(.open)")).to_have_text([f"{term}apple=red"] * 3)
    expect(row.locator(".mark.match")).to_have_text("match " + " ".join(str(node) for node in followers(daemon)))
    expect(page.locator("#table tbody tr", has_text=f"committed: entry {index}")).to_have_count(3)
    expect(page.locator("#banner")).to_be_hidden()


def test_a_card_shows_everything_about_its_node(page: Page, daemon: Daemon) -> None:
    """All that /nodes/<id> knows, opened by a press on the card or on the ring."""
    leader = daemon.leader()
    ring_node(page, leader).locator(".shape").click()
    view = daemon.node(leader)
    facts = card(page, leader).locator(".facts")
    for text in (view["address"], view["api"], f"of term {view['last_log_term']}", f"voted for {view['voted_for']}", "replicate"):
        expect(facts).to_contain_text(str(text))
    expect(facts.locator("div", has_text="state").first.locator("dd")).to_have_text("running")
    expect(facts).to_contain_text(re.compile(r"leader: has the votes of node \d"))
    for peer in view["peers"]:
        expect(facts).to_contain_text(f"link to node {peer['id']}")
    card(page, leader).locator(".card-head").click()
    expect(facts).to_be_hidden()


def test_kill_and_revive(page: Page, daemon: Daemon) -> None:
    """One press each; the node's ring shows it by shape and text."""
    victim = followers(daemon)[0]
    press(page, "kill", victim)
    outcome(page, f"node {victim} is killed")
    expect(ring_node(page, victim).locator(".role-text")).to_have_text("killed")
    assert daemon.node(victim)["state"] == "killed"
    press(page, "revive", victim)
    outcome(page, f"node {victim} is revived")
    expect(ring_node(page, victim).locator(".role-text")).to_have_text("follower")


def test_an_election_is_seen(page: Page, daemon: Daemon) -> None:
    """The leader is killed by a press; another leads in a higher term, in another colour, and its votes are dots."""
    old, term = daemon.leader(), daemon.node(daemon.leader())["term"]
    press(page, "kill", old)
    expect(page.locator("#cards .role-leader")).to_have_count(1)
    new = daemon.leader()
    expect(ring_node(page, new).locator(".role-text")).to_have_text("★ leader")
    new_term = daemon.node(new)["term"]
    assert new_term > term
    expect(ring_node(page, new).locator(".term-text")).to_have_text(f"term {new_term}")
    expect(ring_node(page, new).locator(f".shape.term-{new_term % 8}")).to_have_count(1)
    expect(ring_node(page, new).locator(".vote-granted")).to_have_count(2)


def test_cut_off_and_reconnect(page: Page, daemon: Daemon) -> None:
    """The same button both ways."""
    node = followers(daemon)[1]
    press(page, "cut", node)
    outcome(page, f"node {node} is cut off")
    assert sorted(daemon.http("GET", "/faults").json["groups"]) == sorted([[node], sorted({0, 1, 2} - {node})])
    expect(page.locator("#ring .link.cut")).to_have_count(2)
    press(page, "cut", node)
    outcome(page, f"node {node} is connected again")
    assert daemon.http("GET", "/faults").json["groups"] == []


def test_a_partition_by_groups_and_its_healing(page: Page, daemon: Daemon) -> None:
    """A press moves a node to the next group."""
    page.click("#groups [data-node='1']")  # from A or B onwards
    groups: dict[str, list[int]] = {}
    for node in range(3):
        name = page.locator(f"#groups [data-node='{node}']").text_content() or ""
        groups.setdefault(name[-1], []).append(node)
    page.click("#partition")
    outcome(page, "partition: ")
    assert daemon.http("GET", "/faults").json["groups"] == [groups[name] for name in sorted(groups)]
    page.click("#heal")
    outcome(page, "everything is healed")
    assert daemon.http("GET", "/faults").json == {"groups": [], "links": [], "disks": []}
    expect(page.locator("#ring .link.cut")).to_have_count(0)


def test_slow_and_cut_links(page: Page, daemon: Daemon) -> None:
    """One way by the form, both ways by a press on the line."""
    page.select_option("#link-from", "0")
    page.select_option("#link-to", "2")
    page.fill("#link-delay", "150")
    page.click("#slow-link")
    outcome(page, "link 0 → 2: 150 ms late")
    (link,) = daemon.http("GET", "/faults").json["links"]
    assert (link["from"], link["to"], link["delay_ms"]) == (0, 2, 150)
    page.click("#cut-link")
    outcome(page, "link 0 → 2: cut")
    page.fill("#link-delay", "0")
    page.click("#slow-link")
    outcome(page, "link 0 → 2 is normal again")
    assert daemon.http("GET", "/faults").json["links"] == []
    page.click("#cut-link")
    outcome(page, "link 0 → 2: cut")
    line = page.get_by_role("button", name="link between node 0 and node 2")
    expect(line).to_contain_text("cut one way")
    line.focus()
    page.keyboard.press("Enter")
    outcome(page, "the link between 0 and 2 is normal again")
    assert daemon.http("GET", "/faults").json["links"] == []
    page.get_by_role("button", name="link between node 1 and node 2").press("Enter")
    outcome(page, "the link between 1 and 2 takes 200 ms each way")
    assert len(daemon.http("GET", "/faults").json["links"]) == 2


def test_slow_disk_and_slow_links_of_a_node(page: Page, daemon: Daemon) -> None:
    """Pressed buttons stay pressed until they are pressed again."""
    node = followers(daemon)[0]
    press(page, "disk", node)
    outcome(page, f"the disk of node {node} takes 200 ms longer")
    assert daemon.http("GET", "/faults").json["disks"][0]["delay_ms"] == 200
    expect(ring_node(page, node).locator(".badge")).to_have_text("slow disk: 200 ms")
    expect(page.locator(f"[data-act='disk'][data-id='{node}']")).to_have_attribute("aria-pressed", "true")
    press(page, "disk", node)
    outcome(page, f"the disk of node {node} is normal again")
    press(page, "links", node)
    outcome(page, f"the links of node {node} take 200 ms")
    expect(page.locator("#ring .link.slow")).to_have_count(2)
    assert len(daemon.http("GET", "/faults").json["links"]) == 4


def test_keys_are_written_read_and_deleted(page: Page, daemon: Daemon) -> None:
    """Each answer has its index and its milliseconds."""
    answer = page.locator("#answer")
    page.fill("#key", "a/b ü")
    page.fill("#value", "Some Value")
    page.click("#write")
    expect(answer).to_have_text(re.compile(r"written: index \d+, term \d+ \(\d+(\.\d)? ms\)"))
    assert daemon.get("a%2Fb%20%C3%BC").json["value"] == "Some Value"
    page.click("#read")
    expect(answer).to_have_text(re.compile(r'"Some Value", last changed at index \d+ \(\d'))
    page.click("#delete")
    expect(answer).to_have_text(re.compile(r"deleted: index \d+ \(\d"))
    page.click("#read")
    expect(answer).to_have_text(re.compile(r"there is no such key \(\d"))
    page.fill("#key", "many")
    page.click("#write-many")
    expect(answer).to_have_text(re.compile(r"100 of 100 written, index \d+"), timeout=15000)
    assert daemon.get("many-100").status == 200


def test_only_a_write_without_an_answer_has_an_unknown_outcome(page: Page, daemon: Daemon) -> None:
    """A read changes nothing; a fault is not put in force before those that are have been read."""
    page.route(re.compile("/(faults|keys/.*)$"), lambda route: route.abort())
    answer = page.locator("#answer")
    page.click("#read")
    expect(answer).to_contain_text("the daemon does not answer. Nothing was done.")
    press(page, "cut", 0)
    expect(page.locator("#outcome")).to_contain_text("the daemon does not answer. Nothing was done.")
    for button in ("#write", "#delete"):
        page.click(button)
        expect(answer).to_contain_text("the daemon does not answer. It is unknown whether it was applied.")


@pytest.mark.parametrize("key", [".", ".."])
def test_a_key_that_a_browser_cannot_request_is_reported(page: Page, daemon: Daemon, key: str) -> None:
    """It takes these steps out of an address; what is asked then is not about the key."""
    page.fill("#key", key)
    for button in ("#write", "#read", "#delete"):
        page.locator("#answer").evaluate("answer => answer.textContent = ''")
        page.click(button)
        expect(page.locator("#answer")).to_have_text(
            f"a browser cannot ask for the key {key}, the command line can. Nothing was done. (0.0 ms)"
        )


def test_without_a_quorum_the_banner_says_so_and_a_write_gets_an_error(page: Page, daemon: Daemon) -> None:
    """A failed write and an unknown outcome are different answers."""
    banner = page.locator("#banner")
    for node in followers(daemon):
        press(page, "kill", node)
    expect(banner).to_have_text("No quorum: 1 of 3 nodes can work together, and it takes 2. Nothing can be committed.")
    page.click("#write")
    expect(page.locator("#answer")).to_have_text(re.compile("Nothing was done|It is unknown"), timeout=9000)
    heal(daemon)
    expect(banner).to_be_hidden()
    leader = daemon.leader()
    one, other = followers(daemon)
    put_faults(daemon, links=[{"from": one, "to": other, "drop": 1}, {"from": other, "to": one, "drop": 1}])  # no leader
    press(page, "cut", leader)
    expect(banner).to_have_text("No leader: an election must be won before anything can be written.")
    put_faults(daemon, groups=[[leader], [one, other]])
    expect(banner).to_be_hidden()
    assert daemon.leader() != leader


def test_links_that_are_cut_one_by_one_can_take_the_quorum_too(page: Page, daemon: Daemon) -> None:
    """A leader must send and receive. One cut link of three leaves a node that can; a circle of one-way cuts leaves none."""
    banner = page.locator("#banner")
    one, other = followers(daemon)
    cut_links(daemon, (one, other), (other, one))
    expect(page.locator("#ring .link.cut")).to_have_count(1)
    expect(banner).to_be_hidden()
    cut_links(daemon, (0, 1), (1, 2), (2, 0))
    expect(page.locator("#ring .link.cut")).to_have_count(3)
    expect(banner).to_have_text("No quorum: 1 of 3 nodes can work together, and it takes 2. Nothing can be committed.")
    page.click("#heal")
    expect(banner).to_be_hidden()


def cut_links(daemon: Daemon, *links: tuple[int, int]) -> None:
    put_faults(daemon, links=[{"from": start, "to": end, "cut": True} for start, end in links])


def put_faults(daemon: Daemon, **faults: list[Any]) -> None:
    assert daemon.http("PUT", "/faults", json.dumps(faults), {"Content-Type": "application/json"}).status == 200


WATCH_PULSES = """() => {
    window.seenPulses = new Set();
    const note = change => change.addedNodes.forEach(node => seenPulses.add(node.getAttribute("class").split("pulse-")[1]));
    new MutationObserver(list => list.forEach(note)).observe(document.querySelector("#ring .pulses"), {childList: true});
}"""
TIMER_LENGTHS = """async id => {
    const found = [], arc = document.querySelector(`#ring .node[data-node="${id}"] .timer`);
    for (let i = 0; i < 40; i++) { found.push(arc.getTotalLength()); await new Promise(done => setTimeout(done, 30)); }
    return found;
}"""
NAMELESS = """() => [...document.querySelectorAll("button, input, select, [role=button]")]
    .filter(one => one.offsetParent !== null || one.closest("svg"))
    .filter(one => !(one.textContent.trim() || one.getAttribute("aria-label") || one.labels?.length)).map(one => one.outerHTML)"""
FOCUSED = """() => {
    const one = document.activeElement;
    return one.id || one.dataset.act || one.getAttribute("class");
}"""


def test_messages_are_pulses_on_the_ring(page: Page, daemon: Daemon) -> None:
    """A write: appends to each follower, and their answers; small ones for heartbeats."""
    page.evaluate(WATCH_PULSES)
    daemon.put("pulse", "1")
    page.wait_for_function("() => ['append', 'yes', 'heartbeat'].every(kind => seenPulses.has(kind))")


def test_a_message_that_a_cut_link_swallows_does_not_arrive(page: Page, daemon: Daemon) -> None:
    """A partitioned leader continues to send."""
    leader = daemon.leader()
    press(page, "cut", leader)
    outcome(page, f"node {leader} is cut off")

    def asked() -> Any:
        events = daemon.events("faults_changed", "pre_vote_requested")
        since = max(place for place, event in enumerate(events) if event["kind"] == "faults_changed")
        return next((event for event in events[since:] if event["peer"] == leader), None)

    sent = daemon.wait_for(asked, "the others to ask the old leader too")
    page.wait_for_function("id => Barge.app.timeline.after(id) >= 0", arg=sent["id"])
    seek(page, sent["id"])  # the same is on its way to others, live: several pulses
    expect(page.locator("#ring .pulse.lost")).to_contain_text("✕ pre-vote")
    page.click("#live")


def test_election_timers_fall_back_with_every_heartbeat(page: Page, daemon: Daemon) -> None:
    """The arcs of followers move and stay short; the leader has none."""
    lengths = page.evaluate(TIMER_LENGTHS, followers(daemon)[0])
    assert len({round(length) for length in lengths}) > 5
    assert sorted(lengths)[20] < 2 * math.pi * 52 * 0.7
    assert ring_node(page, daemon.leader()).locator(".timer").get_attribute("d") == ""


def test_a_script_in_a_key_is_text(page: Page, daemon: Daemon) -> None:
    """Keys, values and everything else from events are the attacker's text."""
    dialogs: list[str] = []

    def dismiss(dialog: Dialog) -> None:
        dialogs.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", dismiss)
    script = "<script>alert(1)</script>"
    page.fill("#key", script)
    page.fill("#value", "<img src=x onerror=alert(2)>")
    page.click("#write")
    expect(page.locator("#answer")).to_contain_text("written")
    page.click("#read")
    expect(page.locator("#answer")).to_contain_text("<img src=x onerror=alert(2)>")
    expect(page.locator("table.logs tbody").first).to_contain_text(script)
    expect(page.locator("#table tbody").first).to_contain_text(script)
    assert page.locator("main script, main img").count() == 0
    assert dialogs == []


def test_a_reload_in_mid_run_shows_the_same(page: Page, daemon: Daemon) -> None:
    """The page has nothing that the daemon does not have."""
    victim = followers(daemon)[0]
    daemon.kill_node(victim)
    index = daemon.put("reload", "1").json["index"]
    expect(card(page, victim)).to_contain_text("killed")
    for node in {0, 1, 2} - {victim}:
        expect(card(page, node)).to_contain_text(f"log {index} · committed {index}")
    wait_until_all_is_drawn(page, daemon)
    if page.evaluate("Barge.app.skipped"):  # of a burst only the newest is shown, if this machine was paused
        page.reload()
        expect(page.locator("#cards .role-leader")).to_have_count(1)
    before = page.locator("#cards .card-head").all_text_contents()
    logs = page.locator("table.logs").inner_text()
    page.reload()
    expect(page.locator("#cards .role-leader")).to_have_count(1)
    expect(page.locator("#cards .card-head")).to_have_text(before)
    assert page.locator("table.logs").inner_text() == logs
    heal(daemon)


def test_an_old_death_is_still_known(page: Page, daemon: Daemon) -> None:
    """For a node without recent events the page uses /nodes."""
    victim = followers(daemon)[0]
    daemon.kill_node(victim)
    body = "\n".join(f'{{"key":"old{number}","value":"x"}}' for number in range(20))
    for _ in range(120):
        daemon.http("POST", "/keys", body, {"Content-Type": "application/x-ndjson"})
    assert not any(event["kind"] == "node_killed" for event in daemon.events())
    page.reload()
    expect(card(page, victim)).to_contain_text("killed")
    heal(daemon)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_fits_a_desk_and_a_phone_in_dark_and_light(browser: Browser, daemon: Daemon, width: int, scheme: Any) -> None:
    """Nothing is wider than the window; colours as the system says, and the other ones at a press, for the next visit too."""
    context = browser.new_context(viewport={"width": width, "height": 720 if width > 500 else 844}, color_scheme=scheme)
    page = context.new_page()
    page.goto(f"http://{daemon.api}/")
    expect(page.locator("#cards .role-leader")).to_have_count(1)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for jump in page.locator("[data-jump]").all():  # a phone has no keys for them
        expect(jump).to_be_in_viewport(ratio=1)
    paper = "() => getComputedStyle(document.body).backgroundColor"
    first = page.evaluate(paper)
    assert (sum(int(part) for part in re.findall(r"\d+", first)) < 200) == (scheme == "dark")
    page.click("#theme")
    second = page.evaluate(paper)
    assert second != first
    page.reload()
    assert page.evaluate(paper) == second
    context.close()


@pytest.mark.parametrize("width", [320, 1280])
def test_the_table_of_events_can_be_read_at_every_width(browser: Browser, daemon: Daemon, width: int) -> None:
    """On a narrow screen its columns were four letters wide; there an event is a block that names its node."""
    context = browser.new_context(viewport={"width": width, "height": 800})
    page = context.new_page()
    page.goto(f"http://{daemon.api}/log?kind=applied")
    told = page.locator("#log tbody td:nth-child(n+2):not(:empty)").first
    box = told.bounding_box()
    assert box is not None and box["width"] > 250
    name = told.locator("xpath=..").evaluate("row => getComputedStyle(row, '::before').content")
    assert ("node" in name) == (width == 320)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()


def test_everything_can_be_done_by_keyboard_and_has_a_name(page: Page, daemon: Daemon) -> None:
    """Tab reaches each control; a node is killed without a mouse; the outcome is announced to screen readers."""
    nameless = page.evaluate(NAMELESS)
    assert nameless == []
    reached = set()
    for _ in range(80):
        page.keyboard.press("Tab")
        reached.add(page.evaluate(FOCUSED))
    assert {"kill", "cut", "write", "partition", "slow-link", "pause", "slider", "theme"} <= reached
    victim = followers(daemon)[0]
    page.locator(f"[data-act='kill'][data-id='{victim}']").focus()
    page.keyboard.press("Enter")
    outcome(page, f"node {victim} is killed")
    assert page.locator("#outcome").get_attribute("aria-live") == "polite"
    assert page.locator("#banner").get_attribute("role") == "alert"
    heal(daemon)
