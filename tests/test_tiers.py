"""Tests marked long run when they are asked for; their parts together are all of them. Folders have their marks."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.conftest import SLOW

CONFTEST = Path(__file__).with_name("conftest.py")
TESTS = """
import pytest

def test_quick(): pass

@pytest.mark.long
@pytest.mark.parametrize("n", range(20))
def test_long(n): pass
"""
COLLECT = """
import contextlib, io, json, os, sys
import pytest

class Seen(list):
    def pytest_collection_finish(self, session):
        self.extend(item.nodeid for item in session.items)

answers = []
for asked in json.loads(sys.argv[1]):
    environment = [word for word in asked if word.startswith("BARGE_LONG=")]
    os.environ["BARGE_LONG"] = environment[0].partition("=")[2] if environment else ""
    seen, said = Seen(), io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        arguments = [word for word in asked if word not in environment]
        pytest.main(["--collect-only", "-p", "no:cacheprovider", *arguments], plugins=[seen])
    answers.append((seen, said.getvalue()))
print(json.dumps(answers))
"""


def collected(folder: Path, *asked: list[str]) -> list[tuple[list[str], str]]:
    """For each command line the tests that pytest collects of a project with this conftest, and what it says.

    A command line may begin with BARGE_LONG=; one process runs all of them.
    """
    shutil.copy(CONFTEST, folder / "conftest.py")
    markers = "".join(f"  {name}: {name}\n" for name in ("browser", "long", "needs(tool)", "slow", "timeout(s)"))
    (folder / "pytest.ini").write_text(f"[pytest]\naddopts = -q --strict-markers\nmarkers =\n{markers}")
    (folder / "test_both.py").write_text(TESTS)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BARGE_", "PYTEST_"))}
    kept |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(CONFTEST.parents[1])}
    command = [sys.executable, "-c", COLLECT, json.dumps(asked)]
    done = subprocess.run(command, cwd=folder, env=kept, capture_output=True, text=True, check=True)
    return [(names, said) for names, said in json.loads(done.stdout)]


def test_long_tests_run_when_they_are_asked_for(tmp_path: Path) -> None:
    """By option or by environment."""
    plain, option, environment = (names for names, _ in collected(tmp_path, [], ["--long"], ["BARGE_LONG=1"]))
    assert plain == ["test_both.py::test_quick"]
    assert len(option) == 21
    assert environment == option


def test_the_parts_are_all_long_tests_once(tmp_path: Path) -> None:
    """And the quick one each time."""
    one, other, both = (names for names, _ in collected(tmp_path, ["BARGE_LONG=1/2"], ["--long-part", "2/2"], ["--long"]))
    assert all("test_both.py::test_quick" in part and len(part) > 1 for part in (one, other))
    assert len(one) + len(other) == 22
    assert set(one) | set(other) == set(both)


def test_a_part_that_is_none_is_refused(tmp_path: Path) -> None:
    """Instead of running nothing."""
    wrong = ("3/2", "0/3", "x", "1/0")
    for part, (names, said) in zip(wrong, collected(tmp_path, *(["--long-part", part] for part in wrong)), strict=True):
        assert names == []
        assert f"not {part}" in said


def test_folders_have_their_marks(tmp_path: Path) -> None:
    """`-m` knows them, and a long test is a slow one."""
    for name in ("browser", "cli", "raft"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"test_{name}.py").write_text("def test_it(): pass\n")
    marks = ("not slow and not browser", "browser", "slow and not long", "long and not slow")
    answers = collected(tmp_path, *(["--long", "-m", each] for each in marks))
    quick, browser, slow, none = ({name.partition("::")[0].partition("/")[0] for name in names} for names, _ in answers)
    assert quick == {"raft", "test_both.py"}
    assert browser == {"browser"}
    assert slow == {"browser", "cli"}
    assert none == set()


def test_the_tests_that_conftest_and_ci_name_are_there() -> None:
    """One that was renamed would be quick, or left out, and nobody would notice."""
    ci = (CONFTEST.parents[1] / ".ci" / "run").read_text()
    named = {f"tests/{name}" for name in SLOW} | set(re.findall(r"tests/[\w/.]+", ci))
    assert [name for name in sorted(named) if not (CONFTEST.parents[1] / name).exists()] == []
    (each_time,) = re.findall(r"^each_time=\((.*?)\)", ci, re.MULTILINE | re.DOTALL)
    for name in each_time.split():
        place = CONFTEST.parents[1] / name
        files = place.glob("test_*.py") if place.is_dir() else [place]
        assert any("mark.long" in file.read_text() for file in files), f"{name} has no long test"


def test_slow_folders_are_not_imported_where_none_of_their_tests_is_wanted(tmp_path: Path) -> None:
    """Only where `-m` says so for certain."""
    (tmp_path / "cli").mkdir()
    (tmp_path / "cli" / "test_cli.py").write_text("raise RuntimeError('imported')\n")
    (tmp_path / "test_errors.py").write_text("raise RuntimeError('imported')\n")
    marks = ("not slow and not browser", "not slow", "not slow and not browser or long", "not browser", "slow")
    answers = collected(tmp_path, *(["-m", each] for each in marks))
    assert ["imported" in told for _, told in answers] == [False, False, True, True, True]
