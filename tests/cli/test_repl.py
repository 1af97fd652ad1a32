"""The interactive client, a line at a time, against a cluster in a dictionary."""

from collections.abc import Iterator

import pytest

from bargetrio.cli.repl import Quit, Repl, Style
from bargetrio.cli.repl_commands import WORDS
from bargetrio.cli.signals import Terminated
from bargetrio.client import BargeError, Faults, Interrupted
from tests.client.fakes import FakeBarge

UNKNOWN = BargeError("outcome_unknown", "the node closed the connection")


class Session:
    """A prompt at which these lines are typed, or Ctrl-C or Ctrl-D pressed."""

    def __init__(self, fake: FakeBarge, *typed: str | type[BaseException]) -> None:
        self.shown: list[str] = []
        self.complaints: list[str] = []
        self._typed: Iterator[str | type[BaseException]] = iter(typed)
        self.code = Repl(fake, self.shown.append).run_prompt(self._read, self.complaints.append)

    def _read(self) -> str:
        found = next(self._typed, EOFError)
        if isinstance(found, str):
            return found
        raise found


def said(fake: FakeBarge, *lines: str) -> list[str]:
    """Return what is shown for these lines."""
    shown: list[str] = []
    repl = Repl(fake, shown.append)
    for line in lines:
        repl.do(line)
    return shown


def test_keys() -> None:
    """Written, read, listed, removed."""
    fake = FakeBarge()
    assert said(fake, "100=Some Value", "get 100", "list", "keys 1", "del 100") == [
        "100=Some Value  (index 2, term 1)",
        "Some Value  (index 2)",
        "key  index  value\n100      2  Some Value",
        "100",
        "100 is removed  (index 3, term 1)",
    ]
    fake.put("bytes", b"\xff")
    assert said(fake, "get bytes") == ["base64 /w==  (index 4)"]
    for number in range(101):
        fake.put(f"{number:03}", "x")
    assert said(fake, "keys")[-1].startswith("... and more")


def test_nodes_and_faults() -> None:
    """Every command."""
    fake = FakeBarge()
    assert said(fake, "leader", "kill 1", "kill 1", "status", "revive 1", "revive 1") == [
        "node 0 leads in term 1, at 127.0.0.1:8101",
        "node 1 is killed",
        "node 1 does not run",
        "node  state    role  term  commit  applied  address\n"
        "   0  running  -        -       -        -  127.0.0.1:8101\n"
        "   1  killed   -        -       -        -  127.0.0.1:8102\n"
        "   2  running  -        -       -        -  127.0.0.1:8103",
        "node 1 is revived",
        "node 1 runs already",
    ]
    assert said(fake, "faults", "partition 0", "cut 0 1", "slow-disk 2 50", "slow-link 0 1 20", "heal", "faults") == [
        "no faults",
        *("partition: 0 | 1, 2",),
        *("partition: 0 | 1, 2", "link 0 -> 1: cut", "link 1 -> 0: cut"),
        *("partition: 0 | 1, 2", "link 0 -> 1: cut", "link 1 -> 0: cut", "disk of node 2: 50 ms slow"),
        *("partition: 0 | 1, 2", "link 0 -> 1: 20 ms late", "link 1 -> 0: 20 ms late", "disk of node 2: 50 ms slow"),
        "all faults are healed",
        "no faults",
    ]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("fly", "'fly' is no command"),
        ("kill x", "a node's id is a number, not 'x'"),
        ("kill 7", "the nodes are 0, 1, 2"),
        ("cut 1", r"usage: cut \{id\} \{id\}"),
        ("cut 1 1", "two ends"),
        ("slow-disk 1 fast", "a number of milliseconds"),
        ("partition", "usage: partition"),
        ("partition 0,1 1", "one group only"),
        ("partition 0;1", "a node's id is a number"),
        ("get nothing", "nothing is not there"),
        ("=value", "the key is empty"),
    ],
)
def test_what_cannot_be_done_is_an_error(line: str, words: str) -> None:
    """And nothing is done."""
    fake = FakeBarge()
    with pytest.raises(BargeError, match=words) as caught:
        said(fake, line)
    assert caught.value.applied is False
    assert fake.in_force == Faults()


def test_the_name_of_a_command_can_be_a_key() -> None:
    """`get=5` writes the key get; `get a=b` reads the key a=b."""
    fake = FakeBarge()
    assert said(fake, "get=5", "a=b=c", "get get", "get a")[2:] == ["5  (index 2)", "b=c  (index 3)"]
    with pytest.raises(BargeError, match="a=b is not there"):
        said(fake, "get a=b")
    for line in ("quit", "exit"):
        with pytest.raises(Quit):
            said(fake, line)


@pytest.mark.parametrize(
    ("line", "key", "value"),
    [
        ("status = done", "status", "done"),
        ("quit = now", "quit", "now"),
        ("quit\t=now", "quit", "now"),
        ("get = 5", "get", "5"),
        ("heal==", "heal", "="),
        ("exit =", "exit", ""),
        ("a = 1", "a", "1"),
        ("  a=1", "a", "1"),
        ("a b = c = d", "a b", "c = d"),
        ("a=1 \t", "a", "1 \t"),
        ("a=1\r2\r\n", "a", "1\r2"),
        ("a =\u00a01", "a", "\u00a01"),
        ("statusx = 1", "statusx", "1"),
        ("Status=1", "Status", "1"),
    ],
)
def test_a_name_before_an_equals_sign_is_a_key(line: str, key: str, value: str) -> None:
    """Whatever else it is the name of; blanks around the sign belong to neither side."""
    fake = FakeBarge()
    said(fake, line)
    assert [(item.key, item.value) for item in fake.items().items] == [(key, value)]


