"""What the daemon must survive: kill -9 under load, a hundred leader kills, SIGSTOP, a slow disk, one node per host."""

import json
import os
import signal
import socket
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.stories.daemon import Daemon, running, running_apart, write_configuration


class Writer(threading.Thread):
    """Puts numbered keys over the client protocol, remembers which were acknowledged, and looks for the leader again."""

    def __init__(self, addresses: dict[int, str], name: str) -> None:
        super().__init__(daemon=True)
        self.addresses = addresses
        self.prefix = name
        self.acknowledged: dict[str, int] = {}
        self.stopped = threading.Event()

    def run(self) -> None:
        number = 0
        while not self.stopped.is_set():
            for address in self.addresses.values():
                try:
                    number = self._write_to(address, number)
                except OSError:
                    number += 1  # the outcome of the last one is unknown
                    time.sleep(0.005)

    def _write_to(self, address: str, number: int) -> int:
        host, port = address.split(":")
        with socket.create_connection((host, int(port)), 2) as sock, sock.makefile("rw", encoding="utf-8") as stream:
            stream.write('{"hello":"client","protocol":1,"cluster":"barge"}\n')
            stream.flush()
            stream.readline()
            while not self.stopped.is_set():
                number += 1
                key = f"{self.prefix}{number}"
                stream.write(json.dumps({"id": number, "op": "put", "key": key, "value": str(number)}) + "\n")
                stream.flush()
                line = stream.readline()
                if not line:
                    raise OSError("cut")
                answer = json.loads(line)
                if not answer["ok"]:
                    time.sleep(0.005)
                    return number
                self.acknowledged[key] = answer["index"]
        return number

    def stop(self) -> None:
        self.stopped.set()
        self.join(10)


def all_keys(daemon: Daemon) -> dict[str, int]:
    """Read every key with its index, page by page."""
    found: dict[str, int] = {}
    after = ""
    while True:
        page: Any = daemon.http("GET", f"/keys?limit=1000&keys_only=1&after={after}").json
        found.update({item["key"]: item["index"] for item in page["items"]})
        if page["next"] is None:
            return found
        after = page["next"]


def missing(acknowledged: dict[str, int], daemon: Daemon) -> dict[str, int]:
    """Return what was acknowledged and is not there at its index."""
    there = all_keys(daemon)
    return {key: index for key, index in acknowledged.items() if there.get(key) != index}


def _all_wrote(writers: list[Writer]) -> bool:
    return all(len(writer.acknowledged) > 5 for writer in writers)


@pytest.mark.long
def test_kill_9_under_load_loses_no_acknowledged_write(tmp_path: Path) -> None:
    """Twenty times: acknowledged writes are there after the restart, at the index of their answer (BUG-49, BUG-50)."""
    daemon = Daemon(write_configuration(tmp_path, 3))
    acknowledged: dict[str, int] = {}
    try:
        for life in range(20):
            daemon.start()
            daemon.leader()
            writers = [Writer(daemon.addresses, f"l{life}w{number}-") for number in range(4)]
            for writer in writers:
                writer.start()
            daemon.wait_for(partial(_all_wrote, writers), "each writer to have written something")
            daemon.kill_9()
            for writer in writers:
                writer.stop()
                acknowledged.update(writer.acknowledged)
        daemon.start()
        daemon.leader()
        assert len(acknowledged) > 400
        assert missing(acknowledged, daemon) == {}
    finally:
        daemon.end()


@pytest.mark.long
def test_a_hundred_leader_kills_each_end_in_a_new_leader(tmp_path: Path) -> None:
    """Kill the leader, write through the election, revive, catch up; a hundred times in a row."""
    with running(tmp_path) as daemon:
        for number in range(100):
            old = daemon.leader()
            daemon.kill_node(old)
            answer = daemon.put("round", str(number))
            assert answer.status in (200, 201), (number, answer.body)
            assert daemon.leader() != old
            daemon.revive_node(old)
            daemon.wait_for(daemon.caught_up, f"the cluster to catch up after kill {number}")
        assert daemon.get("round").json["value"] == "99"


@pytest.mark.long
def test_a_process_that_stood_still_keeps_its_leader(tmp_path: Path) -> None:
    """SIGSTOP for two seconds, SIGCONT: all nodes were paused, so no leader is deposed."""
    with running(tmp_path) as daemon:
        leader, term = daemon.leader(), daemon.node(0)["term"]
        assert daemon.process is not None
        for _ in range(3):
            os.kill(daemon.process.pid, signal.SIGSTOP)
            time.sleep(2)
            os.kill(daemon.process.pid, signal.SIGCONT)
            assert daemon.put("still", "here").status in (200, 201)
            time.sleep(0.7)  # longer than an election timeout: a wrong election would show by now
        assert (daemon.leader(), daemon.node(0)["term"]) == (leader, term)


