"""Barge beside etcd, PySyncObj and redis on this machine: in one run, in alternating rounds, with the same values and load.

    python benchmarks/compare.py --rounds 3 --seconds 5 --write --plot docs/images      # about 12 minutes
    python benchmarks/compare.py --quick                                               # does it work?

Needs etcd, wrk, redis-server and redis-benchmark on the path (Debian: etcd-server, wrk, redis) and `pip install '.[bench]'`. Ends
with 1 if there was an error, or if a load generator was too busy for its figures to count.
"""

import argparse
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import report
from drive import Measured, by_bulk, by_load, by_redis_benchmark, by_wrk, connections_of, pysyncobj, script_for
from systems import Running, barge, etcd, python_server, redis

ETCD, PYSYNCOBJ, REDIS, ONE, APART, BARE = "etcd", "PySyncObj", "redis", "Barge, one process", "Barge, one each", "bare Quart"
SYSTEMS = (ETCD, PYSYNCOBJ, REDIS, ONE, APART, BARE)
BUSY = 0.9
"""A generator that takes more of its core than this may be what was measured."""
REST_CONNECTIONS = 64


@dataclass(frozen=True)
class Work:
    """A kind of load: what Barge must reach beside the system in `beside`, in one process and in one a node."""

    name: str
    op: str
    shape: str
    asked: tuple[float | None, float | None]
    field: str = "rate"
    beside: str = ETCD

    def is_reached(self, ratio: float, bound: float) -> bool:
        """Return whether the ratio is good enough: a rate at least, a latency at most so many times as much."""
        return ratio <= bound if self.field == "p50_ms" else ratio >= bound

    def words(self, bound: float) -> str:
        """Return the bound for the table."""
        return f"p50 ≤ {bound:g} ×" if self.field == "p50_ms" else f"≥ {bound:g} ×"


WORKS = (
    Work("put 1x1", "put", "1x1", (0.75, 0.75), field="p50_ms"),
    Work("put 1x64", "put", "1x64", (4.5, 5)),
    Work("put 256x1", "put", "256x1", (1.5, 1.8)),
    Work("put 100x10", "put", "100x10", (5.5, 6.5)),
    Work("get 1x64", "get", "1x64", (6, 6)),
    Work("get 256x1", "get", "256x1", (1.5, 1.8)),
    Work("bulk put over REST", "bulk", "", (4, None), beside="etcd's best put"),
    Work("REST single put, 64 connections", "rest", "64x1", (0.85, None), beside=BARE),
)
DURABLE = {
    ETCD: "three copies, synced (JSON gateway, wrk)",
    PYSYNCOBJ: "three journals, mapped into memory, never synced: lost with the power",
    REDIS: "one copy, synced",
    ONE: "three copies, synced",
    APART: "three copies, synced",
    BARE: "keeps nothing",
}

Figures = dict[tuple[str, str], list[Measured]]
Do = Callable[[Work], Measured]


class Round:
    """One round: every system once, in a folder of its own."""

    def __init__(self, folder: Path, seconds: int, works: tuple[Work, ...], outstanding: list[int]) -> None:
        self._folder = folder
        self._seconds = seconds
        self._works = works
        self._outstanding = outstanding

    def run(self, system: str, figures: Figures) -> None:
        """Start the system, and do every work it knows."""
        can = {ETCD: ("put", "get"), REDIS: ("put", "get"), PYSYNCOBJ: ("put",), BARE: ("rest",)}
        known = can.get(system, ("put", "get", "bulk", "rest") if system == ONE else ("put", "get"))
        works = [work for work in self._works if work.op in known]
        if not works:
            return
        with self._started(system) as do:
            for work in works:
                figures.setdefault((work.name, system), []).append(do(work))

    @contextmanager
    def _started(self, system: str) -> Iterator[Do]:
        folder, seconds = self._folder / system.replace(" ", "-").replace(",", ""), self._seconds
        if system == ETCD:
            with etcd(folder) as running:
                yield lambda work: by_wrk(
                    running, script_for(self._folder, f"etcd {work.op}"), connections_of(work.shape), seconds
                )
        elif system == PYSYNCOBJ:  # each at its better setting
            with pysyncobj(folder, batch=True) as many, pysyncobj(folder.with_name("pysyncobj-single"), batch=False) as single:
                yield lambda work: (single if work.shape == "1x1" else many).load(work.shape, seconds)
        elif system == REDIS:
            with redis(folder) as running:
                yield lambda work: by_redis_benchmark(running, work.op, work.shape, seconds)
        elif system == BARE:
            with python_server(folder, "bare_quart.py") as running:
                yield lambda work: by_wrk(running, script_for(self._folder, "rest put"), REST_CONNECTIONS, seconds)
        else:
            with barge(folder, apart=system == APART) as running_barge:
                pids, configuration = running_barge.pids, ["--config", str(running_barge.configuration)]

                def do(work: Work) -> Measured:
                    if work.op == "bulk":
                        measured, outstanding = by_bulk(running_barge, seconds)
                        self._outstanding.append(outstanding)
                        return measured
                    if work.op == "rest":
                        rest = Running(running_barge.apis[0], pids)
                        return by_wrk(rest, script_for(self._folder, "rest put"), REST_CONNECTIONS, seconds)
                    return by_load(configuration, pids, work.op, work.shape, seconds)

                by_load(configuration, pids, "put", "1x64", 0.5)  # every key is there before the first get
                yield do


