"""The event file in operation: rotated by renaming and SIGHUP, and with mode 0600."""

import os
import pty
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from bargetrio.eventlog.jsonl import read_events
from tests.cli.run import barge, environment
from tests.cli.screen import _LAUNCH
from tests.stories.daemon import Daemon, running, write_configuration


def mode(path: Path) -> int:
    """Its permissions."""
    return stat.S_IMODE(path.stat().st_mode)


def writes(path: Path) -> set[str]:
    """The keys in an event file."""
    return {entry["key"] for event in read_events(path) for entry in event.detail.get("entries", ()) if "key" in entry}


def test_a_record_is_rotated_by_renaming_it_and_sighup(tmp_path: Path) -> None:
    """No event is lost or written twice; the daemon continues."""
    with running(tmp_path, 1, "--events", "events.jsonl") as daemon:
        assert daemon.process is not None
        record, old = tmp_path / "events.jsonl", tmp_path / "events.jsonl.1"
        daemon.put("before", "x")
        record.rename(old)
        daemon.put("between", "x")
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_for(record.exists, "the new file")
        daemon.put("after", "x")
        daemon.stop()
        assert daemon.process.returncode == 0
    assert {"before", "between"} <= writes(old)
    assert writes(record) & {"before", "between", "after"} == {"after"}
    ids = [event.id for path in (old, record) for event in read_events(path)]
    assert len(set(ids)) == len(ids)
    assert barge(tmp_path, "check", "events.jsonl.1", "events.jsonl").returncode == 0
    assert (mode(old), mode(record)) == (0o600, 0o600)


def test_sighup_ends_no_daemon(tmp_path: Path) -> None:
    """Without a record there is nothing to do; where none can be opened, the old one is written on."""
    with running(tmp_path, 1) as daemon:
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGHUP)
        assert daemon.put("a", "1").status == 201
        daemon.stop()
    with running(tmp_path, 1, "--events", "events.jsonl") as daemon:
        assert daemon.process is not None
        (tmp_path / "events.jsonl").rename(tmp_path / "old.jsonl")
        (tmp_path / "events.jsonl").mkdir()
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_for(lambda: "can't be reopened" in daemon.output.read_text(), "the error")
        daemon.put("later", "x")
        daemon.stop()
    assert "later" in writes(tmp_path / "old.jsonl")


@pytest.mark.parametrize("nohup", [False, True])
def test_a_daemon_whose_terminal_is_closed_stops(tmp_path: Path, nohup: bool) -> None:
    """As after SIGTERM, unless it was started with SIGHUP ignored, as nohup does."""
    configuration = write_configuration(tmp_path, 1)
    daemon = Daemon(configuration)
    main, side = pty.openpty()
    ignore = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN); " if nohup else ""
    process = subprocess.Popen(
        [sys.executable, "-c", ignore + _LAUNCH, sys.executable, "-m", "bargetrio", "serve"],
        stdin=side,
        stdout=side,
        stderr=side,
        cwd=tmp_path,
        env=environment(),
        start_new_session=True,
    )
    os.close(side)
    daemon.process = process  # type: ignore[assignment]
    daemon.output.touch()
    try:
        daemon.wait_until_live()
        os.close(main)
        if nohup:
            daemon.leader()
            assert daemon.put("a", "1").status == 201
            process.terminate()
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()


def test_records_and_pages_are_not_readable_by_other_users(tmp_path: Path) -> None:
    """Made so whatever the umask is, and one that is there already becomes so."""
    (tmp_path / "events.jsonl").touch(mode=0o644)
    before = os.umask(0)
    try:
        with running(tmp_path, 1, "--events", "events.jsonl", "--debug") as daemon:
            daemon.wait_for((tmp_path / "log.html").exists, "log.html")
            assert (mode(tmp_path / "events.jsonl"), mode(tmp_path / "log.html")) == (0o600, 0o600)
            daemon.stop()
        assert barge(tmp_path, "replay", "events.jsonl", "--html", "page.html").returncode == 0
        assert (mode(tmp_path / "page.html"), mode(tmp_path / "log.html")) == (0o600, 0o600)
    finally:
        os.umask(before)
    assert not list(tmp_path.glob(".*.part"))


@pytest.mark.parametrize("kind", ["symlink", "fifo", "device", "folder"])
def test_a_record_is_a_regular_file(tmp_path: Path, kind: str) -> None:
    """Other files are an error, and keep their mode."""
    write_configuration(tmp_path, 1)
    (tmp_path / "precious").touch(mode=0o644)
    name = "/dev/null" if kind == "device" else "events.jsonl"
    if kind == "symlink":
        (tmp_path / name).symlink_to("precious")
    elif kind == "fifo":
        os.mkfifo(tmp_path / name)
    elif kind == "folder":
        (tmp_path / name).mkdir()
    before = mode(Path("/dev/null")), mode(tmp_path / "precious")
    result = barge(tmp_path, "serve", "--events", name)
    words = {"symlink": b"it is a symbolic link", "folder": b"Is a directory"}.get(kind, b"it is no regular file")
    assert (result.returncode, words in result.stderr) == (1, True), result
    assert (mode(Path("/dev/null")), mode(tmp_path / "precious")) == before


@pytest.mark.parametrize(
    "command",
    [
        ("serve", "--events", "precious"),
        ("replay", "events.jsonl", "--html", "precious"),
        ("replay", "events.jsonl", "--html", "events.jsonl"),
        ("simulate", "--seed", "1", "--events", "precious"),
        ("simulate", "--seed", "1", "--history", "events.jsonl"),
        ("simulate", "--seed", "1", "--html", "precious"),
        ("serve", "--debug"),
    ],
)
def test_a_file_of_another_kind_is_neither_replaced_nor_appended_to(tmp_path: Path, command: tuple[str, ...]) -> None:
    """Its last line was cut off for a torn one, or all of it was gone."""
    write_configuration(tmp_path, 1)
    held = {"precious": b"a: 1\nno newline", "log.html": b"notes", "events.jsonl": b'{"dropped":1}\n'}
    for name, data in held.items():
        (tmp_path / name).write_bytes(data)
        (tmp_path / name).chmod(0o644)
    result = barge(tmp_path, *command)
    assert (result.returncode in (1, 2), b"it is left as it is" in result.stderr) == (True, True), result
    for name, data in held.items():
        assert ((tmp_path / name).read_bytes(), mode(tmp_path / name)) == (data, 0o644)