@pytest.mark.long
def test_a_slow_disk_deposes_no_leader_and_stops_no_other_node(tmp_path: Path) -> None:
    """Heartbeats do not wait for a sync (BUG-14): first a follower's disk is slow, then the leader's."""
    with running(tmp_path) as daemon:
        leader, term = daemon.leader(), daemon.node(0)["term"]
        for slow in (min({0, 1, 2} - {leader}), leader):
            faults = {"disks": [{"node": slow, "delay_ms": 1500}]}
            assert daemon.http("PUT", "/faults", json.dumps(faults), {"Content-Type": "application/json"}).status == 200
            began = time.monotonic()
            for number in range(10):
                assert daemon.put(f"slow{slow}-{number}", "x").status == 201
            # Ten writes one after another through a disk that takes 1.5 s each would last 15 s: the other two are a majority.
            assert time.monotonic() - began < 5
            time.sleep(2)
        assert (daemon.leader(), daemon.node(leader)["term"]) == (leader, term)
        daemon.http("DELETE", "/faults")
        daemon.wait_for(daemon.caught_up, "the slow disks to catch up")


def test_a_failed_disk_stops_its_node_alone(tmp_path: Path) -> None:
    """BUG-51: the first failed write ends the node with its reason; the others go on; revived, it has lost nothing."""
    with running(tmp_path) as daemon:
        leader = daemon.leader()
        broken = min({0, 1, 2} - {leader})
        for error in ("EIO", "ENOSPC"):
            faults = {"disks": [{"node": broken, "error": error}]}
            assert daemon.http("PUT", "/faults", json.dumps(faults), {"Content-Type": "application/json"}).status == 200
            assert daemon.put(f"while-{error}", "x").status == 201
            daemon.wait_for(lambda: daemon.node(broken)["state"] == "crashed", "the node to stop")
            daemon.wait_for_event("disk_failed", node=broken)
            assert daemon.leader() == leader
            daemon.http("DELETE", "/faults")
            daemon.revive_node(broken)
            daemon.wait_for(daemon.caught_up, "the node to catch up")


def test_one_node_per_host_is_a_cluster_too(tmp_path: Path) -> None:
    """Three daemons, one configuration file: REST, page, kill and revive work from each."""
    with running_apart(tmp_path) as daemons:
        leader = daemons[0].leader()
        for number, daemon in enumerate(daemons):
            assert daemon.put(f"from{number}", "x").status == 201
            assert all(daemon.get(f"from{n}").json["value"] == "x" for n in range(number + 1))
            assert daemon.http("GET", "/log").status == 200
            assert len(daemon.http("GET", "/nodes").json["nodes"]) == 3
        away = daemons[(leader + 1) % 3]
        assert away.kill_node(leader)["changed"] is True
        assert away.put("without", "the old leader").status == 201
        assert away.leader() != leader
        assert daemons[leader].node(leader)["state"] == "killed"
        assert away.revive_node(leader)["changed"] is True
        away.wait_for(away.caught_up, "the old leader to catch up")
        assert {event["node"] for event in away.events("node_recovered")} == {0, 1, 2}  # events of all daemons, merged


@pytest.mark.long
def test_a_host_that_stood_still_learns_the_new_term(tmp_path: Path) -> None:
    """One of three processes is stopped while it leads: the others elect, it comes back as a follower, with nothing lost."""
    with running_apart(tmp_path) as daemons:
        leader = daemons[0].leader()
        other = daemons[(leader + 1) % 3]
        assert other.put("before", "1").status == 201
        stopped = daemons[leader].process
        assert stopped is not None
        os.kill(stopped.pid, signal.SIGSTOP)
        try:
            assert other.get("before").json["value"] == "1"  # asked of the stopped node first, then of the next leader
            first = other.put("while", "2")
            # A write in flight to the stopped node must not be retried.
            assert first.status == 201 or (first.status == 504 and first.json["applied"] is None)
            assert other.put("while", "2").status in (200, 201)
        finally:
            os.kill(stopped.pid, signal.SIGCONT)
        assert other.leader() != leader
        other.wait_for(other.caught_up, "the stopped host to catch up")
        assert daemons[leader].get("while").json["value"] == "2"
