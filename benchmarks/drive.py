"""Drives what systems.py starts: each call loads one system with one shape and returns a Measured.

wrk loads what speaks HTTP, etcd_load etcd by gRPC, nats_load.py NATS, load.py and bulk.py Barge, redis-benchmark redis;
PySyncObj's leader loads itself. What the servers cost is counted over the measured seconds only, the generator's own CPU time
likewise.
"""

import base64
import csv
import http.client
import io
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from systems import HERE, Barge, Running
from usage import Cost, Meter

from bargetrio.cli.free_ports import free_ports

KEYS = 10_000
VALUE = "v" * 64


@dataclass(frozen=True)
class Measured:
    """One system under one shape, once. `generator` is its load generator's share of a core, None where that is the server."""

    rate: float
    p50_ms: float
    p99_ms: float
    errors: int
    cpu_s: float
    cpu_us_a_request: float
    peak_mib: float
    generator: float | None


def connections_of(shape: str) -> int:
    """Return how many requests a shape has outstanding: so many connections HTTP needs for it."""
    connections, outstanding = shape.split("x")
    return int(connections) * int(outstanding)


# -- wrk -----------------------------------------------------------------------------------------------------------------

LUA = """
local value = "{value}"
local digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
local function b64(text)
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
local prebuilt = {{}}
local count = 0
function init()
  local fresh = string.format("%012d", os.time())
  for number = 0, {keys} - 1 do
    local key = string.format("key%09d", number * 7919 % {keys})
    {build}
  end
end
function request()
  count = count + 1
  return prebuilt[count % {keys} + 1]
end
function done(summary, latency, requests)
  local e = summary.errors
  local errors = e.status + e.read + e.write + e.timeout + e.connect
  io.write(string.format("RESULT %d %d %d %d %d\\n", summary.requests, summary.duration, latency:percentile(50),
    latency:percentile(99), errors))
end
"""
BUILD = {
    "etcd put": """local body = '{"key":"' .. b64(key) .. '","value":"' .. b64(fresh) .. value .. '"}'
    prebuilt[#prebuilt + 1] = wrk.format("POST", "/v3/kv/put", {["Content-Type"] = "application/json"}, body)""",
    "etcd get": """local body = '{"key":"' .. b64(key) .. '"}'
    prebuilt[#prebuilt + 1] = wrk.format("POST", "/v3/kv/range", {["Content-Type"] = "application/json"}, body)""",
    "etcd mixed": """local body = '{"key":"' .. b64(key) .. '","value":"' .. b64(fresh) .. value .. '"}'
    prebuilt[#prebuilt + 1] = number % 10 == 0 and wrk.format("GET", "/version")
      or wrk.format("POST", "/v3/kv/put", {["Content-Type"] = "application/json"}, body)""",
    "rest put": """prebuilt[#prebuilt + 1] = wrk.format("PUT", "/keys/" .. key, {["Content-Type"] = "text/plain"}, value)""",
    "rest get": """prebuilt[#prebuilt + 1] = wrk.format("GET", "/keys/" .. key)""",
    "rest mixed": """prebuilt[#prebuilt + 1] = number % 10 == 0 and wrk.format("GET", "/livez")
      or wrk.format("PUT", "/keys/" .. key, {["Content-Type"] = "text/plain"}, value)""",
}
"""What the requests are. Of `mixed`, each tenth is a GET of something else, which needs neither the log nor a quorum."""


def script_for(folder: Path, what: str) -> Path:
    """Write the script that makes wrk's requests.

    A value for etcd begins with twelve digits that no run before it had: antietcd keeps nothing of a put that changes nothing.
    """
    value = base64.b64encode(VALUE[12:].encode()).decode() if what.startswith("etcd") else VALUE
    path = folder / f"{what.replace(' ', '_')}.lua"
    path.write_text(LUA.format(value=value, keys=KEYS, build=BUILD[what]))
    return path


def by_wrk(running: Running, script: Path, connections: int, seconds: int) -> Measured:
    """Warm up for a second, then measure; an answer with a status of 400 or more, or none, is an error."""
    _wrk(running, script, connections, 1)
    return _wrk(running, script, connections, seconds)


