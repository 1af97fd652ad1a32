"""A leader that must announce a lost tail and does not is found; one that need not is not blamed (stores.py)."""

import pytest
from msgspec import structs

from bargetrio.raft.facts import MembersChanged, TailLost
from bargetrio.raft.messages import AppendReply, NodeId
from bargetrio.raft.progress import Progress
from bargetrio.raft.roles import Leader
from bargetrio.raft.snapshot_state import SnapshotPolicy
from bargetrio.raft.state import State
from bargetrio.simulator.memory import Breach, LeaderReplies
from tests.simulator.clusters import cluster_after, follower_of, leader_of


def test_a_leader_that_says_nothing_of_a_lost_tail_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two refusals of what it asked after the first one are proof."""
    monkeypatch.setattr("bargetrio.raft.demotion.suspect", lambda *arguments: True)
    cluster = cluster_after()
    liar = follower_of(cluster)
    liar.disk.lie(2)
    cluster.world.run(6.0, 1_000_000)
    liar.crash(power=True)
    cluster.nemesis.revive(liar)
    with pytest.raises(Breach, match="a lost tail is reported"):
        cluster.world.run(12.0, 1_000_000)


@pytest.mark.parametrize("is_remembered", [True, False])
@pytest.mark.parametrize("is_back_before", [True, False])
def test_a_lost_tail_is_reported_by_the_leader_of_a_later_term_to_which_it_was_acknowledged_before(
    monkeypatch: pytest.MonkeyPatch, is_remembered: bool, is_back_before: bool
) -> None:
    """The leader and the liar commit alone, and the liar is down or cut off while the leader loses office and wins it again."""
    if not is_remembered:
        monkeypatch.setattr(State, "_remember_acknowledged", lambda state, leader: None)
    cluster = cluster_after()
    liar, leader, stores, network = follower_of(cluster), leader_of(cluster), cluster.referee.invariants.stores, cluster.network
    (third,) = {0, 1, 2} - {liar.node_id, leader.node_id}
    network.links[leader.node_id][third].is_cut = True
    liar.disk.lie(2)
    cluster.world.run(6.0, 1_000_000)
    liar.crash(power=True)
    for other in (leader.node_id, third):
        network.links[liar.node_id][other].is_cut = network.links[other][liar.node_id].is_cut = True
    if is_back_before:
        cluster.nemesis.revive(liar)
    cluster.world.run(8.0, 1_000_000)
    assert leader.core is not None and not isinstance(leader.core.role, Leader)
    network.links[leader.node_id][third].is_cut = False
    cluster.world.run(11.0, 1_000_000)
    assert leader_of(cluster) is leader
    cluster.nemesis.revive(liar)
    for other in (leader.node_id, third):
        network.links[liar.node_id][other].is_cut = network.links[other][liar.node_id].is_cut = False
    assert list(stores.expected_reports) == [(leader.node_id, liar.node_id)]
    if is_remembered:
        cluster.world.run(15.0, 1_000_000)
        assert stores.expected_reports == {}
        assert cluster.referee.goals.counts["tail_lost_told"] == 1
    else:
        with pytest.raises(Breach, match="a lost tail is reported"):
            cluster.world.run(15.0, 1_000_000)


@pytest.mark.parametrize("is_asked", [True, False])
@pytest.mark.parametrize("is_another_term", [True, False])
def test_a_lost_tail_is_reported_by_a_leader_that_has_compacted_its_log_past_it(
    monkeypatch: pytest.MonkeyPatch, is_asked: bool, is_another_term: bool
) -> None:
    """OWN-184: the snapshot that it sends would hide the loss."""
    if not is_asked:
        monkeypatch.setattr(Progress, "may_lack_acknowledged", False)
    cluster = cluster_after()
    liar, leader, stores, network = follower_of(cluster), leader_of(cluster), cluster.referee.invariants.stores, cluster.network
    (third,) = {0, 1, 2} - {liar.node_id, leader.node_id}
    liar.disk.lie(2)
    cluster.world.run(6.0, 1_000_000)
    liar.crash(power=True)
    if is_another_term:
        network.links[leader.node_id][third].is_cut = True
        cluster.world.run(8.0, 1_000_000)
        assert leader.core is not None and not isinstance(leader.core.role, Leader)
        network.links[leader.node_id][third].is_cut = False
    cluster.world.run(16.0, 1_000_000)
    assert leader.core is not None and isinstance(leader.core.role, Leader)
    cluster.nemesis.revive(liar)
    (report,) = stores.expected_reports.values()
    assert report.is_earlier == is_another_term
    assert leader.core.role.progress[liar.node_id].state == "snapshot"
    if is_asked:
        cluster.world.run(19.0, 1_000_000)
        assert stores.expected_reports == {}
        assert cluster.referee.goals.counts["tail_lost_told"] == 1
    else:
        with pytest.raises(Breach, match="sends it a snapshot"):
            cluster.world.run(19.0, 1_000_000)


def test_an_acknowledgement_from_before_the_loss_that_comes_late_makes_the_refusals_so_far_no_proof(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The leader asks again then, in another round: lying disks, seed 2917. Two more refusals are one too many."""
    monkeypatch.setattr("bargetrio.raft.demotion.suspect", lambda *arguments: True)
    cluster = cluster_after()
    leader, liar = leader_of(cluster), follower_of(cluster)
    stores, core = cluster.referee.invariants.stores, leader.core
    assert core is not None and isinstance(core.role, Leader)
    liar.disk.lie(2)
    cluster.world.run(6.0, 1_000_000)
    liar.crash(power=True)
    cluster.nemesis.revive(liar)
    found = AppendReply(term=core.current_term, follower_id=liar.node_id, success=True, round=0)
    late = structs.replace(found, match_index=core.role.progress[liar.node_id].match_index + 1)
    refusals = [structs.replace(found, success=False, round=round) for round in range(7)]
    stores.expected_reports[leader.node_id, liar.node_id].replies += refusals
    for message in (*refusals[:3], late, *refusals[3:6]):
        stores.message_received(leader, message)
        core.role.round = 2 if message is late else core.role.round
        cluster.world.now += 0.001
    with pytest.raises(Breach, match="a lost tail is reported"):
        stores.message_received(leader, refusals[6])


