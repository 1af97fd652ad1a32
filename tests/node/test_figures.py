"""What a node counts: buckets, leaders by term, one append at a time, what is pending."""

from bargetrio.node.status import proposals_pending
from bargetrio.raft.facts import RoleChanged
from bargetrio.raft.messages import AppendReply, AppendRequest
from bargetrio.replica.figures import Histogram, NodeFigures, PeerFigures
from tests.raft.cores import entries, leader


def append(prev: int) -> AppendRequest:
    """A heartbeat after `prev`."""
    return AppendRequest(term=1, leader_id=0, prev_log_index=prev, prev_log_term=1, entries=(), leader_commit=0, round=0)


def answer(match: int, success: bool = True) -> AppendReply:
    """A follower's answer."""
    return AppendReply(term=1, follower_id=1, success=success, match_index=match, round=0)


def test_a_bound_belongs_to_the_bucket_below_it() -> None:
    """As Prometheus counts: less or equal."""
    histogram = Histogram((0.1, 1.0))
    for seconds in (0.05, 0.1, 0.5, 1.0, 3.0):
        histogram.observe(seconds)
    assert histogram.counts == [2, 2, 1]
    assert histogram.total_s == 4.65


def test_an_append_is_timed_to_the_answer_that_covers_it() -> None:
    """Answers to earlier appends say nothing about it, a second one waits for its turn, a refusal and a new line end it."""
    figures = PeerFigures()
    figures.append_sent(append(10), 1.0)
    figures.append_sent(append(12), 1.5)
    figures.append_answered(answer(9), 1.6)
    assert figures.round_trip.total_s == 0
    figures.append_answered(answer(10), 1.75)
    figures.append_answered(answer(12), 5.0)
    assert figures.round_trip.total_s == 0.75
    figures.append_sent(append(12), 6.0)
    figures.append_answered(answer(0, success=False), 7.0)
    figures.append_sent(append(12), 8.0)
    figures.link_changed()
    figures.append_answered(answer(12), 9.0)
    assert sum(figures.round_trip.counts) == 1


def test_the_same_leader_in_a_new_term_is_a_change() -> None:
    """Not to know a leader in between is none, nor is a revival in the same term."""
    figures = NodeFigures()
    for node_id, term in ((None, 1), (2, 1), (2, 1), (None, 1), (2, 1), (None, 2), (2, 3), (0, 4)):
        figures.see_leader(node_id, term)
    assert figures.leader_changes == 3


def test_an_election_begins_with_a_candidate() -> None:
    """A pre-vote is not counted."""
    figures = NodeFigures()
    figures.see_role(RoleChanged(term=1, old="follower", new="pre_candidate", reason=""))
    figures.see_role(RoleChanged(term=2, old="pre_candidate", new="candidate", reason=""))
    figures.see_role(RoleChanged(term=2, old="candidate", new="leader", reason=""))
    assert figures.elections == 1


def test_pending_proposals_are_writes() -> None:
    """The entry that begins a term is not counted: no request waits for it."""
    bench = leader(settled=False)
    assert proposals_pending(bench.core) == 0
    bench.core.propose("a write", entries("1")[0].command, bench.now)
    assert proposals_pending(bench.core) == 1
