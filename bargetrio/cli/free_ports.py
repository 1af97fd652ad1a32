"""Ports for processes that are about to be started: of the demo, the tests and the benchmarks.

A port is only told here, and its process binds it a moment later. The kernel gives the ports of its ephemeral range to
outgoing connections and to whoever asks for any port, so a port of that range may be gone by then. The ports here lie
outside that range, and this process is told each of them once.
"""

import random
import socket
from pathlib import Path
from typing import Final

HOST: Final = "127.0.0.1"
FIRST: Final = 10_000
"""Below it many services have their customary port."""
EPHEMERAL: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")

_told: set[int] = set()


def free_ports(count: int, ephemeral: Path = EPHEMERAL) -> list[int]:
    """Return `count` ports of 127.0.0.1 that nobody listens at, none of which this process was told before.

    `ephemeral` is the kernel's file with the first and the last port of its range. Without that file, or where the range
    leaves nothing above FIRST, the kernel chooses. Raises OSError where too few ports are free.
    """
    ports: list[int] = []
    candidates = _outside(ephemeral)
    random.SystemRandom().shuffle(candidates)  # two runs beside each other begin at different ones
    for candidate in candidates or [0] * (count + len(_told)):
        if len(ports) == count:
            break
        port = _free(candidate)
        if port is not None and port not in _told:
            _told.add(port)
            ports.append(port)
    if len(ports) < count:
        raise OSError(f"{HOST} has no {count} free ports that this process was not told before")
    return ports


def _outside(ephemeral: Path) -> list[int]:
    """Return the ports from FIRST on that the kernel gives to nobody by itself; none where that is not known."""
    try:
        first, last = (int(word) for word in ephemeral.read_text().split())
    except (OSError, ValueError):
        return []
    return [port for port in range(FIRST, 65_536) if not first <= port <= last]


def _free(port: int) -> int | None:
    """Return the port if it can be bound, or the kernel's choice for 0; None where somebody has it."""
    with socket.socket() as sock:
        try:
            sock.bind((HOST, port))
        except OSError:
            return None
        return int(sock.getsockname()[1])