def test_a_disk_that_lost_nothing_is_not_said_to_have_lost_something() -> None:
    """Nor is one that has taken entries of an altered log."""
    cluster = cluster_after()
    leader, follower = leader_of(cluster), follower_of(cluster)
    lost = TailLost(peer=follower.node_id, term=1, index=1)
    for _ in range(2):
        with pytest.raises(Breach, match="nobody is accused in error"):
            cluster.referee.fact(leader, lost)
        cluster.referee.invariants.stores.touched.add((follower.node_id, follower.store_id))


def test_a_disk_that_lost_entries_is_not_said_to_have_lost_others_or_what_it_did_not_acknowledge() -> None:
    """To the leader that says so, that is; what it acknowledged and lost may be told."""
    cluster = cluster_after()
    leader, liar = leader_of(cluster), follower_of(cluster)
    (third,) = [server for server in cluster.servers if server not in (leader, liar)]
    memory, core = cluster.referee.invariants._memory[liar.node_id], leader.core
    assert core is not None
    liar.disk.lie(2)
    cluster.world.run(6.0, 1_000_000)
    liar.crash(power=True)
    told = memory.replies[leader.node_id, core.current_term, memory.store].match_index
    cluster.nemesis.revive(liar)
    held = len(memory.disk.digests) - 1
    assert 0 < held < told
    for accuser, index in ((leader, held), (leader, told + 1), (third, told)):
        with pytest.raises(Breach, match="nobody is accused in error"):
            cluster.referee.fact(accuser, TailLost(peer=liar.node_id, term=core.current_term, index=index))
    for index in (held + 1, told):
        cluster.referee.fact(leader, TailLost(peer=liar.node_id, term=core.current_term, index=index))


def test_a_disk_is_not_said_to_have_lost_what_a_leader_of_a_later_term_had_deleted_before() -> None:
    """Raft 5.3: it was acknowledged in an earlier term, and not committed."""
    cluster = cluster_after()
    leader, liar = leader_of(cluster), follower_of(cluster)
    stores, memory, core = cluster.referee.invariants.stores, cluster.referee.invariants._memory[liar.node_id], leader.core
    assert core is not None
    term, last = core.current_term, core.log.last_index
    memory.replies = {(leader.node_id, term - 1, liar.store_id): LeaderReplies(last, 0.0)}
    had = memory.disk
    assert len(had.digests) > last
    memory.disk = had._replace(digests=[*had.digests[:last], 1, 2])
    stores.found(liar, had._replace(digests=list(had.digests[: last - 1])))
    assert not stores.has_lost(leader, liar.node_id, last)
    assert stores.has_lost(leader, liar.node_id, last - 1)


