"""`bootstrap` at a daemon: the answer says that the set of members is on the disk, or what is known instead."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
import trio
from msgspec import structs

from bargetrio.cluster.cluster import Cluster
from bargetrio.cluster.daemons import Daemons
from bargetrio.cluster.local_nodes import CAUGHT_UP_ENTRIES
from bargetrio.node.running_node import RunningNode
from bargetrio.node.status import Belief, NodeStatus
from bargetrio.protocol.errors import BargeError
from tests.cluster.harness import one_daemon


class ScriptedNode:
    """A node that answers `bootstrap` and `readmit` as the test has it; its folder is one of an earlier version, which votes."""

    def __init__(self, *answers: str | None, born_after_s: float = float("inf")) -> None:
        """`answers`: one a call, the last one again and again; None: it does not answer."""
        self._answers = list(answers)
        self._born_at = trio.current_time() + born_after_s

    async def run(self) -> None:
        await trio.sleep_forever()

    async def bootstrap(self) -> str:
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return await trio.sleep_forever() if answer is None else answer

    async def readmit(self, node_id: int) -> str:
        return await self.bootstrap()

    def status(self) -> NodeStatus:
        numbers = dict.fromkeys(
            (
                "term",
                "commit_index",
                "last_applied",
                "lag",
                "last_log_index",
                "last_log_term",
                "log_start",
                "snapshot_index",
                "keys",
            ),
            1,
        )
        return NodeStatus(
            role="leader",
            voted_for=None,
            leader=0,
            has_quorum=True,
            is_born=trio.current_time() >= self._born_at,
            is_catching_up=False,
            may_vote=True,
            abstains="",
            refusals="",
            peers=[],
            **cast(Any, numbers),
        )

    def belief(self) -> Belief:
        return Belief(term=1, leader=0, has_quorum=True, leads=True)

    def fence(self) -> None: ...


@asynccontextmanager
async def daemon_of(node: ScriptedNode, *broken: int) -> AsyncIterator[Cluster]:
    """A daemon that runs this node of three, beside some whose disks are not there."""

    @asynccontextmanager
    async def open_node(node_id: int) -> AsyncIterator[RunningNode]:
        if node_id in broken:
            raise OSError("no such device")
        yield cast(RunningNode, node)

    apis = {node_id: f"api-{node_id}:1" for node_id in range(3)}
    cluster = one_daemon(
        apis=apis, local_ids=[*broken, len(broken)], daemons=Daemons({}, None, cluster="barge"), open_node=open_node
    )
    async with trio.open_nursery() as nursery:
        await cluster.local.start(nursery)
        yield cluster
        nursery.cancel_scope.cancel()


async def test_it_is_done_when_the_set_is_on_the_disk(autojump_clock: trio.testing.MockClock) -> None:
    """Not when the node votes: one of an earlier version always did."""
    began = trio.current_time()
    async with daemon_of(ScriptedNode("", born_after_s=1.0)) as cluster:
        assert (await cluster.bootstrap()).node == 0
    assert 1.0 <= trio.current_time() - began < 1.2


async def test_a_node_that_runs_is_asked_though_a_lower_one_waits_for_its_disk(autojump_clock: trio.testing.MockClock) -> None:
    """It was refused as long as that node was down: two of three could not begin."""
    async with daemon_of(ScriptedNode("", born_after_s=1.0), 0) as cluster:
        assert (await cluster.bootstrap()).node == 1


async def test_what_is_not_on_the_disk_in_time_is_unknown(autojump_clock: trio.testing.MockClock) -> None:
    """Its disk may hang: the set may be written later."""
    async with daemon_of(ScriptedNode("")) as cluster:
        with pytest.raises(BargeError, match="has not written the birth set") as failed:
            await cluster.bootstrap()
    assert (failed.value.code, failed.value.applied) == ("outcome_unknown", None)


async def test_a_node_that_does_not_answer_may_do_it_later(autojump_clock: trio.testing.MockClock) -> None:
    """Also where it has refused before: the last question is still with it."""
    for answers in ((None,), ("1 of 3 members are here", None)):
        async with daemon_of(ScriptedNode(*answers)) as cluster:
            for ask in (cluster.bootstrap, lambda: cluster.readmit(1)):
                with pytest.raises(BargeError) as failed:
                    await ask()
                assert failed.value.code == "outcome_unknown"


async def test_a_refusal_has_the_nodes_reason(autojump_clock: trio.testing.MockClock) -> None:
    """Once the time is over in which members may come; at once where the cluster is born."""
    began = trio.current_time()
    async with daemon_of(ScriptedNode("1 of 3 members are here")) as cluster:
        with pytest.raises(BargeError, match="1 of 3 members") as failed:
            await cluster.bootstrap()
    assert failed.value.code == "bad_request" and trio.current_time() - began > 2
    began = trio.current_time()
    async with daemon_of(ScriptedNode("node 0 belongs to a cluster already", born_after_s=0)) as cluster:
        with pytest.raises(BargeError, match="belongs to a cluster already") as failed:
            await cluster.bootstrap()
    assert failed.value.code == "bad_request" and trio.current_time() - began < 1


async def test_a_node_that_lacks_committed_entries_is_not_ready(autojump_clock: trio.testing.MockClock) -> None:
    """However far its own commit index is: that says nothing of what its leader has and it has not."""

    class Behind(ScriptedNode):
        def status(self) -> NodeStatus:
            return structs.replace(super().status(), lag=CAUGHT_UP_ENTRIES + 1)

    async with daemon_of(Behind("")) as cluster:
        assert cluster.local.ready() == "node 0 is still catching up: it lacks 1001 entries"

    class Begins(ScriptedNode):
        def status(self) -> NodeStatus:
            return structs.replace(super().status(), lag=2, is_catching_up=True)

    async with daemon_of(Begins("")) as cluster:
        assert cluster.local.ready() == "node 0 is still catching up: it lacks 2 entries", "of a mebibyte each, perhaps"
