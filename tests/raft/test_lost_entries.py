"""A disk that lost what its node had acknowledged: the leader names it, counts it no more, and has it readmitted."""

from msgspec import structs

from bargetrio.raft.facts import TailLost
from bargetrio.raft.messages import (
    AppendReply,
    AppendRequest,
    Demotion,
    PreVoteReply,
    SnapshotReply,
    VoteReply,
)
from bargetrio.raft.roles import Leader
from bargetrio.raft.snapshot_state import SnapshotPolicy
from bargetrio.raft.snapshots import begin_transfer
from bargetrio.raft.standing import REPLACED, Configuration, Standing, why_refused
from tests.raft.cores import IDENTITY, STORES, Bench, acknowledge, append, append_readmission, follower, leader, progress
from tests.raft.saved import saved

NEW = Standing(store="new")


def refuse(node: Bench, prev: int, last: int, round: int = 0, hint_term: int = 1) -> None:
    """A follower whose log ends at `last` refuses a probe."""
    term = node.core.current_term
    reply = AppendReply(
        term=term, follower_id=1, success=False, prev_log_index=prev, hint_index=last, hint_term=hint_term, round=round
    )
    node.step(reply)


def test_a_follower_that_lost_what_it_acknowledged_is_named_and_not_counted() -> None:
    """Refused again in a round that began after the first refusal: that is no old answer."""
    node = leader(log="1 1 1")
    last = node.core.log.last_index
    refuse(node, last, 2)
    assert node.announced("tail_lost") == []
    sent = [message for to, message in node.take_sent() if to == 1 and isinstance(message, AppendRequest)]
    assert [message.round for message in sent] == [1], "it is asked again"
    refuse(node, last, 2, round=1)
    assert [fact.peer for fact in node.announced("tail_lost")] == [1]  # type: ignore[union-attr]
    assert not progress(node, 1).is_counted
    term = node.core.current_term
    assert Demotion(term=term, leader_id=0, cause="lost", index=last, entry_term=term, store="store-1") in node.replies()


def lead_again(node: Bench) -> None:
    """Node 2 leads the next term, and this one the term after that."""
    core = node.core
    log = core.log
    node.step(append(term=core.current_term + 1, leader_id=2, prev=(log.last_index, log.last_term))).sync()
    assert core.role.name == "follower"
    node.tick(0.61)
    node.step(PreVoteReply(term=core.current_term + 1, voter_id=2, granted=True)).sync()
    node.step(VoteReply(term=core.current_term, voter_id=2, granted=True)).sync()
    assert isinstance(core.role, Leader)
    node.take_sent()


def test_what_was_acknowledged_in_an_earlier_term_and_is_committed_is_missed_in_a_later_one() -> None:
    """OWN-175: no leader in between had it deleted. The follower is named and repaired as in the same term."""
    node = leader(log="1 1 1")
    last = node.core.log.last_index
    assert (node.core.commit_index, progress(node, 1).match_index) == (last, last)
    lead_again(node)
    found, prev = progress(node, 1), node.core.log.last_index - 1
    assert found.match_index == 0
    refuse(node, prev, 2)
    assert node.announced("tail_lost") == [], "it may answer an append of the term before"
    assert [message.round for to, message in node.take_sent() if to == 1 and isinstance(message, AppendRequest)] == [1]
    refuse(node, prev, 2, round=1)
    term = node.core.current_term
    assert node.announced("tail_lost") == [TailLost(peer=1, term=term, index=last)]
    assert not found.is_counted
    entry_term = node.core.log.term(last)
    assert Demotion(term=term, leader_id=0, cause="lost", index=last, entry_term=entry_term, store="store-1") in node.replies()


def test_what_was_acknowledged_several_terms_ago_is_missed_too() -> None:
    """Each loss of leadership keeps what the one before had kept, also of a follower that was not heard in between."""
    node = leader(log="1 1 1")
    last = node.core.log.last_index
    for _ in range(3):
        lead_again(node)
    refuse(node, last, 2)
    refuse(node, last, 2, round=1)
    assert node.announced("tail_lost") == [TailLost(peer=1, term=node.core.current_term, index=last)]


