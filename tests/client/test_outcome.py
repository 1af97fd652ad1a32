"""The outcome of requests without an answer; a write that may have been applied is never retried (BUG-47)."""

import signal
import subprocess
import sys
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Literal

import pytest

from bargetrio.client import BargeError, Client, native
from bargetrio.client.interrupted import Interrupted
from bargetrio.protocol.requests import Delete, Get, List, Put, Request
from tests.cli.run import environment, popen
from tests.client.servers import BadServer, nobody, problem
from tests.stories.daemon import Daemon

Way = Literal["native", "rest"]
ways = pytest.mark.parametrize("way", ["native", "rest"])


def client_of(way: Way, *places: str, timeout_s: float = 0.3) -> Client:
    if way == "native":
        return Client(list(places), timeout_s=timeout_s)
    return Client([], apis=list(places), timeout_s=timeout_s)


@ways
@pytest.mark.parametrize("answer", [b"", None])
@pytest.mark.parametrize("write", [lambda barge: barge.put("a", "1"), lambda barge: barge.delete("a")])
def test_a_write_without_an_answer_is_unknown_and_not_repeated(
    way: Way, answer: bytes | None, write: Callable[[Client], object]
) -> None:
    """Cut or silent: one of two servers was asked, once."""
    with BadServer(way, answer) as first, BadServer(way, answer) as second:
        with client_of(way, first.address, second.address) as barge, pytest.raises(BargeError) as caught:
            write(barge)
        assert (caught.value.code, caught.value.applied) == ("outcome_unknown", None)
        assert len(first.asked) + len(second.asked) == 1


@ways
def test_a_read_without_an_answer_is_asked_of_the_next(way: Way) -> None:
    """Reading twice does no harm."""
    with BadServer(way, b"") as first, BadServer(way, b"") as second:
        with client_of(way, first.address, second.address) as barge, pytest.raises(BargeError) as caught:
            barge.get("a")
        assert (caught.value.code, caught.value.applied) == ("no_leader", False)
        assert first.asked
        assert second.asked


def test_an_endpoint_that_does_not_answer_is_skipped(daemon: Daemon) -> None:
    """A write that certainly did not leave is made elsewhere; nodes are asked elsewhere, too."""
    with Client([], apis=[nobody(), daemon.api]) as barge:
        assert barge.put("failover", "1").index > 0
        assert barge.leader().leader == daemon.leader()
    with Client([], apis=[nobody(), nobody()]) as barge, pytest.raises(BargeError) as caught:
        barge.put("failover", "2")
    assert (caught.value.code, caught.value.applied) == ("no_leader", False)


@pytest.mark.parametrize(("error", "is_asked"), [("no_leader", True), ("overloaded", True), ("storage_failed", False)])
def test_only_what_was_certainly_not_done_is_asked_of_the_next_daemon(daemon: Daemon, error: str, is_asked: bool) -> None:
    """A daemon without a leader is passed over; one whose disk failed in the middle is believed."""
    key = f"passed-{error}"
    with BadServer("rest", problem(error, 503)) as first, Client([], apis=[first.address, daemon.api]) as barge:
        if is_asked:
            barge.put(key, "1")
        else:
            with pytest.raises(BargeError) as caught:
                barge.put(key, "1")
            assert (caught.value.code, caught.value.applied) == ("storage_failed", None)
        assert len(first.asked) == 1
    assert daemon.get(key).status == (200 if is_asked else 404)


def test_the_address_of_a_node_is_no_endpoint(daemon: Daemon) -> None:
    """An error, and certainly no effect."""
    with Client([], apis=[daemon.addresses[0]]) as barge, pytest.raises(BargeError, match="no REST of a daemon"):
        barge.get("a")


