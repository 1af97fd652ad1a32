"""The client as people and scripts use it: the interactive one, piped; one-shot commands; the library."""

import os
import pty
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from bargetrio.client import BargeError, Client
from bargetrio.client.repl import Quit, Repl
from tests.stories.daemon import Daemon, running


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with running(tmp_path_factory.mktemp("client")) as daemon:
        yield daemon


def barge(daemon: Daemon, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    """Run `bargetrio` beside the daemon's configuration."""
    result = subprocess.run(
        [sys.executable, "-m", "bargetrio", *arguments],
        input=given,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        cwd=daemon.configuration.parent,
    )
    assert "Traceback" not in result.stderr
    return result


def library(daemon: Daemon) -> Client:
    return Client(list(daemon.addresses.values()), apis=[daemon.api])


def test_a_piped_script_does_everything_that_is_promised(daemon: Daemon) -> None:
    """{key}={value}, get, del, kill, revive, leader, status, help, quit; found from configuration.yml alone."""
    follower = min({0, 1, 2} - {daemon.leader()})
    script = f"""
    # a comment, and an empty line

    100=Some Value
    get 100
    a=b=c
    get a
    leader
    kill {follower}
    status
    200=while it is down
    revive {follower}
    del 100
    help
    quit
    get nothing after quit
    """
    result = barge(daemon, "client", given="\n".join(line.strip() for line in script.splitlines()))
    assert (result.returncode, result.stderr) == (0, "")
    text = result.stdout
    for words in ("100=Some Value  (index", "Some Value  (index", "b=c  (index", "leads in term", f"node {follower} is killed"):
        assert words in text
    assert "killed" in next(line for line in text.splitlines() if line.strip().startswith(f"{follower}  "))
    assert f"node {follower} is revived" in text
    assert "100 is removed" in text
    daemon.wait_for(daemon.caught_up, "the revived node to catch up")


def test_a_script_goes_on_when_the_node_it_talks_to_is_killed(daemon: Daemon) -> None:
    """OWN-03: the connection was reset before the next write was sent, so that write is made elsewhere."""
    for _ in range(3):
        leader = daemon.leader()
        script = f"before=1\nkill {leader}\nafter=2\nget after\nrevive {leader}\n"
        result = barge(daemon, "client", given=script)
        assert (result.returncode, result.stderr) == (0, "")
        daemon.wait_for(daemon.caught_up, "the cluster to catch up")


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("get nothing", 3, "nothing is not there"),
        ("del nothing", 3, "nothing is not there"),
        ("kill 7", 3, "the nodes are 0, 1, 2"),
        ("kill x", 1, "a node's id is a number"),
        ("fly", 1, "'fly' is no command"),
        ("=value", 1, "the key is empty"),
    ],
)
def test_a_script_stops_at_the_first_error(daemon: Daemon, line: str, code: int, words: str) -> None:
    """Non-zero, with the line's number; what comes after is not done."""
    result = barge(daemon, "client", given=f"first=1\n{line}\nnever=1\n")
    assert result.returncode == code
    assert "line 2" in result.stderr
    assert words in result.stderr
    assert daemon.get("never").status == 404


def test_one_shot_commands(daemon: Daemon) -> None:
    """put, get, delete, leader, status, kill, revive, each with its exit code."""
    assert barge(daemon, "put", "one", "shot").returncode == 0
    assert barge(daemon, "get", "one").stdout == "shot\n"
    assert barge(daemon, "put", "one", "-", given="from stdin").returncode == 0
    assert barge(daemon, "get", "one").stdout == "from stdin\n"
    assert barge(daemon, "put", "one", "x", "--if-absent").returncode == 4
    assert barge(daemon, "put", "one", "x", "--if-index", "1").returncode == 4
    assert barge(daemon, "delete", "one").returncode == 0
    assert barge(daemon, "delete", "one").returncode == 3
    assert barge(daemon, "get", "one").returncode == 3
    assert f"node {daemon.leader()} leads" in barge(daemon, "leader").stdout
    follower = min({0, 1, 2} - {daemon.leader()})
    assert "is killed" in barge(daemon, "kill", str(follower)).stdout
    assert "does not run" in barge(daemon, "kill", str(follower)).stdout
    assert "killed" in barge(daemon, "status").stdout
    assert "is revived" in barge(daemon, "revive", str(follower)).stdout
    assert barge(daemon, "kill", "7").returncode == 3
    assert barge(daemon, "put", "", "x").returncode == 1