def _wrk(running: Running, script: Path, connections: int, seconds: int) -> Measured:
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", str(script)]
    meter = Meter(running.pids)
    output, own_cpu_s, elapsed = spent([*command, f"http://{running.address}"])
    cost = meter.read()
    found = re.search(r"RESULT (\d+) (\d+) (\d+) (\d+) (\d+)", output)
    if found is None:
        raise SystemExit(f"wrk said:\n{output}")
    count, duration_us, p50_us, p99_us, errors = (int(text) for text in found.groups())
    return measured(count, count / duration_us * 1e6, p50_us / 1000, p99_us / 1000, errors, cost, own_cpu_s / elapsed)


def fill(running: Running, keys: int = KEYS, batch: int = 100) -> None:
    """Write every key that a get may ask for, by etcd's transactions: it takes at most 128 operations in each."""
    host, _, port = running.address.rpartition(":")

    def put(number: int) -> dict[str, Any]:
        encoded = [base64.b64encode(text.encode()).decode() for text in (f"key{number:09d}", VALUE)]
        return {"request_put": {"key": encoded[0], "value": encoded[1]}}

    for first in range(0, keys, batch):
        connection = http.client.HTTPConnection(host, int(port), timeout=30)
        puts = {"compare": [], "success": [put(number) for number in range(first, min(keys, first + batch))], "failure": []}
        connection.request("POST", "/v3/kv/txn", json.dumps(puts), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        if answer.status != 200 or not json.loads(answer.read()).get("succeeded"):
            raise SystemExit(f"a transaction of {batch} puts was not taken: {answer.status}")
        connection.close()


def spent(command: list[str]) -> tuple[str, float, float]:
    """Run a load generator; return its output, its CPU seconds and how long it took."""
    began = time.perf_counter()
    before = os.times()
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    after = os.times()
    if result.returncode:
        raise SystemExit(f"{command[0]}: {result.stderr or result.stdout}")
    own = after.children_user - before.children_user + after.children_system - before.children_system
    return result.stdout, own, time.perf_counter() - began


def measured(count: int, rate: float, p50_ms: float, p99_ms: float, errors: int, cost: Cost, generator: float | None) -> Measured:
    """Put together what was measured."""
    return Measured(rate, p50_ms, p99_ms, errors, cost.cpu_s, 1e6 * cost.cpu_s / max(1, count), cost.peak_mib, generator)


# -- etcd's gRPC ---------------------------------------------------------------------------------------------------------


def by_etcd_load(running: Running, program: str, op: str, shape: str, seconds: float) -> Measured:
    """Drive etcd by its own client; the program says when it begins and ends to measure."""
    command = [program, "--endpoint", running.address, "--op", op, "--shape", shape, "--keys", str(KEYS)]
    command += ["--value-bytes", str(len(VALUE)), "--seconds", str(seconds), "--warm-up", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        begin_line = process.stdout.readline()
        meter = Meter(running.pids)
        end_line = process.stdout.readline()
        cost = meter.read()
        output = process.stdout.read()
    if process.returncode or (begin_line, end_line) != ("measuring\n", "measured\n"):
        raise SystemExit(f"etcd_load ended with {process.returncode}: {begin_line}{end_line}{output}")
    return of_etcd_load(output, cost)


def of_etcd_load(output: str, cost: Cost) -> Measured:
    """Read what etcd_load says; its share is that of the cores that its threads may take."""
    found = json.loads(output)
    share = found["own_cpu_s"] / found["seconds"] / found["threads"]
    return measured(found["answers"], found["rate"], found["p50_ms"], found["p99_ms"], found["errors"], cost, share)


# -- our own generators --------------------------------------------------------------------------------------------------


def by_load(
    where: list[str], pids: list[int], op: str, shape: str, seconds: float, *, keys: int = KEYS, value_bytes: int = len(VALUE)
) -> Measured:
    """Drive what speaks the client protocol, by load.py; `where` is how that finds it."""
    command = [sys.executable, str(HERE / "load.py"), *where, "--json", "--op", op]
    command += ["--keys", str(keys), "--value-bytes", str(value_bytes)]
    command += ["--shape", shape, "--seconds", str(seconds), "--warm-up", "1"]
    command += [word for pid in pids for word in ("--watch", str(pid))]
    return _ours(json.loads(spent(command)[0]))


def by_nats_load(running: Running, shape: str, seconds: float) -> Measured:
    """Put into a bucket of NATS."""
    command = [sys.executable, str(HERE / "nats_load.py"), "--address", running.address, "--shape", shape, "--keys", str(KEYS)]
    command += ["--seconds", str(seconds), "--warm-up", "1"]
    command += [word for pid in running.pids for word in ("--watch", str(pid))]
    return _ours(json.loads(spent(command)[0]))


def by_bulk(barge: Barge, seconds: float) -> tuple[Measured, int]:
    """Stream NDJSON into Barge; return how many lines were outstanding, too."""
    command = [sys.executable, str(HERE / "bulk.py"), "--api", barge.apis[0], "--seconds", str(seconds)]
    command += [word for pid in barge.pids for word in ("--watch", str(pid))]
    found = json.loads(spent(command)[0])
    return _ours({"p50_ms": 0.0, "p99_ms": 0.0, **found}), int(found["outstanding"])


def _ours(found: dict[str, Any]) -> Measured:
    cost = Cost(found["cpu_s"], found["peak_mib"], found["seconds"])
    own = found["own_cpu_s"] / found["seconds"]
    return measured(found["answers"], found["rate"], found["p50_ms"], found["p99_ms"], found["errors"], cost, own)


# -- redis, PySyncObj ----------------------------------------------------------------------------------------------------


def by_redis_benchmark(running: Running, op: str, shape: str, seconds: float) -> Measured:
    """Drive redis; its tool counts requests, not seconds, so a short run says how many that is. It ends at the first error."""
    _, _, port = running.address.rpartition(":")
    connections, outstanding = shape.split("x")
    command = ["redis-benchmark", "-p", port, "-t", "set" if op == "put" else "get", "-d", "64", "-r", str(KEYS), "--csv"]
    command += ["-c", connections, "-P", outstanding]

    def go(count: int) -> tuple[float, float, float, float]:
        output, own_cpu_s, elapsed = spent([*command, "-n", str(count)])
        row = next(csv.DictReader(io.StringIO(output)))
        return float(row["rps"]), float(row["p50_latency_ms"]), float(row["p99_latency_ms"]), own_cpu_s / elapsed

    go(200 * connections_of(shape) // int(connections) + 2000)  # connections, files and caches are warm
    rate = go(int(0.5 * 2000 + 20 * connections_of(shape)))[0]
    count = int(rate * seconds)
    meter = Meter(running.pids)
    rate, p50_ms, p99_ms, generator = go(count)
    return measured(count, rate, p50_ms, p99_ms, 0, meter.read(), generator)


class PySyncObj:
    """Three processes; one of them leads, and loads itself."""

    def __init__(self, processes: "list[subprocess.Popen[str]]") -> None:
        self.pids = [process.pid for process in processes]
        self._leader = self._find(processes)

    def put_for(self, seconds: float) -> int:
        """Put one after the other; return how many that were."""
        return int(self._ask(self._leader, f"put 1 0 {seconds}")["answers"])

    def load(self, shape: str, seconds: float) -> Measured:
        """Keep as many puts outstanding as the shape; the cost is the servers' and the load's together."""
        numbers = " ".join(str(pid) for pid in self.pids)
        found = self._ask(self._leader, f"put {connections_of(shape)} 1 {seconds} {numbers}")
        cost = Cost(found["cpu_s"], found["peak_mib"], seconds)
        return measured(found["answers"], found["rate"], found["p50_ms"], found["p99_ms"], found["errors"], cost, None)

    def _find(self, processes: "list[subprocess.Popen[str]]") -> "subprocess.Popen[str]":
        end = time.monotonic() + 20
        while time.monotonic() < end:
            for process in processes:
                if self._ask(process, "who")["leads"]:
                    return process
            time.sleep(0.1)
        raise SystemExit("PySyncObj did not elect a leader within 20 s")

    @staticmethod
    def _ask(process: "subprocess.Popen[str]", text: str) -> Any:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(text + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            raise SystemExit("a PySyncObj process ended")
        return json.loads(line)


@contextmanager
def pysyncobj(folder: Path, *, batch: bool) -> Iterator[PySyncObj]:
    """A three-node PySyncObj with its journal; `batch` is its `appendEntriesUseBatch`."""
    folder.mkdir()
    addresses = [f"127.0.0.1:{port}" for port in free_ports(3)]
    log = (folder / "output.txt").open("ab")
    processes = [
        subprocess.Popen(
            [
                *(sys.executable, str(HERE / "pysyncobj_node.py"), str(folder / f"{'batch' if batch else 'single'}-{number}")),
                *(own, *(address for address in addresses if address != own)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        for number, own in enumerate(addresses)
    ]
    try:
        yield PySyncObj(processes)
    finally:
        for process in processes:
            process.kill()
            process.communicate()
        log.close()
