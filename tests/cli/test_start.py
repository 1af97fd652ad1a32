"""One-shot commands start fast: they import nothing of the server, and little else."""

import statistics
import subprocess
import sys
import time

import pytest

from tests.cli.run import environment
from tests.client.servers import nobody
from tests.stories.daemon import Daemon

SERVER = ("trio", "quart", "hypercorn", "prometheus_client", "prompt_toolkit", "rich", "numpy", "sortedcontainers")
ROOMS = ("node", "web", "cluster", "raft", "storage", "transport", "kv", "daemon")

ONE_SHOT = [
    ("get", "a"),
    ("put", "a", "1"),
    ("delete", "a"),
    ("list",),
    ("keys",),
    ("leader",),
    ("status",),
    ("kill", "7"),
    ("revive", "7"),
    ("faults",),
    ("partition", "9"),
    ("cut", "9", "8"),
    ("slow-disk", "9", "1"),
    ("heal",),
    ("log",),
    ("completion", "bash"),
    ("config", "show"),
    ("config", "check"),
    ("--help",),
]


@pytest.mark.parametrize("command", ONE_SHOT, ids=" ".join)
def test_a_one_shot_command_imports_nothing_of_the_server(daemon: Daemon, command: tuple[str, ...]) -> None:
    """Seen in a process that has run it, not only in what stands at the head of a file."""
    code = (
        "import atexit, sys; from bargetrio.cli import main;"
        "atexit.register(lambda: print(*sorted(sys.modules), file=sys.stderr));"
        f"sys.argv[1:] = {command!r}; main()"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=daemon.configuration.parent,
        env=environment(),
    )
    assert "Traceback" not in result.stderr
    modules = result.stderr.splitlines()[-1].split()
    assert "bargetrio.cli.main" in modules
    tops = {name.split(".")[0] for name in modules}
    assert tops.isdisjoint(SERVER)
    assert {name.split(".")[1] for name in modules if name.startswith("bargetrio.")}.isdisjoint(ROOMS)


def test_with_an_endpoint_no_yaml_is_read(daemon: Daemon) -> None:
    """There is no configuration then."""
    code = f"import sys; from bargetrio.cli import cli; cli(['leader', '--endpoint', {daemon.api!r}], standalone_mode=False);"
    code += "print('yaml' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout.splitlines()[-1] == "False"


def test_a_one_shot_command_starts_in_little_more_than_python_with_click(daemon: Daemon) -> None:
    """Medians of runs that take turns, so that a busy machine slows both; and 200 ms where the machine is free to say so."""
    bare = [sys.executable, "-c", "import click"]
    ours = [sys.executable, "-m", "bargetrio", "get", "nothing"]
    times: dict[str, list[float]] = {"bare": [], "ours": []}
    for _ in range(9):
        for name, command in (("bare", bare), ("ours", ours)):
            began = time.perf_counter()
            code = subprocess.run(
                command, capture_output=True, check=False, cwd=daemon.configuration.parent, env=environment()
            ).returncode
            times[name].append(time.perf_counter() - began)
            assert code == (3 if name == "ours" else 0)
    bare_s, ours_s = statistics.median(times["bare"]), statistics.median(times["ours"])
    assert ours_s < 4 * bare_s, times
    if bare_s < 0.06:
        assert min(times["ours"]) < 0.2, times


def test_a_command_that_reaches_no_daemon_fails_at_once(daemon: Daemon) -> None:
    """A refused connection is no reason to wait."""
    began = time.monotonic()
    command = [sys.executable, "-m", "bargetrio", "leader", "--endpoint", nobody()]
    assert subprocess.run(command, capture_output=True, check=False, env=environment()).returncode == 5
    assert time.monotonic() - began < 5
