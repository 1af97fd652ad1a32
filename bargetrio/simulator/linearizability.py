"""Linearizability: is there an order of the operations, each between its call and its answer (Herlihy and Wing 1990)?

The search is Wing and Gong's with Lowe's memory of visited states, a key at a time: an operation touches one key.
An operation with an unknown outcome may have taken effect at any time after its call, or never.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, Literal

from msgspec import Struct

STEPS: Final = 2_000_000
"""Most search steps for one key; a history that needs more is undecided, which counts as a failure."""

Effect = Literal["applied", "refused", "unknown"]
UNKNOWN_INDEX: Final = -1


class Operation(Struct, frozen=True, kw_only=True):
    """A client's request and its outcome; times are seconds on one clock.

    `ended` is None where no answer came. A put or delete with `effect` "refused" did not meet its condition. What certainly never
    took effect (it was refused before it was proposed) does not belong into a history. `value` is what was written, or what a get
    returned (None: no such key); `index` is the key's last change as stated in the answer, 0 for no such key.
    """

    process: int
    kind: Literal["put", "get", "delete"]
    key: str
    called: float
    ended: float | None
    effect: Effect
    value: str | None = None
    index: int | None = None
    if_index: int | None = None
    if_absent: bool = False
    deleted: bool | None = None


class Verdict(Struct, frozen=True, kw_only=True):
    """`ok`, or why not: `reason` names the key and the operations at which every order fails."""

    ok: bool
    reason: str = ""


State = tuple[str | None, int]
"""A key's value and the index of its last change; (None, 0) if it is not there; index -1 if no answer stated it."""


def check(history: Iterable[Operation], steps: int = STEPS) -> Verdict:
    """Check a whole history."""
    by_key: dict[str, list[Operation]] = {}
    for operation in history:
        by_key.setdefault(operation.key, []).append(operation)
    for key in sorted(by_key):
        for verdict in (_check_reads(by_key[key]), _check_key(key, by_key[key], steps)):
            if not verdict.ok:
                return verdict
    return _check_order([operation for key in sorted(by_key) for operation in by_key[key]])


def _check_order(history: Sequence[Operation]) -> Verdict:
    """A write called after another operation was answered has a higher index."""
    answered = sorted((operation for operation in history if operation.ended is not None and operation.index), key=_end)
    writes = [operation for operation in answered if operation.effect == "applied" and operation.kind != "get"]
    highest: Operation | None = None
    place = 0
    for write in sorted(writes, key=lambda operation: operation.called):
        while place < len(answered) and _end(answered[place]) < write.called:
            if highest is None or (answered[place].index or 0) > (highest.index or 0):
                highest = answered[place]
            place += 1
        if highest is not None and (write.index or 0) <= (highest.index or 0):
            return Verdict(ok=False, reason=f"{describe(write)} came after {describe(highest)} and has a lower index")
    return Verdict(ok=True)


def _check_reads(operations: Sequence[Operation]) -> Verdict:
    """A read that finds the key returns no older change than any answered before the read was called."""
    acknowledged = sorted((operation for operation in operations if operation.index and operation.effect == "applied"), key=_end)
    acknowledged = [operation for operation in acknowledged if operation.kind != "delete" or operation.deleted]
    highest: Operation | None = None
    place = 0
    for read in sorted((one for one in operations if one.kind == "get" and one.index), key=lambda one: one.called):
        while place < len(acknowledged) and _end(acknowledged[place]) < read.called:
            if highest is None or (acknowledged[place].index or 0) > (highest.index or 0):
                highest = acknowledged[place]
            place += 1
        if highest is not None and (read.index or 0) < (highest.index or 0):
            return Verdict(ok=False, reason=f"{describe(read)} came after {describe(highest)} and saw something older")
    return Verdict(ok=True)


def _end(operation: Operation) -> float:
    return float("inf") if operation.ended is None else operation.ended


class _Node:
    """A call or an answer in the doubly linked list of operations that are not yet linearized."""

    __slots__ = ("answer", "before", "next", "number", "operation")

    def __init__(self, operation: Operation | None, number: int) -> None:
        self.operation = operation
        self.number = number
        self.answer: _Node | None = None
        self.before: _Node | None = None
        self.next: _Node | None = None


