"""A long run at a steady rate: does anything grow that should not?

    python benchmarks/soak.py --minutes 10 --plot docs/images/soak.svg

One daemon with three durable nodes takes puts at 80 % of the rate that saturates it, on a fixed set of keys. Memory,
descriptors, threads, disk use, latency and the logs' length are looked at each second; the last quarter of the run is compared
with the second one. Prints a table; exits with 1 if something grew, a put failed, or a leader changed. The plot needs
matplotlib (`pip install '.[bench]'`).
"""

import argparse
import csv
import os
import re
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from load import Lines, Window, addresses_of, find_leader, windows
from systems import apis_of, serve_command, started, write_configuration

SHAPE = "100x10"
SHARE = 0.8


@dataclass(frozen=True)
class Sample:
    """One second of the run."""

    at_s: float
    memory_mib: float
    descriptors: int
    threads: int
    disk_mib: float
    puts: float
    p50_ms: float
    p99_ms: float
    slowest_ms: float
    log_entries: float
    snapshots: float
    leader_changes: float


@dataclass(frozen=True)
class Rule:
    """What of the last quarter may be how much of the second one: `most` times as much, and `more` on top.

    And `more_s` seconds of writes in each of three logs: so much earlier or later may a node's turn to save end, by chance.
    """

    name: str
    unit: str
    field: str
    of: Callable[[Sequence[float]], float]
    most: float
    more: float
    more_s: float = 0.0
    is_speed: bool = False


RULES = (
    Rule("memory, greatest", "MiB", "memory_mib", max, 1.15, 30),
    Rule("descriptors, most", "", "descriptors", max, 1, 6),
    Rule("threads, most", "", "threads", max, 1, 4),
    Rule("disk, greatest", "MiB", "disk_mib", max, 1.15, 50),
    Rule("entries in the logs, most", "", "log_entries", max, 1.3, 0, more_s=0.5),
    Rule("p50, median", "ms", "p50_ms", statistics.median, 1.4, 5, is_speed=True),
    Rule("p99, median", "ms", "p99_ms", statistics.median, 1.4, 15, is_speed=True),
)


