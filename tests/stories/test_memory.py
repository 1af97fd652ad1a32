"""What clients can make a daemon of three nodes hold, one crowd after the other, and what it costs another client."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from bargetrio.client.connection import NodeConnection
from bargetrio.protocol.errors import BargeError, NoAnswer, NotSent
from bargetrio.protocol.requests import Put, PutAnswer
from tests.stories.daemon import Daemon, running
from tests.stories.memory_load import KEYS, MIB

MOST_BYTES = 600 * MIB
"""Beside the keys, which each of the three nodes holds."""
MOST_WAIT_S = 0.3
"""A put of another client, beside the slowest sync of the disk: the 99.9th percentile."""

Crowds = dict[str, int]
FEW: Crowds = {"gets": 60, "lists": 20, "never_read": 20, "half_lines": 20, "puts": 1}
ALL: Crowds = {"gets": 20_000, "lists": 2_000, "never_read": 1_000, "half_lines": 1_000, "puts": 60}
"""How many requests, clients, or seconds of each."""


class Seen(NamedTuple):
    """What was measured during one crowd."""

    most_bytes: int
    waits_s: list[float]
    slowest_sync_s: float
    failed: int


class Watcher:
    """Measures a daemon while others use it: its memory, and how long puts of a client of its own take."""

    def __init__(self, daemon: Daemon, leader: int) -> None:
        assert daemon.process is not None
        self._pid = daemon.process.pid
        self._address = daemon.addresses[leader]
        self._ends = threading.Event()
        self.most_bytes = 0
        self.failed = 0
        self.waits_s: list[float] = []

    @contextmanager
    def measuring(self) -> Iterator["Watcher"]:
        """Measure in two threads."""
        threads = [threading.Thread(target=work) for work in (self._weigh, self._put)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._ends.set()
            for thread in threads:
                thread.join(20)

    def _weigh(self) -> None:
        while not self._ends.wait(0.02):
            self.most_bytes = max(self.most_bytes, memory_of(self._pid))

    def _put(self) -> None:
        connection = NodeConnection(self._address, "barge", 10)
        try:
            while not self._ends.wait(0.002):
                began = time.monotonic()
                try:
                    connection.ask(Put(id=0, key="beside", value="them"), PutAnswer, 10)
                    self.waits_s.append(time.monotonic() - began)
                except (BargeError, NoAnswer, NotSent):
                    self.failed += 1
                    connection.close()
                    connection = NodeConnection(self._address, "barge", 10)
        finally:
            connection.close()


def memory_of(pid: int) -> int:
    """Return the resident bytes of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def syncs_of(daemon: Daemon) -> dict[float, int]:
    """Return how many syncs of all nodes took at most so many seconds."""
    found: dict[float, int] = {}
    for bound, count in re.findall(
        r'^barge_fsync_seconds_bucket\{.*le="([^"]+)".*\} (\S+)$', daemon.http("GET", "/metrics").body.decode(), re.M
    ):
        found[float(bound)] = found.get(float(bound), 0) + int(float(count))
    return found


def slowest_since(before: dict[float, int], after: dict[float, int]) -> float:
    """Return the bound below which all syncs between two looks were."""
    total = after[float("inf")] - before[float("inf")]
    return min(bound for bound in after if after[bound] - before[bound] >= total)


def let_in(daemon: Daemon, leader: int, crowd: str, count: int) -> tuple[Seen, dict[str, int]]:
    """Let a crowd use the leader; return what was measured, and what the crowd was told."""
    before = syncs_of(daemon)
    with Watcher(daemon, leader).measuring() as watcher:
        command = [sys.executable, "-m", "tests.stories.memory_load", daemon.addresses[leader], crowd, str(count)]
        done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=900, check=False)
        assert done.returncode == 0, done.stderr
    seen = Seen(watcher.most_bytes, sorted(watcher.waits_s), slowest_since(before, syncs_of(daemon)), watcher.failed)
    return seen, json.loads(done.stdout)


def percentile(waits_s: list[float], share: float) -> float:
    """Return the value below which so large a share of the sorted ones is."""
    return waits_s[min(len(waits_s) - 1, int(len(waits_s) * share))]


@pytest.mark.long
@pytest.mark.parametrize("crowds", [FEW, ALL], ids=["few", "all"])
def test_crowds_of_clients_cost_a_bounded_memory_and_no_leader(tmp_path: Path, crowds: Crowds) -> None:
    """One after the other, of one daemon with three nodes; each crowd is told what it must know."""
    with running(tmp_path) as daemon:
        leader = daemon.leader()
        term = daemon.node(leader)["term"]
        let_in(daemon, leader, "puts", 0)
        keys_bytes = 3 * KEYS * MIB
        for crowd, count in crowds.items():
            seen, told = let_in(daemon, leader, crowd, count)
            wait_s = percentile(seen.waits_s, 0.999)
            median_s, slowest_s = percentile(seen.waits_s, 0.5), seen.waits_s[-1]
            waits = f"{len(seen.waits_s)} puts, p50 {median_s:.4f} s, p99.9 {wait_s:.3f} s, slowest {slowest_s:.3f} s"
            syncs = f"slowest sync below {seen.slowest_sync_s} s"
            print(f"{crowd} {count}: {seen.most_bytes / MIB:.0f} MiB, {waits}, {syncs}, {seen.failed} failed; told {told}")
            assert seen.most_bytes <= MOST_BYTES + keys_bytes
            if crowd == "half_lines":
                assert told["overloaded"] > 0 and told["overloaded"] + told["held"] == count
            if crowds is ALL:  # the others say nothing of time: a busy machine would
                assert seen.failed == 0
                assert (daemon.leader(), daemon.node(leader)["term"]) == (leader, term)
                assert wait_s <= MOST_WAIT_S + seen.slowest_sync_s
