"""`bargetrio simulate` and `bargetrio check`, as they are typed."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from bargetrio.cli.simulate import _kinds, _summary
from bargetrio.simulator.breaks import BREAKS
from bargetrio.simulator.campaign import Tally
from bargetrio.simulator.goals import GOALS
from bargetrio.simulator.plan import KINDS
from bargetrio.simulator.seed import Failure, Result
from bargetrio.simulator.stack.goals import STACK_GOALS


def barge(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command."""
    command = [sys.executable, "-m", "bargetrio", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_some_seeds_run_and_are_summed_up() -> None:
    """Exit code 0 and three lines."""
    done = barge("simulate", "--seeds", "20", "--nodes", "3")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.match(r"20 seeds, [\d,]+ simulated seconds: 0 failed\n", done.stdout)


def test_a_summary_adds_up_what_all_seeds_came_to() -> None:
    """Each that failed is counted."""
    tally = Tally(goals=Counter(), failures=[])
    failure = Failure(rule="it heals", text="no leader", at=30.0)
    for seed in range(4):
        result = Result(
            seed=seed,
            nodes=3,
            drawn=(),
            kinds=(),
            failure=failure if seed % 2 else None,
            trace="",
            simulated_s=30.0,
            steps=1,
            operations=100 + seed,
            unknown=seed,
            committed=50,
            goals={},
        )
        tally.add(result)
    assert _summary(tally, stack=False) == (
        "4 seeds, 120 simulated seconds: 2 failed\n406 operations (6 with an unknown outcome), 200 entries committed"
    )


def test_a_broken_rule_is_reported_with_a_command_that_replays_it(tmp_path: Path) -> None:
    """And with a smaller set of faults that breaks it, too; both lines do what they say, and the run can be read."""
    done = barge("simulate", "--seeds", "20", "--break", "figure_8")
    assert done.returncode == 1
    lines = re.findall(r"^  (?:again|smaller): +bargetrio (.*)$", done.stdout, re.MULTILINE)
    assert len(lines) == 2
    told = re.search(r"only the own term's by counting: node \d commits entry \d+ of term \d+ by counting", done.stdout)
    assert told is not None
    for line in lines:
        again = barge(*line.split(), "--html", tmp_path / "log.html", "--events", tmp_path / "events.jsonl")
        assert again.returncode == 1
        assert "only the own term's by counting" in again.stdout
    assert "only the own term" in (tmp_path / "log.html").read_text()
    assert all(json.loads(line)["id"] for line in (tmp_path / "events.jsonl").read_text().splitlines())


def test_a_recorded_seed_is_audited(tmp_path: Path) -> None:
    """Its events, and what its clients saw; then with one answer changed."""
    events, history = tmp_path / "events.jsonl", tmp_path / "history.jsonl"
    assert barge("simulate", "--seed", "5", "--nodes", "5", "--events", events, "--history", history).returncode == 0
    done = barge("check", events, "--history", history)
    assert (done.returncode, done.stderr) == (0, "")
    assert "no rule is broken" in done.stdout
    assert "linearizable" in done.stdout
    lines = history.read_text().splitlines()
    place = next(n for n, line in enumerate(lines) if '"kind":"get"' in line and '"effect":"applied"' in line)
    lines[place] = json.dumps({**json.loads(lines[place]), "value": "nobody wrote this"})
    history.write_text("\n".join(lines) + "\n")
    done = barge("check", events, "--history", history)
    assert done.returncode == 1
    assert "not linearizable" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("simulate", "--break", "nonsense"), "there is no rule 'nonsense'"),
        (("simulate", "--faults", "loss,nonsense"), "there is no fault 'nonsense'"),
        (("simulate", "--nodes", "8"), "8 is not in the range 1<=x<=7"),
        (("simulate", "--seeds", "0"), "0 is not in the range"),
        (("check",), "give an events file"),
        (("check", "/nonexistent/events.jsonl"), "does not exist"),
    ],
)
def test_a_wrong_command_line_is_explained(arguments: tuple[str, ...], text: str) -> None:
    """Exit code 2."""
    done = barge(*arguments)
    assert done.returncode == 2
    assert text in done.stderr


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    """With the line."""
    bad = tmp_path / "bad.jsonl"
    bad.write_text("not json\n")
    for arguments in ((bad,), ("--history", bad)):
        done = barge("check", *arguments)
        assert done.returncode == 2
        assert "bad.jsonl:1: this is not an" in done.stderr


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """And where nothing failed there is nothing to write."""
    done = barge("simulate", "--seed", "1", "--nodes", "3", "--html", tmp_path / "none" / "log.html")
    assert (done.returncode, "No such file or directory" in done.stderr) == (2, True)
    done = barge("simulate", "--seeds", "2", "--nodes", "3", "--html", tmp_path / "log.html")
    assert (done.returncode, "no file was written" in done.stderr) == (0, True)


def test_the_list_names_everything() -> None:
    """Faults, rules, situations."""
    done = barge("simulate", "--list")
    assert done.returncode == 0
    for name in (*KINDS, *GOALS, *STACK_GOALS):
        assert re.search(rf"^  {name} ", done.stdout, re.MULTILINE), name
    for name, planted in BREAKS.items():
        assert re.search(rf"^  {name} +{re.escape(f'{planted.rule} ({planted.source})')}$", done.stdout, re.MULTILINE), name


def test_a_planted_bug_is_looked_for_among_the_faults_that_it_needs() -> None:
    """Unless others are asked for: `all`, too, is others."""
    needed = BREAKS["older_snapshot_counts"].faults
    assert needed is not None
    assert _kinds(None, "older_snapshot_counts", stack=False) == needed
    assert _kinds("loss", "older_snapshot_counts", stack=False) == frozenset({"loss"})
    assert _kinds("all", "older_snapshot_counts", stack=False) is None
    assert _kinds(None, "figure_8", stack=False) is None
    assert _kinds(None, None, stack=False) is None


def has_workers(pid: int) -> bool:
    """Return whether the process has begun to run seeds; while it imports modules, it has other children."""
    found: list[bytes] = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with suppress(OSError):
            found.append(Path(f"/proc/{child}/cmdline").read_bytes())
    return any(b"multiprocessing" in command for command in found)


def test_an_interrupt_ends_everything_at_once() -> None:
    """Ctrl-C goes to the whole process group: exit code 130, a message and no traceback, no process left."""
    command = [sys.executable, "-m", "bargetrio", "simulate", "--seeds", "100000", "--jobs", "2"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        while not has_workers(process.pid):
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)
        output, errors = process.communicate(timeout=30)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert (process.returncode, output, errors.strip()) == (130, "", "interrupted")
