"""Whether a daemon is ready: each of its nodes that no operator has killed takes part; and the reason where one does not."""

from contextlib import AbstractAsyncContextManager
from pathlib import Path

from bargetrio.node.running_node import RunningNode
from bargetrio.protocol.views import DiskFault, Faults, PeerView
from tests.cluster.harness import Harness


def peer(harness: Harness, of: int, peer_id: int) -> PeerView:
    """Return what node `of` says of its link to a peer."""
    return next(view for view in harness.local.view(of).peers if view.id == peer_id)


async def test_a_node_with_the_folder_of_another_cluster_is_not_ready_and_each_says_why(tmp_path: Path) -> None:
    """OWN-189: the other two have a leader; the node's link was refused, which stood in one event only."""
    async with Harness(tmp_path / "other").open() as other:
        await other.leader()
    async with Harness(tmp_path / "ours").open() as harness:
        await harness.until(lambda: harness.local.ready() == "")
        await harness.cluster.kill(2)
        await harness.until(lambda: harness.local.ready() == "")  # an operator has killed it
        (tmp_path / "ours" / "node-2").rename(tmp_path / "kept")
        (tmp_path / "other" / "node-2").rename(tmp_path / "ours" / "node-2")
        await harness.cluster.revive(2)
        foreign = "belongs to another cluster of this name"
        await harness.until(lambda: all(foreign in peer(harness, 2, other).refused for other in (0, 1)))
        await harness.until(lambda: all(foreign in peer(harness, other, 2).refused for other in (0, 1)))
        await harness.leader()
        view = harness.local.view(2)
        assert (view.state, view.may_vote) == ("running", True)
        refusals = f"{peer(harness, 2, 0).refused}; the handshake with node 1 is refused, too"
        assert view.reason == f"it has no leader with a quorum: {refusals}"
        await harness.until(lambda: harness.local.known_leader() is not None)
        await harness.until(lambda: harness.local.ready() == f"node 2 has no leader with a quorum: {refusals}")
        assert [harness.local.view(node_id).reason for node_id in (0, 1)] == ["", ""]

        await harness.cluster.kill(1)
        told = [f"node 0 has none: {peer(harness, 0, 2).refused}", f"node 2 has none: {peer(harness, 2, 0).refused}"]
        await harness.until(lambda: harness.local.ready() == "; ".join(["no leader with a quorum is known", *told]))
        await harness.cluster.revive(1)
        await harness.cluster.kill(2)
        (tmp_path / "ours" / "node-2").rename(tmp_path / "foreign")
        (tmp_path / "kept").rename(tmp_path / "ours" / "node-2")
        await harness.cluster.revive(2)
        await harness.until(lambda: harness.local.ready() == "")
        for pair in ((0, 2), (2, 0), (1, 2), (2, 1)):  # each is told until that link is dialled again
            await harness.until(lambda pair=pair: peer(harness, *pair).refused == "")  # type: ignore[misc]


async def test_a_node_that_crashed_is_reported_until_it_is_revived_or_killed(tmp_path: Path) -> None:
    """OWN-189: the other two are a majority, and the daemon answered that it is ready."""
    async with Harness(tmp_path).open() as harness:
        await harness.until(lambda: harness.local.ready() == "")
        victim = (await harness.leader() + 1) % 3
        await harness.cluster.set_faults(Faults(disks=[DiskFault(node=victim, error="EIO")]))
        await harness.put("a")
        await harness.until(lambda: harness.local.slots[victim].state == "crashed")
        await harness.until(lambda: harness.local.ready() == f"node {victim} crashed: {harness.state(victim)[1]}")
        await harness.cluster.set_faults(Faults())
        await harness.cluster.revive(victim)
        await harness.until(lambda: harness.local.ready() == "")


async def test_a_node_that_does_not_hear_its_leader_is_reported(tmp_path: Path) -> None:
    """Its daemon knows a leader by its other nodes. Without any leader there is one reason for all."""
    async with Harness(tmp_path).open() as harness:
        leader = await harness.leader()
        cut_off, third = (node_id for node_id in range(3) if node_id != leader)
        await harness.cluster.set_faults(Faults(groups=[[leader, third], [cut_off]]))
        await harness.until(lambda: harness.local.ready() == f"node {cut_off} has no leader with a quorum")
        await harness.cluster.set_faults(Faults(groups=[[0], [1], [2]]))
        await harness.until(lambda: harness.local.ready() == "no leader with a quorum is known")
        await harness.cluster.set_faults(Faults())
        await harness.until(lambda: harness.local.ready() == "")


async def test_a_new_node_of_another_clusters_name_reports_the_refusal(tmp_path: Path) -> None:
    """OWN-190: it said only which nodes it has not met."""
    harness = Harness(tmp_path)

    def open_node(node_id: int) -> AbstractAsyncContextManager[RunningNode]:
        harness.settings["cluster"] = "other" if node_id == 2 else "barge"
        return harness.open_node(node_id)

    harness.node_of = open_node
    async with harness.open():
        met = "the cluster is not born, for it has not met node"
        ours = f"{met} 2; bargetrio bootstrap does without; refused by node 2: this is cluster 'other', not 'barge'"
        refusal = "refused by node 0: this is cluster 'barge', not 'other'; the handshake with node 1 is refused, too"
        theirs = f"{met} 0, 1; bargetrio bootstrap does without; {refusal}"
        wanted = [ours, ours, theirs]
        await harness.until(lambda: [view.reason for view in harness.local.views()] == wanted)
        told = [f"node {node_id} takes no part in elections: {reason}" for node_id, reason in enumerate(wanted)]
        assert harness.local.ready() == "; ".join(told)
