"""SIGINT (Ctrl-C) and SIGTERM to commands: what is certain is said, in the format asked for, and never by a traceback."""

import json
import math
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bargetrio.cli import signals
from tests.cli.run import environment, popen
from tests.client.servers import BadServer
from tests.sources import PACKAGE

NUMBERS = (signal.SIGINT, signal.SIGTERM)
WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
both_signals = pytest.mark.parametrize("number", NUMBERS, ids=lambda number: number.name)
UNKNOWN = "the write may have happened: read the key before you repeat it"
CHANGED = "it may have been done: check before you repeat it"
NOTHING = "nothing was changed"


@contextmanager
def asked(folder: Path, server: BadServer, *command: str) -> "Iterator[subprocess.Popen[str]]":
    """Start the command, and wait until its request has reached the server, which never answers."""
    process = popen(folder, *command, "--endpoint", server.address)
    try:
        if command[0] == "client":
            assert process.stdin is not None
            process.stdin.write("# a comment\na=1\nb=2\n")
            process.stdin.close()
            process.stdin = None
        assert server.heard.wait(20)
        yield process
    finally:
        process.kill()
        process.communicate()


@both_signals
@pytest.mark.parametrize(
    ("command", "certain", "applied"),
    [
        (("put", "a", "1"), UNKNOWN, None),
        (("delete", "a"), UNKNOWN, None),
        (("kill", "1"), CHANGED, None),
        (("readmit", "1", "--yes"), CHANGED, None),
        (("heal",), CHANGED, None),
        (("get", "a"), NOTHING, False),
        (("status",), NOTHING, False),
    ],
    ids=lambda each: each[0] if isinstance(each, tuple) else "",
)
def test_a_signal_says_whether_the_write_may_have_happened(
    tmp_path: Path, number: signal.Signals, command: tuple[str, ...], certain: str, applied: bool | None
) -> None:
    """In words, and with --json as every other error: an object on standard error."""
    with BadServer("rest", None) as server:
        for options in ((), ("--json",)):
            server.heard.clear()
            with asked(tmp_path, server, *command, *options) as process:
                process.send_signal(number)
                out, err = process.communicate(timeout=20)
            assert (process.returncode, out) == (128 + number, "")
            if options:
                assert json.loads(err) == {"error": WORDS[number], "detail": certain, "applied": applied}
            else:
                assert err == f"{WORDS[number]}: {certain}\n"


@both_signals
def test_a_script_that_is_ended_reports_the_line_and_what_is_certain(tmp_path: Path, number: signal.Signals) -> None:
    """No later line is run."""
    with BadServer("rest", None) as server:
        with asked(tmp_path, server, "client") as process:
            process.send_signal(number)
            out, err = process.communicate(timeout=20)
        assert (process.returncode, out, err) == (128 + number, "", f"line 2: {WORDS[number]}: {UNKNOWN}\n")
        assert len(server.asked) == 1


@both_signals
def test_signals_that_come_together_are_one(number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    """`timeout` sends to a command and to its process group, and a key is easily pressed twice."""
    monkeypatch.setattr(signals, "REPEAT_S", 60.0)
    monkeypatch.setattr(signals._handler, "_raised_at", -math.inf)
    signals.begin(*NUMBERS)
    try:
        with pytest.raises(KeyboardInterrupt) as caught:
            signal.raise_signal(number)
        assert signals.is_terminated(caught.value) == (number == signal.SIGTERM)
        for repeated in NUMBERS:
            signal.raise_signal(repeated)
        monkeypatch.setattr(signals, "REPEAT_S", 0.0)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    finally:
        signals.end()
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == (signal.default_int_handler, signal.SIG_DFL)


@both_signals
def test_what_was_ignored_at_the_start_stays_ignored(number: signal.Signals) -> None:
    """As in a background job of a shell without job control."""
    ignoring = f"import signal; signal.signal({int(number)}, signal.SIG_IGN); "
    ignoring += "import runpy; runpy.run_module('bargetrio', run_name='__main__')"
    with BadServer("rest", None) as server:
        command = [sys.executable, "-c", ignoring, "get", "a", "--timeout", "0.5", "--endpoint", server.address]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment())
        assert server.heard.wait(20)
        process.send_signal(number)
        assert process.wait(20) == 5


def test_the_installed_command_begins_with_the_kernels_default_and_the_library_leaves_signals_alone() -> None:
    """The script that pip makes imports `bargetrio.__main__` before anything else of the package."""
    scripts = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"bargetrio": "bargetrio.__main__:main"}
    for module, handler in (("__main__", "SIG_DFL"), ("cli", "default_int_handler"), ("client", "default_int_handler")):
        code = f"import signal, bargetrio.{module}; print(signal.getsignal(signal.SIGINT) is signal.{handler})"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment())
        assert done.stdout == "True\n", module


OURS = "/bargetrio/"
"""In each traceback that has a frame of the package. Before the package's first line Python itself prints one at Ctrl-C."""


@pytest.mark.slow
@both_signals
@pytest.mark.parametrize("options", [(), ("--json",)], ids=["words", "json"])
def test_a_signal_at_any_moment_leaves_no_traceback(tmp_path: Path, number: signal.Signals, options: tuple[str, ...]) -> None:
    """While Python starts, while modules are imported, while the request is sent or waited for, and while the process ends."""
    codes: set[int] = set()
    with BadServer("rest", b"") as server:
        command = ("put", "a", "1", *options, "--endpoint", server.address)
        for moment_ms in range(20, 401, 10):
            process = popen(tmp_path, *command)
            time.sleep(moment_ms / 1000)
            process.send_signal(number)
            out, err = process.communicate(timeout=20)
            if "Traceback" in err and OURS not in err.replace(f"{OURS}__init__.py", ""):
                continue
            assert "Traceback" not in err, (moment_ms, err)
            # 6: the server has cut the connection before the signal came
            assert process.returncode in (-number, 128 + number, 6), (moment_ms, err)
            assert out == ""
            codes.add(process.returncode)
            if options and err:
                assert json.loads(err).keys() == {"error", "detail", "applied"}, (moment_ms, err)
    assert -number in codes, codes
