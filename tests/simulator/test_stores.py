"""What ring 1 makes of disks that are lost, lie, go back in time, or hold another log, and what its operator does."""

from random import Random

import pytest
from msgspec import structs

from bargetrio.kv.commands import encode_command
from bargetrio.protocol.requests import Put
from bargetrio.raft.errors import ConsensusViolation
from bargetrio.raft.facts import LogsDiffer, TailLost
from bargetrio.raft.messages import AppendReply, Command, Entry
from bargetrio.raft.records import Append, HardState
from bargetrio.raft.roles import Leader
from bargetrio.raft.standing import REPLACED, Standing
from bargetrio.raft.state import State
from bargetrio.simulator import seed
from bargetrio.simulator.altered import alter, newest_snapshot
from bargetrio.simulator.campaign import SIZES
from bargetrio.simulator.cluster import SimulatedCluster
from bargetrio.simulator.damage import FOR_EVER, Damage
from bargetrio.simulator.disk import SimulatedDisk
from bargetrio.simulator.memory import Breach, Committed, Excused
from bargetrio.simulator.plan import INSTEAD, KINDS, LATER_KINDS, NEEDS_THREE, RARE, draw
from bargetrio.simulator.server import Server
from bargetrio.simulator.world import World
from tests.storage.logs import digest, open_log


def _cluster(nodes: int = 3, until: float = 5.0) -> SimulatedCluster:
    """A cluster without faults that has run for a while."""
    cluster = SimulatedCluster(3, nodes, frozenset(), keep=False)
    cluster.world.run(until, 1_000_000)
    return cluster


def _leader(cluster: SimulatedCluster) -> Server:
    return next(server for server in cluster.servers if server.core is not None and isinstance(server.core.role, Leader))


def _follower(cluster: SimulatedCluster) -> Server:
    return next(server for server in cluster.servers if server.core is not None and not isinstance(server.core.role, Leader))


def test_a_node_whose_disk_is_lost_is_taken_in_and_no_other_disk_is_lost_before() -> None:
    """Then it is in order under another store, and the next disk may go."""
    cluster = _cluster()
    lost, (other, _) = _follower(cluster), [server for server in cluster.servers if server is not _follower(cluster)]
    before = lost.store_id
    assert cluster.operator.can_spare(lost)
    lost.lose_disk()
    cluster.nemesis.revive(lost)
    cluster.operator.take_in(lost)
    assert not cluster.operator.can_spare(other)
    assert cluster.operator.can_spare(lost)
    cluster.world.run(10.0, 1_000_000)
    assert cluster.operator.needing == {}
    assert cluster.operator.can_spare(other)
    assert lost.store_id not in ("", before)
    assert cluster.referee.goals.counts["taken_in"] == 1


def test_while_a_disk_lies_and_until_its_node_has_started_again_no_other_is_lost() -> None:
    """Those would be two disks of three, lying disks, seed 6099; the same where a log was altered and nobody has read it yet."""
    cluster = _cluster()
    operator, (liar, altered, other) = cluster.operator, cluster.servers
    assert operator.can_spare_for_good(other)
    liar.disk.lie(2)
    assert not operator.can_spare(other) and not operator.can_spare_for_good(other)
    cluster.world.run(6.0, 1_000_000)
    liar.crash(power=True)
    assert not liar.disk.lies
    assert not operator.can_spare(other) and not operator.can_spare_for_good(other)
    cluster.nemesis.revive(liar)
    cluster.world.run(12.0, 1_000_000)
    assert operator.can_spare(other) and operator.can_spare_for_good(other)
    altered.crash(power=False)
    cluster.referee.invariants.stores.log_altered(altered.node_id, 1)
    assert not operator.can_spare(other) and not operator.can_spare_for_good(other)


