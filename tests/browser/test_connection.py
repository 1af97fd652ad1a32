"""The page and its daemon: restarts under an open page, streams that are refused, pages that are hidden, many daemons."""

import http.client
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.stories.daemon import Daemon, running, running_apart, write_configuration


def test_a_daemon_restarted_under_an_open_page(empty_page: Page, tmp_path: Path) -> None:
    """The page says that the connection is lost, comes back by itself, and goes on with the new run's events."""
    page = empty_page
    with running(tmp_path) as daemon:
        page.goto(f"http://{daemon.api}/")
        daemon.put("before", "1")
        expect(page.locator("table.logs")).to_contain_text("before=1")
        daemon.kill_9()
        expect(page.locator("#banner")).to_have_text(
            "Connection lost: the daemon does not answer. Trying again; this is the last known state."
        )
        page.click("#pause")
        page.click("#back")
        expect(page.locator("table.logs")).to_contain_text("before=1")
        page.click("#live")
        daemon.start()
        daemon.leader()
        expect(page.locator("#banner")).to_be_hidden()
        daemon.put("after", "2")
        expect(page.locator("table.logs")).to_contain_text("after=2")
        expect(page.locator("table.logs")).to_contain_text("before=1")
        expect(page.locator("#cards .role-leader")).to_have_count(1)
        page.click("#write")
        expect(page.locator("#answer")).to_contain_text("written")


def test_the_page_begins_before_its_daemon(empty_page: Page, tmp_path: Path) -> None:
    """A page whose first requests get no answer retries."""
    page = empty_page
    with running(tmp_path) as daemon:
        page.route("**/nodes", lambda route: route.abort())
        page.goto(f"http://{daemon.api}/")
        expect(page.locator("#banner")).to_contain_text("Connection lost")
        page.unroute("**/nodes")
        expect(page.locator("#cards .role-leader")).to_have_count(1)


@pytest.mark.long
def test_fifty_pages_are_served_and_the_next_one_polls(page: Page, daemon: Daemon) -> None:
    """The 51st stream is refused; that page asks once a second, and is as true; a place that becomes free is taken."""
    with ExitStack() as stack:
        for _ in range(49):  # the page has one
            stream = http.client.HTTPConnection(daemon.api, timeout=5)
            stack.callback(stream.close)
            stream.request("GET", "/events?live=1", headers={"Accept": "text/event-stream"})
            response = stream.getresponse()
            assert response.status == 200
            stack.callback(response.close)
        refused = daemon.http("GET", "/events?live=1", headers={"Accept": "text/event-stream"})
        assert (refused.status, refused.json["error"]) == (503, "overloaded")
        other = page.context.new_page()
        other.goto(f"http://{daemon.api}/")
        expect(other.locator("#cards .role-leader")).to_have_count(1)
        daemon.put("polled", "1")
        for one in (page, other):
            expect(one.locator("table.logs")).to_contain_text("polled=1")
            expect(one.locator("#banner")).to_be_hidden()
        assert other.evaluate("performance.getEntriesByType('resource').filter(one => one.name.includes('after=')).length") >= 1
        other.close()


def test_a_hidden_page_closes_its_stream_and_resumes(page: Page, daemon: Daemon) -> None:
    """A browser has six connections a host: six pages in the background must not block the seventh."""
    hide = """hidden => { Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
        document.dispatchEvent(new Event("visibilitychange")); }"""
    open_streams = "barge_http_streams"
    text = daemon.http("GET", "/metrics").body.decode()
    assert open_streams in text
    page.evaluate(hide, True)
    daemon.wait_for(lambda: f"\n{open_streams} 0.0" in daemon.http("GET", "/metrics").body.decode(), "the stream to be closed")
    for number in range(5):
        daemon.put(f"hidden{number}", "1")
    page.evaluate(hide, False)
    expect(page.locator("table.logs")).to_contain_text("hidden4=1")
    expect(page.locator("table.logs")).to_contain_text("hidden0=1")
    daemon.wait_for(lambda: f"\n{open_streams} 1.0" in daemon.http("GET", "/metrics").body.decode(), "the stream to be open")


def test_one_page_for_a_daemon_per_node(empty_page: Page, tmp_path: Path) -> None:
    """Any daemon's page shows all nodes, acts on all, and says which one it cannot reach."""
    page = empty_page
    with running_apart(tmp_path) as daemons:
        page.goto(f"http://{daemons[0].api}/")
        expect(page.locator("#cards .card:not(.role-unknown)")).to_have_count(3)
        leader = daemons[0].leader()
        expect(page.locator(f"#cards .role-leader[data-node='{leader}']")).to_have_count(1)
        victim = max({0, 1, 2} - {leader})
        page.click(f"[data-act='kill'][data-id='{victim}']")
        expect(page.locator(f"#cards .card[data-node='{victim}']")).to_contain_text("killed")
        daemons[0].put("apart", "1")
        expect(page.locator("table.logs")).to_contain_text("apart=1")
        page.click(f"[data-act='revive'][data-id='{victim}']")
        expect(page.locator(f"#cards .card[data-node='{victim}']")).to_contain_text("follower")
        gone = max({1, 2} - {daemons[0].leader()})
        daemons[gone].kill_9()
        expect(page.locator(f"#cards .card[data-node='{gone}']")).to_contain_text("unreachable")
        expect(page.locator("#banner")).to_be_hidden()
        daemons[gone].start()
        expect(page.locator(f"#cards .card[data-node='{gone}']")).to_contain_text("follower")


def test_a_page_of_a_daemon_that_wants_a_token(empty_page: Page, tmp_path: Path) -> None:
    """It asks for it, sends it with everything, and keeps it for the tab; the wrong one is asked for again."""
    page = empty_page
    (tmp_path / "token").write_text("a long secret word\n")
    (tmp_path / "token").chmod(0o600)
    daemon = Daemon(write_configuration(tmp_path, 3, extra="api_token_file: token\n"))
    try:
        daemon.start()
        page.goto(f"http://{daemon.api}/")
        expect(page.locator("#banner")).to_have_text("The daemon asks for its API token.")
        for word in ("wrong", "wrong: €", "a long secret word"):  # the second cannot even be sent in a header
            page.fill("#token", word)
            page.click("#token-form button")
            expect(page.locator("#token-form")).to_be_hidden()
            if word.startswith("wrong"):
                expect(page.locator("#token-form")).to_be_visible()
        expect(page.locator("#cards .role-leader")).to_have_count(1)
        expect(page.locator("#banner")).to_be_hidden()
        page.click("#write")
        expect(page.locator("#answer")).to_contain_text("written: index")
        expect(page.locator("table.logs")).to_contain_text("100=Some Value")
        page.reload()
        expect(page.locator("#cards .role-leader")).to_have_count(1)
        with page.expect_download() as saved:
            page.click("#save")
        assert "Some Value" in Path(saved.value.path()).read_text()
        assert page.context.cookies() == []
    finally:
        daemon.end()


def test_a_dangling_link_is_reported(page: Page, daemon: Daemon) -> None:
    """An event that is not kept any more, in the open page; nonsense, in a page that is opened with it."""
    page.goto(f"http://{daemon.api}/#id=gone-1")
    expect(page.locator("#outcome")).to_have_text("event gone-1 is not kept any more")
    page.goto("about:blank")  # A reload would come too late: what is not found leaves the address when the page is drawn next.
    page.goto(f"http://{daemon.api}/#id=%E0%A4%A")
    expect(page.locator("#outcome")).to_contain_text("is not kept any more")