def test_what_was_acknowledged_and_is_not_committed_may_be_missing_in_a_later_term() -> None:
    """Raft 5.3, 5.4.2: a leader in between may have had it deleted, so nobody is accused."""
    node = leader(log="1 1 1", nodes=(0, 1, 2, 3, 4))
    committed = node.core.log.last_index
    node.core.propose("x", node.core.log.entry(1).command, node.now)
    node.perform().sync()
    acknowledge(node, 1, committed + 1)
    assert (node.core.commit_index, progress(node, 1).match_index) == (committed, committed + 1)
    node.step(append(term=node.core.current_term + 1, leader_id=2, prev=(committed, node.core.log.term(committed)))).sync()
    node.tick(0.61)
    for peer in (2, 3):
        node.step(PreVoteReply(term=node.core.current_term + 1, voter_id=peer, granted=True)).sync()
    for peer in (2, 3):
        node.step(VoteReply(term=node.core.current_term, voter_id=peer, granted=True)).sync()
    last, term = node.core.log.last_index - 1, node.core.log.term(committed)
    for round in range(3):
        refuse(node, last, committed, round=round, hint_term=term)
    assert node.announced("tail_lost") == [] and progress(node, 1).is_counted
    assert progress(node, 1).next_index == committed + 1


def test_a_disk_that_was_taken_in_meanwhile_is_not_suspected_of_what_the_one_before_acknowledged() -> None:
    """Another leader has readmitted the node: its new store has acknowledged nothing to this one."""
    node = leader(log="1 1 1")
    log, term = node.core.log, node.core.current_term + 1
    node.step(append_readmission((log.last_index, log.last_term), term, 1)).sync()
    node.step(append(term=term, prev=(log.last_index, term), commit=log.last_index)).sync()
    assert node.core.membership.uncounted is None
    lead_again(node)
    for round in range(4):
        refuse(node, log.last_index - 1, 0, round=round)
    assert node.announced("tail_lost") == [] and progress(node, 1).is_counted


def test_what_a_disk_acknowledged_is_missed_also_if_the_entry_that_readmits_its_node_is_deleted() -> None:
    """OWN-181: the store before counts again, and a folder that is put back may lack what it had acknowledged."""
    node = leader(log="1 1 1")
    log, last = node.core.log, node.core.log.last_index
    for known_of_new in (0, last):
        kept = log.last_index, log.last_term
        node.core.hello_received(1, NEW, node.now)
        assert node.core.readmit(1, node.now) == ""
        node.perform().sync()
        assert node.core.membership.uncounted == 1 and progress(node, 1).acknowledged_before == known_of_new
        acknowledge(node, 1, last)
        # The leader of a later term has not got that entry, and this one is elected again.
        term = node.core.current_term + 1
        node.step(append(term=term, leader_id=2, prev=kept, log=str(term))).sync()
        assert node.core.membership.uncounted is None
        lead_again(node)
        assert progress(node, 1).acknowledged_before == last
        acknowledge(node, 2, log.last_index)
    refuse(node, log.last_index - 1, 2)
    refuse(node, log.last_index - 1, 2, round=1)
    assert node.announced("tail_lost") == [TailLost(peer=1, term=node.core.current_term, index=last)]


def test_what_a_disk_acknowledged_is_missed_also_if_this_node_led_while_the_readmission_was_not_committed() -> None:
    """OWN-181: that of the later store is remembered beside it, for either may count at the next election."""
    node = leader(log="1 1 1")
    log, last, term = node.core.log, node.core.log.last_index, node.core.current_term
    node.step(append_readmission((last, term), term + 1, 1)).sync()
    lead_again(node)
    assert node.core.membership.uncounted == 1 and progress(node, 1).acknowledged_before == 0
    acknowledge(node, 1, log.last_index)
    term = node.core.current_term + 1
    node.step(append(term=term, leader_id=2, prev=(last, log.term(last)), log=str(term))).sync()
    lead_again(node)
    assert progress(node, 1).acknowledged_before == last


def test_what_is_remembered_of_stores_is_bounded_by_those_that_may_count() -> None:
    """A store whose successor's readmission is committed never counts again."""
    node = leader(log="1 1 1")
    for number in range(4):
        node.core.hello_received(1, Standing(store=f"new-{number}"), node.now)
        assert node.core.readmit(1, node.now) == ""
        node.perform().sync()
        acknowledge(node, 2, node.core.log.last_index)
        assert node.core.membership.uncounted is None
        lead_again(node)
        acknowledge(node, 2, node.core.log.last_index)
    assert {store for peer, store in node.core.membership.acknowledged if peer == 1} == {"new-2", "new-3"}


