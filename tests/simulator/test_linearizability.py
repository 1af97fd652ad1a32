"""The judge is judged: histories known to be good or bad, and good ones with one answer changed."""

from itertools import combinations, permutations
from random import Random
from typing import Any

import pytest
from msgspec import structs

from bargetrio.simulator.linearizability import Operation, check


def put(value: str, called: float, ended: float | None, **more: Any) -> Operation:
    """A write of key k; without an end its outcome is unknown."""
    fields = {"process": 0, "effect": "unknown" if ended is None else "applied", "key": "k", **more}
    return Operation(kind="put", value=value, called=called, ended=ended, **fields)


def get(value: str | None, called: float, ended: float, **more: Any) -> Operation:
    """A read of key k that returned `value`."""
    return Operation(process=1, kind="get", key="k", value=value, called=called, ended=ended, effect="applied", **more)


def delete(called: float, ended: float | None, **more: Any) -> Operation:
    """A removal of key k."""
    effect = "unknown" if ended is None else "applied"
    return Operation(process=2, kind="delete", key="k", called=called, ended=ended, **{"effect": effect, **more})


GOOD = {
    "nothing": [],
    "a write and a read": [put("a", 0, 1, index=1), get("a", 2, 3, index=1)],
    "a read before any write": [get(None, 0, 1, index=0), put("a", 2, 3, index=1)],
    "a read during a write sees it": [put("a", 0, 4, index=1), get("a", 1, 2)],
    "a read during a write does not see it": [put("a", 0, 4, index=1), get(None, 1, 2)],
    "two writes at once in either order": [put("a", 0, 4, index=2), put("b", 0, 4, index=1), get("a", 5, 6)],
    "an unknown write is seen late": [put("a", 0, None), get(None, 2, 3), get("a", 4, 5)],
    "an unknown write is never seen": [put("a", 0, None), get(None, 2, 3), get(None, 4, 5)],
    "a compare-and-set on what was read": [put("a", 0, 1, index=1), put("b", 2, 3, if_index=1, index=2), get("b", 4, 5)],
    "a compare-and-set that is refused": [
        put("a", 0, 1, index=1),
        put("b", 2, 3, if_index=7, effect="refused"),
        get("a", 4, 5),
    ],
    "a compare-and-set on an unknown write that was read": [
        put("a", 0, None),
        get("a", 1, 2, index=4),
        put("b", 3, 4, if_index=4, index=5),
        get("b", 5, 6),
    ],
    "an absent key is created": [put("a", 0, 1, if_absent=True, index=1), put("b", 2, 3, if_absent=True, effect="refused")],
    "a key is deleted": [put("a", 0, 1, index=1), delete(2, 3, deleted=True, index=2), get(None, 4, 5, index=0)],
    "nothing is deleted": [delete(0, 1, deleted=False, index=1)],
    "an unknown delete explains a missing key": [put("a", 0, 1, index=1), delete(2, None), get(None, 3, 4)],
}

BAD = {
    "a read of what nobody wrote": [get("a", 0, 1)],
    "a write is not seen afterwards": [put("a", 0, 1, index=1), get(None, 2, 3)],
    "a write is seen and then no more": [put("a", 0, None), get("a", 1, 2), get(None, 3, 4)],
    "an old value returns": [
        put("a", 0, 1, index=1),
        put("b", 2, 3, index=2),
        get("b", 4, 5),
        get("a", 6, 7),
    ],
    "two readers see two orders": [
        put("a", 0, 9, index=1),
        put("b", 0, 9, index=2),
        get("a", 1, 2),
        get("b", 3, 4),
        get("a", 5, 6),
    ],
    "both of two compare-and-sets succeed": [
        put("a", 0, 1, index=1),
        put("b", 2, 5, if_index=1, index=2),
        put("c", 2, 5, if_index=1, index=3),
    ],
    "a compare-and-set is refused though it held": [
        put("a", 0, 1, index=1),
        put("b", 2, 3, if_index=1, effect="refused"),
    ],
    "a key is created twice": [
        put("a", 0, 1, if_absent=True, index=1),
        put("b", 2, 3, if_absent=True, index=2),
    ],
    "a delete finds what is not there": [delete(0, 1, deleted=True, index=1)],
    "a delete finds nothing though it is there": [put("a", 0, 1, index=1), delete(2, 3, deleted=False, index=2)],
    "a refused write is seen": [
        put("a", 0, 1, index=1),
        put("b", 2, 3, if_index=9, effect="refused"),
        get("b", 4, 5),
    ],
    "a read tells another index": [put("a", 0, 1, index=1), get("a", 2, 3, index=2)],
    "a later write has a lower index": [put("a", 0, 1, index=5), put("b", 2, 3, index=4)],
    "a read sees what is older than what was acknowledged": [
        put("a", 1, 2, index=10),
        put("b", 0.5, None),
        get("b", 3, 4, index=3),
    ],
    "a read sees what was before a delete": [
        put("a", 0, 1, index=5),
        put("b", 0, None),
        delete(2, 3, deleted=True, index=9),
        get("b", 4, 5, index=7),
    ],
    "on another key, too": [put("a", 0, 1, index=5), put("b", 2, 3, index=4, key="other")],
}


