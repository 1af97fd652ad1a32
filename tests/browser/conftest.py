"""One browser for all tests of this folder; a page of its own, with nothing left to complain about, for each."""

from collections.abc import Iterator
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect

from tests.browser.chrome import ConsoleErrors, chromium
from tests.stories.daemon import Daemon, running

DESK = ViewportSize(width=1280, height=720)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=8000)
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with running(tmp_path_factory.mktemp("page")) as daemon:
        yield daemon


@pytest.fixture
def empty_page(browser: Browser) -> Iterator[Page]:
    """A fresh page. Output on its console fails the test, except the browser's own messages about requests."""
    context = browser.new_context(viewport=DESK)
    page = context.new_page()
    complaints = ConsoleErrors(page)
    try:
        yield page
        assert complaints.without("Failed to load resource", "ERR_CONNECTION", "ERR_INCOMPLETE") == []
    finally:
        context.close()


@pytest.fixture
def page(empty_page: Page, daemon: Daemon) -> Iterator[Page]:
    """The live page of a healthy cluster, and a healthy cluster afterwards."""
    heal(daemon)
    empty_page.goto(f"http://{daemon.api}/")
    expect(empty_page.locator("#cards .role-leader")).to_have_count(1)
    yield empty_page


def heal(daemon: Daemon) -> None:
    """All faults healed, all nodes alive and caught up."""
    daemon.http("DELETE", "/faults")
    for node in daemon.http("GET", "/nodes").json["nodes"]:
        if node["state"] != "running":
            daemon.revive_node(node["id"])
    daemon.leader()
    daemon.wait_for(daemon.caught_up, "all to catch up")


def wait_until_all_is_drawn(page: Page, daemon: Daemon) -> None:
    """Return once the live page has drawn the newest event that the daemon has; under load it draws once a second."""

    def drawn() -> bool:
        return page.locator("#moment").get_attribute("href") == "#id=" + quote(daemon.events()[-1]["id"])

    daemon.wait_for(drawn, "the page to have drawn the newest event")


def seek(page: Page, event_id: str) -> None:
    """Lead the page to the moment of an event by its address; return once that is drawn, and what flew on the ring is gone."""
    page.evaluate("id => { location.hash = '#id=' + id; }", event_id)
    page.wait_for_function("id => document.querySelector('#table tr.current')?.dataset.id === id", arg=event_id)


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
"""Returns the places at which a state that the page computes differs from that of applying every event in order."""


def current(page: Page) -> str:
    """Return the id of the event that the page stands at."""
    return str(page.locator("#table tr.current").get_attribute("data-id"))


def wait_for_change(page: Page, before: str) -> str:
    """Wait until the page stands at another event than `before`; return its id."""
    page.wait_for_function("id => document.querySelector('#table tr.current')?.dataset.id !== id", arg=before)
    return current(page)
