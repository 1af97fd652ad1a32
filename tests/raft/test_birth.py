"""Birth is an act: an empty disk is no new cluster, and the set of the members' stores is on the disks before the first vote."""

from msgspec import structs

from bargetrio.raft.messages import Introduction
from bargetrio.raft.standing import (
    EARLIER,
    REPLACED,
    Configuration,
    Standing,
    identity_of,
    origin_of_backup,
    why_refused,
)
from tests.raft.births import BORN, STORES, UNBORN, introduced
from tests.raft.cores import Bench, Table


def test_a_cluster_is_born_when_all_members_have_met() -> None:
    """One set, the same on every disk, and a leader soon after."""
    table = Table(3, standings=UNBORN)
    table.pass_time(1.0)
    assert len(table.leaders()) == 1
    assert {table.core(node_id).standing.identity for node_id in table.ids} == {identity_of(STORES)}
    assert all(table.core(node_id).standing.birth == STORES for node_id in table.ids)


def test_a_cluster_is_born_within_two_heartbeats() -> None:
    """A first start waits for no election timeout."""
    table = Table(3, standings=UNBORN)
    table.pass_time(0.11)
    assert all(table.core(node_id).may_vote for node_id in table.ids)


def test_a_single_node_is_born_at_once() -> None:
    """It has met all members."""
    bench = Bench(nodes=(0,), standing=UNBORN[0])
    bench.perform().write_standings()
    assert bench.core.may_vote


def test_without_a_member_no_cluster_is_born() -> None:
    """The absent one may have acknowledged writes, and one that is present may have lost its disk."""
    table = Table(3, standings=UNBORN)
    table.down = {0}
    table.pass_time(3.0)
    assert table.leaders() == [] and not any(table.core(node_id).standing.identity for node_id in table.ids)
    table.down = set()
    table.pass_time(1.0)
    assert len(table.leaders()) == 1


def test_two_empty_disks_do_not_begin_a_cluster_anew() -> None:
    """Node 0 starts for the first time, node 1's disk is lost, node 2 is down with the acknowledged writes."""
    table = Table(3, standings=UNBORN)
    table.down = {0}
    table.pass_time(2.1)
    assert table.core(1).bootstrap(table.now) == ""
    table.pass_time(1.5)
    (leader,) = table.leaders()
    table.core(leader).propose("x", table.core(leader).log.entry(1).command, table.now)
    table.settle()
    assert table.benches[leader].ended == {"x": "applied"}
    table.replace(1, Bench(1, standing=Standing(store="lost and new")))
    table.down = {2}
    table.pass_time(5.0)
    assert not [node_id for node_id in (0, 1) if table.core(node_id).role.name != "follower"]


def test_bootstrap_is_refused_where_a_born_member_answers_and_without_a_majority() -> None:
    """A needless command must not make a second cluster."""
    table = Table(3, standings=UNBORN)
    table.pass_time(1.0)
    table.replace(1, Bench(1, standing=Standing(store="new")))
    table.pass_time(2.1)
    assert "belongs to a cluster that has begun" in table.core(1).bootstrap(table.now)
    assert "belongs to a cluster already" in table.core(0).bootstrap(table.now)
    alone = Bench(1, standing=UNBORN[1])
    assert "a majority of them, 2, must be" in alone.core.bootstrap(alone.now + 2.1)


def _meets(bench: Bench, peer: int, standing: Standing) -> Bench:
    """An unborn peer introduces itself."""
    return bench.step(Introduction(term=0, node_id=peer, standing=standing, asks=False))


def test_a_born_member_that_refuses_an_empty_disk_still_prevents_a_bootstrap() -> None:
    """Two disks of three are lost. The third node connects, refuses this disk and closes, each second: bootstrap must be refused.

    It was accepted between a close and the next connection.
    """
    bench = Bench(0, standing=Standing(store="new"))
    bench.tick(2.1)
    _meets(bench, 2, Standing(store="newer"))
    of_one = structs.replace(BORN, store="s1")
    bench.core.hello_received(1, of_one, bench.now)
    bench.core.connection_closed(1, of_one)
    assert "node 1 belongs to a cluster that has begun" in bench.core.bootstrap(bench.now)
    assert "new to the cluster of node 1: bargetrio readmit 0" in bench.core.why_abstains()
    bench.tick(3.0)  # its next connection is late
    _meets(bench, 2, Standing(store="newer"))
    assert "node 1 belongs to a cluster that has begun" in bench.core.bootstrap(bench.now)
    bench.tick(8.0)  # it is down
    _meets(bench, 2, Standing(store="newer"))
    assert bench.core.bootstrap(bench.now) == ""