@pytest.mark.parametrize("name", GOOD)
def test_good_histories_are_accepted(name: str) -> None:
    """There is an order that explains them."""
    verdict = check(GOOD[name])
    assert verdict.ok, verdict.reason


@pytest.mark.parametrize("name", BAD)
def test_bad_histories_are_rejected_with_a_reason(name: str) -> None:
    """There is none."""
    verdict = check(BAD[name])
    assert not verdict.ok
    assert verdict.reason


def made_up(random: Random, operations: int, keys: int, clients: int, unknown: float) -> list[Operation]:
    """Return a history that is linearizable because it was made by one: each operation takes effect at a moment of its own."""
    state: dict[str, tuple[str | None, int]] = {}
    history: list[Operation] = []
    free = [0.0] * clients
    moment, index = 0.0, 0
    for number in range(operations):
        moment += random.expovariate(10)
        client = min(range(clients), key=lambda name: free[name])
        called = max(free[client], moment - random.random() * 0.5)
        moment = max(moment, called)
        ended = moment + random.random() * 0.5
        free[client] = ended + 1e-6
        key = f"k{random.randrange(keys)}"
        value, last = state.get(key, (None, 0))
        known = random.random() >= unknown
        what = random.random()
        fields: dict[str, Any] = {"process": number, "key": key, "called": called, "ended": ended, "effect": "applied"}
        if what < 0.4:
            history.append(Operation(kind="get", value=value, index=last, **fields))
            continue
        index += 1
        if what < 0.5 and known:
            history.append(Operation(kind="delete", index=index, deleted=value is not None, **fields))
            state[key] = (None, 0)
            continue
        if_index = None if what < 0.8 else random.choice([last, max(0, last - 1)])
        holds = if_index is None or if_index == last
        if holds and not (not known and random.random() < 0.5):
            state[key] = (f"v{number}", index)
        if not known:
            fields |= {"ended": None, "effect": "unknown"}
            history.append(Operation(kind="put", value=f"v{number}", if_index=if_index, **fields))
        elif holds:
            history.append(Operation(kind="put", value=f"v{number}", if_index=if_index, index=index, **fields))
        else:
            history.append(Operation(kind="put", value=f"v{number}", if_index=if_index, **(fields | {"effect": "refused"})))
    random.shuffle(history)
    return history


@pytest.mark.parametrize("seed", range(30))
def test_what_one_register_did_is_accepted(seed: int) -> None:
    """Also with overlapping operations, and unknown outcomes."""
    random = Random(seed)
    history = made_up(random, 200, keys=3, clients=random.randint(1, 8), unknown=random.choice([0, 0.05, 0.2]))
    verdict = check(history)
    assert verdict.ok, verdict.reason


@pytest.mark.parametrize("seed", range(30))
def test_one_changed_answer_is_found(seed: int) -> None:
    """A read that returned an earlier value of its key, long overwritten."""
    random = Random(1000 + seed)
    history = sorted(made_up(random, 300, keys=2, clients=3, unknown=0.0), key=lambda operation: operation.called)
    reads = [place for place, operation in enumerate(history) if operation.kind == "get" and place > 150]
    place = random.choice(reads)
    read = history[place]
    old = next(
        operation
        for operation in history
        if operation.kind == "put" and operation.effect == "applied" and operation.key == read.key
    )
    assert old.ended is not None and old.ended < read.called
    history[place] = structs.replace(read, value=old.value, index=old.index)
    assert not check(history).ok


