"""Readmission: a node with a new disk becomes a member by an entry of the log, committed without it (BUG-37, BUG-38)."""

import pytest
from msgspec import structs

from bargetrio.raft.facts import MemberChanged
from bargetrio.raft.messages import (
    AppendReply,
    AppendRequest,
    Demotion,
    Introduction,
    PreVoteReply,
    PreVoteRequest,
    SnapshotRequest,
    VoteReply,
    VoteRequest,
)
from bargetrio.raft.roles import Leader
from bargetrio.raft.snapshot_state import SnapshotPolicy
from bargetrio.raft.standing import EARLIER, Configuration, Standing
from tests.raft.cores import (
    FIVE,
    IDENTITY,
    STORES,
    Bench,
    acknowledge,
    append,
    append_readmission,
    candidate,
    follower,
    leader,
    progress,
    readmission,
    snapshot,
)

NEW = Standing(store="new")


def asks(bench: Bench, term: int) -> tuple[bool, bool]:
    """Return whether the node grants a pre-vote, and a vote, to an up-to-date candidate in `term`, without a live leader."""
    bench.tick(2)
    bench.take_sent()
    bench.step(PreVoteRequest(term=term, candidate_id=1, last_log_index=99, last_log_term=term - 1))
    bench.step(VoteRequest(term=term, candidate_id=1, last_log_index=99, last_log_term=term - 1)).sync()
    replies = bench.replies()
    granted = [message.granted for message in replies if isinstance(message, (PreVoteReply, VoteReply))]
    assert len(granted) == 2
    return granted[0], granted[1]


def may_vote(bench: Bench) -> list[bool]:
    """Return the facts of the node's right to vote."""
    return [fact.may_vote for fact in bench.facts if isinstance(fact, MemberChanged)]


# -- the node with the new disk ------------------------------------------------------------------------------------------


def test_a_node_with_a_new_disk_neither_votes_nor_asks_for_votes() -> None:
    """Whichever node asks, and however long there is no leader."""
    node = follower(standing=NEW)
    for _ in range(10):
        node.tick(2)
    assert not [message for message in node.replies() if isinstance(message, (PreVoteRequest, VoteRequest))]
    assert node.core.role.name == "follower"
    assert asks(node, term=5) == (False, False)


def test_it_votes_when_its_disk_holds_the_entry_that_takes_it_in_and_it_knows_it_committed() -> None:
    """Entries of the leader's term, committed or not, do not suffice: the entry itself must be committed, here and synced."""
    node = follower(standing=NEW)
    node.step(append(term=3, prev=(0, 0), log="1 2 3", commit=3)).sync()
    assert not node.core.may_vote and node.standings == []
    node.step(append_readmission((3, 3), 3, 0, commit=3))
    node.step(append(term=3, prev=(4, 3), commit=4))
    assert node.standings == [], "the entry is not on its disk yet"
    node.sync()
    assert [effect.standing for effect in node.standings] == [Standing(store="new", identity=IDENTITY, admitted=4)]  # type: ignore[union-attr]
    assert not node.core.may_vote, "its folder does not say so yet"
    node.write_standings()
    assert node.core.may_vote and may_vote(node) == [True]
    assert asks(node, term=4) == (True, True)


def test_an_entry_that_is_not_committed_does_not_let_it_vote() -> None:
    """Whatever else is synced."""
    node = follower(standing=NEW)
    node.step(append(term=3, prev=(0, 0), log="1 2 3", commit=3)).sync()
    node.step(append_readmission((3, 3), 3, 0, commit=3)).sync()
    assert node.standings == []
    assert asks(node, term=4) == (False, False)


def test_in_the_term_in_which_it_is_admitted_its_vote_is_the_leaders() -> None:
    """It may have voted in this very term before its disk was lost; the vote is on the disk before it votes."""
    node = follower(standing=NEW)
    node.step(append(term=3, prev=(0, 0), log="1 2 3", commit=3)).sync()
    node.step(append_readmission((3, 3), 3, 0, commit=4))
    writes = node.writes
    node.writes = []
    assert node.standings == []
    node.writes = writes
    node.sync().write_standings()
    assert node.core.voted_for == 1
    assert node.core.durability.hard_state_is_durable
    assert asks(node, term=3) == (False, False)


def test_it_votes_only_when_the_vote_that_it_gives_the_leader_is_on_its_disk() -> None:
    """The entry is synced, and a write of the vote has only begun: a crash now would forget that vote."""
    node = follower(standing=NEW)
    node.step(append(term=3, prev=(0, 0), log="1 2 3", commit=3)).sync()
    node.step(append_readmission((3, 3), 3, 0, commit=4))
    entry = node.writes.pop(0)
    node.core.persisted(entry.number, node.now)
    node.perform()
    assert (node.core.durability.durable_index, node.core.voted_for, node.standings) == (4, 1, [])
    node.sync()
    assert len(node.standings) == 1