def test_a_node_that_came_back_with_the_folder_of_an_earlier_store_gets_an_empty_one_and_is_taken_in() -> None:
    """It believes that it votes, and the others refuse it: the operator asks the leader, as docs/operations.md says."""
    cluster = _cluster()
    node = _follower(cluster)
    node.keep_image()
    node.lose_disk()
    cluster.nemesis.revive(node)
    cluster.operator.take_in(node)
    cluster.world.run(10.0, 1_000_000)
    assert cluster.referee.invariants.membership.is_in_order(node.node_id)
    node.put_back(0)
    cluster.nemesis.revive(node)
    cluster.world.run(11.0, 1_000_000)
    assert node.core is not None
    assert (node.core.may_vote, cluster.referee.invariants.membership.is_in_order(node.node_id)) == (True, False)
    cluster.operator.take_in(node)
    cluster.world.run(18.0, 1_000_000)
    assert cluster.referee.invariants.membership.is_in_order(node.node_id)
    assert (cluster.operator.needing, cluster.referee.goals.counts["taken_in"]) == ({}, 2)


def test_a_lost_tail_that_others_hold_excuses_nothing() -> None:
    """A majority of disks that may be believed still has it: such a seed is judged as any other."""
    cluster = _cluster()
    liar, stores = _follower(cluster), cluster.referee.invariants.stores
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
    assert cluster.operator.can_spare(_leader(cluster))


def test_a_folder_that_is_set_back_lacks_something_only_where_its_disk_has_written_since() -> None:
    """A copy that holds all that the disk held is none to reach a goal with, nor is it a tail that a disk has lost."""
    cluster = _cluster()
    node, counts = _follower(cluster), cluster.referee.goals.counts
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


@pytest.mark.parametrize("is_cut", [False, True])
def test_a_starved_leader_that_is_cut_off_leaves_and_one_that_is_not_stays(is_cut: bool) -> None:
    """Its pauses are shorter than an election timeout, and heartbeats come through between them."""
    cluster = _cluster()
    leader, counts = _leader(cluster), cluster.referee.goals.counts
    cluster.referee.goals.starved(leader, is_cut=is_cut)
    for other in {0, 1, 2} - {leader.node_id} if is_cut else ():
        cluster.network.cut(leader.node_id, other)
        cluster.network.cut(other, leader.node_id)
    for moment in range(20):
        cluster.world.at(5.0 + moment * 0.1, leader.pause, 0.09)
    cluster.world.run(7.0, 1_000_000)
    cluster.referee.goals.fed(leader)
    assert (counts["starved_left"], counts["starved_stayed"]) == (int(is_cut), int(not is_cut))


def test_a_lost_tail_that_made_the_majority_excuses_what_no_other_majority_held() -> None:
    """The leader and the liar held it alone: nobody can promise it any more. What the third node holds as well is demanded."""
    cluster = _cluster()
    liar, leader, stores = _follower(cluster), _leader(cluster), cluster.referee.invariants.stores
    (cut_off,) = {0, 1, 2} - {liar.node_id, leader.node_id}
    cluster.network.links[leader.node_id][cut_off].is_cut = True
    liar.disk.lie(2)
    cluster.world.run(6.0, 1_000_000)
    assert leader.core is not None
    term, held = leader.core.current_term, len(cluster.referee.invariants._memory[cut_off].disk.digests)
    liar.crash(power=True)
    cluster.nemesis.revive(liar)
    ((first, until, forgotten_from),) = stores.damages
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
    cluster = _cluster()
    node, invariants = _follower(cluster), cluster.referee.invariants
    node.keep_image()
    leader = _leader(cluster)
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
    assert damage == Damage(len(invariants.committed), term, before)
    assert type(invariants.stores.second_leader("rule", "text", term)) is Excused
    assert type(invariants.stores.without_entry("rule", "text", len(invariants.committed) - 1, term + 1)) is Breach


