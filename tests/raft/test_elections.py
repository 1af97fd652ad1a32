"""Raft 5.2, 5.4.1 and Ongaro 4.2.3, 9.6: which node may lead, and how often a node may vote."""

from bargetrio.raft.facts import VoteRefused
from bargetrio.raft.messages import AppendReply, PreVoteReply, PreVoteRequest, VoteReply, VoteRequest
from bargetrio.raft.records import HardState
from tests.raft.cores import Bench, Table, acknowledge, append, candidate, follower, leader, terms


def ask(term: int, candidate_id: int = 1, last: tuple[int, int] = (0, 0)) -> VoteRequest:
    return VoteRequest(term=term, candidate_id=candidate_id, last_log_index=last[0], last_log_term=last[1])


def ask_before(term: int, candidate_id: int = 1, last: tuple[int, int] = (0, 0)) -> PreVoteRequest:
    return PreVoteRequest(term=term, candidate_id=candidate_id, last_log_index=last[0], last_log_term=last[1])


def role_of(bench: Bench) -> str:
    return bench.core.role.name


def granted(bench: Bench) -> list[bool]:
    return [reply.granted for reply in bench.replies() if isinstance(reply, VoteReply)]


def test_a_vote_is_given_once_a_term() -> None:
    """Raft 5.2: first come, first served; the same candidate may ask again."""
    node = follower()
    assert granted(node.step(ask(1, 1)).sync()) == [True]
    assert granted(node.step(ask(1, 2)).sync()) == [False]
    assert granted(node.step(ask(1, 1)).sync()) == [True]


def test_a_vote_leaves_when_it_is_on_the_disk() -> None:
    """Raft 5.2, BUG-01, BUG-02: term and vote are one record, and the answer waits for its sync."""
    node = follower()
    node.step(ask(3, 1))
    assert node.take_sent() == []
    assert node.writes[0].records == (HardState(term=3, voted_for=1),)
    node.sync()
    assert node.replies() == [VoteReply(term=3, voter_id=0, granted=True)]


def test_a_vote_is_remembered_across_lives() -> None:
    """BUG-01: a node that restarts with its vote on the disk does not vote again."""
    node = follower(term=3, voted_for=1)
    assert granted(node.step(ask(3, 2)).sync()) == [False]
    assert granted(node.step(ask(3, 1)).sync()) == [True]


def test_an_old_term_gets_no_vote_and_learns_the_new_one() -> None:
    """Raft 5.1: requests of an old term are refused with our own."""
    node = follower(term=5)
    node.step(ask(4))
    assert node.replies() == [VoteReply(term=5, voter_id=0, granted=False, reason="term 4 is old, ours is 5")]


def test_a_candidate_with_an_older_last_term_is_refused() -> None:
    """Raft 5.4.1: the later last term is more up to date, whatever the length."""
    node = follower(log="1 2")
    assert granted(node.step(ask(3, last=(5, 1))).sync()) == [False]
    assert granted(node.step(ask(4, last=(1, 3))).sync()) == [True]


def test_a_candidate_with_a_shorter_log_of_the_same_term_is_refused() -> None:
    """Raft 5.4.1: of equal last terms the longer log is more up to date; an equal one will do."""
    node = follower(log="1 1")
    assert granted(node.step(ask(2, 1, last=(1, 1))).sync()) == [False]
    assert granted(node.step(ask(3, 2, last=(2, 1))).sync()) == [True]


def test_a_vote_is_not_forgotten_within_its_term() -> None:
    """BUG-03: stepping down, or hearing a leader, keeps term and vote together."""
    node = leader()
    term = node.core.current_term
    node.tick(0.7)  # no replies: check-quorum
    assert node.core.role.name != "leader"
    assert (node.core.current_term, node.core.voted_for) == (term, 0)
    assert granted(node.sync().step(ask(term, 2, last=(9, term))).sync()) == [False]


def test_a_leader_gives_no_vote_in_its_own_term() -> None:
    """BUG-04: it has voted for itself."""
    node = leader()
    assert granted(node.step(ask(node.core.current_term, 1, last=(9, 9))).sync()) == [False]


def test_a_majority_makes_a_leader_and_it_begins_with_an_empty_entry() -> None:
    """Raft 5.2, 8: two of three votes; the no-op of the new term is appended at once."""
    node = candidate(log="1 1")
    node.step(VoteReply(term=node.core.current_term, voter_id=1, granted=True))
    assert node.core.role.name == "leader"
    assert terms(node.core.log) == [1, 1, 2]
    assert bytes(node.core.log.entry(3).command) == b"null"


