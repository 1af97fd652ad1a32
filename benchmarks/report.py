"""Tables and plots of what was measured, and their places in results.md."""

import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("results.md")
ROOT = PAGE.parents[1]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def spread(found: Sequence[float]) -> str:
    """Return the median, and the least and greatest of several."""
    if not found:
        return ""
    text = f"{statistics.median(found):.2f} ×"
    return text if len(found) == 1 else f"{text} ({min(found):.2f} to {max(found):.2f})"


def best_of(figures: Mapping[str, Sequence[float]], *, least: bool = False) -> str:
    """Return the name whose median over the rounds is the greatest; with `least` the smallest, as of latencies."""
    return (min if least else max)(figures, key=lambda name: statistics.median(figures[name]))


def beside_best(own: Sequence[float], others: Mapping[str, Sequence[float]], *, least: bool = False) -> str:
    """Return each round's ratio to the best of several interfaces, and which one that is: `2.00 × (1.90 to 2.10) of etcd, gRPC`.

    The interface is chosen once, by its median, so that all rounds are compared with the same one.
    """
    if not others:
        return ""
    best = best_of(others, least=least)
    return f"{spread([mine / other for mine, other in zip(own, others[best], strict=False)])} of {best}"


def where() -> str:
    """Say when and on what this was measured."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores ({model}), Python {platform.python_version()}"


def version_of(*command: str) -> str:
    """Return the first line a program says of its version."""
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return (result.stdout or result.stderr).splitlines()[0].strip()


def write(name: str, text: str, page: Path = PAGE) -> None:
    """Put the text between the page's two marks of that name, in place of what was there."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    old = page.read_text()
    if old.count(begin) != 1 or old.count(end) != 1:
        raise SystemExit(f"{page.name} needs the lines {begin} and {end}, once each")
    before, _, rest = old.partition(begin)
    after = rest.partition(end)[2]
    page.write_text(f"{before}{begin}\n\n{text.strip()}\n\n{end}{after}")
    print(f"written into {page.name}", file=sys.stderr)


def _pyplot() -> Any:
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "barge"  # the same figures give the same file
    from matplotlib import pyplot

    return pyplot


def bars(path: Path, title: str, groups: Sequence[str], series: Mapping[str, Sequence[float | None]], unit: str) -> Path:
    """Draw groups of bars, one bar of each series in every group; return the path."""
    pyplot = _pyplot()
    figure, axis = pyplot.subplots(figsize=(9, 4))
    width = 0.8 / len(series)
    for number, (name, values) in enumerate(series.items()):
        places = [group + (number - len(series) / 2 + 0.5) * width for group in range(len(groups))]
        drawn = axis.bar(places, [value or 0 for value in values], width, label=name)
        axis.bar_label(drawn, [f"{value:,.2g}" if value and value < 10 else f"{value or 0:,.0f}" for value in values], fontsize=6)
    axis.set_xticks(range(len(groups)), groups)
    axis.set_ylabel(unit)
    axis.set_title(title, fontsize=10)
    axis.legend(fontsize=8)
    axis.grid(axis="y", alpha=0.3)
    return _save(figure, path)


def lines(
    path: Path, title: str, x: tuple[str, Sequence[float]], series: Mapping[str, Sequence[float]], unit: str, *, log: bool = False
) -> Path:
    """Draw each series over x, which with `log` grows by factors; return the path."""
    pyplot = _pyplot()
    figure, axis = pyplot.subplots(figsize=(6, 3.6))
    for name, values in series.items():
        axis.plot(x[1], values, marker="o", linewidth=1, label=name)
    if log:
        axis.set_xscale("log")
    axis.set_xlabel(x[0])
    axis.set_ylabel(unit)
    axis.set_ylim(bottom=0)
    axis.set_title(title, fontsize=10)
    axis.legend(fontsize=8)
    axis.grid(alpha=0.3)
    return _save(figure, path)


def images(paths: Sequence[Path]) -> str:
    """Return what shows the plots on the page; nothing of those that are outside the repository."""
    inside = [path.resolve().relative_to(ROOT) for path in paths if path.resolve().is_relative_to(ROOT)]
    return "".join(f"\n\n![{path.stem.replace('_', ' ')}](../{path.as_posix()})" for path in inside)


def _save(figure: Any, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    return path