@ways
@pytest.mark.parametrize(("command", "words"), [(("put", "a", "1"), "may have happened"), (("get", "a"), "nothing was changed")])
def test_ctrl_c_says_whether_the_write_may_have_happened(tmp_path: Path, way: Way, command: tuple[str, ...], words: str) -> None:
    """And ends with 130."""
    with BadServer(way, None) as server:
        arguments = ("--endpoint", server.address)
        if way == "native":
            node = f"{{id: 0, address: {server.address}}}"
            (tmp_path / "c.yml").write_text(f"cluster: barge\napi: {nobody()}\ndata_dir: d\nnodes: [{node}]\n")
            arguments = ("--config", "c.yml")
        process = popen(tmp_path, *command, *arguments)
        try:
            assert server.heard.wait(20)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=20)
        finally:
            process.kill()
        assert (process.returncode, out) == (130, "")
        assert words in err
        assert "Traceback" not in err
        assert ("may have happened" in err) == (command[0] == "put")


HALF_MADE = """
import http.client, socket, sys
from bargetrio.cli.main import main

def interrupted(self, *arguments, **words):
    raise KeyboardInterrupt  # as a signal's handler does, before any attribute is there

{target}.__init__ = interrupted
main()
"""


@pytest.mark.parametrize("target", ["http.client.HTTPResponse", "socket.SocketIO"])
@pytest.mark.parametrize("typed", ["", "a=1\nquit\n"])
def test_ctrl_c_in_the_middle_of_a_constructor_leaves_no_traceback(target: str, typed: str) -> None:
    """Finalizers of io complain of attributes that are missing: from Python 3.13 on, before that in development mode."""
    command = ("client",) if typed else ("put", "a", "1")
    with BadServer("rest", None) as server:
        done = subprocess.run(
            [sys.executable, "-X", "dev", "-c", HALF_MADE.format(target=target), *command, "--endpoint", server.address],
            input=typed,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=environment(),
        )
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr.strip().endswith("interrupted: the write may have happened: read the key before you repeat it")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("moment", ["before", "under way"])
@pytest.mark.parametrize(
    "request_",
    [Put(id=0, key="a", value="1"), Delete(id=0, key="a"), Get(id=0, key="a"), List(id=0)],
    ids=lambda each: type(each).__name__,
)
def test_an_interrupt_reports_whether_the_write_may_have_been_applied(
    request_: Request, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C: a write that may have been sent is unknown; nothing else had an effect. The connection is not used again."""

    class Interrupting:
        def __init__(self, *_: object) -> None:
            self.closed = False
            if moment == "before":
                raise KeyboardInterrupt

        def ask(self, *_: object) -> object:
            raise KeyboardInterrupt

        def close(self) -> None:
            self.closed = True

    monkeypatch.setattr(native, "NodeConnection", Interrupting)
    keys = native.NativeKeys(["127.0.0.1:1"], "barge", 1.0)
    with pytest.raises(Interrupted) as caught:
        keys.execute(request_, object)
    is_unknown = moment == "under way" and isinstance(request_, (Put, Delete))
    assert caught.value.applied is (None if is_unknown else False)
    assert keys._line.connection is None


def test_ctrl_c_between_two_attempts_has_changed_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """No node leads: each has refused the write, or was not reached."""

    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", interrupted)
    with pytest.raises(Interrupted) as caught:
        native.NativeKeys([nobody()], "barge", 1.0).execute(Put(id=0, key="a", value="1"), object)
    assert caught.value.applied is False


def test_ctrl_c_after_a_daemon_that_gave_no_answer_leaves_a_change_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill is repeated at the next daemon, whom the signal kept from being asked; the first may have done it."""
    connect = HTTPConnection.connect

    def interrupted(connection: HTTPConnection) -> None:
        if connection.port == 1:
            raise KeyboardInterrupt
        connect(connection)

    monkeypatch.setattr(HTTPConnection, "connect", interrupted)
    with BadServer("rest", b"") as first, Client([], apis=[first.address, "127.0.0.1:1"]) as barge:
        with pytest.raises(Interrupted) as caught:
            barge.kill(1)
        assert (caught.value.applied, caught.value.of_key) == (None, False)
