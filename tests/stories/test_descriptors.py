"""Clients that come in crowds and stay: the log, the snapshots and the peers have what they need."""

import json
import socket
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.stories.daemon import Daemon, write_configuration

LIMIT = 200
SNAPSHOTS = "snapshots: {entries: 50, mib: 1, trailing_entries: 0}\n"


@pytest.mark.long
def test_three_hundred_clients_leave_the_log_its_descriptors(tmp_path: Path) -> None:
    """ulimit -n 200: most are refused; writes, snapshots, REST and elections still work."""
    daemon = Daemon(write_configuration(tmp_path, 3, extra=SNAPSHOTS))
    try:
        _start(daemon)
        leader = daemon.leader()
        with ExitStack() as crowd:
            answers = [_stay(crowd, daemon, node_id) for _ in range(100) for node_id in range(3)]
            refused = [answer for answer in answers if answer.get("hello") == "refused"]
            assert len(refused) > 200
            assert {answer["error"] for answer in refused} == {"overloaded"}
            assert any(answer.get("hello") == "node" for answer in answers)
            for _ in range(150):
                _stay(crowd, daemon, leader, hello=False)
            host, port = daemon.api.split(":")
            for _ in range(100):  # REST's own places are fewer, too; a silent one makes room after a moment
                crowd.enter_context(socket.create_connection((host, int(port)), 10))
            daemon.wait_for(lambda: daemon.put("beside", "them").status == 201, "a place for one who asks")
            for number in range(300):
                assert daemon.put(f"k{number % 20}", "v").status in (200, 201)
            daemon.kill_node(leader)
            daemon.wait_for(lambda: daemon.leader() != leader, "another leader")
            daemon.wait_for(lambda: daemon.put("after", "it").status == 201, "a write at the new leader")
            daemon.revive_node(leader)
            daemon.wait_for(daemon.caught_up, "all to catch up", 20)
            views = [daemon.node(node_id) for node_id in range(3)]
            assert [view["state"] for view in views] == ["running"] * 3
            assert all(view["snapshot_index"] > 100 for view in views)
            assert len(list(Path(f"/proc/{_pid(daemon)}/fd").iterdir())) < LIMIT
        assert "Too many open files" not in daemon.output.read_text()
    finally:
        daemon.end()


def _start(daemon: Daemon) -> None:
    """As `Daemon.start`, by a shell that lowers the limit, the hard one too."""
    serve = [sys.executable, "-m", "bargetrio", "serve", "--config", str(daemon.configuration)]
    with daemon.output.open("a") as output:
        daemon.process = subprocess.Popen(
            ["/bin/sh", "-c", f'ulimit -n {LIMIT} && exec "$@"', "sh", *serve],
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            cwd=daemon.configuration.parent,
            text=True,
        )
    daemon.wait_until_live()


def _pid(daemon: Daemon) -> int:
    assert daemon.process is not None
    return daemon.process.pid


def _stay(crowd: ExitStack, daemon: Daemon, node_id: int, *, hello: bool = True) -> dict[str, str]:
    """Connect and never leave; return the answer to the hello, if one is said."""
    host, port = daemon.addresses[node_id].split(":")
    sock = crowd.enter_context(socket.create_connection((host, int(port)), 10))
    if not hello:
        return {}
    sock.sendall(b'{"hello":"client","protocol":1,"cluster":"barge"}\n')
    with suppress(ConnectionError), sock.makefile("rb") as stream:
        line = stream.readline()
        if line:
            found: dict[str, str] = json.loads(line)
            return found
    return {}
