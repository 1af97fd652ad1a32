"""The judges of what writes are told: each line of their tables, kept and broken."""

from typing import Any

import pytest
from msgspec import Raw

from bargetrio.kv.commands import encode_command
from bargetrio.kv.store import Store, Written
from bargetrio.protocol.requests import Delete, Put
from bargetrio.simulator.memory import Broken, Committed
from bargetrio.simulator.outcomes import RULE, Outcomes
from bargetrio.simulator.stack.ledger import Ledger

PUT = Put(id=0, key="a", value="1")
CREATE = Put(id=0, key="a", value="2", if_absent=True)
DELETE = Delete(id=0, key="a")
REQUESTS = (PUT, CREATE, DELETE, DELETE)
"""What the log holds from index 1: the create is refused, as the key is there; the last delete finds nothing."""
COMMANDS = [Raw(b"null"), *(encode_command(request) for request in REQUESTS)]
_store = Store()
OUTCOMES = [None, *(_store.apply(COMMANDS[index], index) for index in range(1, 5))]

Told = tuple[Put | Delete, str, dict[str, Any]]
GOOD: list[Told] = [
    (PUT, "applied", {"index": 1, "created": True}),
    (CREATE, "refused", {}),
    (DELETE, "applied", {"index": 3, "deleted": True}),
    (DELETE, "applied", {"deleted": False}),
]


def judge(*told: Told) -> None:
    """Judge these tries against the log."""
    ledger = Ledger()
    for request, effect, fields in told:
        ledger.note(request, effect, "test", **fields)  # type: ignore[arg-type]
    ledger.judge(COMMANDS, OUTCOMES)


def with_(place: int, effect: str, **fields: Any) -> list[Told]:
    """The good answers, but for one."""
    told = list(GOOD)
    told[place] = GOOD[place][0], effect, fields
    return told


def test_a_right_answer_is_no_violation() -> None:
    """As it is, or that it is unknown; a try that was not done beside one that was."""
    judge(*GOOD)
    judge(*with_(0, "unknown"))
    judge(*with_(1, "unknown"))
    judge(*with_(2, "unknown"))
    judge(*GOOD, (PUT, "not done", {}), (Put(id=0, key="b", value="9"), "not done", {}), (PUT, "unknown", {}))


@pytest.mark.parametrize(
    "told",
    [
        with_(0, "not done"),
        with_(2, "not done"),
        with_(1, "not done"),
        with_(0, "refused"),
        with_(1, "applied"),
        with_(1, "applied", index=2, created=True),
        with_(0, "applied", index=3),
        with_(0, "applied", index=9),
        with_(0, "applied", index=1, created=False),
        with_(2, "applied", index=3, deleted=False),
        [*GOOD, (PUT, "applied", {"index": 1})],
        [*GOOD, (Put(id=0, key="b", value="9"), "applied", {"index": 4})],
        [*GOOD, (Put(id=0, key="b", value="9"), "applied", {})],
        [*GOOD[:2], (DELETE, "unknown", {})],
    ],
)
def test_a_wrong_answer_is_a_violation(told: list[Told]) -> None:
    """Whichever way."""
    with pytest.raises(Broken) as caught:
        judge(*told)
    assert caught.value.rule == RULE


class Ticket:
    """Somebody who waits."""

    def committed(self, *_: object) -> None: ...
    def read_at(self, _: object) -> None: ...
    def refused(self, _: object) -> None: ...
    def unknown(self) -> None: ...


def ring_1() -> tuple[Outcomes, list[Committed], list[Any]]:
    """A judge that has seen entry 1 of term 1 committed."""
    committed, outcomes = [Committed(0, 0, 0), Committed(1, 7, 1)], [None, Written("a", True)]
    return Outcomes(committed, outcomes), committed, outcomes


def test_a_server_may_answer_what_it_proposed_with_its_outcome() -> None:
    """Applied at its entry; refused without one; unknown with one; and after a crash nothing is left."""
    judge, committed, _ = ring_1()
    first, second, third = Ticket(), Ticket(), Ticket()
    judge.proposed(0, first, 1, 1)
    judge.applied(0, first, Written("a", True), 1, 1)
    judge.refused(0, second)
    judge.proposed(0, third, 2, 1)
    judge.unknown(0, third)
    judge.proposed(0, second, 3, 1)
    judge.crashed(0)
    judge.refused(0, second)
    committed.append(Committed(1, 8, 1))
    judge.committed(2, 1)


@pytest.mark.parametrize("index", [1, 2])
def test_what_was_called_refused_may_not_be_committed(index: int) -> None:
    """Before it was told, or later; another entry at that place may."""
    judge, committed, _ = ring_1()
    ticket = Ticket()
    judge.proposed(0, ticket, index, 1)
    with pytest.raises(Broken, match="nothing was done"):
        judge.refused(0, ticket)
        committed.append(Committed(1, 8, 1))
        judge.committed(2, 1)
    judge, committed, _ = ring_1()
    judge.proposed(0, ticket, 2, 1)
    judge.refused(0, ticket)
    judge.committed(2, 5)


@pytest.mark.parametrize(
    ("outcome", "index", "term"), [(Written("a", False), 1, 1), (Written("a", True), 2, 1), (Written("a", True), 1, 2)]
)
def test_applied_is_this_entry_with_this_outcome(outcome: Written, index: int, term: int) -> None:
    """No other index, term or outcome; and none that was not proposed."""
    judge, _, _ = ring_1()
    ticket = Ticket()
    with pytest.raises(Broken, match="has proposed nothing"):
        judge.applied(0, ticket, Written("a", True), 1, 1)
    judge.proposed(0, ticket, 1, 1)
    with pytest.raises(Broken):
        judge.applied(0, ticket, outcome, index, term)


def test_unknown_is_the_outcome_of_what_was_proposed() -> None:
    """A server that has proposed nothing knows."""
    judge, _, _ = ring_1()
    with pytest.raises(Broken, match="has not proposed"):
        judge.unknown(0, Ticket())