def test_five_thousand_operations_on_ten_keys_are_checked_in_time() -> None:
    """The limit is a minute; the steps it may take are bounded, and running out of them is a failure."""
    history = made_up(Random(7), 5000, keys=10, clients=8, unknown=0.02)
    verdict = check(history)
    assert verdict.ok, verdict.reason


@pytest.mark.parametrize("unknown", [8, 14, 18])
def test_many_unknown_writes_and_a_late_effect_are_decided(unknown: int) -> None:
    """An outage on one key: each unknown write may have happened anywhere after it, or never."""
    history = [put(f"u{number}", 0, None, process=number) for number in range(unknown)]
    for number in range(20):
        at = 10.0 * (number + 1)
        history += [put(f"w{number}", at, at + 1), get(f"w{number}", at + 2, at + 3)]
    assert check([*history, get("u0", 300, 301)]).ok
    assert not check([*history, get("nobody's", 300, 301)], steps=200_000).ok


def test_undecided_is_not_ok() -> None:
    """A judge that gave up has not acquitted anybody."""
    verdict = check(made_up(Random(1), 100, keys=1, clients=5, unknown=0.0), steps=20)
    assert not verdict.ok
    assert "undecided" in verdict.reason


def by_brute_force(history: list[Operation]) -> bool:
    """Try every order of every choice of the unknown operations, with the meaning of the operations written down once more."""
    known = [operation for operation in history if operation.effect != "unknown"]
    maybe = [operation for operation in history if operation.effect == "unknown"]
    for count in range(len(maybe) + 1):
        for chosen in combinations(maybe, count):
            for order in permutations([*known, *chosen]):
                if in_time(order) and all_fit(order):
                    return True
    return False


def in_time(order: tuple[Operation, ...]) -> bool:
    """Return whether no operation is ordered before one that was answered before it was called."""
    return not any(
        later.ended is not None and later.ended < earlier.called
        for place, earlier in enumerate(order)
        for later in order[place + 1 :]
    )


def all_fit(order: tuple[Operation, ...]) -> bool:
    """Return whether a register would have answered so; every write in these histories has an index, or an unknown outcome."""
    value, index = None, 0
    for operation in order:
        if operation.kind == "get":
            if operation.value != value or (operation.index is not None and index >= 0 and operation.index != index):
                return False
            continue
        holds = (not operation.if_absent or value is None) and (operation.if_index is None or operation.if_index == index)
        if operation.effect == "refused":
            if holds:
                return False
        elif not holds:
            if operation.effect == "applied":
                return False
        elif operation.kind == "delete":
            if operation.deleted is not None and operation.deleted != (value is not None):
                return False
            value, index = None, 0
        else:
            value, index = operation.value, -1 if operation.index is None else operation.index
    return True


@pytest.mark.parametrize("seed", range(8))
def test_the_search_agrees_with_trying_everything(seed: int) -> None:
    """Histories of up to six operations with answers drawn at random, good and bad."""
    random = Random(seed)
    verdicts = set()
    for _ in range(250):
        history: list[Operation] = []
        for number in range(random.randint(1, 6)):
            called = random.randint(0, 8)
            ended = called + random.randint(1, 6)
            match random.randrange(6):
                case 0 | 1:
                    history.append(get(random.choice([None, "v0", "v1", "v2"]), called, ended))
                case 2 | 3:
                    history.append(put(f"v{number}", called, ended if random.random() < 0.8 else None))
                case 4:
                    effect = random.choice(["applied", "refused"])
                    history.append(put(f"v{number}", called, ended, if_absent=True, effect=effect))
                case _:
                    history.append(delete(called, ended, deleted=random.choice([True, False, None])))
        expected = by_brute_force(history)
        verdicts.add(expected)
        assert check(history).ok == expected, history
    assert verdicts == {True, False}
