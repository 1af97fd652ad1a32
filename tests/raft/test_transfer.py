"""Leadership transfer (Ongaro 3.10): a follower that holds all entries is elected at once, while the others hear the leader."""

import pytest
from msgspec import Raw, structs

from bargetrio.raft.facts import TransferBegan, TransferEnded
from bargetrio.raft.messages import AppendRequest, TimeoutNow, VoteReply, VoteRequest
from bargetrio.raft.roles import Candidate, Follower, Leader
from bargetrio.raft.standing import Standing
from tests.raft.cores import ELECTION_S, HEARTBEAT_S, Bench, Table, acknowledge, append, follower, leader, progress

PUT = Raw(b'{"op":"put","key":"a","value":"1"}')


def asked(node: Bench) -> list[int]:
    """Return who was asked to stand for election, and clear what was sent."""
    return [to for to, message in node.take_sent() if isinstance(message, TimeoutNow)]


def transfer(node: Bench, target: int) -> str:
    """Transfer the leadership; return why not."""
    answer = node.core.transfer_leadership((target,), node.now)
    node.perform()
    return answer


def test_the_target_is_asked_when_it_holds_all_entries() -> None:
    """Until then it is sent what it lacks; another node's acknowledgement is none of its own."""
    node = leader(log="1 1")
    node.core.propose("before", PUT, node.now)
    node.perform().sync()
    last = node.core.log.last_index
    assert transfer(node, 1) == ""
    assert asked(node) == []
    acknowledge(node, 2, last)
    assert node.ended == {"before": "applied"}
    assert asked(node) == []
    acknowledge(node, 1, last)
    assert asked(node) == [1]
    assert node.announced("transfer_began") == [TransferBegan(peer=1, term=node.core.current_term)]


def test_no_proposal_is_left_without_an_answer() -> None:
    """What the target holds and this leader has not applied is applied first: its client would not hear of its write."""
    node = leader(log="1 1")
    node.core.propose("before", PUT, node.now)
    node.perform().sync()
    transfer(node, 1)
    node.may_apply = False
    acknowledge(node, 1, node.core.log.last_index)
    assert asked(node) == []
    node.may_apply = True
    node.perform()
    assert (node.ended, asked(node)) == ({"before": "applied"}, [1])


def test_a_target_that_holds_all_entries_is_asked_at_once_and_again_with_each_heartbeat() -> None:
    """The message may be lost."""
    node = leader()
    assert transfer(node, 2) == ""
    assert asked(node) == [2]
    assert transfer(node, 2) == "", "it is under way"
    assert asked(node) == []
    node.tick(HEARTBEAT_S)
    assert asked(node) == [2]


def test_no_proposal_is_taken_while_leadership_is_transferred() -> None:
    """It is certainly without effect, so its client asks again; a read is served as ever."""
    node = leader()
    transfer(node, 1)
    node.core.propose("one", PUT, node.now)
    node.core.propose_all(["two", "three"], [PUT, PUT], node.now)
    node.core.read("read", node.now)
    node.perform()
    assert node.ended == {"one": "no_leader", "two": "no_leader", "three": "no_leader"}
    acknowledge(node, 1, node.core.log.last_index, round=1)
    assert node.ended["read"] == f"read at {node.core.commit_index}"


def test_a_transfer_is_given_up_and_proposals_are_taken_again() -> None:
    """After the longest election timeout, also where the target lacks entries."""
    for lacks in (False, True):
        node = leader()
        if lacks:
            node.core.propose("before", PUT, node.now)
            node.perform().sync()
        transfer(node, 1)
        for _ in range(round(ELECTION_S[1] / HEARTBEAT_S) + 1):
            node.tick(HEARTBEAT_S)
            acknowledge(node, 2, node.core.log.last_index)
        (ended,) = node.announced("transfer_ended")
        assert isinstance(ended, TransferEnded)
        assert ended.reason == ("it did not get all entries in time" if lacks else "it was not elected in time")
        assert isinstance(node.core.role, Leader)
        node.take_sent()
        node.core.propose("after", PUT, node.now)
        node.perform()
        assert "after" not in node.ended
        node.tick(2 * HEARTBEAT_S)
        assert asked(node) == []


def test_who_can_not_be_elected_is_not_asked() -> None:
    """The operator is told why."""
    node = leader()
    assert transfer(node, 0) == "", "it leads"
    assert "there is no node 7" in transfer(node, 7)
    progress(node, 1).is_counted = False
    node.is_judged = False
    assert "does not count yet" in transfer(node, 1)
    progress(node, 1).is_counted = True
    for _ in range(8):
        node.tick(HEARTBEAT_S)
        acknowledge(node, 2, node.core.log.last_index)
    assert "node 1 does not answer" in transfer(node, 1)
    assert node.core.transfer_leadership((1, 7), node.now) == "node 1 does not answer; there is no node 7"
    assert node.core.transfer_leadership((), node.now) == "there is no other node"
    assert transfer(node, 2) == ""
    acknowledge(node, 1, node.core.log.last_index)
    assert "being transferred to node 2" in transfer(node, 1)
    assert "being transferred" not in transfer(leader(), 1)
    assert "committed nothing in its term" in transfer(leader(settled=False), 1)
    assert "does not lead" in transfer(follower(), 1)


