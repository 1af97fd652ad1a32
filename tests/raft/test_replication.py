"""Log replication and commitment (Raft 5.3, 5.4.2; Ongaro 10.2)."""

from itertools import pairwise

import pytest
from msgspec import Raw

from bargetrio.raft.core import AT_ONCE
from bargetrio.raft.messages import AppendReply, AppendRequest
from bargetrio.raft.progress import PIPELINE
from bargetrio.raft.roles import Leader
from tests.raft.cores import HEARTBEAT_S, Bench, Table, acknowledge, append, entries, follower, leader, terms


def appends(bench: Bench, to: int) -> list[AppendRequest]:
    return [message for peer, message in bench.sent if peer == to and isinstance(message, AppendRequest)]


def propose(bench: Bench, *tickets: object) -> None:
    for ticket in tickets:
        bench.core.propose(ticket, entries("1")[0].command, bench.now)
    bench.perform()


# -- the leader's side -------------------------------------------------------------------------------------------------------


def test_the_leader_sends_while_its_own_write_runs() -> None:
    """Ongaro 10.2.1: replication does not wait for the leader's disk."""
    node = leader()
    propose(node, "a")
    assert node.writes
    assert [len(message.entries) for message in appends(node, 1)] == [1]


def test_what_is_the_same_for_two_followers_is_made_once_and_never_out_of_date() -> None:
    """A request has the leader's present log, commit index and round."""
    node = leader()
    last = node.core.log.last_index
    propose(node, "a")
    (to_one,), (to_other,) = appends(node, 1), appends(node, 2)
    assert to_one is to_other and (to_one.prev_log_index, len(to_one.entries), to_one.round) == (last, 1, 0)
    node.take_sent()
    node.tick(HEARTBEAT_S).sync()
    acknowledge(node, 1, last + 1)
    node.tick(HEARTBEAT_S)
    node.core.read("r", node.now)
    node.perform()
    assert {(each.prev_log_index, len(each.entries)) for each in appends(node, 2)} == {(last + 1, 0)}
    assert [(each.leader_commit, each.round) for each in appends(node, 2)] == [(last, 0), (last + 1, 0), (last + 1, 1)]


def test_a_follower_that_refuses_is_probed_though_all_seemed_up_to_date() -> None:
    """Raft 5.3: while all are up to date, the leader probes none; a refusal shows that one has lost entries."""
    node = leader()
    propose(node, "a")
    node.perform().take_sent()
    assert isinstance(node.core.role, Leader) and not node.core.role.has_lagging_follower
    last, term = node.core.log.last_index, node.core.current_term
    lost = {"prev_log_index": last, "hint_index": last - 1, "hint_term": term}
    node.step(AppendReply(term=term, follower_id=1, success=False, round=0, **lost))
    assert [(to, message.prev_log_index) for to, message in node.sent if isinstance(message, AppendRequest)] == [(1, last - 1)]
    acknowledge(node, 1, last - 1)
    assert [len(message.entries) for message in appends(node, 1)] == [0, 1]


def test_an_entry_is_committed_when_a_majority_of_disks_has_it() -> None:
    """Figure 2, Leaders: the leader's own disk counts only when it is synced."""
    node = leader()
    propose(node, "a")
    index = node.core.log.last_index
    acknowledge(node, 1, index)
    assert node.core.commit_index == index - 1  # one follower, and our own write still runs
    node.sync()
    assert node.core.commit_index == index
    assert node.ended == {"a": "applied"}


def test_two_followers_commit_before_the_leaders_own_disk() -> None:
    """Ongaro 10.2.1."""
    node = leader()
    propose(node, "a")
    acknowledge(node, 1, node.core.log.last_index)
    acknowledge(node, 2, node.core.log.last_index)
    assert node.ended == {"a": "applied"}
    assert node.writes


def test_an_entry_of_an_old_term_is_not_committed_by_counting() -> None:
    """Raft 5.4.2, BUG-15, Figure 8: only with an entry of the own term behind it."""
    node = leader(log="1 2", settled=False)
    acknowledge(node, 1, 2)
    acknowledge(node, 2, 2)
    assert node.core.commit_index == 0
    acknowledge(node, 1, 3)
    assert node.core.commit_index == 3


def test_the_commit_scan_does_not_stop_at_an_entry_without_a_majority() -> None:
    """BUG-24: the median counts, not the first gap."""
    node = leader(nodes=(0, 1, 2, 3, 4))
    propose(node, "a", "b", "c")
    node.sync()
    last = node.core.log.last_index
    acknowledge(node, 1, last)
    acknowledge(node, 2, last - 1)
    assert node.core.commit_index == last - 1
    acknowledge(node, 3, last)
    assert node.core.commit_index == last