def ratios(work: Work, system: str, figures: Figures) -> list[float]:
    """Return the ratio of each round to what the work is measured beside; nothing if that was not measured."""
    own = [getattr(measured, work.field) for measured in figures[work.name, system]]
    if work.op == "bulk":
        puts = [figures[other.name, ETCD] for other in WORKS if other.op == "put" and (other.name, ETCD) in figures]
        others = [max(measured.rate for measured in at_once) for at_once in zip(*puts, strict=True)]
    else:
        others = [getattr(measured, work.field) for measured in figures.get((work.name, work.beside), [])]
    return [mine / other for mine, other in zip(own, others, strict=False)]


def rows_of(figures: Figures, works: tuple[Work, ...]) -> tuple[list[list[str]], list[str]]:
    """Return the table's rows, and which bounds are missed."""
    rows, missed = [], []
    for work in works:
        for system in SYSTEMS:
            runs = figures.get((work.name, system))
            if not runs:
                continue
            found = ratios(work, system, figures)
            bound = {ONE: work.asked[0], APART: work.asked[1]}.get(system)
            asked = ""
            if bound is not None and found:
                reached = work.is_reached(statistics.median(found), bound)
                asked = (
                    f"{work.words(bound)}{' of ' + work.beside if work.beside != ETCD else ''}: {'yes' if reached else '**no**'}"
                )
                if not reached:
                    missed.append(f"{work.name}, {system}: {statistics.median(found):.2f} × where {work.words(bound)} is asked")
            rows.append([work.name, system, *columns(runs), spread(found), asked])
    return rows, missed


def columns(runs: list[Measured]) -> list[str]:
    """Return a system's figures under one load: medians over the rounds, errors of all."""

    def middle(field: str) -> float:
        return statistics.median(float(getattr(run, field)) for run in runs)

    shares = [run.generator for run in runs if run.generator is not None]
    latencies = [f"{middle(field):.2f}" if middle(field) else "" for field in ("p50_ms", "p99_ms")]
    costs = [f"{middle('cpu_s'):.1f}", f"{middle('cpu_us_a_request'):,.0f}", f"{middle('peak_mib'):,.0f}"]
    share = f"{statistics.median(shares):.0%}" if shares else "in it"
    return [f"{middle('rate'):,.0f}", *latencies, *costs, share, str(sum(run.errors for run in runs))]


def spread(found: list[float]) -> str:
    """Return the median, and the least and greatest of several."""
    if not found:
        return ""
    text = f"{statistics.median(found):.2f} ×"
    return text if len(found) == 1 else f"{text} ({min(found):.2f} to {max(found):.2f})"


HEAD = (
    *("work", "system", "per s", "p50 ms", "p99 ms", "server CPU s", "µs CPU a request", "peak MiB", "generator"),
    *("errors", "ratio", "asked"),
)


def check_generators(
    folder: Path, seconds: float, figures: Figures, works: tuple[Work, ...]
) -> tuple[list[list[str]], list[str]]:
    """Let each generator load a server that does nothing; return the table's rows, and whose share of a core was too great."""
    rows, busy = [], []
    ours = [work for work in works if (work.name, ONE) in figures and work.op in ("put", "get")]
    with python_server(folder / "echo", "echo.py") as lines:
        for work in ours:
            if work.op == "put":
                most = by_load(["--address", lines.address], lines.pids, "put", work.shape, seconds)
                fastest = max(
                    statistics.median(run.rate for run in figures[work.name, system])
                    for system in (ONE, APART)
                    if (work.name, system) in figures
                )
                rows.append(["load.py", work.shape, f"{most.rate:,.0f}", f"{fastest:,.0f}", f"{most.rate / fastest:.1f} ×"])
    with python_server(folder / "http", "echo.py", "--http") as http:
        for work in works:
            if work.op == "put" and (work.name, ETCD) in figures:
                connections = connections_of(work.shape)
                most = by_wrk(http, script_for(folder, "etcd put"), connections, max(1, int(seconds)))
                rate = statistics.median(run.rate for run in figures[work.name, ETCD])
                rows.append(
                    ["wrk", f"{connections} connections", f"{most.rate:,.0f}", f"{rate:,.0f}", f"{most.rate / rate:.1f} ×"]
                )
    for (name, system), runs in figures.items():
        shares = [run.generator for run in runs if run.generator is not None]
        if shares and statistics.median(shares) > BUSY and system != REDIS:
            busy.append(f"{name}, {system}: the generator takes {statistics.median(shares):.0%} of a core")
    return rows, busy


