"""A load generator in a process of its own: speaks the client protocol to the leader, so many connections × outstanding requests.

    python benchmarks/load.py --config configuration.yml --shape 100x10 --seconds 5

Prints put/s, p50 and p99 of the time from sending a request to reading its answer. One thread, one epoll; it sends a new request
for each answer. Every answer is tied to its request by id, and looked at: an id that nobody asked for, an answer that is not ok
and a read that found nothing are errors. Its own cost is part of every figure here, since it shares the machine's cores with the
cluster; so it is kept small (requests are cut from prebuilt pieces, answers are sliced, not parsed) and told.
"""

import argparse
import json
import select
import socket
import sys
import time
from array import array
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from usage import Meter

HELLO = '{{"hello":"client","protocol":1,"cluster":"{}"}}\n'
SHAPES = ("1x1", "1x64", "256x1", "100x10")
FIRST_ID = 100_000_000
"""Ids have nine digits, so that they stand at the same place of every answer."""
PREBUILT_BYTES = 64 * 2**20
LATE_S = 0.002
"""With a rate, a request that goes out later than this counts from when it was due."""

_buffer = bytearray(256 * 1024)
_view = memoryview(_buffer)


@dataclass(frozen=True)
class Result:
    """What one shape gave; latencies in milliseconds. Costs: of the processes named by --watch, and its own."""

    shape: str
    op: str
    answers: int
    errors: int
    seconds: float
    rate: float
    p50_ms: float
    p99_ms: float
    own_cpu_s: float
    cpu_s: float = 0.0
    peak_mib: float = 0.0


class Lines:
    """Makes the requests, all but their ids: keys in a fixed walk over `keys` of them, values of `value_bytes`."""

    def __init__(self, op: str, keys: int, value_bytes: int) -> None:
        self._head = b',"op":"%b","key":"' % (b"put" if op == "put" else b"get")
        ends = {"get": b'"}\n', "stale": b'","read":"stale"}\n', "put": b'","value":"%b"}\n' % (b"v" * value_bytes)}
        self._end = ends[op]
        walk = (count * 7919 % keys for count in cycle(range(keys)))
        if keys * (len(self._end) + 70) <= PREBUILT_BYTES:
            self._tails: Iterator[bytes] = cycle([self._tail(key) for key in islice(walk, keys)])
        else:
            self._tails = map(self._tail, walk)

    def take(self, count: int) -> Iterator[bytes]:
        """Return what follows the id in the next so many requests."""
        return islice(self._tails, count)

    def _tail(self, key: int) -> bytes:
        return b"%bkey%09d%b" % (self._head, key, self._end)


class Connection:
    """One connection that always has `outstanding` requests out."""

    def __init__(self, address: str, cluster: str, lines: Lines) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), 5)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(HELLO.format(cluster).encode())
        self._rest = b""
        self._sent: dict[bytes, float] = {}
        self._lines = lines
        self._next_id = FIRST_ID

    def read_hello(self) -> None:
        """Read the node's answer to the hello."""
        hello = b""
        while not hello.endswith(b"\n"):
            data = self.socket.recv(4096)
            if not data:
                raise SystemExit("the node closed the connection instead of saying hello")
            hello += data
        if b'"hello":"node"' not in hello:
            raise SystemExit(f"refused: {hello!r}")

    def fire(self, count: int, now: float) -> None:
        """Send so many requests in one piece."""
        first, self._next_id = self._next_id, self._next_id + count
        numbers = [b"%d" % number for number in range(first, first + count)]
        self._sent.update(dict.fromkeys(numbers, now))
        self.socket.sendall(b"".join([b'{"id":%b%b' % pair for pair in zip(numbers, self._lines.take(count), strict=True)]))

    def take(self, now: float, latencies: "array[float]") -> tuple[int, int]:
        """Read what is there; return (answers, errors)."""
        size = self.socket.recv_into(_buffer)
        if not size:
            raise SystemExit("the node closed the connection")
        data = self._rest + bytes(_view[:size])
        lines = data.split(b"\n")
        self._rest = lines.pop()
        sent = self._sent.pop
        try:
            latencies.extend([now - sent(line[6:15]) for line in lines])
        except KeyError as problem:
            raise SystemExit(f"an answer to what was not asked: {problem}") from None
        # No key or value of ours looks like this; the rest of a line that is not whole yet is left to its own turn.
        good = data.count(b',"ok":true,', 0, len(data) - len(self._rest))
        if good == len(lines) and b'"value":null' not in data:
            return len(lines), 0
        bad = [line for line in lines if line[15:26] != b',"ok":true,' or b'"value":null' in line]
        print(*(line[:300].decode() for line in bad[:10]), sep="\n", file=sys.stderr)
        return len(lines), len(bad)