def test_match_index_only_rises() -> None:
    """BUG-18, BUG-20: late, repeated and reordered answers change nothing."""
    node = leader()
    propose(node, "a", "b")
    last = node.core.log.last_index
    acknowledge(node, 1, last)
    acknowledge(node, 1, last - 1)
    role = node.core.role
    assert isinstance(role, Leader)
    assert role.progress[1].match_index == last
    assert role.progress[1].next_index == last + 1
    late = AppendReply(term=node.core.current_term, follower_id=1, success=False, prev_log_index=1, round=0)
    node.step(late)
    assert (role.progress[1].next_index, role.progress[1].state) == (last + 1, "replicate")


def test_an_answer_of_an_earlier_leadership_counts_for_nothing() -> None:
    """BUG-19: progress is reset with every leadership, and a reply of an old term is ignored."""
    node = leader(log="1 1", settled=False)
    old = AppendReply(term=node.core.current_term - 1, follower_id=1, success=True, match_index=3, prev_log_index=3, round=0)
    node.step(old)
    assert isinstance(node.core.role, Leader)
    assert node.core.role.progress[1].match_index == 0


def test_an_acknowledgement_beyond_the_log_is_ignored() -> None:
    """BUG-18: a reply to nothing that was sent."""
    node = leader()
    acknowledge(node, 1, 10**6)
    assert isinstance(node.core.role, Leader)
    assert node.core.role.progress[1].match_index <= node.core.log.last_index


def test_a_refusal_goes_back_a_whole_term_a_probe() -> None:
    """Raft 5.3, the end: at most one probe per term until the logs agree."""
    table = Table(3, logs={0: "1 1 1 4 4 5 5 6 6", 1: "1 1 1 2 2 2 3 3 3 3 3", 2: "1 1 1 4 4 5 5 6 6"})
    table.pass_time(2.0)
    (ruler,) = table.leaders()
    assert ruler in (0, 2)
    assert len(table.benches[1].announced("append_rejected")) <= 3
    assert terms(table.core(1).log) == terms(table.core(ruler).log)


def test_entries_are_sent_in_batches_that_follow_each_other() -> None:
    """BUG-25: no batch exceeds the limits, and none leaves a gap."""
    node = leader()
    propose(node, *range(PIPELINE.batch_entries * 2 + 10))
    sent = appends(node, 1)
    assert [len(message.entries) for message in sent] == [PIPELINE.batch_entries, PIPELINE.batch_entries, 10]
    for before, after in pairwise(sent):
        assert after.prev_log_index == before.prev_log_index + len(before.entries)


def test_a_full_window_still_sends_heartbeats() -> None:
    """BUG-27: a lost window must not stall the follower for ever."""
    node = leader()
    for number in range(PIPELINE.window_appends + 5):
        propose(node, number)
    assert len(appends(node, 1)) == PIPELINE.window_appends
    node.take_sent()
    node.now += 0.05
    node.core.tick(node.now)
    node.perform()
    assert [len(message.entries) for message in appends(node, 1)] == [0]


def test_a_lost_window_is_sent_again() -> None:
    """BUG-27: a heartbeat past the gap is refused, and the leader goes back to what the follower has."""
    table = Table(3)
    table.pass_time(1.0)
    (ruler,) = table.leaders()
    lost = min({0, 1, 2} - {ruler})
    for number in range(5):
        table.core(ruler).propose(f"t{number}", entries("1")[0].command, table.now)
        table.settle(lost=lambda source, target: target == lost)
    assert table.core(lost).log.last_index < table.core(ruler).log.last_index
    table.pass_time(0.2)
    assert terms(table.core(lost).log) == terms(table.core(ruler).log)


def test_a_leader_never_deletes_its_own_entries() -> None:
    """Raft 5.3, leader append-only: in a cluster of three with all messages lost half of the time every leader's log grows."""
    from random import Random

    dice = Random(1)
    table = Table(3)
    for _ in range(20):
        before = {node_id: terms(table.core(node_id).log) for node_id in table.leaders()}
        ruling = {node_id: table.core(node_id).current_term for node_id in before}
        for node_id in before:
            table.core(node_id).propose(None, entries("1")[0].command, table.now)
        table.pass_time(0.1, lost=lambda source, target: dice.random() < 0.5)
        for node_id, log in before.items():
            if table.core(node_id).role.name == "leader" and table.core(node_id).current_term == ruling[node_id]:
                assert terms(table.core(node_id).log)[: len(log)] == log