def test_appends_in_flight_to_a_node_that_is_no_longer_counted_are_forgotten() -> None:
    """Ongaro 10.2.1: there will be no reply, and when the node is readmitted it is probed anew."""
    node = leader(log="1 1 1")
    last = node.core.log.last_index
    node.core.propose("x", node.core.log.entry(1).command, node.now)
    node.perform().sync()
    assert len(progress(node, 1).in_flight) == 1
    refuse(node, last, 2)
    refuse(node, last, 2, round=1)
    found = progress(node, 1)
    assert (found.demotion, found.state, list(found.in_flight), found.in_flight_bytes) == ("lost", "probe", [], 0)


def test_a_new_disk_is_not_suspected_of_having_lost_what_the_old_one_said() -> None:
    """It has acknowledged nothing: its progress is reset by the entry that readmits it."""
    node = leader(log="1 1")
    node.core.hello_received(1, NEW, node.now)
    assert node.core.readmit(1, node.now) == ""
    node.perform().sync()
    assert progress(node, 1).match_index == 0
    index = node.core.log.last_index
    acknowledge(node, 2, index)
    for round in range(4):
        refuse(node, index, 0, round=round)
    assert node.announced("tail_lost") == [] and progress(node, 1).is_counted


def test_a_refusal_from_before_a_snapshot_was_installed_is_an_old_one() -> None:
    """The suspicion was of what the follower had said before: with the snapshot it has more."""
    node = leader(log="1 1 1 1 1", saved=4, compacted=4, policy=SnapshotPolicy(entries=1000))
    last = node.core.log.last_index
    refuse(node, last, 2)
    found, of = progress(node, 1), node.core.snapshot
    assert found.suspect_round == 1 and of is not None
    begin_transfer(node.core, 1, found)
    node.step(
        SnapshotReply(term=node.core.current_term, follower_id=1, last_index=of.last_index, bytes_stored=100, installed=True)
    )
    refuse(node, last, 2, round=1)
    assert node.announced("tail_lost") == [] and progress(node, 1).is_counted


def test_an_old_refusal_says_nothing() -> None:
    """It was sent before the follower had the entries: the reply to the next round acknowledges them."""
    node = leader(log="1 1 1")
    last = node.core.log.last_index
    refuse(node, last, 2)
    acknowledge(node, 1, last, round=1)
    refuse(node, last, 2)
    refuse(node, last, 2)
    assert node.announced("tail_lost") == [] and progress(node, 1).is_counted


def test_a_node_that_lost_entries_abstains_takes_a_new_store_and_is_readmitted_automatically() -> None:
    """The way of a lost disk, without an operator."""
    lost = follower(log="1 1", term=1)
    lost.step(Demotion(term=1, leader_id=1, cause="lost", index=4, store="store-0"))
    assert not lost.core.may_vote
    lost.write_standings()
    standing = lost.core.standing
    assert (standing.store, standing.replaces, standing.identity) == ("new", "store-0", "")
    lost.step(Demotion(term=1, leader_id=1, cause="lost", index=4, store="store-0"))  # told again
    assert lost.standings == []

    node = leader(log="1 1")
    node.core.hello_received(1, Standing(store="new", origin="replaced", replaces="store-1"), node.now)
    node.perform().sync()
    assert node.core.configuration is not None and node.core.configuration.stores[1] == "new"


def test_what_is_said_of_a_lost_tail_is_that_the_cluster_repairs_it() -> None:
    """OWN-188: not that `bargetrio readmit` is needed; of two members neither can be readmitted, in any way."""
    ours = Standing(store="store-0", identity=IDENTITY, birth=STORES)
    lost = Standing(store="new", origin=REPLACED, replaces="store-1")
    three = Configuration(index=0, identity=IDENTITY, stores=STORES)
    lost_entries = "node 1's disk lost entries that it had acknowledged"
    assert why_refused(ours, three, 1, lost) == f"{lost_entries}: the cluster readmits it by itself"
    two = structs.replace(three, stores={0: "store-0", 1: "store-1"})
    assert why_refused(ours, two, 1, lost) == (
        f'{lost_entries}, and of two members neither can be readmitted: see "Too many lost disks" in docs/operations.md'
    )
    another = structs.replace(lost, replaces="older")
    assert "has another store than before: bargetrio readmit 1 takes this one in" in why_refused(ours, three, 1, another)


def test_a_demotion_of_the_disk_before_is_not_meant_for_the_new_one() -> None:
    """It was delayed in a connection, or the leader does not know the new disk yet."""
    node = follower(log="1 1", term=1)
    node.step(Demotion(term=1, leader_id=1, cause="lost", index=4, store="the disk before"))
    node.step(Demotion(term=1, leader_id=1, cause="differs", index=1, store="the disk before"))
    assert node.core.may_vote and node.standings == []