def _check_key(key: str, operations: list[Operation], steps: int) -> Verdict:
    operations = [operation for operation in operations if not (operation.effect == "unknown" and operation.kind == "get")]
    indexes = _indexes_read(operations)
    head = _linked(operations)
    wanted = sum(1 for operation in operations if operation.effect != "unknown")
    state: State = (None, 0)
    ordered, done = 0, 0
    seen: set[tuple[int, State]] = set()
    path: list[tuple[_Node, State]] = []
    furthest, stuck_at = -1, head
    node = head.next
    for _ in range(steps):
        if done == wanted:
            return Verdict(ok=True)
        if node is not None and node.operation is not None:  # a call
            after = _after(state, node.operation, indexes)
            mark = ordered | 1 << node.number
            # An unknown write directly before an unconditional one explains nothing: without this the search is exponential.
            pointless = bool(path) and _is_unknown(path[-1][0]) and _is_blind(node.operation)
            if after is not None and not pointless and (mark, after) not in seen:
                seen.add((mark, after))
                path.append((node, state))
                state, ordered = after, mark
                done += node.operation.effect != "unknown"
                _take_out(node)
                node = head.next
            else:
                node = node.next
            continue
        # an answer whose call could not be linearized before it, or the end: backtrack
        if done > furthest and node is not None:
            furthest, stuck_at = done, node
        if not path:
            text = describe(operations[stuck_at.number]) if stuck_at is not head else "nothing fits"
            return Verdict(ok=False, reason=f"key {key!r}: no order explains {text}")
        node, state = path.pop()
        ordered &= ~(1 << node.number)
        assert node.operation is not None
        done -= node.operation.effect != "unknown"
        _put_back(node)
        node = node.next
    return Verdict(ok=False, reason=f"key {key!r}: undecided after {steps:,} steps")


def _is_unknown(node: _Node) -> bool:
    return node.operation is not None and node.operation.effect == "unknown"


def _is_blind(operation: Operation) -> bool:
    """Return whether the operation is possible in any state, and overwrites it."""
    looks = operation.kind == "get" or operation.if_index is not None or operation.if_absent or operation.deleted is not None
    return not looks


def _after(state: State, operation: Operation, indexes: dict[str, int]) -> State | None:
    """Return the state after `operation`, None if its outcome is impossible in `state`."""
    value, index = state
    if operation.kind == "get":
        same_index = index == UNKNOWN_INDEX or operation.index is None or operation.index == index
        return state if operation.value == value and same_index else None
    holds = _holds(operation, index)
    if operation.effect == "refused":
        return None if holds is True else state
    if holds is False:
        return None  # also for an unknown outcome: without effect it need not be linearized
    if operation.kind == "delete":
        if operation.deleted is not None and operation.deleted != (value is not None):
            return None
        return (None, 0)
    if operation.index is not None:
        return (operation.value, operation.index)
    return (operation.value, indexes.get(operation.value or "", UNKNOWN_INDEX))


def _holds(operation: Operation, index: int) -> bool | None:
    """Return whether the operation's condition holds; None if that depends on an unknown index."""
    if operation.if_absent and index != 0:
        return False
    if operation.if_index is None:
        return True
    if index == UNKNOWN_INDEX:
        return None if operation.if_index > 0 else False
    return operation.if_index == index


def _indexes_read(operations: Sequence[Operation]) -> dict[str, int]:
    """Return the index of each value that was written once and seen by a read: where its write's own answer is missing."""
    times = Counter(operation.value for operation in operations if operation.kind == "put")
    return {
        operation.value: operation.index
        for operation in operations
        if operation.kind == "get" and operation.value is not None and operation.index and times[operation.value] == 1
    }


def _linked(operations: Sequence[Operation]) -> _Node:
    """Return the head of the list of calls and answers by time; at the same time calls come first."""
    moments: list[tuple[float, int, int, _Node]] = []
    for number, operation in enumerate(operations):
        call = _Node(operation, number)
        moments.append((operation.called, 0, number, call))
        if operation.effect != "unknown":
            call.answer = _Node(None, number)
            moments.append((_end(operation), 1, number, call.answer))
    moments.sort(key=lambda moment: moment[:3])
    head = _Node(None, -1)
    last = head
    for *_, node in moments:
        last.next, node.before = node, last
        last = node
    return head


def _take_out(call: _Node) -> None:
    for node in (call, call.answer):
        if node is not None:
            assert node.before is not None
            node.before.next = node.next
            if node.next is not None:
                node.next.before = node.before


def _put_back(call: _Node) -> None:
    for node in (call.answer, call):
        if node is not None:
            assert node.before is not None
            node.before.next = node
            if node.next is not None:
                node.next.before = node


def describe(operation: Operation) -> str:
    """Return the operation as text."""
    asked = f"{operation.kind} {operation.key}"
    if operation.kind == "put":
        asked += f"={operation.value}"
    if operation.if_index is not None:
        asked += f" if_index={operation.if_index}"
    if operation.if_absent:
        asked += " if_absent"
    outcome = operation.effect if operation.kind != "get" else f"returned {operation.value!r}"
    if operation.index:
        outcome += f" at index {operation.index}"
    ended = "never" if operation.ended is None else f"{operation.ended:.6f}"
    return f"client {operation.process}'s {asked} ({outcome}; called {operation.called:.6f}, answered {ended})"
