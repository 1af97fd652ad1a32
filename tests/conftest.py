"""What holds for all tests: Ctrl-C works in their children; tests of slow folders are marked; long tests run only when they are
asked for; a test that needs a program that is not here is skipped, or fails (tools.py).
"""

import os
import re
import signal
from pathlib import Path
from zlib import crc32

import pytest

from tests.tools import BARE_PATH, need

TESTS = Path(__file__).parent
SLOW = frozenset(
    {"benchmarks", "browser", "campaign", "cli", "client", "cluster", "daemon", "fuzz", "simulator", "soak", "stories", "web"}
    | {"test_errors.py"}
)
"""Folders and modules whose tests run daemons, many seeds or a browser: they take minutes together."""

LONG_S = 1800
"""Seconds after which a test that is marked long fails; for others pyproject.toml says it."""

# Who starts the tests in the background (`nohup`, `&` in a script) has Ctrl-C or SIGHUP ignored, and every child inherits that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--long` and `--long-part`; the environment variable BARGE_LONG gives either where the command line can't be changed."""
    asked = os.environ.get("BARGE_LONG", "")
    parser.addoption("--long", action="store_true", default=asked == "1", help="run the tests marked long, too (or BARGE_LONG=1)")
    parser.addoption(
        "--long-part",
        default=asked if "/" in asked else "",
        metavar="K/N",
        help="run the K-th of N parts of the tests marked long, too (or BARGE_LONG=K/N); a test's part follows from its name",
    )


def asked_part(text: str) -> tuple[int, int]:
    """K and N of "K/N"; (0, 1), which no test belongs to, of an empty text. Raises UsageError."""
    if not text:
        return 0, 1
    found = re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", text)
    if found is None or int(found[1]) > int(found[2]):
        raise pytest.UsageError(f"--long-part is K/N with K from 1 to N, not {text}")
    return int(found[1]), int(found[2])


def part_of(nodeid: str, parts: int) -> int:
    """Which of `parts` parts, counted from 1, a long test belongs to: the same on every machine."""
    return crc32(nodeid.encode()) % parts + 1


def _mark(item: pytest.Item) -> None:
    place = item.path.relative_to(TESTS).parts[0] if item.path.is_relative_to(TESTS) else ""
    if place == "browser":
        item.add_marker("browser")
    if place in SLOW or item.get_closest_marker("long"):
        item.add_marker("slow")
    if item.get_closest_marker("long"):
        item.add_marker(pytest.mark.timeout(LONG_S))


def pytest_configure(config: pytest.Config) -> None:
    """Refuse a part that is none before anything is collected."""
    asked_part(config.getoption("long_part"))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out slow folders and modules where `-m` wants nothing of them: what they import takes seconds."""
    wants_none = re.fullmatch(r"not slow( and not \w+)*", config.getoption("markexpr")) is not None
    is_slow = collection_path.parent == TESTS and collection_path.name in SLOW
    return True if wants_none and is_slow else None


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark tests by where they are; deselect long ones that were not asked for."""
    for item in items:
        _mark(item)
    if config.getoption("long"):
        return
    part, parts = asked_part(config.getoption("long_part"))
    kept: list[pytest.Item] = []
    deselected: list[pytest.Item] = []
    for item in items:
        runs = item.get_closest_marker("long") is None or part_of(item.nodeid, parts) == part
        (kept if runs else deselected).append(item)
    if deselected:
        config.hook.pytest_deselected(items=deselected)
        items[:] = kept


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Look for the programs that the test is marked to need; without any it finds none beside Python."""
    os.environ["PATH"] = BARE_PATH
    for mark in item.iter_markers("needs"):
        for tool in mark.args:
            need(tool)
