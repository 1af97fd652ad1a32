"""5.2 where syncs outlast election timeouts: what a candidate and its voters do while they wait for the disks that they need."""

from msgspec import structs

from bargetrio.raft.messages import PreVoteReply, VoteReply, VoteRequest
from bargetrio.raft.quorum import majority_of
from bargetrio.raft.roles import Candidate, Leader, PreCandidate
from tests.raft.cores import Bench, append, candidate, follower


def stands(**options: object) -> Bench:
    """A candidate whose own vote is on its way to the disk."""
    node = follower(**options)
    node.tick(0.61)
    for voter_id in range(1, majority_of(len(node.core.members))):
        node.step(PreVoteReply(term=node.core.current_term + 1, voter_id=voter_id, granted=True))
    assert node.core.role.name == "candidate"
    node.take_sent()
    return node


def vote(node: Bench, voter_id: int) -> VoteReply:
    return VoteReply(term=node.core.current_term, voter_id=voter_id, granted=True)


def patient() -> Bench:
    """One of five whose vote took 2.5 s to be synced, a while later: its time is that of two such syncs."""
    node = stands(nodes=(0, 1, 2, 3, 4))
    node.tick(2.5)
    node.sync()
    node.tick(0.61)
    assert isinstance(node.core.role, Candidate)
    return node


def gives_up_and_counts_late_votes(node: Bench) -> None:
    """Its time is over after one election timeout; votes of its term make it a leader all the same."""
    node.tick(0.61)
    assert isinstance(node.core.role, PreCandidate)
    node.step(vote(node, 1))
    node.step(vote(node, 2))
    assert isinstance(node.core.role, Leader)


def test_a_candidates_time_begins_when_its_vote_is_on_the_disk() -> None:
    """While its sync hangs it begins no further term, and sends no request."""
    node = stands()
    node.tick(2.5)
    assert (node.core.role.name, node.core.current_term, node.take_sent()) == ("candidate", 1, [])
    node.sync()
    assert [type(message) for message in node.replies()] == [VoteRequest, VoteRequest]
    node.tick(2 * 2.5)  # its voters' disks may be as slow
    assert (node.core.role.name, node.core.current_term) == ("candidate", 1)
    node.tick(2 * 2.5)
    assert node.core.role.name == "pre_candidate"


def test_a_candidate_whose_time_is_long_asks_again_for_the_votes_that_it_lacks() -> None:
    """Raft 5.1: a lost request is repeated within the term, each election timeout, until the candidate's time is over."""
    node = stands(nodes=(0, 1, 2, 3, 4))
    node.tick(2.5)
    node.sync()
    first = dict(node.take_sent())
    assert sorted(first) == [1, 2, 3, 4]
    node.step(vote(node, 1))
    node.step(VoteReply(term=0, voter_id=2, granted=False, reason="hears leader 4"))
    node.tick(0.61)
    assert node.take_sent() == [(peer, first[peer]) for peer in (2, 3, 4)]
    node.tick(5.0)
    again = node.take_sent()
    assert {peer for peer, _ in again} == {2, 3, 4}
    assert len(again) <= 3 * 5.0 / 0.3
    node.step(vote(node, 3))
    assert (node.core.role.name, node.core.current_term) == ("leader", 1)


def test_a_candidate_that_meets_another_one_in_its_term_waits_for_one_election_timeout_only() -> None:
    """Raft 5.2: the votes may be split; its time, as long as disks are slow, would go by for both. Later votes still count."""
    node = patient()
    other = VoteRequest(term=node.core.current_term, candidate_id=4, last_log_index=0, last_log_term=0)
    node.step(structs.replace(other, term=other.term - 1))
    node.tick(0.61)
    assert isinstance(node.core.role, Candidate), "that one has lost already"
    node.step(other)
    gives_up_and_counts_late_votes(node)


def test_a_candidate_that_is_refused_by_one_that_has_given_up_waits_for_one_election_timeout_only() -> None:
    """OWN-185: that one was restarted, and asks for no votes. Any other refusal tells of no split vote."""
    node = patient()
    term = node.core.current_term
    refusal = VoteReply(term=term, voter_id=4, granted=False, reason="already voted for node 3")
    node.step(refusal)
    node.step(structs.replace(refusal, term=term - 1, has_given_up=True))
    node.tick(0.61)
    assert isinstance(node.core.role, Candidate)
    node.step(structs.replace(refusal, has_given_up=True))
    gives_up_and_counts_late_votes(node)


