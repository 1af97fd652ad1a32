"""What processes cost: CPU seconds and greatest memory between two moments, as the kernel counts them (/proc)."""

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cost:
    """What the processes took together. `peak_mib` adds each one's greatest resident memory in the span."""

    cpu_s: float
    peak_mib: float
    seconds: float


class Meter:
    """Counts from its making to `read`."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = list(pids)
        for pid in self._pids:
            with suppress(OSError):
                Path(f"/proc/{pid}/clear_refs").write_text("5")  # the kernel forgets the greatest memory so far
        self._cpu_s = cpu_s(self._pids)
        self._began = time.perf_counter()

    def read(self) -> Cost:
        """Return the cost so far."""
        peak = sum(memory_mib(pid, "VmHWM") for pid in self._pids)
        return Cost(cpu_s(self._pids) - self._cpu_s, peak, time.perf_counter() - self._began)


def cpu_s(pids: Sequence[int]) -> float:
    """Return the CPU seconds, user's and system's, that the processes have taken since they began."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks * TICK_S


def memory_mib(pid: int, name: str = "VmRSS") -> float:
    """Return a process's resident memory: now, or with `VmHWM` its greatest."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1024
    return 0.0
