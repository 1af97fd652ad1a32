"""Chromium under test: found on PATH, started without a sandbox or a network of its own, and ended whatever happens."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

MISSING = "no Chromium was found: the tests of the page need one (Debian: apt-get install chromium; or name it in CHROMIUM)"
ARGUMENTS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


def find_chromium() -> str:
    """Return the browser's path; a missing one fails the test with a sentence, and is never skipped over."""
    for name in (os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome", "/usr/bin/chromium"):
        found = shutil.which(name) if name else None
        if found is not None:
            return found
    pytest.fail(MISSING, pytrace=False)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser for as long as the block lasts."""
    path = find_chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


class Complaints:
    """What the page's console and its errors said; a test ends with it empty."""

    def __init__(self, page: Page) -> None:
        self.said: list[str] = []
        page.on("console", lambda message: self.said.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.said.append(str(error)))

    def without(self, *parts: str) -> list[str]:
        """Return what was said, but for lines with these words."""
        return [line for line in self.said if not any(part in line for part in parts)]
