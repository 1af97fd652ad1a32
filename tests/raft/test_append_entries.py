"""AppendEntries at its receiver (Figure 2, Raft 5.3): what a follower refuses, keeps and deletes, and when it acknowledges."""

import pytest

from bargetrio.raft.durability import Durability
from bargetrio.raft.effects import Send
from bargetrio.raft.errors import ConsensusViolation
from bargetrio.raft.log import Log
from bargetrio.raft.messages import AppendReply, SnapshotReply, SnapshotRequest, VoteRequest
from bargetrio.raft.records import Append, HardState, Truncate
from tests.raft.cores import Bench, append, entries, follower, leader, snapshot, terms


def reply_of(bench: Bench) -> AppendReply:
    (reply,) = [message for message in bench.replies() if isinstance(message, AppendReply)]
    return reply


def test_an_append_of_an_old_term_is_refused() -> None:
    """Figure 2, AppendEntries 1."""
    node = follower(log="1", term=3)
    assert reply_of(node.step(append(term=2, prev=(1, 1), log="2"))).success is False
    assert terms(node.core.log) == [1]


def test_a_refusal_of_an_old_term_still_says_where_to_look() -> None:
    """The same leader, elected again, takes it for a reply to its new probe: with a hint of 0 it would send the whole log."""
    reply = reply_of(follower(log="1 1 2", term=3).step(append(term=2, prev=(5, 2), log="")))
    assert (reply.term, reply.hint_index, reply.hint_term) == (3, 3, 2)


def test_an_append_after_an_entry_that_is_not_there_is_refused() -> None:
    """Figure 2, AppendEntries 2: too short, or another term at that place."""
    short, other = follower(log="1 1"), follower(log="1 2")
    assert reply_of(short.step(append(term=3, prev=(3, 1), log="3")).sync()).success is False
    assert reply_of(other.step(append(term=3, prev=(2, 1), log="3")).sync()).success is False
    assert (terms(short.core.log), terms(other.core.log)) == ([1, 1], [1, 2])


def test_a_conflict_and_all_after_it_is_deleted() -> None:
    """Figure 2, AppendEntries 3 and 4, BUG-23: no stale tail stays."""
    node = follower(log="1 2 2 2")
    node.step(append(term=3, prev=(1, 1), log="3"))
    assert terms(node.core.log) == [1, 3]
    before, after = Log(entries("1")).digest(1), Log(entries("1 3")).digest(2)
    assert node.writes[0].records[1:] == (
        Truncate(from_index=2, last_term=1, digest=before),
        Append(first_index=2, digest=after, entries=entries("1 3")[1:]),
    )


def test_a_follower_keeps_a_tail_the_leader_agrees_with() -> None:
    """Raft 5.3, BUG-22: an old or duplicate append deletes nothing that matches."""
    node = follower(log="1 1 2")
    node.step(append(term=2, prev=(1, 1), log=""))
    node.step(append(term=2, prev=(0, 0), log="1 1"))
    assert terms(node.core.log) == [1, 1, 2]
    assert node.writes == []


def test_an_empty_append_before_the_log_matches_and_deletes_nothing() -> None:
    """BUG-21: prev 0 agrees with every log."""
    node = follower(log="1 1")
    assert reply_of(node.step(append(term=1, prev=(0, 0)))).success is True
    assert terms(node.core.log) == [1, 1]


def test_the_commit_index_follows_the_leader_as_far_as_the_append_reaches() -> None:
    """Figure 2, AppendEntries 5, BUG-17, BUG-28: min(leader_commit, last entry covered)."""
    node = follower(log="1 1 1")
    node.step(append(term=1, prev=(1, 1), commit=3))
    assert node.core.commit_index == 1
    node.step(append(term=1, prev=(3, 1), commit=99))
    assert node.core.commit_index == 3


def test_the_commit_index_never_falls() -> None:
    """BUG-16: a new leader may announce a lower one."""
    node = follower(log="1 1 1")
    node.step(append(term=1, prev=(3, 1), commit=3))
    node.step(append(term=2, leader_id=2, prev=(3, 1), commit=1))
    assert node.core.commit_index == 3


def test_an_accepted_append_is_acknowledged_when_it_is_on_the_disk() -> None:
    """Ongaro 10.2.1, BUG-50: a heartbeat meanwhile is answered at once, and acknowledges nothing that is still being written."""
    node = follower(term=1)
    node.step(append(term=1, log="1 1"))
    assert node.take_sent() == []
    node.step(append(term=1, prev=(2, 1)))
    assert reply_of(node).match_index == 0
    node.sync()
    assert reply_of(node).match_index == 2


def test_a_heartbeat_is_answered_while_the_disk_is_busy() -> None:
    """BUG-14: what it covers is durable, so nothing waits."""
    node = follower(log="1 1")
    node.step(append(term=1, prev=(2, 1), log="1"))
    node.step(append(term=1, prev=(2, 1)))
    assert reply_of(node).match_index == 2