def test_a_vote_that_is_on_its_disk_already_does_not_stand_in_for_the_entry() -> None:
    """It gave the leader its vote in the life before, and lost its power before its folder said so: the entry comes again."""
    node = Bench(log="1 2 3", term=3, voted_for=1, standing=NEW)
    node.step(append_readmission((3, 3), 3, 0, commit=4))
    assert (node.core.commit_index, node.core.durability.durable_index, node.standings) == (4, 3, [])
    node.sync()
    assert len(node.standings) == 1


def test_after_a_restart_it_knows_the_entry_that_admitted_it_to_be_committed() -> None:
    """And a candidate gets it with its vote: else its acknowledgements could never count again where they are needed.

    It applies nothing: entries before that one may have changed on the disk, and were compared with no other log.
    """
    node = Bench(
        log="1 1 1 1",
        term=1,
        standing=Standing(store="new", identity=IDENTITY, admitted=3),
        configurations=(readmission(3, 0),),
    )
    assert (node.core.may_vote, node.core.membership.uncounted) == (True, None)
    node.perform()
    assert (node.core.commit_index, node.core.last_applied) == (0, 0)
    node.tick(0.61)
    node.step(VoteRequest(term=9, candidate_id=1, last_log_index=9, last_log_term=8)).sync()
    assert VoteReply(term=9, voter_id=0, granted=True, commit_index=3) in node.replies()


def test_a_new_leader_learns_from_a_vote_that_the_readmission_is_committed() -> None:
    """Two of three are left, and one of them is the readmitted one: together they must be able to commit."""
    node = candidate(log="1 1 1", configurations=(readmission(3, 1),))
    assert node.core.membership.uncounted == 1
    term = node.core.current_term
    node.step(VoteReply(term=term, voter_id=1, granted=True, commit_index=3)).sync()
    assert node.core.role.name == "leader" and node.core.membership.uncounted is None
    assert node.core.commit_index == 0, "whose log this is was compared with nobody's yet"
    acknowledge(node, 1, node.core.log.last_index)
    assert node.core.commit_index == node.core.log.last_index


def test_a_disk_that_lost_the_entry_that_admitted_it_begins_anew() -> None:
    """It was synced: a disk that lost it may also have lost votes and acknowledgements."""
    node = Bench(log="1 1", term=1, standing=Standing(store="new", identity=IDENTITY, admitted=3))
    node.perform()
    assert not node.core.may_vote
    assert [type(effect).__name__ for effect in node.standings] == ["ReplaceStore"]


def test_an_old_disk_that_receives_its_replacement_abstains() -> None:
    """The entry names another store for this node: this one is no member any more."""
    node = follower(log="1 1", term=1)
    assert node.core.may_vote
    node.step(append_readmission((2, 1), 1, 0)).sync()
    assert not node.core.may_vote
    node.step(append(term=2, prev=(2, 1), log="2"))  # another leader's log has no such entry: it never was
    assert node.core.may_vote


# -- the leader ----------------------------------------------------------------------------------------------------------


def test_the_leader_commits_the_readmission_without_counting_the_node() -> None:
    """Neither for that entry nor for others until it is committed; then as usual."""
    node = leader(log="1 1")
    node.core.hello_received(1, NEW, node.now)
    assert node.core.readmit(1, node.now) == ""
    node.perform().sync()
    index = node.core.log.last_index
    assert node.core.configuration == Configuration(
        index=index, identity=IDENTITY, stores={**STORES, 1: "new"}, readmitted=1, former=("store-1",)
    )
    acknowledge(node, 1, index)
    assert node.core.commit_index == index - 1
    acknowledge(node, 2, index)
    assert node.core.commit_index == index
    node.core.propose("a", node.core.log.entry(1).command, node.now)
    node.perform().sync()
    acknowledge(node, 1, index + 1)
    assert node.ended == {"a": "applied"}


def test_once_the_readmission_is_committed_what_the_node_has_acknowledged_before_counts_at_once() -> None:
    """Not only at the next acknowledgement: with the third node down there may be none."""
    node = leader(log="1 1")
    node.core.hello_received(1, NEW, node.now)
    assert node.core.readmit(1, node.now) == ""
    node.perform().sync()
    index = node.core.log.last_index
    node.core.propose("a", node.core.log.entry(1).command, node.now)
    node.perform().sync()
    acknowledge(node, 1, index + 1)
    acknowledge(node, 2, index)
    assert node.core.commit_index == index + 1
    assert node.ended == {"a": "applied"}


