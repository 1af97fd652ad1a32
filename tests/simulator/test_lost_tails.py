"""A leader that must announce a lost tail and does not is found; one that need not is not blamed (stores.py)."""

import pytest
from msgspec import structs

from bargetrio.raft.facts import TailLost
from bargetrio.raft.messages import AppendReply
from bargetrio.raft.roles import Leader
from bargetrio.raft.state import State
from bargetrio.simulator.memory import Breach, ToldLeader
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
    with pytest.raises(Breach, match="a lost tail is told"):
        cluster.world.run(12.0, 1_000_000)


@pytest.mark.parametrize("is_remembered", [True, False])
@pytest.mark.parametrize("is_back_before", [True, False])
def test_a_lost_tail_is_told_by_the_leader_of_a_later_term_to_which_it_was_acknowledged_before(
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
    assert list(stores.owed) == [(leader.node_id, liar.node_id)]
    if is_remembered:
        cluster.world.run(15.0, 1_000_000)
        assert stores.owed == {}
        assert cluster.referee.goals.counts["tail_lost_told"] == 1
    else:
        with pytest.raises(Breach, match="a lost tail is told"):
            cluster.world.run(15.0, 1_000_000)


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
    stores.owed[leader.node_id, liar.node_id].said += refusals
    for message in (*refusals[:3], late, *refusals[3:6]):
        stores.arrived(leader, message)
        core.role.round = 2 if message is late else core.role.round
        cluster.world.now += 0.001
    with pytest.raises(Breach, match="a lost tail is told"):
        stores.arrived(leader, refusals[6])


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
    told = memory.told[leader.node_id, core.current_term, memory.store].match_index
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
    memory.told = {(leader.node_id, term - 1, liar.store_id): ToldLeader(last, 0.0)}
    had = memory.disk
    assert len(had.digests) > last
    memory.disk = had._replace(digests=[*had.digests[:last], 1, 2])
    stores.found(liar, had._replace(digests=list(had.digests[: last - 1])))
    assert not stores.has_lost(leader, liar.node_id, last)
    assert stores.has_lost(leader, liar.node_id, last - 1)
