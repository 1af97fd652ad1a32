"""Ports for processes that are about to be started: of the demo, the tests and the benchmarks.

A port is only chosen here, and its process binds it a moment later. The kernel gives the ports of its ephemeral range to
outgoing connections and to whoever asks for any port, so a port of that range may be gone by then. The ports here lie below
that range, with its default bounds, and each is returned once in this process.
"""

import random
import socket
from collections.abc import Iterator
from itertools import islice
from typing import Final

HOST: Final = "127.0.0.1"
FIRST_PORT: Final = 10_000
"""Below it many services have their customary port."""
LAST_PORT: Final = 32_767
"""Linux's ephemeral range begins at 32,768, that of macOS and of IANA at 49,152."""


def free_ports(count: int) -> list[int]:
    """Return `count` free ports of 127.0.0.1, none of which was returned in this process before.

    Raises OSError where too few are left.
    """
    ports = list(islice(filter(_is_free, _candidates), count))
    if len(ports) < count:
        raise OSError(f"{HOST} has no {count} free ports that were not returned before")
    return ports


def _all_in_any_order() -> Iterator[int]:
    """Yield each port once; two runs beside each other begin at different ones."""
    yield from random.SystemRandom().sample(range(FIRST_PORT, LAST_PORT + 1), LAST_PORT + 1 - FIRST_PORT)


_candidates: Final = _all_in_any_order()


def _is_free(port: int) -> bool:
    with socket.socket() as sock:
        try:
            sock.bind((HOST, port))
        except OSError:
            return False
        return True
