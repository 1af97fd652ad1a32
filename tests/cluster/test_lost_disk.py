"""A node whose folder is gone: refused at first, taken in on the operator's word, and without a vote until it has caught up."""

import shutil
from functools import partial
from pathlib import Path

import pytest
import trio

from bargetrio.node.port import NodeSettings
from bargetrio.node.server import Node
from bargetrio.protocol.errors import BargeError
from bargetrio.raft.snapshots import SnapshotPolicy
from bargetrio.storage.real_disk import RealDisk
from tests.cluster.house import House


class SavingHouse(House):
    """Its nodes save their state every 20 entries."""

    def make_node(self, node_id: int) -> Node:
        settings = NodeSettings(
            cluster="barge",
            node_id=node_id,
            listen=self.addresses[node_id],
            addresses=self.addresses,
            heartbeat_s=0.05,
            election_s=(0.3, 0.6),
            request_timeout_s=5.0,
            snapshot_policy=SnapshotPolicy(entries=20, trailing=5),
            chunk_bytes=200,
        )
        disk = RealDisk(self.folder / f"node-{node_id}")
        return Node(settings, disk=disk, sink=self.recorder, link_faults=self.link_faults)


def kinds(house: House, kind: str, node: int) -> int:
    """Return how often a node told this."""
    return house.recorder.counts.get((node, kind), 0)


async def test_a_lost_disk_is_refused_until_the_operator_says_so(tmp_path: Path) -> None:
    """Then the node has the whole state, votes again, and its old folder is the one that is refused."""
    async with SavingHouse(tmp_path).open() as house:
        leader = await house.leader()
        lost = (leader + 1) % 3
        for number in range(60):
            await house.put(f"k{number % 7}", f"{number}")
        await house.supervisor.kill(lost)
        (tmp_path / f"node-{lost}").rename(tmp_path / "old")
        await house.supervisor.revive(lost)
        await trio.sleep(0.8)
        view = house.supervisor.local_views()[lost]
        assert (view.state, view.last_applied) == ("running", 0)

        answer = await house.supervisor.readmit(lost)
        assert answer.changed
        await house.until(lambda: (house.supervisor.local_views()[lost].last_applied or 0) >= 60)
        assert kinds(house, "snapshot_installed", lost) == 1
        await house.until(lambda: kinds(house, "member_changed", lost) == 2)
        await house.until(lambda: not (tmp_path / f"node-{lost}" / "rejoining").exists())
        await house.supervisor.kill(leader)  # two are left, one of them the one that was lost: they need its vote
        assert await house.leader() != leader
        await house.put("after", "all")
        assert await house.get("k3") == "59"

        await house.supervisor.kill(lost)
        await house.supervisor.revive(leader)
        shutil.rmtree(tmp_path / f"node-{lost}")
        (tmp_path / "old").rename(tmp_path / f"node-{lost}")
        await house.supervisor.revive(lost)
        await trio.sleep(0.8)
        assert (house.supervisor.local_views()[lost].last_applied or 0) < 61


async def test_who_does_not_run_is_not_taken_in(tmp_path: Path) -> None:
    """It could not learn that it must abstain."""
    async with SavingHouse(tmp_path).open() as house:
        await house.leader()
        await house.supervisor.kill(2)
        with pytest.raises(BargeError, match="does not run") as refused:
            await house.supervisor.readmit(2)
        assert refused.value.code == "bad_request"
        with pytest.raises(BargeError, match="no node 7"):
            await house.supervisor.readmit(7)


async def test_a_node_that_rejoins_still_abstains_after_a_crash(tmp_path: Path) -> None:
    """The mark is on its disk before anybody lets it in."""
    async with SavingHouse(tmp_path).open() as house:
        leader = await house.leader()
        await house.put("k", "v")
        others = [node for node in range(3) if node != leader]
        lost = others[0]
        await house.supervisor.kill(lost)
        shutil.rmtree(tmp_path / f"node-{lost}")
        await house.supervisor.revive(lost)
        slot = house.supervisor._slots[lost]
        await slot.readmit(lost)  # the others were not told: it can't catch up
        await house.supervisor.kill(lost)
        await house.supervisor.revive(lost)
        assert (tmp_path / f"node-{lost}" / "rejoining").exists()
        await house.supervisor.kill(others[1])
        await trio.sleep(2)
        assert house.supervisor.local_views()[lost].role == "follower"
        assert house.supervisor.known_leader() is None


async def test_a_word_too_many_does_not_cost_the_cluster_its_majority(tmp_path: Path) -> None:
    """OWN-22: whoever is taken in abstains; if too many did at once, nobody could ever lead again."""
    async with SavingHouse(tmp_path).open() as house:
        leader = await house.leader()
        one, other = (node for node in range(3) if node != leader)
        with pytest.raises(BargeError, match=f"node {leader} leads") as refused:
            await house.supervisor.readmit(leader)
        assert refused.value.code == "bad_request"
        outcomes: list[str] = []

        async def take_in(node: int, *, local: bool) -> None:
            try:
                await house.supervisor.readmit(node, local=local)
                outcomes.append("abstains")
            except BargeError as problem:
                assert problem.code == "bad_request"
                outcomes.append(problem.detail)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(take_in, one, local=False))
            nursery.start_soon(partial(take_in, other, local=True))
        assert sorted(outcomes)[0] == "abstains"
        assert f"run, vote and follow the leader, node {leader}: 2 must" in sorted(outcomes)[1]
        await house.put("k", "v")
        await house.until(lambda: all(view.may_vote for view in house.supervisor.local_views()))
        await house.supervisor.kill(leader)
        await house.leader()
        assert await house.get("k") == "v"


async def test_without_a_leader_nobody_is_taken_in(tmp_path: Path) -> None:
    """Nobody could say what the cluster has committed."""
    async with SavingHouse(tmp_path).open() as house:
        leader = await house.leader()
        one, other = (node for node in range(3) if node != leader)
        await house.supervisor.kill(leader)
        await house.supervisor.kill(other)
        await house.until(lambda: house.supervisor.known_leader() is None)
        with pytest.raises(BargeError) as refused:
            await house.supervisor.readmit(one)
        assert refused.value.code == "no_leader"
