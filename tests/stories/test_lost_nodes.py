"""A daemon whose nodes have all crashed: its behaviour, and its notifications to systemd."""

import json
import socket
import subprocess
from pathlib import Path

import pytest

from bargetrio.daemon.run import LOST_POLL_S
from tests.stories.daemon import Daemon, write_configuration

EITHER_WAY = pytest.mark.parametrize(
    "node_id", [pytest.param(0, id="serve --node 0"), pytest.param(None, id="serve", marks=pytest.mark.long)]
)


def break_disks(daemon: Daemon, size: int, error: str = "EIO") -> None:
    """Make the disks of all nodes fail, and write."""
    faults = json.dumps({"disks": [{"node": node_id, "error": error} for node_id in range(size)]})
    assert daemon.http("PUT", "/faults", faults, {"Content-Type": "application/json"}).status == 200
    daemon.put("a", "x")


@EITHER_WAY
def test_a_daemon_whose_only_node_crashed_ends_so_that_systemd_starts_it_again(tmp_path: Path, node_id: int | None) -> None:
    """Restart=on-failure takes every exit code but 0."""
    daemon = Daemon(write_configuration(tmp_path, 1), node_id=node_id).start()
    try:
        daemon.leader()
        break_disks(daemon, 1)
        assert daemon.process is not None
        assert daemon.process.wait(timeout=10) == 3
        assert "all nodes of this daemon have crashed: it ends" in daemon.output.read_text()
        daemon.start()  # as systemd does: the fault was the process's own
        daemon.leader()
        assert daemon.put("after", "x").status == 201
    finally:
        daemon.end()


@EITHER_WAY
def test_a_daemon_whose_only_node_was_killed_stays_and_revives_it(tmp_path: Path, node_id: int | None) -> None:
    """A kill by command is no crash."""
    daemon = Daemon(write_configuration(tmp_path, 1), node_id=node_id).start()
    try:
        daemon.leader()
        assert daemon.put("before", "x").status == 201
        daemon.kill_node(0)
        assert daemon.process is not None
        with pytest.raises(subprocess.TimeoutExpired):
            daemon.process.wait(timeout=2 * LOST_POLL_S + 1)
        assert daemon.node(0)["state"] == "killed"
        daemon.revive_node(0)
        daemon.leader()
        assert daemon.get("before").json["value"] == "x"
    finally:
        daemon.end()


def test_the_watchdog_is_not_fed_where_no_node_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon of all nodes of a larger cluster stays to be asked, and systemd sees that it is of no use."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "600000")
        daemon = Daemon(write_configuration(tmp_path, 3)).start()
        try:
            daemon.leader()
            break_disks(daemon, 3)
            while "no node of this daemon runs" not in (said := listener.recv(4096).decode()):
                pass
            for _ in range(3):
                assert "WATCHDOG=1" not in said
                said = listener.recv(4096).decode()
            assert daemon.process is not None
            assert daemon.process.poll() is None
        finally:
            daemon.end()
