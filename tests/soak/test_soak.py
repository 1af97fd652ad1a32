"""The soak benchmark in small: under a steady load on a fixed set of keys, nothing grows."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SECONDS = float(os.environ.get("BARGE_SOAK_S", "60"))


@pytest.mark.long
def test_nothing_grows_under_a_steady_load() -> None:
    """Memory, descriptors, threads, disk and logs of the last quarter are those of the second one; no put fails."""
    root = Path(__file__).parents[2]
    size = ["--minutes", str(SECONDS / 60), "--keys", "10000", "--snapshot-entries", "20000", "--ignore-speed"]
    result = subprocess.run(
        [sys.executable, "benchmarks/soak.py", *size],
        capture_output=True,
        text=True,
        timeout=SECONDS + 120,
        check=False,
        cwd=root,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "memory, greatest" in result.stdout
