"""The client as scripts use it: the interactive one, piped; and the library."""

import subprocess
import sys
import time

import pytest

from bargetrio.client import BargeError, Client
from tests.stories.daemon import Daemon


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


def test_a_line_that_is_not_utf_8_is_refused_with_its_number(daemon: Daemon) -> None:
    """Not a traceback; what comes before it is done."""
    result = subprocess.run(
        [sys.executable, "-m", "bargetrio", "client"],
        input=b"utf-8=1\nbytes=\xff\n",
        capture_output=True,
        timeout=30,
        check=False,
        cwd=daemon.configuration.parent,
    )
    assert (result.returncode, b"utf-8=1  (index" in result.stdout) == (1, True)
    assert result.stderr.startswith(b"line 2: bad_request: the value is not valid Unicode text")


def test_the_library_follows_the_leader(daemon: Daemon) -> None:
    """Through kills of leaders; a write that was certainly not applied is retried elsewhere."""
    with library(daemon) as client:
        for number in range(5):
            leader = daemon.leader()
            client.kill(leader)
            end = time.monotonic() + 10
            while True:
                try:
                    client.put("followed", str(number))
                    break
                except BargeError as error:  # the connection ended after the request was sent: unknown
                    assert error.code == "outcome_unknown"
                    assert time.monotonic() < end
            assert client.get("followed").value == str(number)
            client.revive(leader)
            daemon.wait_for(daemon.caught_up, "the cluster to catch up")


def test_the_library_reports_what_is_certain(daemon: Daemon) -> None:
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
