"""Programs and rights beside Python that some tests need: where to find them, and how to get them.

A test that needs one is marked `@pytest.mark.needs("zsh")`; a fixture or helper calls `need("chromium")` for its path. Where it
is missing the test is skipped with the reason and with how to get it; with BARGE_REQUIRE_TOOLS=1, as in CI, it fails.

Any other test runs with a PATH that has Python's own folder only, on every machine (conftest.py): one that runs a program and
does not say so fails, whatever way it runs it. `/bin/sh` is everywhere.
"""

import os
import shutil
import sys
from pathlib import Path
from typing import Final, NoReturn

import pytest

REQUIRE: Final = "BARGE_REQUIRE_TOOLS"
WHOLE_PATH: Final = os.environ.get("PATH", os.defpath)
BARE_PATH: Final = str(Path(sys.executable).parent)
"""PATH of a test that needs no tool. Where Python is among the system's programs these are found, too; CI has a venv."""

TOOLS: Final[dict[str, tuple[tuple[str, ...], str]]] = {
    "bash": (("bash",), "apt-get install bash"),
    "chromium": (
        ("chromium", "chromium-browser", "google-chrome", "/usr/bin/chromium"),
        "apt-get install chromium; or name one in CHROMIUM",
    ),
    "mount": (("mount",), "apt-get install mount"),
    "systemd-analyze": (("systemd-analyze",), "apt-get install systemd"),
    "zsh": (("zsh",), "apt-get install zsh"),
}
"""The names of each (the first that is found counts) and how Debian gets it. A variable CHROMIUM comes first, and so for each."""


def find(tool: str) -> str | None:
    """Return the path of a tool of TOOLS, None where it is missing."""
    named = os.environ.get(tool.upper().replace("-", "_"))
    paths = (shutil.which(name, path=WHOLE_PATH) for name in ((named,) if named else TOOLS[tool][0]))
    return next((path for path in paths if path is not None), None)


def need(tool: str) -> str:
    """Return the tool's path, and give the test that runs the whole PATH; else skip it, or fail it where tools are required."""
    path = find(tool)
    if path is None:
        missing(tool, TOOLS[tool][1])
    os.environ["PATH"] = WHOLE_PATH
    return path


def missing(what: str, how: str) -> NoReturn:
    """Skip the test that runs because it needs `what`; fail it where tools are required. `how` tells how to get it."""
    reason = f"needs {what}, which is not here ({how})"
    if os.environ.get(REQUIRE, "") not in ("", "0"):
        pytest.fail(f"{reason}, and {REQUIRE} is set", pytrace=False)
    pytest.skip(reason)