def test_a_demotion_of_what_the_log_holds_is_an_old_one() -> None:
    """It was delayed, and the node has caught up since."""
    node = follower(log="1 1 1 1", term=1)
    node.step(Demotion(term=1, leader_id=1, cause="lost", index=4, store="store-0"))
    assert node.core.may_vote and node.standings == []


def test_a_refusal_that_an_acknowledgement_overtook_is_an_old_one() -> None:
    """The second probe overtook an append: the follower refused, then accepted the append, and the refusal arrived last."""
    node = leader(log="1 1 1")
    last = node.core.log.last_index
    node.core.propose("x", node.core.log.entry(1).command, node.now)
    node.perform().sync()
    refuse(node, last, 2)  # an old one begins the round
    acknowledge(node, 1, last + 1)
    refuse(node, last + 1, last, round=1)
    assert node.announced("tail_lost") == [] and progress(node, 1).is_counted
    refuse(node, last + 1, last, round=2)
    assert node.announced("tail_lost") != [], "asked once more, it refuses"


def test_an_old_copy_of_a_folder_with_other_entries_in_their_place_is_named_too() -> None:
    """It is no shorter than what was acknowledged, and its hint is that index: the terms differ."""
    node = leader(log="1 1 1", term=3)
    copy = follower(node_id=1, log="1 1 1 2 2 2", term=2)
    for _ in range(4):
        node.tick(0.05)
        acknowledge(node, 2, node.core.log.last_index)
        for to, message in node.take_sent():
            if to == 1:
                copy.step(message).sync()
        for to, message in copy.take_sent():
            if to == 0:
                node.step(message)
    assert [fact.peer for fact in node.announced("tail_lost")] == [1]  # type: ignore[union-attr]
    copy.write_standings()
    assert copy.core.standing.replaces == "store-1" and not copy.core.may_vote


def test_a_disk_that_loses_entries_before_it_votes_again_is_replaced_once_more() -> None:
    """The entry that takes it in is committed, so its acknowledgements count."""
    node = follower(log="1 1", term=1, standing=Standing(store="second", origin=REPLACED, replaces="store-0"))
    node.step(Demotion(term=1, leader_id=1, cause="lost", index=4, entry_term=1, store="second"))
    node.write_standings()
    assert node.core.standing.replaces == "second"


# -- a leader that has compacted what the follower lacks (OWN-184) ---------------------------------------------------------


def compacted_leader(held: int) -> Bench:
    """A leader whose log begins after entry 4; node 1 has acknowledged `held` entries, and gets a new connection."""
    node = leader(log="1 1 1 1 1", saved=4, compacted=4, policy=SnapshotPolicy(entries=1000), settled=False)
    acknowledge(node, 2, node.core.log.last_index)
    if held:
        acknowledge(node, 1, held)
    refuse(node, 5, held)
    assert progress(node, 1).state == "snapshot"
    return node


def connect_again(node: Bench) -> int:
    """Node 1 is connected anew; return the first round of the connection."""
    node.take_sent()
    node.pieces.clear()
    node.core.link_up(1, node.now)
    node.perform()
    assert isinstance(node.core.role, Leader)
    return node.core.role.round


def probes(node: Bench) -> list[tuple[int, int]]:
    """(prev_log_index, round) of the appends to node 1."""
    return [
        (message.prev_log_index, message.round) for to, message in node.take_sent() if to == 1 and type(message) is AppendRequest
    ]


def test_a_follower_that_lost_what_it_acknowledged_gets_no_snapshot_in_its_place() -> None:
    """OWN-184: an append at the start of the log is refused, and the refusal tells the loss; a snapshot would hide it."""
    node = compacted_leader(held=3)
    round = connect_again(node)
    assert (probes(node), node.take_pieces()) == ([(4, round)], [])
    refuse(node, 4, 2, round=round)
    assert node.announced("tail_lost") == [] and probes(node) == [(4, round + 1)]
    refuse(node, 4, 2, round=round + 1)
    assert node.announced("tail_lost") == [TailLost(peer=1, term=node.core.current_term, index=3)]
    assert not progress(node, 1).is_counted and node.take_pieces() == []
    demotion = Demotion(term=node.core.current_term, leader_id=0, cause="lost", index=3, entry_term=0, store="store-1")
    assert demotion in node.replies()


