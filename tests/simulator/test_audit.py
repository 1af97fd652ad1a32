"""`bargetrio check`: a recorded run with one event changed is found, and the event is named."""

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from msgspec import structs

from bargetrio.protocol.events import Event
from bargetrio.simulator.audit import Audit, Finding
from bargetrio.simulator.plan import LOSE_SYNCED_DATA
from bargetrio.simulator.report import events_of
from bargetrio.simulator.seed import run


@cache
def recorded() -> tuple[Event, ...]:
    """Return a run with elections, truncations, crashes, and snapshots taken, installed and recovered from."""
    for seed in range(300):
        result = run(seed, 5, keep=True)
        if LOSE_SYNCED_DATA & set(result.kinds):
            continue  # what such a disk forgets, the audit finds
        events = tuple(events_of(result))
        kinds = {event.kind for event in events}
        rare = {"log_truncated", "node_killed", "vote_granted", "snapshot_taken", "snapshot_installed"}
        if rare <= kinds and len(leaders(events)) >= 3 and any(applies_behind_a_snapshot(event, events) for event in events):
            return events
    raise AssertionError("no seed has it all")


def leaders(events: tuple[Event, ...]) -> list[Event]:
    """Return the elections."""
    return [event for event in events if event.kind == "role_changed" and event.detail["new"] == "leader"]


def audit(events: tuple[Event, ...]) -> Finding | None:
    """Audit a run."""
    return Audit().take_all(events)


def changed(pick: Callable[[Event], bool], change: Callable[[Event], Event], which: int = -1) -> tuple[tuple[Event, ...], Event]:
    """Return the run with one of the events that `pick` finds changed, and that event."""
    events = list(recorded())
    place = [number for number, event in enumerate(events) if pick(event)][which]
    events[place] = change(events[place])
    return tuple(events), events[place]


def detail(event: Event, **fields: Any) -> Event:
    """Return the event with other details."""
    return structs.replace(event, detail={**event.detail, **fields})


def test_a_run_that_broke_nothing_passes() -> None:
    """Crashes, truncations and all."""
    assert audit(recorded()) is None


def test_a_second_leader_of_a_term() -> None:
    """Election safety."""
    first = leaders(recorded())[0]
    assert first.node is not None
    other = structs.replace(first, node=(first.node + 1) % 5)
    finding = audit((*recorded()[: recorded().index(first) + 1], other))
    assert finding is not None
    assert finding.rule in ("election safety", "terms never fall", "a vote is remembered")
    assert finding.event == other


def test_another_entry_where_one_was_committed() -> None:
    """State machine safety: the digests differ."""
    events, event = changed(lambda e: e.kind == "commit_advanced", lambda e: detail(e, digest=1))
    finding = audit(events)
    assert finding is not None
    assert finding.rule == "state machine safety"
    assert finding.event.index == event.index


def test_a_second_vote() -> None:
    """One vote a term, in one life."""
    vote = next(event for event in recorded() if event.kind == "vote_granted")
    assert vote.peer is not None
    again = structs.replace(vote, peer=next(node for node in range(5) if node not in (vote.peer, vote.node)))
    place = recorded().index(vote) + 1
    finding = audit((*recorded()[:place], again, *recorded()[place:]))
    assert finding is not None
    assert (finding.rule, finding.event) == ("one vote a term", again)


def test_a_vote_that_elected_a_leader_and_is_lost() -> None:
    """The disk must know it after the next start."""
    first = leaders(recorded())[0]
    begun = recorded()[: recorded().index(first) + 1]
    born = next(event for event in begun if event.kind == "node_recovered" and event.node == first.node)
    forgetful = structs.replace(born, term=0)
    finding = audit((*begun, detail(forgetful, voted_for=None)))
    assert finding is not None
    assert finding.rule == "a vote is remembered"


def applies_behind_a_snapshot(event: Event, run: tuple[Event, ...]) -> bool:
    """Return whether a node recovers here with a snapshot, and applies something before it ends, or is sent another one."""
    if event.kind != "node_recovered" or not event.detail["snapshot"]:
        return False
    after = run[run.index(event) + 1 :]
    own = (other.kind for other in after if other.node == event.node)
    ends = ("snapshot_installed", "node_killed", "disk_failed")
    return next((kind for kind in own if kind == "applied" or kind in ends), None) == "applied"


CHANGES: dict[str, tuple[str, Callable[[Event], Event]]] = {
    "commit never falls": ("commit_advanced", lambda event: structs.replace(event, index=1)),
    "terms never fall": ("term_changed", lambda event: structs.replace(event, term=0)),
    "applied once, in order": ("applied", lambda event: detail(event, first_index=int(event.detail["first_index"]) + 1)),
    "committed for ever": ("log_truncated", lambda event: structs.replace(event, index=1)),
    "a snapshot holds what was applied": ("snapshot_taken", lambda event: structs.replace(event, index=9_999)),
    "no gap behind a snapshot": ("snapshot_taken", lambda event: detail(event, log_start=(event.index or 0) + 1)),
}