def test_what_a_member_says_later_of_another_disk_counts() -> None:
    """Its old disk was emptied, too: it is one of those that begin."""
    bench = Bench(0, standing=UNBORN[0])
    bench.tick(2.1)
    bench.core.hello_received(1, structs.replace(BORN, store="s1"), bench.now)
    bench.tick(0.5)
    bench.core.hello_received(1, UNBORN[1], bench.now)
    _meets(bench, 1, UNBORN[1])
    assert bench.core.bootstrap(bench.now) == ""


def test_a_node_that_has_just_started_refuses_a_bootstrap() -> None:
    """The born member's answer may still be in flight."""
    bench = Bench(0, standing=UNBORN[0])
    _meets(bench, 2, UNBORN[2])
    bench.tick(1.5)
    assert "has just started" in bench.core.bootstrap(bench.now)
    bench.tick(0.6)
    _meets(bench, 2, UNBORN[2])
    assert bench.core.bootstrap(bench.now) == ""


def test_a_node_that_knows_a_member_of_a_cluster_takes_no_part_in_another_birth() -> None:
    """Node 0 could not reach node 1, and was bootstrapped without it; node 2 receives both sets."""
    bench = Bench(2, standing=UNBORN[2])
    of_one = structs.replace(BORN, store="s1")
    bench.core.hello_received(1, of_one, bench.now)
    stores = {0: "s0 new", 1: "", 2: "s2"}
    _meets(bench, 0, Standing(store="s0 new", identity=identity_of(stores), birth=stores)).write_standings()
    assert not bench.core.may_vote and bench.core.standing.identity == ""
    assert "members of two clusters" in bench.core.why_abstains()
    bench.core.hello_received(1, Standing(store="s1 new"), bench.now)
    bench.tick(0.1).write_standings()
    assert bench.core.may_vote and bench.core.standing.birth == stores


def test_a_node_absent_at_the_birth_is_readmitted() -> None:
    """Its place is kept, without a store."""
    table = Table(3, standings=UNBORN)
    table.down = {2}
    table.pass_time(2.1)
    assert table.core(0).bootstrap(table.now) == ""
    table.pass_time(1.0)
    table.down = set()
    table.pass_time(1.0)
    assert not table.core(2).may_vote and {(0, 2), (1, 2)} <= table.refused
    (leader,) = table.leaders()
    assert table.core(leader).readmit(2, table.now) == ""
    table.pass_time(0.5)
    assert table.core(2).may_vote and table.core(2).standing.admitted > 0
    table.down = {leader}
    table.pass_time(2.0)
    assert len(set(table.leaders()) - {leader}) == 1


def test_members_that_began_with_different_backups_do_not_meet() -> None:
    """Two histories under one name: no cluster is born, and the refusal says which."""
    table = Table(3, standings={0: structs.replace(UNBORN[0], origin=origin_of_backup(41, 2, 7)), 1: UNBORN[1], 2: UNBORN[2]})
    table.pass_time(2.0)
    assert table.leaders() == []
    assert "began with another state" in why_refused(UNBORN[1], None, 0, table.core(0).standing)


def test_disks_of_an_earlier_version_go_on_and_get_their_set_when_all_have_met() -> None:
    """They vote before that: nothing was lost."""
    earlier = {node_id: Standing(store=f"s{node_id}", origin=EARLIER) for node_id in range(3)}
    table = Table(3, logs=dict.fromkeys(range(3), "1 1"), standings=earlier)
    table.down = {2}
    table.pass_time(1.5)
    assert len(table.leaders()) == 1 and table.core(0).standing.identity == ""
    table.down = set()
    table.pass_time(0.5)
    assert {table.core(node_id).standing.identity for node_id in table.ids} == {identity_of(STORES)}


def test_a_new_disk_in_a_cluster_of_an_earlier_version_does_not_make_its_set() -> None:
    """It has the lowest id and meets all others: their folders began otherwise."""
    earlier = {node_id: Standing(store=f"s{node_id}", origin=EARLIER) for node_id in (1, 2)}
    table = Table(3, logs={1: "1", 2: "1"}, standings={0: Standing(store="new"), **earlier})
    table.pass_time(2.0)
    assert not any(table.core(node_id).standing.identity for node_id in table.ids)
    assert not table.core(0).may_vote


