"""One-shot commands: what each prints, in words and as JSON, and every exit code."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bargetrio.cli import cli
from bargetrio.protocol.events import Event
from tests.cli.run import barge, popen
from tests.client.servers import BadServer, nobody, problem
from tests.stories.daemon import Daemon, running


class CommandLine:
    """The command line beside a daemon: found from its configuration.yml, or by an endpoint from an empty folder."""

    def __init__(self, daemon: Daemon, empty: Path | None) -> None:
        self.daemon = daemon
        self._folder = empty or daemon.configuration.parent
        self._more = {} if empty is None else {"BARGE_ENDPOINTS": f"{nobody()}, http://{daemon.api}/"}

    def run(self, *arguments: str, given: bytes = b"", code: int = 0) -> str:
        """Return what it printed; its exit code must be as given."""
        result = barge(self._folder, *arguments, given=given, more=self._more)
        assert result.returncode == code, result
        assert bool(result.stderr) == (code != 0), result
        return (result.stderr if code else result.stdout).decode()

    def json(self, *arguments: str, code: int = 0) -> Any:
        """Return the object that it printed."""
        return json.loads(self.run(*arguments, "--json", code=code))


@pytest.fixture(params=["configuration", pytest.param("endpoints", marks=pytest.mark.long)])
def place(request: pytest.FixtureRequest, daemon: Daemon, tmp_path: Path) -> Iterator[CommandLine]:
    """With BARGE_ENDPOINTS, the first of which is dead, no configuration is needed."""
    yield CommandLine(daemon, None if request.param == "configuration" else tmp_path)


def test_keys_are_written_read_and_removed(place: CommandLine) -> None:
    """put, get, delete, with conditions; what is not there is 3, what does not hold is 4."""
    place.daemon.http("DELETE", "/keys/one")
    assert place.run("put", "one", "shot").startswith("index ")
    assert place.run("get", "one") == "shot\n"
    assert place.run("get", "one", "--read", "stale") == "shot\n"
    assert "precondition_failed" in place.run("put", "one", "x", "--if-absent", code=4)
    assert "precondition_failed" in place.run("put", "one", "x", "--if-index", "1", code=4)
    found = place.json("get", "one")
    assert (found["key"], found["value"]) == ("one", "shot")
    written = place.json("put", "one", "again", "--if-index", str(found["index"]))
    assert written.keys() >= {"key", "index", "term"}
    removed = place.json("delete", "one")
    assert (removed["key"], removed["deleted"]) == ("one", True)
    assert place.run("delete", "one", code=3) == place.run("get", "one", code=3) == "not_found: one is not there\n"
    assert place.json("get", "one", code=3) == {"error": "not_found", "detail": "one is not there", "applied": False}
    assert "the key is empty" in place.run("put", "", "x", code=1)


@pytest.mark.parametrize("value", [b"from stdin", b"\x00\xff\n\r\n", b"", "ü\n".encode()])
def test_a_value_from_standard_input_comes_back_to_the_byte(place: CommandLine, value: bytes) -> None:
    """`put KEY -` takes every byte, and `get --raw` gives them back."""
    place.run("put", "stdin", "-", given=value)
    result = barge(place.daemon.configuration.parent, "get", "stdin", "--raw")
    assert (result.returncode, result.stdout) == (0, value)


def test_an_endless_value_is_refused(daemon: Daemon) -> None:
    """It is not read to its end."""
    with open("/dev/zero", "rb") as zeros:
        command = [sys.executable, "-m", "bargetrio", "put", "endless", "-"]
        folder = daemon.configuration.parent
        result = subprocess.run(command, stdin=zeros, capture_output=True, timeout=60, check=False, cwd=folder)
    assert (result.returncode, b"the value has more than 1048576 bytes, the most that is allowed" in result.stderr) == (1, True)


def test_keys_are_listed(place: CommandLine) -> None:
    """A table, a page, all pages, keys alone, and as JSON lines."""
    for number in range(3):
        place.run("put", f"list-{number}", f"value {number}")
    place.run("put", "list-3", "-", given=b"\xff")
    lines = place.run("list", "list-").splitlines()
    assert [line.split()[0] for line in lines] == ["key", "list-0", "list-1", "list-2", "list-3"]
    assert lines[1].endswith("  value 0")
    assert lines[4].endswith("  base64 /w==")
    assert place.run("keys", "list-") == "list-0\nlist-1\nlist-2\nlist-3\n"
    assert place.run("keys", "list-", "--after", "list-1", "--all") == "list-2\nlist-3\n"
    everything = place.run("keys", "--all").split("\n")
    assert [key for key in everything if key.startswith("list-")] == [f"list-{number}" for number in range(4)]
    page = barge(place.daemon.configuration.parent, "keys", "list-", "--limit", "2")
    assert (page.stdout, b"--after 'list-1'" in page.stderr) == (b"list-0\nlist-1\n", True)
    items = [json.loads(line) for line in place.run("list", "list-", "--json").splitlines()]
    assert [(item["key"], item.get("value"), item.get("value_b64")) for item in items[2:]] == [
        ("list-2", "value 2", None),
        ("list-3", None, "/w=="),
    ]
    assert [json.loads(line)["key"] for line in place.run("keys", "list-", "--json").splitlines()] == [
        f"list-{number}" for number in range(4)
    ]


def test_nodes_are_shown_killed_and_revived(place: CommandLine) -> None:
    """leader, status, kill, revive; asking twice is no error, an unknown node is 3."""
    leads = place.daemon.leader()
    assert f"node {leads} leads in term" in place.run("leader")
    assert place.json("leader")["leader"] == leads
    follower = min({0, 1, 2} - {leads})
    assert place.run("kill", str(follower)) == f"node {follower} is killed\n"
    assert place.run("kill", str(follower)) == f"node {follower} does not run\n"
    row = next(line for line in place.run("status").splitlines() if line.split()[0] == str(follower))
    assert row.split()[1:6] == ["killed", "-", "-", "-", "-"]
    assert {node["id"]: node["state"] for node in place.json("status")["nodes"]}[follower] == "killed"
    assert place.json("revive", str(follower)) == {"id": follower, "changed": True}
    assert place.run("revive", str(follower)) == f"node {follower} runs already\n"
    assert "the nodes are 0, 1, 2" in place.run("kill", "7", code=3)
    place.daemon.wait_for(place.daemon.caught_up, "the revived node to catch up")


def test_faults_are_added_one_by_one_and_healed_together(place: CommandLine) -> None:
    """partition, cut, slow-link, slow-disk, fail-disk: each is put to what is in force."""
    try:
        assert place.run("faults") == "no faults\n"
        assert place.run("partition", "0,1") == "partition: 0, 1 | 2\n"
        assert place.run("cut", "0", "1", "--one-way").splitlines()[1:] == ["link 0 -> 1: cut"]
        assert place.run("slow-link", "0", "1", "20", "--drop", "0.25").splitlines()[1:] == [
            "link 0 -> 1: 20 ms late, drops 25%",
            "link 1 -> 0: 20 ms late, drops 25%",
        ]
        assert place.run("slow-disk", "2", "3").splitlines()[-1] == "disk of node 2: 3 ms slow"
        found = place.json("faults")
        assert (found["groups"], len(found["links"]), len(found["disks"])) == ([[0, 1], [2]], 2, 1)
        assert place.run("slow-link", "0", "1", "0").splitlines()[1:] == ["disk of node 2: 3 ms slow"]
        assert "one group only" in place.run("partition", "0,1", "1,2", code=1)
        assert "two ends" in place.run("cut", "1", "1", code=1)
        assert "no node 9" in place.run("slow-disk", "9", "1", code=3)
        assert place.run("heal") == "all faults are healed\n"
        assert place.json("faults") == {"groups": [], "links": [], "disks": []}
    finally:
        place.daemon.http("DELETE", "/faults")
    place.daemon.leader()


def test_a_failing_disk_stops_its_node(daemon: Daemon) -> None:
    """After heal, revive starts it again."""
    follower = min({0, 1, 2} - {daemon.leader()})
    place = CommandLine(daemon, None)
    try:
        assert "fails with EIO" in place.run("fail-disk", str(follower), "EIO")
        place.run("put", "full", "disk")
        daemon.wait_for(lambda: daemon.node(follower)["state"] == "crashed", "the node to stop")
        place.run("heal")
        assert "is revived" in place.run("revive", str(follower))
    finally:
        daemon.http("DELETE", "/faults")
    daemon.wait_for(daemon.caught_up, "the revived node to catch up")


def test_the_log_shows_what_happened(place: CommandLine) -> None:
    """In sentences, or as JSON; by kind and node."""
    place.run("put", "logged", "here")
    assert '{key: logged, value: "here"}' in place.run("log")
    lines = place.run("log", "--kind", "role_changed", "--json", "--limit", "3").splitlines()
    events = [json.loads(line) for line in lines]
    assert events
    assert {event["kind"] for event in events} == {"role_changed"}
    told = place.run("log", "--node", "1", "--heartbeats", "--limit", "1000")
    assert {line[14:21].strip() for line in told.splitlines()} <= {"node 1", "cluster"}  # faults are the cluster's
    assert "heartbeat" in told
    assert "no node" in place.run("log", "--node", "9", code=1)


@pytest.mark.parametrize("way", ["configuration", pytest.param("endpoints", marks=pytest.mark.long)])
def test_the_log_is_followed_over_a_restart_of_the_daemon(tmp_path: Path, way: str) -> None:
    """Events are printed at once; a lost connection is reported and resumed; no event is printed twice; Ctrl-C is 130."""
    with running(tmp_path) as daemon:
        more = {"BARGE_ENDPOINTS": f"{nobody()},{daemon.api}"} if way == "endpoints" else {}
        process = popen(tmp_path, "log", "--follow", "--json", "--kind", "applied", "--limit", "1", **more)
        told: list[Event] = []
        came = threading.Condition()

        def listen() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                with came:
                    told.append(Event(**json.loads(line)))
                    came.notify()

        def has(key: str) -> bool:
            return any(entry.get("key") == key for event in told for entry in event.detail.get("entries", ()))

        listener = threading.Thread(target=listen, daemon=True)
        listener.start()
        try:
            with came:
                assert came.wait_for(lambda: told, 20)
            daemon.put("first", "1")
            with came:
                assert came.wait_for(lambda: has("first"), 20)
            daemon.stop()
            daemon.start()
            daemon.leader()
            daemon.put("second", "2")
            with came:
                assert came.wait_for(lambda: has("second"), 20)
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 130
            listener.join(20)
            assert process.stderr is not None
            said = process.stderr.read()
            assert "the connection is lost" in said
            assert "the connection is back" in said
            assert "Traceback" not in said
            assert len({event.id for event in told}) == len(told)
        finally:
            process.kill()
            process.wait()


def test_status_is_watched(daemon: Daemon) -> None:
    """Not at a terminal: shown again whenever it has changed; Ctrl-C is 130."""
    follower = min({0, 1, 2} - {daemon.leader()})
    process = popen(daemon.configuration.parent, "status", "--watch", "--interval", "0.1", "--json")
    assert process.stdout is not None
    states: list[str] = []
    try:
        while "running" not in states:
            states += [node["state"] for node in json.loads(process.stdout.readline())["nodes"] if node["id"] == follower]
        daemon.kill_node(follower)
        while "killed" not in states:
            states += [node["state"] for node in json.loads(process.stdout.readline())["nodes"] if node["id"] == follower]
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
        assert (process.returncode, "Traceback" in said) == (130, False)
    finally:
        process.kill()
        process.wait()
    daemon.revive_node(follower)
    daemon.wait_for(daemon.caught_up, "the revived node to catch up")


def test_output_to_a_closed_pipe_is_no_traceback(daemon: Daemon) -> None:
    """`bargetrio log --follow | head -1`."""
    process = popen(daemon.configuration.parent, "log", "--follow", "--heartbeats")
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(20) == 1
        assert process.stderr.read() == ""
    finally:
        process.kill()
        process.wait()


def test_mistakes_of_usage_exit_with_2(daemon: Daemon, tmp_path: Path) -> None:
    """No such command, no such option, no configuration, no address, no token."""
    place = CommandLine(daemon, None)
    assert "No such command" in place.run("fly", code=2)
    assert "Missing argument" in place.run("put", "only-a-key", code=2)
    assert "nowhere.yml" in place.run("get", "a", "--config", "nowhere.yml", code=2)
    assert "is not host:port" in place.run("get", "a", "--endpoint", "nowhere", code=2)
    assert "token" in place.run("get", "a", "--token-file", "nowhere", code=2)
    result = barge(tmp_path, "get", "a", more={"BARGE_ENDPOINTS": "x:y"})
    assert (result.returncode, b"$BARGE_ENDPOINTS" in result.stderr) == (2, True)


@pytest.mark.parametrize(
    "words",
    [
        "get a --raw --json",
        "keys -0 --json",
        "keys --limit 2 --all",
        "list --limit 100 --all",
        "config check --client --node 0",
        f"replay {__file__} --html x.html --port 8080",
    ],
)
def test_options_one_of_which_would_be_passed_over_are_refused(words: str) -> None:
    """`--limit 2 --all` showed all, `--raw --json` was JSON."""
    result = CliRunner().invoke(
        cli, [*words.split(), *(() if words.startswith(("config", "replay")) else ("--endpoint", nobody()))]
    )
    assert (result.exit_code, "are not given together" in result.stderr) == (2, True), result.output


def test_a_cluster_that_is_not_there_exits_with_5(tmp_path: Path) -> None:
    """Nobody listens: certainly nothing was done. With a configuration, and by endpoints."""
    node = f"{{id: 0, address: {nobody()}}}"
    text = f"cluster: barge\napi: {nobody()}\ndata_dir: d\ntiming: {{request_timeout_ms: 100}}\nnodes: [{node}]\n"
    (tmp_path / "c.yml").write_text(text)
    for arguments in (("--config", "c.yml", "--timeout", "0.3"), ("--endpoint", nobody(), "--endpoint", nobody())):
        for command in (("get", "a"), ("put", "a", "1"), ("leader",), ("status",), ("log",), ("faults",)):
            result = barge(tmp_path, *command, *arguments)
            assert result.returncode == 5, result
            assert b"nothing was changed" in result.stderr


def test_an_unknown_outcome_exits_with_6(tmp_path: Path) -> None:
    """The connection ended after the write had left."""
    with BadServer("rest", b"") as server:
        result = barge(tmp_path, "put", "a", "1", "--endpoint", server.address)
        assert (result.returncode, result.stdout) == (6, b"")
        assert b"the write may have happened: read the key before you repeat it" in result.stderr
        result = barge(tmp_path, "put", "a", "1", "--endpoint", server.address, "--json")
        assert (result.returncode, json.loads(result.stderr)["applied"]) == (6, None)
    with BadServer("rest", problem("overloaded", 503)) as server:
        assert barge(tmp_path, "put", "a", "1", "--endpoint", server.address).returncode == 5


def test_a_configuration_named_outweighs_the_environment(daemon: Daemon) -> None:
    """And an endpoint named outweighs both."""
    folder = daemon.configuration.parent
    dead = nobody()
    assert barge(folder, "leader", more={"BARGE_ENDPOINTS": dead}).returncode == 5
    assert barge(folder, "leader", "--config", "configuration.yml", more={"BARGE_ENDPOINTS": dead}).returncode == 0
    assert barge(folder, "leader", "--endpoint", daemon.api, more={"BARGE_ENDPOINTS": dead}).returncode == 0
    assert barge(folder, "leader", "--config", "configuration.yml", "--endpoint", dead).returncode == 5


def test_an_api_with_a_token_is_asked_with_it(tmp_path: Path) -> None:
    """From the configuration's file, or from the one that --token-file or $BARGE_TOKEN_FILE names."""
    from tests.stories.daemon import write_configuration

    (tmp_path / "token").write_text("secret\n")
    (tmp_path / "token").chmod(0o600)
    daemon = Daemon(write_configuration(tmp_path, 1, extra="api_token_file: token\n"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    try:
        daemon.start()
        assert barge(tmp_path, "put", "a", "1").returncode == 0
        assert barge(tmp_path, "leader").returncode == 0
        assert barge(elsewhere, "leader", "--endpoint", daemon.api).returncode == 1
        watched = barge(elsewhere, "status", "--watch", "--endpoint", daemon.api)
        assert (watched.returncode, watched.stdout) == (1, b"")  # no waiting mends that
        ways: list[tuple[tuple[str, ...], dict[str, str]]]
        ways = [(("--token-file", "../token"), {}), ((), {"BARGE_TOKEN_FILE": "../token"})]
        for arguments, more in ways:
            result = barge(elsewhere, "get", "a", "--endpoint", daemon.api, *arguments, more=more)
            assert (result.returncode, result.stdout) == (0, b"1\n")
    finally:
        daemon.end()
