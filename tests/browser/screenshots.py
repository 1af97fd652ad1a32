"""Makes the pictures of README and docs: `python -m tests.browser.screenshots`. A real cluster, a real browser, no retouching."""

import json
import tempfile
import urllib.parse
from pathlib import Path

from playwright.sync_api import Page

from tests.browser.chrome import chromium
from tests.stories.daemon import Daemon, running

IMAGES = Path(__file__).parents[2] / "docs" / "images"
DESK = {"width": 1280, "height": 720}
PHONE = {"width": 390, "height": 844}


def moment(page: Page, daemon: Daemon, kind: str, **fields: object) -> None:
    """Go to the last event of that kind."""
    found = [event for event in daemon.events(kind) if all({**event["detail"], **event}[name] == fields[name] for name in fields)]
    wanted = found[-1]["id"]
    page.wait_for_function("id => Barge.app.timeline.after(id) >= 0", arg=wanted)
    page.evaluate("hash => { location.hash = hash; }", "#id=" + urllib.parse.quote(wanted))
    page.wait_for_function("id => document.querySelector('tr.current')?.dataset.id === id", arg=wanted)


def take(page: Page, name: str) -> None:
    """Write one picture."""
    page.screenshot(path=IMAGES / f"{name}.png")
    print(f"docs/images/{name}.png")


def main() -> None:
    """Play what the pictures show, and take them."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, running(Path(folder), 5) as daemon, chromium() as browser:
        page = browser.new_page(viewport=DESK, color_scheme="light")  # type: ignore[arg-type]  # a TypedDict of just this
        page.goto(f"http://{daemon.api}/")
        page.wait_for_selector("#cards .card.role-leader")
        for number, name in enumerate(("apples", "pears", "plums", "quinces")):
            daemon.put(name, str(number + 1))
        old = daemon.leader()
        daemon.kill_node(old)
        daemon.put("figs", "5")
        new = daemon.leader()
        page.wait_for_selector(f"#cards .card.role-leader[data-node='{new}']")
        moment(page, daemon, "vote_granted", peer=new)
        take(page, "election")
        page.click("#live")
        daemon.put("100", "Some Value")
        moment(page, daemon, "append_accepted", heartbeat=False)
        take(page, "page")
        page.click("#theme")
        page.click("#live")
        daemon.revive_node(old)
        others = sorted({0, 1, 2, 3, 4} - {new, old})
        faults = {"groups": [[new, old], others], "disks": [{"node": others[0], "delay_ms": 200}]}
        daemon.http("PUT", "/faults", json.dumps(faults), {"Content-Type": "application/json"})
        daemon.wait_for(lambda: daemon.leader() in others, "the large side to elect")
        daemon.put("shared", "after")
        page.wait_for_timeout(400)
        moment(page, daemon, "append_accepted", heartbeat=False)
        take(page, "partition")
        page.click("#live")
        page.set_viewport_size(PHONE)  # type: ignore[arg-type]  # a TypedDict of just this
        daemon.http("DELETE", "/faults")
        daemon.wait_for(daemon.caught_up, "all to catch up")
        page.wait_for_timeout(400)
        take(page, "phone")
        table = browser.new_page(viewport=DESK, color_scheme="light")  # type: ignore[arg-type]  # a TypedDict of just this
        table.goto(f"http://{daemon.api}/log?kind=vote_requested&kind=vote_granted&kind=role_changed&kind=node_killed")
        take(table, "log")


if __name__ == "__main__":
    main()
