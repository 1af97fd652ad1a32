"""A load generator in a process of its own: speaks the client protocol to the leader, so many connections × outstanding requests.

    python benchmarks/load.py --config configuration.yml --shape 100x10 --seconds 5

Prints put/s, p50 and p99 of the time from sending a request to reading its answer. One thread, one epoll; it sends a new request
for each answer. Its own cost is part of every figure here, since it shares the machine's cores with the cluster.
"""

import argparse
import json
import selectors
import socket
import sys
import time
from array import array
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

HELLO = '{{"hello":"client","protocol":1,"cluster":"{}"}}\n'
SHAPES = ("1x1", "1x64", "256x1", "100x10")


@dataclass(frozen=True)
class Result:
    """What one shape gave; latencies in milliseconds."""

    shape: str
    op: str
    answers: int
    errors: int
    seconds: float
    rate: float
    p50_ms: float
    p99_ms: float


class Connection:
    """One connection that always has `outstanding` requests out."""

    def __init__(self, address: str, cluster: str, make_line: "Lines") -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), 5)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(HELLO.format(cluster).encode())
        self.rest = b""
        self.sent: dict[bytes, float] = {}
        self._make_line = make_line
        self._last_id = 0

    def read_hello(self) -> None:
        """Read the node's answer to the hello."""
        while not self.rest.endswith(b"\n"):
            data = self.socket.recv(4096)
            if not data:
                raise SystemExit("the node closed the connection instead of saying hello")
            self.rest += data
        if b'"hello":"node"' not in self.rest:
            raise SystemExit(f"refused: {self.rest!r}")
        self.rest = b""

    def fire(self, count: int, now: float) -> None:
        """Send so many requests in one piece."""
        lines: list[bytes] = []
        for _ in range(count):
            self._last_id += 1
            number = b"%d" % self._last_id
            self.sent[number] = now
            lines.append(self._make_line(number))
        self.socket.sendall(b"".join(lines))

    def take(self, now: float, latencies: "array[float]") -> tuple[int, int]:
        """Read what is there; return (answers, errors)."""
        data = self.socket.recv(1 << 20)
        if not data:
            raise SystemExit("the node closed the connection")
        lines = (self.rest + data).split(b"\n")
        self.rest = lines.pop()
        errors = 0
        for line in lines:
            number, _, tail = line[6:].partition(b",")
            latencies.append(now - self.sent.pop(number))
            if not tail.startswith(b'"ok":true'):
                errors += 1
                print(line.decode(), file=sys.stderr)
        return len(lines), errors


class Lines:
    """Makes the requests: keys in a fixed walk over `keys` of them, values of `value_bytes`."""

    def __init__(self, op: str, keys: int, value_bytes: int) -> None:
        self._op = op
        self._keys = keys
        self._value = b"v" * value_bytes
        self._count = 0

    def __call__(self, number: bytes) -> bytes:
        """Return the next request."""
        self._count += 1
        key = b"key%09d" % (self._count * 7919 % self._keys)
        if self._op == "get":
            return b'{"id":%b,"op":"get","key":"%b"}\n' % (number, key)
        if self._op == "stale":
            return b'{"id":%b,"op":"get","key":"%b","read":"stale"}\n' % (number, key)
        return b'{"id":%b,"op":"put","key":"%b","value":"%b"}\n' % (number, key, self._value)