def test_with_five_the_new_disks_acknowledgement_is_not_one_of_the_three() -> None:
    """Two others must have the entry, whatever the readmitted node acknowledges."""
    node = leader(nodes=FIVE)
    node.core.hello_received(1, NEW, node.now)
    assert node.core.readmit(1, node.now) == ""
    node.perform().sync()
    index = node.core.log.last_index
    acknowledge(node, 1, index)
    acknowledge(node, 2, index)
    assert node.core.commit_index < index
    acknowledge(node, 3, index)
    assert node.core.commit_index == index


def test_an_uncounted_node_counts_for_no_quorum_and_confirms_no_read() -> None:
    """It abstains, and what its old disk voted in a higher term is not known (Ongaro 6.2, 6.4)."""
    node = leader(log="1 1")
    node.core.hello_received(1, NEW, node.now)
    assert node.core.readmit(1, node.now) == ""
    node.core.read("r", node.now)
    node.perform()
    round = node.core.role.round if isinstance(node.core.role, Leader) else 0
    acknowledge(node, 1, 0, round=round)
    assert "r" not in node.ended
    for _ in range(12):
        node.tick(0.06)
        if node.core.role.name == "leader":
            acknowledge(node, 1, 0)
    assert node.core.role.name == "follower"


def test_readmission_is_refused_in_words_where_it_cannot_be() -> None:
    """Each reason says what to do."""
    node = leader()
    assert "has not connected yet" in node.core.readmit(1, node.now)
    node.core.hello_received(1, Standing(store="old", identity=IDENTITY), node.now)
    assert "give it an empty one" in node.core.readmit(1, node.now)
    node.core.hello_received(1, Standing(store="store-1"), node.now)
    assert node.core.readmit(1, node.now) == "", "a member with its disk: nothing to do"
    assert "does not answer: start it" in node.core.readmit(1, node.now + 0.6), "it is a member, and may be gone"
    assert "its disk is in use" in node.core.readmit(0, node.now)
    assert "no node 7" in node.core.readmit(7, node.now)
    node.core.hello_received(1, NEW, node.now)
    node.core.hello_received(2, Standing(store="newer"), node.now)
    assert node.core.readmit(1, node.now) == ""
    assert "node 1 is being readmitted" in node.core.readmit(2, node.now)
    fresh = leader(settled=False)
    fresh.core.hello_received(1, NEW, fresh.now)
    assert "nothing in its term yet" in fresh.core.readmit(1, fresh.now)
    two = leader(nodes=(0, 1))
    two.core.hello_received(1, NEW, two.now)
    assert "bargetrio snapshot restore" in two.core.readmit(1, two.now)
    assert "does not lead" in follower().core.readmit(1, 0.0)


def test_a_new_disk_of_a_node_with_another_list_is_not_readmitted() -> None:
    """OWN-187: the entry was committed, and the node then refused every append."""
    node = leader()
    last = node.core.log.last_index
    for store in ("new", "store-1"):
        node.core.hello_received(1, Standing(store=store, members=(0, 1)), node.now)
        assert node.core.readmit(1, node.now) == (
            "node 1's configuration names nodes 0, 1, and the members of this cluster are nodes 0, 1, 2:"
            " they must be the same; see docs/operations.md"
        )
    assert node.core.log.last_index == last
    node.core.hello_received(1, Standing(store="new", members=(0, 1, 2)), node.now)
    assert node.core.readmit(1, node.now) == "" and node.core.log.last_index == last + 1


def test_a_new_disk_whose_node_is_down_again_is_not_readmitted() -> None:
    """Its folder may be another one when it is started (OWN-186). The member's own store is forgotten with its own connection."""
    node = leader()
    node.core.hello_received(1, NEW, node.now)
    node.core.hello_received(2, Standing(store="store-2"), node.now)
    node.core.link_down(1)
    node.core.link_down(2)
    assert "has not connected yet" in node.core.readmit(1, node.now)
    assert node.core.readmit(2, node.now) == ""
    node.core.hello_received(1, NEW, node.now)
    assert node.core.readmit(1, node.now) == ""


def test_a_store_that_was_a_member_is_never_taken_in_again() -> None:
    """A copy of its folder from before the birth has no record of it; its old acknowledgements might count again."""
    node = leader()
    node.core.hello_received(1, NEW, node.now)
    assert node.core.readmit(1, node.now) == ""
    node.perform().sync()
    acknowledge(node, 2, node.core.log.last_index)
    node.core.hello_received(1, Standing(store="store-1"), node.now)
    assert "give it an empty one" in node.core.readmit(1, node.now)


