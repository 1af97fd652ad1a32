"""Every command with standard streams that are closed, full, unread, of a terminal, or of an encoding that lacks characters."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from bargetrio import console
from bargetrio.console import LogFormatter
from tests.cli.run import environment
from tests.cli.screen import bargetrio, terminal
from tests.stories.daemon import Daemon, write_configuration

KEY = "Grüße"
VALUE = "日本 \x1b[31mRED\x1b[0m [red]x[/red] \x9b2J"
NO_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
OUTPUT_LOST = 7

COMMANDS = {
    "put": ("put", KEY, VALUE),
    "put from input": ("put", "input", "-"),
    "get": ("get", KEY),
    "get --raw": ("get", KEY, "--raw"),
    "get --json": ("get", KEY, "--json"),
    "list": ("list",),
    "list --json": ("list", "--json"),
    "keys": ("keys",),
    "keys -0": ("keys", "-0"),
    "leader": ("leader",),
    "status": ("status",),
    "faults": ("faults",),
    "revive": ("revive", "0"),
    "heal": ("heal",),
    "log": ("log", "--limit", "5"),
    "config check": ("config", "check"),
    "config show": ("config", "show"),
    "completion": ("completion", "bash"),
    "inspect": ("snapshot", "inspect", "backup.snap"),
    "inspect --keys": ("snapshot", "inspect", "--keys", "backup.snap"),
    "client": ("client",),
    "check": ("check", "events.jsonl"),
    "replay": ("replay", "events.jsonl", "--html", "replay.html"),
    "simulate": ("simulate", "--list"),
    "help": ("--help",),
    "not there": ("get", "nothing \x1b[2J"),
    "no such command": ("fly",),
}
FAILING = {"not there": 3, "no such command": 2}
SCRIPT = b"get input\nlist\nkeys\nstatus\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon whose folder has a name that not every encoding has, a record of events, and a backup."""
    folder = tmp_path_factory.mktemp("streams")
    path = write_configuration(folder, 1)
    path.write_text(path.read_text().replace("data_dir: data", 'data_dir: "dätä ✓"'))
    daemon = Daemon(path, "--events", "events.jsonl")
    try:
        daemon.start()
        daemon.leader()
        run(folder, *COMMANDS["put"])
        assert run(folder, "snapshot", "save", "backup.snap").returncode == 0
        yield daemon
        assert "Traceback" not in daemon.output.read_text()
    finally:
        daemon.end()


FORKS = """
import json, os, sys
from bargetrio.cli import main
import bargetrio.client.client, bargetrio.cli.tables, bargetrio.config, bargetrio.cli.setting_origins, yaml

folder, redirect, jobs = json.loads(sys.argv[1])
os.chdir(folder)
codes = {}
for name, words in jobs.items():
    child = os.fork()
    if child == 0:
        for number, target in redirect.items():
            if target:
                file = os.open(target.replace("%", name), os.O_RDWR | os.O_CREAT | ("%" in target and os.O_TRUNC))
                os.dup2(file, int(number))
                os.close(file)
        for number, target in redirect.items():
            if not target:
                os.close(int(number))
        sys.argv = ["bargetrio", *words]
        main()
        sys.exit(0)
    codes[name] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
print(json.dumps(codes))
"""
"""Runs the command line once for each job, forked from one interpreter: a quarter of a second each is saved."""


class Result(NamedTuple):
    """What a command ended with, and what it wrote."""

    returncode: int
    stdout: bytes
    stderr: bytes


def run(folder: Path, *arguments: str, redirect: str = "", more: dict[str, str] | None = None) -> Result:
    """Run it with `redirect` as a shell does it; return its exit code and what came through the pipes."""
    command = ["/bin/sh", "-c", f'exec "$0" -m bargetrio "$@" {redirect}', sys.executable, *arguments]
    env = environment(**(more or {}))
    result = subprocess.run(command, input=SCRIPT, capture_output=True, timeout=60, check=False, cwd=folder, env=env)
    return Result(result.returncode, result.stdout, result.stderr)


def run_all(place: Daemon, streams: dict[int, str] | None = None, more: dict[str, str] | None = None) -> dict[str, Result]:
    """Run every command with its standard streams from and to these files ("" is closed); none may end in a traceback."""
    folder = place.configuration.parent
    (folder / "script").write_bytes(SCRIPT)
    redirect = {0: "script", 1: "%.out", 2: "%.err", **(streams or {})}
    command = [sys.executable, "-c", FORKS, json.dumps([str(folder), redirect, COMMANDS])]
    told = subprocess.run(command, capture_output=True, timeout=120, check=True, env=environment(**(more or {})))
    found = {}
    for name, code in json.loads(told.stdout).items():
        out, err = (
            (folder / redirect[number].replace("%", name)).read_bytes() if redirect[number].startswith("%") else b""
            for number in (1, 2)
        )
        found[name] = Result(code, out, err)
        assert b"Traceback" not in out + err, (name, err.decode())
        assert b"Exception ignored" not in err, name
    return found


