"""The syntax of the interactive client's lines, and their completion by Tab. Pure functions."""

import re
from collections.abc import Callable, Sequence
from typing import Final, Literal, NamedTuple

from bargetrio.protocol.errors import BargeError

Argument = Literal["key", "id", "group"]
BLANKS: Final = " \t"
_FIRST: Final = re.compile(f"([^{BLANKS}]*)[{BLANKS}]+(.*)", re.DOTALL)
"""The first word, and what stands behind the blanks after it."""
MOST_KEYS: Final = 50
"""Most keys that Tab offers."""


class CommandSpec(NamedTuple):
    """One command: its syntax, its help, the kinds of its arguments for Tab, and how many it takes.

    `rest`: the rest of the line is one argument, as a key may contain blanks. `most` None: any number.
    """

    usage: str
    does: str
    arguments: tuple[Argument, ...] = ()
    least: int = 0
    most: int | None = 0
    rest: bool = False

    def takes(self, words: int) -> bool:
        """Return whether it takes this number of arguments."""
        return words >= self.least and (self.rest or self.most is None or words <= self.most)


WORDS: Final[dict[str, CommandSpec]] = {
    "get": CommandSpec("get {key}", "read a key", ("key",), least=1, rest=True),
    "del": CommandSpec("del {key}", "remove a key", ("key",), least=1, rest=True),
    "list": CommandSpec("list [prefix]", "the first 100 keys, with values", ("key",), rest=True),
    "keys": CommandSpec("keys [prefix]", "the first 100 keys alone", ("key",), rest=True),
    "leader": CommandSpec("leader", "who leads"),
    "status": CommandSpec("status", "every node"),
    "kill": CommandSpec("kill {id}", "crash a node", ("id",), 1, 1),
    "revive": CommandSpec("revive {id}", "start it again", ("id",), 1, 1),
    "partition": CommandSpec("partition 0,1 2", "groups that cannot reach each other", ("group",) * 4, 1, None),
    "cut": CommandSpec("cut {id} {id}", "cut the link between two nodes", ("id", "id"), 2, 2),
    "slow-link": CommandSpec("slow-link {id} {id} {ms}", "delay what they send each other", ("id", "id"), 3, 3),
    "slow-disk": CommandSpec("slow-disk {id} {ms}", "delay its writes", ("id",), 2, 2),
    "faults": CommandSpec("faults", "the faults in force"),
    "heal": CommandSpec("heal", "no faults any more"),
    "help": CommandSpec("help", "this"),
    "quit": CommandSpec("quit", "leave"),
}
ALIASES: Final[dict[str, str]] = {"delete": "del", "exit": "quit"}

_USAGES: Final = [("{key}={value}", "write a key"), *((word.usage, word.does) for word in WORDS.values())]
HELP: Final = "\n".join(f"  {usage:<24}  {does}" for usage, does in _USAGES)


class Completions(NamedTuple):
    """Replacements for the last `length` characters of the line."""

    length: int
    words: list[str]


NOTHING: Final = Completions(0, [])


class ParsedLine(NamedTuple):
    """A parsed line: a command and its arguments, or, without a command, a key and its value."""

    command: str
    rest: str
    key: str = ""
    value: str = ""


def parse(line: str) -> ParsedLine | None:
    """Parse the line; return None for an empty one or a comment; raise BargeError(bad_request).

    A line with `=` is a put, unless a command is before it: then `=` must be the next character that is not blank (`status = x`
    writes the key `status`, `get a=b` reads the key `a=b`). Blanks (space, tab) around that `=` are dropped; the rest of the line
    is the value, unchanged.
    """
    line = line.removesuffix("\n").removesuffix("\r").lstrip(BLANKS)
    if not line or line.startswith("#"):
        return None
    found = _FIRST.match(line)
    word, rest = (found[1], found[2]) if found else (line, "")
    command = WORDS.get(ALIASES.get(word, word))
    if command is not None and not rest.startswith("="):
        rest = rest.rstrip(BLANKS)
        if not command.takes(len(rest.split())):
            raise BargeError("bad_request", f"usage: {command.usage}")
        return ParsedLine(ALIASES.get(word, word), rest)
    key, equals, value = line.partition("=")
    if not equals:
        raise BargeError("bad_request", f"{word!r} is no command; {{key}}={{value}} writes a key, help lists the rest")
    return ParsedLine("", "", key.rstrip(BLANKS), value.lstrip(BLANKS))


def complete(line: str, keys: Callable[[str], Sequence[str]], ids: Callable[[], Sequence[int]]) -> Completions:
    """Return the completions of `line`; `keys` returns the keys with a prefix, `ids` the nodes' ids."""
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
    if word.arguments[0] == "key":  # a key may contain spaces: the rest of the line is one key
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
