"""Planted bugs: their definition, patching of functions, and undoing it."""

from collections.abc import Callable
from typing import Any, Final, TypeVar

from msgspec import Struct, structs

from bargetrio.raft.core import Core
from bargetrio.raft.durability import Durability
from bargetrio.raft.effects import Send
from bargetrio.raft.messages import AppendReply, AppendRequest, VoteReply


class Patches:
    """Replaces attributes until `undo`."""

    def __init__(self) -> None:
        self._old: list[tuple[Any, str, Any]] = []

    def set(self, owner: Any, name: str, value: Any) -> Any:
        """Replace `owner.name`; return what was there."""
        old = owner.__dict__[name]
        self._old.append((owner, name, old))
        setattr(owner, name, value)
        return old

    def undo(self) -> None:
        """Restore everything."""
        for owner, name, value in reversed(self._old):
            setattr(owner, name, value)
        self._old.clear()


class Break(Struct, frozen=True):
    """A rule, its source, and the patch that disables it; with `stack` only ring 2 runs the code of the rule.

    `faults`: the kinds of fault among which it is searched for; None for all. With all faults at once, a node hardly
    ever falls behind, and is sent a snapshot, just while it saves or loads one.
    """

    rule: str
    source: str
    apply: Callable[[Patches], None]
    stack: bool = False
    faults: frozenset[str] | None = None


PLANTED: Final[dict[str, Break]] = {}
"""By name, in the order in which the modules were imported."""


def breaks(
    rule: str, source: str, *, stack: bool = False, faults: frozenset[str] | None = None
) -> Callable[[Callable[[Patches], None]], Callable[[Patches], None]]:
    """Register the decorated function, which disables `rule`; `source` cites the rule."""

    def register(apply: Callable[[Patches], None]) -> Callable[[Patches], None]:
        PLANTED[apply.__name__] = Break(rule, source, apply, stack, faults)
        return apply

    return register


Said = TypeVar("Said", VoteReply, AppendRequest, AppendReply)


def misreads(patches: Patches, module: Any, handler: str, misread: Callable[[Core, Said], Said]) -> None:
    """The handler gets `misread(message)` in place of each message."""
    old = module.__dict__[handler]

    def handle(core: Core, message: Said, now: float) -> None:
        old(core, misread(core, message), now)

    patches.set(module, handler, handle)


def as_of_this_term(core: Core, message: Said) -> Said:
    """Return an old term's message as one of the present term."""
    return structs.replace(message, term=max(message.term, core.current_term))


def lets_through(patches: Patches, kind: type) -> None:
    """Messages of this kind no longer wait for the disk."""
    old = Durability.hold

    def hold(self: Durability, send: Send, index: int = 0) -> bool:
        return False if isinstance(send.message, kind) else old(self, send, index)

    patches.set(Durability, "hold", hold)
