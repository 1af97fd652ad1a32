"""What ring 1 makes of disks that are lost, lie, go back in time, or hold another log, and what its operator does."""

from random import Random

import pytest
from msgspec import structs

from bargetrio.kv.commands import encode_command
from bargetrio.protocol.requests import Put
from bargetrio.raft.facts import LogsDiffer
from bargetrio.raft.messages import Command, Entry, SnapshotReply
from bargetrio.raft.progress import Transfer
from bargetrio.raft.records import Append, HardState
from bargetrio.raft.roles import Leader
from bargetrio.raft.standing import REPLACED, Standing
from bargetrio.simulator.altered import alter, newest_snapshot
from bargetrio.simulator.campaign import SIZES
from bargetrio.simulator.disk import SimulatedDisk
from bargetrio.simulator.memory import Breach
from bargetrio.simulator.plan import INSTEAD, KINDS, LATER_KINDS, NEEDS_THREE, RARE, draw
from bargetrio.simulator.world import World
from tests.simulator.clusters import cluster_after, follower_of, leader_of
from tests.storage.logs import digest, open_log


def test_a_node_whose_disk_is_lost_is_taken_in_and_no_other_disk_is_lost_before() -> None:
    """Then it is in order under another store, and the next disk may go."""
    cluster = cluster_after()
    lost, (other, _) = follower_of(cluster), [server for server in cluster.servers if server is not follower_of(cluster)]
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
    cluster = cluster_after()
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
    cluster = cluster_after()
    node = follower_of(cluster)
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


@pytest.mark.parametrize("is_cut", [False, True])
def test_a_starved_leader_that_is_cut_off_leaves_and_one_that_is_not_stays(is_cut: bool) -> None:
    """Its pauses are shorter than an election timeout, and heartbeats come through between them."""
    cluster = cluster_after()
    leader, counts = leader_of(cluster), cluster.referee.goals.counts
    cluster.referee.goals.starved(leader, is_cut=is_cut)
    for other in {0, 1, 2} - {leader.node_id} if is_cut else ():
        cluster.network.cut(leader.node_id, other)
        cluster.network.cut(other, leader.node_id)
    for moment in range(20):
        cluster.world.at(5.0 + moment * 0.1, leader.pause, 0.09)
    cluster.world.run(7.0, 1_000_000)
    cluster.referee.goals.fed(leader)
    assert (counts["starved_left"], counts["starved_stayed"]) == (int(is_cut), int(not is_cut))


def test_a_log_that_lost_what_a_snapshot_holds_begins_behind_the_snapshot() -> None:
    """The disk lied about the log's syncs, and the snapshot lasts: what it holds is not lost."""
    cluster = cluster_after(until=3.0)
    node = follower_of(cluster)
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
    cluster = cluster_after()
    leader, follower = leader_of(cluster), follower_of(cluster)
    differ = LogsDiffer(peer=follower.node_id, term=1, index=1)
    with pytest.raises(Breach, match="nobody is accused in error"):
        cluster.referee.fact(leader, differ)
    cluster.referee.invariants.stores.log_altered(follower.node_id, 1)
    cluster.referee.fact(leader, differ)


def test_a_store_that_lost_nothing_is_not_replaced() -> None:
    """Its node would be out of the majority until an entry takes it in."""
    cluster = cluster_after()
    follower, stores = follower_of(cluster), cluster.referee.invariants.stores
    replaced = Standing(store="another", origin=REPLACED, replaces=follower.store_id)
    with pytest.raises(Breach, match="nobody is accused in error"):
        cluster.referee.standing_written(follower, replaced)
    stores.touched.add((follower.node_id, follower.store_id))
    cluster.referee.standing_written(follower, replaced)


