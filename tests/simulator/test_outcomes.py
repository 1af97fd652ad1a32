"""The judges of what writes are attempts: each line of their tables, kept and broken."""

from contextlib import nullcontext
from typing import Any

import pytest
from msgspec import UNSET, Raw

from bargetrio.kv.commands import encode_command
from bargetrio.kv.store import ConditionFailed, Store, Written
from bargetrio.protocol.errors import BargeError, ErrorCode
from bargetrio.protocol.requests import Delete, DeleteAnswer, ErrorAnswer, Put, PutAnswer
from bargetrio.simulator.memory import Breach, Committed
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

Attempt = tuple[Put | Delete, str, dict[str, Any]]
GOOD: list[Attempt] = [
    (PUT, "applied", {"index": 1, "created": True}),
    (CREATE, "refused", {}),
    (DELETE, "applied", {"index": 3, "deleted": True}),
    (DELETE, "applied", {"deleted": False}),
]


def judge(*attempts: Attempt) -> None:
    """Judge these tries against the log."""
    ledger = Ledger()
    for request, effect, fields in attempts:
        ledger.note(request, effect, "test", **fields)  # type: ignore[arg-type]
    ledger.judge(COMMANDS, OUTCOMES)


def with_(place: int, effect: str, **fields: Any) -> list[Attempt]:
    """The good answers, but for one."""
    attempts = list(GOOD)
    attempts[place] = GOOD[place][0], effect, fields
    return attempts


def test_a_right_answer_is_no_violation() -> None:
    """As it is, or that it is unknown; a try that was not done beside one that was."""
    judge(*GOOD)
    judge(*with_(0, "unknown"))
    judge(*with_(1, "unknown"))
    judge(*with_(2, "unknown"))
    judge(*GOOD, (PUT, "not done", {}), (Put(id=0, key="b", value="9"), "not done", {}), (PUT, "unknown", {}))


@pytest.mark.parametrize(
    "attempts",
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
def test_a_wrong_answer_is_a_violation(attempts: list[Attempt]) -> None:
    """Whichever way."""
    with pytest.raises(Breach) as caught:
        judge(*attempts)
    assert caught.value.rule == RULE


def ring_1() -> tuple[Outcomes, list[Committed], list[Any]]:
    """A judge that has seen entry 1 of term 1 committed."""
    committed, outcomes = [Committed(0, 0, 0), Committed(1, 7, 1)], [None, Written("a", True)]
    return Outcomes(committed, outcomes), committed, outcomes


def put(request: int, *, index: int = 1, term: int = 1, created: bool = True) -> PutAnswer:
    """What a put that was applied is attempts."""
    return PutAnswer(id=request, key="a", index=index, term=term, created=True if created else UNSET)


def error(request: int, code: ErrorCode, detail: str = "") -> ErrorAnswer:
    """What another request is attempts."""
    return ErrorAnswer.of(request, BargeError(code, detail))


def test_a_server_may_answer_what_it_proposed_and_what_became_of_it() -> None:
    """Applied at its entry; refused without one; unknown with one; and after a crash nothing is left."""
    judge, committed, _ = ring_1()
    judge.proposed(0, 1, 1, 1)
    judge.answered(0, put(1))
    judge.answered(0, error(2, "not_leader"))
    judge.proposed(0, 3, 2, 1)
    judge.answered(0, error(3, "outcome_unknown"))
    judge.proposed(0, 4, 3, 1)
    judge.answered(0, error(4, "storage_failed"))
    judge.proposed(0, 5, 4, 1)
    judge.crashed(0)
    judge.answered(0, error(5, "overloaded"))
    committed.append(Committed(1, 8, 1))
    judge.committed(2, 1)


@pytest.mark.parametrize("index", [1, 2])
def test_what_was_called_refused_may_not_be_committed(index: int) -> None:
    """Before it was attempts, or later; another entry at that place may."""
    judge, committed, _ = ring_1()
    judge.proposed(0, 1, index, 1)
    with pytest.raises(Breach, match="nothing was done"):
        judge.answered(0, error(1, "not_leader"))
        committed.append(Committed(1, 8, 1))
        judge.committed(2, 1)
    judge, committed, _ = ring_1()
    judge.proposed(0, 1, 2, 1)
    judge.answered(0, error(1, "no_leader"))
    judge.committed(2, 5)


@pytest.mark.parametrize(
    "answer",
    [
        put(1, created=False),
        put(1, index=2),
        put(1, term=2),
        DeleteAnswer(id=1, key="a", index=1, term=1, deleted=True),
        error(1, "precondition_failed", "another"),
    ],
    ids=str,
)
def test_applied_is_this_entry_with_this_outcome(answer: PutAnswer | DeleteAnswer | ErrorAnswer) -> None:
    """No other index, term or outcome; and none that was not proposed."""
    judge, _, _ = ring_1()
    with pytest.raises(Breach, match=r"has proposed nothing|no entry of it was applied"):
        judge.answered(0, answer)
    judge.proposed(0, 1, 1, 1)
    with pytest.raises(Breach):
        judge.answered(0, answer)


@pytest.mark.parametrize(("detail", "is_so"), [("the key is there", True), ("another reason", False)])
def test_a_condition_that_did_not_hold_is_that_of_the_entry(detail: str, is_so: bool) -> None:
    """Which was applied, and had this outcome."""
    judge, committed, outcomes = ring_1()
    committed.append(Committed(1, 8, 1))
    outcomes.append(ConditionFailed("a", "the key is there"))
    judge.proposed(0, 1, 2, 1)
    with nullcontext() if is_so else pytest.raises(Breach, match="came to"):
        judge.answered(0, error(1, "precondition_failed", detail))


@pytest.mark.parametrize("code", ["outcome_unknown", "storage_failed"])
def test_unknown_is_answered_for_what_was_proposed(code: ErrorCode) -> None:
    """A server that has proposed nothing knows."""
    judge, _, _ = ring_1()
    with pytest.raises(Breach, match="has not proposed"):
        judge.answered(0, error(1, code))