def text_of(rounds: int, seconds: int, figures: Figures, works: tuple[Work, ...], folder: Path, outstanding: list[int]) -> str:
    """Return all that goes into the page, and tell what is wrong on stderr."""
    rows, missed = rows_of(figures, works)
    generators, busy = check_generators(folder, min(seconds, 2), figures, works)
    errors = sum(run.errors for runs in figures.values() for run in runs)
    for word in [*missed, *busy, *([f"{errors} errors"] if errors else [])]:
        print(word, file=sys.stderr)
    names = [f"{report.version_of('etcd', '--version')} through its JSON gateway", report.version_of("redis-server", "--version")]
    used = f"{', '.join(names)}, PySyncObj {version('pysyncobj')}, Quart {version('quart')} on hypercorn {version('hypercorn')}"
    parts = [
        f"{report.where()}; {rounds} rounds of {seconds} s a load, medians. {used}.",
        "What each of them keeps: " + "; ".join(f"{system}: {what}" for system, what in DURABLE.items()) + ".",
        report.table(HEAD, rows),
        "`1x64` is one connection with 64 requests outstanding; HTTP has no such thing, so wrk holds 64 connections with one "
        "each. Server CPU and peak memory are those of all its processes in the measured seconds. PySyncObj has no port for "
        "clients: its load is made inside its leader, so its CPU is the load's, too; its reads are local, so it has no gets here."
        + (f" Bulk writes had {statistics.median(outstanding):,.0f} lines outstanding." if outstanding else ""),
        "**Is a load generator the bottleneck?** The column `generator` is its share of one core while it loads the system; "
        "it has one thread. Against benchmarks/echo.py, which answers at once (one thread of Python on the other core):",
        report.table(("generator", "load", "does nothing, per s", "fastest Barge, or etcd, per s", "ratio"), generators),
    ]
    if errors or busy:
        parts.append(f"NOT VALID: {'; '.join([*busy, f'{errors} errors'])}")
    return "\n\n".join(parts)


def draw(folder: Path, figures: Figures, works: tuple[Work, ...]) -> list[Path]:
    """Draw rates and latencies; return the files."""
    drawn = []
    for op in ("put", "get"):
        chosen = [work for work in works if work.op == op]
        systems = [system for system in SYSTEMS if any((work.name, system) in figures for work in chosen)]
        for field, unit in (("rate", f"{op}/s"), ("p50_ms", "p50, ms")):
            series = {
                system: [
                    statistics.median(getattr(run, field) for run in runs) if (runs := figures.get((work.name, system))) else None
                    for work in chosen
                ]
                for system in systems
                if field == "p50_ms" or system != REDIS  # the limit would hide the rest
            }
            if chosen:
                title = f"{unit}, 64-byte values, by connections x outstanding"
                path = folder / f"compare_{op}_{field}.svg"
                drawn.append(report.bars(path, title, [work.shape for work in chosen], series, unit))
    return drawn


def main() -> None:
    """Measure, print, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument(
        "--work", action="append", default=[], choices=[work.name for work in WORKS], help="only this (may repeat)"
    )
    parser.add_argument("--system", action="append", default=[], choices=SYSTEMS, help="only this, and etcd (may repeat)")
    parser.add_argument("--quick", action="store_true", help="one round of a second a load")
    parser.add_argument("--plot", type=Path, metavar="DIR", help="draw into this folder")
    parser.add_argument("--write", action="store_true", help="put the tables into benchmarks/results.md")
    arguments = parser.parse_args()
    for tool in ("etcd", "wrk", "redis-server", "redis-benchmark"):
        if shutil.which(tool) is None:
            raise SystemExit(f"{tool} is not on the path (Debian: etcd-server, wrk, redis)")
    rounds, seconds = (1, 1) if arguments.quick else (arguments.rounds, arguments.seconds)
    works = tuple(work for work in WORKS if not arguments.work or work.name in arguments.work)
    systems = [system for system in SYSTEMS if not arguments.system or system in (*arguments.system, ETCD)]
    figures: Figures = {}
    outstanding: list[int] = []
    with tempfile.TemporaryDirectory() as name:
        for number in range(rounds):
            folder = Path(name) / str(number)
            folder.mkdir()
            for system in systems if number % 2 == 0 else reversed(systems):  # whoever is first has the machine's best or worst
                Round(folder, seconds, works, outstanding).run(system, figures)
                print(f"round {number + 1} of {rounds}: {system}", file=sys.stderr, flush=True)
        text = text_of(rounds, seconds, figures, works, Path(name), outstanding)
    print(text)
    if arguments.plot is not None:
        text += report.images(draw(arguments.plot, figures, works))
    if arguments.write:
        report.write("compare", text)
    sys.exit(1 if "NOT VALID" in text else 0)


if __name__ == "__main__":
    main()
