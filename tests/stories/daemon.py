"""A real `bargetrio serve` under test: free ports, a temporary folder, plain HTTP, and an end for every process."""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import yaml

from bargetrio.cli.free_ports import free_ports

T = TypeVar("T")
TIMING = "{heartbeat_ms: 50, election_ms: [300, 600], request_timeout_ms: 5000}"


def write_configuration(folder: Path, size: int, *, timing: str = TIMING, extra: str = "") -> Path:
    """Write a configuration.yml for `size` nodes on free ports."""
    ports = free_ports(2 * size + 1)
    lines = ["cluster: barge", f"api: 127.0.0.1:{ports[0]}", "data_dir: data", f"timing: {timing}", "nodes:"]
    for node_id in range(size):
        node_port, api_port = ports[1 + 2 * node_id], ports[2 + 2 * node_id]
        lines.append(f"  - {{id: {node_id}, address: 127.0.0.1:{node_port}, api: 127.0.0.1:{api_port}}}")
    path = folder / "configuration.yml"
    path.write_text("\n".join(lines) + "\n" + extra)
    return path


class Answer:
    """An HTTP answer; `json` is decoded when asked for."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Daemon:
    """One process of `bargetrio serve`."""

    def __init__(self, configuration: Path, *arguments: str, node_id: int | None = None) -> None:
        self.configuration = configuration
        self.arguments = [*arguments, *([] if node_id is None else ["--node", str(node_id)])]
        settings = yaml.safe_load(configuration.read_text())
        apis = {node["id"]: node.get("api") for node in settings["nodes"]}
        self.api = str(settings["api"] if node_id is None else apis[node_id])
        self.addresses = {node["id"]: str(node["address"]) for node in settings["nodes"]}
        self.program: tuple[str, ...] = ("bargetrio",)
        """The module that is run, and its first arguments."""
        self.process: subprocess.Popen[str] | None = None
        self.output = configuration.parent / f"output-{'all' if node_id is None else node_id}.txt"

    def start(self, *, wait: bool = True) -> "Daemon":
        """Start it; with `wait` return once its API answers."""
        with self.output.open("a") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *self.program, "serve", "--config", str(self.configuration), *self.arguments],
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=self.configuration.parent,
                text=True,
            )
        if wait:
            self.wait_for(self._is_live, "the API to answer", 10)
        return self

    def wait_until_live(self, timeout: float = 20) -> "Daemon":
        """Return once its API answers."""
        self.wait_for(self._is_live, "the API to answer", timeout)
        return self

    def stop(self, signal_number: int = signal.SIGTERM) -> float:
        """Ask it to stop; return how many seconds that took."""
        assert self.process is not None
        began = time.monotonic()
        self.process.send_signal(signal_number)
        self.process.wait(10)
        return time.monotonic() - began

    def kill_9(self) -> None:
        """Kill it by SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def end(self) -> None:
        """End it if it still runs."""
        if self.process is not None and self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGCONT)
            self.kill_9()

    def http(
        self, method: str, path: str, body: str | bytes | None = None, headers: dict[str, str] | None = None, timeout: float = 15
    ) -> Answer:
        """Make one request; raises OSError without a listener."""
        connection = http.client.HTTPConnection(self.api, timeout=timeout)
        try:
            data = body.encode() if isinstance(body, str) else body
            connection.request(method, path, data, headers or {})
            response = connection.getresponse()
            return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
        finally:
            connection.close()

    def put(self, key: str, value: str, **headers: str) -> Answer:
        """Write a key with a raw body."""
        return self.http("PUT", f"/keys/{key}", value, {"Content-Type": "text/plain", **headers})

    def get(self, key: str) -> Answer:
        """Read a key."""
        return self.http("GET", f"/keys/{key}")

    def leader(self) -> int:
        """Return the leader, waiting for an election if necessary."""
        return int(self.wait_for(self._leader, "a leader", 10)["leader"])

    def node(self, node_id: int) -> Any:
        """Return what the daemon knows of the node."""
        return self.http("GET", f"/nodes/{node_id}").json

    def kill_node(self, node_id: int) -> Any:
        """Crash a node."""
        answer = self.http("POST", f"/nodes/{node_id}/kill")
        assert answer.status == 200, answer.body
        return answer.json

    def revive_node(self, node_id: int) -> Any:
        """Start a node again."""
        answer = self.http("POST", f"/nodes/{node_id}/revive")
        assert answer.status == 200, answer.body
        return answer.json

    def events(self, *kinds: str, node: int | None = None, heartbeats: bool = False) -> list[Any]:
        """Return what happened so far, oldest first."""
        query = "".join(f"&kind={kind}" for kind in kinds)
        query += "" if node is None else f"&node={node}"
        query += "&heartbeats=1" if heartbeats else ""
        events: list[Any] = self.http("GET", f"/events?limit=1000{query}").json["events"]
        return events

    def wait_for_event(self, kind: str, *, node: int | None = None, timeout: float = 10, **fields: Any) -> Any:
        """Return the first event of that kind whose fields (or details) are as given, once there is one."""

        def look() -> Any:
            for event in self.events(kind, node=node):
                values = {**event["detail"], **event}
                if all(values.get(name) == value for name, value in fields.items()):
                    return event
            return None

        return self.wait_for(look, f"{kind} {fields} of node {node}", timeout)

    def caught_up(self) -> bool:
        """Return whether all running nodes have applied the same last index, and all run."""
        nodes = self.http("GET", "/nodes").json["nodes"]
        applied = {node["last_applied"] for node in nodes if node["state"] == "running"}
        return len(applied) == 1 and all(node["state"] == "running" for node in nodes)

    def wait_for(self, look: Callable[[], T | None], what: str, timeout: float = 10) -> T:
        """Return the first true answer of `look`; the process must stay alive meanwhile."""
        end = time.monotonic() + timeout
        while True:
            assert self.process is not None
            try:
                found = look()
            except (OSError, http.client.HTTPException):
                found = None
            if found:
                return found
            code = self.process.poll()
            assert code is None, f"the daemon ended with {code} while waiting for {what}:\n{self.output.read_text()}"
            if time.monotonic() > end:
                raise AssertionError(f"waited {timeout} s for {what}:\n{self.output.read_text()[-3000:]}")
            time.sleep(0.01)

    def _is_live(self) -> bool:
        return self.http("GET", "/livez", timeout=2).status == 200

    def _leader(self) -> Any:
        answer = self.http("GET", "/leader")
        return answer.json if answer.status == 200 else None


@contextmanager
def running(folder: Path, size: int = 3, *arguments: str, timing: str = TIMING) -> Iterator[Daemon]:
    """A daemon that runs `size` nodes, with a leader, ended whatever happens."""
    daemon = Daemon(write_configuration(folder, size, timing=timing), *arguments)
    try:
        daemon.start()
        daemon.leader()
        yield daemon
    finally:
        daemon.end()


@contextmanager
def running_apart(folder: Path, size: int = 3) -> Iterator[list[Daemon]]:
    """A daemon per node, with a leader."""
    configuration = write_configuration(folder, size)
    daemons = [Daemon(configuration, node_id=node_id) for node_id in range(size)]
    try:
        for daemon in daemons:
            daemon.start(wait=False)
        for daemon in daemons:
            daemon.wait_for(daemon._is_live, "the API to answer", 10)
        daemons[0].leader()
        yield daemons
    finally:
        for daemon in daemons:
            daemon.end()
