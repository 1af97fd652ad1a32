"""How long nobody can write after the leader dies; and that nobody else ever takes over without a cause.

    python benchmarks/failover.py --times 100                  # kill the leader by REST, under load; one process
    python benchmarks/failover.py --times 100 --hard           # kill -9 of its process; one process a node
    python benchmarks/failover.py --calm 10                    # 10 minutes at saturation: the term must not change
    python benchmarks/failover.py --calm 10 --slow-disk        # with one follower's disk 50 ms slow
    python benchmarks/failover.py --calm 10 --keys 1000000     # while snapshots of a million keys are taken
    python benchmarks/failover.py --calm 10 --keys 1000000 --send     # and sent to a follower that was away

The timing is the shipped one (configuration.yml). Time runs from before the kill is asked for to the first answer that a write,
begun after the kill, is committed. Ends with 1 if a bound is missed, a write failed, or there was an election without a cause.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import report
from load import Lines, addresses_of, find_leader, percentile_ms, windows
from systems import HERE, apis_of, serve_command, write_configuration

P50_S, P99_S = 0.6, 1.2
SHAPE = "16x16"
SATURATED = "100x10"
SLOW_DISK_MS = 50
MANY_KEYS = 100_000
LEAVES_S = 10
"""With --send a follower leaves after so long, until the leader's log begins behind the end of its own; and again when it has
what it was sent."""
WAY = 10_000
"""So many entries, and more than are on their way at any moment, may still reach a follower that is being killed."""
PAUSE_S = 0.002
"""So long a client waits before it asks all nodes again."""


def ask(api: str, path: str, method: str = "GET", body: Any = None) -> Any:
    """Ask a daemon's REST."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        f"http://{api}{path}", data, {"Content-Type": "application/json"} if data else {}, method=method
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())


class Cluster:
    """Three nodes, in one process or one each, whose leader can be killed."""

    def __init__(self, folder: Path, *, apart: bool) -> None:
        timing = next(line for line in (HERE.parent / "configuration.yml").read_text().splitlines() if line.startswith("timing:"))
        self.configuration = write_configuration(folder, extra=timing + "\n")
        self.folder = folder
        self.name, self.addresses = addresses_of(self.configuration)
        self._apart = apart
        self._apis = apis_of(self.configuration, apart=apart)
        self._output = (folder / "output.txt").open("ab")
        self._processes: dict[int | None, subprocess.Popen[bytes]] = {}
        for node in range(3) if apart else (None,):
            self._start(node)

    def close(self) -> None:
        """End every process."""
        for process in self._processes.values():
            process.kill()
            process.wait()
        self._output.close()

    def leader(self) -> tuple[int, int]:
        """Return (leader, term), as soon as all three nodes agree on it."""
        end = time.monotonic() + 30
        while time.monotonic() < end:
            with suppress(OSError, urllib.error.URLError, KeyError):
                views = ask(self._living_api(), "/nodes")["nodes"]
                seen = {(view.get("leader"), view.get("term")) for view in views}
                behind = max(view.get("commit_index") or 0 for view in views) - min(
                    view.get("last_applied") or 0 for view in views
                )
                if len(seen) == 1 and behind < 10_000:
                    ((leader, term),) = seen
                    if leader is not None and term is not None:
                        return leader, term
            time.sleep(0.05)
        raise SystemExit("the three nodes do not agree on a leader within 30 s")

    def kill(self, node: int) -> None:
        """Kill it: by REST, or with kill -9."""
        if self._apart:
            self._processes[node].kill()
        else:
            ask(self._apis[0], f"/nodes/{node}/kill", "POST")

    def revive(self, node: int) -> None:
        """Start it again."""
        if self._apart:
            self._processes[node].wait()
            self._start(node)
        else:
            ask(self._apis[0], f"/nodes/{node}/revive", "POST")

    def ask(self, path: str, method: str = "GET", body: Any = None) -> Any:
        """Ask the REST of a daemon that lives."""
        return ask(self._living_api(), path, method, body)

    def load(self, shape: str, window_s: float, leader: int, keys: int = 10_000) -> "Iterator[Any]":
        """Load the leader; see load.windows."""
        return windows(self.addresses[leader], self.name, shape, Lines("put", keys, 64), window_s)

    def _start(self, node: int | None) -> None:
        command = serve_command(self.configuration, node)
        self._processes[node] = subprocess.Popen(command, cwd=self.folder, stdout=self._output, stderr=self._output)

    def _living_api(self) -> str:
        return next(api for api, process in zip(self._apis, self._processes.values(), strict=True) if process.poll() is None)


