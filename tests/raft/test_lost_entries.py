"""A disk that lost what its node had acknowledged: the leader names it, counts it no more, and has it readmitted."""

from bargetrio.raft.messages import (
    AppendReply,
    AppendRequest,
    Demotion,
    SnapshotReply,
)
from bargetrio.raft.snapshot_state import SnapshotPolicy
from bargetrio.raft.snapshots import begin_transfer
from bargetrio.raft.standing import REPLACED, Standing
from tests.raft.cores import Bench, acknowledge, follower, leader, progress

NEW = Standing(store="new")


def refuse(node: Bench, prev: int, last: int, round: int = 0) -> None:
    """A follower whose log ends at `last` refuses a probe."""
    term = node.core.current_term
    reply = AppendReply(term=term, follower_id=1, success=False, prev_log_index=prev, hint_index=last, hint_term=1, round=round)
    node.step(reply)


def test_a_follower_that_lost_what_it_acknowledged_is_named_and_not_counted() -> None:
    """Refused again in a round that began after the first refusal: that is no old answer."""
    node = leader(log="1 1 1")
    last = node.core.log.last_index
    refuse(node, last, 2)
    assert node.told("tail_lost") == []
    sent = [message for to, message in node.take_sent() if to == 1 and isinstance(message, AppendRequest)]
    assert [message.round for message in sent] == [1], "it is asked again"
    refuse(node, last, 2, round=1)
    assert [fact.peer for fact in node.told("tail_lost")] == [1]  # type: ignore[union-attr]
    assert not progress(node, 1).is_counted
    term = node.core.current_term
    assert Demotion(term=term, leader_id=0, cause="lost", index=last, entry_term=term, store="store-1") in node.replies()


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
    assert node.told("tail_lost") == [] and progress(node, 1).is_counted


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
    assert node.told("tail_lost") == [] and progress(node, 1).is_counted


def test_an_old_refusal_says_nothing() -> None:
    """It was sent before the follower had the entries: the reply to the next round acknowledges them."""
    node = leader(log="1 1 1")
    last = node.core.log.last_index
    refuse(node, last, 2)
    acknowledge(node, 1, last, round=1)
    refuse(node, last, 2)
    refuse(node, last, 2)
    assert node.told("tail_lost") == [] and progress(node, 1).is_counted


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
    assert node.told("tail_lost") == [] and progress(node, 1).is_counted
    refuse(node, last + 1, last, round=2)
    assert node.told("tail_lost") != [], "asked once more, it refuses"


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
    assert [fact.peer for fact in node.told("tail_lost")] == [1]  # type: ignore[union-attr]
    copy.write_standings()
    assert copy.core.standing.replaces == "store-1" and not copy.core.may_vote


def test_a_disk_that_loses_entries_before_it_votes_again_is_replaced_once_more() -> None:
    """The entry that takes it in is committed, so its acknowledgements count."""
    node = follower(log="1 1", term=1, standing=Standing(store="second", origin=REPLACED, replaces="store-0"))
    node.step(Demotion(term=1, leader_id=1, cause="lost", index=4, entry_term=1, store="second"))
    node.write_standings()
    assert node.core.standing.replaces == "second"
