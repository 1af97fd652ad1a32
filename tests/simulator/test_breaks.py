"""Planted bugs: every rule that is taken away is missed within 500 seeds, and is back afterwards."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from typing import Any

import pytest

from bargetrio.simulator import breaks
from bargetrio.simulator.breaks import BREAKS, broken
from bargetrio.simulator.breaks.registry import PLANTED, Patches
from bargetrio.simulator.campaign import SIZES
from bargetrio.simulator.seed import run
from bargetrio.simulator.stack import seed as stack
from tests.simulator.amounts import BREAK_SEEDS, BREAK_STACK_SEEDS


def test_there_are_enough_of_them() -> None:
    """Each says what it takes away, and where that is written."""
    assert len(BREAKS) >= 25
    for module in pkgutil.iter_modules(breaks.__path__, f"{breaks.__name__}."):
        importlib.import_module(module.name)
    assert BREAKS.keys() == PLANTED.keys(), "a file of them is not listed in simulator/breaks/__init__.py"
    assert all(planted.rule and planted.source for planted in BREAKS.values())


class _Signatures(Patches):
    """Compares each function with the one that replaces it: the second takes whatever arguments the first can be given."""

    def set(self, owner: Any, name: str, value: Any) -> Any:
        old = super().set(owner, name, value)
        if inspect.isfunction(old) and inspect.isfunction(value):
            for is_given in (lambda parameter: True, lambda parameter: parameter.default is parameter.empty):
                arguments, keywords = _arguments(old, is_given)
                inspect.signature(value).bind(*arguments, **keywords)
        return old


def _arguments(function: Callable[..., Any], is_given: Callable[[inspect.Parameter], bool]) -> tuple[list[None], dict[str, None]]:
    """Return positional and keyword arguments for those parameters of `function` that are given."""
    given = [parameter for parameter in inspect.signature(function).parameters.values() if is_given(parameter)]
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return (
        [None for parameter in given if parameter.kind in positional],
        {parameter.name: None for parameter in given if parameter.kind is inspect.Parameter.KEYWORD_ONLY},
    )


@pytest.mark.parametrize("name", BREAKS)
def test_what_replaces_a_function_takes_its_arguments(name: str) -> None:
    """Otherwise the seed ends by a TypeError of the planted bug, hours later, and not by the rule that it takes away."""
    patches = _Signatures()
    try:
        BREAKS[name].apply(patches)
    finally:
        patches.undo()


@pytest.mark.long
@pytest.mark.parametrize("name", BREAKS)
def test_a_rule_that_is_taken_away_is_missed(name: str) -> None:
    """And the same seed is clean when the rule is back."""
    planted = BREAKS[name]
    run_seed, most = (stack.run, BREAK_STACK_SEEDS) if planted.stack else (run, BREAK_SEEDS)
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
