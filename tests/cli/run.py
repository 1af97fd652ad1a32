"""`bargetrio` as a script runs it: words in, output and exit code out."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

OURS = ("BARGE_ENDPOINTS", "BARGE_TOKEN_FILE", "BARGE_HISTORY", "NO_COLOR")


def environment(**more: str) -> dict[str, str]:
    """Return the environment without what would lead our commands elsewhere."""
    return {**{name: value for name, value in os.environ.items() if name not in OURS}, **more}


def barge(
    folder: Path, *arguments: str, given: bytes = b"", more: dict[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run it to its end, which must not be a traceback."""
    result = subprocess.run(
        [sys.executable, "-m", "bargetrio", *arguments],
        input=given,
        capture_output=True,
        timeout=60,
        check=False,
        cwd=folder,
        env=environment(**(more or {})),
    )
    assert b"Traceback" not in result.stderr, result.stderr.decode()
    return result


def popen(folder: Path, *arguments: str, **more: str) -> "subprocess.Popen[str]":
    """Start it and go on."""
    pipe: Any = subprocess.PIPE
    command = [sys.executable, "-m", "bargetrio", *arguments]
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd=folder, env=environment(**more))