def test_a_follower_that_holds_what_it_acknowledged_gets_the_snapshot_after_its_refusal() -> None:
    """One round more on each connection; later heartbeats ask for nothing."""
    node = compacted_leader(held=3)
    round = connect_again(node)
    probes(node)
    refuse(node, 4, 3, round=round)
    assert (node.take_pieces(), node.announced("tail_lost")) == ([(1, 0)], [])
    node.tick(0.06)
    assert probes(node) == [(0, round)]


def test_a_loss_that_is_reported_in_place_of_a_snapshot_leaves_the_next_entry_behind_what_was_acknowledged() -> None:
    """While a snapshot is sent that is not so: a late acknowledgement may pass the next entry (seed 10953)."""
    node = compacted_leader(held=2)
    acknowledge(node, 1, 3)
    assert (progress(node, 1).state, progress(node, 1).next_index, progress(node, 1).match_index) == ("snapshot", 3, 3)
    round = connect_again(node)
    refuse(node, 4, 2, round=round)
    refuse(node, 4, 2, round=round + 1)
    assert node.announced("tail_lost") != []
    assert (progress(node, 1).state, progress(node, 1).next_index) == ("probe", 4)


def test_as_long_as_the_follower_is_asked_no_snapshot_is_said_to_be_sent_nor_waited_for() -> None:
    """Its first piece, once it is sent, is repeated as soon as that of any other transfer."""
    node = leader(log="1 1 1 1 1", saved=4, compacted=4, policy=SnapshotPolicy(entries=1000), settled=False)
    acknowledge(node, 2, node.core.log.last_index)
    acknowledge(node, 1, 3)
    round = connect_again(node)
    refuse(node, 5, 3, round=round - 1)
    for _ in range(40):
        node.tick(0.05)
        acknowledge(node, 2, node.core.log.last_index)
    transfer = progress(node, 1).transfer
    assert transfer is not None and (transfer.patience, node.announced("snapshot_sent")) == (1, [])
    refuse(node, 4, 3, round=round)
    assert len(node.take_pieces()) == len(node.announced("snapshot_sent")) == 1


def test_a_refusal_from_an_earlier_connection_brings_no_snapshot() -> None:
    """The follower may have been restarted since, and have lost what it held then."""
    node = compacted_leader(held=3)
    round = connect_again(node)
    refuse(node, 4, 3, round=round - 1)
    assert node.take_pieces() == []
    node.tick(0.06)
    assert probes(node) == [(4, round), (4, round)], "a heartbeat repeats the probe, which may be lost"


def test_a_follower_that_has_acknowledged_nothing_gets_its_snapshot_at_once() -> None:
    """It can't have lost anything: no round more."""
    node = compacted_leader(held=0)
    assert node.take_pieces() == [(1, 0)]
    connect_again(node)
    assert (probes(node), node.take_pieces()) == ([], [(1, 0)])


def test_a_follower_that_holds_the_start_of_the_log_needs_no_snapshot() -> None:
    """It has taken the entries from another leader, say: what follows is sent."""
    node = compacted_leader(held=3)
    round = connect_again(node)
    probes(node)
    reply = AppendReply(term=node.core.current_term, follower_id=1, success=True, match_index=4, prev_log_index=4, round=round)
    node.step(reply)
    assert (progress(node, 1).state, node.take_pieces(), probes(node)) == ("replicate", [], [(4, round)])


def test_a_loss_that_is_noticed_in_a_later_term_is_reported_where_the_log_is_compacted_meanwhile() -> None:
    """The follower was down; its first answer in the new term is to an append where the log begins."""
    node = leader(log="1 1 1 1 1", saved=4, policy=SnapshotPolicy(entries=1000, trailing=0))
    last = node.core.log.last_index
    lead_again(node)
    for ticket in range(4):
        node.core.propose(ticket, node.core.log.entry(1).command, node.now)
    node.perform().sync()
    acknowledge(node, 2, node.core.log.last_index)
    node.core.take_snapshot()
    node.perform()
    saved(node)
    node.perform()
    start = node.core.log.start_index
    assert (progress(node, 1).state, start > last) == ("snapshot", True)
    round = connect_again(node)
    assert probes(node) == [(start, round)]
    refuse(node, start, 2, round=round)
    refuse(node, start, 2, round=round + 1)
    assert node.announced("tail_lost") == [TailLost(peer=1, term=node.core.current_term, index=last)]