@pytest.mark.parametrize("rule", CHANGES)
def test_a_changed_event_is_named(rule: str) -> None:
    """The first event that breaks the rule is the one that was changed."""
    kind, change = CHANGES[rule]
    events, event = changed(lambda e: e.kind == kind, change)
    finding = audit(events)
    assert finding is not None
    assert (finding.rule, finding.event) == (rule, event)
    assert event.id in finding.describe()


@pytest.mark.parametrize("kind", ["snapshot_taken", "snapshot_installed"])
def test_a_snapshot_of_something_else(kind: str) -> None:
    """Its digest is not what was committed up to its index."""
    events, event = changed(lambda e: e.kind == kind, lambda e: detail(e, digest=1))
    finding = audit(events)
    assert finding is not None
    assert (finding.rule, finding.event) == ("state machine safety", event)


def test_a_state_that_is_taken_twice() -> None:
    """What a node holds is newer than a state that it took already."""
    place, event = next((place, event) for place, event in enumerate(recorded()) if event.kind == "snapshot_installed")
    again = structs.replace(event)
    finding = audit((*recorded()[: place + 1], again, *recorded()[place + 1 :]))
    assert finding is not None
    assert (finding.rule, finding.event) == ("snapshots go forward", again)


def test_applying_goes_on_behind_the_snapshot_that_a_node_began_with() -> None:
    """A node that applies again what its snapshot holds would apply it twice."""
    events, event = changed(
        lambda e: applies_behind_a_snapshot(e, recorded()),
        lambda e: detail(e, snapshot=0),
    )
    finding = audit(events)
    assert finding is not None
    assert finding.rule == "applied once, in order"
    assert finding.event.node == event.node


@pytest.mark.parametrize("seed", range(1000, 1400, 4))
def test_a_vote_that_was_forgotten_and_given_again_breaks_nothing(seed: int) -> None:
    """A candidate dies before its own vote is synced, and stands and wins in the same term in its next life."""
    result = run(seed, 3, frozenset({"crashes", "kills", "slow_disks", "restart_all", "fsync_errors"}), keep=True)
    assert result.failure is None
    assert audit(tuple(events_of(result))) is None


def test_a_gap_may_hold_a_whole_life() -> None:
    """A leader that steps down, dies and comes back while nothing is recorded."""
    leader = leaders(recorded())[0]
    place = recorded().index(leader) + 1
    gap = Audit()
    assert gap.take_all(recorded()[:place]) is None
    gap.missed()
    cut = structs.replace(next(e for e in recorded() if e.kind == "log_truncated"), node=leader.node)
    back = structs.replace(next(e for e in recorded() if e.kind == "term_changed"), node=leader.node, term=1)
    assert gap.take_all((cut, back)) is None


def test_what_was_not_recorded_breaks_nothing() -> None:
    """A file that begins in the middle, and one that says that events were dropped."""
    assert audit(recorded()[len(recorded()) // 2 :]) is None
    gap = Audit()
    assert gap.take_all(recorded()[:1000]) is None
    gap.missed()
    assert gap.take_all(recorded()[1500:]) is None


def _voted(node: int, store: str, before: tuple[int, int | None] = (0, None)) -> tuple[Event, ...]:
    """A node recovers, and votes for node 1 in term 1."""
    template = next(event for event in recorded() if event.kind == "node_recovered")
    term, voted_for = before
    recovered = detail(structs.replace(template, node=node, term=term, index=0), voted_for=voted_for, snapshot=0, store=store)
    vote = next(event for event in recorded() if event.kind == "vote_granted")
    return recovered, structs.replace(vote, node=node, peer=1, term=1)


def _elected(leader: int, voters: str) -> Event:
    template = next(event for event in recorded() if event.kind == "role_changed" and event.detail["new"] == "leader")
    return detail(structs.replace(template, node=leader, term=1), reason=f"has the votes of {voters}")


def test_a_node_with_another_disk_remembers_no_vote_and_one_with_the_same_must() -> None:
    """A disk that was replaced is no disk that forgot (BUG-38)."""
    first = (*_voted(0, "old"), _elected(1, "node 0, node 1"))
    replaced = audit((*first, *_voted(0, "new")))
    assert replaced is None
    forgot = audit((*first, *_voted(0, "old")))
    assert forgot is not None and forgot.rule == "a vote is remembered"
