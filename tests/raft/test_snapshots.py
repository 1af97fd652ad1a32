"""Snapshots: when they are taken, compaction, sending, installation (Raft 7; Ongaro 5.1)."""

from random import Random

import pytest

from bargetrio.raft import snapshots
from bargetrio.raft.facts import SnapshotTaken
from bargetrio.raft.log import Log
from bargetrio.raft.messages import (
    NO_OP,
    AppendReply,
    Entry,
    VoteReply,
    VoteRequest,
)
from bargetrio.raft.records import HardState, LogStart
from bargetrio.raft.snapshot_state import SnapshotLabel, SnapshotPolicy
from tests.raft.cores import HEARTBEAT_S, acknowledge, append, entries, follower, leader, snapshot, terms
from tests.raft.saved import NEVER, lagging_leader, piece, saved

# -- taking ----------------------------------------------------------------------------------------------------------------


def test_a_snapshot_is_due_after_so_many_entries() -> None:
    """Counted from the last snapshot, of what is applied."""
    bench = follower(policy=SnapshotPolicy(entries=3, trailing=0))
    bench.step(append(log="1 1 1", commit=2)).sync()
    assert bench.taking == []
    bench.step(append(prev=(3, 1), commit=3)).sync()
    assert [effect.last_index for effect in bench.taking] == [3]
    saved(bench)
    bench.step(append(prev=(3, 1), log="1 1", commit=5)).sync()
    assert bench.taking == []
    bench.step(append(prev=(5, 1), log="1", commit=6)).sync()
    assert [effect.last_index for effect in bench.taking] == [6]


def test_a_snapshot_is_due_after_so_many_bytes() -> None:
    """And waits until the log since then outweighs the last one: saving may cost no more than writing did."""
    bench = follower(policy=SnapshotPolicy(entries=1000, bytes=60, trailing=0))
    bench.step(append(log="1 1", commit=2)).sync()
    assert [effect.last_index for effect in bench.taking] == [2]
    saved(bench, size=400)
    bench.step(append(prev=(2, 1), log="1 1", commit=4)).sync()
    assert bench.taking == []
    bench.step(append(prev=(4, 1), log="1 1", commit=6)).sync()
    assert [effect.last_index for effect in bench.taking] == [6]


def test_a_snapshot_says_what_it_holds() -> None:
    """Exactly the entries applied at that time, with term, digest and members (BUG-29, BUG-36)."""
    bench = follower(policy=SnapshotPolicy(entries=3, trailing=0))
    bench.core.step(append(term=2, log="1 1 2 2", commit=3), 0.0)
    bench.perform().sync()
    bench.core.step(append(term=2, prev=(4, 2), commit=4), 0.0)
    bench.perform()
    assert not bench.core.snapshots.is_due  # one is under way
    assert bench.taking == [SnapshotLabel(3, 2, bench.core.log.digest(3), (0, 1, 2), bench.core.configuration)]
    fresh = follower(policy=SnapshotPolicy(entries=1, trailing=0), log="1")
    fresh.step(append(prev=(1, 1), commit=1))
    assert [effect.last for effect in fresh.applied] == [1]
    assert [label.last_index for label in fresh.taking] == [1]


def test_a_snapshot_is_never_ahead_of_the_own_disk() -> None:
    """A leader may commit by its followers' disks alone; its own must not hold a snapshot that is ahead of its log."""
    bench = leader(policy=SnapshotPolicy(entries=2, trailing=0))
    bench.core.propose("a", entries("1")[0].command, bench.now)
    bench.perform()
    acknowledge(bench, 1, 2)
    acknowledge(bench, 2, 2)
    assert bench.core.last_applied == 2
    assert bench.taking == []
    bench.sync()
    assert [effect.last_index for effect in bench.taking] == [2]


def test_a_snapshot_that_was_given_up_is_due_again() -> None:
    """The disk was full: with the next pass, of what is applied by then, and without another entry."""
    bench = follower(policy=SnapshotPolicy(entries=2, trailing=0))
    bench.step(append(log="1 1", commit=2)).sync()
    bench.core.snapshot_given_up()
    bench.perform()
    assert [effect.last_index for effect in bench.taking] == [2, 2]
    bench.taking.pop(0)
    saved(bench)
    bench.step(append(prev=(2, 1), log="1 1", commit=4)).sync()
    assert [effect.last_index for effect in bench.taking] == [4]