def test_a_disk_that_was_lost_before_a_cluster_of_an_earlier_version_has_its_set_is_readmitted() -> None:
    """Its node may run meanwhile: an empty disk is as good as none, where the others have votes and entries."""
    earlier = {node_id: Standing(store=f"s{node_id}", origin=EARLIER) for node_id in (0, 1)}
    table = Table(3, logs={0: "1 1", 1: "1 1"}, standings={**earlier, 2: Standing(store="new")})
    table.pass_time(2.1)
    (leader,) = table.leaders()
    assert "bargetrio bootstrap" in table.core(leader).readmit(2, table.now)
    assert "began with another state" in table.core(2).bootstrap(table.now)
    assert table.core(leader).bootstrap(table.now) == ""
    table.pass_time(0.5)
    (leader,) = table.leaders()
    assert table.core(leader).configuration == Configuration(
        index=0, identity=identity_of({0: "s0", 1: "s1", 2: ""}), stores={0: "s0", 1: "s1", 2: ""}
    )
    assert table.core(leader).readmit(2, table.now) == ""
    table.pass_time(0.5)
    assert table.core(2).may_vote


def test_members_compare_the_identity_and_the_store_never_a_list() -> None:
    """Both sides check, and give a reason."""
    configuration = Configuration(index=9, identity=BORN.identity, stores=STORES)
    same = structs.replace(BORN, store="s1")
    assert why_refused(BORN, configuration, 1, same) == ""
    assert why_refused(BORN, configuration, 1, UNBORN[1]) == "", "it is in the set, and has not written it yet"
    others = {0: "s0", 1: "s1"}
    split = Standing(store="s1", identity=identity_of(others), birth=others)
    assert "another cluster of this name" in why_refused(BORN, configuration, 1, split)
    assert "another cluster of this name" in why_refused(split, None, 0, BORN)
    assert "bargetrio readmit 1" in why_refused(BORN, configuration, 1, Standing(store="new"))
    assert "another store" in why_refused(BORN, configuration, 1, structs.replace(same, store="old"))
    later = Standing(store="new", identity=BORN.identity, admitted=10)
    assert why_refused(BORN, configuration, 1, later) == "", "admitted behind the end of our log"
    assert why_refused(BORN, configuration, 1, structs.replace(later, admitted=8)) != "", "an old disk was put back"
    absent = Configuration(index=0, identity=BORN.identity, stores={**STORES, 1: ""})
    assert "was absent" in why_refused(BORN, absent, 1, UNBORN[1])


def test_a_disk_of_an_earlier_version_that_was_absent_at_the_birth_is_readmitted() -> None:
    """It votes when it is admitted, not before: it would lead although it is not counted."""
    earlier = {node_id: Standing(store=f"s{node_id}", origin=EARLIER) for node_id in range(3)}
    table = Table(3, logs=dict.fromkeys(range(3), "1 1"), standings=earlier)
    table.down = {2}
    table.pass_time(2.1)
    assert table.core(0).bootstrap(table.now) == ""
    table.pass_time(0.5)
    table.down = set()
    table.pass_time(1.0)
    (leader,) = table.leaders()
    assert table.core(leader).readmit(2, table.now) == ""
    table.pass_time(1.0)
    standing = table.core(2).standing
    assert standing.admitted > 0 and standing.identity == table.core(leader).standing.identity
    assert table.core(2).may_vote


def test_a_disk_of_an_earlier_version_does_not_lead_while_it_is_not_counted() -> None:
    """The entry that takes it in is in its log, and not known to be committed."""
    stores = {0: "s0", 1: "s1", 2: "s2"}
    taken_in = Configuration(index=2, identity="born without it", stores=stores, readmitted=2)
    node = Bench(2, log="1 1", term=1, standing=Standing(store="s2", origin=EARLIER), configurations=(taken_in,))
    assert not node.core.may_vote
    node.tick(2.0)
    assert node.core.role.name == "follower"


def test_bootstrap_is_refused_where_the_log_is_that_of_a_born_cluster() -> None:
    """Its leader may be away for a moment: with another new disk this one would begin a second cluster."""
    taken_in = Configuration(index=2, identity=BORN.identity, stores={**STORES, 1: "new"}, readmitted=1)
    node = Bench(1, log="1 1", term=1, standing=Standing(store="new"), configurations=(taken_in,))
    node.core.membership.met[2] = (Standing(store="new, too"), 0.0)
    assert "a cluster that has begun" in node.core.bootstrap(node.now)


FIVE = {node_id: Standing(store=f"s{node_id}") for node_id in range(5)}


def _born_with(node_id: int, stores: dict[int, str]) -> Standing:
    return Standing(store=stores[node_id], identity=identity_of(stores), birth=stores)


