"""A node's replica makes a step at least once a second, so that one that hangs can be distinguished from an idle one."""

import trio
from trio.testing import MockClock

from bargetrio.node.stepping import Stepping
from bargetrio.transport.poller import TaskPoller
from tests.replica.hosts import Hosted, one_of_three


async def test_a_loop_with_nothing_to_do_still_turns(autojump_clock: MockClock) -> None:
    """Election time-outs of minutes: the watchdog must not take patience for a hang."""
    stepping = Stepping(Hosted(one_of_three(heartbeat_s=50, election_s=(300, 600))).replica)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(TaskPoller().drive, stepping.step)
        for _ in range(20):
            await trio.sleep(5.3)
            assert trio.current_time() - stepping.last_step <= 1.0
        nursery.cancel_scope.cancel()
