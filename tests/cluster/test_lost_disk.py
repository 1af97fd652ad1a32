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
from bargetrio.protocol.requests import PutAnswer
from bargetrio.protocol.views import Faults, LinkFault
from bargetrio.raft.snapshot_state import SnapshotPolicy
from bargetrio.storage.real_disk import RealDisk
from bargetrio.transport.network import Connection
from bargetrio.transport.peer_link import REDIAL_REFUSED_S
from bargetrio.transport.sockets import SocketNetwork
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


async def test_a_new_disk_whose_node_was_stopped_is_not_readmitted(tmp_path: Path) -> None:
    """OWN-186: its folder may be another one when the node is started again. The leader knows when it dials the next time."""
    async with saving_house(tmp_path).open() as harness:
        leader = await harness.leader()
        lost = (leader + 1) % 3
        await harness.put("before", "1")
        await harness.cluster.kill(lost)
        (tmp_path / f"node-{lost}").rename(tmp_path / "old")
        await harness.cluster.revive(lost)
        await harness.until(lambda: f"readmit {lost}" in harness.local.views()[lost].reason)
        await trio.sleep(REDIAL_REFUSED_S[1])
        await harness.cluster.kill(lost)
        await trio.sleep(2 * REDIAL_REFUSED_S[1])
        shutil.rmtree(tmp_path / f"node-{lost}")
        with pytest.raises(BargeError, match=f"node {lost} has not connected yet"):
            await harness.cluster.readmit(lost)
        (tmp_path / "old").rename(tmp_path / f"node-{lost}")
        await harness.cluster.revive(lost)
        answer = await harness.put("after", "2")
        await harness.until(lambda: (harness.local.views()[lost].last_applied or 0) >= answer.index)


@pytest.mark.long
async def test_a_node_that_was_down_learns_of_a_readmission_when_it_runs_and_refuses_the_old_disk(tmp_path: Path) -> None:
    """Of five only the readmitted node can tell it: the leader of then is cut off from it, and the other two are stopped."""
    async with Harness(tmp_path, 5, request_timeout_s=8.0).open(within_s=60) as harness:
        leader = await harness.leader()
        lost, down, *others = (node for node in range(5) if node != leader)
        await harness.put("before", "1")
        await harness.cluster.kill(down)
        await harness.cluster.kill(lost)
        (tmp_path / f"node-{lost}").rename(tmp_path / "old")
        await harness.cluster.revive(lost)
        await readmitted(harness, lost)
        await harness.until(lambda: harness.local.views()[lost].may_vote is True)

        for node in others:
            await harness.cluster.kill(node)
        cut = [LinkFault(source=one, target=other, cut=True) for one, other in ((leader, down), (down, leader))]
        await harness.cluster.set_faults(Faults(links=cut))
        await harness.cluster.revive(down)
        answer = await written(harness, "after")
        known = harness.local.known_leader()
        assert known is not None and (known.leader, known.term) == (lost, answer.term)
        await harness.until(lambda: (harness.local.views()[down].last_applied or 0) >= answer.index)

        await harness.cluster.set_faults(Faults())
        await harness.cluster.kill(lost)
        shutil.rmtree(tmp_path / f"node-{lost}")
        (tmp_path / "old").rename(tmp_path / f"node-{lost}")
        before = len(refusals(harness, down, lost))
        await harness.cluster.revive(lost)
        reason = f"node {lost} has another store than before"
        await harness.until(lambda: any(reason in told for told in refusals(harness, down, lost)[before:]))
        with pytest.raises(BargeError) as refused:
            await harness.put("without", "a majority")
        assert refused.value.code in ("no_leader", "outcome_unknown")
        assert (harness.local.views()[lost].last_applied or 0) < answer.index
        await harness.cluster.revive(others[0])
        assert (await written(harness, "again")).index > answer.index


async def readmitted(harness: Harness, node: int) -> None:
    """Readmit a node, asking again while nobody leads or the outcome is unknown, as on a busy machine."""
    while True:
        try:
            await harness.cluster.readmit(node)
            return
        except BargeError as problem:
            assert problem.code in ("no_leader", "outcome_unknown")


