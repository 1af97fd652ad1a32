"""What a million keys cost: saving them under load, restarting, a follower that was away, its disk use and memory.

    python benchmarks/snapshots.py --keys 1000000

One process runs three durable nodes with the shipped settings; load.py's requests come from this process. Prints a Markdown list;
results.md has one. Ends what it starts.
"""

import argparse
import json
import shutil
import statistics
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from load import Lines, Window, addresses_of, find_leader, windows
from systems import apis_of, serve_command, started, write_configuration
from usage import memory_mib

SHAPE = "100x10"
WINDOW_S = 0.25
QUIET_S = 25
ASIDE_S = 4


def ask(api: str, path: str, method: str = "GET") -> Any:
    """Ask a daemon's REST."""
    with urllib.request.urlopen(urllib.request.Request(f"http://{api}{path}", method=method), timeout=60) as answer:
        return json.loads(answer.read())


class Load:
    """Puts that go on while something is looked at."""

    def __init__(self, configuration: Path, keys: int, op: str = "put") -> None:
        self._cluster, self._addresses = addresses_of(configuration)
        self._lines = Lines(op, keys, 64)

    def find_leader(self, timeout_s: float) -> str:
        """Return the address of a leader that takes writes."""
        return find_leader(self._addresses, self._cluster, timeout_s)

    def until(self, is_enough: Callable[[Window], bool], shape: str = SHAPE) -> list[Window]:
        """Load until `is_enough` says so of a window; return all windows but the first, which warms up."""
        leader = self.find_leader(60)
        found: list[Window] = []
        for window in windows(leader, self._cluster, shape, self._lines, WINDOW_S):
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


def disk_mib(folder: Path) -> float:
    """Return what the nodes' folders hold."""
    return sum(path.stat().st_blocks * 512 for path in (folder / "data").rglob("*") if path.is_file()) / 2**20


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5, help="how often to save under load")
    parser.add_argument("--away", type=int, default=1_000_000, help="entries that the follower misses")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "barge"
        configuration = write_configuration(folder)
        command = serve_command(configuration)
        (api,) = apis_of(configuration, apart=False)
        shipped = configuration.read_text()

        configuration.write_text(shipped + "snapshots: {entries: 1000000000, mib: 1000000}\n")  # only when it is asked for
        load = Load(configuration, arguments.keys)
        with started([command], folder):
            fill(load, api, arguments.keys)
            for op, tells in (("stale", "the loop alone"), ("put", "the loop and the disk")):
                look_at_the_loop(Load(configuration, arguments.keys, op), api, folder, op, tells)
            look_at_saving(load, api, folder, arguments.rounds)

        shutil.rmtree(folder / "data")
        configuration.write_text(shipped)
        load = Load(configuration, arguments.keys)
        with started([command], folder) as (process,):
            fill(load, api, arguments.keys)
        look_at_a_restart(command, folder, load, "when it was full")
        with started([command], folder) as (process,):
            load.until(lambda window: window.at >= 10)
            print(f"- memory {memory_mib(process.pid):,.0f} MiB, disk {disk_mib(folder):,.0f} MiB for three nodes")
            look_at_catching_up(load, api, arguments.away)
            print(f"- memory {memory_mib(process.pid):,.0f} MiB, disk {disk_mib(folder):,.0f} MiB for three nodes")
            time.sleep(QUIET_S)
        look_at_a_restart(command, folder, load, f"after {QUIET_S} s without writes")


def fill(load: Load, api: str, keys: int) -> None:
    """Write until about `keys` keys are there."""
    written = 0

    def is_full(window: Window) -> bool:
        nonlocal written
        written += window.answers
        return written >= keys + 2000

    load.until(is_full)
    print(f"- {ask(api, '/status')['keys']:,} keys")


def save(api: str) -> None:
    """Have the leader save its state; what it would send is not read."""
    with urllib.request.urlopen(f"http://{api}/snapshot", timeout=120) as answer:
        answer.read(1)


def while_saving(load: Load, api: str, folder: Path, shape: str) -> tuple[list[Window], list[Window]]:
    """Load, and have a node save its state in the middle of it; return the windows before and after that, and meanwhile."""
    asked = threading.Thread(target=save, args=[api])
    others: list[Window] = []
    began = ended = 0.0

    def look(window: Window) -> bool:
        nonlocal began, ended
        if not began and window.at >= 1 + ASIDE_S:
            began = window.ended
            asked.start()
        elif began and not ended:
            others.append(window)
            ended = window.ended if len(others) > 1 and not saving(folder) else 0.0
        return ended > 0 and window.ended >= ended + ASIDE_S

    found = load.until(look, shape)
    asked.join()
    return [window for window in found if window.at > 1 and window not in others], others[1:-1]  # not those in which it changed


def look_at_the_loop(load: Load, api: str, folder: Path, op: str, tells: str) -> None:
    """One request after the other: the slowest one tells how long saving holds the loop, and with puts the disk, too."""
    quiet, busy = while_saving(load, api, folder, "1x1")
    slowest = [1000 * max(window.latencies[-1] for window in some) for some in (quiet, busy)]
    count = sum(window.answers for window in busy)
    print(
        f"- {op}, one at a time ({tells}): the slowest took {slowest[0]:.0f} ms, of {count:,} while a node saves its state "
        f"{slowest[1]:.0f} ms"
    )


def look_at_saving(load: Load, api: str, folder: Path, rounds: int) -> None:
    """Compare the rates while a node saves its state, and before and after."""
    ratios: list[float] = []
    for number in range(rounds):
        quiet, busy = while_saving(load, api, folder, SHAPE)
        ratios.append(rate_of(busy) / rate_of(quiet))
        print(
            f"- round {number + 1}: {rate_of(quiet):,.0f} put/s, while a node saves its state {rate_of(busy):,.0f} "
            f"({ratios[-1]:.2f} ×) for {WINDOW_S * len(busy):.0f} s; "
            f"slowest answers {worst_ms(quiet):.0f} and {worst_ms(busy):.0f} ms"
        )
    print(f"- median: {statistics.median(ratios):.2f} ×")


def look_at_a_restart(command: list[str], folder: Path, load: Load, when: str) -> None:
    """Start a daemon that was killed."""
    began = time.perf_counter()
    with started([command], folder):
        load.find_leader(60)
        print(f"- killed {when} and started again: the first write after {time.perf_counter() - began:.1f} s")


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
