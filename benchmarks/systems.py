"""Starts what is measured, on loopback and free ports, and ends every process it started.

Each of these yields what is needed to reach the system and the ids of its processes. All keep what they are told in files under
`folder`; results.md says what each of them syncs.
"""

import http.client
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nats_load import make_bucket

from bargetrio.cli.free_ports import free_ports

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Running:
    """A system: the address to load (a leader's, where there is one), and its processes."""

    address: str
    pids: list[int]


@dataclass(frozen=True)
class Barge:
    """A cluster of ours: its configuration, its processes (one, or one a node), and REST of each of them."""

    configuration: Path
    pids: list[int]
    apis: list[str]


@contextmanager
def started(commands: list[list[str]], folder: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Run the commands; end them by id."""
    log = (folder / "output.txt").open("ab")
    processes = [subprocess.Popen(command, cwd=folder, stdout=log, stderr=log) for command in commands]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()
        log.close()


@contextmanager
def etcd(folder: Path, program: str = "etcd") -> Iterator[Running]:
    """A three-node etcd; the address is its leader's for clients, by gRPC and by its JSON gateway."""
    folder.mkdir()
    ports = free_ports(6)
    peers = ",".join(f"n{number}=http://127.0.0.1:{ports[3 + number]}" for number in range(3))
    commands = [
        [
            *(program, "--name", f"n{number}", "--data-dir", str(folder / f"n{number}"), "--log-level", "error"),
            *("--listen-client-urls", f"http://127.0.0.1:{ports[number]}"),
            *("--advertise-client-urls", f"http://127.0.0.1:{ports[number]}"),
            *("--listen-peer-urls", f"http://127.0.0.1:{ports[3 + number]}"),
            *("--initial-advertise-peer-urls", f"http://127.0.0.1:{ports[3 + number]}"),
            *("--initial-cluster", peers),
        ]
        for number in range(3)
    ]
    with started(commands, folder) as processes:
        yield Running(etcd_leader(ports[:3]), [process.pid for process in processes])


@contextmanager
def antietcd(folder: Path, command: list[str]) -> Iterator[Running]:
    """A three-node antietcd that syncs each change and asks its followers before it answers a read."""
    folder.mkdir()
    ports = free_ports(3)
    members = ",".join(f"n{number}=http://127.0.0.1:{port}" for number, port in enumerate(ports))
    commands = [
        [
            *(*command, "--ip", "127.0.0.1", "--port", str(port), "--data", str(folder / f"n{number}.gz")),
            *("--node_id", f"n{number}", "--cluster_key", "barge", "--cluster", members, "--stale_read", "0"),
            *("--replication_timeout", "10000"),  # with its own, 1 s, puts fail where some tens are outstanding
        ]
        for number, port in enumerate(ports)
    ]
    with started(commands, folder) as processes:
        yield Running(etcd_leader(ports, 3), [process.pid for process in processes])


@contextmanager
def nats(folder: Path, program: str, *, sync_always: bool) -> Iterator[Running]:
    """Three servers of NATS with a JetStream bucket that has a replica on each; the address is that of the leader's server.

    Without `sync_always` they have NATS's own setting, a sync every two minutes.
    """
    folder.mkdir()
    ports = free_ports(6)
    routes = ", ".join(f"nats://127.0.0.1:{port}" for port in ports[3:])
    sync = "sync_interval: always" if sync_always else ""
    commands = []
    for number in range(3):
        configuration = folder / f"n{number}.conf"
        configuration.write_text(
            f'server_name: n{number}\nlisten: "127.0.0.1:{ports[number]}"\n'
            f'jetstream {{\n  store_dir: "{folder / f"n{number}"}"\n  {sync}\n}}\n'
            f'cluster {{\n  name: barge\n  listen: "127.0.0.1:{ports[3 + number]}"\n  routes: [{routes}]\n}}\n'
        )
        commands.append([program, "-c", str(configuration)])
    with started(commands, folder) as processes:
        leader = make_bucket({f"n{number}": f"127.0.0.1:{ports[number]}" for number in range(3)})
        yield Running(leader, [process.pid for process in processes])


def etcd_leader(ports: list[int], settled_s: float = 0.2) -> str:
    """Return the address of the member that leads, once all have agreed on it for so long.

    antietcd answers the same question; while its members connect to each other, they elect one leader after the other.
    """
    end = time.monotonic() + 30
    before, since = None, 0.0
    while time.monotonic() < end:
        try:
            told = [_etcd_status(port) for port in ports]
        except (OSError, ValueError, http.client.HTTPException):
            told = []
        leaders = {(status.get("leader"), status.get("raftTerm")) for status in told}
        ids = [status["header"]["member_id"] for status in told]
        leader = next(iter(leaders))[0] if len(leaders) == 1 else None
        has_all = all(len(status.get("followers", ports)) == len(ports) for status in told)
        if leader not in ids or not has_all or leaders != before:
            before, since = leaders, time.monotonic()
        elif time.monotonic() - since >= settled_s:
            return f"127.0.0.1:{ports[ids.index(leader)]}"
        time.sleep(0.1)
    raise SystemExit("etcd did not elect a leader within 30 s")


def _etcd_status(port: int) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("POST", "/v3/maintenance/status", "{}", {"Content-Type": "application/json"})
        return dict(json.loads(connection.getresponse().read()))
    finally:
        connection.close()


def write_configuration(folder: Path, *, nodes: int = 3, extra: str = "") -> Path:
    """Make the folder, and in it a configuration with the shipped settings but for free ports and what `extra` says."""
    folder.mkdir()
    ports = free_ports(1 + 2 * nodes)
    lines = ["cluster: barge", f"api: 127.0.0.1:{ports[0]}", "data_dir: data", "nodes:"]
    for node in range(nodes):
        lines.append(f"  - {{id: {node}, address: 127.0.0.1:{ports[1 + node]}, api: 127.0.0.1:{ports[1 + nodes + node]}}}")
    configuration = folder / "configuration.yml"
    configuration.write_text("\n".join(lines) + "\n" + extra)
    return configuration


def apis_of(configuration: Path, *, apart: bool) -> list[str]:
    """Return where REST is: the one daemon's, or each node's."""
    import yaml

    settings = yaml.safe_load(configuration.read_text())
    return [str(node["api"]) for node in settings["nodes"]] if apart else [str(settings["api"])]


def serve_command(configuration: Path, node: int | None = None, *, program: tuple[str, ...] = ("-m", "bargetrio")) -> list[str]:
    """Return what starts a daemon: of all nodes, or of one."""
    alone = [] if node is None else ["--node", str(node)]
    return [sys.executable, *program, "serve", "--config", str(configuration), *alone]


@contextmanager
def barge(folder: Path, *, apart: bool, nodes: int = 3, extra: str = "") -> Iterator[Barge]:
    """Barge, in one process or in one process a node."""
    configuration = write_configuration(folder, nodes=nodes, extra=extra)
    with started([serve_command(configuration, node) for node in (range(nodes) if apart else (None,))], folder) as processes:
        yield Barge(configuration, [process.pid for process in processes], apis_of(configuration, apart=apart))


@contextmanager
def redis(folder: Path) -> Iterator[Running]:
    """One redis, no copies, that syncs before it answers."""
    folder.mkdir()
    (port,) = free_ports(1)
    options = ["--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder), "--save", "", "--appendonly", "yes"]
    with started([["redis-server", *options, "--appendfsync", "always"]], folder) as (process,):
        wait_for_port(port)
        yield Running(f"127.0.0.1:{port}", [process.pid])


@contextmanager
def python_server(folder: Path, script: str, *arguments: str) -> Iterator[Running]:
    """One of the servers in this folder that take `--port`."""
    folder.mkdir()
    (port,) = free_ports(1)
    command = [sys.executable, str(HERE / script), "--port", str(port), *arguments]
    with started([command], folder) as (process,):
        wait_for_port(port)
        yield Running(f"127.0.0.1:{port}", [process.pid])


def wait_for_port(port: int, timeout_s: float = 20) -> None:
    """Return once somebody accepts there."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"nobody listens on port {port}")
