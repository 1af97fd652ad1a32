"""How Barge's speed and size change with nodes, values, keys, log and load; and what the event log costs.

    python benchmarks/scale.py --write --plot docs/images      # everything, about 15 minutes
    python benchmarks/scale.py --part keys --rounds 5          # one part: nodes, values, keys, restart, latency, events

One process runs all nodes, with the shipped settings but where a part says otherwise; values have 64 bytes. What is compared runs
in alternating rounds, and the ratio of each round counts. Ends with 1 if a bound is missed or a put failed.
"""

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import report
from drive import Measured, by_load
from load import Lines, addresses_of, find_leader, percentile_ms, windows
from systems import HERE, Barge, apis_of, barge, serve_command, started, write_configuration
from usage import memory_mib

SATURATED = "100x10"
NODES = (1, 3, 5, 7)
SIZES = (64, 1024, 16 * 1024, 128 * 1024, 1024 * 1024)
IN_FLIGHT_BYTES = 16 * 2**20
KEYS = (1_000, 10_000, 100_000, 1_000_000)
LEAST_OF_A_THOUSAND = 0.9
LOG_ENTRIES = 1_000_000
RESTART_S = 8.0
SHARES = (0.2, 0.5, 0.8)
LEAST_WITH_EVENTS = 0.9
NO_SNAPSHOTS = "snapshots: {entries: 1000000000, mib: 1000000}\n"


@dataclass
class Part:
    """What one part gave: a text for the page, what is wrong, and how to draw it."""

    text: str
    wrong: list[str] = field(default_factory=list)
    plots: list[Callable[[Path], Path]] = field(default_factory=list)


@dataclass(frozen=True)
class Size:
    """How long and how often to measure; `share` makes keys and entries fewer for a try."""

    rounds: int
    seconds: float
    share: float = 1.0


def middle(runs: list[Measured], name: str = "rate") -> float:
    """Return the median of a field over rounds."""
    return statistics.median(float(getattr(run, name)) for run in runs)


def failed(runs: list[Measured]) -> list[str]:
    """Return a word about puts that failed."""
    errors = sum(run.errors for run in runs)
    return [f"{errors} puts failed"] if errors else []


def fill(configuration: Path, puts: int, keys: int) -> None:
    """Make so many puts."""
    cluster, addresses = addresses_of(configuration)
    done = 0
    for window in windows(find_leader(addresses, cluster, 30), cluster, SATURATED, Lines("put", keys, 64), 0.1):
        done += window.answers
        if window.errors:
            raise SystemExit("a put failed")
        if done >= puts:
            return


def over_nodes(folder: Path, size: Size) -> Part:
    """1, 3, 5, 7 nodes in one process."""
    shapes = ("1x64", SATURATED)
    found: dict[tuple[int, str], list[Measured]] = {}
    for number in range(size.rounds):
        for nodes in NODES:
            with barge(folder / f"nodes-{nodes}-{number}", apart=False, nodes=nodes) as running:
                for shape in shapes:
                    measured = by_load(["--config", str(running.configuration)], running.pids, "put", shape, size.seconds)
                    found.setdefault((nodes, shape), []).append(measured)
    rows = []
    for nodes in NODES:
        some, many = (found[nodes, shape] for shape in shapes)
        ratio = statistics.median(mine.rate / three.rate for mine, three in zip(many, found[3, SATURATED], strict=True))
        row = [str(nodes), f"{middle(some):,.0f}", f"{middle(some, 'p50_ms'):.2f}", f"{middle(many):,.0f}"]
        rows.append([*row, f"{middle(many, 'p50_ms'):.1f}", f"{middle(many, 'p99_ms'):.1f}", f"{ratio:.2f} ×"])
    head = ("nodes", "1x64 put/s", "p50 ms", "100x10 put/s", "p50 ms", "p99 ms", "100x10 beside three nodes")
    series = {shape: [middle(found[nodes, shape]) for nodes in NODES] for shape in shapes}

    def draw(target: Path) -> Path:
        return report.lines(target / "scale_nodes.svg", "put/s by nodes", ("nodes in one process", NODES), series, "put/s")

    return Part(report.table(head, rows), failed([run for runs in found.values() for run in runs]), [draw])


