"""A test that needs a program which is not here is skipped with the reason, and fails where tools are required."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import tools

TESTS = Path(__file__).parent
INI = "[pytest]\naddopts = -q --strict-markers -rsf\nmarkers =\n  slow: slow\n  needs(tool): needs\n"
MARKED = 'import pytest\n\n@pytest.mark.needs("zsh")\ndef test_marked(): pass\n\ndef test_plain(): pass\n'


RUNNING = """
import os, subprocess, sys
import pytest
from tests.tools import need

@pytest.mark.needs("zsh")
def test_marked():
    assert subprocess.run(["zsh"]).returncode == 0

def test_asking():
    need("zsh")
    assert subprocess.run(["zsh"]).returncode == 0

def test_silent():
    subprocess.run(["zsh"])

def test_first_word_is_python():
    code = "import os, sys; os.execvp(sys.argv[1], sys.argv[1:])"
    assert subprocess.run([sys.executable, "-c", code, "zsh"]).returncode == 0

def test_by_a_shell():
    assert subprocess.run("zsh", shell=True).returncode == 0

def test_with_an_environment():
    assert subprocess.run(["/bin/sh", "-c", "zsh"], env={**os.environ, "A": "b"}).returncode == 0
"""


def run(folder: Path, tests: str = MARKED, **environment: str) -> str:
    """What pytest says of tests, a marked and a plain one, on a machine that has nothing on its PATH."""
    (folder / "conftest.py").write_text("from tests.conftest import *\n")
    (folder / "pytest.ini").write_text(INI)
    (folder / "test_both.py").write_text(tests)
    (folder / "empty").mkdir(exist_ok=True)
    bare = {"PATH": str(folder / "empty"), "PYTHONPATH": str(TESTS.parent), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
    return subprocess.run(command, cwd=folder, env={**bare, **environment}, capture_output=True, text=True, check=False).stdout


def test_without_its_tool_a_test_is_skipped_or_fails(tmp_path: Path) -> None:
    """With the reason and how to get the tool, either way; what needs nothing runs."""
    skipped = run(tmp_path)
    assert "1 passed, 1 skipped" in skipped
    assert "needs zsh, which is not here (apt-get install zsh)" in skipped
    failed = run(tmp_path, BARGE_REQUIRE_TOOLS="1")
    assert re.search(r"1 failed, 1 passed|1 passed, 1 error", failed)
    assert "needs zsh, which is not here (apt-get install zsh), and BARGE_REQUIRE_TOOLS is set" in failed


def test_a_test_that_runs_a_program_and_does_not_say_so_fails_though_the_program_is_there(tmp_path: Path) -> None:
    """Whatever way it runs it: so nothing is found missing only on a machine that lacks it."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "zsh").write_text("#!/bin/sh\nexit 0\n")
    (programs / "zsh").chmod(0o755)
    told = run(tmp_path, RUNNING, PATH=str(programs))
    assert "2 passed" in told and "4 failed" in told, told
    failed = set(re.findall(r"^FAILED test_both.py::(\w+)", told, re.MULTILINE))
    assert failed == {"test_silent", "test_first_word_is_python", "test_by_a_shell", "test_with_an_environment"}


def test_a_variable_names_a_tool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """CHROMIUM comes before what is on the PATH, and one that is not there is missing."""
    monkeypatch.delenv(tools.REQUIRE, raising=False)
    program = tmp_path / "browser"
    program.write_text("")
    program.chmod(0o755)
    monkeypatch.setenv("CHROMIUM", str(program))
    assert tools.need("chromium") == str(program)
    monkeypatch.setenv("CHROMIUM", str(tmp_path / "none"))
    with pytest.raises(pytest.skip.Exception, match="apt-get install chromium; or name one in CHROMIUM"):
        tools.need("chromium")


def test_tools_are_looked_for_in_one_place() -> None:
    """A test with a rule of its own would be skipped in CI, or fail where there is nothing but Python; CI has what is listed."""
    for path in TESTS.rglob("*.py"):
        if path.name in ("tools.py", "test_tools.py"):
            continue
        text = path.read_text()
        assert "shutil.which" not in text and "importorskip" not in text, path.name
        for named in re.findall(r'(?:mark\.needs|\bneed)\("([^"]+)"\)', text):
            assert named in tools.TOOLS, (path.name, named)
        for program in re.findall(r"[\"' ](?:/usr)?(?:/local)?/s?bin/([\w-]+)", text):
            assert program == "sh", f"{path.name} runs {program} by its path, which passes by PATH"
        assert "WHOLE_PATH" not in text and "defpath" not in text, path.name
    installed = (TESTS.parent / ".ci" / "run").read_text()
    assert f"{tools.REQUIRE}=1" in installed
    for tool, (_, how) in tools.TOOLS.items():
        package = re.findall(r"apt-get install (\S+?)(?:;|$)", how)[0]
        assert re.search(rf"\b{tool}[: ]+{package}\b", installed), tool
    assert os.environ.get(tools.REQUIRE, "") in ("", "0") or all(map(tools.find, tools.TOOLS))
