"""The six stories as buttons: each runs on the real cluster to its end, cites the paper's section, and shows its events."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.stories.daemon import Daemon

SEEN = {
    "election": ["asks node", "votes for node", "becomes leader"],
    "heartbeats": ["partition", "becomes leader", "all faults healed"],
    "write": ['{key: 100, value: "Some Value"}', "committed", "answers 1 write ok", "applied"],
    "follower": ["killed", "recovered in", "applied"],
    "leader": ["killed", "becomes leader", "recovered in"],
    "partition": ["partition", "heard no majority", "becomes leader", "the leader's log differs there"],
}


TERM_OF_THE_WRITE = """() => {
  const fetched = window.fetch;
  window.fetch = function (path, options) {
    const nodes = Object.values(Barge.app.timeline.end.nodes);
    if (path === "/keys/between") { window.sentIn = Math.max(...nodes.map(node => node.term)); }
    return fetched(path, options);
  };
}"""


NO_TIME_TO_READ = """() => {
  const pause = Barge.source.pause;
  Barge.source.pause = ms => pause(Math.min(ms, 100));
}"""


@pytest.mark.parametrize("story", SEEN)
def test_a_recording_is_shown_to_its_end(page: Page, daemon: Daemon, story: str) -> None:
    """No step failed, each has its section, and the page has the events that it names."""
    page.evaluate(TERM_OF_THE_WRITE)
    if story != "leader":  # one is shown as slowly as to a reader
        page.evaluate(NO_TIME_TO_READ)
    page.click(f"[data-story='{story}']")
    expect(page.locator(f"[data-story='{story}']")).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#story")).to_contain_text(re.compile(r"\d of \d"))
    expect(page.locator("#story")).to_be_in_viewport()
    expect(page.locator("#steps li.end")).to_have_count(1, timeout=40_000)
    assert page.locator("#steps li.failed").count() == 0
    steps = page.locator("#steps li.done")
    assert steps.count() >= 4
    for section in steps.locator("cite").all_text_contents():
        assert re.fullmatch(r"(Raft|Ongaro) \d(\.\d)*(, (Raft|Ongaro) \d(\.\d)*)*", section), section
    text = page.evaluate("Barge.app.timeline.events.map(Barge.words.sentence).join(' ')")
    for words in SEEN[story]:
        assert words in text, words
    if story == "leader":  # its write is told to wait through the election: sent after it, it would wait for nothing
        assert page.evaluate("window.sentIn") < daemon.node(daemon.leader())["term"]
        expect(page.locator("#steps li").nth(2).locator(".told")).to_have_text(re.compile(r"answered: index \d+ \(\d+ ms\)"))
    daemon.wait_for(daemon.caught_up, "the cluster to be whole after the story")
    assert daemon.http("GET", "/faults").json["groups"] == []


def test_on_a_phone_a_story_brings_the_ring_into_view(page: Page, daemon: Daemon) -> None:
    """There it happens; the buttons are far below."""
    page.set_viewport_size({"width": 390, "height": 844})
    page.click("[data-story='write']")
    expect(page.locator("#ring")).to_be_in_viewport(ratio=1)
    expect(page.locator("#story")).to_be_in_viewport()
    page.click("#stop-tour")


def test_a_story_can_be_stopped(page: Page, daemon: Daemon) -> None:
    """And another begun."""
    page.evaluate(NO_TIME_TO_READ)
    page.click("[data-story='heartbeats']")
    page.click("#stop-tour")
    expect(page.locator("#stop-tour")).to_be_hidden()
    page.click("[data-story='write']")
    expect(page.locator("#steps li.end")).to_have_count(1, timeout=30_000)
