"""A rolling restart: each daemon in its turn is stopped as systemd does it, and started again, while a client writes."""

import threading
import time
from itertools import pairwise
from pathlib import Path
from statistics import median

import pytest

from bargetrio.client import BargeError, Client
from tests.stories.daemon import Daemon
from tests.stories.hosts import daemons, wait_until_ready


class Writer(threading.Thread):
    """Writes one key after the other until it is told to end."""

    def __init__(self, hosts: list[Daemon]) -> None:
        super().__init__(daemon=True)
        self.ends = False
        self.failed: list[BargeError] = []
        self.answered = [time.monotonic()]
        self.hosts = hosts

    def run(self) -> None:
        with Client([str(address) for address in self.hosts[0].addresses.values()], timeout_s=10) as barge:
            number = 0
            while not self.ends:
                number += 1
                try:
                    barge.put(f"k{number % 100}", str(number))
                except BargeError as problem:
                    self.failed.append(problem)
                self.answered.append(time.monotonic())

    def longest_s(self, since: float) -> float:
        """The longest time between two answers, the later of which came since that moment."""
        return max(after - before for before, after in pairwise(self.answered) if after >= since)


def leader_but(daemon: Daemon, node_id: int) -> int:
    """Return the leader, as this daemon knows it, once it is another node."""
    found: list[int] = []

    def is_another() -> bool:
        leader = daemon.http("GET", "/leader").json.get("leader")
        found.extend([] if leader in (None, node_id) else [leader])
        return bool(found)

    daemon.wait_for(is_another, "another leader", 10)
    return found[0]


@pytest.mark.long
def test_leaders_that_stop_hand_over(tmp_path: Path) -> None:
    """No write fails; the next leader is elected because the one before asked for it, and not after an election timeout."""
    with daemons(tmp_path, 3) as hosts:
        for daemon in hosts:
            daemon.start()
        writer = Writer(hosts)
        hosts[0].leader()
        writer.start()
        pauses: list[float] = []
        for _ in range(6):
            leader = hosts[0].leader()
            stopped, began = hosts[leader], time.monotonic()
            assert stopped.stop() < 2.0
            successor = leader_but(hosts[(leader + 1) % 3], leader)
            changes = hosts[successor].events("role_changed", node=successor)
            candidacy = [event for event in changes if event["detail"]["new"] == "candidate"][-1]
            assert candidacy["detail"]["reason"] == f"node {leader} transfers its leadership"
            now = time.monotonic()
            hosts[successor].wait_for(lambda now=now: writer.answered[-1] > now, "a write that is answered", 10)  # type: ignore[misc]
            pauses.append(writer.longest_s(began))
            stopped.start()
            wait_until_ready(stopped)
        writer.ends = True
        writer.join(15)
        assert writer.failed == []
        assert len(writer.answered) > 100
        assert median(pauses) < 0.3, "the shortest election timeout"
