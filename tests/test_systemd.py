"""The units as systemd itself judges them, skipped where there is no systemd-analyze, and what they promise."""

import configparser
import re
import subprocess
from pathlib import Path

import pytest

from bargetrio.daemon.run import NO_NODE_LIVES

UNITS = Path(__file__).parents[1] / "systemd"
NAMES = ("barge.service", "barge@.service")

needs_systemd = pytest.mark.needs("systemd-analyze")


@needs_systemd
@pytest.mark.parametrize("name", NAMES)
def test_the_exposure_is_at_most_1_5(name: str) -> None:
    """Offline, 0 is best and 10 worst."""
    result = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", str(UNITS / name)], capture_output=True, text=True, check=False
    )
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", result.stdout)
    assert found, result.stderr
    assert float(found[1]) <= 1.5


@needs_systemd
@pytest.mark.parametrize("name", NAMES)
def test_verify_says_nothing(name: str, tmp_path: Path) -> None:
    """With ExecStart rewritten to a file that exists here."""
    unit = tmp_path / name.replace("@", "@1")
    text = (UNITS / name).read_text()
    unit.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/sh", text, flags=re.MULTILINE))
    result = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("name", NAMES)
def test_what_a_unit_promises(name: str) -> None:
    """READY by notify, a watchdog, a state directory, a user of its own; the command is one that the program has."""
    text = (UNITS / name).read_text()
    for line in ("Type=notify", "DynamicUser=yes", "NoNewPrivileges=yes", "ProtectSystem=strict", "Restart=on-failure"):
        assert f"\n{line}\n" in text
    assert re.search(r"^WatchdogSec=\d+$", text, re.MULTILINE)
    assert re.search(r"^StateDirectory=barge", text, re.MULTILINE)
    assert re.search(r"^ExecStart=/\S+/bargetrio serve --config /\S+", text, re.MULTILINE)
    assert ("--node %i" in text) == ("@" in name)


@pytest.mark.parametrize("name", NAMES)
def test_a_daemon_whose_nodes_have_crashed_is_started_again_without_limit(name: str) -> None:
    """systemd.service(5), Restart=: on-failure takes each exit code that is not among the successful or the prevented ones."""
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.read_string((UNITS / name).read_text())
    assert unit["Unit"]["StartLimitIntervalSec"] == "0", "in any other section systemd passes over it"
    service = unit["Service"]
    assert service["Restart"] in ("on-failure", "always")
    for key in ("SuccessExitStatus", "RestartPreventExitStatus"):
        assert str(NO_NODE_LIVES) not in service.get(key, "").split()
    assert 0 < float(service["RestartSec"]) <= 5