def test_a_set_is_sent_before_a_slow_disk_has_it() -> None:
    """Node 1 is bootstrapped, its disk hangs; then node 0 has all introductions, and node 1 is bootstrapped again: one set."""
    table = Table(5, standings=FIVE)
    table.down = {4}
    table.pass_time(2.1)
    assert table.core(1).bootstrap(table.now) == ""
    slow = table.benches[1]
    written, slow.write_standings = slow.write_standings, lambda: slow  # type: ignore[method-assign]
    table.pass_time(0.2)
    table.down = set()
    table.pass_time(1.0)
    assert table.core(1).bootstrap(table.now) == "", "it is under way"
    assert not table.core(1).may_vote, "no vote before it is on the disk"
    stores = {**{node_id: f"s{node_id}" for node_id in range(4)}, 4: ""}
    assert {node_id: table.core(node_id).standing.birth for node_id in range(5)} == {
        0: stores,
        1: {},
        2: stores,
        3: stores,
        4: {},
    }
    written()
    table.pass_time(1.0)
    assert table.core(1).standing.birth == stores and len(table.leaders()) == 1


def test_a_node_that_ends_before_it_has_written_its_set_adopts_it_from_the_others() -> None:
    """They have it from its first introduction."""
    table = Table(3, standings=UNBORN)
    table.down = {2}
    table.pass_time(2.1)
    assert table.core(0).bootstrap(table.now) == ""
    table.benches[0].standings.clear()
    table.benches[0].perform().standings.clear()
    for _, message in table.benches[0].take_sent():
        if isinstance(message, Introduction) and message.standing.identity:
            table.benches[1].step(message)
    table.replace(0, Bench(0, standing=UNBORN[0]))
    table.pass_time(1.0)
    assert table.core(0).standing.birth == {0: "s0", 1: "s1", 2: ""} and len(table.leaders()) == 1


def test_of_two_sets_made_at_the_same_time_a_store_in_both_adopts_the_one_that_most_have() -> None:
    """Nodes 0 and 1 could not reach each other, and each was bootstrapped: one of the two sets gets a majority."""
    left, right = {0: "s0", 1: "", 2: "s2", 3: "s3", 4: "s4"}, {0: "", 1: "s1", 2: "s2", 3: "s3", 4: "s4"}
    for first, more in ((left, right), (right, left)):
        bench = Bench(4, nodes=tuple(range(5)), standing=FIVE[4])
        members = [(0, left), (1, right), (2, first), (3, more)]
        for node_id, stores in members:
            bench.core.hello_received(node_id, _born_with(node_id, stores), bench.now)
        bench.core.hello_received(3, _born_with(3, first), bench.now)
        bench.tick(0.1).write_standings()
        assert bench.core.standing.birth == first


def test_two_sets_made_at_two_nodes_that_cannot_reach_each_other_leave_one_cluster() -> None:
    """Node 2 receives one of the two, node 3 the other, node 4 both, later: it decides."""
    table = Table(5, standings=FIVE)
    sides = [{0, 2}, {1, 3}]
    table.pass_time(2.1, lost=lambda source, target: {source, target} == {0, 1})
    assert table.core(0).bootstrap(table.now) == table.core(1).bootstrap(table.now) == ""
    table.pass_time(1.0, lost=lambda source, target: {source, target} not in sides)
    assert [table.core(node_id).standing.birth.get(0) for node_id in range(5)] == ["s0", "", "s0", "", None]
    assert table.leaders() == []
    table.pass_time(2.0, lost=lambda source, target: {source, target} == {0, 1})
    assert len(table.leaders()) == 1 and table.core(4).standing.identity != ""


def test_of_two_sets_that_name_another_store_of_a_member_none_is_adopted() -> None:
    """Node 3's disk was lost between them: one of the two may be the older cluster, and have entries of that disk."""
    left, right = {0: "s0", 1: "", 2: "s2", 3: "s3", 4: "s4"}, {0: "", 1: "s1", 2: "s2", 3: "s3 new", 4: "s4"}
    bench = Bench(4, nodes=tuple(range(5)), standing=FIVE[4])
    for node_id, stores in ((0, left), (1, right), (2, right)):
        bench.core.hello_received(node_id, _born_with(node_id, stores), bench.now)
    bench.tick(0.1).write_standings()
    assert bench.core.standing == FIVE[4] and "members of two clusters" in bench.core.why_abstains()


def test_a_set_that_too_few_can_still_adopt_is_out_of_the_choice() -> None:
    """Node 1 made its set while it was cut off from node 0, and died before it was written: node 2 has it, node 0 another one."""
    left, right = {0: "s0", 1: "", 2: "s2"}, {0: "", 1: "s1", 2: "s2"}
    bench = Bench(1, standing=UNBORN[1])
    bench.core.hello_received(0, _born_with(0, left), bench.now)
    bench.tick(0.1).write_standings()
    assert bench.core.standing == UNBORN[1], "node 2 may be in the set without this store"
    bench.core.hello_received(2, _born_with(2, right), bench.now)
    bench.tick(0.1).write_standings()
    assert bench.core.standing.birth == right


