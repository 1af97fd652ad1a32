"""Counts how often each member of a system syncs for a put, with strace(1): some hundred puts, one after the other.

Counted are the calls that sync a file, and those by which the kernel is asked to do so later (io_uring_enter, io_submit): what
was seen, not what the system's documents promise. A write to a file opened with O_SYNC or O_DSYNC would sync without such a
call; then the opened files are counted. strace slows the system, so nothing is measured meanwhile.
"""

import http.client
import json
import re
import signal
import socket
import subprocess
import tempfile
import time
from array import array
from base64 import b64encode
from collections.abc import Callable, Sequence
from pathlib import Path

import peers
from load import Connection, Lines
from nats_load import BUCKET, Keys, NatsConnection
from systems import Barge, Running

CALLS = ("fsync", "fdatasync", "sync_file_range", "syncfs", "msync", "io_uring_enter", "io_submit")
PUTS = 300
LONGEST_S = 10
"""No put begins later: antietcd takes long for each, with a database of 10,000 keys."""
O_DSYNC = 0o10000


def put_by_etcd(running: Running, count: int) -> int:
    """Put by the JSON gateway, one after the other, values that differ; return how many that were in `LONGEST_S`."""
    host, _, port = running.address.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    end = time.monotonic() + LONGEST_S
    done = 0
    for number in range(count):
        if time.monotonic() > end:
            break
        key, value = (b64encode(text.encode()).decode() for text in (f"sync{number}", f"{time.time_ns():064d}"))
        connection.request("POST", "/v3/kv/put", json.dumps({"key": key, "value": value}), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise SystemExit(f"a put was answered by {answer.status}")
        done += 1
    connection.close()
    return done


def put_by_redis(running: Running, count: int) -> int:
    """Put by its line protocol; return how many."""
    host, _, port = running.address.rpartition(":")
    with socket.create_connection((host, int(port)), 10) as sock, sock.makefile("rb") as stream:
        for number in range(count):
            sock.sendall(b"SET sync%d %064d\r\n" % (number, number))
            if stream.readline() != b"+OK\r\n":
                raise SystemExit("redis did not take a put")
    return count


def put_by_connection(connection: Connection, count: int) -> int:
    """Put by a load generator's connection, one after the other; return how many."""
    latencies: array[float] = array("d")
    connection.socket.settimeout(10)
    connection.read_hello()
    for _ in range(count):
        connection.fire(1, 0.0)
        answers = 0
        while not answers:
            answers, errors = connection.take(0.0, latencies)
            if errors:
                raise SystemExit("a put failed")
    connection.socket.close()
    return count


def put_by_nats(running: Running, count: int) -> int:
    """Put into the bucket; return how many."""
    return put_by_connection(NatsConnection(running.address, BUCKET, Keys(count)), count)


def put_by_barge(address: str, count: int) -> int:
    """Put by the client protocol at the leader; return how many."""
    return put_by_connection(Connection(address, "barge", Lines("put", count, 64)), count)


def barge_syncs(barge: Barge) -> list[float]:
    """Return how many batches each node has written and synced, by its own metrics."""
    counts: dict[str, float] = {}
    for api in barge.apis:
        host, _, port = api.rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=10)
        connection.request("GET", "/metrics")
        counts |= of_metrics(connection.getresponse().read().decode())
        connection.close()
    return [counts[node] for node in sorted(counts)]


def of_metrics(text: str) -> dict[str, float]:
    """Return the number of syncs of each node."""
    return {
        node: float(count) for node, count in re.findall(r'^barge_fsync_seconds_count\{node="(\d+)"\} (\S+)$', text, re.MULTILINE)
    }


def count_syncs(pids: Sequence[int], put: Callable[[int], int], count: int = PUTS) -> str:
    """Return what each process does for a put, in words for the table.

    Args:
        pids: the members' processes.
        put: does so many puts, one after the other, and returns how many it did.
    """
    try:
        strace = peers.program("strace")
    except peers.Missing as problem:
        return f"not seen: {problem}"
    with tempfile.TemporaryDirectory() as name:
        outputs = [Path(name) / str(pid) for pid in pids]
        tracing = f"trace={','.join(CALLS)}"
        tracers = [
            subprocess.Popen(
                [strace, "-f", "-c", "-e", tracing, "-o", str(output), "-p", str(pid)], stderr=subprocess.PIPE, text=True
            )
            for pid, output in zip(pids, outputs, strict=True)
        ]
        try:
            if not all(_is_attached(tracer) for tracer in tracers):
                return "not seen: strace may not attach"
            done = put(count)
        finally:
            for tracer in tracers:
                tracer.send_signal(signal.SIGINT)
            for tracer in tracers:
                tracer.communicate()
        opened = sum(opened_with_sync(pid) for pid in pids)
        seen = [of_strace(output.read_text() if output.exists() else "") for output in outputs]
    return words(seen, done) + (f"; {opened} files are open with O_DSYNC" if opened else "")


def _is_attached(tracer: "subprocess.Popen[str]") -> bool:
    """Wait until strace says `Process N attached`; return whether it did."""
    assert tracer.stderr is not None
    return "attached" in tracer.stderr.readline()


def of_strace(summary: str) -> dict[str, int]:
    """Return the number of calls of each name in the summary of `strace -c`."""
    found = {}
    for line in summary.splitlines():
        fields = line.split()
        if len(fields) >= 5 and fields[-1] in CALLS:
            found[fields[-1]] = int(fields[3])
    return found


def opened_with_sync(pid: int) -> int:
    """Return how many files the process has open whose every write syncs."""
    count = 0
    for path in Path(f"/proc/{pid}/fdinfo").iterdir():
        try:
            flags = re.search(r"^flags:\s*(\d+)", path.read_text(), re.MULTILINE)
        except OSError:
            continue
        count += flags is not None and bool(int(flags[1], 8) & O_DSYNC)
    return count


def words(seen: Sequence[dict[str, int]], puts: int) -> str:
    """Say how many calls of each name there were a put: of each member, if they differ."""
    parts = []
    for call in CALLS:
        if any(counts.get(call) for counts in seen):
            parts.append(f"{_rates([counts.get(call, 0) / max(1, puts) for counts in seen])} {call}")
    if not parts:
        return f"strace: none in {puts} puts"
    return f"strace: {', '.join(parts)} a put" + (" and process" if len(seen) > 1 else "")


def metric_words(before: Sequence[float], after: Sequence[float], puts: int) -> str:
    """Say how many syncs each node of Barge counted a put."""
    rates = [(late - early) / max(1, puts) for early, late in zip(before, after, strict=True)]
    return f"its own metric: {_rates(rates)} syncs a put and node"


def _rates(rates: Sequence[float]) -> str:
    texts = [f"{rate:.1f}" if rate >= 0.05 or not rate else f"{rate:.1g}" for rate in rates]
    return texts[0] if len(set(texts)) == 1 else " / ".join(texts)
