"""Which rules still hold where a disk lost or altered synced data, and which violations are excused (damage.py)."""

from random import Random

import pytest

from bargetrio.raft.errors import ConsensusViolation, LogsDisagree
from bargetrio.raft.snapshot_state import SnapshotPolicy
from bargetrio.simulator import seed
from bargetrio.simulator.altered import alter
from bargetrio.simulator.cluster import SimulatedCluster
from bargetrio.simulator.damage import FOR_EVER, Damage
from bargetrio.simulator.memory import Breach, Committed, Excused
from tests.simulator.clusters import cluster_after, follower_of, leader_of


def test_a_lost_tail_that_others_hold_excuses_nothing() -> None:
    """A majority of disks that may be believed still has it: such a seed is judged as any other."""
    cluster = cluster_after()
    liar, stores = follower_of(cluster), cluster.referee.invariants.stores
    liar.disk.lie(2)
    cluster.world.run(6.0, 1_000_000)
    liar.crash(power=True)
    cluster.nemesis.revive(liar)
    assert stores.touched == {(liar.node_id, liar.store_id)}
    assert stores.damages == []
    assert cluster.referee.goals.counts["synced_tail_lost"] == 1
    cluster.world.run(12.0, 1_000_000)
    assert cluster.referee.goals.counts["tail_lost_told"] == 1
    assert cluster.referee.goals.counts["store_replaced"] == 1
    assert cluster.operator.can_spare(leader_of(cluster))


def test_a_folder_that_is_set_back_lacks_something_only_where_its_disk_has_written_since() -> None:
    """A copy that holds all that the disk held is none to reach a goal with, nor is it a tail that a disk has lost."""
    cluster = cluster_after()
    node, counts = follower_of(cluster), cluster.referee.goals.counts
    node.crash(power=False)
    cluster.nemesis.revive(node)
    node.keep_image()
    node.put_back(0)
    cluster.nemesis.revive(node)
    assert (counts["old_folder_lacks"], counts["synced_tail_lost"]) == (0, 0)
    cluster.world.run(8.0, 1_000_000)
    node.put_back(0)
    cluster.nemesis.revive(node)
    assert (counts["old_folder_lacks"], counts["synced_tail_lost"]) == (1, 0)


def test_a_lost_tail_that_made_the_majority_excuses_what_no_other_majority_held() -> None:
    """The leader and the liar held it alone: nobody can promise it any more. What the third node holds as well is demanded."""
    cluster = cluster_after()
    liar, leader, stores = follower_of(cluster), leader_of(cluster), cluster.referee.invariants.stores
    (cut_off,) = {0, 1, 2} - {liar.node_id, leader.node_id}
    cluster.network.links[leader.node_id][cut_off].is_cut = True
    liar.disk.lie(2)
    cluster.world.run(6.0, 1_000_000)
    assert leader.core is not None
    term, held = leader.core.current_term, len(cluster.referee.invariants._memory[cut_off].disk.digests)
    liar.crash(power=True)
    cluster.nemesis.revive(liar)
    ((first, until, forgotten_from, _),) = stores.damages
    assert held <= first <= leader.core.commit_index
    assert (until, forgotten_from) == (term, None)
    assert type(stores.without_entry("rule", "text", first, term)) is Excused
    assert type(stores.without_entry("rule", "text", first - 1, term)) is Breach
    assert type(stores.second_leader("rule", "text", term)) is Breach
    assert type(stores.at_a_halt("rule", "text")) is Breach


def test_a_damage_ends_with_an_entry_that_is_committed_in_a_later_term() -> None:
    """Nobody counts in that term what the disk had acknowledged before; a leader of an earlier one may."""
    damage = Damage(3, 7)
    earlier, later = [Committed(1, index, 7) for index in range(6)], [Committed(1, index, 7 + (index == 4)) for index in range(6)]
    assert [damage.excuses(index, 8, earlier) for index in range(6)] == [False, False, False, True, True, True]
    assert [damage.excuses(index, 8, later) for index in range(6)] == [False, False, False, False, False, True]
    assert [damage.excuses(index, 7, later) for index in range(6)] == [False, False, False, True, True, True]
    assert not damage.excuses_leader(7)


def test_a_disk_that_forgot_a_term_excuses_the_leaders_of_the_terms_that_it_may_enter_again() -> None:
    """It may vote for a second one, or follow one that it had left; later terms it has never been in."""
    damage = Damage(3, 7, 5)
    assert [damage.excuses_leader(term) for term in range(4, 9)] == [False, True, True, True, False]
    committed = [Committed(1, index, 8) for index in range(6)]
    assert [damage.excuses(1, term, committed) for term in range(4, 9)] == [False, True, True, True, False]


def test_a_folder_set_back_to_an_earlier_term_excuses_no_entry_that_the_others_hold() -> None:
    """It has forgotten a term and a vote; what is on a majority without it is as safe as before."""
    cluster = cluster_after()
    node, invariants = follower_of(cluster), cluster.referee.invariants
    node.keep_image()
    leader = leader_of(cluster)
    leader.crash(power=False)
    cluster.world.run(7.0, 1_000_000)
    cluster.nemesis.revive(leader)
    cluster.world.run(9.0, 1_000_000)
    assert node.core is not None
    term = node.core.current_term
    node.put_back(0)
    cluster.nemesis.revive(node)
    (damage,) = invariants.stores.damages
    before = invariants._memory[node.node_id].images[0][1].term
    assert before < term
    assert damage == Damage(len(invariants.committed), term, before, node.store_id)
    assert type(invariants.stores.second_leader("rule", "text", term)) is Excused
    assert type(invariants.stores.without_entry("rule", "text", len(invariants.committed) - 1, term + 1)) is Breach