def test_votes_are_counted_by_voter_and_only_of_this_election() -> None:
    """BUG-06: a duplicate, an old term's and a refusal count for nothing."""
    node = candidate(nodes=(0, 1, 2, 3, 4))
    term = node.core.current_term
    for _ in range(3):
        node.step(VoteReply(term=term, voter_id=1, granted=True))
    node.step(VoteReply(term=term - 1, voter_id=2, granted=True))
    node.step(VoteReply(term=term, voter_id=3, granted=False))
    assert role_of(node) == "candidate"
    node.step(VoteReply(term=term, voter_id=2, granted=True))
    assert role_of(node) == "leader"


def test_the_own_vote_counts_when_it_is_on_the_disk() -> None:
    """BUG-50: a cluster of one does not lead before its vote is synced."""
    node = follower(nodes=(0,))
    node.tick(0.61)
    assert role_of(node) == "candidate"
    node.sync()
    assert role_of(node) == "leader"


def test_the_end_of_an_earlier_write_is_not_the_own_vote() -> None:
    """BUG-50: entries were being written when the term began; the vote is in the next write."""
    node = follower(term=1)
    node.step(append(term=1, log="1"))
    earlier = node.writes.pop()
    node.tick(0.61)
    node.step(PreVoteReply(term=2, voter_id=1, granted=True))
    node.step(VoteReply(term=2, voter_id=1, granted=True))
    node.core.persisted(earlier.number, node.now)
    node.perform()
    assert role_of(node) == "candidate"
    node.sync()
    assert role_of(node) == "leader"


def test_a_higher_term_turns_everybody_into_a_follower() -> None:
    """Raft 5.1: candidates and leaders step down at the sight of a higher term in any reply."""
    for node in (candidate(), leader()):
        term = node.core.current_term
        node.step(VoteReply(term=term + 3, voter_id=1, granted=False))
        assert (node.core.role.name, node.core.current_term, node.core.voted_for) == ("follower", term + 3, None)


def test_a_candidate_obeys_the_leader_of_its_own_term() -> None:
    """Raft 5.2: another node has won."""
    node = candidate()
    node.step(append(term=node.core.current_term, leader_id=2))
    assert (node.core.role.name, node.core.leader_id) == ("follower", 2)


def test_the_term_never_falls() -> None:
    """BUG-07: nothing of an old term lowers ours."""
    node = follower(term=7)
    for message in (ask(3), append(term=2), ask_before(4), VoteReply(term=1, voter_id=1, granted=True)):
        node.step(message)
    assert node.core.current_term == 7


def test_the_timer_is_reset_by_a_leader_and_by_a_granted_vote_only() -> None:
    """Raft 5.2, BUG-08, BUG-09: not by a refused vote, an old leader, or a mere higher term."""
    node = follower(log="1 1", term=5)
    before = node.core.next_deadline()
    node.now = 0.2
    node.step(append(term=4))
    node.step(ask(5, last=(0, 0)))
    node.step(ask(6, last=(0, 0)))
    assert node.core.next_deadline() == before
    node.now = 0.31
    node.step(ask(6, 2, last=(2, 1))).sync()
    assert node.core.next_deadline() >= 0.31 + 0.3 > before
    node.now = 0.65
    node.step(append(term=6, leader_id=2, prev=(9, 6)))  # the log check fails, and still there is a leader
    assert node.core.next_deadline() >= 0.65 + 0.3


def test_election_timeouts_are_random_within_their_bounds() -> None:
    """Raft 5.2: so that split votes are rare."""
    deadlines = {Bench(node_id, nodes=(0, 1, 2, 3, 4)).core.next_deadline() for node_id in range(5)}
    assert len(deadlines) == 5
    assert all(0.3 <= deadline <= 0.6 for deadline in deadlines)


def test_a_pre_vote_changes_nothing_at_the_voter() -> None:
    """Ongaro 9.6: neither term nor vote nor timer, and nothing is written."""
    node = follower(term=2)
    before = node.core.next_deadline()
    node.step(ask_before(3))
    assert node.replies() == [PreVoteReply(term=3, voter_id=0, granted=True)]
    assert (node.core.current_term, node.core.voted_for, node.writes, node.core.next_deadline()) == (2, None, [], before)


