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


def run(folder: Path, **environment: str) -> str:
    """What pytest says of a marked and a plain test on a machine that has nothing on its PATH."""
    (folder / "conftest.py").write_text("from tests.conftest import *\n")
    (folder / "pytest.ini").write_text(
        "[pytest]\naddopts = -q --strict-markers -rsf\nmarkers =\n  slow: slow\n  needs(tool): needs\n"
    )
    (folder / "test_both.py").write_text(MARKED)
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
        for program in re.findall(r'(?:run|Popen)\(\s*\["([a-z][\w-]*)"', text):
            tool = {"umount": "mount"}.get(program, program)
            assert f'needs("{tool}")' in text or f'need("{tool}")' in text, f"{path.name} runs {program} and does not say so"
    installed = (TESTS.parent / ".ci" / "run").read_text()
    assert f"{tools.REQUIRE}=1" in installed
    for tool, (_, how) in tools.TOOLS.items():
        package = re.findall(r"apt-get install (\S+?)(?:;|$)", how)[0]
        assert re.search(rf"\b{tool}[: ]+{package}\b", installed), tool
    assert os.environ.get(tools.REQUIRE, "") in ("", "0") or all(map(tools.find, tools.TOOLS))
