"""The lines that the interactive client understands, and how Tab completes them. All of it pure."""

from collections.abc import Callable, Sequence
from typing import Final, Literal, NamedTuple

Argument = Literal["key", "id", "group"]
MOST_KEYS: Final = 50
"""So many keys are offered at once."""


class Word(NamedTuple):
    """One command: how it is written, what it does, and what Tab completes after it."""

    usage: str
    does: str
    arguments: tuple[Argument, ...] = ()


WORDS: Final[dict[str, Word]] = {
    "get": Word("get {key}", "read a key", ("key",)),
    "del": Word("del {key}", "remove a key", ("key",)),
    "list": Word("list [prefix]", "the first 100 keys, with values", ("key",)),
    "keys": Word("keys [prefix]", "the first 100 keys alone", ("key",)),
    "leader": Word("leader", "who leads"),
    "status": Word("status", "every node"),
    "kill": Word("kill {id}", "crash a node", ("id",)),
    "revive": Word("revive {id}", "start it again", ("id",)),
    "partition": Word("partition 0,1 2", "groups that cannot reach each other", ("group", "group", "group", "group")),
    "cut": Word("cut {id} {id}", "cut the link between two nodes", ("id", "id")),
    "slow-link": Word("slow-link {id} {id} {ms}", "delay what they send each other", ("id", "id")),
    "slow-disk": Word("slow-disk {id} {ms}", "delay its writes", ("id",)),
    "faults": Word("faults", "the faults in force"),
    "heal": Word("heal", "no faults any more"),
    "help": Word("help", "this"),
    "quit": Word("quit", "leave"),
}
ALIASES: Final[dict[str, str]] = {"delete": "del", "exit": "quit"}

_USAGES: Final = [("{key}={value}", "write a key"), *((word.usage, word.does) for word in WORDS.values())]
HELP: Final = "\n".join(f"  {usage:<24}  {does}" for usage, does in _USAGES)


class Completions(NamedTuple):
    """What may stand in place of the last `length` characters of the line."""

    length: int
    words: list[str]


NOTHING: Final = Completions(0, [])


def complete(line: str, keys: Callable[[str], Sequence[str]], ids: Callable[[], Sequence[int]]) -> Completions:
    """Return what Tab offers behind `line`; `keys` tells those with a prefix, `ids` the nodes'."""
    line = line.lstrip()
    first, space, rest = line.partition(" ")
    if not space:
        if "=" in line:
            return NOTHING
        words = [name for name in WORDS if name.startswith(line)]
        written = [f"{key}=" for key in keys(line)] if line else []
        return Completions(len(line), [*words, *written])
    word = WORDS.get(ALIASES.get(first, first))
    if word is None or not word.arguments:
        return NOTHING
    if word.arguments[0] == "key":  # a key may hold spaces: all of the rest is one
        prefix = rest.lstrip()
        return Completions(len(prefix), list(keys(prefix)))
    before, _, last = rest.rpartition(" ")
    given = before.split()
    if len(given) >= len(word.arguments):
        return NOTHING
    if word.arguments[len(given)] == "group":
        taken = [text for group in [*given, last.rpartition(",")[0]] for text in group.split(",")]
        last = last.rpartition(",")[2]
    else:
        taken = given
    offered = [str(node_id) for node_id in ids() if str(node_id).startswith(last) and str(node_id) not in taken]
    return Completions(len(last), offered)
