"""The daemon beside its nodes: notifications to systemd, and tasks that are restarted on errors."""

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from bargetrio.cluster import slots
from bargetrio.config import load
from bargetrio.daemon.run import Daemon, restart_on_error
from bargetrio.daemon.sd_notify import Notifier, watchdog_interval_s
from tests.cluster.harness import Harness
from tests.stories.daemon import write_configuration


async def test_the_watchdog_is_fed_only_while_every_living_loop_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """One hanging node of three is enough to let systemd begin anew."""
    monkeypatch.setenv("WATCHDOG_USEC", "2000000")
    daemon = Daemon(load(write_configuration(tmp_path, 3)), None, debug=False, events_file=None)
    told: list[str] = []
    monkeypatch.setattr(daemon._notifier, "send", lambda *lines: told.extend(lines))
    hanging: list[int] = []
    monkeypatch.setattr(daemon._local, "hanging", lambda: hanging)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(daemon._notify_systemd)
        await trio.sleep(5.5)
        assert told.count("WATCHDOG=1") == 6
        assert "STATUS=no leader" in told
        hanging.append(1)
        told.clear()
        await trio.sleep(5)
        assert "WATCHDOG=1" not in told
        assert any("hanging: [1]" in line for line in told)
        nursery.cancel_scope.cancel()


async def test_a_node_that_is_revived_in_time_keeps_its_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """A daemon of crashed nodes ends after a second; a revive in that second counts."""
    daemon = Daemon(load(write_configuration(tmp_path, 3)), [0], debug=False, events_file=None)
    crashed, stopped = False, trio.Event()
    monkeypatch.setattr(daemon._local, "all_crashed", lambda: crashed)
    monkeypatch.setattr(daemon, "_stop", lambda nursery: stopped.set())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(daemon._end_when_lost, nursery)
        await trio.sleep(0.5)
        crashed = True
        await trio.sleep(1.0)
        crashed = False
        await trio.sleep(5.0)
        assert not stopped.is_set()
        crashed = True
        await trio.sleep(2.5)
        assert stopped.is_set() and daemon.exit_code == 3


async def test_a_node_whose_loop_stands_still_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its last step; a killed node does not count."""
    harness = Harness(tmp_path)
    async with harness.open():
        await harness.leader()
        assert harness.local.hanging() == []
        slot = harness.local.slots[1]
        assert slot.node is not None
        last_turn = slot.node.last_turn
        assert [slot.hangs(last_turn + slots.STILL_S + late_s) for late_s in (-0.1, 0.1)] == [False, True]
        monkeypatch.setattr(slots, "STILL_S", -1.0)
        assert harness.local.hanging() == [0, 1, 2]
        await harness.cluster.kill(1)
        assert harness.local.hanging() == [0, 2]


def test_no_watchdog_notification_without_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """No WATCHDOG_USEC, or one for another process."""
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    assert watchdog_interval_s() is None
    monkeypatch.setenv("WATCHDOG_USEC", "3000000")
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert watchdog_interval_s() is None
    monkeypatch.delenv("WATCHDOG_PID")
    assert watchdog_interval_s() == 1.5


def test_a_missing_notify_socket_is_ignored(tmp_path: Path) -> None:
    """Not even an error."""
    Notifier(str(tmp_path / "gone")).send("READY=1")
    Notifier("").send("READY=1")


async def test_a_task_of_the_daemon_is_restarted_on_error(autojump_clock: MockClock) -> None:
    """A full disk under events.jsonl ends no node."""
    tried: list[float] = []

    async def work() -> None:
        tried.append(trio.current_time())
        if len(tried) < 3:
            raise OSError(28, "No space left on device")

    await restart_on_error("the file", work)
    assert len(tried) == 3
    assert tried[2] - tried[1] > 1
