"""The answers to ring 2's writes, compared with all entries of the log.

A try is a request that a client sent once. Its command is the same bytes as in the log; a put's is like no other, a
delete's may be another one's, so commands are counted.

| answer | the log |
|---|---|
| applied, at an index | holds the command there, and it had the effect that was answered |
| applied, no index (a delete of nothing) or refused by a condition | holds the command, with that outcome |
| certainly not done | holds no entry for it |
| unknown | may hold one entry for it, never two |
"""

from collections.abc import Sequence
from typing import Final, Literal

from msgspec import Raw, Struct

from bargetrio.kv.commands import encode_command
from bargetrio.kv.store import ConditionFailed, Outcome, Removed, Written
from bargetrio.protocol.requests import Write
from bargetrio.simulator.memory import Breach

RULE: Final = "answers match the log"
Effect = Literal["applied", "refused", "not done", "unknown"]


class Try(Struct, frozen=True, kw_only=True):
    """A request that was sent once, and its answer; `way`, for people."""

    command: bytes
    effect: Effect
    way: str
    index: int | None = None
    created: bool | None = None
    deleted: bool | None = None


class Ledger:
    """Collects tries; `judge` compares them with all committed entries."""

    def __init__(self) -> None:
        self.tries: list[Try] = []

    def note(
        self,
        request: Write,
        effect: Effect,
        way: str,
        *,
        index: int | None = None,
        created: bool | None = None,
        deleted: bool | None = None,
    ) -> None:
        """Record the answer to a write."""
        command = bytes(encode_command(request))
        self.tries.append(Try(command=command, effect=effect, way=way, index=index, created=created, deleted=deleted))

    def judge(self, commands: Sequence[Raw], outcomes: Sequence[Outcome]) -> None:
        """Raise Breach for a wrong answer; by index, `commands` and `outcomes` are those of all committed entries."""
        places: dict[bytes, list[int]] = {}
        for index, raw in enumerate(commands):
            places.setdefault(bytes(raw), []).append(index)
        by_command: dict[bytes, list[Try]] = {}
        for one in self.tries:
            by_command.setdefault(one.command, []).append(one)
            if one.index is not None:
                _check_place(one, commands, outcomes)
        for command, tries in by_command.items():
            _check_count(command, tries, [outcomes[index] for index in places.get(command, [])])


def _check_place(one: Try, commands: Sequence[Raw], outcomes: Sequence[Outcome]) -> None:
    index = one.index
    assert index is not None
    what = f"{one.way}: {one.command!r:.80} is answered as entry {index}"
    if not 0 < index < len(commands) or bytes(commands[index]) != one.command:
        held = bytes(commands[index]) if 0 <= index < len(commands) else b""
        raise Breach(RULE, f"{what}, which is {held!r:.80}")
    match outcomes[index]:
        case Written(created=created):
            is_so = one.created in (None, created)
        case Removed(deleted=deleted):
            is_so = one.deleted in (None, deleted)
        case _:
            is_so = False
    if not is_so:
        raise Breach(RULE, f"{what} and came to {one}, and it came to {outcomes[index]}")


def _check_count(command: bytes, tries: list[Try], came_to: list[Outcome]) -> None:
    """Each try is in the log at most once; acknowledged ones are, and ones reported as not applied are not."""
    unknown = sum(one.effect == "unknown" for one in tries)
    indices = [one.index for one in tries if one.index is not None]
    if len(set(indices)) < len(indices):
        raise Breach(RULE, f"two writes {command!r:.80} are answered as the same entry: {sorted(indices)}")
    for effect, found in (
        ("applied", sum(isinstance(outcome, (Written, Removed)) for outcome in came_to)),
        ("refused", sum(isinstance(outcome, ConditionFailed) for outcome in came_to)),
    ):
        answered = sum(one.effect == effect for one in tries)
        if not answered <= found <= answered + unknown:
            ways = ", ".join(f"{one.way} {one.effect}" for one in tries)
            text = (
                f"{command!r:.80} is {found} times in the log and {effect}, answered {answered} times, unknown {unknown} ({ways})"
            )
            raise Breach(RULE, text)
    answered = sum(one.effect in ("applied", "refused") for one in tries)
    if len(came_to) > answered + unknown:
        raise Breach(RULE, f"{command!r:.80} is {len(came_to)} times in the log, and may be {answered + unknown} times")
