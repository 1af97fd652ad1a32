"""Planted bugs: every rule that is taken away is missed within 500 seeds, and is back afterwards."""

import pytest

from bargetrio.simulator.breaks import BREAKS, broken
from bargetrio.simulator.campaign import SIZES
from bargetrio.simulator.seed import run
from bargetrio.simulator.stack import seed as stack

MOST_SEEDS = 500
MOST_STACK_SEEDS = 40
"""Of ring 2, whose seeds take a hundred times as long."""


def test_there_are_enough_of_them() -> None:
    """Each says what it takes away, and where that is written."""
    assert len(BREAKS) >= 25
    assert all(planted.rule and planted.source for planted in BREAKS.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", BREAKS)
def test_a_rule_that_is_taken_away_is_missed(name: str) -> None:
    """And the same seed is clean when the rule is back."""
    planted = BREAKS[name]
    run_seed, most = (stack.run, MOST_STACK_SEEDS) if planted.stack else (run, MOST_SEEDS)
    for seed in range(most):
        nodes = SIZES[seed % len(SIZES)]
        with broken(name):
            failure = run_seed(seed, nodes, planted.faults).failure
        if failure is not None:
            assert run_seed(seed, nodes, planted.faults).failure is None
            return
    pytest.fail(f"{name} was not found within {most} seeds")


def test_a_failed_run_leaves_nothing_broken() -> None:
    """The patches are undone even when the run raises."""
    with pytest.raises(RuntimeError), broken("figure_8"):
        raise RuntimeError
    assert run(0, 3).failure is None
