"""A node whose folder is lost: refused at first, readmitted by an operator, and without a vote until it has caught up."""

import shutil
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

import pytest
import trio

from bargetrio.node.opening import open_node
from bargetrio.node.server import Node
from bargetrio.node.settings import NodeSettings
from bargetrio.protocol.errors import BargeError
from bargetrio.raft.snapshot_state import SnapshotPolicy
from bargetrio.storage.real_disk import RealDisk
from tests.cluster.harness import Harness


def saving_house(folder: Path) -> Harness:
    """A harness whose nodes save their state every 20 entries."""
    return Harness(folder, snapshot_policy=SnapshotPolicy(entries=20, trailing=5), chunk_bytes=200)


def patient_house(folder: Path) -> Harness:
    """A harness whose leader stays on a busy machine: only the leader of the time knows what a follower acknowledged."""
    return Harness(folder, request_timeout_s=8.0, election_s=(2.0, 4.0))


def kinds(harness: Harness, kind: str, node: int) -> int:
    """Return how often a node recorded this fact."""
    return harness.recorder.counts.get((node, kind), 0)


async def test_a_lost_disk_is_refused_until_the_operator_says_so(tmp_path: Path) -> None:
    """Then the node has the whole state, votes again, and its old folder is the one that is refused."""
    async with saving_house(tmp_path).open() as harness:
        leader = await harness.leader()
        lost = (leader + 1) % 3
        for number in range(60):
            await harness.put(f"k{number % 7}", f"{number}")
        await harness.cluster.kill(lost)
        (tmp_path / f"node-{lost}").rename(tmp_path / "old")
        await harness.cluster.revive(lost)
        await trio.sleep(0.8)
        view = harness.local.views()[lost]
        assert (view.state, view.last_applied) == ("running", 0)

        answer = await harness.cluster.readmit(lost)
        assert answer.changed
        assert not (await harness.cluster.readmit(lost)).changed, "it is a member with this disk already"
        await harness.until(lambda: (harness.local.views()[lost].last_applied or 0) >= 60)
        assert kinds(harness, "snapshot_installed", lost) == 1
        await harness.until(lambda: harness.local.views()[lost].may_vote is True)
        await harness.cluster.kill(leader)  # two are left, one of them the one that was lost: they need its vote
        assert await harness.leader() != leader
        await harness.put("after", "all")
        assert await harness.get("k3") == "59"

        await harness.cluster.kill(lost)
        await harness.cluster.revive(leader)
        shutil.rmtree(tmp_path / f"node-{lost}")
        (tmp_path / "old").rename(tmp_path / f"node-{lost}")
        await harness.cluster.revive(lost)
        await trio.sleep(0.8)
        assert (harness.local.views()[lost].last_applied or 0) < 61


async def test_a_node_that_has_not_connected_with_a_new_disk_is_not_readmitted(tmp_path: Path) -> None:
    """The new disk is not known; and a member with its disk needs no readmission."""
    async with saving_house(tmp_path).open() as harness:
        leader = await harness.leader()
        one = (leader + 1) % 3
        assert not (await harness.cluster.readmit(one)).changed
        with pytest.raises(BargeError, match=f"node {leader} leads: its disk is in use") as refused:
            await harness.cluster.readmit(leader)
        assert refused.value.code == "bad_request"
        with pytest.raises(BargeError, match="no node 7"):
            await harness.cluster.readmit(7)


async def test_a_node_that_is_taken_in_abstains_until_its_folder_says_so(tmp_path: Path) -> None:
    """A crash between the entry and its admission does not make it vote too early; it then continues."""
    async with saving_house(tmp_path).open() as harness:
        leader = await harness.leader()
        await harness.put("k", "v")
        lost = (leader + 1) % 3
        await harness.cluster.kill(lost)
        shutil.rmtree(tmp_path / f"node-{lost}")
        await harness.cluster.revive(lost)
        assert harness.local.views()[lost].may_vote is False
        assert f"node {lost} takes no part in elections" in harness.local.ready()
        await harness.cluster.kill(lost)
        await harness.cluster.revive(lost)
        assert harness.local.views()[lost].may_vote is False
        assert (await harness.cluster.readmit(lost)).changed
        await harness.until(lambda: harness.local.views()[lost].may_vote is True)
        await harness.cluster.kill(lost)
        await harness.cluster.revive(lost)
        assert harness.local.views()[lost].may_vote is True