def test_an_older_write_does_not_vouch_for_what_replaced_it() -> None:
    """BUG-26: entry 1 was written, truncated and replaced while the first write was in flight; its end proves nothing."""
    node = follower()
    node.step(append(term=1, leader_id=1, log="1 1"))
    first = node.writes.pop()
    node.step(append(term=2, leader_id=2, log="2 2"))
    node.core.persisted(first.number, node.now)
    node.perform()
    assert all(message.match_index == 0 for _, message in node.sent if isinstance(message, AppendReply))
    node.take_sent()
    node.sync()
    assert reply_of(node).match_index == 2


def test_a_write_in_flight_makes_nothing_durable_that_was_cut_meanwhile() -> None:
    """BUG-26, in Durability itself."""
    durability = Durability(0)
    durability.queue_entries(1, list(entries("1 1")), 11)
    write = durability.next_write(0.0)
    assert write is not None
    durability.queue_truncation(1, 0, 0)
    durability.queue_entries(1, list(entries("2")), 2)
    durability.persisted(write.number, 0.0)
    assert durability.durable_index == 0


def test_of_messages_that_wait_for_a_disk_that_hangs_no_acknowledgement_is_dropped() -> None:
    """However many wait: without its acknowledgement a snapshot would be sent again, and without a round reads would wait."""
    durability = Durability(0)
    durability.queue_hard_state(HardState(term=1))
    installed = SnapshotReply(term=1, follower_id=0, last_index=5, bytes_stored=9, installed=True)
    later_round = AppendReply(term=1, follower_id=0, success=True, match_index=0, prev_log_index=0, round=2)
    longer_match = AppendReply(term=1, follower_id=0, success=True, match_index=3, prev_log_index=0, round=1)
    must_stay = [Send(1, installed), Send(1, later_round), Send(1, longer_match)]
    for send in must_stay:
        assert durability.hold(send)
    for number in range(100):
        assert durability.hold(Send(1, SnapshotReply(term=1, follower_id=0, last_index=6, bytes_stored=number, installed=False)))
        assert durability.hold(Send(2, VoteRequest(term=1, candidate_id=0, last_log_index=0, last_log_term=0)))
    write = durability.next_write(0.0)
    assert write is not None
    assert [send for send in write.then if send in must_stay] == must_stay
    assert len(write.then) < 25


def test_a_commit_index_above_the_log_does_not_end_the_node() -> None:
    """BUG-28: a wrong commit index is not followed beyond the log."""
    node = follower(log="1")
    node.step(append(term=1, prev=(1, 1), commit=2**60))
    assert node.core.commit_index == 1


def test_a_leader_that_would_delete_committed_entries_is_a_violation() -> None:
    """Raft 5.4: the node stops instead of losing them."""
    node = follower(log="1 1")
    node.step(append(term=1, prev=(2, 1), commit=2))
    with pytest.raises(ConsensusViolation, match="would overwrite entry 2"):
        node.step(append(term=2, leader_id=2, prev=(1, 1), log="2"))


def test_two_leaders_of_one_term_are_a_violation() -> None:
    """Raft 5.2: election safety is checked where a node can detect a violation."""
    node = leader()
    with pytest.raises(ConsensusViolation, match="claims to lead term"):
        node.step(append(term=node.core.current_term, leader_id=2))


def test_a_node_is_catching_up_until_it_has_what_was_committed_when_it_first_heard_a_leader() -> None:
    """What is committed later is a matter of its lag; a snapshot on its way counts whenever it comes."""
    node = follower()
    assert not node.core.is_catching_up, "it has heard nobody"
    node.step(append(log="1", commit=3)).sync()
    assert node.core.is_catching_up
    node.step(append(prev=(1, 1), log="1 1", commit=3)).sync()
    assert not node.core.is_catching_up
    node.step(append(prev=(3, 1), log="1 1", commit=6)).sync()
    assert node.core.is_catching_up, "a leader that was just elected knows what is committed when its own entry is"
    node.step(append(prev=(5, 1), log="1", commit=9)).sync()
    assert not node.core.is_catching_up
    assert node.core.lag == 3
    node.step(append(term=2, prev=(6, 1), commit=9)).sync()
    assert not node.core.is_catching_up
    meta = snapshot("1 1 1 1 1 1 1 1 1 1")
    node.step(SnapshotRequest(term=2, leader_id=1, snapshot=meta, offset=0, data=b"x" * 50))
    assert node.core.is_catching_up


def test_a_node_that_has_led_since_it_was_started_is_not_catching_up() -> None:
    """Its log had all that was committed; what it lacks later is a matter of its lag."""
    node = leader()
    last = node.core.log.last_index
    node.step(append(term=9, prev=(last, 1), commit=last)).sync()
    node.step(append(term=9, prev=(last, 1), log="9", commit=last + 5)).sync()
    assert (node.core.is_catching_up, node.core.lag) == (False, 4)