def codes(found: dict[str, Result]) -> dict[str, int]:
    """Return those exit codes that are not 0."""
    return {name: result.returncode for name, result in found.items() if result.returncode}


def test_in_a_pipe_data_is_what_it_is(place: Daemon) -> None:
    """The value's bytes and a newline; a key is one line."""
    found = run_all(place)
    assert codes(found) == FAILING
    assert found["get"].stdout == VALUE.encode() + b"\n"
    assert found["get --raw"].stdout == VALUE.encode()
    folder = place.configuration.parent
    run(folder, "put", "a\nERROR node 0 crashed", "x")
    try:
        assert run(folder, "keys", "a").stdout == b"a\\nERROR node 0 crashed\n"
        assert run(folder, "keys", "a", "-0").stdout == b"a\nERROR node 0 crashed\0"
    finally:
        assert run(folder, "delete", "a\nERROR node 0 crashed").returncode == 0
    missing = run(folder, "get", "a\nERROR node 0 crashed")
    assert (missing.returncode, missing.stderr) == (3, b"not_found: a\\nERROR node 0 crashed is not there\n")


@pytest.mark.parametrize(
    ("more", "key", "frame"),
    [
        pytest.param({"PYTHONIOENCODING": "cp1252"}, KEY.encode("cp1252"), b"\\u65e5", id="cp1252", marks=pytest.mark.long),
        pytest.param(
            {"PYTHONIOENCODING": "latin-1:strict"}, KEY.encode("latin-1"), b"\\u65e5", id="latin-1", marks=pytest.mark.long
        ),
        pytest.param(NO_LOCALE, b"Gr\\xfc\\xdfe", b"\\u65e5", id="C"),
    ],
)
def test_what_the_encoding_lacks_is_escaped(place: Daemon, more: dict[str, str], key: bytes, frame: bytes) -> None:
    """29 and 30: nothing fails, JSON stays JSON, and arguments and scripts are UTF-8 where there is no locale."""
    found = run_all(place, more=more)
    assert codes(found) == FAILING
    assert found["keys"].stdout == key + b"\ninput\n"
    assert found["get"].stdout.startswith(frame)
    encoding = more.get("PYTHONIOENCODING", "ascii").partition(":")[0]
    assert json.loads(found["get --json"].stdout.decode(encoding))["value"] == VALUE
    assert {json.loads(line)["key"] for line in found["list --json"].stdout.decode(encoding).splitlines()} == {KEY, "input"}


def test_errors_as_json_are_json_and_hold_no_control_characters(place: Daemon) -> None:
    """On standard error, in a pipe, too."""
    result = run(place.configuration.parent, "get", "no\x9b2J\x7f\u202e\n", "--json")
    assert result.returncode == 3
    assert all(char.isprintable() for char in result.stderr.decode().removesuffix("\n"))
    assert json.loads(result.stderr)["error"] == "not_found"


def test_a_log_record_is_one_line() -> None:
    """What a peer says in it cannot be taken for another record, nor move a cursor."""
    formatter = LogFormatter("%(levelname)s %(message)s")
    try:
        raise ValueError("\x1b[2J")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "", 0, "refused: %s", ("a\n\x1b[2JERROR node 0 crashed",), sys.exc_info())
    text = formatter.format(record)
    assert text.startswith("ERROR refused: a\\n\\x1b[2JERROR node 0 crashed\nTraceback")
    assert "\x1b" not in text


