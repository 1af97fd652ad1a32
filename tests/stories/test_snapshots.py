"""Snapshots as their user meets them: logs that stay short, followers that come back, backups and new clusters from them."""

import subprocess
import sys
import threading
from pathlib import Path
from random import Random

import pytest

from bargetrio.simulator.disk import SimulatedDisk
from bargetrio.storage.snapshots import SnapshotStart, SnapshotWriter, snapshot_name
from tests.stories.daemon import Daemon, running_apart, write_configuration

OFTEN = "snapshots: {entries: 100, mib: 1, trailing_entries: 20}\n"


def barge(configuration: Path, *words: str, code: int = 0) -> str:
    """Run a command; return what it said."""
    result = subprocess.run(
        [sys.executable, "-m", "bargetrio", *words, *([] if "inspect" in words else ["--config", str(configuration)])],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == code, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    return result.stdout + result.stderr


def fill(daemon: Daemon, first: int, last: int, values: int = 50) -> None:
    """Write in bulk: `values` keys, again and again."""
    lines = "".join(f'{{"key":"k{number % values:03}","value":"{number}"}}\n' for number in range(first, last))
    answer = daemon.http("POST", "/keys", lines.encode(), {"Content-Type": "application/x-ndjson"})
    assert answer.body.count(b'"ok":true') == last - first


def test_logs_stay_short_and_a_follower_that_was_away_is_sent_the_state(tmp_path: Path) -> None:
    """The files, the events, the nodes' own words; and a restart from the snapshot."""
    daemon = Daemon(write_configuration(tmp_path, 3, extra=OFTEN))
    try:
        daemon.start()
        leader = daemon.leader()
        away = (leader + 1) % 3
        fill(daemon, 0, 150)
        daemon.kill_node(away)
        for start in range(150, 1150, 250):
            fill(daemon, start, start + 250)
        daemon.wait_for_event("snapshot_taken", node=leader)
        daemon.wait_for(lambda: daemon.node(leader)["log_start"] > 500 or None, "the log to be cut")
        daemon.revive_node(away)
        daemon.wait_for_event("snapshot_installed", node=away)
        daemon.wait_for(lambda: daemon.caught_up() or None, "everybody to have everything")
        assert daemon.node(away)["last_applied"] > 1150
        names = [path.name for path in (tmp_path / "data" / f"node-{away}" / "snapshots").glob("*.snap")]
        assert len(names) <= 2 and all(int(name[:16]) > 500 for name in names)
        daemon.kill_9()
        daemon.start()
        daemon.leader()
        assert [daemon.get(f"k{number:03}").json["value"] for number in (0, 49)] == ["1100", "1149"]
        recovered = daemon.wait_for_event("node_recovered", node=away)
        assert recovered["detail"]["snapshot"] > 500
    finally:
        daemon.end()


def test_a_backup_of_a_busy_cluster_begins_a_new_one(tmp_path: Path) -> None:
    """It holds all that was acknowledged before it was asked for; the new cluster goes on from there."""
    daemon = Daemon(write_configuration(tmp_path, 3, extra=OFTEN))
    (tmp_path / "new").mkdir()
    restored = Daemon(write_configuration(tmp_path / "new", 3))
    backup = tmp_path / "backup.snap"
    stop = threading.Event()

    def load() -> None:
        number = 1000
        while not stop.is_set():
            fill(daemon, number, number + 50)
            number += 50

    writer = threading.Thread(target=load)
    try:
        daemon.start()
        daemon.leader()
        fill(daemon, 0, 60)
        index = daemon.put("mine", "acknowledged").json["index"]
        daemon.http("PUT", "/keys/bytes", b"\xff\x00", {"Content-Type": "application/octet-stream"})
        writer.start()
        told = barge(daemon.configuration, "snapshot", "save", str(backup))
        stop.set()
        writer.join()
        at = int(told.split("index ")[1].split(",")[0])
        assert at >= index
        assert (
            f"at index {at}"
            in subprocess.run(
                [sys.executable, "-m", "bargetrio", "snapshot", "inspect", str(backup)],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
        daemon.stop()

        said = barge(restored.configuration, "snapshot", "restore", str(backup))
        assert said.count(f"everything up to index {at}") == 3
        assert "not empty" in barge(restored.configuration, "snapshot", "restore", str(backup), code=1)
        restored.start()
        restored.leader()
        assert restored.get("mine").json == {"key": "mine", "index": index, "value": "acknowledged"}
        assert restored.get("bytes").json["value_b64"] == "/wA="
        assert restored.put("more", "x").json["index"] > at
        assert len({node["last_log_term"] for node in restored.http("GET", "/nodes").json["nodes"]}) == 1
    finally:
        stop.set()
        daemon.end()
        restored.end()


def test_a_backup_is_fetched_from_any_daemon(tmp_path: Path) -> None:
    """Of one node per host, too: the first that answers."""
    with running_apart(tmp_path) as daemons:
        daemons[0].put("k", "v")
        index = int(daemons[0].get("k").headers["barge-index"])
        for daemon in daemons:
            answer = daemon.http("GET", "/snapshot")
            assert int(answer.headers["barge-index"]) >= index
            assert len(answer.body) == int(answer.headers["content-length"])
            assert b'"k":["v"' in answer.body
        daemons[0].kill_9()
        assert "everything up to index" in barge(daemons[0].configuration, "snapshot", "save", str(tmp_path / "b.snap"))


@pytest.mark.long
def test_what_is_no_backup_is_refused(tmp_path: Path) -> None:
    """Cut off, changed in a byte, empty, missing: one line, and nothing is made."""
    daemon = Daemon(write_configuration(tmp_path, 1))
    (tmp_path / "new").mkdir()
    configuration = write_configuration(tmp_path / "new", 1)
    good = tmp_path / "good.snap"
    try:
        daemon.start()
        daemon.leader()
        fill(daemon, 0, 100)
        barge(daemon.configuration, "snapshot", "save", str(good))
    finally:
        daemon.end()
    data = good.read_bytes()
    bad = tmp_path / "bad.snap"
    for content in (
        b"",
        b"hello\n",
        data[:-1],
        data[: len(data) // 2],
        data + b"x",
        *(flipped(data, place) for place in (0, 40, 900)),
        whole_but_foreign(b"[1,2,3]"),
        whole_but_foreign(b'{"a":["\xff",1]}'),
    ):
        bad.write_bytes(content)
        assert str(bad) in barge(configuration, "snapshot", "restore", str(bad), code=1)
        assert str(bad) in barge(configuration, "snapshot", "inspect", str(bad), code=1)
    assert "No such file" in barge(configuration, "snapshot", "restore", str(tmp_path / "none"), code=1)
    assert not (tmp_path / "new" / "data").exists()
    assert "no node 7" in barge(configuration, "snapshot", "restore", "--node", "7", str(good), code=2)
    (tmp_path / "new" / "data").mkdir()
    (tmp_path / "new" / "data" / "node-0").write_bytes(b"a file where the folder should be")
    assert "is not empty" in barge(configuration, "snapshot", "restore", str(good), code=1)


def whole_but_foreign(line: bytes) -> bytes:
    """A file whose every checksum is right, and whose state is none of keys."""
    disk = SimulatedDisk(Random(1))
    start = SnapshotStart(cluster="barge", members=(0,), last_index=5, last_term=1, digest=0)
    writer = SnapshotWriter(disk, start)
    writer.add(line)
    snapshot = writer.finish()
    return disk.peek(snapshot_name(snapshot.last_index, snapshot.last_term))


def flipped(data: bytes, place: int) -> bytes:
    """Change one bit."""
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