def over_values(folder: Path, size: Size) -> Part:
    """Values of 64 bytes to 1 MiB, as many outstanding as fit into 16 MiB, 64 at most."""
    found: dict[int, list[Measured]] = {}
    shapes = {value: f"4x{max(1, min(16, IN_FLIGHT_BYTES // value // 4))}" for value in SIZES}
    for number in range(size.rounds):
        for value in SIZES:
            keys = max(16, min(10_000, 64 * 2**20 // value))
            with barge(folder / f"values-{value}-{number}", apart=False) as running:
                where = ["--config", str(running.configuration)]
                measured = by_load(where, running.pids, "put", shapes[value], size.seconds, keys=keys, value_bytes=value)
                found.setdefault(value, []).append(measured)
            shutil.rmtree(folder / f"values-{value}-{number}")
    rows = []
    for value, runs in found.items():
        row = [f"{value:,}", shapes[value], f"{middle(runs):,.0f}", f"{middle(runs) * value / 2**20:,.1f}"]
        rows.append([*row, f"{middle(runs, 'p50_ms'):.1f}", f"{middle(runs, 'p99_ms'):.1f}", f"{middle(runs, 'peak_mib'):,.0f}"])
    series = {"MiB/s": [middle(runs) * value / 2**20 for value, runs in found.items()]}

    def draw(target: Path) -> Path:
        return report.lines(target / "scale_values.svg", "written by value", ("bytes a value", SIZES), series, "MiB/s", log=True)

    head = ("bytes a value", "outstanding", "put/s", "MiB/s", "p50 ms", "p99 ms", "peak MiB")
    return Part(report.table(head, rows), failed([run for runs in found.values() for run in runs]), [draw])


def over_keys(folder: Path, size: Size) -> Part:
    """1 thousand to 1 million keys: all clusters are there from the beginning, and are loaded in turn."""
    numbers = [int(keys * size.share) for keys in KEYS]
    found: dict[int, list[Measured]] = {keys: [] for keys in numbers}
    memory: dict[int, float] = {}
    with ExitStack() as stack:
        clusters: dict[int, Barge] = {}
        for keys in numbers:
            clusters[keys] = stack.enter_context(barge(folder / f"keys-{keys}", apart=False))
            fill(clusters[keys].configuration, int(1.05 * keys), keys)
        for number in range(size.rounds):
            for keys in numbers if number % 2 == 0 else reversed(numbers):
                running = clusters[keys]
                where = ["--config", str(running.configuration)]
                found[keys].append(by_load(where, running.pids, "put", SATURATED, size.seconds, keys=keys))
        for keys, running in clusters.items():
            memory[keys] = memory_mib(running.pids[0])
    rows, first = [], numbers[0]
    for keys in numbers:
        ratios = [mine.rate / other.rate for mine, other in zip(found[keys], found[first], strict=True)]
        row = [f"{keys:,}", f"{middle(found[keys]):,.0f}", f"{middle(found[keys], 'p99_ms'):.1f}"]
        rows.append([*row, f"{statistics.median(ratios):.2f} × ({min(ratios):.2f} to {max(ratios):.2f})", f"{memory[keys]:,.0f}"])
    a_key = (memory[numbers[-1]] - memory[first]) * 2**20 / (numbers[-1] - first) / 3
    wrong = failed([run for runs in found.values() for run in runs])
    if statistics.median(ratios) < LEAST_OF_A_THOUSAND:
        wrong.append(f"{numbers[-1]:,} keys: {statistics.median(ratios):.2f} × where {LEAST_OF_A_THOUSAND} × is asked")
    text = report.table(("keys", "put/s", "p99 ms", "beside the fewest", "memory of three nodes, MiB"), rows)
    text += f"\n\nA key of 12 bytes with a value of 64 costs {a_key:,.0f} bytes a node; the log and what saving needs are in it."
    series = {SATURATED: [middle(found[keys]) for keys in numbers]}

    def draw(target: Path) -> Path:
        return report.lines(target / "scale_keys.svg", "put/s by keys", ("keys", numbers), series, "put/s", log=True)

    return Part(text, wrong, [draw])


def restart(folder: Path, size: Size) -> Part:
    """A log of a million entries without a snapshot: from the start of the process to the first committed write."""
    entries = int(LOG_ENTRIES * size.share)
    configuration = write_configuration(folder / "restart", extra=NO_SNAPSHOTS)
    cluster, addresses = addresses_of(configuration)
    command = serve_command(configuration)
    with started([command], configuration.parent):
        fill(configuration, entries, 100_000)
    took: list[float] = []
    for _ in range(size.rounds):
        began = time.perf_counter()
        with started([command], configuration.parent):
            find_leader(addresses, cluster, 120, pause_s=0.01)
            took.append(time.perf_counter() - began)
    text = (
        f"Killed with {entries:,} entries in each of three logs and no snapshot, started again: the first write after "
        f"{statistics.median(took):.1f} s ({min(took):.1f} to {max(took):.1f}, {len(took)} times; asked: ≤ {RESTART_S:g} s)."
    )
    is_late = statistics.median(took) > RESTART_S
    return Part(text, [f"a restart takes {statistics.median(took):.1f} s where {RESTART_S:g} s are asked"] * is_late)


def over_load(folder: Path, size: Size) -> Part:
    """Latency at shares of the rate that saturates; late requests count from when they were due."""
    latencies: dict[float, list[float]] = {share: [] for share in SHARES}
    reached: dict[float, list[float]] = {share: [] for share in SHARES}
    wrong: list[str] = []
    with barge(folder / "load", apart=False) as running:
        cluster, addresses = addresses_of(running.configuration)
        saturated: list[float] = []
        for _ in range(size.rounds):
            lines = Lines("put", 10_000, 64)
            where = ["--config", str(running.configuration)]
            saturated.append(by_load(where, running.pids, "put", SATURATED, size.seconds).rate)
            for share in SHARES:
                leader = find_leader(addresses, cluster)
                for window in windows(leader, cluster, SATURATED, lines, 0.5, rate=share * saturated[-1]):
                    if window.at > 1:
                        latencies[share] += window.latencies
                        reached[share].append(window.answers / window.seconds / saturated[-1])
                    if window.errors:
                        wrong.append(f"{window.errors} puts failed")
                    if window.at > 1 + size.seconds:
                        break
    rows = []
    percentiles: dict[int, list[float]] = {50: [], 99: []}
    for share in SHARES:
        ordered = sorted(latencies[share])
        for percent, values in percentiles.items():
            values.append(percentile_ms(ordered, percent))
        row = [f"{share:.0%}", f"{statistics.median(reached[share]):.0%}"]
        rows.append([*row, f"{percentiles[50][-1]:.2f}", f"{percentiles[99][-1]:.2f}"])
    text = report.table(("asked of the saturation rate", "reached", "p50 ms", "p99 ms"), rows)
    text += f"\n\nThe saturation rate was {statistics.median(saturated):,.0f} put/s ({SATURATED})."
    series = {f"p{percent}": values for percent, values in percentiles.items()}

    def draw(target: Path) -> Path:
        shares = [100 * share for share in SHARES]
        return report.lines(target / "scale_load.svg", "latency by load", ("% of the saturation rate", shares), series, "ms")

    return Part(text, wrong, [draw])


def event_log(folder: Path, size: Size) -> Part:
    """Put/s with the event log, and with a recorder that drops (quiet.py)."""
    with ExitStack() as stack:
        found: dict[str, list[Measured]] = {"on": [], "off": []}
        clusters: dict[str, Barge] = {}
        for name in found:
            configuration = write_configuration(folder / f"events-{name}")
            program = ("-m", "bargetrio") if name == "on" else (str(HERE / "quiet.py"),)
            command = serve_command(configuration, program=program)
            (process,) = stack.enter_context(started([command], configuration.parent))
            clusters[name] = Barge(configuration, [process.pid], apis_of(configuration, apart=False))
        texts, wrong = [], []
        for shape in ("1x64", SATURATED):
            found = {"on": [], "off": []}
            for number in range(2 * size.rounds):
                for name in ("on", "off") if number % 2 == 0 else ("off", "on"):
                    running = clusters[name]
                    where = ["--config", str(running.configuration)]
                    found[name].append(by_load(where, running.pids, "put", shape, size.seconds))
            ratios = [on.rate / off.rate for on, off in zip(found["on"], found["off"], strict=True)]
            ratio = statistics.median(ratios)
            row = [shape, f"{middle(found['on']):,.0f}", f"{middle(found['off']):,.0f}"]
            texts.append([*row, f"{ratio:.3f} × ({min(ratios):.2f} to {max(ratios):.2f})"])
            wrong += failed(found["on"] + found["off"])
            if ratio < LEAST_WITH_EVENTS:
                wrong.append(f"{shape}: with the event log {ratio:.2f} × where {LEAST_WITH_EVENTS} × is asked")
    head = ("outstanding", "put/s with the event log", "its events dropped", "ratio")
    return Part(report.table(head, texts) + f"\n\nAsked: at least {LEAST_WITH_EVENTS} ×.", wrong)


PARTS: dict[str, Callable[[Path, Size], Part]] = {
    "nodes": over_nodes,
    "values": over_values,
    "keys": over_keys,
    "restart": restart,
    "latency": over_load,
    "events": event_log,
}


def main() -> None:
    """Measure, print, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--part", action="append", default=[], choices=list(PARTS), help="only this (may repeat)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--quick", action="store_true", help="one round of a second, a hundredth of the keys and entries")
    parser.add_argument("--plot", type=Path, metavar="DIR", help="draw into this folder")
    parser.add_argument("--write", action="store_true", help="put the tables into benchmarks/results.md")
    arguments = parser.parse_args()
    size = Size(1, 1, 0.01) if arguments.quick else Size(arguments.rounds, arguments.seconds)
    wrong: list[str] = []
    for name in arguments.part or PARTS:
        with tempfile.TemporaryDirectory() as folder:
            part = PARTS[name](Path(folder), size)
        text = f"{report.where()}; {size.rounds} rounds of {size.seconds:g} s:\n\n{part.text}"
        print(f"## {name}\n\n{text}\n", flush=True)
        wrong += [f"{name}: {word}" for word in part.wrong]
        if arguments.plot is not None:
            text += report.images([draw(arguments.plot) for draw in part.plots])
        if arguments.write:
            report.write(f"scale {name}", text)
    for word in wrong:
        print(f"WRONG: {word}", file=sys.stderr)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
