"""What clients can make a daemon of three nodes hold, one crowd after the other, and what it costs another client."""

import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.stories.daemon import Daemon, write_configuration
from tests.stories.memory_load import KEYS, MIB, connect
from tests.stories.timed_daemon import slowest_sync_s

MOST_BYTES = 600 * MIB
"""Beside the keys, which each of the three nodes holds."""
MOST_WAIT_S = 0.3
"""A put of another client, beside the slowest sync of the disk: the 99.9th percentile."""
PUT_EVERY_S = 0.02
ANSWERED_WITHIN_S = 20.0

CROWDS = {"gets": 20_000, "lists": 2_000, "never_read": 1_000, "half_lines": 1_000, "puts": 60}
"""How many requests, clients, or seconds of each."""


class Seen(NamedTuple):
    """What was measured during one crowd."""

    most_bytes: int
    waits_s: list[float]
    slowest_sync_s: float
    failed: int


class Watcher:
    """A client that puts on a schedule, whatever has been answered: a stall counts for each put that was due in it."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._ends = threading.Event()
        self._due: dict[int, float] = {}
        """When each put that is not answered was due."""
        self._is_last_sent = False
        """The last one is sent when the crowd has gone, so that there is an answer to read."""
        self.failed = 0
        self.waits_s: list[float] = []

    @contextmanager
    def measuring(self) -> Iterator["Watcher"]:
        """Put in one thread and read the answers in another one; what is not answered at the end has failed."""
        with connect(self._address) as sock:
            sock.settimeout(ANSWERED_WITHIN_S)
            threads = [threading.Thread(target=work, args=(sock,)) for work in (self._put, self._read)]
            for thread in threads:
                thread.start()
            try:
                yield self
            finally:
                self._ends.set()
                for thread in threads:
                    thread.join()
        self.failed += len(self._due)

    def _put(self, sock: socket.socket) -> None:
        due, number = time.monotonic(), 0
        try:
            while not self._is_last_sent:
                is_last = self._ends.wait(max(0.0, due - time.monotonic()))
                self._due[number] = due
                self._is_last_sent = is_last
                put = {"id": number, "op": "put", "key": "beside", "value": "them"}
                sock.sendall(json.dumps(put).encode() + b"\n")
                due, number = due + PUT_EVERY_S, number + 1
        except OSError:
            self.failed += 1

    def _read(self, sock: socket.socket) -> None:
        try:
            with sock.makefile("rb") as lines:
                for line in lines:
                    answer = json.loads(line)
                    wait_s = time.monotonic() - self._due.pop(answer["id"])
                    if answer["ok"]:
                        self.waits_s.append(wait_s)
                    else:
                        self.failed += 1
                    if self._is_last_sent and not self._due:
                        break
        except OSError:
            self.failed += 1


def most_memory_of(pid: int) -> int:
    """Return the most resident bytes that a process has had since `forget_most_memory`."""
    (kib,) = re.findall(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.M)
    return int(kib) * 1024


def forget_most_memory(pid: int) -> None:
    """Begin to measure anew (proc(5), clear_refs)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def let_in(daemon: Daemon, syncs: Path, leader: int, crowd: str, count: int) -> tuple[Seen, dict[str, int]]:
    """Let a crowd use the leader; return what was measured, and what the crowd was told."""
    assert daemon.process is not None
    pid, began = daemon.process.pid, time.monotonic()
    forget_most_memory(pid)
    with Watcher(daemon.addresses[leader]).measuring() as watcher:
        command = [sys.executable, "-m", "tests.stories.memory_load", daemon.addresses[leader], crowd, str(count)]
        done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=900, check=False)
        assert done.returncode == 0, done.stderr
    slowest = slowest_sync_s(syncs, began, time.monotonic())
    return Seen(most_memory_of(pid), sorted(watcher.waits_s), slowest, watcher.failed), json.loads(done.stdout)