def test_a_truncated_readmission_counts_no_more() -> None:
    """An entry of the configuration counts from when it is appended, and no longer when it is truncated (BUG-40)."""
    node = follower(log="1 1", term=1)
    node.step(append_readmission((2, 1), 1, 2)).sync()
    assert node.core.configuration is not None and node.core.configuration.stores[2] == "new"
    node.step(append(term=2, prev=(2, 1), log="2 2"))
    assert node.core.configuration is not None and node.core.configuration.stores == STORES


def test_a_snapshot_carries_the_configuration_up_to_its_last_entry() -> None:
    """Not one of a later entry (BUG-36)."""
    node = follower(policy=SnapshotPolicy(entries=2, trailing=0))
    node.step(append(term=1, prev=(0, 0), log="1 1", commit=2))
    node.step(append_readmission((2, 1), 1, 2, commit=2)).sync()
    assert [effect.configuration.stores for effect in node.taking if effect.configuration] == [STORES]


def test_the_end_of_the_old_disks_connection_forgets_nothing_of_the_new_one() -> None:
    """It may be detected late, after the new disk has connected; the end of the new disk's own connection is handled."""
    node = leader(log="1 1")
    node.core.hello_received(1, NEW, node.now)
    node.core.connection_closed(1, Standing(store="store-1", identity=IDENTITY, birth=STORES))
    assert node.core.membership.seen[1][0] == NEW
    node.core.connection_closed(1, NEW)
    assert 1 not in node.core.membership.seen


def test_a_leader_elected_with_a_readmission_in_its_log_does_not_count_that_node() -> None:
    """It is not known to be committed: the node is not counted for the leader's first entry, either."""
    node = leader(log="1 1 1", configurations=(readmission(3, 1),), settled=False)
    assert node.core.membership.uncounted == 1 and not progress(node, 1).is_counted and progress(node, 2).is_counted
    acknowledge(node, 1, node.core.log.last_index)
    assert node.core.commit_index == 0


@pytest.mark.parametrize("way", ["installed", "restarted"])
def test_the_configuration_that_a_snapshot_holds_counts(way: str) -> None:
    """BUG-36, BUG-40: earlier configurations are no longer in the log."""
    configuration = readmission(4, 1)
    if way == "installed":
        node = follower()
        of = structs.replace(snapshot("1 1 1 2 2"), configuration=configuration)
        node.step(SnapshotRequest(term=2, leader_id=2, snapshot=of, offset=0, data=b"x" * 100)).stored(100).sync()
        node.core.snapshot_loaded(of)
        node.perform()
    else:
        node = follower(log="1 1 1 2 2 2", saved=5, compacted=5, saved_configuration=configuration)
    assert node.core.configuration == configuration and node.core.membership.uncounted is None
    node.step(append_readmission((node.core.log.last_index, 2), 2, 2)).sync()
    node.step(append(term=3, prev=(5, 2), log="3")).sync()
    assert node.core.configuration == configuration


def test_what_is_being_written_to_the_folder_is_waited_for() -> None:
    """Else the set of the birth would be written over the new store id, and the disk that lost entries would vote."""
    earlier = Standing(store="store-1", origin=EARLIER, identity=IDENTITY, birth=STORES)
    born = Introduction(term=1, node_id=1, standing=earlier, asks=False)
    lost = Demotion(term=1, leader_id=1, cause="lost", index=4, entry_term=1, store="")
    for messages in ((lost, born), (born, lost)):
        node = follower(log="1 1", term=1, standing=Standing(store="store-0", origin=EARLIER))
        for message in messages:
            node.step(message)
        assert len(node.standings) == 1
        node.write_standings()
        node.step(lost).write_standings()
        assert node.core.standing.replaces == "store-0" and not node.core.may_vote


# -- restarts ------------------------------------------------------------------------------------------------------------


def test_a_leader_lists_every_configuration_that_it_sends_also_those_before_its_snapshot() -> None:
    """After a restart the log still has entries before the snapshot; a follower that lacks them needs their configurations."""
    first = readmission(3, 1, "one")
    second = structs.replace(readmission(5, 2, "two"), stores={**first.stores, 2: "two"})
    node = leader(log="1 1 1 1 1 1 1", saved=6, configurations=(first, second), saved_configuration=second, settled=False)
    node.step(AppendReply(term=2, follower_id=1, success=False, prev_log_index=7, hint_index=2, hint_term=1, round=0))
    node.step(AppendReply(term=2, follower_id=1, success=True, match_index=2, prev_log_index=2, round=0))
    sent = [message for message in node.replies() if isinstance(message, AppendRequest) and message.entries]
    assert [(message.prev_log_index, message.configurations) for message in sent] == [(2, (3, 5))]
