"""`bargetrio simulate` and `bargetrio check`: exit code 0 if no rule was broken, 1 if one was, 2 for a wrong command line."""

import io
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bargetrio import console
from bargetrio.cli import signals
from bargetrio.cli.shared import UserPath

if TYPE_CHECKING:
    from bargetrio.simulator.campaign import Order, Tally
    from bargetrio.simulator.seed import Result

_path = UserPath(dir_okay=False)
_old_path = UserPath(exists=True, dir_okay=False)


def _list(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if not wanted:
        return
    from bargetrio.simulator.breaks import BREAKS
    from bargetrio.simulator.goals import GOALS
    from bargetrio.simulator.plan import KINDS, RARE, STACK_KINDS
    from bargetrio.simulator.stack.goals import STACK_GOALS

    console.say("Faults (--faults), each on with probability one half, or as it says; in one of three seeds only the older ones:")
    console.say("\n".join(f"  {kind:18} {text}{f' ({RARE[kind]:.0%})' if kind in RARE else ''}" for kind, text in KINDS.items()))
    console.say(f"\nFaults of ring 2 (--stack): {', '.join(STACK_KINDS)}")
    console.say("\nRules that --break takes away:")
    console.say("\n".join(f"  {name:28} {planted.rule} ({planted.source})" for name, planted in BREAKS.items()))
    console.say("\nSituations that a run counts:")
    console.say("\n".join(f"  {goal:28} {text}" for goal, text in GOALS.items()))
    console.say("\nSituations that a run of ring 2 counts:")
    console.say("\n".join(f"  {goal:28} {text}" for goal, text in STACK_GOALS.items()))
    context.exit()


@click.command()
@click.option("--seed", type=click.IntRange(0), help="Run this seed; with --seeds, begin there.")
@click.option("--seeds", type=click.IntRange(1), help="How many seeds to run (default: 100, or 1 with --seed).")
@click.option("--nodes", type=click.IntRange(1, 7), help="The size of the cluster; default: it depends on the seed.")
@click.option("--stack", is_flag=True, help="The whole stack in virtual time, from REST to the log (ring 2).")
@click.option("--faults", help="Only these kinds of fault, separated by commas; 'none' for none. --list names them.")
@click.option("--break", "broken", metavar="RULE", help="Take one rule away: a check must fail. --list names them.")
@click.option("--jobs", type=click.IntRange(1), help="Processes; default: one per core.")
@click.option("--keep-going", is_flag=True, help="Do not stop at the first failure.")
@click.option("--events", "events_file", type=_path, help="Write the failing (or only) run's events, as JSON lines.")
@click.option("--history", "history_file", type=_path, help="Write what that run's clients saw, as JSON lines.")
@click.option("--html", "html_file", type=_path, help="Write that run as a page that opens in a browser.")
@click.option("--list", is_flag=True, is_eager=True, expose_value=False, callback=_list, help="Name faults, rules and goals.")
def simulate(
    seed: int | None,
    seeds: int | None,
    nodes: int | None,
    stack: bool,
    faults: str | None,
    broken: str | None,
    jobs: int | None,
    keep_going: bool,
    events_file: str | None,
    history_file: str | None,
    html_file: str | None,
) -> None:
    """Run simulated clusters under faults and check every rule of Raft after every step.

    A seed is up to 30 simulated seconds: 20 with faults and clients, then all faults end and the cluster must recover. The same
    seed always gives the same run.
    """
    from bargetrio.simulator import report
    from bargetrio.simulator.breaks import BREAKS
    from bargetrio.simulator.campaign import Order, Tally, run_all, run_one

    signals.begin(signal.SIGINT)
    if broken is not None and broken not in BREAKS:
        raise click.BadParameter(f"there is no rule {broken!r}; --list names them", param_hint="--break")
    try:
        report.check_targets(events_file, history_file, html_file)
    except OSError as problem:
        raise click.UsageError(f"{problem.filename}: {problem.strerror}") from None
    stack = stack or (broken is not None and BREAKS[broken].stack)
    count = seeds if seeds is not None else 1 if seed is not None else 100
    allowed = _kinds(faults, broken, stack=stack)
    order = Order(first=seed or 0, count=count, nodes=nodes, allowed=allowed, broken=broken, stack=stack)
    shown = [0]
    quiet = None if sys.stderr.isatty() else io.StringIO()
    with click.progressbar(length=count, label="seeds", file=quiet or sys.stderr) as bar:

        def show(so_far: Tally) -> None:
            bar.update(so_far.seeds - shown[0])
            shown[0] = so_far.seeds

        tally = run_all(order, jobs or os.cpu_count() or 1, show, keep_going=keep_going)
    console.say(_summary(tally, stack=stack))
    for result in tally.failures[: 10 if keep_going else 1]:
        console.say(_failure_text(order, result))
    recorded_seed = tally.failures[0].seed if tally.failures else order.first if count == 1 else None
    if recorded_seed is None and (events_file or history_file or html_file):
        console.complain("nothing failed, so no file was written; --seed N alone writes that run")
    elif recorded_seed is not None and (events_file or history_file or html_file):
        again = run_one(order, recorded_seed, keep=True)
        events = report.events_of(again)
        try:
            if events_file is not None:
                report.write_events(Path(events_file), events)
            if history_file is not None:
                report.write_history(Path(history_file), again.history)
            if html_file is not None:
                report.write_page(Path(html_file), again, events)
        except OSError as problem:
            console.complain(f"{problem.filename}: {problem.strerror}")
            sys.exit(2)
    sys.exit(1 if tally.failures else 0)


def _kinds(faults: str | None, broken: str | None, *, stack: bool) -> frozenset[str] | None:
    """Return the kinds of fault to draw from, None for all: those of `--faults`, else those that the planted bug needs."""
    from bargetrio.simulator.breaks import BREAKS
    from bargetrio.simulator.plan import KINDS, STACK_KINDS

    if faults is None:
        return None if broken is None else BREAKS[broken].faults
    if faults == "all":
        return None
    chosen = frozenset(kind for kind in faults.split(",") if kind and kind != "none")
    known = STACK_KINDS if stack else tuple(KINDS)
    unknown = sorted(chosen - set(known))
    if unknown:
        raise click.BadParameter(f"there is no fault {unknown[0]!r}; there are {', '.join(known)}", param_hint="--faults")
    return chosen


def _summary(tally: "Tally", *, stack: bool) -> str:
    from bargetrio.simulator.goals import GOALS
    from bargetrio.simulator.stack.goals import STACK_GOALS

    goals = STACK_GOALS if stack else GOALS
    lines = [
        f"{tally.seeds:,} seeds, {tally.simulated_s:,.0f} simulated seconds: {len(tally.failures)} failed",
        f"{tally.operations:,} operations ({tally.unknown:,} with an unknown outcome), {tally.committed:,} entries committed",
    ]
    missing = tally.missing(goals)
    if tally.seeds >= 100 and not tally.failures and tally.goals:
        lines.append(f"{len(goals) - len(missing)} of {len(goals)} rare situations reached")
        lines += [f"  not reached: {goals[goal]}" for goal in missing]
    return "\n".join(lines)


def _failure_text(order: "Order", result: "Result") -> str:
    from bargetrio.simulator.campaign import replay_line, shrink

    small = shrink(order, result)
    assert result.failure is not None and small.failure is not None
    return (
        f"\nseed {result.seed}, {result.nodes} nodes, at {result.failure.at:.3f} s: {result.failure.text}\n"
        f"  faults: {', '.join(result.kinds) or 'none'}\n"
        f"  again:   {replay_line(order, result)}\n"
        f"  smaller: {replay_line(order, small)}"
    )


@click.command()
@click.argument("events_files", nargs=-1, type=_old_path)
@click.option("--history", "history_files", multiple=True, type=_old_path)
def check(events_files: tuple[str, ...], history_files: tuple[str, ...]) -> None:
    """Audit recorded runs: EVENTS_FILES as `serve --events` writes them (one per daemon), and what clients saw (--history)."""
    from bargetrio.eventlog.jsonl import read_events
    from bargetrio.simulator import linearizability
    from bargetrio.simulator.audit import Audit

    signals.begin(signal.SIGINT)
    if not events_files and not history_files:
        raise click.UsageError("give an events file, or a --history, or both")
    audit = Audit()
    try:
        for path in sorted(events_files, key=_begins_at):
            audit.begin_file()
            finding = audit.take_all(read_events(Path(path), audit.missed))
            if finding is not None:
                console.say(f"{path}: {finding.describe()}")
                sys.exit(1)
        history = [operation for path in history_files for operation in _operations(Path(path))]
    except ValueError as problem:
        console.complain(str(problem))
        sys.exit(2)
    if events_files:
        console.say(f"{audit.events:,} events: no rule is broken ({len(audit.leaders)} leaders, {len(audit.committed):,} marks)")
    if history_files:
        verdict = linearizability.check(history)
        if not verdict.ok:
            console.say(f"the history is not linearizable: {verdict.reason}")
            sys.exit(1)
        console.say(f"{len(history):,} operations: linearizable")


def _begins_at(path: str) -> float:
    """Return the time of a file's first event, by which a node's files are ordered."""
    from bargetrio.eventlog.jsonl import read_events

    return next((event.time for event in read_events(Path(path))), 0.0)


def _operations(path: Path) -> list[Any]:
    import msgspec

    from bargetrio.simulator.linearizability import Operation

    decoder = msgspec.json.Decoder(Operation)
    found: list[Operation] = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            found.append(decoder.decode(line))
        except (ValueError, RecursionError) as problem:
            raise ValueError(f"{path}:{number}: this is not an operation: {problem}") from None
    return found
