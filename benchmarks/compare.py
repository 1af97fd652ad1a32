"""Barge beside etcd, NATS, antietcd, PySyncObj and redis on this machine: in one run, in alternating rounds, with the same values
and load.

    python benchmarks/compare.py --rounds 3 --seconds 5 --write --plot docs/images      # about 45 minutes
    python benchmarks/compare.py --quick                                               # does it work?

A system that is not installed is named, with how to get it, and left out; `python benchmarks/peers.py` says which are here. etcd
is loaded by both of its interfaces, gRPC and the JSON gateway, and the last column has the ratio to whichever was faster. After
the first round's loads, some hundred puts are watched with strace: how often each system syncs stands in the table as it was
seen. Ends with 1 if there was an error, or if a load generator was too busy for its figures to count.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import peers
import report
import sync_count
from contenders import (
    ANTIETCD,
    APART,
    BY_REST,
    ETCD,
    ETCDS,
    KEEPS,
    NATS_LATE,
    NEW_ETCD,
    ONE,
    REDIS,
    SYSTEMS,
    WORKS,
    Figures,
    Round,
    Work,
    left_out,
)
from drive import Measured, by_load, by_wrk, connections_of, script_for
from systems import python_server

NOT_DRAWN = (NEW_ETCD, NATS_LATE, ANTIETCD)
BUSY = 0.9
"""A generator that takes more of its core than this may be what was measured."""


def ratios(work: Work, system: str, figures: Figures) -> list[float]:
    """Return the ratio of each round to what the work is measured beside; nothing if that was not measured."""
    own = [getattr(measured, work.field) for measured in figures[work.name, system]]
    if work.op == "bulk":
        puts = [figures[other.name, ETCD] for other in WORKS if other.op == "put" and (other.name, ETCD) in figures]
        others = [max(measured.rate for measured in at_once) for at_once in zip(*puts, strict=True)]
    else:
        others = [getattr(measured, work.field) for measured in figures.get((work.beside_work or work.name, work.beside), [])]
    return [mine / other for mine, other in zip(own, others, strict=False)]


def beside_etcd(work: Work, system: str, figures: Figures) -> str:
    """Return the ratio to etcd by its best interface for this work, and which that is; bulk writes are beside its best puts."""
    own = [getattr(measured, work.field) for measured in figures[work.name, system]]
    names = [work.name] if work.op != "bulk" else [other.name for other in WORKS if other.op == "put"]
    others = {
        etcd_system if work.op != "bulk" else f"{etcd_system}, {name}": [getattr(run, work.field) for run in runs]
        for name in names
        for etcd_system in ETCDS
        if (runs := figures.get((name, etcd_system)))
    }
    return report.beside_best(own, others, least=work.field == "p50_ms")


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
                asked = f"{work.words(bound)}: {'yes' if reached else '**no**'}"
                if not reached:
                    missed.append(f"{work.name}, {system}: {statistics.median(found):.2f} × where {work.words(bound)} is asked")
            rows.append([work.name, system, *columns(runs), report.spread(found), asked, beside_etcd(work, system, figures)])
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


HEAD = (
    *("work", "system", "per s", "p50 ms", "p99 ms", "server CPU s", "µs CPU a request", "peak MiB", "generator"),
    *("errors", "ratio", "asked", "beside etcd's best interface"),
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
            loaded = (ETCD,) if work.op == "put" else (ETCD, ONE, APART) if work.op in ("rest put", "rest get") else ()
            measured = [figures[work.name, system] for system in loaded if (work.name, system) in figures]
            rates = [statistics.median(run.rate for run in runs) for runs in measured]
            if rates:
                script = script_for(folder, "etcd put" if work.op == "put" else work.op)
                most = by_wrk(http, script, connections_of(work.shape), max(1, int(seconds)))
                load = f"{connections_of(work.shape)} connections" if work.op == "put" else work.name
                rows.append(["wrk", load, f"{most.rate:,.0f}", f"{max(rates):,.0f}", f"{most.rate / max(rates):.1f} ×"])
    for (name, system), runs in figures.items():
        shares = [run.generator for run in runs if run.generator is not None]
        if shares and statistics.median(shares) > BUSY and system != REDIS:
            busy.append(f"{name}, {system}: the generator takes {statistics.median(shares):.0%} of a core")
    return rows, busy


def kept_of(figures: Figures, seen: Mapping[str, str]) -> str:
    """Return the table of what each measured system keeps, and how often it was seen to sync."""
    measured = [system for system in SYSTEMS if any(name == system for _, name in figures)]
    rows = [[system, *KEEPS[system], seen.get(system, "")] for system in measured]
    return report.table(("system", "keeps", "loaded by", "syncs, as seen"), rows)


def named(missing: Mapping[str, str]) -> str:
    """Say which systems were left out, and how to get them."""
    return "Left out, since not installed: " + "; ".join(f"{system}: {problem}" for system, problem in missing.items()) + "."


def text_of(
    rounds: int,
    seconds: int,
    figures: Figures,
    works: tuple[Work, ...],
    folder: Path,
    outstanding: list[int],
    seen: Mapping[str, str],
    missing: Mapping[str, str],
) -> str:
    """Return all that goes into the page, and tell what is wrong on stderr."""
    rows, missed = rows_of(figures, works)
    generators, busy = check_generators(folder, min(seconds, 2), figures, works)
    errors = sum(run.errors for runs in figures.values() for run in runs)
    for word in [*missed, *busy, *([f"{errors} errors"] if errors else [])]:
        print(word, file=sys.stderr)
    parts = [
        f"{report.where()}; {rounds} rounds of {seconds} s a load, medians. {', '.join(peers.versions())}.",
        *([named(missing)] if missing else []),
        kept_of(figures, seen),
        f"Syncs are those of {sync_count.PUTS} puts, one after the other (fewer of antietcd; PySyncObj: those of a second), seen "
        "by strace after the first round. A majority must have synced a put before its answer; the member that lags may sync two "
        "at once. Barge has its syncs done by the kernel "
        "(io_uring), which strace does not see as fsync: it sees the requests.",
        report.table(HEAD, rows),
        "The columns `ratio` and `asked` are beside etcd 3.4's JSON gateway; the last is beside whichever of etcd's interfaces "
        "did this work best in this run. "
        "`1x64` is one connection with 64 requests outstanding; HTTP has no such thing, so wrk holds 64 connections with one "
        "each. REST is loaded by the same wrk as the gateway, at the leader's daemon unless it says otherwise; its gets are "
        "linearizable and answered in JSON. The other route is GET /livez, of etcd GET /version. "
        "Server CPU and peak memory are those of all its processes in the measured seconds. PySyncObj has no port for "
        "clients: its load is made inside its leader, so its CPU is the load's, too; its reads are local: it has no gets here, "
        "as NATS has none. "
        "antietcd's database begins empty, and it has no puts by 256 and more at once: each waits for a whole copy of it."
        + (f" Bulk writes had {statistics.median(outstanding):,.0f} lines outstanding." if outstanding else ""),
        "**Is a load generator the bottleneck?** The column `generator` is its share of one core while it loads the system; "
        "it has one thread; that of gRPC has one for each core, and its share is that of all cores. Against benchmarks/echo.py, "
        "which answers at once (one thread of Python on the other core):",
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
        shown = [system for system in SYSTEMS if system not in NOT_DRAWN]
        systems = [system for system in shown if any((work.name, system) in figures for work in chosen)]
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
    rounds, seconds = (1, 1) if arguments.quick else (arguments.rounds, arguments.seconds)
    wanted = [system for system in SYSTEMS if not arguments.system or system in (*arguments.system, ETCD)]
    missing = left_out((*wanted, BY_REST))
    works = tuple(work for work in WORKS if not arguments.work or work.name in arguments.work)
    if BY_REST in missing:
        works = tuple(work for work in works if not work.op.startswith("rest "))
    if missing:
        print(named(missing), file=sys.stderr, flush=True)
    systems = [system for system in wanted if system not in missing]
    figures: Figures = {}
    seen: dict[str, str] = {}
    outstanding: list[int] = []
    with tempfile.TemporaryDirectory() as name:
        for number in range(rounds):
            folder = Path(name) / str(number)
            folder.mkdir()
            for system in systems if number % 2 == 0 else reversed(systems):  # whoever is first has the machine's best or worst
                Round(folder, seconds, works, outstanding).run(system, figures, seen)
                print(f"round {number + 1} of {rounds}: {system}", file=sys.stderr, flush=True)
        text = text_of(rounds, seconds, figures, works, Path(name), outstanding, seen, missing)
    print(text)
    if arguments.plot is not None:
        text += report.images(draw(arguments.plot, figures, works))
    if arguments.write:
        report.write("compare", text)
    sys.exit(1 if "NOT VALID" in text else 0)


if __name__ == "__main__":
    main()
