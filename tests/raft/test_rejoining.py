"""A node that lost its disk abstains until it has caught up: it might give a second vote, or elect who lacks what it had."""

from bargetrio.raft.messages import AppendReply, PreVoteReply, PreVoteRequest, VoteReply, VoteRequest
from bargetrio.raft.roles import Leader, Progress
from tests.raft.cores import Bench, acknowledge, append, follower, leader


def asks(bench: Bench, term: int) -> tuple[bool, bool]:
    """Return whether the node would vote, and votes, for an up-to-date candidate in `term`, when it hears no leader."""
    bench.tick(2)
    bench.take_sent()
    bench.step(PreVoteRequest(term=term, candidate_id=1, last_log_index=99, last_log_term=term - 1))
    bench.step(VoteRequest(term=term, candidate_id=1, last_log_index=99, last_log_term=term - 1)).sync()
    replies = bench.replies()
    granted = [message.granted for message in replies if isinstance(message, (PreVoteReply, VoteReply))]
    assert len(granted) == 2
    return granted[0], granted[1]


def test_a_node_with_a_new_disk_neither_votes_nor_asks_for_votes() -> None:
    """Whoever asks, and however long it hears nobody."""
    node = follower(log="", term=0)
    node.core.rejoin(node.now)
    node.perform()
    for _ in range(10):
        node.tick(2)
    assert node.replies() == []
    assert node.core.role.name == "follower"
    assert asks(node, term=5) == (False, False)


def test_it_votes_again_when_an_entry_of_the_leaders_term_is_committed_on_it() -> None:
    """Entries alone do not end it; a committed one of the leader's own term has everything before it behind it (5.4.2)."""
    node = follower(log="", term=0)
    node.core.rejoin(node.now)
    node.step(append(term=3, prev=(0, 0), log="1 2 3", commit=2)).sync()
    assert node.core.is_rejoining
    node.step(append(term=3, prev=(3, 3), log="", commit=3)).sync()
    assert not node.core.is_rejoining
    assert [fact.may_vote for fact in node.told("member_changed")] == [False, True]
    assert asks(node, term=4) == (True, True)


def test_in_the_term_in_which_it_catches_up_its_vote_is_the_leaders() -> None:
    """It may have voted in this very term before its disk was lost."""
    node = follower(log="", term=0)
    node.core.rejoin(node.now)
    node.step(append(term=3, leader_id=2, prev=(0, 0), log="3", commit=1)).sync()
    assert (node.core.is_rejoining, node.core.voted_for) == (False, 2)
    assert asks(node, term=3) == (False, False)


def test_a_leader_forgets_what_the_lost_disk_held() -> None:
    """Its refusals would pass for old ones, overtaken by what the old disk had accepted (BUG-27)."""
    bench = leader(log="1 1")
    acknowledge(bench, 1, 3)
    bench.take_sent()
    bench.step(rejection(bench, 3))
    assert progress(bench, 1).match_index == 3
    bench.core.forget_match(1, bench.now)
    bench.perform()
    bench.step(rejection(bench, 3))
    assert (progress(bench, 1).match_index, progress(bench, 1).next_index) == (0, 1)


def rejection(bench: Bench, prev_log_index: int) -> AppendReply:
    return AppendReply(term=bench.core.current_term, follower_id=1, success=False, prev_log_index=prev_log_index, round=0)


def progress(bench: Bench, peer: int) -> Progress:
    assert isinstance(bench.core.role, Leader)
    return bench.core.role.progress[peer]