def test_each_store_has_one_vote_a_term() -> None:
    """A node's new disk may vote again where its old one has voted; the same disk may not."""
    cluster = cluster_after()
    server, invariants = follower_of(cluster), cluster.referee.invariants
    invariants.promises.note_vote(server, 77, 0)
    invariants.promises.note_vote(server, 77, 0)
    with pytest.raises(Breach, match="one vote a term"):
        invariants.promises.note_vote(server, 77, 1)
    assert server.core is not None
    invariants.promises._votes[78, server.node_id] = {"the disk before": {1}}
    invariants.promises.note_vote(server, 78, 0)


def test_a_store_of_no_member_may_not_vote() -> None:
    """An empty folder, or one that no committed entry took in."""
    cluster = cluster_after()
    server = follower_of(cluster)
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
    cluster = cluster_after()
    server = follower_of(cluster)
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
    cluster = cluster_after()
    node, invariants = follower_of(cluster), cluster.referee.invariants
    memory = invariants._memory[node.node_id]
    term = memory.term
    invariants.stores.log_altered(node.node_id, 2)
    cluster.referee.fact(node, LogsDiffer(peer=leader_of(cluster).node_id, term=term, index=2))
    memory.altered_from = None
    assert invariants.stores.must_stop(node.node_id)
    memory.term += 1
    assert not invariants.stores.must_stop(node.node_id)


def test_a_node_that_never_reported_a_differing_log_must_not_stop() -> None:
    """A log that was altered and is replaced is none to stop for."""
    cluster = cluster_after()
    node, stores = follower_of(cluster), cluster.referee.invariants.stores
    stores.log_altered(node.node_id, 2)
    cluster.referee.invariants._memory[node.node_id].altered_from = None
    assert not stores.must_stop(node.node_id)


def test_no_entry_is_altered_below_a_snapshot_that_was_not_reported_before_the_node_ended() -> None:
    """It is complete on the disk: the log below it is damaged then, and the node refuses to start, seed 22000."""
    cluster = cluster_after()
    node = follower_of(cluster)
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
    cluster = cluster_after(until=1.0)
    operator, before = cluster.operator, [server.store_id for server in cluster.servers]
    monkeypatch.setattr(operator, "_right_identity", lambda: "")
    monkeypatch.setattr(operator, "_can_get_majority", lambda birth: False)
    cluster.servers[1].crash(power=False)
    operator._look_for_other_clusters({0})
    assert all(server.store_id not in ("", old) for server, old in zip(cluster.servers, before, strict=True))


def test_a_leader_whose_disk_hangs_may_lead_until_it_has_heard_that_the_others_are_ahead() -> None:
    """They may have synced its write just now, and it looks at its next heartbeat: seed 15947. At the next look it may not."""
    cluster = cluster_after()
    leader, invariants = leader_of(cluster), cluster.referee.invariants
    memory, now = invariants._memory[leader.node_id], leader.local_now
    assert leader.core is not None
    memory.disk_if_written, memory.writes_since = memory.disk, now - 4.0
    memory.match = dict.fromkeys(memory.match, len(memory.disk.digests) - 1)
    memory.stood_still_s = leader.stood_still_s
    invariants.leadership.check_usefulness(leader, leader.core, memory, now)
    with pytest.raises(Breach, match="a disk that hangs leads nobody"):
        invariants.leadership.check_usefulness(leader, leader.core, memory, now)


def test_a_leader_that_sends_again_what_the_follower_has_of_a_snapshot_is_found() -> None:
    """Figure 13: the next piece begins where the follower's disk ends, at 0 only if it has nothing."""
    cluster = cluster_after()
    leader, follower = leader_of(cluster), follower_of(cluster)
    core = leader.core
    assert core is not None and core.snapshot is not None and isinstance(core.role, Leader)
    core.role.progress[follower.node_id].transfer = Transfer(core.snapshot)
    last = core.snapshot.last_index
    reply = SnapshotReply(term=core.current_term, follower_id=follower.node_id, last_index=last, bytes_stored=0, installed=False)
    cluster.referee.piece_answered(leader, reply)
    with pytest.raises(Breach, match="the next piece begins where the follower's disk ends"):
        cluster.referee.piece_answered(leader, structs.replace(reply, bytes_stored=1))