def test_one_that_stood_for_election_and_was_restarted_says_so_when_it_refuses() -> None:
    """As a candidate, and after its time, votes for it still count."""
    node = stands(nodes=(0, 1, 2, 3, 4))
    node.tick(2.5)
    node.sync()
    request = VoteRequest(term=node.core.current_term, candidate_id=4, last_log_index=9, last_log_term=9)
    restarted = follower(term=request.term, voted_for=0, nodes=(0, 1, 2, 3, 4))
    other = follower(term=request.term, voted_for=1, nodes=(0, 1, 2, 3, 4))
    node.step(request)
    node.tick(0.61)
    assert isinstance(node.core.role, PreCandidate)
    for each in (node, restarted, other):
        each.step(request)
    told = [[reply.has_given_up for reply in each.replies() if isinstance(reply, VoteReply)] for each in (node, restarted, other)]
    assert told == [[False, False], [True], [False]]


def test_a_candidate_repeats_no_request_while_its_own_vote_is_not_on_the_disk() -> None:
    """Raft 5.2: it has sent none yet."""
    node = stands()
    node.tick(8.0)
    assert node.take_sent() == []


def test_a_voter_that_is_asked_again_says_the_same_and_gives_no_more_time() -> None:
    """BUG-09: the timer started with the vote; a candidate that receives no replies must not delay its voter for ever."""
    node = follower(log="1")
    ask = VoteRequest(term=2, candidate_id=1, last_log_index=1, last_log_term=1)
    node.step(ask)
    node.sync()
    told, deadline = node.take_sent(), node.core.next_deadline()
    node.tick(0.2)
    node.step(ask)
    assert node.take_sent() == told == [(1, VoteReply(term=2, voter_id=0, granted=True))]
    assert node.core.next_deadline() == deadline
    node.tick(0.41)
    assert node.core.role.name == "pre_candidate"
    node.take_sent()
    node.step(ask)
    assert (node.take_sent(), node.core.role.name, len(node.announced("vote_granted"))) == (told, "pre_candidate", 1)


def test_a_fast_candidate_waits_no_longer_than_an_election_timeout() -> None:
    """A sync of a few milliseconds does not extend the time."""
    node = stands()
    node.tick(0.005)
    node.sync()
    assert 0.3 <= node.core.next_deadline() - node.now <= 0.6


def test_a_voters_time_begins_when_its_vote_is_on_the_disk() -> None:
    """BUG-09: or it would stand against the candidate when the vote reaches that."""
    node = follower()
    node.step(VoteRequest(term=1, candidate_id=1, last_log_index=0, last_log_term=0))
    node.tick(2.5)
    assert (node.core.role.name, node.take_sent()) == ("follower", [])
    node.sync()
    assert node.replies() == [VoteReply(term=1, voter_id=0, granted=True)]
    assert node.core.next_deadline() >= node.now + 0.3


def test_votes_that_come_when_the_next_term_is_asked_about_make_a_leader() -> None:
    """A voter's sync took longer than the candidate's time: it has not begun the next term, and leads this one."""
    node = candidate()
    node.tick(0.61)
    assert node.core.role.name == "pre_candidate"
    node.step(vote(node, 2))
    assert (node.core.role.name, node.core.current_term) == ("leader", 1)


def test_a_pre_candidate_that_was_no_candidate_counts_no_votes() -> None:
    """Raft 5.2: votes for it in a term in which it did not stand, or voted for another node, elect no leader."""
    node = follower(term=3, voted_for=1)
    node.tick(0.61)
    for voter in (1, 2):
        node.step(vote(node, voter))
    assert node.core.role.name == "pre_candidate"


def test_a_node_that_followed_a_leader_counts_no_earlier_votes() -> None:
    """Raft 5.2: another was elected in that term."""
    node = candidate()
    node.step(append(term=1))
    node.tick(0.61)
    node.step(vote(node, 2))
    assert node.core.role.name == "pre_candidate"
