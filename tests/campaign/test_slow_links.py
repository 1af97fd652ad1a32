"""Real daemons whose peer links have a bandwidth: values that take longer to cross than an election timeout change no leader.

A daemon per node, behind proxies that carry so many bytes a second from one node to another; clients reach the leader directly.
"""

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.campaign.cluster import SIZE, Cluster
from tests.stories.daemon import TIMING

MBIT_5: float = 5_000_000 / 8
SLOW: float = 100_000.0
SECONDS = float(os.environ.get("BARGE_SLOW_LINKS_S", "20"))


class Pipeline(threading.Thread):
    """Writes so many values of a size at once to one node, and as soon as one is answered another, until stopped."""

    def __init__(self, address: str, outstanding: int, value_bytes: int) -> None:
        super().__init__(daemon=True)
        self.answered = 0
        self.refused: list[str] = []
        self.last_answer_at = 0.0
        self._socket = socket.create_connection(address.split(":"), timeout=30)  # type: ignore[arg-type]  # a port's name
        self._outstanding = outstanding
        self._value = "x" * value_bytes
        self._sent = 0

    def stop(self) -> None:
        """End it."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def run(self) -> None:
        """Say hello, fill the pipeline, keep it full."""
        with suppress(OSError, ValueError), self._socket, self._socket.makefile("rb") as answers:
            self._say({"hello": "client", "protocol": 1, "cluster": "barge"})
            answers.readline()
            for _ in range(self._outstanding):
                self._put()
            while line := answers.readline():
                answer = json.loads(line)
                if answer["ok"]:
                    self.answered += 1
                    self.last_answer_at = time.monotonic()
                else:
                    self.refused.append(answer["error"])
                self._put()

    def _put(self) -> None:
        self._sent += 1
        self._say({"id": self._sent, "op": "put", "key": f"v{self._sent % 8}", "value": self._value})

    def _say(self, line: dict[str, Any]) -> None:
        self._socket.sendall(json.dumps(line).encode() + b"\n")


@contextmanager
def cluster_of_three(folder: Path, extra: str = "", timing: str = TIMING) -> Iterator[Cluster]:
    """Three daemons with a leader, ended whatever happens."""
    cluster = Cluster(folder, apart=True, extra=extra, timing=timing)
    try:
        cluster.start_all()
        yield cluster
    finally:
        cluster.end()


def reign(cluster: Cluster, node_id: int = 0) -> tuple[int, int]:
    """Return leader and term, as known to one daemon."""
    answer = cluster.daemons[node_id].wait_until_live().http("GET", "/leader").json
    return answer["leader"], answer["term"]


def listens_at(cluster: Cluster, node_id: int) -> str:
    """Return where a node is reached without its proxy."""
    return f"127.0.0.1:{cluster.proxies[node_id].target}"


@pytest.mark.long
@pytest.mark.parametrize(("outstanding", "value_bytes"), [(256, 16 * 1024), (1, 1024 * 1024)])
def test_large_values_over_5_mbit_change_no_leader(outstanding: int, value_bytes: int, tmp_path: Path) -> None:
    """OWN-38: one append is up to two seconds on its way, an election timeout is 0.3 to 0.6 s.

    The last of 256 values waits 6.7 s for the link, so a request may take 15: with the 5 s of a usual configuration each would
    time out after the first 190, and the link would carry nothing but entries that nobody waits for any more.
    """
    with cluster_of_three(tmp_path, timing="{heartbeat_ms: 50, election_ms: [300, 600], request_timeout_ms: 15000}") as cluster:
        leader, term = reign(cluster)
        cluster.narrow(MBIT_5)
        pipeline = Pipeline(listens_at(cluster, leader), outstanding, value_bytes)
        pipeline.start()
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            time.sleep(0.5)
            assert {reign(cluster, node_id) for node_id in range(SIZE)} == {(leader, term)}
        pipeline.stop()
        carried = min(cluster.proxies[node_id].carried[leader] for node_id in range(SIZE) if node_id != leader)
        print(
            f"{pipeline.answered} values of {value_bytes} bytes in {SECONDS} s, {set(pipeline.refused)}, {carried} bytes carried"
        )
        assert pipeline.answered * value_bytes >= 0.7 * MBIT_5 * SECONDS
        assert not pipeline.refused


@pytest.mark.long
def test_a_snapshot_crosses_100_kb_a_second_while_writes_go_on(tmp_path: Path) -> None:
    """OWN-37: in at most twice the time that its bytes take."""
    with cluster_of_three(tmp_path, "snapshots: {entries: 20, mib: 1, trailing_entries: 0}\n") as cluster:
        leader, term = reign(cluster)
        away = next(node_id for node_id in range(SIZE) if node_id != leader)
        cluster.daemons[away].kill_9()
        daemon = cluster.daemons[leader]
        for number in range(40):
            assert daemon.put(f"large{number % 16}", "x" * 64 * 1024).status in (200, 201)
        daemon.wait_for(lambda: daemon.node(leader)["snapshot_index"] > 20, "a snapshot")
        cluster.narrow(SLOW)
        before = cluster.proxies[away].carried[leader]
        cluster.start(cluster.daemons[away])
        cluster.daemons[away].wait_until_live()
        began = time.monotonic()
        writes = 0
        while cluster.daemons[away].node(away)["snapshot_index"] == 0:
            assert daemon.put("small", "x").status in (200, 201)
            writes += 1
            assert time.monotonic() - began < 60
            time.sleep(0.1)
        took = time.monotonic() - began
        size = daemon.wait_for_event("snapshot_sent", node=leader, peer=away)["detail"]["size"]
        carried = cluster.proxies[away].carried[leader] - before
        print(f"{size} bytes in {took:.1f} s, ideal are {size / SLOW:.1f} s; {carried} bytes carried, {writes} writes")
        assert took <= 2 * size / SLOW
        assert reign(cluster, leader) == (leader, term)


@pytest.mark.long
def test_a_leader_that_stands_still_in_the_middle_of_a_long_message_is_replaced(tmp_path: Path) -> None:
    """What its kernel and the link still hold counts as hearing it, and no more: then others elect."""
    with cluster_of_three(tmp_path) as cluster:
        leader, term = reign(cluster)
        other = next(node_id for node_id in range(SIZE) if node_id != leader)
        cluster.narrow(MBIT_5)
        pipeline = Pipeline(listens_at(cluster, leader), 16, 512 * 1024)
        pipeline.start()
        time.sleep(4)
        process = cluster.daemons[leader].process
        assert process is not None
        os.kill(process.pid, signal.SIGSTOP)
        began = time.monotonic()
        try:
            cluster.daemons[other].wait_for(lambda: _another_leads(cluster, other, term), "another leader", 15)
        finally:
            os.kill(process.pid, signal.SIGCONT)
            pipeline.stop()
        took = time.monotonic() - began
        print(f"another leader after {took:.2f} s")
        assert took < 4.0


def _another_leads(cluster: Cluster, asked: int, term: int) -> bool:
    node = cluster.daemons[asked].node(asked)
    return bool(node["term"] > term and node["leader"] is not None)
