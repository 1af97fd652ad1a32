"""A daemon whose nodes have all crashed: its behaviour, and its notifications to systemd."""

import json
import socket
from pathlib import Path

import pytest

from tests.stories.daemon import Daemon, write_configuration


def break_disk(daemon: Daemon, error: str) -> None:
    """Make node 0's disk fail, and write."""
    faults = json.dumps({"disks": [{"node": 0, "error": error}]})
    assert daemon.http("PUT", "/faults", faults, {"Content-Type": "application/json"}).status == 200
    daemon.put("a", "x")


def test_a_daemon_whose_only_node_crashed_ends_so_that_systemd_starts_it_again(tmp_path: Path) -> None:
    """Restart=on-failure takes every exit code but 0."""
    daemon = Daemon(write_configuration(tmp_path, 1), node_id=0).start()
    try:
        daemon.leader()
        break_disk(daemon, "EIO")
        assert daemon.process is not None
        assert daemon.process.wait(timeout=10) == 3
        assert "all nodes of this daemon have crashed: it ends" in daemon.output.read_text()
    finally:
        daemon.end()


def test_the_watchdog_is_not_fed_where_no_node_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon of all nodes stays to be asked, and systemd sees that it is of no use."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "600000")
        daemon = Daemon(write_configuration(tmp_path, 1)).start()
        try:
            daemon.leader()
            break_disk(daemon, "EIO")
            while "no node of this daemon runs" not in (said := listener.recv(4096).decode()):
                pass
            for _ in range(3):
                assert "WATCHDOG=1" not in said
                said = listener.recv(4096).decode()
            assert daemon.process is not None
            assert daemon.process.poll() is None
        finally:
            daemon.end()
