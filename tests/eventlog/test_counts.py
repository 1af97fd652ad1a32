"""The counts shown add up to the recorded events: shown, dropped, skipped and hidden, of one daemon and of several."""

from collections import Counter
from itertools import count, pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bargetrio.cluster.merge import DaemonPage, merge
from bargetrio.eventlog.recorder import RecordedPage, Recorder, format_id
from bargetrio.protocol.events import Event, EventPage, EventQuery
from bargetrio.raft.facts import AppendSent, CommitAdvanced, Fact, TermChanged

CAPACITY, HEARTBEATS = 6, 3

STEPS = st.lists(st.tuples(st.sampled_from("bbeecr"), st.integers(0, 2)), max_size=60)
"""A heartbeat, an event that is rare, one that is frequent, or a reader's turn; and of which node."""
BURST = [*[("b", 0)] * 3, *[("e", 0)] * 10]
"""The heartbeats that are kept are older than the events that fell out."""


def fact_of(kind: str) -> Fact:
    """A fact of a kind."""
    if kind == "b":
        return AppendSent(
            peer=1,
            term=1,
            index=0,
            first_index=1,
            first_term=0,
            last_term=0,
            count=0,
            leader_commit=0,
            first_commands=(),
            digest=0,
        )
    if kind == "e":
        return TermChanged(term=1, old_term=0, reason="")
    return CommitAdvanced(term=1, index=2, old_index=1, digest=0)


def recorder(run: str = "run", capacity: int = CAPACITY) -> Recorder:
    """With small rings; its clock never stands still."""
    clock = count(1)
    return Recorder(run, wall_clock=lambda: float(next(clock)), capacity=capacity, heartbeats=HEARTBEATS)


class ReadSoFar:
    """The events that a reader has got, and those recorded."""

    def __init__(self) -> None:
        self.seqs: list[int] = []
        self.dropped = self.skipped = 0
        self.recorded: Counter[bool] = Counter()

    def take(self, page: RecordedPage) -> None:
        """Another page."""
        self.seqs += [kept.seq for kept in page.events]
        self.dropped += page.dropped
        self.skipped += page.skipped


@settings(max_examples=300)
@example(BURST, 1, True, False)
@given(STEPS, st.integers(1, 4), st.booleans(), st.booleans())
def test_a_continuing_reader_gets_everything_once(steps: list[tuple[str, int]], limit: int, heartbeats: bool, thin: bool) -> None:
    """ReadSoFar, dropped and skipped together are what was recorded, whenever it reads; heartbeats too, if it asked for them."""
    log, told, cursor = recorder(), ReadSoFar(), 0
    turns = [("r", 0)] * 20
    for kind, node in [*steps, *turns]:
        if kind == "r":
            page = log.page(cursor, heartbeats=heartbeats, limit=limit, thin=thin)
            assert len(page.events) <= limit
            told.take(page)
            cursor = page.last_seq
        else:
            log.record(node, fact_of(kind))
            told.recorded[kind == "b"] += 1
    wanted = told.recorded[False] + (told.recorded[True] if heartbeats else 0)
    assert len(told.seqs) + told.dropped + told.skipped == wanted
    assert all(one < other for one, other in pairwise(told.seqs))
    assert log.heartbeats == told.recorded[True]
    assert sum(log.counts.values()) == log.last_seq == told.recorded.total()
    assert not told.skipped or thin


@given(STEPS, st.integers(1, 10))
def test_a_page_of_the_newest_says_how_many_are_gone(steps: list[tuple[str, int]], limit: int) -> None:
    """The counts of the table: kept, dropped, hidden."""
    log = recorder()
    for kind, node in steps:
        if kind != "r":
            log.record(node, fact_of(kind))
    events = sum(kind in "ec" for kind, _ in steps)
    page = log.page(None, limit=limit)
    assert page.dropped == max(0, events - CAPACITY)
    assert len(page.events) == min(limit, events, CAPACITY)
    assert page.heartbeats == sum(kind == "b" for kind, _ in steps)


def test_what_is_not_known_exactly_any_more_is_at_most_what_fell_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that is further behind than numbers are kept."""
    monkeypatch.setattr("bargetrio.eventlog.recorder.KNOWN_DROPPED", CAPACITY)
    log = recorder()
    for _ in range(50):
        log.record(0, fact_of("e"))
        log.record(0, fact_of("b"))
    for cursor in range(log.last_seq + 1):
        exact = sum(seq > cursor for seq in range(1, 100, 2)) - min(CAPACITY, sum(seq > cursor for seq in range(1, 100, 2)))
        dropped = log.page(cursor, limit=100).dropped
        assert exact <= dropped <= 44
        assert dropped == exact or cursor < log.last_seq - 4 * CAPACITY


def answer(log: Recorder, cursor: str, limit: int, live: bool, heartbeats: bool) -> EventPage:
    """What a daemon answers another one."""
    seqs = {run: int(seq) for run, _, seq in (text.rpartition("-") for text in cursor.split(",") if text)}
    page = log.page(seqs.get(log.run, 0), heartbeats=heartbeats, limit=limit, thin=live)
    return EventPage(
        events=[log.event(kept) for kept in page.events],
        next=format_id(log.run, page.last_seq),
        dropped=page.dropped,
        heartbeats=page.heartbeats,
        skipped=page.skipped,
    )


@pytest.mark.slow
@settings(max_examples=300)
@example([*BURST[:3], ("e", 1), *BURST[3:]], 2, "heartbeats", 0)
@example([("e", 1), ("e", 1), *BURST], 2, "", 0)
@given(STEPS, st.integers(1, 4), st.sampled_from(["", "live", "heartbeats"]), st.integers(0, 3))
def test_the_merged_log_of_several_daemons_has_everything_once(
    steps: list[tuple[str, int]], limit: int, asked: str, silent_every: int
) -> None:
    """Also where a daemon is not reached now and then: its place in the cursor is kept."""
    clock = count(1)
    logs = [Recorder(f"r{i}", wall_clock=lambda: float(next(clock)), capacity=CAPACITY, heartbeats=HEARTBEATS) for i in range(3)]
    cursor = ",".join(format_id(log.run, 0) for log in logs)
    seen: list[Event] = []
    dropped = skipped = recorded = reads = heartbeats = 0
    live, with_heartbeats = asked == "live", asked == "heartbeats"
    for kind, node in [*steps, *[("r", 0)] * 60]:
        if kind != "r":
            logs[node].record(node, fact_of(kind))
            recorded += with_heartbeats or kind != "b"
            heartbeats += kind == "b"
            continue
        reads += 1
        reached = [log for log in logs if not (silent_every and reads < 30 and reads % (silent_every + 1) == int(log.run[1]))]
        parts = [DaemonPage(page=answer(log, cursor, limit, live, with_heartbeats), run=log.run) for log in reached]
        unreachable = [int(log.run[1]) for log in logs if log not in reached]
        page = merge(parts, EventQuery(after=cursor, limit=limit, heartbeats=with_heartbeats), unreachable)
        seen += page.events
        dropped += page.dropped
        skipped += page.skipped
        cursor = page.next
        assert page.heartbeats == sum(log.heartbeats for log in reached)
    assert len(seen) + dropped + skipped == recorded
    assert len({event.id for event in seen}) == len(seen)
    assert skipped == 0 or live
    assert sum(log.heartbeats for log in logs) == heartbeats
