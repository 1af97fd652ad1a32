"""Ring 1: seeds run clean, get to the rare places, and do the same again in another process."""

import os

import pytest

from bargetrio.simulator.audit import Audit
from bargetrio.simulator.campaign import Order, run_all
from bargetrio.simulator.goals import GOALS
from bargetrio.simulator.linearizability import check
from bargetrio.simulator.plan import KINDS, LOSE_SYNCED_DATA
from bargetrio.simulator.report import events_of
from bargetrio.simulator.seed import run
from tests.simulator.amounts import SEEDS
from tests.simulator.traces import traces

FEW_SEEDS = 100


def test_no_rule_breaks_in_the_first_seeds() -> None:
    """Clusters of 1 to 7 nodes."""
    tally = run_all(Order(first=0, count=FEW_SEEDS), os.cpu_count() or 1, lambda so_far: None, keep_going=True)
    assert [(result.seed, result.failure) for result in tally.failures] == []
    assert tally.seeds == FEW_SEEDS


@pytest.mark.long
def test_no_rule_breaks_and_every_rare_situation_is_reached() -> None:
    """Clusters of 1 to 7 nodes; the goals say that the seeds did get into trouble."""
    tally = run_all(Order(first=0, count=SEEDS), os.cpu_count() or 1, lambda so_far: None, keep_going=True)
    assert [(result.seed, result.failure) for result in tally.failures] == []
    assert tally.seeds == SEEDS
    assert tally.missing() == []
    assert len(GOALS) >= 30
    # Seeds without a verdict, as a disk lost data. Measured on 2026-11-30: 6 of these 1,200 (0.5 %), and 11 of the first 400
    # in which a disk may do so (2.8 %), 8 of them with an altered log. More: the excuse is wider, or the mix is heavier.
    assert tally.goals["loss_excused"] <= SEEDS * 0.01
    # Measured on 2026-11-29: 165 operations a seed, 121 of them answered, 27 % unknown. Where only the older kinds are drawn 185
    # are answered and 17 % are unknown; in the others 87 and 35 %: syncs that hang, narrow links and lost disks leave a cluster
    # without a quorum for seconds. Fewer answers, or more unknown outcomes: the mix is heavier, or Barge stands still more.
    assert tally.operations - tally.unknown > SEEDS * 110
    assert tally.unknown < tally.operations * 0.3


def test_the_same_seed_does_the_same_whatever_the_hashes() -> None:
    """Sets and dicts of strings go round differently in each process; nothing here may depend on it."""
    assert traces("bargetrio.simulator.seed", 5) == {f"{[run(seed, 5).trace for seed in range(4)]}\n"}


def test_another_seed_does_something_else() -> None:
    """The trace hash tells runs apart."""
    assert len({run(seed, 3).trace for seed in range(8)}) == 8


@pytest.mark.parametrize("seed", range(0, 40, 4))
def test_the_recorded_events_of_a_seed_pass_the_audit(seed: int) -> None:
    """What `bargetrio check` makes of a run that broke no rule, and in which no disk lost or altered synced data."""
    result = run(seed, 5, frozenset(KINDS) - LOSE_SYNCED_DATA, keep=True)
    audit = Audit()
    assert audit.take_all(events_of(result)) is None
    assert audit.leaders
    assert max(audit.committed) <= result.committed
    assert check(result.history).ok


def test_without_faults_every_request_gets_its_outcome() -> None:
    """No fault, no unknown outcome, one term."""
    result = run(3, 5, frozenset(), keep=True)
    assert result.failure is None
    assert result.unknown == 0
    assert {event.term for event in events_of(result) if event.kind == "role_changed"} <= {0, 1}
