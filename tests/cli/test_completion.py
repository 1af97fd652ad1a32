"""Tab in the shell."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.run import barge
from tests.cli.screen import Terminal, terminal
from tests.client.servers import nobody
from tests.stories.daemon import Daemon


def offered(folder: Path, shell: str, *words: str, **more: str) -> list[str]:
    """Return the shell's completions of the last word, requested as its script does."""
    line = {"COMP_WORDS": " ".join(["bargetrio", *words]), "COMP_CWORD": str(len(words))}
    if shell == "fish":
        line["COMP_CWORD"] = words[-1]
    result = barge(folder, more={"_BARGETRIO_COMPLETE": f"{shell}_complete", **line, **more})
    assert result.stderr == b""
    lines = result.stdout.decode().splitlines()
    if shell == "zsh":
        return lines[1::3]
    return [line.partition(",")[2].partition("\t")[0] for line in lines if line]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_is_given_a_script_that_asks_us(tmp_path: Path, shell: str) -> None:
    """It names the program and the variable by which it asks; what it asks for is answered in its form."""
    script = barge(tmp_path, "completion", shell).stdout.decode()
    assert f"_BARGETRIO_COMPLETE={shell}_complete" in script
    assert "bargetrio" in script
    assert offered(tmp_path, shell, "rev") == ["revive"]
    assert barge(tmp_path, "completion", "csh").returncode == 2


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_keys_and_nodes_are_offered(daemon: Daemon, tmp_path: Path, shell: str) -> None:
    """From the configuration, or by endpoints; what does not answer offers nothing, and does not hold the shell up."""
    daemon.put("complete-me", "1")
    here = daemon.configuration.parent
    assert offered(here, shell, "get", "compl") == ["complete-me"]
    assert offered(here, shell, "kill", "1") == ["1"]
    assert offered(tmp_path, shell, "get", "compl", BARGE_ENDPOINTS=daemon.api) == ["complete-me"]
    assert offered(tmp_path, shell, "kill", "2", BARGE_ENDPOINTS=daemon.api) == ["2"]
    assert offered(tmp_path, shell, "get", "compl", BARGE_ENDPOINTS=nobody()) == []
    assert offered(tmp_path, shell, "get", "compl") == offered(tmp_path, shell, "kill", "2") == []


@contextmanager
def bash(folder: Path, api: str) -> Iterator[Terminal]:
    """A bash that has read our script, with `bargetrio` on its path."""
    (folder / "bin").mkdir()
    program = folder / "bin" / "bargetrio"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m bargetrio "$@"\n')
    program.chmod(0o755)
    (folder / "rc").write_text('PS1="ready> "\nPATH="$PWD/bin:$PATH"\neval "$(bargetrio completion bash)"\n')
    with terminal(["bash", "--rcfile", "rc", "-i"], folder, BARGE_ENDPOINTS=api, INPUTRC="/dev/null") as screen:
        screen.until("ready>")
        yield screen


@pytest.mark.needs("bash")
def test_tab_in_a_real_bash(daemon: Daemon, tmp_path: Path) -> None:
    """A command, an option, a key, and the completed line does what it says."""
    daemon.put("bash-key", "found by Tab")
    with bash(tmp_path, daemon.api) as screen:
        screen.type("bargetrio lea\t")
        screen.until(lambda: screen.line == "ready> bargetrio leader")
        screen.type("--js\t")
        screen.until(lambda: screen.line == "ready> bargetrio leader --json")
        screen.type("\n")
        screen.until('{"leader":')
        screen.until(lambda: screen.line == "ready>")
        screen.type("bargetrio get bash\t")
        screen.until(lambda: screen.line.startswith("ready> bargetrio get bash-key"))
        screen.type("\n")
        screen.until("\nfound by Tab")
        screen.until(lambda: screen.line == "ready>")
        screen.type("exit\n")
        assert screen.end() == 0


@pytest.mark.needs("zsh")
def test_zsh_reads_its_script(tmp_path: Path) -> None:
    """Without an error."""
    script = barge(tmp_path, "completion", "zsh").stdout
    (tmp_path / "script").write_bytes(script)
    with terminal(["zsh", "-f", "-n", "script"], tmp_path) as screen:
        assert screen.end() == 0
