"""The loop turns at least once a second, so that one that hangs can be told from one that has nothing to do."""

from random import Random
from unittest.mock import Mock

import pytest
import trio
from trio.testing import MockClock

from bargetrio.eventlog.driver_facts import DriverFact, Sink
from bargetrio.eventlog.recorder import Recorder
from bargetrio.kv.commands import encode_command
from bargetrio.kv.store import Store
from bargetrio.node.clients import Batch, ClientSession
from bargetrio.node.driver import Driver
from bargetrio.protocol.requests import Put
from bargetrio.raft.core import Core
from bargetrio.raft.effects import Effect
from bargetrio.raft.errors import ConsensusViolation
from bargetrio.raft.facts import Fact
from bargetrio.raft.records import Remembered


class Nobody:
    """A sink that keeps nothing."""

    def record(self, node_id: int | None, fact: Fact | DriverFact) -> None:
        pass

    def stage(self, node_id: int | None, fact: Fact | DriverFact) -> None:
        self.record(node_id, fact)

    def flush(self) -> None:
        pass


def make_driver(*, heartbeat_s: float, election_s: tuple[float, float], sink: Sink) -> Driver:
    """Return one of three nodes, whose messages reach nobody."""
    core = Core(
        node_id=0,
        node_ids=(0, 1, 2),
        remembered=Remembered(),
        heartbeat_s=heartbeat_s,
        election_s=election_s,
        random=Random(1),
        now=trio.current_time(),
    )
    return Driver(core=core, store=Store(), sink=sink, post=lambda to, message: None, addresses={}, request_timeout_s=5)


async def test_a_loop_with_nothing_to_do_still_turns(autojump_clock: MockClock) -> None:
    """Election time-outs of minutes: the watchdog must not take patience for a hang."""
    driver = make_driver(heartbeat_s=50, election_s=(300, 600), sink=Nobody())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(driver.run)
        for _ in range(20):
            await trio.sleep(5.3)
            assert trio.current_time() - driver.last_turn <= 1.0
        nursery.cancel_scope.cancel()


async def test_what_a_step_staged_before_it_failed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last facts before a node's end are those that matter most."""
    recorder = Recorder("run", wall_clock=lambda: 0.0)
    driver = make_driver(heartbeat_s=50, election_s=(300, 600), sink=recorder)
    command = Put(id=1, key="a", value="1")
    driver.take_requests(Mock(ClientSession), Batch([command], [encode_command(command)], []))

    def violated(core: Core) -> list[Effect]:
        raise ConsensusViolation("two leaders")

    monkeypatch.setattr(Core, "take_effects", violated)
    with pytest.raises(ConsensusViolation):
        await driver.run()
    assert [kept.fact.kind for kept in recorder.page(None, limit=9).events] == ["request_received"]


async def test_a_dead_node_takes_no_turn(autojump_clock: MockClock) -> None:
    """Not even one that was due when it was killed: what it did then would be told after its death."""
    told: list[object] = []

    class Listening(Nobody):
        def record(self, node_id: int | None, fact: object) -> None:
            """Note it."""
            told.append(fact)

    driver = make_driver(heartbeat_s=0.05, election_s=(0.3, 0.6), sink=Listening())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(driver.run)
        await trio.sleep(0.2)
        driver.fence()
        await trio.sleep(2)
        nursery.cancel_scope.cancel()
    assert told == []
