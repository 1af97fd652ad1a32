"""`bargetrio snapshot save` and `restore` as they meet full disks, signals, each other, and what is there already."""

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any
from zlib import crc32

import pytest

from bargetrio.files import replacing
from bargetrio.simulator.disk import SimulatedDisk
from bargetrio.storage.snapshots import SnapshotStart, SnapshotWriter, snapshot_name
from tests.cli.run import barge, popen
from tests.mounts import tmpfs
from tests.stories.daemon import Daemon, running, write_configuration


def backup(index: int, cluster: str = "barge") -> bytes:
    """A whole backup of one key at this index."""
    disk = SimulatedDisk(Random(1))
    writer = SnapshotWriter(disk, SnapshotStart(cluster=cluster, members=(0,), last_index=index, last_term=1, digest=0))
    writer.add(b'{"a":["%s",%d]}' % (b"x" * 100_000, index))
    snapshot = writer.finish()
    return disk.peek(snapshot_name(snapshot.last_index, snapshot.last_term))


@contextmanager
def daemon_with(data: bytes, *, whole: bool = True, checksum_of: bytes | None = None) -> Iterator[tuple[str, threading.Event]]:
    """A daemon that has this backup, as far as `snapshot save` sees it; it sends half, and the rest at the event."""
    go_on = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    checksum = crc32(data if checksum_of is None else checksum_of)
    head = f"HTTP/1.1 200 x\r\nContent-Length: {len(data)}\r\nBarge-Index: 1\r\nBarge-Checksum: {checksum:08x}\r\n\r\n".encode()

    def serve() -> None:
        with suppress(OSError):
            while True:
                sock, _ = listener.accept()
                with sock:
                    sock.recv(65536)
                    sock.sendall(head + data[: len(data) // 2])
                    go_on.wait(20)
                    sock.sendall(data[len(data) // 2 :] if whole else b"")

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}", go_on
    finally:
        go_on.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def parts(folder: Path) -> list[str]:
    """The unfinished files there."""
    return [path.name for path in folder.iterdir() if path.name.endswith(".part")]


def wait_for_part(folder: Path, count: int = 1) -> None:
    """Until so many saves have made their file."""
    end = time.monotonic() + 20
    while len(parts(folder)) < count:
        assert time.monotonic() < end, os.listdir(folder)
        time.sleep(0.01)


def test_two_saves_at_once_leave_the_newer_backup(tmp_path: Path) -> None:
    """Each has a file of its own, and the older one, which ends last, does not replace the newer."""
    with daemon_with(backup(5)) as (old, go_on), daemon_with(backup(9)) as (new, now):
        now.set()
        first = popen(tmp_path, "snapshot", "save", "b.snap", "--endpoint", old)
        wait_for_part(tmp_path)
        assert barge(tmp_path, "snapshot", "save", "b.snap", "--endpoint", new).returncode == 0
        go_on.set()
        said, errors = first.communicate(timeout=20)
        assert (first.returncode, errors) == (0, "")
        assert "up to index 9, by another save" in said
    assert b"at index 9" in barge(tmp_path, "snapshot", "inspect", "b.snap").stdout
    assert stat.S_IMODE((tmp_path / "b.snap").stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["b.snap"]


@pytest.mark.parametrize("there", [backup(9), backup(3, cluster="another")])
def test_a_backup_that_is_not_of_this_clusters_past_is_left_alone(tmp_path: Path, there: bytes) -> None:
    """A cluster that was begun anew under its name has lower indices: its backups were left out, and the exit code was 0."""
    (tmp_path / "b.snap").write_bytes(there)
    with daemon_with(backup(5)) as (api, go_on):
        go_on.set()
        result = barge(tmp_path, "snapshot", "save", "b.snap", "--endpoint", api)
    assert (result.returncode, result.stdout) == (1, b"")
    assert b"name another file" in result.stderr
    assert (tmp_path / "b.snap").read_bytes() == there
    assert os.listdir(tmp_path) == ["b.snap"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_save_that_is_ended_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    """The backup of before is as it was."""
    (tmp_path / "b.snap").write_bytes(backup(3))
    with daemon_with(backup(5)) as (api, _):
        process = popen(tmp_path, "snapshot", "save", "b.snap", "--endpoint", api)
        wait_for_part(tmp_path)
        process.send_signal(number)
        assert "Traceback" not in process.communicate(timeout=20)[1]
        assert process.returncode == (130 if number == signal.SIGINT else 128 + number)
    assert os.listdir(tmp_path) == ["b.snap"]
    assert (tmp_path / "b.snap").read_bytes() == backup(3)


def test_what_a_backup_holds_is_counted_in_keys(tmp_path: Path) -> None:
    """Of several lines, with several keys each."""
    disk = SimulatedDisk(Random(1))
    writer = SnapshotWriter(disk, SnapshotStart(cluster="barge", members=(0, 1), last_index=9, last_term=2, digest=0))
    for line in (b'{"a":["x",1,false],"b":["y",3,false]}', b'{"c":["/w==",9,true]}'):
        writer.add(line)
    meta = writer.finish()
    (tmp_path / "b.snap").write_bytes(disk.peek(snapshot_name(9, 2)))
    told = f"cluster barge, nodes 0, 1: 3 keys at index 9 of term 2\n{meta.size:,} bytes".encode()
    assert barge(tmp_path, "snapshot", "inspect", "b.snap").stdout.startswith(told)
    shown = barge(tmp_path, "snapshot", "inspect", "--keys", "b.snap")
    assert shown.stdout == b'{"key":"a","value":"x"}\n{"key":"b","value":"y"}\n{"key":"c","value_b64":"/w=="}\n'
    assert told in shown.stderr


def test_a_signal_while_the_new_file_is_being_made_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its handler runs when the call returns: the file is there by then, and its descriptor not yet known."""
    made: list[int] = []
    os_open = os.open

    def interrupted(*args: Any, **options: Any) -> int:
        made.append(os_open(*args, **options))
        raise SystemExit(143)

    monkeypatch.setattr("bargetrio.files.os.open", interrupted)
    with pytest.raises(SystemExit), replacing(tmp_path / "b.snap") as file:
        file.write(b"never")
    monkeypatch.undo()
    assert len(made) == 1 and os.listdir(tmp_path) == []
    os.close(made[0])


def test_a_backup_that_is_larger_than_the_local_disk_ends_in_words(tmp_path: Path) -> None:
    """A file system of 600 kB and more keys than that, of a real daemon: nothing is left, and the next save has room."""
    with running(tmp_path, 1) as daemon, tmpfs(tmp_path / "small", "600k") as small:
        for number in range(30):
            assert daemon.put(f"k{number}", "v" * 30_000).status == 201
        told = barge(tmp_path, "snapshot", "save", "small/b.snap", "--endpoint", daemon.api)
        assert (told.returncode, told.stdout) == (7, b"")
        assert told.stderr == b"small/b.snap can't be written on this machine: No space left on device\n"
        assert os.listdir(small) == []
        for number in range(30):
            assert daemon.http("DELETE", f"/keys/k{number}").status == 204
        assert barge(tmp_path, "snapshot", "save", "small/b.snap", "--endpoint", daemon.api).returncode == 0
        assert os.listdir(small) == ["b.snap"]


@pytest.mark.needs("bash")
def test_a_full_local_disk_is_called_so(tmp_path: Path) -> None:
    """7, as nothing is wrong with the daemon, and no write may have happened."""
    with daemon_with(backup(5)) as (api, go_on):
        go_on.set()
        command = f'ulimit -f 20; exec "{sys.executable}" -m bargetrio snapshot save b.snap --endpoint {api}'
        result = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, check=False, timeout=60)
        assert (result.returncode, result.stdout) == (7, b"")
        assert result.stderr == b"b.snap can't be written on this machine: File too large\n"
        missing = barge(tmp_path, "snapshot", "save", "nowhere/b.snap", "--endpoint", api)
        assert (missing.returncode, b"No such file or directory" in missing.stderr) == (7, True)
        full = subprocess.run(["bash", "-c", command.replace("b.snap", "- > /dev/full")], cwd=tmp_path, check=False, timeout=60)
        assert full.returncode == 7
    assert os.listdir(tmp_path) == []


def test_what_is_no_backup_is_not_replaced(tmp_path: Path) -> None:
    """Another file, a device, a pipe; a symbolic link stays one, and an empty file counts as nothing."""
    with daemon_with(backup(5)) as (api, go_on):
        go_on.set()
        (tmp_path / "configuration.yml").write_text("precious")
        os.mkfifo(tmp_path / "pipe")
        for name in ("configuration.yml", "/dev/null", "pipe"):
            result = barge(tmp_path, "snapshot", "save", name, "--endpoint", api)
            assert (result.returncode, b"is no backup" in result.stderr) == (1, True), result
        assert (tmp_path / "configuration.yml").read_text() == "precious"
        assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
        (tmp_path / "real.snap").touch()
        (tmp_path / "latest.snap").symlink_to("real.snap")
        assert barge(tmp_path, "snapshot", "save", "latest.snap", "--endpoint", api).returncode == 0
        assert (tmp_path / "latest.snap").is_symlink()
        assert (tmp_path / "real.snap").read_bytes() == backup(5)
        assert parts(tmp_path) == []


def test_a_backup_can_be_written_to_standard_output(tmp_path: Path) -> None:
    """What is not whole ends with another exit code than 0."""
    data = backup(5)
    for whole, checksum_of, code in ((True, None, 0), (False, None, 5), (True, b"another", 1)):
        with daemon_with(data, whole=whole, checksum_of=checksum_of) as (api, go_on):
            go_on.set()
            result = barge(tmp_path, "snapshot", "save", "-", "--endpoint", api)
            assert result.returncode == code, result
            assert (result.stdout == data) == whole
            assert barge(tmp_path, "snapshot", "save", "b.snap", "--endpoint", api).returncode == code
            assert (tmp_path / "b.snap").exists() == (code == 0)
            (tmp_path / "b.snap").unlink(missing_ok=True)
    with daemon_with(data[:-40]) as (api, go_on):  # whole as far as the daemon knows, and not as a snapshot
        go_on.set()
        assert barge(tmp_path, "snapshot", "save", "b.snap", "--endpoint", api).returncode == 1
    assert os.listdir(tmp_path) == []


def test_a_daemon_that_is_cut_off_says_so_in_time(tmp_path: Path) -> None:
    """No_leader within request_timeout; and the next endpoint is asked."""
    timing = "{heartbeat_ms: 50, election_ms: [300, 600], request_timeout_ms: 2000}"
    configuration = write_configuration(tmp_path, 3, timing=timing)
    daemons = [Daemon(configuration, node_id=node_id) for node_id in range(3)]
    try:
        for daemon in daemons:
            daemon.start(wait=False)
        for daemon in daemons:
            daemon.wait_until_live()
        leader = daemons[0].leader()
        cut = (leader + 1) % 3
        others = sorted({0, 1, 2} - {cut})
        assert (
            daemons[leader]
            .http("PUT", "/faults", f'{{"groups":[{others},[{cut}]]}}', {"Content-Type": "application/json"})
            .status
            == 200
        )
        assert daemons[leader].put("a", "1").status == 201
        began = time.monotonic()
        result = barge(tmp_path, "snapshot", "save", "x.snap", "--endpoint", daemons[cut].api)
        assert (result.returncode, b"no_leader" in result.stderr, b"disk" in result.stderr) == (5, True, False), result
        assert time.monotonic() - began < 2 + 4
        both = ("--endpoint", daemons[cut].api, "--endpoint", daemons[leader].api)
        assert barge(tmp_path, "snapshot", "save", "x.snap", *both).returncode == 0
    finally:
        for daemon in daemons:
            daemon.end()


@pytest.mark.parametrize("kind", ["lost+found", "symlink", "empty"])
def test_a_backup_is_restored_into_an_empty_folder(tmp_path: Path, kind: str) -> None:
    """A mount point with its lost+found, a link to an empty folder; other content is an error, and not changed."""
    configuration = write_configuration(tmp_path, 1)
    (tmp_path / "b.snap").write_bytes(backup(5))
    node = tmp_path / "data" / "node-0"
    if kind == "symlink":
        (tmp_path / "disk").mkdir()
        node.parent.mkdir()
        node.symlink_to(tmp_path / "disk")
    else:
        node.mkdir(parents=True)
        if kind == "lost+found":
            (node / "lost+found").mkdir()
    inode = node.stat().st_ino
    first = barge(tmp_path, "snapshot", "restore", "b.snap", "--config", configuration.name)
    assert first.returncode == 0, first
    assert node.stat().st_ino == inode
    again = barge(tmp_path, "snapshot", "restore", "b.snap", "--config", configuration.name)
    assert (again.returncode, b"is not empty" in again.stderr) == (1, True)
    assert not [path for path in node.iterdir() if "restoring" in path.name]
    daemon = Daemon(configuration)
    try:
        daemon.start()
        daemon.leader()
        assert daemon.get("a").json["index"] == 5
    finally:
        daemon.end()


def test_a_restore_into_a_link_to_nothing_is_refused(tmp_path: Path) -> None:
    """Nothing is made at the other end."""
    configuration = write_configuration(tmp_path, 1)
    (tmp_path / "b.snap").write_bytes(backup(5))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "node-0").symlink_to(tmp_path / "gone")
    assert barge(tmp_path, "snapshot", "restore", "b.snap", "--config", configuration.name).returncode == 1
    assert not (tmp_path / "gone").exists()


@pytest.mark.parametrize("is_mounted", [True, False])
def test_a_restore_that_is_ended_leaves_nothing_and_can_be_begun_again(tmp_path: Path, is_mounted: bool) -> None:
    """SIGTERM while the state is copied; into a folder that must stay, as a mount point must, and into none."""
    configuration = write_configuration(tmp_path, 1)
    (tmp_path / "b.snap").write_bytes(backup(5))
    node = tmp_path / "data" / "node-0"
    node.parent.mkdir()
    if is_mounted:
        node.mkdir()
        (node / ".restoring-0").mkdir()  # what SIGKILL has left
    code = (
        "import os, signal, sys\n"
        "from bargetrio.cli import main\n"
        "from bargetrio.storage import restore\n"
        "restore.SnapshotWriter.add = lambda self, line: os.kill(os.getpid(), signal.SIGTERM)\n"
        f"sys.argv = ['bargetrio', 'snapshot', 'restore', 'b.snap', '--config', {configuration.name!r}]\n"
        "main()\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, timeout=60, check=False)
    assert ended.returncode == 128 + signal.SIGTERM
    assert [path.name for path in node.parent.iterdir()] == (["node-0"] if is_mounted else [])
    assert not is_mounted or list(node.iterdir()) == []
    again = barge(tmp_path, "snapshot", "restore", "b.snap", "--config", configuration.name)
    assert (again.returncode, (node / "meta").exists()) == (0, True), again


def test_a_restore_that_ends_early_says_which_folders_are_made(tmp_path: Path) -> None:
    """The others are made by the same command with --node: what was made is not to be deleted by hand."""
    configuration = write_configuration(tmp_path, 3)
    (tmp_path / "b.snap").write_bytes(backup(5))
    (tmp_path / "data").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "data" / "node-1").symlink_to(tmp_path / "elsewhere")
    code = (
        "import sys\n"
        "from bargetrio.cli import main\n"
        "from bargetrio.storage import restore\n"
        "def full(source, folder): raise OSError(28, 'No space left on device')\n"
        "restore._move = full\n"
        f"sys.argv = ['bargetrio', 'snapshot', 'restore', 'b.snap', '--config', {configuration.name!r}]\n"
        "main()\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert b"node-1 can't be made: No space left on device; made before: node 0." in ended.stderr, ended
    assert b"--node 1 --node 2" in ended.stderr
    rest = barge(tmp_path, "snapshot", "restore", "b.snap", "--config", configuration.name, "--node", "1", "--node", "2")
    assert rest.returncode == 0, rest


@pytest.mark.parametrize("command", [("inspect",), ("restore", "--config")])
@pytest.mark.parametrize(("kind", "words"), [("missing", b"No such file or directory"), ("pipe", b"it is no regular file")])
def test_a_backup_that_cannot_be_read_is_an_error_with_its_reason(
    tmp_path: Path, command: tuple[str, ...], kind: str, words: bytes
) -> None:
    """Which file, and why, not as Python says it; a pipe is not waited for."""
    configuration = write_configuration(tmp_path, 1)
    if kind == "pipe":
        os.mkfifo(tmp_path / "b.snap")
    more = (configuration.name,) if len(command) > 1 else ()
    result = barge(tmp_path, "snapshot", *command, *more, "b.snap")
    assert (result.returncode, result.stderr.startswith(b"b.snap can't be read: " + words)) == (1, True), result


@pytest.mark.long
@pytest.mark.parametrize("others", ["an earlier backup", "nothing"])
def test_nodes_that_were_restored_differently_make_no_second_history(tmp_path: Path, others: str) -> None:
    """One with a later backup than the rest: it is refused in words, also once the rest have begun, whoever is down then."""
    (tmp_path / "old").mkdir()
    with running(tmp_path / "old", 3) as daemon:
        for name in ("m", "t"):
            for number in range(20):
                assert daemon.put(f"{name}{number}", name).status == 201
            assert barge(tmp_path, "snapshot", "save", f"{name}.snap", "--endpoint", daemon.api).returncode == 0
    configuration = write_configuration(tmp_path, 3)
    assert barge(tmp_path, "snapshot", "restore", "t.snap", "--node", "0").returncode == 0
    if others == "an earlier backup":
        assert barge(tmp_path, "snapshot", "restore", "m.snap", "--node", "1", "--node", "2").returncode == 0
    daemons = [Daemon(configuration, node_id=node_id) for node_id in range(3)]
    try:
        for daemon in daemons:
            daemon.start()
        for daemon, other in ((daemons[0], 1), (daemons[1], 0), (daemons[2], 0)):
            daemon.wait_for(lambda d=daemon: "began with another state" in not_ready(d), f"node {other}'s state to be told", 20)  # type: ignore[misc]
        assert daemons[1].put("w1", "too early").status == 503
        early = barge(tmp_path, "bootstrap", "--yes", "--endpoint", daemons[1].api)
        assert (early.returncode, b"node 0's folder began with another state" in early.stderr) == (1, True), early
        for daemon in daemons:
            daemon.kill_9()
        for daemon in daemons[1:]:
            daemon.start()
        assert barge(tmp_path, "bootstrap", "--yes", "--endpoint", daemons[1].api).returncode == 0
        daemons[1].leader()
        for number in range(1, 41):
            assert daemons[1].put(f"w{number}", "w").status == 201
        daemons[0].start()
        refused = daemons[1].wait_for_event("link_down", node=1, peer=0, timeout=20)
        for stopped, runs in ((1, 2), (2, 1)):
            daemons[stopped].kill_9()
            daemons[runs].wait_for(lambda d=daemons[runs]: d.http("GET", "/leader").status == 503, "the end of its office", 20)  # type: ignore[misc]
            assert daemons[0].http("GET", "/keys/w1").status == 503, "404 would be another history"
            assert daemons[0].http("GET", "/keys/w1?read=stale").status == 404
            assert daemons[0].http("GET", "/keys/t1?read=stale").json["value"] == "t"
            view = daemons[0].node(0)
            assert (view["role"] != "leader", view["may_vote"]) == (True, False), (view, refused)
            daemons[stopped].start()
            daemons[1].leader()
        assert daemons[1].get("w40").json["value"] == "w"
        assert daemons[1].get("t1").status == 404
    finally:
        for daemon in daemons:
            daemon.end()


def not_ready(daemon: Daemon) -> str:
    """Return why the daemon is not ready, with what its links were told; "" if it is."""
    answer = daemon.http("GET", "/readyz")
    links = [event["detail"]["reason"] for event in daemon.events("link_down")]
    return "" if answer.status == 200 else "; ".join([answer.json["detail"], *links])