def test_a_store_that_forgot_a_vote_may_vote_again_in_the_terms_that_it_forgot_alone() -> None:
    """Raft 5.2. A disk that has lost entries only has forgotten no vote, nor has the disk of another node."""
    cluster = cluster_after()
    node, stores, promises = follower_of(cluster), cluster.referee.invariants.stores, cluster.referee.invariants.promises
    (other,) = [each for each in cluster.servers if each not in (node, leader_of(cluster))]
    for server in (node, other):
        stores.touched.add((server.node_id, server.store_id))
    stores.damages += [Damage(1, 80), Damage(1, 80, 75, node.store_id)]
    for term in (75, 80):
        promises.note_vote(node, term, 0)
        promises.note_vote(node, term, 1)
    for server, term in ((node, 74), (node, 81), (other, 77)):
        promises.note_vote(server, term, 0)
        with pytest.raises(Breach, match="one vote a term"):
            promises.note_vote(server, term, 1)


def test_a_leader_without_a_committed_entry_is_found_where_no_disk_has_lost_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if no majority holds the entry any more: then somebody has deleted it."""
    cluster = cluster_after()
    invariants, node = cluster.referee.invariants, follower_of(cluster)
    last = invariants.committed[-1]
    invariants.committed.append(Committed(last.term, 1, last.in_term))
    monkeypatch.setattr(invariants.promises, "has_voted", lambda *arguments: True)
    with pytest.raises(Breach, match="leader completeness") as found:
        invariants._check_new_leader(node, last.term + 1)
    assert type(found.value) is Breach


@pytest.mark.parametrize("is_on_others", [True, False])
def test_an_altered_entry_is_excused_for_ever_only_where_no_majority_of_others_holds_it(is_on_others: bool) -> None:
    """What is lost behind it on the same disk is lost as any tail: until a later term commits something."""
    cluster = cluster_after()
    node, leader, invariants = follower_of(cluster), leader_of(cluster), cluster.referee.invariants
    (cut_off,) = {0, 1, 2} - {node.node_id, leader.node_id}
    assert node.core is not None
    node.core.snapshots.policy = SnapshotPolicy(entries=1000)
    cluster.world.run(5.5, 1_000_000)
    held = len(invariants._memory[cut_off].disk.digests) - 1
    cluster.network.links[leader.node_id][cut_off].is_cut = True
    cluster.world.run(6.0, 1_000_000)
    assert node.core.log.start_index < held < node.core.commit_index
    term, last, start = node.core.current_term, node.core.commit_index, node.core.log.start_index
    node.crash(power=False)
    index = alter(node.disk, Random(0), *((start, held) if is_on_others else (held, last)))
    assert index is not None
    invariants.stores.log_altered(node.node_id, index)
    cluster.nemesis.revive(node)
    altered, tail = Damage(index, FOR_EVER), Damage(held + 1 if is_on_others else index, term)
    assert invariants.stores.damages == ([tail] if is_on_others else [altered, tail])
    assert invariants.stores.altered_entry_may_win is not is_on_others
    assert type(invariants.stores.at_a_halt("rule", "text")) is (Breach if is_on_others else Excused)
    (other,) = (server for server in cluster.servers if server.node_id == cut_off)
    other.is_lost = True  # with it the majority whose logs are alike: the leader and this node do not agree
    assert type(invariants.stores.at_a_halt("rule", "text")) is Excused


@pytest.mark.parametrize(
    "problem",
    [Breach("lists see the past", "text"), Breach("equal stores", "text"), ConsensusViolation("text"), LogsDisagree("text")],
)
def test_what_clients_see_and_what_a_core_checks_is_judged_where_a_disk_lost_something_too(
    monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    """A loss that may cause it is found by the rules of leaders and commits, and ends the seed before.

    Where an altered entry may win, nodes with the right one stop; any other violation that a core finds is one.
    """

    def play(cluster: SimulatedCluster) -> None:
        cluster.referee.invariants.stores.damages.append(damage)
        raise problem

    monkeypatch.setattr(seed, "_play", play)
    damage = Damage(0, 100, 0)
    assert seed.run(0, 3).failure is not None
    damage = Damage(0, FOR_EVER)
    assert (seed.run(0, 3).failure is None) == isinstance(problem, LogsDisagree)


def test_an_entry_that_is_committed_without_the_leader_of_a_later_term_is_found() -> None:
    """Leader completeness holds whoever comes first: the election, or the leader's look at the acknowledgements."""
    cluster = cluster_after()
    invariants, leader = cluster.referee.invariants, leader_of(cluster)
    assert leader.core is not None
    term = leader.core.current_term
    invariants._began_with[term + 1] = [entry.digest for entry in invariants.committed]
    with pytest.raises(Breach, match="was elected without it"):
        cluster.world.run(8.0, 1_000_000)
