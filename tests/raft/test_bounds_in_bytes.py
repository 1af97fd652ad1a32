"""What is bounded by a number of entries is bounded in bytes, too: an entry may have 1 MiB."""

from random import Random

import pytest

from bargetrio.raft import core
from bargetrio.raft.log import Log
from bargetrio.raft.messages import Entry
from bargetrio.raft.records import LogStart
from bargetrio.raft.snapshot_state import SnapshotPolicy
from tests.raft.cores import acknowledge, append, entries, follower
from tests.raft.saved import answer, lagging_leader, progress, saved

SIZE = len(entries("1")[0].command)
"""Bytes of each command here."""


def test_an_apply_has_so_many_bytes_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand entries of 1 MiB held the loop for 3.3 s."""
    monkeypatch.setattr(core, "APPLY_BYTES", 2 * SIZE)
    bench = follower()
    bench.step(append(log="1 1 1 1 1", commit=5))
    while bench.core.last_applied < 5:
        bench.perform()
    assert [(effect.first, effect.last) for effect in bench.applied] == [(1, 2), (3, 4), (5, 5)]


def test_an_entry_that_is_larger_is_applied_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that applying never stops."""
    monkeypatch.setattr(core, "APPLY_BYTES", SIZE - 1)
    bench = follower()
    bench.step(append(log="1 1", commit=2))
    while bench.core.last_applied < 2:
        bench.perform()
    assert [(effect.first, effect.last) for effect in bench.applied] == [(1, 1), (2, 2)]


@pytest.mark.parametrize(("trailing_bytes", "start"), [(0, 4), (2 * SIZE - 1, 3), (2 * SIZE, 2), (1 << 20, 1)])
def test_trailing_entries_have_so_many_bytes_at_most(trailing_bytes: int, start: int) -> None:
    """10,000 entries of 1 MiB were 10 GiB in the memory of each node."""
    bench = follower(policy=SnapshotPolicy(entries=4, trailing=3, trailing_bytes=trailing_bytes))
    bench.step(append(log="1 1 1 1 1", commit=4)).sync()
    saved(bench)
    assert bench.core.log.start_index == start


def test_a_replaced_log_is_freed_by_bytes_too() -> None:
    """At least one entry a pass, and the last one when its turn comes."""
    log = Log(entries("1 " * 6))
    log.reset(LogStart(index=9, term=1))
    left = []
    for _ in range(4):
        log.drop(10, 2 * SIZE - 1)
        left.append(len(log.forgotten))
    assert left == [4, 2, 0, 0]
    log = Log(entries("1 1"))
    log.reset(LogStart(index=9, term=1))
    log.drop(10, 0)
    assert len(log.forgotten) == 1


def test_a_transfer_that_does_not_end_keeps_no_endless_log() -> None:
    """Once more was written than the bound, and than twice its size, the newest snapshot is sent from its beginning."""
    bench = lagging_leader()
    bench.core.snapshots.change_policy(SnapshotPolicy(entries=1, trailing=0, transfer_bytes=3 * SIZE))
    old = bench.core.snapshot
    assert old is not None
    answer(bench, 2, old, 40)
    starts = []
    for _ in range(8):
        bench.core.propose(None, entries("1")[0].command, bench.now)
        bench.perform().sync()
        acknowledge(bench, 1, bench.core.log.last_index)
        saved(bench, size=SIZE)
        transfer = progress(bench, 2).transfer
        assert transfer is not None
        starts.append(bench.core.log.start_index - transfer.snapshot.last_index)
        answer(bench, 2, transfer.snapshot, transfer.offset)  # it is there, and slow
    assert set(starts) == {0}, "the log begins after what is being sent"
    transfer = progress(bench, 2).transfer
    assert transfer is not None and transfer.snapshot.last_index > old.last_index
    assert bench.core.log.bytes_between(bench.core.log.start_index, bench.core.log.last_index) <= 4 * SIZE


def test_a_transfer_is_not_begun_again_while_its_snapshot_outweighs_what_was_written() -> None:
    """A follower that receives half as fast as is written still ends."""
    bench = lagging_leader()
    bench.core.snapshots.change_policy(SnapshotPolicy(entries=1, trailing=0, transfer_bytes=0))
    old = bench.core.snapshot
    assert old is not None and 4 * SIZE < 2 * old.size < 6 * SIZE
    for _ in range(3):
        bench.core.propose(None, entries("1")[0].command, bench.now)
        bench.perform().sync()
        acknowledge(bench, 1, bench.core.log.last_index)
        saved(bench)
        answer(bench, 2, old, 0)
    transfer = progress(bench, 2).transfer
    assert transfer is not None and transfer.snapshot == old
    assert bench.core.log.start_index == old.last_index


def test_where_the_trailing_entries_begin_is_what_counting_from_the_end_says() -> None:
    """By a naive twin, also after the log was compacted."""
    random = Random(1)
    for _ in range(300):
        sizes = [random.choice((0, 1, 5, 100)) for _ in range(random.randint(1, 12))]
        log = Log([Entry(1, b"x" * size) for size in sizes])  # type: ignore[arg-type]
        start = random.randint(0, len(sizes))
        log.compact(start)
        last, most = random.randint(start, len(sizes)), random.choice((0, 1, 5, 100, 10_000))
        first = last
        while first > start and sum(sizes[first - 1 : last]) <= most:
            first -= 1
        assert log.first_within(last, most) == first
