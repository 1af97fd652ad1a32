"""`bargetrio demo`: free ports, a first write at once, the page, and nothing left behind."""

import http.client
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from bargetrio.cli import demo as demo_room
from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.requests import PutAnswer
from tests.cli.run import popen
from tests.cli.screen import Terminal, bargetrio, terminal
from tests.client.fakes import FakeBarge


def temporary(folder: Path) -> Path:
    """Return the folder for temporary files, which is empty."""
    (folder / "tmp").mkdir()
    return folder / "tmp"


@contextmanager
def demo(folder: Path, *arguments: str, **more: str) -> Iterator[Terminal]:
    """A demo in a terminal."""
    with terminal(bargetrio("demo", *arguments), folder, TMPDIR=str(temporary(folder)), **more) as screen:
        yield screen


def test_five_nodes_are_there_within_two_seconds_and_gone_within_one(tmp_path: Path) -> None:
    """The first write counts from the start of the process; Ctrl-C ends everything, and the data is gone."""
    started = time.monotonic()
    with demo(tmp_path, "--nodes", "5") as screen:
        screen.until("hello=world  (index")
        assert time.monotonic() - started < 2
        screen.until("in another terminal: bargetrio client --endpoint")
        (api,) = re.findall(r"page: http://([\d.:]+)/", screen.text)
        connection = http.client.HTTPConnection(api, timeout=10)
        connection.request("GET", "/keys/hello")
        assert b'"world"' in connection.getresponse().read()
        connection.request("GET", "/nodes")
        assert connection.getresponse().read().count(b'"running"') == 5
        connection.close()
        assert len(list((tmp_path / "tmp").iterdir())) == 1
        began = time.monotonic()
        screen.type("\x03")
        assert screen.end() == 0
        assert time.monotonic() - began < 1
        assert "Traceback" not in screen.text
    assert list((tmp_path / "tmp").iterdir()) == []
    with pytest.raises(OSError):
        http.client.HTTPConnection(api, timeout=1).connect()


def test_a_first_write_without_an_answer_is_repeated(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """On a machine that is too busy, the first attempt may end with an unknown outcome, and be applied."""
    fake = FakeBarge()
    unknown = BargeError("outcome_unknown", "no answer in time")

    class Busy:
        def __init__(self, addresses: list[str], **_: object) -> None:
            self._is_first = True

        def __enter__(self) -> "Busy":
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def put(self, key: str, value: str, **conditions: bool) -> PutAnswer:
            answer = fake.put(key, value, **conditions)
            if self._is_first:
                self._is_first = False
                raise unknown
            return answer

    monkeypatch.setattr("bargetrio.client.client.Client", Busy)
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        demo_room.first_write(process, "127.0.0.1:1", [], time.monotonic(), open_page=False)
        process.kill()
    assert "hello=world  (index 3, term 1)" in capsys.readouterr().out


def test_the_page_is_opened(tmp_path: Path) -> None:
    """By whatever BROWSER names."""
    browser = tmp_path / "browser"
    browser.write_text(
        f"#!{sys.executable}\nimport os, sys\nopen('{tmp_path}/opened.new', 'w').write(sys.argv[1] + '\\n')\n"
        f"os.rename('{tmp_path}/opened.new', '{tmp_path}/opened')\n"
    )
    browser.chmod(0o755)
    opened = tmp_path / "opened"
    with demo(tmp_path, "--nodes", "1", "--open", BROWSER=f"{browser} %s") as screen:
        screen.until("page: http://")
        screen.until(opened.exists)
        (page,) = re.findall(r"page: (\S+)", screen.text)
        assert opened.read_text() == f"{page}\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_ways_to_end_it_leave_nothing_either(tmp_path: Path, number: signal.Signals) -> None:
    """SIGTERM, and a terminal that is closed; what systemd says to a service is not meant for it."""
    state = tmp_path / "state"
    state.mkdir()
    process = popen(tmp_path, "demo", "--nodes", "1", TMPDIR=str(temporary(tmp_path)), STATE_DIRECTORY=str(state))
    try:
        assert process.stdout is not None
        while "in another terminal" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(number)
        assert process.wait(20) == 0
        assert list((tmp_path / "tmp").iterdir()) == list(state.iterdir()) == []
    finally:
        process.kill()
        process.wait()


def children_of(pid: int) -> list[int]:
    """Return the processes that this one has started."""
    found: list[int] = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has just ended
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(stat.parent.name))
    return found


def test_a_demo_that_is_killed_takes_its_cluster_along(tmp_path: Path) -> None:
    """Only the data stays."""
    process = popen(tmp_path, "demo", "--nodes", "1", TMPDIR=str(temporary(tmp_path)))
    try:
        assert process.stdout is not None
        while "in another terminal" not in process.stdout.readline():
            assert process.poll() is None
        (child,) = children_of(process.pid)
    finally:
        process.kill()
        process.wait()
    end = time.monotonic() + 20
    while Path(f"/proc/{child}").exists() and "Z" not in Path(f"/proc/{child}/stat").read_text().rpartition(")")[2]:
        assert time.monotonic() < end
        time.sleep(0.01)
