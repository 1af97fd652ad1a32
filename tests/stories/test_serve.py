"""`bargetrio serve` as its operator meets it: how fast it starts and stops, what it prints, and what it refuses."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from bargetrio.cli.free_ports import free_ports
from bargetrio.eventlog.jsonl import read_events
from bargetrio.storage.folder import FORMAT
from tests.stories.daemon import Daemon, running, write_configuration


def refused(configuration: Path, *arguments: str, code: int = 1) -> str:
    """Run serve, which must end by itself with `code`; return what it said."""
    result = subprocess.run(
        [sys.executable, "-m", "bargetrio", "serve", "--config", str(configuration), *arguments],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
        cwd=configuration.parent,
    )
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr
    return result.stderr


def test_a_leader_within_two_seconds_of_the_start(tmp_path: Path) -> None:
    """Counted from the start of the process, the interpreter's included."""
    daemon = Daemon(write_configuration(tmp_path, 3))
    try:
        began = time.monotonic()
        daemon.start(wait=False)
        daemon.leader()
        assert time.monotonic() - began < 2
        text = daemon.output.read_text()
        assert f"http://{daemon.api}/\n" in text
        assert all(address in text for address in daemon.addresses.values())
        daemon.wait_for(lambda: "leader: node" in daemon.output.read_text(), "the leader to be printed")
    finally:
        daemon.end()


def test_it_stops_within_a_second_with_open_pages_and_stalled_readers(tmp_path: Path) -> None:
    """Ctrl-C and SIGTERM: streams, keep-alive connections, half a request, a reader that reads nothing."""
    for number in (signal.SIGINT, signal.SIGTERM):
        folder = tmp_path / str(number)
        folder.mkdir()
        with contextlib.ExitStack() as stack, running(folder) as daemon:
            host, port = daemon.api.split(":")
            for wanted in ("/events", "/events?heartbeats=1") * 5:
                stream = http.client.HTTPConnection(daemon.api, timeout=5)
                stack.callback(stream.close)
                stream.request("GET", wanted, headers={"Accept": "text/event-stream"})
                assert stream.getresponse().status == 200
            for text in (b"GET /log HTTP/1.1\r\nHost: ", b"GET /log.html HTTP/1.1\r\nHost: " + daemon.api.encode() + b"\r\n\r\n"):
                sock = socket.create_connection((host, int(port)))
                stack.callback(sock.close)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                sock.sendall(text * 3)
            node = socket.create_connection(("127.0.0.1", int(daemon.addresses[0].split(":")[1])))
            stack.callback(node.close)
            time.sleep(0.2)
            assert daemon.stop(number) < 1
            assert daemon.process is not None
            assert daemon.process.returncode == 0
            assert "Traceback" not in daemon.output.read_text()


def test_its_output_need_not_be_read(tmp_path: Path) -> None:
    """`bargetrio serve | head -1`: it serves on, and its end is no error."""
    daemon = Daemon(write_configuration(tmp_path, 3))
    command = [sys.executable, "-m", "bargetrio", "serve", "--config", str(daemon.configuration)]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    daemon.process = process
    daemon.output.touch()
    try:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline().startswith("Barge: cluster")
        process.stdout.close()
        first = daemon.leader()
        daemon.kill_node(first)
        daemon.wait_for(lambda: daemon.leader() != first, "another leader, which would be said, too")
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
        assert process.stderr.read() == ""
    finally:
        process.kill()
        process.wait()


def test_debug_writes_the_log_as_it_runs_and_completes_it(tmp_path: Path) -> None:
    """log.html and events.jsonl hold the story, the last events included."""
    with running(tmp_path, 3, "--debug", "--events", "events.jsonl") as daemon:
        log = tmp_path / "log.html"
        assert daemon.put("100", "Some Value").status == 201
        daemon.wait_for(lambda: "Some Value" in log.read_text(), "log.html to show the write", 5)
        daemon.kill_node(daemon.leader())
        assert daemon.stop() < 1
        text = log.read_text()
        assert '{"key":"100","value":"Some Value"}' in text
        assert '"kind":"node_killed"' in text
        kinds = {event.kind for event in read_events(tmp_path / "events.jsonl")}
        assert {"vote_granted", "append_sent", "commit_advanced", "applied", "node_killed"} <= kinds


