"""Ongaro 6.4: a read sees every write that was answered before it began, and no deposed leader answers it."""

from bargetrio.raft.messages import AppendReply, AppendRequest
from bargetrio.raft.roles import Leader
from tests.raft.cores import Bench, acknowledge, append, entries, follower, leader


def read(bench: Bench, ticket: str) -> int:
    """Begin a read; return the round of its heartbeats."""
    bench.core.read(ticket, bench.now)
    bench.perform()
    rounds = [message.round for _, message in bench.take_sent() if isinstance(message, AppendRequest)]
    return max(rounds, default=0)


def test_a_read_is_answered_when_a_majority_has_acknowledged_its_round() -> None:
    """Ongaro 6.4: the leader must know that it was still leader after the read came."""
    node = leader()
    number = read(node, "r")
    assert node.ended == {}
    acknowledge(node, 1, node.core.log.last_index, round=number)
    assert node.ended == {"r": f"read at {node.core.commit_index}"}


def test_an_answer_to_an_earlier_round_confirms_nothing() -> None:
    """BUG-43, BUG-44: heartbeats sent before the read prove nothing about the time after it."""
    node = leader()
    number = read(node, "r")
    acknowledge(node, 1, node.core.log.last_index, round=number - 1)
    acknowledge(node, 2, node.core.log.last_index, round=number - 1)
    assert node.ended == {}


def test_a_late_rejection_of_an_earlier_term_confirms_nothing() -> None:
    """OWN-11: node 1 led term 3, counted rounds to 12, and leads term 4 now; rounds are counted anew in every term."""
    node = follower(log="1 3", term=4)
    node.step(append(term=3, prev=(2, 3), round=12)).sync()
    assert [(reply.success, reply.round) for reply in node.replies() if isinstance(reply, AppendReply)] == [(False, 0)]
    node.step(append(term=4, prev=(9, 3), round=2)).sync()
    assert [(reply.success, reply.round) for reply in node.replies() if isinstance(reply, AppendReply)] == [(False, 2)]


def test_reads_wait_for_the_first_commit_of_the_term() -> None:
    """Ongaro 6.4, BUG-42: before that the leader does not know what is committed."""
    node = leader(settled=False)
    assert read(node, "r") == 0
    acknowledge(node, 1, node.core.log.last_index)
    number = max(message.round for _, message in node.take_sent() if isinstance(message, AppendRequest))
    assert number == 1
    acknowledge(node, 1, node.core.log.last_index, round=1)
    assert node.ended == {"r": f"read at {node.core.commit_index}"}


def test_a_later_read_needs_a_later_round() -> None:
    """BUG-44: one round serves the reads that came before it, no others."""
    node = leader()
    first = read(node, "first")
    second = read(node, "second")
    assert second == first + 1
    acknowledge(node, 1, node.core.log.last_index, round=first)
    assert list(node.ended) == ["first"]


def test_reads_that_come_while_two_rounds_are_under_way_share_the_next_one() -> None:
    """Ongaro 6.4: one round serves many reads; it begins after all of them came."""
    node = leader()
    second = [read(node, "first"), read(node, "second")][1]
    assert [read(node, ticket) for ticket in ("third", "fourth")] == [0, 0]
    acknowledge(node, 1, node.core.log.last_index, round=second)
    assert list(node.ended) == ["first", "second"]
    third = max(message.round for _, message in node.take_sent() if isinstance(message, AppendRequest))
    assert third == second + 1
    acknowledge(node, 1, node.core.log.last_index, round=third)
    assert list(node.ended) == ["first", "second", "third", "fourth"]


def test_a_round_whose_heartbeats_are_lost_is_confirmed_by_the_next_ones() -> None:
    """No read waits for a message that is gone."""
    node = leader()
    for ticket in ("first", "second", "third"):
        read(node, ticket)
    node.now = node.core.next_deadline()
    node.core.tick(node.now)
    node.perform()
    number = max(message.round for _, message in node.take_sent() if isinstance(message, AppendRequest))
    acknowledge(node, 2, node.core.log.last_index, round=number)
    assert list(node.ended) == ["first", "second"]
    assert max(message.round for _, message in node.take_sent() if isinstance(message, AppendRequest)) == number + 1


def test_reads_whose_time_is_over_are_kept_nowhere() -> None:
    """Whether they wait for a round, for its answers, or for what is confirmed to be applied: none is answered later."""
    node = leader()
    node.may_apply = False
    node.core.propose("w", entries("1")[0].command, node.now)
    node.perform().sync()
    acknowledge(node, 1, node.core.log.last_index)
    confirmed = read(node, "confirmed")
    acknowledge(node, 1, node.core.log.last_index, round=confirmed)
    for ticket in ("in a round", "in another", "waiting"):
        read(node, ticket)
    role = node.core.role
    assert isinstance(role, Leader)
    rounds = (*role.confirmed, *role.rounds)
    assert [list(each.tickets) for each in rounds] == [["confirmed"], ["in a round"], ["in another"]]
    assert list(role.new_reads) == ["waiting"]
    node.core.forget_reads(lambda ticket: True)
    assert not role.new_reads and not any(each.tickets for each in rounds)
    node.may_apply = True
    node.perform()
    acknowledge(node, 1, node.core.log.last_index, round=confirmed + 3)
    assert [ticket for ticket in node.ended if ticket != "w"] == []


def test_reads_fail_when_the_leader_steps_down() -> None:
    """BUG-46: a deposed leader answers nothing that it has not confirmed."""
    node = leader()
    read(node, "r")
    node.step(append(term=node.core.current_term + 1, leader_id=2, prev=(1, 1)))
    assert node.ended == {"r": "not_leader"}


def test_a_follower_passes_the_reader_on() -> None:
    """With the leader's id if it is known."""
    node = follower()
    read(node, "r")
    assert node.ended == {"r": "no_leader"}


def test_a_cluster_of_one_reads_at_once() -> None:
    """Its own majority."""
    node = leader(nodes=(0,))
    read(node, "r")
    node.perform()
    assert node.ended == {"r": f"read at {node.core.commit_index}"}


def test_a_leader_that_cannot_commit_keeps_no_read_whose_time_is_over() -> None:
    """No follower answers: reads come and time out, for ever."""
    core = leader(settled=False).core
    for number in range(100):
        core.read(number, 1.0)
    assert isinstance(core.role, Leader) and len(core.role.new_reads) == 100
    gone: set[object] = set(range(60))
    core.forget_reads(lambda ticket: ticket in gone)
    assert core.role.new_reads == list(range(60, 100))
