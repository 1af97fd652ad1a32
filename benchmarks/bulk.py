"""Streams NDJSON into POST /keys and reads the answers while it does, as `curl -T` would; back-pressure sets the pace.

    python benchmarks/bulk.py --api 127.0.0.1:8100 --seconds 5

One connection, one request with a chunked body. Every answered line is counted, and one that is not ok is an error.
"""

import argparse
import json
import select
import socket
import time
from typing import Any

from usage import Meter

CHUNK_LINES = 500


class Stream:
    """One bulk write that never ends."""

    def __init__(self, api: str, keys: int, value_bytes: int) -> None:
        host, _, port = api.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), 5)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        head = f"POST /keys HTTP/1.1\r\nHost: {api}\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
        self.socket.sendall(head.encode())
        self.socket.setblocking(False)
        value = "v" * value_bytes
        lines = [b'{"key":"key%09d","value":"%b"}\n' % (count * 7919 % keys, value.encode()) for count in range(keys)]
        bodies = [b"".join(lines[start : start + CHUNK_LINES]) for start in range(0, keys, CHUNK_LINES)]
        self._chunks = [b"%x\r\n%b\r\n" % (len(body), body) for body in bodies]
        self._next = 0
        self._unsent = memoryview(b"")
        self._rest = b""
        self.lines_sent = 0

    def send(self) -> None:
        """Send as much as the socket takes."""
        while True:
            if not self._unsent:
                self._unsent = memoryview(self._chunks[self._next % len(self._chunks)])
                self._next += 1
                self.lines_sent += CHUNK_LINES
            try:
                self._unsent = self._unsent[self.socket.send(self._unsent) :]
            except BlockingIOError:
                return

    def take(self) -> tuple[int, int]:
        """Read what is there; return (lines that are ok, lines that are not)."""
        data = self.socket.recv(256 * 1024)
        if not data:
            raise SystemExit("the daemon closed the connection")
        whole, _, rest = (self._rest + data).rpartition(b"\n")
        self._rest = rest
        good, bad = whole.count(b'"ok":true'), whole.count(b'"ok":false')
        if bad or (b"HTTP/1.1 " in whole and b"HTTP/1.1 200" not in whole):
            raise SystemExit(f"refused: {whole[:500]!r}")
        return good, bad


def run(api: str, warm_up: float, seconds: float, keys: int, value_bytes: int, watched: list[int]) -> dict[str, Any]:
    """Stream for so long."""
    stream = Stream(api, keys, value_bytes)
    poll = select.poll()
    poll.register(stream.socket, select.POLLIN | select.POLLOUT)
    good = errors = answered = 0
    outstanding: list[int] = []
    began, warm, meter, own = time.perf_counter(), False, Meter(watched), time.process_time()
    end = began + warm_up + seconds
    while (now := time.perf_counter()) < end:
        if not warm and now >= began + warm_up:
            warm, began, good, meter, own = True, now, 0, Meter(watched), time.process_time()
            end = now + seconds
        for _, what in poll.poll(1000):
            if what & ~select.POLLOUT:
                taken, failed = stream.take()
                good, errors, answered = good + taken, errors + failed, answered + taken
                outstanding.append(stream.lines_sent - answered)
            if what & select.POLLOUT:
                stream.send()
    elapsed = time.perf_counter() - began
    cost = meter.read()
    stream.socket.close()
    return {
        "rate": good / elapsed,
        "answers": good,
        "errors": errors,
        "outstanding": sorted(outstanding)[len(outstanding) // 2] if outstanding else 0,
        "own_cpu_s": time.process_time() - own,
        "seconds": elapsed,
        "cpu_s": cost.cpu_s,
        "peak_mib": cost.peak_mib,
    }


def main() -> None:
    """Run; print JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--api", required=True)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--warm-up", type=float, default=1)
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--value-bytes", type=int, default=64)
    parser.add_argument("--watch", type=int, action="append", default=[], metavar="PID")
    arguments = parser.parse_args()
    print(
        json.dumps(
            run(
                arguments.api,
                arguments.warm_up,
                arguments.seconds,
                arguments.keys,
                arguments.value_bytes,
                arguments.watch,
            )
        )
    )


if __name__ == "__main__":
    main()
