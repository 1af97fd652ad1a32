"""What a live page is sent and draws when much happens."""

import json
import time

import pytest
from playwright.sync_api import Page, expect

from tests.stories.daemon import Daemon

KEEP_CELLS = "() => { window.kept = [...document.querySelectorAll('#log-columns :is(table, tr, th, td)')]; return kept.length; }"
CELLS_LEFT = "() => kept.filter(one => one.isConnected).length"
COUNT_FRAMES = """() => {
    const take = Barge.source.Live.prototype.take;
    window.frames = [];  // of each the time of its newest event
    Barge.source.Live.prototype.take = function (page) {
        if (page.events.length) { frames.push(Math.max(...page.events.map(event => event.time))); }
        return take.call(this, page);
    };
}"""


def write_in_bulk(daemon: Daemon, key: str, *, batches: int) -> int:
    """Write twenty keys a batch; return the last index."""
    body = "\n".join(f'{{"key":"{key}{number}","value":"x"}}' for number in range(20))
    for _ in range(batches):
        answer = daemon.http("POST", "/keys", body, {"Content-Type": "application/x-ndjson"})
    return max(int(json.loads(line)["index"]) for line in answer.body.splitlines())


@pytest.mark.long
def test_the_logs_are_drawn_with_the_same_cells_again(page: Page, daemon: Daemon) -> None:
    """With a new table for each drawing a page under load grew by 14 MB a minute (docs/decisions/page.md)."""
    last = write_in_bulk(daemon, "few", batches=1)
    expect(page.locator("table.logs tbody th").nth(1)).to_have_text(str(last))
    kept = page.evaluate(KEEP_CELLS)
    last = write_in_bulk(daemon, "more", batches=10)
    expect(page.locator("table.logs tbody th").nth(1)).to_have_text(str(last))
    expect(page.locator("table.logs tbody tr")).to_have_count(11)
    assert page.evaluate(CELLS_LEFT) == kept == 1 + 4 + 1 + 11 * (1 + 4)


@pytest.mark.long
def test_a_page_is_sent_ten_frames_a_second_at_most(page: Page, daemon: Daemon) -> None:
    """Whatever happens meanwhile. By the daemon's own clock: between the newest events of n frames lie n - 2 pauses or more."""
    page.evaluate(COUNT_FRAMES)
    end = time.monotonic() + 2
    while time.monotonic() < end:
        write_in_bulk(daemon, "burst", batches=1)
    newest = page.evaluate("() => window.frames")
    assert len(newest) >= 8
    assert (len(newest) - 2) * 0.1 <= newest[-1] - newest[0]
