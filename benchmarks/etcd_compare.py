"""Barge beside a three-node etcd on this machine, in alternating rounds, with as many requests outstanding and values as long.

    python benchmarks/etcd_compare.py --rounds 3 --seconds 5

etcd (Debian's etcd-server) is driven by wrk through its JSON gateway, at its leader; Barge by load.py over its client protocol,
at its leader. Both keep three durable copies on the same disk. Needs `etcd` and `wrk` on the path; ends every process it starts.
"""

import argparse
import base64
import http.client
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SHAPES = {"1x1": 1, "1x64": 64, "256x1": 256, "100x10": 1000}
"""load.py's shape, and how many connections of one request each wrk holds for it."""

LUA = """
local value = "{value}"
local count = 0
request = function()
  count = count + 1
  local key = string.format("key%09d", count * 7919 % 10000)
  local body = '{{"key":"' .. b64(key) .. '","value":"' .. value .. '"}}'
  return wrk.format("POST", "/v3/kv/put", {{["Content-Type"] = "application/json"}}, body)
end
local digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
function b64(text)
  local out = {{}}
  for i = 1, #text, 3 do
    local a, b, c = text:byte(i, i + 2)
    local n = a * 65536 + b * 256 + c
    for shift = 18, 0, -6 do
      local d = math.floor(n / 2 ^ shift) % 64
      out[#out + 1] = digits:sub(d + 1, d + 1)
    end
  end
  return table.concat(out)
end
done = function(summary, latency, requests)
  io.write(string.format("RESULT %d %d %d %d %d\\n", summary.requests, summary.duration, latency:percentile(50),
    latency:percentile(99), summary.errors.status + summary.errors.read + summary.errors.write + summary.errors.timeout))
end
"""


def free_ports(count: int) -> list[int]:
    """Return ports that nobody had a moment ago."""
    sockets = [socket.socket() for _ in range(count)]
    for sock in sockets:
        sock.bind(("127.0.0.1", 0))
    ports = [int(sock.getsockname()[1]) for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


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
def etcd(folder: Path) -> Iterator[str]:
    """A three-node etcd; yields its leader's client address."""
    folder.mkdir()
    ports = free_ports(6)
    peers = ",".join(f"n{number}=http://127.0.0.1:{ports[3 + number]}" for number in range(3))
    commands = [
        [
            *("etcd", "--name", f"n{number}", "--data-dir", str(folder / f"n{number}"), "--log-level", "error"),
            *("--listen-client-urls", f"http://127.0.0.1:{ports[number]}"),
            *("--advertise-client-urls", f"http://127.0.0.1:{ports[number]}"),
            *("--listen-peer-urls", f"http://127.0.0.1:{ports[3 + number]}"),
            *("--initial-advertise-peer-urls", f"http://127.0.0.1:{ports[3 + number]}"),
            *("--initial-cluster", peers),
        ]
        for number in range(3)
    ]
    with started(commands, folder):
        yield etcd_leader(ports[:3])


def etcd_leader(ports: list[int]) -> str:
    """Return the address of the member that leads."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        for port in ports:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
                connection.request("POST", "/v3/maintenance/status", "{}")
                status = json.loads(connection.getresponse().read())
                if status.get("leader") and status["leader"] == status["header"]["member_id"]:
                    return f"127.0.0.1:{port}"
            except (OSError, ValueError, http.client.HTTPException):
                pass
        time.sleep(0.1)
    raise SystemExit("etcd did not elect a leader within 20 s")


@contextmanager
def barge(folder: Path, *, apart: bool) -> Iterator[Path]:
    """Barge with three nodes, in one process or one each; yields its configuration."""
    folder.mkdir()
    ports = free_ports(7)
    lines = ["cluster: barge", f"api: 127.0.0.1:{ports[0]}", "data_dir: data", "nodes:"]
    lines += [
        f"  - {{id: {number}, address: 127.0.0.1:{ports[1 + number]}, api: 127.0.0.1:{ports[4 + number]}}}" for number in range(3)
    ]
    configuration = folder / "configuration.yml"
    configuration.write_text("\n".join(lines) + "\n")
    command = [sys.executable, "-m", "bargetrio", "serve", "--config", str(configuration)]
    commands = [[*command, "--node", str(number)] for number in range(3)] if apart else [command]
    with started(commands, folder):
        yield configuration


def load_etcd(address: str, script: Path, outstanding: int, seconds: int) -> dict[str, Any]:
    """Drive etcd with wrk; return rate and latencies."""
    command = ["wrk", "-t1", f"-c{outstanding}", f"-d{seconds}s", "--timeout", "10s", "-s", str(script), f"http://{address}"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"RESULT (\d+) (\d+) (\d+) (\d+) (\d+)", output)
    if found is None:
        raise SystemExit(f"wrk said:\n{output}")
    count, duration_us, p50_us, p99_us, errors = (int(text) for text in found.groups())
    return {"rate": count / duration_us * 1e6, "p50_ms": p50_us / 1000, "p99_ms": p99_us / 1000, "errors": errors}


def load_barge(configuration: Path, shape: str, seconds: int) -> dict[str, Any]:
    """Drive Barge with load.py; return rate and latencies."""
    command = [sys.executable, str(Path(__file__).with_name("load.py")), "--config", str(configuration), "--json"]
    command += ["--shape", shape, "--seconds", str(seconds), "--warm-up", "1"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise SystemExit(result.stderr or result.stdout)
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description="Barge beside etcd")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--shape", action="append", choices=sorted(SHAPES), default=[])
    arguments = parser.parse_args()
    for tool in ("etcd", "wrk"):
        if shutil.which(tool) is None:
            raise SystemExit(f"{tool} is not on the path (Debian: etcd-server, wrk)")
    shapes = arguments.shape or list(SHAPES)
    figures: dict[tuple[str, str], list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        script = folder / "put.lua"
        script.write_text(LUA.format(value=base64.b64encode(b"v" * 64).decode()))
        for number in range(arguments.rounds):
            with etcd(folder / f"etcd{number}") as address:
                load_etcd(address, script, 64, 1)
                for shape in shapes:
                    figures.setdefault((shape, "etcd"), []).append(load_etcd(address, script, SHAPES[shape], arguments.seconds))
            for kind in ("one process", "one each"):
                with barge(folder / f"barge{number}-{kind[4:]}", apart=kind == "one each") as configuration:
                    for shape in shapes:
                        figures.setdefault((shape, kind), []).append(load_barge(configuration, shape, arguments.seconds))
            print(f"round {number + 1} of {arguments.rounds} done", file=sys.stderr, flush=True)
    print(f"{os.cpu_count()} cores, {arguments.rounds} rounds of {arguments.seconds} s a shape, medians\n")
    print("| outstanding | | put/s | p50 ms | p99 ms | put/s beside etcd | errors |\n|---|---|---|---|---|---|---|")
    for shape in shapes:
        for kind in ("etcd", "one process", "one each"):
            runs = figures[shape, kind]
            rate, p50, p99 = (statistics.median(run[field] for run in runs) for field in ("rate", "p50_ms", "p99_ms"))
            ratio = statistics.median(
                run["rate"] / other["rate"] for run, other in zip(runs, figures[shape, "etcd"], strict=True)
            )
            who = kind if kind == "etcd" else f"Barge, {kind}"
            errors = sum(run["errors"] for run in runs)
            print(f"| {shape} | {who} | {rate:,.0f} | {p50:.2f} | {p99:.2f} | {ratio:.2f} × | {errors} |")


if __name__ == "__main__":
    main()