def test_equal_logs_have_equal_digests() -> None:
    """So that a recorded run can be audited (log matching, Raft 5.3)."""
    table = Table(3)
    table.pass_time(1.0)
    (ruler,) = table.leaders()
    for number in range(5):
        table.core(ruler).propose(number, entries("1")[0].command, table.now)
    table.pass_time(0.3)
    last = table.core(ruler).commit_index
    assert last > 5
    assert len({table.core(node_id).log.digest(last) for node_id in range(3)}) == 1


# -- answers to writers ------------------------------------------------------------------------------------------------------


def test_a_proposal_at_a_follower_was_never_made() -> None:
    """`applied` is False only for what was never proposed."""
    node = follower()
    propose(node, "a")
    node.step(append(term=1, leader_id=1))
    propose(node, "b")
    assert node.ended == {"a": "no_leader", "b": "not_leader"}


def test_a_leader_that_steps_down_says_unknown() -> None:
    """BUG-47: the entry may still commit through another leader."""
    node = leader()
    propose(node, "a")
    node.step(append(term=node.core.current_term + 1, leader_id=2, prev=(1, 1)))
    assert node.ended == {"a": "unknown"}


def test_entries_are_applied_in_order_once_and_in_slices() -> None:
    """Figure 2, all servers: last_applied follows commit_index, at most 1,000 at a time."""
    node = leader()
    propose(node, *range(2500))
    node.sync()
    acknowledge(node, 1, node.core.log.last_index)
    while node.core.has_more_to_apply:
        node.perform()
    spans = [(effect.first, effect.last) for effect in node.applied]
    assert spans[0][0] == 1
    assert all(last - first < 1000 for first, last in spans)
    assert all(after[0] == before[1] + 1 for before, after in pairwise(spans))
    assert spans[-1][1] == node.core.commit_index
    assert [node.ended[number] for number in range(2500)] == ["applied"] * 2500


def test_entries_that_may_not_be_applied_yet_are_no_reason_to_tick_at_once() -> None:
    """Its host would spin until another node of the process has applied its backlog."""
    node = leader()
    propose(node, *range(2500))
    node.sync()
    acknowledge(node, 1, node.core.log.last_index)
    assert node.core.has_more_to_apply
    assert node.core.next_deadline() == AT_ONCE
    assert node.now < node.core.next_deadline(may_apply=False) <= node.now + HEARTBEAT_S


def test_too_much_uncommitted_is_refused_before_it_is_proposed() -> None:
    """`overloaded` is certain: nothing was appended."""
    from bargetrio.raft import core as module

    node = leader()
    propose(node, *range(module.UNCOMMITTED_ENTRIES))
    last = node.core.log.last_index
    propose(node, "one more")
    assert node.ended == {"one more": "overloaded"}
    assert node.core.log.last_index == last


@pytest.mark.slow
def test_proposals_together_are_as_one_after_another() -> None:
    """The same log, record for the disk, tickets, and refusals when overloaded."""
    from bargetrio.raft import core as module

    commands = [Raw(b'"c%d"' % number) for number in range(5)]
    for room in (5, 6, 3):
        one, together = leader(), leader()
        for node in (one, together):
            propose(node, *range(module.UNCOMMITTED_ENTRIES - (node.core.log.last_index - node.core.commit_index) - room))
            node.perform()
        for number, command in enumerate(commands):
            one.core.propose(f"t{number}", command, 0)
        together.core.propose_all([f"t{number}" for number in range(5)], commands, 0)
        first = module.UNCOMMITTED_ENTRIES - room - 5
        assert together.core.log.slice(first, together.core.log.last_index) == one.core.log.slice(first, one.core.log.last_index)
        assert together.core.log.digest(together.core.log.last_index) == one.core.log.digest(one.core.log.last_index)
        one.perform()
        together.perform()
        assert together.ended == one.ended
        assert [refused for refused in together.ended.values() if refused == "overloaded"] == ["overloaded"] * max(0, 5 - room)


def test_a_follower_that_lacks_entries_knows_how_many_are_committed() -> None:
    """Its own commit index does not: it ends where its log is known to agree with the leader's."""
    node = Bench(log="1")
    node.step(append(prev=(9, 1), commit=9))
    assert (node.core.commit_index, node.core.lag) == (0, 9), "refused: its log ends before"
    node.step(append(prev=(1, 1), commit=9))
    assert (node.core.commit_index, node.core.lag) == (1, 8)
    node.step(append(prev=(1, 1), term=2, leader_id=2, commit=1))
    assert node.core.lag == 0, "another leader's word"