def percentile(waits_s: list[float], share: float) -> float:
    """Return the value below which so large a share of the sorted ones is."""
    return waits_s[min(len(waits_s) - 1, int(len(waits_s) * share))]


def answer_late(listener: socket.socket, late_s: float) -> None:
    """Answer a client's hello, and its puts: nothing for `late_s`, then all at once."""
    connection, _ = listener.accept()
    with connection, connection.makefile("rwb", buffering=0) as stream:
        stream.readline()
        stream.write(b'{"hello":"node"}\n')
        time.sleep(late_s)
        while line := stream.readline():
            stream.write(json.dumps({"id": json.loads(line)["id"], "ok": True}).encode() + b"\n")


def test_a_stall_counts_for_each_put_that_was_due_in_it() -> None:
    """A client that waits for its answer before it puts again would count it once."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer_late, args=(listener, 1.0))
        thread.start()
        host, port = listener.getsockname()
        with Watcher(f"{host}:{port}").measuring() as watcher:
            time.sleep(0.6)
        thread.join()
    assert watcher.failed == 0
    assert len([wait_s for wait_s in watcher.waits_s if wait_s > 0.3]) >= 20


def test_the_slowest_sync_is_that_of_the_time_asked_for(tmp_path: Path) -> None:
    """Exactly, if it ran at any moment of it; not the bound of a bucket, and not that of another time."""
    path = tmp_path / "syncs.txt"
    path.write_text("10.0 4.0\n20.5 1.25\n21.0 0.003\n31.0 2.5\n40.0 7.0\n")
    assert slowest_sync_s(path, 20.0, 30.0) == 2.5
    assert slowest_sync_s(path, 20.0, 28.0) == 1.25
    assert slowest_sync_s(path, 11.0, 12.0) == 0.0


@contextmanager
def timed(folder: Path, syncs: Path) -> Iterator[Daemon]:
    """A daemon of three nodes, with a leader, that writes down how long each sync took."""
    daemon = Daemon(write_configuration(folder, 3))
    daemon.program = ("tests.stories.timed_daemon", str(syncs))
    try:
        daemon.start()
        daemon.leader()
        yield daemon
    finally:
        daemon.end()


@pytest.mark.long
def test_crowds_of_clients_cost_a_bounded_memory_and_no_leader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other, of one daemon with three nodes; each crowd is told what it must know."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))  # the daemon's program is one of the tests'
    syncs = tmp_path / "syncs.txt"
    with timed(tmp_path, syncs) as daemon:
        leader = daemon.leader()
        term = daemon.node(leader)["term"]
        let_in(daemon, syncs, leader, "puts", 0)
        keys_bytes = 3 * KEYS * MIB
        wrong: list[str] = []
        for crowd, count in CROWDS.items():
            began = time.monotonic()
            seen, told = let_in(daemon, syncs, leader, crowd, count)
            wait_s = percentile(seen.waits_s, 0.999)
            median_s, slowest_s = percentile(seen.waits_s, 0.5), seen.waits_s[-1]
            waits = f"{len(seen.waits_s)} puts, p50 {median_s:.4f} s, p99.9 {wait_s:.3f} s, slowest {slowest_s:.3f} s"
            took = f"slowest sync {seen.slowest_sync_s:.3f} s, {seen.failed} failed, {time.monotonic() - began:.0f} s"
            print(f"{crowd} {count}: {seen.most_bytes / MIB:.0f} MiB, {waits}, {took}; told {told}")
            holds = {
                "memory": seen.most_bytes <= MOST_BYTES + keys_bytes,
                "answers": seen.failed == 0,
                "the wait": wait_s <= MOST_WAIT_S + seen.slowest_sync_s,
                "the leader": (daemon.leader(), daemon.node(leader)["term"]) == (leader, term),
                "what it is told": crowd != "half_lines"
                or (told["overloaded"] > 0 and told["overloaded"] + told["held"] == count),
            }
            wrong += [f"{crowd}: {what}" for what, is_so in holds.items() if not is_so]
    assert wrong == []