def test_what_a_store_acknowledged_is_demanded_also_if_the_entry_that_readmits_its_node_is_deleted() -> None:
    """OWN-181: it is remembered beside what the store after it has acknowledged, and is demanded when this one counts again."""
    cluster = cluster_after()
    leader, liar, invariants = leader_of(cluster), follower_of(cluster), cluster.referee.invariants
    stores, memory, core, store = invariants.stores, invariants._memory[leader.node_id], leader.core, liar.store_id
    assert core is not None and core.configuration is not None and isinstance(core.role, Leader)
    before, index = core.configuration, min(core.role.progress[liar.node_id].match_index, core.commit_index)
    assert index > 2
    cluster.referee.fact(leader, MembersChanged(peer=liar.node_id, term=core.current_term, index=index + 1, store="new"))
    core.configuration = structs.replace(before, stores={**before.stores, liar.node_id: "new"})
    memory.match[liar.node_id], memory.match_store[liar.node_id] = index - 1, "new"
    stores.left_office(leader)
    assert memory.acknowledged[liar.node_id, store] == index and memory.acknowledged[liar.node_id, "new"] == index - 1
    core.configuration = before
    disk = invariants._memory[liar.node_id].disk
    stores.found(liar, disk._replace(digests=list(disk.digests[:index])))
    stores.expected_reports.clear()
    stores.took_office(leader)
    assert [(pair, report.index) for pair, report in stores.expected_reports.items()] == [((leader.node_id, liar.node_id), index)]


@pytest.mark.parametrize("is_remembered", [True, False])
def test_a_lost_tail_is_reported_also_where_the_node_was_to_be_readmitted_with_another_disk(
    monkeypatch: pytest.MonkeyPatch, is_remembered: bool
) -> None:
    """OWN-181: the leader is cut off with the readmission, another deletes it, and an old copy of the first disk comes back."""
    note = State.note_acknowledged

    def note_one_store(state: State, peer: NodeId, progress: Progress) -> None:
        acknowledged = state.membership.acknowledged
        state.membership.acknowledged = {member: index for member, index in acknowledged.items() if member[0] != peer}
        note(state, peer, progress)

    if not is_remembered:
        monkeypatch.setattr(State, "note_acknowledged", note_one_store)
    cluster = cluster_after(5)
    node, leader, links = follower_of(cluster), leader_of(cluster), cluster.network.links
    assert leader.core is not None
    leader.core.snapshots.policy = SnapshotPolicy(entries=10_000, idle_s=1e9)
    node.keep_image()
    cluster.world.run(6.0, 1_000_000)
    node.lose_disk()
    cluster.nemesis.revive(node)
    cluster.world.run(6.5, 1_000_000)
    others = {0, 1, 2, 3, 4} - {leader.node_id, node.node_id}
    for other in others:
        links[leader.node_id][other].is_cut = links[other][leader.node_id].is_cut = True
    refusals: list[str] = []
    leader.call(lambda core, now: refusals.append(core.readmit(node.node_id, now)))
    cluster.world.run(6.6, 1_000_000)
    assert refusals == [""] and leader.core.membership.uncounted == node.node_id
    node.crash(power=False)
    cluster.world.run(9.0, 1_000_000)
    for other in others:
        links[leader.node_id][other].is_cut = links[other][leader.node_id].is_cut = False
    cluster.world.run(10.0, 1_000_000)
    assert leader.core.membership.uncounted is None
    leader_of(cluster).crash(power=False)
    cluster.world.run(11.5, 1_000_000)
    assert leader_of(cluster) is leader
    node.put_back(0)
    cluster.nemesis.revive(node)
    assert list(cluster.referee.invariants.stores.expected_reports) == [(leader.node_id, node.node_id)]
    if is_remembered:
        cluster.world.run(15.0, 1_000_000)
        assert cluster.referee.goals.counts["tail_lost_told"] == 1
    else:
        with pytest.raises(Breach, match="a lost tail is reported"):
            cluster.world.run(15.0, 1_000_000)
