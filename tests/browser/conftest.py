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