def test_no_set_is_adopted_beside_one_without_this_store_that_can_get_a_majority() -> None:
    """Nodes 0 and 3 have made two sets: the first may be a cluster at work, which readmits this node."""
    left, right = {0: "s0", 1: "s1", 2: "s2", 3: "", 4: ""}, {0: "", 1: "s1", 2: "", 3: "s3", 4: "s4"}
    bench = Bench(4, nodes=tuple(range(5)), standing=FIVE[4])
    for node_id, stores in ((0, left), (3, right)):
        bench.core.hello_received(node_id, _born_with(node_id, stores), bench.now)
    bench.tick(0.1).write_standings()
    assert bench.core.standing == FIVE[4]


def test_a_set_with_an_earlier_store_of_this_node_stays_in_the_comparison_when_too_few_can_adopt_it() -> None:
    """This node's disk was lost between the two sets."""
    left, right = {0: "s0", 1: "s1", 2: "", 3: "", 4: "s4 lost"}, {0: "", 1: "s1", 2: "s2", 3: "s3", 4: "s4"}
    bench = Bench(4, nodes=tuple(range(5)), standing=FIVE[4])
    for node_id, stores in ((0, left), (1, right), (2, right)):
        bench.core.hello_received(node_id, _born_with(node_id, stores), bench.now)
    bench.tick(0.1).write_standings()
    assert bench.core.standing == FIVE[4]


def test_a_set_without_a_majority_of_the_members_is_not_adopted() -> None:
    """No leader could ever be elected in it, and no entry that readmits the others committed."""
    bench = Bench(4, nodes=tuple(range(5)), standing=FIVE[4])
    bench.core.hello_received(0, _born_with(0, {0: "s0", 1: "", 2: "", 3: "", 4: "s4"}), bench.now)
    bench.tick(0.1).write_standings()
    assert bench.core.standing == FIVE[4]
    _meets(bench.tick(11.0), 0, FIVE[0])
    assert "2 of 5 members are here (0, 4), and a majority of them, 3, must be" in bench.core.bootstrap(bench.now)


def test_an_unborn_node_refuses_a_cluster_with_other_members_than_its_configuration() -> None:
    """Node 0 was started with `nodes: [0, 1]` and made a set; node 1's file names three."""
    others = {0: "s0", 1: "s1"}
    split = Standing(store="s0", identity=identity_of(others), birth=others)
    refusal = why_refused(UNBORN[1], None, 0, split, (0, 1, 2))
    assert refusal.startswith("node 0 belongs to a cluster of nodes 0, 1, and the configuration here names nodes 0, 1, 2")
    assert why_refused(UNBORN[1], None, 0, BORN, (0, 1, 2)) == ""
    bench = Bench(1, standing=UNBORN[1])
    bench.core.hello_received(0, split, 0.0)
    assert bench.core.why_abstains() == refusal, "not that node 0 takes it in: it can't"


def test_a_node_with_an_old_introduction_takes_no_part_in_a_birth() -> None:
    """Its disk may since have been lost, or have become another cluster's."""
    node = Bench(0, standing=UNBORN[0])
    node.step(introduced(1))
    node.now = 2.5
    node.step(introduced(2))
    assert node.standings == []
    node.step(introduced(1))
    assert len(node.standings) == 1


def test_a_node_with_another_origin_takes_no_part_in_a_birth() -> None:
    """However its message was accepted: a set of an empty disk and a restored one would be two histories."""
    node = Bench(0, standing=UNBORN[0])
    node.step(introduced(1, Standing(store="s1", origin=origin_of_backup(9, 1, 7))))
    node.step(introduced(2))
    assert node.standings == []
    node.step(introduced(1))
    assert len(node.standings) == 1


def test_bootstrap_is_refused_where_the_disk_lost_what_it_had_promised() -> None:
    """Also where all that are here lost theirs: the cluster's history is not theirs to begin anew."""
    lost = {node_id: Standing(store=f"n{node_id}", origin=REPLACED, replaces=f"s{node_id}") for node_id in range(3)}
    node = Bench(0, standing=lost[0])
    node.now = 3.0
    node.step(introduced(1, lost[1])).step(introduced(2, lost[2]))
    assert "lost a vote or acknowledged entries" in node.core.bootstrap(node.now)
    assert node.standings == []