def test_mistakes_of_usage_exit_with_2(daemon: Daemon) -> None:
    """No such command, no such option, no configuration."""
    assert barge(daemon, "fly").returncode == 2
    assert barge(daemon, "put", "only-a-key").returncode == 2
    result = barge(daemon, "get", "a", "--config", "nowhere.yml")
    assert result.returncode == 2
    assert "nowhere.yml" in result.stderr


def test_a_cluster_that_is_not_there_exits_with_5(daemon: Daemon) -> None:
    """Nobody listens: certainly nothing was done."""
    folder = daemon.configuration.parent / "elsewhere"
    folder.mkdir()
    text = daemon.configuration.read_text().replace("request_timeout_ms: 5000", "request_timeout_ms: 300")
    for port in {address.split(":")[1] for address in [*daemon.addresses.values(), daemon.api]}:
        text = text.replace(port, "1")
    lines = [line.replace("127.0.0.1:1,", f"127.0.0.1:{number + 2},") for number, line in enumerate(text.splitlines())]
    (folder / "configuration.yml").write_text("\n".join(lines))
    result = barge(daemon, "get", "a", "--config", "elsewhere/configuration.yml")
    assert result.returncode == 5, result.stderr
    assert "no leader" in result.stderr


def test_at_a_terminal_it_asks_and_goes_on_after_an_error(daemon: Daemon) -> None:
    """A prompt, an error, an answer, quit."""
    main, side = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "bargetrio", "client"],
        stdin=side,
        stdout=side,
        stderr=side,
        cwd=daemon.configuration.parent,
        close_fds=True,
    )
    os.close(side)
    said = b""

    def until(words: bytes) -> None:
        nonlocal said
        while words not in said:
            said += os.read(main, 4096)

    try:
        until(b"barge> ")
        os.write(main, b"get nothing\n")
        until(b"not_found")
        os.write(main, b"tty=yes\n")
        until(b"tty=yes  (index")
        os.write(main, b"quit\n")
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
        os.close(main)


def test_the_library_follows_the_leader(daemon: Daemon) -> None:
    """Through kills of whoever leads; a write that was certainly not made is made elsewhere."""
    with library(daemon) as client:
        for number in range(5):
            leader = daemon.leader()
            client.kill(leader)
            end = time.monotonic() + 10
            while True:
                try:
                    client.put("followed", str(number))
                    break
                except BargeError as error:  # the connection was cut after the request had left: nobody knows
                    assert error.code == "outcome_unknown"
                    assert time.monotonic() < end
            assert client.get("followed").value == str(number)
            client.revive(leader)
            daemon.wait_for(daemon.caught_up, "the cluster to catch up")


def test_the_library_tells_what_is_certain(daemon: Daemon) -> None:
    """applied is False where it is certain; bytes go in and out."""
    with library(daemon) as client:
        client.put("bytes", b"\x00\xff")
        assert client.get("bytes").value_b64 == "AP8="
        with pytest.raises(BargeError) as caught:
            client.put("bytes", "x", if_index=1)
        assert (caught.value.code, caught.value.applied) == ("precondition_failed", False)
        with pytest.raises(BargeError) as caught:
            client.put("k" * 2000, "x")
        assert caught.value.applied is False
        assert [item.key for item in client.items("byt").items] == ["bytes"]
        assert client.delete("nobody").deleted is False


def test_a_command_word_can_be_a_key(daemon: Daemon) -> None:
    """`get=5` writes the key get; `get a=b` reads the key a=b."""
    shown: list[str] = []
    with library(daemon) as client:
        repl = Repl(client, shown.append)
        repl.do("get=5")
        repl.do("a=b=c")
        repl.do("get get")
        assert shown[-1].startswith("5  ")
        with pytest.raises(BargeError, match="a=b is not there"):
            repl.do("get a=b")
        with pytest.raises(Quit):
            repl.do("quit")