async def test_without_a_majority_of_the_others_no_node_is_readmitted(tmp_path: Path) -> None:
    """OWN-22: with two lost disks of three the committed entries are not known; a later request works."""
    async with saving_house(tmp_path).open() as harness:
        leader = await harness.leader()
        one, other = (node for node in range(3) if node != leader)
        await harness.cluster.kill(one)
        shutil.rmtree(tmp_path / f"node-{one}")
        await harness.cluster.revive(one)
        await trio.sleep(0.3)
        await harness.cluster.kill(other)
        with pytest.raises(BargeError) as refused:
            await harness.cluster.readmit(one)
        assert refused.value.code in ("outcome_unknown", "no_leader")
        await harness.cluster.revive(other)
        await harness.leader()
        await harness.cluster.readmit(one)
        await harness.until(lambda: harness.local.views()[one].may_vote is True)


async def test_a_follower_whose_disk_lost_its_last_entries_is_taken_in_by_itself(tmp_path: Path) -> None:
    """The leader detects it; it abstains, and is readmitted with another store, without an operator."""
    async with patient_house(tmp_path).open() as harness:
        leader = await harness.leader()
        lost = (leader + 1) % 3
        await harness.put("before", "1")
        shutil.copytree(tmp_path / f"node-{lost}", tmp_path / "copy")
        for number in range(20):
            await harness.put(f"k{number}", "v")
        await harness.until(lambda: (harness.local.views()[lost].last_applied or 0) >= 20)
        await harness.cluster.kill(lost)
        shutil.rmtree(tmp_path / f"node-{lost}")
        (tmp_path / "copy").rename(tmp_path / f"node-{lost}")
        await harness.cluster.revive(lost)
        await harness.until(lambda: kinds(harness, "tail_lost", leader) == 1)
        await harness.until(lambda: kinds(harness, "members_changed", leader) == 1)
        await harness.until(lambda: harness.local.views()[lost].may_vote is True)
        await harness.until(lambda: (harness.local.views()[lost].last_applied or 0) >= 20)


async def test_another_nodes_list_makes_no_second_cluster(tmp_path: Path) -> None:
    """A node that leads itself by a wrong configuration is born alone, and refused in words by the others."""
    async with Harness(tmp_path).open() as harness:
        await harness.leader()
        await harness.cluster.kill(2)
        shutil.rmtree(tmp_path / "node-2")
        harness.node_of = partial(alone, harness)
        await harness.cluster.revive(2)
        await trio.sleep(1.0)
        view = harness.local.views()[2]
        assert view.role == "leader", "by itself it is a cluster of one"
        leader = harness.local.known_leader()
        assert leader is not None and leader.leader != 2
        await harness.put("x", "1")
        await harness.cluster.kill(2)
        harness.node_of = harness.open_node
        with pytest.raises(BargeError, match="one of a cluster of nodes 2; the configuration names nodes 0, 1, 2"):
            await harness.cluster.revive(2)


def alone(harness: Harness, node_id: int) -> AbstractAsyncContextManager[Node]:
    """Open a node whose configuration has no other node."""
    settings = NodeSettings(
        cluster="barge",
        node_id=node_id,
        listen=harness.addresses[node_id],
        addresses={node_id: harness.addresses[node_id]},
        heartbeat_s=0.05,
        election_s=(0.3, 0.6),
        request_timeout_s=5.0,
    )
    disk = RealDisk(harness.folder / f"node-{node_id}")
    return open_node(settings, disk=disk, sink=harness.recorder, link_faults=harness.link_faults)


async def test_without_a_leader_no_node_is_readmitted(tmp_path: Path) -> None:
    """Nobody could say what the cluster has committed."""
    async with saving_house(tmp_path).open() as harness:
        leader = await harness.leader()
        one, other = (node for node in range(3) if node != leader)
        await harness.cluster.kill(leader)
        await harness.cluster.kill(other)
        await harness.until(lambda: harness.local.known_leader() is None)
        with pytest.raises(BargeError) as refused:
            await harness.cluster.readmit(one)
        assert refused.value.code == "no_leader"