def test_of_several_the_one_that_holds_most_entries_is_asked() -> None:
    """It takes the shortest time; and who can't be elected is passed over."""
    node = leader()
    node.core.propose("a", PUT, node.now)
    node.perform().sync()
    acknowledge(node, 2, node.core.log.last_index)
    node.take_sent()
    assert node.core.transfer_leadership((7, 1, 2), node.now) == ""
    node.perform()
    assert asked(node) == [2]


def test_nobody_is_readmitted_meanwhile() -> None:
    """Its entry would be one that the target lacks."""
    node = leader()
    transfer(node, 1)
    assert node.core.readmit(2, node.now) != ""


def heard(log: str = "1 1") -> Bench:
    """A follower of node 1 in term 1 that heard it just now."""
    node = follower(log=log)
    node.step(append(prev=(2, 1))).sync()
    node.take_sent()
    return node


def test_the_target_stands_for_election_without_a_pre_vote() -> None:
    """Its requests for votes say why."""
    node = heard()
    node.step(TimeoutNow(term=1, leader_id=1))
    assert isinstance(node.core.role, Candidate)
    assert node.take_sent() == [], "its own vote is not on the disk yet"
    node.sync()
    wanted = VoteRequest(term=2, candidate_id=0, last_log_index=2, last_log_term=1, transfers=True)
    assert node.take_sent() == [(1, wanted), (2, wanted)]
    node.step(TimeoutNow(term=1, leader_id=1))
    assert node.core.current_term == 2, "once"
    node.step(VoteReply(term=2, voter_id=2, granted=True))
    assert isinstance(node.core.role, Leader)


def test_the_target_asks_again_for_votes_as_it_asked_first() -> None:
    """The voters hear the old leader all the time."""
    node = heard()
    node.step(TimeoutNow(term=1, leader_id=1)).sync()
    node.take_sent()
    assert isinstance(node.core.role, Candidate)
    node.core.role.time_ends_at = node.now + 10  # as where disks are slow
    node.tick(ELECTION_S[1])
    again = [message for message in node.replies() if isinstance(message, VoteRequest)]
    assert again and all(message.transfers for message in again)


@pytest.mark.parametrize("term", [0, 3])
def test_a_leader_of_an_old_term_transfers_nothing_and_one_of_a_new_term_is_followed_first(term: int) -> None:
    """Its term is adopted, as that of an append."""
    node = heard()
    node.step(TimeoutNow(term=term, leader_id=2)).sync()
    assert node.core.current_term == max(1, term)
    assert isinstance(node.core.role, Follower), "the new term was not on its disk"
    node.step(TimeoutNow(term=term, leader_id=2))
    assert node.core.current_term == (1 if term == 0 else 4)
    assert isinstance(node.core.role, Follower if term == 0 else Candidate)


def test_who_does_not_vote_and_who_waits_for_its_disk_does_not_stand_for_election() -> None:
    """The leader asks again, or gives up."""
    node = follower(log="1 1", standing=Standing(store="new"))
    node.step(append(prev=(2, 1))).sync()
    node.step(TimeoutNow(term=1, leader_id=1))
    assert isinstance(node.core.role, Follower)
    node = follower(log="1 1")
    node.step(append(term=2, prev=(2, 1)))
    node.step(TimeoutNow(term=2, leader_id=1))
    assert isinstance(node.core.role, Follower), "its term is not on the disk"
    node.sync().step(TimeoutNow(term=2, leader_id=1))
    assert isinstance(node.core.role, Candidate)


def test_a_voter_that_hears_the_leader_grants_what_it_asked_for() -> None:
    """And nothing else (Ongaro 4.2.3); the log is compared as ever (Raft 5.4.1)."""
    request = VoteRequest(term=2, candidate_id=2, last_log_index=2, last_log_term=1)
    for transfers, log_index, granted in ((False, 2, False), (True, 2, True), (True, 1, False)):
        node = heard()
        node.step(structs.replace(request, transfers=transfers, last_log_index=log_index)).sync()
        (reply,) = node.replies()
        assert isinstance(reply, VoteReply)
        assert (reply.granted, node.core.current_term) == (granted, 2 if transfers else 1)


def test_the_leader_itself_votes_for_the_target() -> None:
    """It steps down, though a majority follows it."""
    node = leader()
    term, last = node.core.current_term, node.core.log.last_index
    node.step(VoteRequest(term=term + 1, candidate_id=1, last_log_index=last, last_log_term=term, transfers=True)).sync()
    assert isinstance(node.core.role, Follower)
    assert [reply.granted for reply in node.replies() if isinstance(reply, VoteReply)] == [True]


def test_a_cluster_has_another_leader_without_an_election_timeout() -> None:
    """All by messages: no time passes."""
    table = Table()
    table.pass_time(1.5)
    (old,) = table.leaders()
    target = (old + 1) % 3
    term = table.core(old).current_term
    assert table.core(old).transfer_leadership((target,), table.now) == ""
    table.settle()
    assert table.leaders() == [target]
    assert {table.core(node_id).current_term for node_id in table.ids} == {term + 1}
    assert table.core(old).leader_id == target
    appends = [message for bench in table.benches.values() for message in bench.replies() if isinstance(message, AppendRequest)]
    assert not appends