MISUSED = {
    "get": ["get"],
    "del": ["del", "del \t"],
    "list": [],
    "keys": [],
    "leader": ["leader now"],
    "status": ["status done", "status\t0"],
    "kill": ["kill", "kill 0 1", "kill x", "kill 1.0", "kill -1", "kill \u0661"],
    "revive": ["revive", "revive 0 1", "revive x", "revive 1,2"],
    "partition": ["partition", "partition x", "partition 0, 1", "partition 0,,1"],
    "cut": ["cut", "cut 0", "cut 0 1 2", "cut 0 x"],
    "slow-link": ["slow-link", "slow-link 0 1", "slow-link 0 1 5 5", "slow-link 0 1 x", "slow-link 0 1 -5"],
    "slow-disk": ["slow-disk", "slow-disk 0", "slow-disk 0 1 2", "slow-disk 0 5ms"],
    "faults": ["faults 1"],
    "heal": ["heal 1", "heal all"],
    "help": ["help get"],
    "quit": ["quit now", "exit 1"],
}


def test_words_too_many_too_few_or_of_another_kind_are_errors() -> None:
    """For every command: nothing is done, and a script ends with 1 and the line's number."""
    assert MISUSED.keys() == WORDS.keys()
    for line in [*(line for lines in MISUSED.values() for line in lines), "delete", "nonsense", "nonsense 1", "get\u00a0a"]:
        fake = FakeBarge()
        fake.set_faults(Faults(groups=[[0], [1, 2]]))
        before = (dict(fake.running), fake.faults())
        shown: list[str] = []
        complaints: list[str] = []
        assert Repl(fake, shown.append).run_script(["# comment\n", f"{line}\n", "b=2\n"], complaints.append) == 1, line
        assert (shown, (fake.running, fake.faults()), fake.items().items) == ([], before, []), line
        assert complaints[0].startswith("line 2: bad_request: "), line


def test_at_a_prompt_an_error_is_printed_and_the_next_line_read() -> None:
    """Ctrl-C gives up a line, Ctrl-D leaves with 0."""
    session = Session(FakeBarge(), "get nothing", KeyboardInterrupt, "a=1", EOFError, "never=1")
    assert session.code == 0
    assert session.complaints == ["not_found: nothing is not there"]
    assert session.shown[1:] == ["a=1  (index 2, term 1)"]


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        (UNKNOWN, "the write may have happened: read the key before you repeat it"),
        (BargeError("no_leader", "nobody leads"), "nothing was changed"),
        (Interrupted(applied=None), "interrupted: the write may have happened"),
        (Interrupted(applied=False), "interrupted"),
    ],
)
def test_whether_the_write_may_have_been_applied_is_reported(problem: BaseException, words: str) -> None:
    """After a time-out, a cut connection, Ctrl-C; the session goes on, and the write is not made again."""
    fake = FakeBarge()
    fake.problem = problem
    session = Session(fake, "a=1", "list")
    assert words in session.complaints[0]
    assert ("may have" in session.complaints[0]) == ("may have" in words)
    assert session.shown[1:] == ["key  index  value"]


def test_sigterm_ends_the_session_at_the_prompt_and_at_a_request() -> None:
    """Ctrl-C gives up a line; SIGTERM is for the process. At the prompt cli/main.py says what the session's end is."""
    with pytest.raises(Terminated):
        Session(FakeBarge(), Terminated, "never=1")
    fake = FakeBarge()
    fake.problem = Interrupted(applied=None)
    fake.problem.__context__ = Terminated()
    session = Session(fake, "a=1", "never=1")
    assert session.code == 143
    assert session.complaints == ["terminated: the write may have happened: read the key before you repeat it"]


@pytest.mark.parametrize(
    ("problem", "code", "words"),
    [
        (UNKNOWN, 6, "may have happened"),
        (BargeError("overloaded", "too much"), 5, "nothing was changed"),
        (BargeError("forbidden", "no"), 1, "forbidden"),
        (Interrupted(applied=None), 130, "may have happened"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (Terminated(), 143, "terminated"),
    ],
)
def test_a_script_ends_at_the_first_problem_with_its_code(problem: BaseException, code: int, words: str) -> None:
    """With the number of the line."""
    fake = FakeBarge()
    fake.problem = problem
    complaints: list[str] = []
    assert Repl(fake, lambda text: None).run_script(["# comment", "a=1", "b=2"], complaints.append) == code
    assert complaints[0].startswith("line 2: ")
    assert words in complaints[0]
    assert fake.get("b").index == 0


def test_pasted_lines_are_lines() -> None:
    """Not one value with line ends in it."""
    fake = FakeBarge()
    Session(fake, "a=1\nb=2\nquit\nc=3")
    assert [item.key for item in fake.items().items] == ["a", "b"]


def test_answers_are_coloured_and_safe() -> None:
    """A value cannot command the terminal, whatever it holds."""
    shown: list[str] = []
    fake = FakeBarge()
    repl = Repl(fake, shown.append, paint=Style(colours=True))
    fake.put("a", "x\x1b[2Jy\nz\tq")
    repl.do("get a")
    assert shown == ["\x1b[32mx\\x1b[2Jy\nz\tq\x1b[0m\x1b[2m  (index 2)\x1b[0m"]
