"""Logs with the same index and term at one entry that differ before it: found at the first heartbeat (Raft 5.3, Log Matching)."""

import pytest
from msgspec import Raw, structs

from bargetrio.raft.election import DIFFERS_S
from bargetrio.raft.errors import LogsDisagree
from bargetrio.raft.log import Log
from bargetrio.raft.messages import (
    AppendReply,
    Demotion,
    Entry,
    LogDiffers,
    PreVoteReply,
    SnapshotReply,
    SnapshotRequest,
    VoteReply,
)
from tests.raft.cores import Bench, acknowledge, append, append_readmission, entries, follower, leader, snapshot


def digest(log: str) -> int:
    return Log(entries(log)).last_digest


def test_a_follower_that_differs_says_so_and_acknowledges_nothing() -> None:
    """The heartbeat's digest is another; the same heartbeat with ours is acknowledged."""
    node = follower(log="1 1 2", term=2)
    node.step(structs.replace(append(term=2, prev=(3, 2)), prev_digest=digest("1 1 2") ^ 1))
    assert node.replies() == [LogDiffers(term=2, follower_id=0, index=3)]
    node.step(structs.replace(append(term=2, prev=(3, 2)), prev_digest=digest("1 1 2")))
    assert [reply.match_index for reply in node.replies() if isinstance(reply, AppendReply)] == [3]


def test_entries_that_are_here_already_are_compared_too() -> None:
    """Same term, other command: an acknowledgement would count an entry that the follower does not hold."""
    node = follower(log="1 1 1", term=1)
    other = Entry(1, Raw(b'{"op":"put","key":"other","value":""}'))
    request = structs.replace(append(prev=(2, 1)), entries=(other,), prev_digest=digest("1 1"))
    node.step(request)
    assert [type(reply) for reply in node.replies()] == [LogDiffers]


def test_what_was_compacted_is_compared_behind_the_append() -> None:
    """The follower's log begins after entry 3; an append from entry 1 on reaches beyond it."""
    node = follower(log="1 1 1 1", term=1, saved=3, compacted=3)
    right = structs.replace(append(prev=(1, 1), log="1 1 1"), prev_digest=digest("1"))
    node.step(structs.replace(right, prev_digest=digest("1") ^ 1))
    assert [type(reply) for reply in node.replies()] == [LogDiffers]
    node.step(right)
    assert [type(reply) for reply in node.replies()] == [AppendReply]


def test_a_snapshot_of_another_log_is_not_declined_as_known() -> None:
    """It has the same last index and term, and another digest."""
    node = follower(log="1 1 1", term=1)
    label = structs.replace(snapshot("1 1"), digest=77)
    node.step(SnapshotRequest(term=1, leader_id=1, snapshot=label, offset=0, data=b"x"))
    assert node.replies() == [LogDiffers(term=1, follower_id=0, index=2)]
    node.step(SnapshotRequest(term=1, leader_id=1, snapshot=snapshot("1 1"), offset=0, data=b"x"))
    assert [type(reply) for reply in node.replies()] == [SnapshotReply]


def differs(node: Bench, peer: int) -> None:
    node.step(LogDiffers(term=node.core.current_term, follower_id=peer, index=1))


def test_a_leader_with_a_majority_stops_the_follower_that_differs() -> None:
    """It has committed an entry of its own term: a majority's log is its log."""
    node = leader(log="1 1")
    differs(node, 1)
    assert [fact.peer for fact in node.announced("logs_differ")] == [1]  # type: ignore[union-attr]
    assert [message.cause for to, message in node.sent if isinstance(message, Demotion) and to == 1] == ["differs"]
    stopped = follower(log="1 1", term=1)
    with pytest.raises(LogsDisagree, match="differs from the majority"):
        stopped.step(Demotion(term=1, leader_id=1, cause="differs", index=1, store="store-0"))


def test_without_a_majority_no_node_is_stopped_and_nothing_is_committed() -> None:
    """One follower differs, the other is down: which log is the majority's is not known."""
    node = leader(log="1 1", settled=False)
    differs(node, 1)
    acknowledge(node, 1, node.core.log.last_index)
    node.tick(0.1)
    assert not [message for message in node.replies() if isinstance(message, Demotion)]
    assert node.core.commit_index == 0
    acknowledge(node, 2, node.core.log.last_index)
    node.tick(0.1)
    assert [message.cause for message in node.replies() if isinstance(message, Demotion)] != []


def test_a_leader_whose_log_differs_from_all_others_stops() -> None:
    """No majority can have its log."""
    node = leader(log="1 1", settled=False)
    differs(node, 1)
    with pytest.raises(LogsDisagree, match="no majority has it"):
        differs(node, 2)


def _left_office_since_node_1_differs() -> Bench:
    node = leader(nodes=(0, 1, 2, 3, 4), log="1 1", settled=False)
    differs(node, 1)
    node.tick(5.0)
    node.tick(1.0)
    assert node.core.role.name == "pre_candidate", "nobody else has answered"
    return node


def _pre_votes(node: Bench, *voters: int) -> str:
    for voter in voters:
        node.step(PreVoteReply(term=node.core.current_term + 1, voter_id=voter, granted=True))
    return node.core.role.name


def _votes(node: Bench, *voters: int) -> str:
    node.sync()
    for voter in voters:
        node.step(VoteReply(term=node.core.current_term, voter_id=voter, granted=True))
    return node.core.role.name


def test_a_vote_of_a_node_whose_log_differs_elects_no_leader() -> None:
    """It would acknowledge nothing: a leader that stepped down for it waits for the others' votes, however slow their disks."""
    node = _left_office_since_node_1_differs()
    assert _pre_votes(node, 1, 2) == "pre_candidate"
    assert _pre_votes(node, 3) == "candidate"
    assert _votes(node, 1, 2) == "candidate"
    assert _votes(node, 3) == "leader"


def test_that_a_log_differs_is_kept_for_as_long_as_an_election_may_last() -> None:
    """Then it may have been repaired; if not, it reports it to the next leader."""
    node = _left_office_since_node_1_differs()
    node.tick(DIFFERS_S)
    node.tick(1.0)
    assert _pre_votes(node, 1, 2) == "candidate"
    assert _votes(node, 1, 2) == "leader"


def test_a_node_with_another_disk_since_is_not_taken_to_differ() -> None:
    """It was readmitted, and its log is the leader's: in a cluster of three whose third node is gone it is the majority."""
    node = leader(log="1 1", settled=False)
    differs(node, 1)
    node.tick(5.0)
    node.tick(1.0)
    last, term = node.core.log.last_index, node.core.current_term
    node.step(append_readmission(prev=(last, node.core.log.term(last)), term=term + 1, node=1, commit=last + 1)).sync()
    node.tick(1.0)
    node.tick(1.0)
    assert _pre_votes(node, 1) == "candidate"
    assert _votes(node, 1) == "leader"
