"""What a million keys cost: saving them under load, restarting, a follower that was away, its disk use and memory.

    python benchmarks/snapshots.py --keys 1000000

One process runs three durable nodes with the shipped settings; load.py's requests come from this process. Prints a Markdown list;
docs/performance.md has one. Ends what it starts.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from etcd_compare import barge, started
from load import Lines, Window, addresses_of, find_leader, windows

SHAPE = "100x10"
LOOK_S = 0.25


def ask(api: str, path: str, method: str = "GET") -> Any:
    """Ask a daemon's REST."""
    with urllib.request.urlopen(urllib.request.Request(f"http://{api}{path}", method=method), timeout=60) as answer:
        return json.loads(answer.read())


class Load:
    """Puts that go on while something is looked at."""

    def __init__(self, configuration: Path, keys: int) -> None:
        self._cluster, self._addresses = addresses_of(configuration)
        self._lines = Lines("put", keys, 64)

    def until(self, is_enough: Callable[[Window], bool]) -> list[Window]:
        """Load until `is_enough` says so of a window; return all windows but the first, which warms up."""
        leader = find_leader(self._addresses, self._cluster)
        found: list[Window] = []
        for window in windows(leader, self._cluster, SHAPE, self._lines, LOOK_S):
            found.append(window)
            if is_enough(window):
                break
        if any(window.errors for window in found):
            raise SystemExit("a put failed")
        return found[1:]


def rate_of(found: list[Window]) -> float:
    """Return the median of the windows' rates."""
    return statistics.median(window.answers / window.seconds for window in found) if found else 0.0


def worst_ms(found: list[Window]) -> float:
    """Return the median of the windows' slowest answers."""
    slowest = [window.latencies[-1] for window in found if window.latencies]
    return 1000 * statistics.median(slowest) if slowest else 0.0


def saving(folder: Path) -> int:
    """Return how many nodes are saving their state."""
    return sum((folder / "data" / f"node-{node}" / "snapshots" / "taking").exists() for node in range(3))


def memory_mib(pid: int) -> float:
    """Return a process's resident memory."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def disk_mib(folder: Path) -> float:
    """Return what the nodes' folders hold."""
    return sum(path.stat().st_blocks * 512 for path in (folder / "data").rglob("*") if path.is_file()) / 2**20


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=60, help="how long to look at saving under load")
    parser.add_argument("--away", type=int, default=1_000_000, help="entries that the follower misses")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "barge"
        with barge(folder, apart=False) as configuration:
            pass
        command = [sys.executable, "-m", "bargetrio", "serve", "--config", str(configuration)]
        api = next(line.split()[1] for line in configuration.read_text().splitlines() if line.startswith("api:"))
        load = Load(configuration, arguments.keys)
        with started([command], folder) as (process,):
            written = 0

            def filled(window: Window) -> bool:
                nonlocal written
                written += window.answers
                return written >= arguments.keys + 2000

            load.until(filled)
            print(f"- {ask(api, '/status')['keys']:,} keys; the daemon of three nodes takes {memory_mib(process.pid):,.0f} MiB")
            look_at_saving(load, folder, arguments.seconds)
            print(f"- memory now {memory_mib(process.pid):,.0f} MiB, disk {disk_mib(folder):,.0f} MiB for three nodes")
            look_at_catching_up(load, api, arguments.away)
            print(f"- memory now {memory_mib(process.pid):,.0f} MiB, disk {disk_mib(folder):,.0f} MiB for three nodes")
        began = time.perf_counter()
        with started([command], folder) as (process,):
            cluster, addresses = addresses_of(configuration)
            find_leader(addresses, cluster, 60)
            print(f"- killed and started again: the first write after {time.perf_counter() - began:.1f} s")
            print(f"- {ask(api, '/status')['keys']:,} keys, {memory_mib(process.pid):,.0f} MiB")


def look_at_saving(load: Load, folder: Path, seconds: float) -> None:
    """Compare windows in which nodes save their state with those in which none does."""
    end = time.perf_counter() + seconds
    busy: dict[float, int] = {}

    def look(window: Window) -> bool:
        busy[window.ended] = saving(folder)
        return window.ended >= end

    found = load.until(look)
    quiet = [window for window in found if busy[window.ended] == 0]
    print(
        f"- put/s while no node saves its state: {rate_of(quiet):,.0f}, slowest answer of {LOOK_S} s {worst_ms(quiet):.0f} ms, "
        f"{len(quiet)} windows"
    )
    for nodes in (1, 2, 3):
        some = [window for window in found if busy[window.ended] == nodes]
        if some:
            print(
                f"- while {nodes} of 3 do: {rate_of(some):,.0f} ({rate_of(some) / (rate_of(quiet) or 1):.2f} ×), "
                f"slowest {worst_ms(some):.0f} ms, {len(some)} windows"
            )


def look_at_catching_up(load: Load, api: str, away: int) -> None:
    """Kill a follower, write on, revive it; compare the rates before and during, and look for elections."""
    leader = ask(api, "/leader")
    node = next(node for node in (0, 1, 2) if node != leader["leader"])
    ask(api, f"/nodes/{node}/kill", "POST")
    missed = 0

    def missing(window: Window) -> bool:
        nonlocal missed
        missed += window.answers
        return missed >= away

    rate_without = rate_of(load.until(missing))
    ask(api, f"/nodes/{node}/revive", "POST")
    revived = time.perf_counter()
    goal = ask(api, f"/nodes/{leader['leader']}")["commit_index"]
    caught_up = 0.0
    states: set[str] = set()

    def look(window: Window) -> bool:
        nonlocal caught_up
        views = ask(api, "/nodes")["nodes"]
        states.update(str(peer["progress"]) for view in views for peer in view["peers"] if peer["id"] == node)
        if not caught_up and views[node]["last_applied"] >= goal:
            caught_up = window.ended
        return caught_up > 0 and window.ended > caught_up + 5

    found = load.until(look)
    during = [window for window in found if window.ended <= caught_up]
    after = [window for window in found if window.ended > caught_up + 1]
    now = ask(api, "/leader")
    print(
        f"- a follower that missed {missed:,} entries has them {caught_up - revived:.1f} s after its revival ({sorted(states)})"
    )
    print(
        f"- put/s without it {rate_without:,.0f}, while it catches up {rate_of(during):,.0f}, "
        f"afterwards {rate_of(after):,.0f} ({rate_of(during) / rate_of(after):.2f} ×)"
    )
    print(f"- term {leader['term']} before, {now['term']} after: {'no election' if now == leader else 'an election!'}")


if __name__ == "__main__":
    main()