def test_ports_that_are_taken_are_named(tmp_path: Path) -> None:
    """The API's and a node's."""
    configuration = write_configuration(tmp_path, 3)
    places = re.findall(r"127\.0\.0\.1:(\d+)", configuration.read_text())
    for port in (places[0], places[1]):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", int(port)))
            taken.listen()
            assert f"127.0.0.1:{port}" in refused(configuration)


def test_a_folder_in_use_another_nodes_and_a_newer_format_are_refused(tmp_path: Path) -> None:
    """Each with one clear line that names the node."""
    with running(tmp_path) as daemon:
        other = tmp_path / "other.yml"
        text = daemon.configuration.read_text()
        for port in set(re.findall(r"127\.0\.0\.1:(\d+)", text)):
            text = text.replace(port, str(free_ports(1)[0]))
        other.write_text(text)
        assert "node 0 can't start" in (said := refused(other))
        assert "use" in said
        daemon.stop()
    meta = tmp_path / "data" / "node-1" / "meta"
    good = meta.read_bytes()
    settings = json.loads(good)
    for change, words in (
        ({"cluster": "other"}, "belongs to cluster 'other'"),
        ({"node": 0}, "belongs to node 0"),
        ({"format": FORMAT + 1}, "newer Barge"),
    ):
        meta.write_bytes(json.dumps({**settings, **change}).encode())
        assert words in refused(daemon.configuration)
    meta.write_bytes(b"\x00\x01")
    assert "meta is damaged" in refused(daemon.configuration)
    meta.write_bytes(good)
    segment = next((tmp_path / "data" / "node-1" / "wal").iterdir())
    data = bytearray(segment.read_bytes())
    data[40] ^= 1
    segment.write_bytes(data)
    assert re.search(r"wal/\d+\.log is damaged at byte \d+, after index \d+", refused(daemon.configuration))


def test_an_unreadable_folder_is_refused(tmp_path: Path) -> None:
    """A file where the folder should be: no node starts, and no traceback is shown."""
    configuration = write_configuration(tmp_path, 3)
    (tmp_path / "data").write_text("not a folder")
    assert "can't start" in refused(configuration)


def test_mistakes_on_the_command_line_and_in_the_file(tmp_path: Path) -> None:
    """Exit code 2, and what is allowed instead."""
    configuration = write_configuration(tmp_path, 3)
    assert "no node 7" in refused(configuration, "--node", "7", code=2)
    assert "there is no" in refused(tmp_path / "nothing.yml", code=2)
    configuration.write_text(configuration.read_text().replace("cluster:", "clutser:"))
    said = refused(configuration, code=2)
    assert "did you mean cluster?" in said
    assert "^" in said


def test_as_systemd_runs_it(tmp_path: Path) -> None:
    """Notify socket, state directory, watchdog, SIGTERM: READY after recovery and bind, STATUS with leader and term."""
    configuration = write_configuration(tmp_path, 3)
    state = tmp_path / "state"
    state.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(tmp_path / "notify"))
        notify.settimeout(10)
        unit = (Path(__file__).parents[2] / "systemd" / "barge.service").read_text()
        (line,) = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
        words = line.split()
        assert words[0].endswith("/bargetrio")
        command = [sys.executable, "-m", "bargetrio", *words[1:]]
        command[command.index("--config") + 1] = str(configuration)
        environment = {
            **os.environ,
            "NOTIFY_SOCKET": str(tmp_path / "notify"),
            "STATE_DIRECTORY": str(state),
            "WATCHDOG_USEC": "1000000",
        }
        process = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=subprocess.DEVNULL)
        try:
            told: list[str] = []

            def hear_until(words: str) -> None:
                while not any(words in text for text in told):
                    told.append(notify.recv(4096).decode())

            hear_until("READY=1")
            with socket.create_connection(("127.0.0.1", _api_port(configuration)), 1):
                pass
            hear_until("STATUS=leader: node")
            told.clear()
            began = time.monotonic()
            while sum("WATCHDOG=1" in text for text in told) < 3:
                told.append(notify.recv(4096).decode())
            assert time.monotonic() - began < 3
            assert sorted(path.name for path in state.iterdir()) == ["node-0", "node-1", "node-2"]
            process.send_signal(signal.SIGTERM)
            hear_until("STOPPING=1")
            assert process.wait(2) == 0
        finally:
            process.kill()
            process.wait()


def _api_port(configuration: Path) -> int:
    return int(re.findall(r"^api: 127\.0\.0\.1:(\d+)", configuration.read_text(), re.MULTILINE)[0])