@contextmanager
def cluster(folder: Path, *, apart: bool) -> Iterator[Cluster]:
    """A cluster that ends."""
    found = Cluster(folder, apart=apart)
    try:
        find_leader(found.addresses, found.name, 30)
        yield found
    finally:
        found.close()


def kill_once(barge: Cluster, chance: random.Random) -> tuple[float, int, int]:
    """Kill the leader under load; return how long nobody could write, the term before, and how many terms it took."""
    leader, term = barge.leader()
    errors: list[int] = []

    def load() -> None:
        with suppress(SystemExit, OSError):  # its end: the node is dead
            errors.extend(window.errors for window in barge.load(SHAPE, 0.1, leader))

    loading = threading.Thread(target=load)
    loading.start()
    time.sleep(0.3 + 0.2 * chance.random())
    began = time.perf_counter()
    killing = threading.Thread(target=barge.kill, args=[leader])
    killing.start()
    others = [address for node, address in enumerate(barge.addresses) if node != leader]
    find_leader(others, barge.name, 30, pause_s=PAUSE_S)
    took = time.perf_counter() - began
    killing.join()
    loading.join()
    if any(errors):
        raise SystemExit("a put was answered with an error")
    barge.revive(leader)
    return took, term, barge.leader()[1] - term


def measure(folder: Path, times: int, *, hard: bool, seed: int) -> tuple[str, list[str]]:
    """Kill again and again; return a table and what is wrong."""
    chance = random.Random(seed)
    took: list[float] = []
    terms: list[int] = []
    wrong: list[str] = []
    expected: int | None = None
    with cluster(folder, apart=hard) as barge:
        for number in range(times):
            seconds, before, more = kill_once(barge, chance)
            if expected is not None and before != expected:
                wrong.append(f"an election without a cause before kill {number + 1}: term {expected}, then {before}")
            expected = before + more
            took.append(seconds)
            terms.append(more)
            print(f"{number + 1}: {seconds:.3f} s, {more} terms", file=sys.stderr, flush=True)
    ordered = sorted(took)
    p50, p99 = percentile_ms(ordered, 50) / 1000, percentile_ms(ordered, 99) / 1000
    for name, value, bound in (("p50", p50, P50_S), ("p99", p99, P99_S)):
        if value > bound:
            wrong.append(f"{name} {value:.2f} s where {bound} s is asked")
    how = "kill -9, one process a node" if hard else "kill by REST, one process"
    row = [how, str(times), f"{p50:.2f} s", f"{p99:.2f} s", f"{ordered[-1]:.2f} s"]
    row += [f"{sum(terms)}", f"≤ {P50_S} s, ≤ {P99_S} s: {'yes' if p50 <= P50_S and p99 <= P99_S else '**no**'}"]
    return report.table(("how", "kills", "p50", "p99", "longest", "elections", "asked"), [row]), wrong


class Calm:
    """Saturation for a while, in which nobody may be elected."""

    def __init__(self, barge: Cluster, *, keys: int, slow_disk: bool, send: bool) -> None:
        self._barge = barge
        self._keys = keys
        self._send = send
        self.rates: list[float] = []
        self.slowest = 0.0
        self.wrong: list[str] = []
        self._leader, self._term = barge.leader()
        self._follower = (self._leader + 1) % 3
        self._leaves_at = float(LEAVES_S)
        self._installed = 0.0
        self._lacks: int | None = None
        """Of a follower that is away: when the leader's log begins behind this, only a snapshot can help it."""
        self._returning = threading.Thread(target=barge.revive, args=[self._follower])
        if slow_disk:
            barge.ask("/faults", "PUT", {"disks": [{"node": self._follower, "delay_ms": SLOW_DISK_MS}]})

    def run(self, seconds: float) -> None:
        """Write; look each second who leads."""
        for window in self._barge.load(SATURATED, 1.0, self._leader, self._keys):
            self.rates.append(window.answers / window.seconds)
            self.slowest = max(self.slowest, window.latencies[-1] if window.latencies else window.seconds)
            if window.errors:
                self.wrong.append(f"{window.errors} puts failed at {window.at:.0f} s")
            if window.at >= seconds:
                break
            self._look(window.at)
        if self._returning.ident is not None:
            self._returning.join()
        self._look(seconds)

    def events(self, kind: str) -> float:
        """Return how many events of a kind there were."""
        return _metric(self._barge, "barge_events_total", f'kind="{kind}"')

    def _look(self, at: float) -> None:
        views = self._barge.ask("/nodes")["nodes"]
        term = max(view.get("term") or 0 for view in views)
        if term != self._term:
            self.wrong.append(f"a change of term without a cause at {at:.0f} s: {self._term}, then {term}")
            self._term = term
        if self._send:
            self._come_or_go(views[self._leader], at)

    def _come_or_go(self, leader: Any, at: float) -> None:
        installed = self.events("snapshot_installed")
        if installed > self._installed:
            self._installed, self._leaves_at = installed, at + LEAVES_S
        if self._lacks is None and at >= self._leaves_at:
            self._barge.kill(self._follower)
            self._lacks = leader["last_log_index"] + WAY
        elif self._lacks is not None and leader["log_start"] > self._lacks:
            self._returning = threading.Thread(target=self._barge.revive, args=[self._follower])
            self._returning.start()
            self._lacks, self._leaves_at = None, float("inf")


