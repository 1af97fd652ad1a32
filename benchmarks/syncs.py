"""The ways of a sync in turns: by the node's thread, by io_uring, by io_submit; in one process, and in one process a node.

    python benchmarks/syncs.py --rounds 6 --seconds 1.2      # about 7 minutes; docs/decisions/kernel_sync.md has the figures

All daemons are started first, and idle but for the one that is loaded. A ratio is that of one round's p50, or rate, beside the
thread's in the same round. With the name of a way in front it is `bargetrio` with its syncs done that way; the product has no
switch for it:

    python benchmarks/syncs.py thread serve --config configuration.yml
"""

import argparse
import errno
import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import report
from drive import Measured, by_load
from load import addresses_of, find_leader
from systems import HERE, serve_command, started, write_configuration

from bargetrio import cli
from bargetrio.node import kernel_persister
from bargetrio.storage.kernel_sync import AioSync, KernelSync, UringSync


def no_kernel_sync() -> KernelSync:
    """Refuse, so that the node's thread syncs."""
    raise OSError(errno.ENOSYS, "the thread is to be measured")


WAYS = {"thread": no_kernel_sync, "io_uring": UringSync, "io_submit": AioSync}
HOSTS = ("one process", "one each")
SHAPES = ("1x1", "1x64", "256x1", "100x10")


def beside(runs: list[Measured], others: list[Measured], field: str) -> str:
    """Return the median of the rounds' ratios, the least and the greatest."""
    ratios = sorted(getattr(mine, field) / getattr(other, field) for mine, other in zip(runs, others, strict=True))
    return f"{statistics.median(ratios):.2f} × ({ratios[0]:.2f} to {ratios[-1]:.2f})"


def measure(shapes: list[str], ways: list[str], rounds: int, seconds: float) -> list[list[str]]:
    """Return a row for each shape, host and way."""
    figures: dict[tuple[str, str, str], list[Measured]] = {}
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        daemons: dict[tuple[str, str], tuple[list[str], list[int]]] = {}
        for host in HOSTS:
            for way in ways:
                configuration = write_configuration(Path(name) / f"{host} {way}".replace(" ", "-"))
                nodes = (None,) if host == HOSTS[0] else range(3)
                commands = [serve_command(configuration, node, program=(str(HERE / "syncs.py"), way)) for node in nodes]
                processes = stack.enter_context(started(commands, configuration.parent))
                daemons[host, way] = ["--config", str(configuration)], [process.pid for process in processes]
                cluster, addresses = addresses_of(configuration)
                find_leader(addresses, cluster, 60)
        for number in range(rounds):
            for shape in shapes:
                for host in HOSTS:
                    for way in ways if number % 2 == 0 else reversed(ways):
                        where, pids = daemons[host, way]
                        figures.setdefault((shape, host, way), []).append(by_load(where, pids, "put", shape, seconds))
    rows = []
    for (shape, host, way), runs in figures.items():
        first = figures[shape, host, ways[0]]
        medians = [statistics.median(getattr(run, field) for run in runs) for field in ("rate", "p50_ms", "p99_ms")]
        cost = statistics.median(run.cpu_us_a_request for run in runs)
        figures_of_row = [f"{medians[0]:,.0f}", f"{medians[1]:.3f}", f"{medians[2]:.2f}", f"{cost:.1f}"]
        ratios = [beside(runs, first, "rate"), beside(runs, first, "p50_ms")]
        rows.append([f"put {shape}", host, way, *figures_of_row, *ratios])
    return sorted(rows, key=lambda row: (shapes.index(row[0].partition(" ")[2]), row[1] != HOSTS[0], ways.index(row[2])))


HEAD = ("load", "nodes", "way", "per s", "p50 ms", "p99 ms", "µs CPU a request", "per s beside", "p50 beside")


def main() -> None:
    """Be a daemon whose syncs are done one way, or measure all ways."""
    if len(sys.argv) > 1 and sys.argv[1] in WAYS:
        setattr(kernel_persister, "make_kernel_sync", WAYS[sys.argv.pop(1)])  # noqa: B010
        cli.main()
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=1.2)
    parser.add_argument("--shape", action="append", default=[], choices=SHAPES, help="only this (may repeat)")
    parser.add_argument("--way", action="append", default=[], choices=list(WAYS), help="only this (may repeat)")
    arguments = parser.parse_args()
    shapes, ways = arguments.shape or list(SHAPES), arguments.way or list(WAYS)
    rows = measure(shapes, ways, arguments.rounds, arguments.seconds)
    print(f"{report.where()}; {arguments.rounds} rounds of {arguments.seconds:g} s:\n\n{report.table(HEAD, rows)}")


if __name__ == "__main__":
    main()