def test_a_leader_without_a_committed_entry_is_found_where_no_disk_has_lost_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if no majority holds the entry any more: then somebody has deleted it."""
    cluster = _cluster()
    invariants, node = cluster.referee.invariants, _follower(cluster)
    last = invariants.committed[-1]
    invariants.committed.append(Committed(last.term, 1, last.in_term))
    monkeypatch.setattr(invariants.promises, "has_voted", lambda *arguments: True)
    with pytest.raises(Breach, match="leader completeness") as found:
        invariants._check_new_leader(node, last.term + 1)
    assert type(found.value) is Breach


@pytest.mark.parametrize(
    "problem", [Breach("lists see the past", "text"), Breach("equal stores", "text"), ConsensusViolation("text")]
)
def test_what_clients_see_and_what_a_core_checks_is_judged_where_a_disk_lost_something_too(
    monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    """A loss that may cause it is found by the rules of leaders and commits, and ends the seed before."""

    def play(cluster: SimulatedCluster) -> None:
        cluster.referee.invariants.stores.damages.append(damage)
        raise problem

    monkeypatch.setattr(seed, "_play", play)
    damage = Damage(0, 100, 0)
    assert seed.run(0, 3).failure is not None
    damage = Damage(0, FOR_EVER)
    assert (seed.run(0, 3).failure is None) == isinstance(problem, ConsensusViolation)


def test_an_entry_that_is_committed_without_the_leader_of_a_later_term_is_found() -> None:
    """Leader completeness holds whoever comes first: the election, or the leader's look at the acknowledgements."""
    cluster = _cluster()
    invariants, leader = cluster.referee.invariants, _leader(cluster)
    assert leader.core is not None
    term = leader.core.current_term
    invariants._began_with[term + 1] = [entry.digest for entry in invariants.committed]
    with pytest.raises(Breach, match="was elected without it"):
        cluster.world.run(8.0, 1_000_000)


def test_a_leader_that_says_nothing_of_a_lost_tail_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two refusals of what it asked after the first one are proof."""
    monkeypatch.setattr("bargetrio.raft.demotion.suspect", lambda *arguments: True)
    cluster = _cluster()
    liar = _follower(cluster)
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
    cluster = _cluster()
    liar, leader, stores, network = _follower(cluster), _leader(cluster), cluster.referee.invariants.stores, cluster.network
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
    assert _leader(cluster) is leader
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
    cluster = _cluster()
    leader, liar = _leader(cluster), _follower(cluster)
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
    """Of one that lied the same is true."""
    cluster = _cluster()
    leader, follower = _leader(cluster), _follower(cluster)
    lost = TailLost(peer=follower.node_id, term=1, index=1)
    with pytest.raises(Breach, match="nobody is accused in error"):
        cluster.referee.fact(leader, lost)
    cluster.referee.invariants.stores.touched.add((follower.node_id, follower.store_id))
    cluster.referee.fact(leader, lost)


def test_a_log_that_lost_what_a_snapshot_holds_begins_behind_the_snapshot() -> None:
    """The disk lied about the log's syncs, and the snapshot lasts: what it holds is not lost."""
    cluster = _cluster(until=3.0)
    node = _follower(cluster)
    node.machine.segment_bytes = 1 << 20  # no file is full before the power fails: its syncs would be no lies
    node.crash(power=False)
    cluster.nemesis.revive(node)
    cluster.world.run(4.0, 1_000_000)
    memory, disk = cluster.referee.invariants._memory[node.node_id], node.disk
    disk.lie(4)
    held = memory.disk
    logs = {name: bytes(inode.synced) for name, inode in disk._names.items() if inode.is_log}
    assert node.core is not None
    while node.core.snapshot is None or node.core.snapshot.last_index < len(held.digests):
        node.ask_for_snapshot()
        cluster.world.run(cluster.world.now + 0.1, 1_000_000)
    snapshot = node.core.snapshot
    for name, inode in disk._names.items():
        if name in logs:
            inode.earlier.clear()
            inode.earlier.append(logs[name])
    memory.recent.clear()
    memory.recent.append(held)
    node.crash(power=True)
    cluster.nemesis.revive(node)
    cluster.world.run(cluster.world.now + 1.0, 1_000_000)
    assert node.core is not None and node.core.log.start_index >= snapshot.last_index


def test_logs_are_not_said_to_differ_where_none_was_altered() -> None:
    """Where one was, somebody must say so."""
    cluster = _cluster()
    leader, follower = _leader(cluster), _follower(cluster)
    differ = LogsDiffer(peer=follower.node_id, term=1, index=1)
    with pytest.raises(Breach, match="nobody is accused in error"):
        cluster.referee.fact(leader, differ)
    cluster.referee.invariants.stores.log_altered(follower.node_id, 1)
    cluster.referee.fact(leader, differ)