@pytest.mark.parametrize("waits", [True, False])
def test_a_write_that_takes_a_byte_is_gone_on_with(waits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe or a terminal takes what it has room for; of an answer every byte arrives, once and in order."""
    text, os_write = bytes(range(256)) * 8, os.write
    reading, writing = os.pipe()
    out = console._Descriptor(writing, is_closed=False, drops=False)
    out.waits = waits
    monkeypatch.setattr("bargetrio.console.os.write", lambda number, data: os_write(number, data[:1]))
    assert out.write(text) == len(text)
    monkeypatch.undo()
    os.close(writing)
    with open(reading, "rb") as pipe:
        assert pipe.read() == text


def test_output_that_cannot_be_written_is_reported(place: Daemon) -> None:
    """A full disk, and a closed standard output: exit code 7, and why; what fails otherwise fails as ever."""
    for target, why in (("/dev/full", b"No space left on device"), ("", b"it is closed")):
        found = run_all(place, {1: target})
        for name, result in found.items():
            if name in FAILING:
                assert result.returncode == FAILING[name], name
                continue
            assert (result.returncode, result.stdout) == (OUTPUT_LOST, b""), (name, target, result)
            assert b"can't be written to the standard output: " + why in result.stderr, name
    last = run(place.configuration.parent, *COMMANDS["put"], redirect=">&-")
    assert (last.returncode, last.stdout) == (OUTPUT_LOST, b"")


@pytest.mark.long
def test_closed_input_and_error_output(place: Daemon) -> None:
    """What needs standard input says that it is closed; a closed or full standard error changes no exit code."""
    found = run_all(place, {0: ""})
    assert codes(found) == {**FAILING, "put from input": 2, "client": 2}
    assert found["put from input"].stderr == found["client"].stderr == b"the standard input is closed\n"
    for target in ("", "/dev/full"):
        assert codes(run_all(place, {2: target})) == FAILING
    for name, code in (("put from input", 2), ("get", OUTPUT_LOST), ("no such command", 2), ("not there", 3)):
        assert run(place.configuration.parent, *COMMANDS[name], redirect="<&- >&- 2>&-") == (code, b"", b""), name
    assert run(place.configuration.parent, *COMMANDS["put from input"], redirect="0>/dev/null").returncode == 2


def test_a_script_whose_answers_cannot_be_written_stops(place: Daemon) -> None:
    """And says which line was the last."""
    result = run(place.configuration.parent, "client", redirect=">/dev/full")
    assert result.returncode == OUTPUT_LOST
    assert result.stderr.startswith(b"line 1 was carried out, no later one was\n")


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_a_terminal_is_given_no_control_characters(place: Daemon, encoding: str) -> None:
    """Whatever shows a key, value or error; frames of ASCII where the terminal's encoding has no others."""
    folder = place.configuration.parent
    shows = ("get", "get --json", "list", "keys", "status", "log", "config show", "inspect --keys", "not there")
    for name in shows:
        with terminal(bargetrio(*COMMANDS[name]), folder, PYTHONIOENCODING=encoding) as screen:
            assert screen.end() == FAILING.get(name, 0), (name, screen.text)
        assert "Traceback" not in screen.text, name
        for forbidden in (
            b"\x1b[31mRED",
            b"\x1b[2J",
            VALUE[-3:].encode(encoding),
            b"\x9b" if encoding == "latin-1" else b"\xc2\x9b",
        ):
            assert forbidden not in screen.raw, (name, screen.raw)
        if name in ("status", "list", "config show"):
            assert ("╭" in screen.raw.decode(encoding)) == (encoding == "utf-8"), name
            assert b"+--" in screen.raw or encoding == "utf-8", name


def test_the_prompt_works_at_a_terminal_of_another_encoding(place: Daemon) -> None:
    """With prompt-toolkit, which writes for itself."""
    with terminal(bargetrio("client"), place.configuration.parent, PYTHONIOENCODING="latin-1") as screen:
        screen.until("barge>")
        screen.type("list\r")
        screen.until("+--")
        screen.type("quit\r")
        assert screen.end() == 0
    assert "Traceback" not in screen.text


@pytest.mark.parametrize("redirect", [">/dev/full 2>/dev/full", ">&- 2>&- <&-", "| head -c 1", "2>&1 | sleep 60"])
def test_a_daemon_goes_on_whose_output_cannot_be_written(tmp_path: Path, redirect: str) -> None:
    """From the start, and later; a reader that has stopped reading delays nothing."""
    daemon = Daemon(write_configuration(tmp_path, 3))
    command = ["/bin/sh", "-c", f'"$0" -m bargetrio serve --config configuration.yml {redirect}', sys.executable]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env=environment(**NO_LOCALE),
    )
    daemon.process = process  # type: ignore[assignment]
    daemon.output.touch()
    try:
        first = daemon.leader()
        daemon.kill_node(first)
        daemon.wait_for(lambda: daemon.leader() != first, "another leader, which would be told, too")
        assert daemon.put("a", "1").status == 201
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            said = process.communicate(timeout=20)[1]
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert b"Traceback" not in said
    assert (tmp_path / "data" / "node-0").exists()


def test_a_daemons_folder_is_the_same_in_every_locale(place: Daemon) -> None:
    """Its name is UTF-8, as the configuration is."""
    assert (place.configuration.parent / "dätä ✓" / "node-0").is_dir()
    configuration = write_configuration(place.configuration.parent / "dätä ✓", 1)
    configuration.write_text(configuration.read_text().replace("data_dir: data", 'data_dir: "dätä ✓"'))
    process = subprocess.Popen(
        [sys.executable, "-m", "bargetrio", "serve", "--config", configuration.name],
        cwd=configuration.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment(**NO_LOCALE),
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"Barge: cluster")
        assert process.stdout.readline().endswith(b"d\\xe4t\\xe4 \\u2713/node-0\n")
        end = time.monotonic() + 10
        while not (configuration.parent / "dätä ✓" / "node-0" / "meta").exists() and time.monotonic() < end:
            time.sleep(0.02)
        assert (configuration.parent / "dätä ✓" / "node-0" / "meta").exists()
    finally:
        process.terminate()
        process.communicate(timeout=20)
