"""Tests marked long run when they are asked for; their parts together are all of them. Folders have their marks."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).with_name("conftest.py")
TESTS = """
import pytest

def test_quick(): pass

@pytest.mark.long
@pytest.mark.parametrize("n", range(20))
def test_long(n): pass
"""


def collected(folder: Path, *arguments: str, **environment: str) -> tuple[list[str], str]:
    """Names of the collected tests of a project with this conftest, and pytest's complaint."""
    shutil.copy(CONFTEST, folder / "conftest.py")
    markers = "".join(f"  {name}: {name}\n" for name in ("browser", "long", "needs(tool)", "slow"))
    (folder / "pytest.ini").write_text(f"[pytest]\naddopts = -q --strict-markers\nmarkers =\n{markers}")
    (folder / "test_both.py").write_text(TESTS)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BARGE_", "PYTEST_"))}
    kept |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(CONFTEST.parents[1])}
    command = [sys.executable, "-m", "pytest", "--collect-only", "-p", "no:cacheprovider", *arguments]
    done = subprocess.run(command, cwd=folder, env={**kept, **environment}, capture_output=True, text=True, check=False)
    return re.findall(r"^test_both.py::(\S+)$", done.stdout, re.MULTILINE), done.stderr


def test_long_tests_run_when_they_are_asked_for(tmp_path: Path) -> None:
    """By option or by environment."""
    assert collected(tmp_path)[0] == ["test_quick"]
    assert len(collected(tmp_path, "--long")[0]) == 21
    assert len(collected(tmp_path, BARGE_LONG="1")[0]) == 21


def test_the_parts_are_all_long_tests_once(tmp_path: Path) -> None:
    """And the quick one each time."""
    parts = [collected(tmp_path, BARGE_LONG="1/2")[0], collected(tmp_path, "--long-part", "2/2")[0]]
    assert all("test_quick" in part and len(part) > 1 for part in parts)
    assert len(parts[0]) + len(parts[1]) == 22
    assert set(parts[0]) | set(parts[1]) == set(collected(tmp_path, "--long")[0])


@pytest.mark.parametrize("wrong", ["3/2", "0/3", "x", "1/0"])
def test_a_part_that_is_none_is_refused(wrong: str, tmp_path: Path) -> None:
    """Instead of running nothing."""
    names, complaint = collected(tmp_path, "--long-part", wrong)
    assert names == []
    assert f"not {wrong}" in complaint


def test_folders_have_their_marks(tmp_path: Path) -> None:
    """`-m` knows them, and a long test is a slow one."""
    for name in ("browser", "cli", "raft"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"test_{name}.py").write_text("def test_it(): pass\n")

    def chosen(marks: str) -> set[str]:
        collected(tmp_path)  # writes the files
        command = [sys.executable, "-m", "pytest", "--collect-only", "-p", "no:cacheprovider", "--long", "-m", marks]
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("BARGE_", "PYTEST_"))}
        kept |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(CONFTEST.parents[1])}
        done = subprocess.run(command, cwd=tmp_path, env=kept, capture_output=True, text=True, check=False)
        return {re.split("::|/", line)[0] for line in done.stdout.splitlines() if "::" in line}

    assert chosen("not slow and not browser") == {"raft", "test_both.py"}
    assert chosen("browser") == {"browser"}
    assert chosen("slow and not long") == {"browser", "cli"}
    assert chosen("long and not slow") == set()