def test_a_store_that_lost_nothing_is_not_replaced() -> None:
    """Its node would be out of the majority until an entry takes it in."""
    cluster = _cluster()
    follower, stores = _follower(cluster), cluster.referee.invariants.stores
    replaced = Standing(store="another", origin=REPLACED, replaces=follower.store_id)
    with pytest.raises(Breach, match="nobody is accused in error"):
        cluster.referee.standing_written(follower, replaced)
    stores.touched.add((follower.node_id, follower.store_id))
    cluster.referee.standing_written(follower, replaced)


def test_each_store_has_one_vote_a_term() -> None:
    """A node's new disk may vote again where its old one has voted; the same disk may not."""
    cluster = _cluster()
    server, invariants = _follower(cluster), cluster.referee.invariants
    invariants.promises.note_vote(server, 77, 0)
    invariants.promises.note_vote(server, 77, 0)
    with pytest.raises(Breach, match="one vote a term"):
        invariants.promises.note_vote(server, 77, 1)
    assert server.core is not None
    invariants.promises._votes[78, server.node_id] = {"the disk before": {1}}
    invariants.promises.note_vote(server, 78, 0)


def test_a_store_of_no_member_may_not_vote() -> None:
    """An empty folder, or one that no committed entry took in."""
    cluster = _cluster()
    server = _follower(cluster)
    server.lose_disk()
    cluster.nemesis.revive(server)
    with pytest.raises(Breach, match="a voter is a member"):
        cluster.referee.invariants.promises.note_vote(server, 77, 0)


def test_an_altered_log_is_right_in_itself_and_another_one() -> None:
    """Every checksum and digest fits, over several segments; from the altered entry on the running digest is another."""
    disk, entries = SimulatedDisk(Random(0)), list[Entry]()
    log = open_log(disk, segment_bytes=400)
    log.write([HardState(term=1, voted_for=0)])
    for number in range(12):
        new = Entry(1, _put(number))
        log.write([Append(first_index=number + 1, digest=digest([*entries, new]), entries=(new,))])
        entries.append(new)
    disk.end_process()
    index = alter(disk, Random(1), 3, 9)
    assert index is not None and 3 < index <= 9
    log = open_log(disk, segment_bytes=400)
    found = list(log.remembered.entries)
    assert [place for place, entry in enumerate(entries, 1) if found[place - 1] != entry] == [index]
    more = Entry(1, _put(99))
    log.write([Append(first_index=13, digest=digest([*found, more]), entries=(more,))])
    disk.end_process()
    assert open_log(disk).remembered.entries == (*found, more)


def _put(number: int) -> Command:

    return encode_command(Put(id=0, key="k", value=str(number)))


def test_a_node_with_another_log_stops_and_begins_anew() -> None:
    """The others go on; nothing of its log is acknowledged."""
    cluster = _cluster()
    server = _follower(cluster)
    assert server.core is not None
    last = server.core.commit_index
    server.crash(power=False)
    index = alter(server.disk, Random(0), 0, last)
    assert index is not None
    cluster.referee.invariants.stores.log_altered(server.node_id, index)
    cluster.nemesis.revive(server)
    cluster.world.run(12.0, 1_000_000)
    assert cluster.referee.goals.counts["log_that_differs_stops"] >= 1
    assert cluster.referee.invariants.membership.is_in_order(server.node_id)


def test_kinds_that_exclude_each_other_are_never_on_together() -> None:
    """And what needs others that stay is not on in a cluster of two."""
    seen = set[str]()
    for number in range(300):
        world, nodes = World(number), SIZES[number % len(SIZES)]
        kinds = set(draw(world.random("plan"), world.random("plan of disks and members"), nodes).kinds)
        seen |= kinds
        assert all(len(kinds & set(group)) <= 1 for group in INSTEAD)
        assert nodes >= 3 or not kinds & set(NEEDS_THREE)
    assert seen >= set(NEEDS_THREE)


