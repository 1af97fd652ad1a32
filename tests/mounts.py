"""File systems of a given size, for tests of full disks."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.tools import missing, need


@contextmanager
def tmpfs(folder: Path, size: str) -> Iterator[Path]:
    """Mount a small one; needs root, and leave to mount."""
    need("mount")
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)], check=False, capture_output=True, text=True
    )
    if mounted.returncode:
        missing(f"leave to mount a tmpfs: {mounted.stderr.strip()}", "run the tests as root, with CAP_SYS_ADMIN")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)