def test_a_snapshot_can_be_asked_for() -> None:
    """Once: as soon as there is something to save, and none is under way."""
    bench = follower(policy=NEVER)
    bench.core.take_snapshot()
    bench.perform()
    assert bench.taking == []
    bench.step(append(log="1 1", commit=2)).sync()
    assert [effect.last_index for effect in bench.taking] == [2]
    bench.core.take_snapshot()
    bench.step(append(prev=(2, 1), log="1", commit=3)).sync()
    assert len(bench.taking) == 1
    saved(bench)
    assert [effect.last_index for effect in bench.taking] == [3]


def test_the_log_is_forgotten_when_the_snapshot_lasts() -> None:
    """Not before; and some entries before its end stay (Ongaro 5.1.3)."""
    bench = follower(policy=SnapshotPolicy(entries=4, trailing=1))
    bench.step(append(log="1 1 1 1 1", commit=4)).sync()
    assert bench.core.log.start_index == 0
    meta = saved(bench)
    assert (bench.core.log.start_index, terms(bench.core.log)) == (3, [1, 1])
    assert [(effect.first_index, effect.keep) for effect in bench.compacted] == [(4, frozenset({4}))]
    assert bench.announced("snapshot_taken") == [SnapshotTaken(term=1, index=4, digest=meta.digest, size=100, log_start=3)]