async def written(harness: Harness, key: str) -> PutAnswer:
    """Write a key, asking again while there is no leader."""
    while True:
        try:
            return await harness.put(key)
        except BargeError as problem:
            assert problem.code in ("no_leader", "outcome_unknown")


def refusals(harness: Harness, node: int, peer: int) -> list[str]:
    """Return what a node has recorded of the links to a peer that were refused or ended."""
    page = harness.recorder.page(0, nodes=frozenset({node}), kinds=frozenset({"link_down"}), limit=100_000)
    events = [harness.recorder.event(kept) for kept in page.events]
    return [event.detail["reason"] for event in events if event.peer == peer]


class CountingNetwork(SocketNetwork):
    """Counts the dials."""

    dials = 0

    async def connect(self, host: str, port: int) -> Connection:
        self.dials += 1
        return await super().connect(host, port)


def connected(harness: Harness, node: int) -> list[int | None]:
    """Return the peers to which a node has recorded a new connection."""
    page = harness.recorder.page(0, nodes=frozenset({node}), kinds=frozenset({"link_up"}), limit=100_000)
    return [harness.recorder.event(kept).peer for kept in page.events]


async def test_a_node_whose_new_disk_is_refused_learns_why_once_from_each_peer(tmp_path: Path) -> None:
    """BUG-182: it dialled again at once, for ever, and each connection was recorded as one that is up, and ended."""
    async with saving_house(tmp_path).open() as harness:
        leader = await harness.leader()
        await harness.put("k", "v")
        lost = (leader + 1) % 3
        others = [node for node in range(3) if node != lost]
        await harness.cluster.kill(lost)
        shutil.rmtree(tmp_path / f"node-{lost}")
        network = CountingNetwork()
        harness.network_of = lambda node_id: network
        before = {peer: len(refusals(harness, lost, peer)) for peer in others}
        ups = len(connected(harness, lost))
        await harness.cluster.revive(lost)
        await harness.until(lambda: all(len(refusals(harness, lost, peer)) > before[peer] for peer in others))
        network.dials = 0
        await trio.sleep(2.0)
        assert 2 <= network.dials <= 8, "two peers, each every 0.5 to 1 s"
        reason = f"node {lost} has another store than before: bargetrio readmit {lost} takes this one in; see docs/operations.md"
        for peer in others:
            assert refusals(harness, lost, peer)[before[peer] :] == [f"refused by node {peer}: {reason}"]
        assert connected(harness, lost)[ups:] == []
        await readmitted(harness, lost)
        await harness.until(lambda: set(connected(harness, lost)[ups:]) == set(others))


async def test_a_node_with_a_new_disk_and_another_list_of_nodes_is_not_readmitted(tmp_path: Path) -> None:
    """OWN-187: both lists are named by the command, in the events, and by the node itself; the right list helps."""
    async with saving_house(tmp_path).open() as harness:
        leader = await harness.leader()
        await harness.put("k", "v")
        lost = (leader + 1) % 3
        await harness.cluster.kill(lost)
        shutil.rmtree(tmp_path / f"node-{lost}")
        right = harness.addresses
        harness.addresses = {**right, 3: "127.0.0.1:1"}
        await harness.cluster.revive(lost)
        reason = (
            f"node {lost}'s configuration names nodes 0, 1, 2, 3, and the members of this cluster are nodes 0, 1, 2:"
            " they must be the same; see docs/operations.md"
        )
        here = (
            f"node {leader} belongs to a cluster of nodes 0, 1, 2, and the configuration here names nodes 0, 1, 2, 3:"
            " they must be the same; see docs/operations.md"
        )
        await harness.until(lambda: reason in refusals(harness, leader, lost))
        await harness.until(lambda: here in refusals(harness, lost, leader))
        assert "the configuration here names nodes 0, 1, 2, 3" in harness.local.ready()
        with pytest.raises(BargeError, match=reason):
            await harness.cluster.readmit(lost)
        await harness.cluster.kill(lost)
        shutil.rmtree(tmp_path / f"node-{lost}")
        harness.addresses = right
        await harness.cluster.revive(lost)
        await readmitted(harness, lost)
        await harness.until(lambda: harness.local.views()[lost].may_vote is True)


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