def _metric(barge: Cluster, name: str, label: str) -> float:
    with urllib.request.urlopen(f"http://{barge.ask('/nodes')['nodes'][0]['api']}/metrics", timeout=30) as answer:
        lines: list[str] = answer.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name) and label in line)


def stay_calm(folder: Path, minutes: float, *, apart: bool, keys: int, slow_disk: bool, send: bool) -> tuple[str, list[str]]:
    """Run; return a table and what is wrong."""
    with cluster(folder, apart=apart) as barge:
        if keys > MANY_KEYS:  # all keys are there before it counts
            filled = 0
            for window in barge.load(SATURATED, 1.0, barge.leader()[0], keys):
                filled += window.answers
                if filled >= keys:
                    break
        calm = Calm(barge, keys=keys, slow_disk=slow_disk, send=send)
        taken, sent = calm.events("snapshot_taken"), calm.events("snapshot_installed")
        calm.run(60 * minutes)
        taken, sent = calm.events("snapshot_taken") - taken, calm.events("snapshot_installed") - sent
        if send and not sent:
            calm.wrong.append("no snapshot was sent: nothing was tried")
    rates = sorted(calm.rates[1:] or calm.rates)
    how = f"{'one process a node' if apart else 'one process'}, {keys:,} keys" + (
        f", one disk {SLOW_DISK_MS} ms slow" * slow_disk
    )
    row = [
        how,
        f"{minutes:g} min",
        f"{rates[len(rates) // 2]:,.0f}",
        f"{1000 * calm.slowest:,.0f} ms",
        f"{taken:,.0f}",
        f"{sent:,.0f}",
    ]
    row += [str(len([word for word in calm.wrong if "term" in word]))]
    return report.table(("what", "time", "put/s", "slowest answer", "snapshots taken", "sent", "elections"), [row]), calm.wrong


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--hard", action="store_true", help="one process a node, ended with kill -9")
    parser.add_argument("--seed", type=int, default=1, help="of the moments at which the leader is killed")
    parser.add_argument("--calm", type=float, metavar="MINUTES", help="kill nobody: saturate, and see that nobody is elected")
    parser.add_argument("--apart", action="store_true", help="with --calm: one process a node")
    parser.add_argument("--slow-disk", action="store_true")
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--send", action="store_true", help="a follower is away now and then, and needs a snapshot")
    parser.add_argument("--quick", action="store_true", help="three kills, or six seconds")
    parser.add_argument("--write", action="store_true", help="put the table into benchmarks/results.md")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "barge"
        if arguments.calm is None:
            times = 3 if arguments.quick else arguments.times
            text, wrong = measure(folder, times, hard=arguments.hard, seed=arguments.seed)
            place = "failover hard" if arguments.hard else "failover"
        else:
            options = {name: getattr(arguments, name) for name in ("apart", "keys", "slow_disk", "send")}
            text, wrong = stay_calm(folder, 0.1 if arguments.quick else arguments.calm, **options)
            place = (
                "calm"
                + " slow disk" * arguments.slow_disk
                + " many keys" * (arguments.keys > MANY_KEYS)
                + " sent" * arguments.send
            )
    text = f"{report.where()}:\n\n{text}"
    print(text)
    if arguments.write:
        report.write(place, text)
    for word in wrong:
        print(f"WRONG: {word}", file=sys.stderr)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