def find_leader(addresses: list[str], cluster: str, timeout_s: float = 10) -> str:
    """Return the address of the node that accepts a write."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        for address in addresses:
            host, _, port = address.rpartition(":")
            try:
                with socket.create_connection((host, int(port)), 2) as sock, sock.makefile("rwb") as stream:
                    stream.write(HELLO.format(cluster).encode() + b'{"id":1,"op":"put","key":"load","value":"begins"}\n')
                    stream.flush()
                    stream.readline()
                    if json.loads(stream.readline() or b'{"ok":false}')["ok"]:
                        return address
            except OSError:
                continue
        time.sleep(0.05)
    raise SystemExit(f"no leader at {', '.join(addresses)}")


def run(address: str, cluster: str, shape: str, seconds: float, warm_up: float, lines: Lines, op: str) -> Result:
    """Load the leader for `warm_up` seconds, then measure for `seconds`."""
    connections, outstanding = (int(part) for part in shape.split("x"))
    selector = selectors.EpollSelector()
    everybody = [Connection(address, cluster, lines) for _ in range(connections)]
    for connection in everybody:
        connection.read_hello()
        selector.register(connection.socket, selectors.EVENT_READ, connection)
    latencies = array("d")
    answers = errors = 0
    began = time.perf_counter()
    measured_from = began + warm_up
    for connection in everybody:
        connection.fire(outstanding, time.perf_counter())
    warm = False
    while (now := time.perf_counter()) < measured_from + seconds:
        if not warm and now >= measured_from:
            warm, measured_from, answers, errors = True, now, 0, 0
            latencies = array("d")
        for key, _ in selector.select(1):
            taken, failed = key.data.take(time.perf_counter(), latencies)
            answers, errors = answers + taken, errors + failed
            key.data.fire(taken, time.perf_counter())
    elapsed = time.perf_counter() - measured_from
    for connection in everybody:
        connection.socket.close()
    ordered = sorted(latencies)
    return Result(
        shape=shape,
        op=op,
        answers=answers,
        errors=errors,
        seconds=round(elapsed, 3),
        rate=round(answers / elapsed, 1),
        p50_ms=round(1000 * ordered[len(ordered) // 2], 3) if ordered else 0.0,
        p99_ms=round(1000 * ordered[len(ordered) * 99 // 100], 3) if ordered else 0.0,
    )


@dataclass(frozen=True)
class Window:
    """What a short stretch of a long run gave: when it ended (perf_counter, and since the run began), answers, errors, and their
    sorted latencies in s."""

    ended: float
    at: float
    seconds: float
    answers: int
    errors: int
    latencies: "list[float]"


def windows(address: str, cluster: str, shape: str, lines: Lines, window_s: float, rate: float = 0.0) -> Iterator[Window]:
    """Load the leader until the caller has enough; with `rate`, no more than so many requests a second."""
    connections, outstanding = (int(part) for part in shape.split("x"))
    selector = selectors.EpollSelector()
    everybody = [Connection(address, cluster, lines) for _ in range(connections)]
    for connection in everybody:
        connection.read_hello()
        selector.register(connection.socket, selectors.EVENT_READ, connection)
    idle: list[tuple[Connection, int]] = [(connection, outstanding) for connection in everybody]
    began = opened = time.perf_counter()
    fired = answers = errors = 0
    latencies = array("d")
    try:
        while True:
            now = time.perf_counter()
            allowed = int((now - began) * rate) - fired if rate else sum(count for _, count in idle)
            waiting, idle = idle, []
            for connection, count in waiting:
                share = max(0, min(count, allowed))
                if share:
                    connection.fire(share, now)
                    fired, allowed = fired + share, allowed - share
                if count > share:
                    idle.append((connection, count - share))
            for key, _ in selector.select(0.001 if idle else 1):
                taken, failed = key.data.take(time.perf_counter(), latencies)
                answers, errors = answers + taken, errors + failed
                idle.append((key.data, taken))
            now = time.perf_counter()
            if now - opened >= window_s:
                yield Window(now, now - began, now - opened, answers, errors, sorted(latencies))
                opened, answers, errors, latencies = now, 0, 0, array("d")
    finally:
        for connection in everybody:
            connection.socket.close()


def addresses_of(path: Path) -> tuple[str, list[str]]:
    """Return (cluster, node addresses) of a configuration file."""
    import yaml

    settings: Any = yaml.safe_load(path.read_text())
    return str(settings["cluster"]), [str(node["address"]) for node in settings["nodes"]]


def main() -> None:
    """Run the shapes asked for and print a table, or JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--config", type=Path, help="take addresses and cluster name from this configuration")
    parser.add_argument("--address", action="append", default=[], help="a node (may repeat)")
    parser.add_argument("--cluster", default="barge")
    parser.add_argument("--shape", action="append", default=[], help="connections x outstanding, as in 100x10 (may repeat)")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--warm-up", type=float, default=1)
    parser.add_argument("--op", choices=("put", "get", "stale"), default="put")
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--value-bytes", type=int, default=64)
    parser.add_argument("--json", action="store_true", help="a JSON object a shape")
    arguments = parser.parse_args()
    cluster, addresses = arguments.cluster, arguments.address
    if arguments.config is not None:
        cluster, addresses = addresses_of(arguments.config)
    if not addresses:
        parser.error("--config or --address is needed")
    failed = False
    for shape in arguments.shape or SHAPES:
        lines = Lines(arguments.op, arguments.keys, arguments.value_bytes)
        leader = find_leader(addresses, cluster)
        result = run(leader, cluster, shape, arguments.seconds, arguments.warm_up, lines, arguments.op)
        failed = failed or result.errors > 0
        if arguments.json:
            print(json.dumps(asdict(result)), flush=True)
        else:
            print(
                f"{result.shape:>8}  {result.rate:>10,.0f} {result.op}/s  p50 {result.p50_ms:8.2f} ms"
                f"  p99 {result.p99_ms:8.2f} ms  errors {result.errors}",
                flush=True,
            )
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
