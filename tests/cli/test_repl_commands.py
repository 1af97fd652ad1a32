"""What Tab offers behind what is typed."""

from typing import Any

import pytest

from bargetrio.cli.repl import Repl
from bargetrio.cli.repl_commands import HELP, WORDS, complete
from bargetrio.cli.terminal import offered_keys
from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.requests import ListAnswer, ReadLevel
from tests.client.fakes import FakeBarge

KEYS = ["100", "a b", "a c", "kilo", "list"]


def offered(line: str) -> tuple[str, list[str]]:
    """Return the typed text that would be replaced, and by what."""
    found = complete(line, lambda prefix: [key for key in KEYS if key.startswith(prefix)], lambda: [0, 1, 2, 10])
    return line[len(line) - found.length :], found.words


@pytest.mark.parametrize(
    ("line", "replaced", "words"),
    [
        ("", "", list(WORDS)),
        ("sl", "sl", ["slow-link", "slow-disk"]),
        ("ki", "ki", ["kill", "kilo="]),
        ("  ki", "ki", ["kill", "kilo="]),
        ("100", "100", ["100="]),
        ("li", "li", ["list", "list="]),
        ("100=So", "", []),
        ("get ", "", KEYS),
        ("get a", "a", ["a b", "a c"]),
        ("get a b", "a b", ["a b"]),
        ("delete k", "k", ["kilo"]),
        ("list l", "l", ["list"]),
        ("kill ", "", ["0", "1", "2", "10"]),
        ("kill 1", "1", ["1", "10"]),
        ("kill 1 ", "", []),
        ("cut 1 ", "", ["0", "2", "10"]),
        ("cut 1 2 ", "", []),
        ("slow-disk 0 1", "", []),
        ("partition 0,", "", ["1", "2", "10"]),
        ("partition 0,1 1", "1", ["10"]),
        ("leader ", "", []),
        ("what 1", "", []),
    ],
)
def test_tab_offers_commands_keys_and_ids(line: str, replaced: str, words: list[str]) -> None:
    """A key may hold spaces; a node is offered once."""
    assert offered(line) == (replaced, words)


def test_the_cluster_is_not_asked_for_what_it_does_not_know() -> None:
    """An empty line offers commands; no key is asked for."""

    def never(prefix: str = "") -> list[str]:
        raise AssertionError(prefix)

    assert complete("", never, lambda: []).words == list(WORDS)
    assert complete("kill ", never, lambda: [1]).words == ["1"]


def test_keys_are_offered_without_a_leader_too() -> None:
    """By a stale read; none if no node answers."""

    class Leaderless(FakeBarge):
        asked: list[str]
        dead = False

        def items(self, prefix: str = "", *, read: ReadLevel = "linearizable", **rest: Any) -> ListAnswer:
            self.asked.append(read)
            if self.dead or read != "stale":
                raise BargeError("no_leader", "nobody leads")
            return super().items(prefix, read=read, **rest)

    fake = Leaderless()
    fake.asked = []
    fake.put("a", "1")
    assert offered_keys(fake, "") == ["a"]
    assert fake.asked == ["linearizable", "stale"]
    fake.dead = True
    assert offered_keys(fake, "") == []


def test_every_command_is_parsed_and_in_the_help() -> None:
    """Whatever Tab offers can be said."""
    repl = Repl(FakeBarge(), lambda text: None)
    for name, word in WORDS.items():
        assert f"  {word.usage}  " in HELP
        if not word.arguments and name != "quit":
            repl.do(name)
