"""One client asks for much: the others are served as before, and the daemon's memory stays what it was."""

import json
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.stories.daemon import Daemon, running, running_apart

HELLO = b'{"hello":"client","protocol":1,"cluster":"barge"}\n'
MIB = 1024 * 1024


def test_a_long_list_is_paged_and_delays_no_other_request(tmp_path: Path) -> None:
    """Twelve values of 1 MiB through a follower's daemon, whose requests all share one connection to the leader."""
    with running_apart(tmp_path) as daemons:
        leader = daemons[0].leader()
        follower = daemons[(leader + 1) % 3]
        for number in range(12):
            assert follower.put(f"big{number:02d}", f"{number:02d}" * (MIB // 2)).status == 201
        stopped = threading.Event()
        statuses: list[int] = []

        def write() -> None:
            while not stopped.is_set():
                statuses.append(follower.put("beside", str(len(statuses))).status)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            found: list[tuple[str, str]] = []
            pages, after = 0, ""
            while pages < 20:
                answer = follower.http("GET", f"/keys?prefix=big&after={after}")
                assert answer.status == 200
                pages += 1
                found += [(item["key"], item["value"]) for item in answer.json["items"]]
                after = answer.json["next"]
                if after is None:
                    break
        finally:
            stopped.set()
            writer.join()
        assert found == [(f"big{number:02d}", f"{number:02d}" * (MIB // 2)) for number in range(12)]
        assert pages == 12
        assert len(statuses) > 5 and set(statuses) <= {200, 201}


@pytest.mark.long
def test_twenty_thousand_gets_that_nobody_reads_cost_little(tmp_path: Path) -> None:
    """At most 100 MiB at any moment for one connection, 200 for ten; the leader stays, and others are served beside them."""
    with running(tmp_path) as daemon:
        leader = daemon.leader()
        daemon.put("big", "x" * MIB)
        elections = len(daemon.events("role_changed"))
        for read in ("linearizable", "stale"):
            before = _begin_peak(daemon)
            greedy = [_ask(daemon, leader, 20_000, read) for _ in range(1 if read == "linearizable" else 10)]
            slowest = 0.0
            end = time.monotonic() + 7  # longer than a request's time-out
            while time.monotonic() < end:
                began = time.monotonic()
                assert daemon.put("beside", "y").status in (200, 201)
                slowest = max(slowest, time.monotonic() - began)
                time.sleep(0.05)
            cost = _memory(daemon, "VmHWM") - before
            assert cost < 100 * MIB * (1 if read == "linearizable" else 2), f"{cost // MIB} MiB"
            assert slowest < 5  # a request's time-out
            for sock in greedy:
                sock.close()
        assert daemon.leader() == leader
        assert len(daemon.events("role_changed")) == elections


def test_a_slow_reader_gets_every_answer(tmp_path: Path) -> None:
    """What was deferred comes when there is room; nothing twice, nothing torn."""
    with running(tmp_path, 1) as daemon:
        for number in range(4):
            daemon.put(f"k{number}", str(number) * (MIB // 4))
        lines: list[tuple[int, str, int]] = []
        with _connected(daemon, 0) as sock, sock.makefile("rb") as stream:
            stream.readline()
            sock.sendall(b"".join(b'{"id":%d,"op":"get","key":"k%d"}\n' % (number, number % 4) for number in range(100)))
            for number in range(100):
                if number % 10 == 0:
                    time.sleep(0.05)
                answer = json.loads(stream.readline())
                assert answer["ok"], answer
                lines.append((answer["id"], answer["key"], len(answer["value"])))
                assert set(answer["value"]) == {answer["key"][1]}
        assert sorted(lines) == [(number, f"k{number % 4}", MIB // 4) for number in range(100)]


def _connected(daemon: Daemon, node_id: int) -> socket.socket:
    host, port = daemon.addresses[node_id].split(":")
    sock = socket.create_connection((host, int(port)), 10)
    sock.sendall(HELLO)
    return sock


def _ask(daemon: Daemon, node_id: int, count: int, read: str) -> socket.socket:
    """Send so many gets of the large value, and read no answer; what the node does not take is not sent."""
    sock = _connected(daemon, node_id)
    sock.settimeout(2)
    with suppress(TimeoutError):
        sock.sendall(b"".join(b'{"id":%d,"op":"get","key":"big","read":"%s"}\n' % (n, read.encode()) for n in range(count)))
    return sock


def _begin_peak(daemon: Daemon) -> int:
    """Have the kernel's mark of the highest resident set begin anew; return the resident set, in bytes."""
    assert daemon.process is not None
    Path(f"/proc/{daemon.process.pid}/clear_refs").write_text("5")
    return _memory(daemon, "VmRSS")


def _memory(daemon: Daemon, of: str) -> int:
    """Return the daemon's resident set now (VmRSS) or at its highest (VmHWM), in bytes."""
    assert daemon.process is not None
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    return int(status.partition(f"{of}:")[2].split()[0]) * 1024
