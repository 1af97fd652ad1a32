"""Puts into a key:value bucket of NATS JetStream, by NATS's own text protocol: load.py's loop with other lines.

    python benchmarks/nats_load.py --address 127.0.0.1:4222 --shape 100x10 --seconds 5

A put is a PUB to `$KV.<bucket>.<key>` with a reply subject of its own, which is what NATS's clients send; it is answered once the
stream's replicas have it. An answer without a sequence number is an error. There are no gets here: a read of NATS is answered by
one server alone, without asking the others whether it still leads.
"""

import argparse
import json
import socket
import sys
import time
from array import array
from collections.abc import Iterator
from dataclasses import asdict
from itertools import count, cycle
from typing import Any

from load import FIRST_ID, Connection, Lines, run

BUCKET = "barge"
HELLO = b'CONNECT {"verbose":false,"pedantic":false,"headers":false,"name":"load","lang":"python","version":"1"}\r\n'
_numbers = count()


class Keys(Lines):
    """The keys in load.py's walk; the value is the connection's."""

    def __init__(self, keys: int) -> None:
        self._tails: Iterator[bytes] = cycle([b"key%09d" % (number * 7919 % keys) for number in range(keys)])


class NatsConnection(Connection):
    """One connection to a server of NATS that always has `outstanding` puts out."""

    value = b"v" * 64

    def __init__(self, address: str, cluster: str, lines: Lines) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), 5)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._inbox = b"_INBOX.%d." % next(_numbers)
        self.socket.sendall(HELLO + b"SUB %b* 1\r\nPING\r\n" % self._inbox)
        self._rest = b""
        self._sent: dict[bytes, float] = {}
        self._lines = lines
        self._next_id = FIRST_ID
        self._subject = b"PUB $KV.%b." % cluster.encode()

    def read_hello(self) -> None:
        """Read up to the answer to our ping."""
        while b"PONG\r\n" not in self._rest:
            data = self.socket.recv(4096)
            if not data or b"-ERR" in data:
                raise SystemExit(f"refused: {self._rest + data!r}")
            self._rest += data
        self._rest = self._rest.partition(b"PONG\r\n")[2]

    def fire(self, count: int, now: float) -> None:
        """Send so many puts in one piece."""
        first, self._next_id = self._next_id, self._next_id + count
        numbers = [b"%d" % number for number in range(first, first + count)]
        self._sent.update(dict.fromkeys(numbers, now))
        end = b" %d\r\n%b\r\n" % (len(self.value), self.value)
        pieces = zip(self._lines.take(count), numbers, strict=True)
        self.socket.sendall(b"".join([b"%b%b %b%b%b" % (self._subject, key, self._inbox, name, end) for key, name in pieces]))

    def take(self, now: float, latencies: "array[float]") -> tuple[int, int]:
        """Read what is there; return (answers, errors)."""
        data = self.socket.recv(256 * 1024)
        if not data:
            raise SystemExit("the server closed the connection")
        answers, pings, self._rest = split(self._rest + data)
        if pings:
            self.socket.sendall(b"PONG\r\n" * pings)
        try:
            latencies.extend([now - self._sent.pop(name) for name, _ in answers])
        except KeyError as problem:
            raise SystemExit(f"an answer to what was not asked: {problem}") from None
        bad = [told for _, told in answers if b'"seq":' not in told or b'"error"' in told]
        print(*(told[:300].decode() for told in bad[:10]), sep="\n", end="\n" if bad else "", file=sys.stderr)
        return len(answers), len(bad)


def split(data: bytes) -> tuple[list[tuple[bytes, bytes]], int, bytes]:
    """Return the answers that are whole, each with the last word of its subject; the number of pings; the rest of the bytes."""
    lines = data.split(b"\r\n")
    rest = lines.pop()
    pings = 0
    if any(not line.startswith((b"MSG ", b"{")) for line in lines):
        for line in lines:
            if line.startswith(b"-ERR"):
                raise SystemExit(line.decode())
        pings = lines.count(b"PING")
        lines = [line for line in lines if line.startswith((b"MSG ", b"{"))]
    if len(lines) % 2:
        rest = lines.pop() + b"\r\n" + rest
    heads, bodies = lines[::2], lines[1::2]
    return [(head.split(b" ", 2)[1][-9:], body) for head, body in zip(heads, bodies, strict=True)], pings, rest


def ask(address: str, subject: str, question: dict[str, Any], timeout_s: float = 2) -> dict[str, Any]:
    """Send one request, as to JetStream's API; return its answer.

    Raises:
        OSError: nobody answered within `timeout_s`, or there is no server.
    """
    host, _, port = address.rpartition(":")
    body = json.dumps(question).encode()
    with socket.create_connection((host, int(port)), timeout_s) as sock:
        sock.sendall(HELLO + b"SUB _INBOX.ask.* 1\r\nPUB %b _INBOX.ask.1 %d\r\n%b\r\n" % (subject.encode(), len(body), body))
        with sock.makefile("rb") as stream:
            while line := stream.readline():
                if line.startswith(b"MSG "):
                    return dict(json.loads(stream.read(int(line.split()[-1]))))
                if line.startswith(b"-ERR"):
                    raise OSError(line.decode())
    raise OSError("the server closed the connection")


def make_bucket(addresses: dict[str, str], timeout_s: float = 30) -> str:
    """Make the bucket with a replica on each server; return the address of the server whose replica leads.

    Args:
        addresses: those for clients, by the servers' names.
    """
    name = f"KV_{BUCKET}"
    wanted = {
        "name": name,
        "subjects": [f"$KV.{BUCKET}.>"],
        "num_replicas": len(addresses),
        "max_msgs_per_subject": 1,
        "discard": "new",
        "allow_rollup_hdrs": True,
        "deny_delete": True,
        "storage": "file",
    }
    end = time.monotonic() + timeout_s
    problem: object = None
    while time.monotonic() < end:
        try:
            first = next(iter(addresses.values()))
            made = ask(first, f"$JS.API.STREAM.CREATE.{name}", wanted)
            leader = ask(first, f"$JS.API.STREAM.INFO.{name}", {}).get("cluster", {}).get("leader")
            if "error" not in made and leader in addresses:
                return addresses[leader]
            problem = made.get("error", "no leader")
        except OSError as raised:
            problem = raised
        time.sleep(0.2)
    raise SystemExit(f"NATS made no bucket within {timeout_s:g} s: {problem}")


def main() -> None:
    """Load by one shape, and print what it gave as a JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--address", required=True, help="the server whose replica of the stream leads")
    parser.add_argument("--bucket", default=BUCKET)
    parser.add_argument("--shape", default="1x1", help="connections x outstanding, as in 100x10")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--warm-up", type=float, default=1)
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--watch", type=int, action="append", default=[], metavar="PID", help="a process whose cost is told")
    arguments = parser.parse_args()
    result = run(
        arguments.address,
        arguments.bucket,
        arguments.shape,
        arguments.seconds,
        arguments.warm_up,
        Keys(arguments.keys),
        "put",
        arguments.watch,
        NatsConnection,
    )
    print(json.dumps(asdict(result)))


if __name__ == "__main__":
    main()