class Load:
    """All connections, and one epoll over them."""

    def __init__(self, address: str, cluster: str, connections: int, lines: Lines, kind: type[Connection] = Connection) -> None:
        self.connections = [kind(address, cluster, lines) for _ in range(connections)]
        self._by_descriptor = {connection.socket.fileno(): connection for connection in self.connections}
        self._epoll = select.epoll()
        for connection in self.connections:
            connection.read_hello()
            self._epoll.register(connection.socket, select.EPOLLIN)

    def ready(self, timeout_s: float) -> list[Connection]:
        """Return the connections with something to read."""
        return [self._by_descriptor[descriptor] for descriptor, _ in self._epoll.poll(timeout_s)]

    def close(self) -> None:
        """Close everything."""
        self._epoll.close()
        for connection in self.connections:
            connection.socket.close()


def find_leader(addresses: list[str], cluster: str, timeout_s: float = 10, *, pause_s: float = 0.05) -> str:
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
        time.sleep(pause_s)
    raise SystemExit(f"no leader at {', '.join(addresses)}")


def percentile_ms(ordered: "list[float]", percent: int) -> float:
    """Return a percentile of sorted seconds."""
    return round(1000 * ordered[min(len(ordered) - 1, len(ordered) * percent // 100)], 3) if ordered else 0.0


def run(
    address: str,
    cluster: str,
    shape: str,
    seconds: float,
    warm_up: float,
    lines: Lines,
    op: str,
    watched: list[int],
    kind: type[Connection] = Connection,
) -> Result:
    """Load the leader for `warm_up` seconds, then measure for `seconds`."""
    connections, outstanding = (int(part) for part in shape.split("x"))
    load = Load(address, cluster, connections, lines, kind)
    began = time.perf_counter()
    for connection in load.connections:
        connection.fire(outstanding, time.perf_counter())
    latencies = array("d")
    errors = early_errors = 0
    meter, own_cpu_s, measured_from = Meter(watched), time.process_time(), began
    is_warm = False
    clock = time.perf_counter
    while (now := clock()) < (measured_from + seconds if is_warm else began + warm_up + seconds):
        if not is_warm and now >= began + warm_up:
            is_warm, measured_from, early_errors, errors, latencies = True, now, errors, 0, array("d")
            meter, own_cpu_s = Meter(watched), time.process_time()
        for connection in load.ready(1):
            taken, failed = connection.take(clock(), latencies)
            errors += failed
            connection.fire(taken, clock())
    elapsed = clock() - measured_from
    cost, own_cpu_s = meter.read(), time.process_time() - own_cpu_s
    load.close()
    ordered = sorted(latencies)
    return Result(
        shape=shape,
        op=op,
        answers=len(ordered),
        errors=errors + early_errors,
        seconds=round(elapsed, 3),
        rate=round(len(ordered) / elapsed, 1),
        p50_ms=percentile_ms(ordered, 50),
        p99_ms=percentile_ms(ordered, 99),
        own_cpu_s=round(own_cpu_s, 3),
        cpu_s=round(cost.cpu_s, 2),
        peak_mib=round(cost.peak_mib, 1),
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
    load = Load(address, cluster, connections, lines)
    idle: list[tuple[Connection, int]] = [(connection, outstanding) for connection in load.connections]
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
                    due = began + fired / rate if rate else now
                    connection.fire(share, due if now - due > LATE_S else now)
                    fired, allowed = fired + share, allowed - share
                if count > share:
                    idle.append((connection, count - share))
            for connection in load.ready(0.001 if idle else 1):
                taken, failed = connection.take(time.perf_counter(), latencies)
                answers, errors = answers + taken, errors + failed
                idle.append((connection, taken))
            now = time.perf_counter()
            if now - opened >= window_s:
                yield Window(now, now - began, now - opened, answers, errors, sorted(latencies))
                opened, answers, errors, latencies = now, 0, 0, array("d")
    finally:
        load.close()


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
    parser.add_argument("--watch", type=int, action="append", default=[], metavar="PID", help="a process whose cost is told")
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
        result = run(leader, cluster, shape, arguments.seconds, arguments.warm_up, lines, arguments.op, arguments.watch)
        failed = failed or result.errors > 0
        if arguments.json:
            print(json.dumps(asdict(result)), flush=True)
        else:
            print(
                f"{result.shape:>8}  {result.rate:>10,.0f} {result.op}/s  p50 {result.p50_ms:8.2f} ms"
                f"  p99 {result.p99_ms:8.2f} ms  errors {result.errors}  own CPU {result.own_cpu_s / result.seconds:.0%}",
                flush=True,
            )
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