def test_a_node_with_a_live_leader_grants_neither_pre_vote_nor_vote() -> None:
    """Ongaro 4.2.3: a node that was partitioned deposes no leader when it reconnects; its high term is not adopted."""
    node = follower(term=2)
    node.step(append(term=2, leader_id=1))
    node.take_sent()
    node.now = 0.29
    node.step(ask_before(9, 2, last=(9, 9)))
    node.step(ask(9, 2, last=(9, 9)))
    assert [getattr(reply, "granted", None) for reply in node.replies()] == [False, False]
    assert node.core.current_term == 2
    assert isinstance(node.announced("vote_refused")[0], VoteRefused)
    node.now = 0.31
    node.step(ask(9, 2, last=(9, 9))).sync()
    assert granted(node) == [True]


def test_a_pre_vote_needs_an_up_to_date_log_too() -> None:
    """BUG-11: liveness alone is not enough."""
    node = follower(log="1 2")
    node.step(ask_before(3, last=(1, 1)))
    assert [reply.granted for reply in node.replies() if isinstance(reply, PreVoteReply)] == [False]


def test_a_refused_pre_vote_teaches_the_term() -> None:
    """BUG-10: the longest log on the old term learns the highest term from its refusals, and can win later."""
    node = follower(log="1 1 1")
    node.tick(0.61)
    assert node.core.role.name == "pre_candidate"
    node.step(PreVoteReply(term=8, voter_id=1, granted=False, reason="old term"))
    assert (node.core.role.name, node.core.current_term) == ("follower", 8)


def test_pre_votes_of_another_question_do_not_count() -> None:
    """Ongaro 9.6: a grant echoes the term that was asked about."""
    node = follower(term=4)
    node.tick(0.61)
    node.step(PreVoteReply(term=4, voter_id=1, granted=True))
    assert role_of(node) == "pre_candidate"
    node.step(PreVoteReply(term=5, voter_id=1, granted=True))
    assert role_of(node) == "candidate"


def test_an_answer_to_an_old_append_carries_the_higher_term() -> None:
    """BUG-10: though voters with a live leader refuse (Ongaro 4.2.3), a node with an old term must adopt the higher one."""
    node = follower(term=6)
    node.step(append(term=3, leader_id=2))
    (reply,) = node.replies()
    assert isinstance(reply, AppendReply)
    assert (reply.term, reply.success) == (6, False)


def test_a_leader_without_a_majority_steps_down() -> None:
    """Ongaro 6.2: after one election timeout without answers; with one answer of two it stays."""
    alone, heard = leader(), leader()
    alone.tick(0.7)
    assert alone.core.role.name != "leader"
    for _ in range(14):
        heard.tick(0.05)
        acknowledge(heard, 1, heard.core.log.last_index)
    assert heard.core.role.name == "leader"


def test_a_timer_that_fires_late_is_restarted() -> None:
    """The process was paused: a full timeout passes before an election, or before stepping down."""
    node = follower()
    node.now = 5.0
    node.core.tick(5.0)
    assert node.core.role.name == "follower"
    assert node.core.next_deadline() >= 5.3
    ruler = leader()
    ruler.now += 5
    ruler.core.tick(ruler.now)
    ruler.perform()
    assert ruler.core.role.name == "leader"


def test_one_leader_a_term_among_five_with_messages_lost_at_random() -> None:
    """Raft 5.2, BUG-05: whatever is lost, no term has two leaders."""
    from random import Random

    for seed in range(5):
        dice = Random(seed).random
        table = Table(5)
        ruled: dict[int, set[int]] = {}
        for _ in range(15):
            table.pass_time(0.1, lost=lambda source, target, dice=dice: dice() < 0.3)  # type: ignore[misc]  # bound now
            for node_id in table.leaders():
                ruled.setdefault(table.core(node_id).current_term, set()).add(node_id)
        assert ruled
        assert all(len(nodes) == 1 for nodes in ruled.values())


def test_a_partial_partition_settles() -> None:
    """BUG-13: node 2 can't reach the leader but reaches node 1; it deposes no leader."""
    table = Table(3)
    table.pass_time(1.0)
    (ruler,) = table.leaders()
    blind = min({0, 1, 2} - {ruler})
    term = table.core(ruler).current_term
    table.pass_time(3.0, lost=lambda source, target: {source, target} == {ruler, blind})
    assert table.leaders() == [ruler]
    assert table.core(ruler).current_term == term