class Watch:
    """Looks at one daemon."""

    def __init__(self, pid: int, folder: Path, api: str) -> None:
        self._pid = pid
        self._folder = folder
        self._api = api
        self._began = time.perf_counter()

    def look(self, window: Window) -> Sample:
        """Return what is to be seen at the end of a window of load."""
        status = Path(f"/proc/{self._pid}/status").read_text()
        figures = self._figures()
        latencies = window.latencies or [0.0]
        return Sample(
            at_s=round(time.perf_counter() - self._began, 1),
            memory_mib=round(_number(status, "VmRSS") / 1024, 1),
            descriptors=len(os.listdir(f"/proc/{self._pid}/fd")),
            threads=int(_number(status, "Threads")),
            disk_mib=round(disk_mib(self._folder), 1),
            puts=round(window.answers / window.seconds),
            p50_ms=round(1000 * latencies[len(latencies) // 2], 2),
            p99_ms=round(1000 * latencies[len(latencies) * 99 // 100], 2),
            slowest_ms=round(1000 * latencies[-1], 2),
            log_entries=figures.get("barge_log_entries", 0),
            snapshots=figures.get("barge_snapshots_taken_total", 0),
            leader_changes=figures.get("barge_leader_changes_total", 0),
        )

    def _figures(self) -> dict[str, float]:
        """Return each metric's sum over nodes."""
        with urllib.request.urlopen(f"http://{self._api}/metrics", timeout=10) as answer:
            text: str = answer.read().decode()
        found: dict[str, float] = {}
        for line in text.splitlines():
            if not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                name = name.partition("{")[0]
                found[name] = found.get(name, 0.0) + float(value)
        return found


def _number(status: str, name: str) -> float:
    found = re.search(rf"^{name}:\s+(\d+)", status, re.MULTILINE)
    assert found is not None
    return float(found[1])


def disk_mib(folder: Path) -> float:
    """Return what the nodes' folders hold."""
    total = 0
    for path in (folder / "data").rglob("*"):
        try:
            total += path.stat().st_blocks * 512
        except FileNotFoundError:  # removed meanwhile
            continue
    return total / 2**20


def soak(keys: int, seconds: float, snapshot_entries: int | None) -> tuple[float, int, list[Sample]]:
    """Run; return the rate that saturates, how many puts failed, and the samples."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "barge"
        configuration = write_configuration(folder)
        if snapshot_entries is not None:
            often = f"snapshots: {{entries: {snapshot_entries}, trailing_entries: {snapshot_entries // 10}}}\n"
            configuration.write_text(configuration.read_text() + often)
        (api,) = apis_of(configuration, apart=False)
        cluster, addresses = addresses_of(configuration)
        command = serve_command(configuration)
        lines = Lines("put", keys, 64)
        with started([command], folder) as (process,):
            leader = find_leader(addresses, cluster)
            filled = 0
            for window in windows(leader, cluster, SHAPE, lines, 0.5):
                filled += window.answers
                if filled >= keys:
                    break
            answers, spent = 0, 0.0
            for window in windows(leader, cluster, SHAPE, lines, 0.5):
                answers, spent = answers + window.answers, spent + window.seconds
                if spent >= min(30, max(5, seconds / 20)):  # long enough for the snapshots of all nodes to be part of it
                    break
            saturated = answers / spent  # the mean: what is lost while a node saves, or the disk stalls, is not to be had
            watch = Watch(process.pid, folder, api)
            samples: list[Sample] = []
            errors = 0
            for window in windows(leader, cluster, SHAPE, lines, 1.0, rate=SHARE * saturated):
                errors += window.errors
                samples.append(watch.look(window))
                if samples[-1].at_s >= seconds:
                    break
    return saturated, errors, samples


def quarter(samples: Sequence[Sample], number: int) -> Sequence[Sample]:
    """Return the samples of one quarter, 1 to 4."""
    size = len(samples) // 4
    return samples[(number - 1) * size : number * size]


def judge(saturated: float, errors: int, samples: Sequence[Sample], *, speed: bool) -> tuple[list[str], list[str]]:
    """Return the rows of a table, and what is wrong; without `speed`, slower is not wrong."""
    rows, wrong = [], []
    second, last = quarter(samples, 2), quarter(samples, 4)
    for rule in RULES:
        before, after = (rule.of([float(getattr(sample, rule.field)) for sample in part]) for part in (second, last))
        rows.append(f"| {rule.name} | {before:,.1f} {rule.unit} | {after:,.1f} {rule.unit} |")
        if after > rule.most * before + rule.more + rule.more_s * 3 * SHARE * saturated and (speed or not rule.is_speed):
            wrong.append(f"{rule.name}: {before:,.1f} in the second quarter, {after:,.1f} in the last")
    rates = [statistics.median(sample.puts for sample in part) for part in (second, last)]
    rows.append(f"| put/s, median | {rates[0]:,.0f} | {rates[1]:,.0f} |")
    if speed and rates[1] < 0.9 * SHARE * saturated:
        wrong.append(f"the rate falls: {rates[1]:,.0f} put/s, {SHARE * saturated:,.0f} were asked for")
    if errors:
        wrong.append(f"{errors} puts failed")
    if samples[-1].leader_changes != samples[0].leader_changes:
        wrong.append("the leader changed")
    if samples[-1].snapshots == samples[0].snapshots:
        wrong.append("no snapshot was taken")
    return rows, wrong


def plot(samples: Sequence[Sample], path: Path) -> None:
    """Draw what was seen."""
    import matplotlib as mpl

    mpl.use("svg" if path.suffix == ".svg" else "agg")
    from matplotlib import pyplot

    panels = (
        ("memory_mib", "memory, MiB"),
        ("disk_mib", "disk, MiB"),
        ("log_entries", "entries in the three logs"),
        ("puts", "put/s"),
        ("p99_ms", "p50 and p99, ms"),
        ("descriptors", "descriptors and threads"),
    )
    figure, axes = pyplot.subplots(3, 2, figsize=(9, 7), sharex=True)
    minutes = [sample.at_s / 60 for sample in samples]

    def draw(axis: Any, field: str) -> None:
        axis.plot(minutes, [getattr(sample, field) for sample in samples], linewidth=0.9, label=field.replace("_ms", ""))

    for axis, (field, title) in zip(axes.flat, panels, strict=True):
        draw(axis, field)
        other = {"p99_ms": "p50_ms", "descriptors": "threads"}.get(field)
        if other is not None:
            draw(axis, other)
            axis.legend(fontsize=8)
        axis.set_title(title, fontsize=10)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    for axis in axes[-1]:
        axis.set_xlabel("minutes")
    figure.tight_layout()
    figure.savefig(path)


def main() -> None:
    """Run, judge, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--snapshot-entries", type=int, help="take snapshots so often (default: as shipped)")
    parser.add_argument("--ignore-speed", action="store_true", help="on a machine with other work, slower is not wrong")
    parser.add_argument("--plot", type=Path, help="draw into this file, .svg or .png")
    parser.add_argument("--csv", type=Path, help="write the samples into this file")
    arguments = parser.parse_args()
    saturated, errors, samples = soak(arguments.keys, 60 * arguments.minutes, arguments.snapshot_entries)
    rows, wrong = judge(saturated, errors, samples, speed=not arguments.ignore_speed)
    taken = samples[-1].snapshots - samples[0].snapshots
    print(
        f"{arguments.minutes:g} minutes at {SHARE:.0%} of {saturated:,.0f} put/s, {arguments.keys:,} keys, "
        f"{os.cpu_count()} cores; {taken:,.0f} snapshots taken by three nodes\n"
    )
    print("| | second quarter | last quarter |\n|---|---|---|\n" + "\n".join(rows))
    if arguments.csv is not None:
        with arguments.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(asdict(samples[0])))
            writer.writeheader()
            writer.writerows(asdict(sample) for sample in samples)
    if arguments.plot is not None:
        plot(samples, arguments.plot)
    for text in wrong:
        print(f"\nGROWS OR FAILS: {text}", file=sys.stderr)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
