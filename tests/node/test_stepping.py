"""A node's replica makes a step at least once a second, so that one that hangs can be told from one that has nothing to do."""

from pathlib import Path

import trio
from trio.testing import MockClock

from bargetrio.node.server import Node
from bargetrio.node.settings import NodeSettings
from bargetrio.storage.real_disk import RealDisk
from bargetrio.transport.arrivals import TaskArrivals
from bargetrio.transport.faults import LinkFaults
from tests.replica.hosts import Hosted, Nobody
from tests.replica.test_steps import one_of_three


async def test_a_loop_with_nothing_to_do_still_turns(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Election time-outs of minutes: the watchdog must not take patience for a hang."""
    settings = NodeSettings(
        cluster="c", node_id=0, listen="127.0.0.1:1", addresses={}, heartbeat_s=50, election_s=(300, 600), request_timeout_s=1
    )
    node = Node(settings, disk=RealDisk(tmp_path), sink=Nobody(), link_faults=LinkFaults())
    node._replica = Hosted(one_of_three(heartbeat_s=50, election_s=(300, 600))).replica
    async with trio.open_nursery() as nursery:
        nursery.start_soon(TaskArrivals().drive, node._step)
        for _ in range(20):
            await trio.sleep(5.3)
            assert trio.current_time() - node.last_turn <= 1.0
        nursery.cancel_scope.cancel()
