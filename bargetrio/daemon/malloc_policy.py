"""When the C library gives memory back: large blocks at once.

By itself glibc maps a block of its own for what is large, and gives it back to the system when it is free; but the size from
which it does rises with the largest block that was freed, up to 32 MiB. After the first values and lines of 1 MiB they share a
heap with small objects that live longer, and what a crowd of clients has once occupied is not given back: after 60 clients, each
with a part of a line of 8 MiB, a daemon kept 70 MiB more than before, and with this 16 (tests/stories/test_memory.py).
"""

import ctypes
from typing import Final

MAPPED_BYTES: Final = 512 * 1024
"""Blocks of this size or more are mapped: above what a socket is read with, which is needed again at once."""
KEPT_FREE_BYTES: Final = 8 * 1024 * 1024
"""Free memory kept at the end of the heap, in bytes."""

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3


def apply() -> bool:
    """Set it for this process (mallopt(3)); return whether its C library can."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, MAPPED_BYTES)) and bool(mallopt(_M_TRIM_THRESHOLD, KEPT_FREE_BYTES))
