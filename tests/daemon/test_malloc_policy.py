"""Large blocks of memory go back to the system."""

import subprocess
import sys

CODE = """
import os, sys
from bargetrio.daemon import malloc_policy

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGESIZE")

assert malloc_policy.apply()
before = resident()
kept = []
for size in (1, 8, 2, 4):
    blocks = [bytes(size << 20) for _ in range(100 // size)]
    for block in blocks:
        kept.append(bytes(bytearray(100_000)))  # small objects beside them, which stay
    del block, blocks
print(resident() - before - sum(map(len, kept)))
"""


def test_what_large_blocks_have_occupied_is_given_back() -> None:
    """Also when larger ones were freed before; in a process of its own, since it cannot be undone."""
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 10 << 20