def test_in_one_of_three_seeds_only_the_older_kinds_are_on() -> None:
    """In each of the others some later kind is on, or nearly: plain traffic and the larger world are both tried."""
    plans = [draw(Random(f"{number}"), Random(f"rare {number}"), 5) for number in range(900)]
    plain = [plan for plan in plans if not {*LATER_KINDS, *RARE} & set(plan.kinds)]
    assert 250 < len(plain) < 350
    assert {kind for plan in plain for kind in plan.kinds} == set(KINDS) - {*LATER_KINDS, *RARE}
    assert {kind for plan in plans for kind in plan.kinds} == set(KINDS)


def test_a_kind_that_is_not_allowed_changes_nothing_of_the_others() -> None:
    """So a failing seed can be made smaller."""
    whole, less = (
        draw(Random(1), Random(2), 5, allowed) for allowed in (None, frozenset({"loss", "late_start", "lost_disks", "restored"}))
    )
    assert whole.drawn == less.drawn
    assert whole.snapshot_policies == less.snapshot_policies


def test_a_node_that_reported_a_differing_log_may_be_stopped_after_a_snapshot_has_replaced_it() -> None:
    """Its leader's word was on its way meanwhile, in the same term: seed 21403. In a later term nobody stops for that."""
    cluster = _cluster()
    node, invariants = _follower(cluster), cluster.referee.invariants
    memory = invariants._memory[node.node_id]
    term = memory.term
    invariants.stores.log_altered(node.node_id, 2)
    cluster.referee.fact(node, LogsDiffer(peer=_leader(cluster).node_id, term=term, index=2))
    memory.altered_from = None
    assert invariants.stores.must_stop(node.node_id)
    memory.term += 1
    assert not invariants.stores.must_stop(node.node_id)


def test_a_node_that_never_reported_a_differing_log_must_not_stop() -> None:
    """A log that was altered and is replaced is none to stop for."""
    cluster = _cluster()
    node, stores = _follower(cluster), cluster.referee.invariants.stores
    stores.log_altered(node.node_id, 2)
    cluster.referee.invariants._memory[node.node_id].altered_from = None
    assert not stores.must_stop(node.node_id)


def test_no_entry_is_altered_below_a_snapshot_that_was_not_reported_before_the_node_ended() -> None:
    """It is complete on the disk: the log below it is damaged then, and the node refuses to start, seed 22000."""
    cluster = _cluster()
    node = _follower(cluster)
    assert node.core is not None
    assert node.core.snapshot is not None
    held = node.core.snapshot.last_index
    node.ask_for_snapshot()
    while (newest := newest_snapshot(node.disk)) == held:
        cluster.world.run(cluster.world.now + 0.0001, 1_000_000)
    assert node.core.snapshot.last_index == held < newest
    node.crash(power=False)
    assert alter(node.disk, Random(0), newest, newest) is None
    cluster.nemesis.revive(node)
    assert node.core is not None


def test_without_a_majority_the_operator_empties_the_folder_of_a_node_that_is_down_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its set names the old disks of the others, who could not choose another one beside it: seed 21814."""
    cluster = _cluster(until=1.0)
    operator, before = cluster.operator, [server.store_id for server in cluster.servers]
    monkeypatch.setattr(operator, "_right_identity", lambda: "")
    monkeypatch.setattr(operator, "_can_get_majority", lambda birth: False)
    cluster.servers[1].crash(power=False)
    operator._look_for_other_clusters({0})
    assert all(server.store_id not in ("", old) for server, old in zip(cluster.servers, before, strict=True))


def test_a_leader_whose_disk_hangs_may_lead_until_it_has_heard_that_the_others_are_ahead() -> None:
    """They may have synced its write just now, and it looks at its next heartbeat: seed 15947. At the next look it may not."""
    cluster = _cluster()
    leader, invariants = _leader(cluster), cluster.referee.invariants
    memory, now = invariants._memory[leader.node_id], leader.local_now
    assert leader.core is not None
    memory.disk_if_written, memory.writes_since = memory.disk, now - 4.0
    memory.match = dict.fromkeys(memory.match, len(memory.disk.digests) - 1)
    memory.stood_still_s = leader.stood_still_s
    invariants.leadership.check_usefulness(leader, leader.core, memory, now)
    with pytest.raises(Breach, match="a disk that hangs leads nobody"):
        invariants.leadership.check_usefulness(leader, leader.core, memory, now)
