"""What the library's docstrings say about errors: each public method names its own, the class explains all of them once."""

import inspect
import re
from typing import get_args

import pytest

from bargetrio.client import Client
from bargetrio.protocol.errors import APPLIED, ErrorCode

METHODS = sorted(name for name in vars(Client) if not name.startswith("_") and callable(getattr(Client, name)))
NOT_RAISED = {"not_leader", "not_ready"}
"""The library looks for the leader by itself, and asks no `/readyz`."""


def table() -> dict[str, str]:
    """Return `applied` by code, as the class explains them."""
    return dict(re.findall(r"^ +(\w+) +(False|None) +\S", inspect.getdoc(Client) or "", re.MULTILINE))


def named(method: str) -> set[str]:
    """Return the codes that a method names under Errors."""
    _, _, errors = (inspect.getdoc(getattr(Client, method)) or "").partition("Errors: ")
    assert errors, f"{method} names no errors"
    return set(re.findall(r"[a-z]+_[a-z]+|forbidden|overloaded", errors)) & set(get_args(ErrorCode))


def test_the_table_has_every_error_with_what_is_certain() -> None:
    """As protocol/errors.py has it, which REST and the client protocol are compared with."""
    assert table() == {code: str(applied) for code, applied in APPLIED.items() if code not in NOT_RAISED}


@pytest.mark.parametrize("method", METHODS)
def test_every_public_method_names_its_errors(method: str) -> None:
    """All but `close`, which has none, can be refused and can find nobody."""
    assert named(method) == set() if method == "close" else named(method) >= {"forbidden", "no_leader", "overloaded"}


@pytest.mark.parametrize("method", METHODS)
def test_what_changes_something_may_have_an_unknown_outcome_and_what_reads_has_none(method: str) -> None:
    """`applied` None; a daemon's own error is told by the class."""
    reads = method in ("close", "get", "items", "leader", "nodes", "faults")
    assert ("outcome_unknown" in named(method)) is not reads