@pytest.mark.parametrize(("bound", "value"), [("COMPACTION_SLICE", 2), ("COMPACTION_BYTES", 2 * len(entries("1")[0].command))])
def test_a_long_log_is_forgotten_slice_by_slice(bound: str, value: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """No step blocks the loop for long: freeing memory takes time by its bytes, too."""
    monkeypatch.setattr(snapshots, bound, value)
    bench = follower(policy=SnapshotPolicy(entries=5, trailing=0))
    bench.step(append(log="1 1 1 1 1", commit=5)).sync()
    saved(bench)
    starts = [bench.core.log.start_index]
    while starts[-1] < 5:
        starts.append(bench.perform().core.log.start_index)
    assert starts == [2, 4, 5]


def test_an_older_snapshot_that_ends_late_changes_nothing() -> None:
    """A leader's newer one was installed meanwhile (BUG-31)."""
    bench = follower(policy=SnapshotPolicy(entries=2, trailing=0))
    bench.step(append(log="1 1", commit=2)).sync()
    newer = snapshot("1 1 1 1 2 2")
    bench.step(piece(newer, data=b"x" * 100)).stored(100)
    saved(bench)  # while the newer one is being put in place
    assert bench.announced("snapshot_taken") == []
    bench.sync()
    bench.core.snapshot_loaded(newer)
    assert [bench.core.snapshot, bench.core.log.start_index] == [newer, 6]
    bench.core.snapshot_taken(snapshot("1 1"), bench.now)
    bench.perform()
    assert [bench.core.snapshot, bench.core.log.start_index] == [newer, 6]
    assert bench.announced("snapshot_taken") == []


def test_what_a_follower_will_need_after_its_snapshot_stays() -> None:
    """As long as it replies: else it would be sent one snapshot after the other."""
    bench = lagging_leader()
    for _ in range(3):
        bench.core.propose(None, NO_OP, bench.now)
    bench.perform().sync()
    acknowledge(bench, 1, 9)
    bench.core.snapshots.change_policy(SnapshotPolicy(entries=1, trailing=0))
    bench.perform()
    assert (saved(bench).last_index, bench.core.log.start_index) == (9, 4)
    assert bench.compacted[-1].keep == {4, 9}
    for _ in range(2):
        bench.core.propose(None, NO_OP, bench.now)
    for _ in range(20):  # node 2 is silent for longer than an election timeout
        acknowledge(bench, 1, 9)
        bench.tick(HEARTBEAT_S)
    bench.sync()
    acknowledge(bench, 1, 11)
    assert (saved(bench).last_index, bench.core.log.start_index) == (11, 11)


def test_a_log_with_a_snapshot_answers_as_the_whole_one_did() -> None:
    """Term, digest, slice, sizes, conflicts and hints, wherever it begins (BUG-30)."""
    random = Random(1)
    for _ in range(200):
        term, written = 1, ""
        for _ in range(random.randint(1, 12)):
            term += random.random() < 0.3
            written += f" {term}"
        whole, short = Log(entries(written)), Log(entries(written))
        start = random.randint(0, whole.last_index)
        short.compact(start)
        anew = Log(entries(written)[start:], LogStart(index=start, term=whole.term(start), digest=whole.digest(start)))
        for log in (short, anew):
            assert (log.last_index, log.last_term, log.start_index) == (whole.last_index, whole.last_term, start)
            for index in range(start, whole.last_index + 1):
                assert (log.term(index), log.digest(index)) == (whole.term(index), whole.digest(index))
                assert log.slice(index + 1, whole.last_index) == whole.slice(index + 1, whole.last_index)
                assert log.bytes_between(index, whole.last_index) == whole.bytes_between(index, whole.last_index)
                assert log.commands(index + 1, whole.last_index) == whole.commands(index + 1, whole.last_index)
                assert log.holds(index, whole.term(index)) and not log.holds(index, term + 1)
                hint = whole.last_index_within(index, term - 1)
                assert log.last_index_within(index, term - 1) == (hint if hint >= start else 0)
            for prev in range(whole.last_index + 1):
                sent = whole.slice(prev + 1, whole.last_index)
                assert log.first_conflict(prev, sent) == len(sent)
                if prev >= start and sent:
                    other = (*sent[:-1], Entry(99, NO_OP))
                    assert log.first_conflict(prev, other) == len(sent) - 1


# -- logs that begin later -------------------------------------------------------------------------------------------------


def test_a_node_begins_with_its_snapshot() -> None:
    """What it holds is committed and applied; the log goes on behind it, or reaches back before it (BUG-30)."""
    bench = follower(log="1 1 1 2 2", saved=4, compacted=2)
    assert (bench.core.commit_index, bench.core.last_applied) == (4, 4)
    assert (bench.core.log.start_index, terms(bench.core.log)) == (2, [1, 2, 2])
    bench.step(append(term=2, prev=(5, 2), commit=5)).sync()
    assert [(effect.first, effect.last) for effect in bench.applied] == [(5, 5)]


@pytest.mark.parametrize("prev", range(6))
def test_an_append_that_begins_before_the_log_matches_what_was_compacted(prev: int) -> None:
    """It is committed, so every leader has it: nothing is deleted, nothing appended again (BUG-21)."""
    bench = follower(log="1 1 1 2 2", saved=4, compacted=4)
    whole = ["1", "1", "1", "2", "2", "2"]
    before = 0 if prev == 0 else int(whole[prev - 1])
    bench.step(append(term=2, prev=(prev, before), log=" ".join(whole[prev:]))).sync()
    assert (bench.core.log.start_index, bench.core.log.last_index, terms(bench.core.log)) == (4, 6, [2, 2])
    assert bench.announced("log_truncated") == []
    assert [message.match_index for message in bench.replies() if isinstance(message, AppendReply)] == [6]


def test_an_empty_log_behind_a_snapshot_is_as_up_to_date_as_its_last_entry() -> None:
    """Index and term of the snapshot stand for the log's end in elections (Raft 5.4.1, BUG-36)."""
    bench = follower(log="1 1 3", saved=3, compacted=3)
    bench.step(VoteRequest(term=4, candidate_id=1, last_log_index=9, last_log_term=2)).sync()
    (refusal,) = [message for message in bench.replies() if isinstance(message, VoteReply)]
    assert not refusal.granted
    bench.step(VoteRequest(term=5, candidate_id=1, last_log_index=3, last_log_term=3)).sync()
    (grant,) = [message for message in bench.replies() if isinstance(message, VoteReply)]
    assert grant.granted


def test_a_vote_that_waits_and_an_installation_are_one_write() -> None:
    """Term first: a new leader's snapshot is installed in that leader's term."""
    bench = follower()
    of = snapshot("1 1")
    bench.step(piece(of, data=b"x" * 100, term=3)).stored(100)
    records = [record for write in bench.writes for record in write.records]
    bench.sync()
    assert records[0] == HardState(term=3, voted_for=None)
    assert bench.core.durability.durable_index == 2
