"""The interactive client: it executes one line at a time; piped input is a script, which stops at the first error."""

from collections.abc import Callable, Iterable
from typing import Final

from bargetrio.cli import fault_edits
from bargetrio.cli.client_calls import ClientCalls
from bargetrio.cli.exit_codes import TERMINATED, dropping_tracebacks, error_text, exit_code, interrupt_code, interrupt_text
from bargetrio.cli.repl_commands import HELP as HELP
from bargetrio.cli.repl_commands import WORDS, parse
from bargetrio.cli.tables import NODES, TableColumn, node_notes, node_rows, shortened, table
from bargetrio.console import OutputLost, printable, printable_lines
from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.limits import INT_DIGITS
from bargetrio.protocol.requests import Item
from bargetrio.protocol.views import Faults

PROMPT: Final = "barge> "
ITEMS: Final = (TableColumn("key", folds=True), TableColumn("index", True), TableColumn("value", folds=True))
_MOST_ITEMS: Final = 100


class Quit(Exception):
    """The user ends the session."""


class Style:
    """The style of answers; plain unless `colours`."""

    def __init__(self, *, colours: bool = False) -> None:
        self.colours = colours

    def answer(self, text: str, note: str = "") -> str:
        """An answer, with a note."""
        return self._in("32", text) + (self._in("2", f"  ({note})") if note else "")

    def error(self, text: str) -> str:
        """An error."""
        return self._in("31", text)

    def _in(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.colours else text


class Repl:
    """Executes one line at a time, and passes its output to `write`. `fancy` draws tables with rich, if it is installed."""

    def __init__(
        self, client: ClientCalls, write: Callable[[str], None], *, paint: Style | None = None, fancy: bool = False
    ) -> None:
        self._client = client
        self._write = write
        self._paint = paint or Style()
        self._fancy = fancy
        self._commands: dict[str, Callable[[str], None]] = {
            "get": self._get,
            "del": self._delete,
            "list": self._list,
            "keys": self._keys,
            "leader": self._leader,
            "status": self._status,
            "kill": self._kill,
            "revive": self._revive,
            "partition": self._partition,
            "cut": self._cut,
            "slow-link": self._slow_link,
            "slow-disk": self._slow_disk,
            "faults": self._faults,
            "heal": self._heal,
            "help": self._help,
            "quit": self._quit,
        }
        assert self._commands.keys() == WORDS.keys()

    def run_script(self, lines: Iterable[str], complain: Callable[[str], None]) -> int:
        """Run every line; stop at the first error, Ctrl-C or SIGTERM, and return its exit code, else 0."""
        for number, line in enumerate(lines, 1):
            try:
                self.do(line)
            except Quit:
                return 0
            except OutputLost:
                complain(f"line {number} was carried out, no later one was")
                raise
            except BargeError as error:
                complain(f"line {number}: {error_text(error)}")
                return exit_code(error)
            except KeyboardInterrupt as problem:
                code = interrupt_code(problem)
                with dropping_tracebacks(problem):
                    complain(f"line {number}: {interrupt_text(problem)}")
                return code
        return 0

    def run_prompt(self, read: Callable[[], str], complain: Callable[[str], None]) -> int:
        """Read and execute lines until the user ends the session; errors are printed.

        Ctrl-C discards the line, or the request; Ctrl-D (EOFError) and SIGTERM end. Pasted text may have several lines.
        """
        self._write("Barge. `help` lists the commands.")
        while True:
            try:
                text = read()
            except KeyboardInterrupt as problem:
                if interrupt_code(problem) == TERMINATED:
                    raise
                continue
            except EOFError:
                return 0
            try:
                for line in text.split("\n"):
                    self.do(line)
            except Quit:
                return 0
            except BargeError as error:
                complain(self._paint.error(printable_lines(error_text(error))))
            except KeyboardInterrupt as problem:
                code = interrupt_code(problem)
                with dropping_tracebacks(problem):
                    complain(self._paint.error(interrupt_text(problem)))
                if code == TERMINATED:
                    return code

    def do(self, line: str) -> None:
        """Execute the line; raise BargeError or Quit."""
        found = parse(line)
        if found is None:
            return
        if found.command:
            self._commands[found.command](found.rest)
        else:
            self._put(found.key, found.value)

    # -- keys ------------------------------------------------------------------------------------------------------------

    def _put(self, key: str, value: str) -> None:
        answer = self._client.put(key, value)
        self._say(f"{printable(key)}={value}", f"index {answer.index}, term {answer.term}")

    def _get(self, key: str) -> None:
        answer = self._client.get(key)
        if answer.index == 0:
            raise BargeError("not_found", f"{printable(key)} is not there")
        value = answer.value if answer.value is not None else f"base64 {answer.value_b64}"
        self._say(value, f"index {answer.index}")

    def _delete(self, key: str) -> None:
        answer = self._client.delete(key)
        if not answer.deleted:
            raise BargeError("not_found", f"{printable(key)} is not there")
        self._say(f"{printable(key)} is removed", f"index {answer.index}, term {answer.term}")

    def _list(self, prefix: str) -> None:
        answer = self._client.items(prefix, limit=_MOST_ITEMS)
        self._write(table(ITEMS, item_rows(answer.items), fancy=self._fancy))
        self._print_more(answer.next)

    def _keys(self, prefix: str) -> None:
        answer = self._client.items(prefix, limit=_MOST_ITEMS, keys_only=True)
        for item in answer.items:
            self._say(printable(item.key))
        self._print_more(answer.next)

    def _print_more(self, after: str | None) -> None:
        if after is not None:
            self._write("... and more; `bargetrio list --all` shows everything")

    # -- nodes -----------------------------------------------------------------------------------------------------------

    def _kill(self, text: str) -> None:
        changed = self._client.kill(node_id_of(text))
        self._say(f"node {text} is killed" if changed else f"node {text} does not run")

    def _revive(self, text: str) -> None:
        changed = self._client.revive(node_id_of(text))
        self._say(f"node {text} is revived" if changed else f"node {text} runs already")

    def _leader(self, _: str) -> None:
        found = self._client.leader()
        self._say(f"node {found.leader} leads in term {found.term}, at {found.address}")

    def _status(self, _: str) -> None:
        nodes = self._client.nodes()
        self._write(table(NODES, node_rows(nodes), fancy=self._fancy))
        for note in node_notes(nodes):
            self._say(note)

    # -- faults ----------------------------------------------------------------------------------------------------------

    def _partition(self, text: str) -> None:
        self._print_faults(fault_edits.partition(self._client, [group_of(part) for part in text.split()]))

    def _cut(self, text: str) -> None:
        first, second = text.split()
        self._print_faults(fault_edits.change_link(self._client, node_id_of(first), node_id_of(second), cut=True))

    def _slow_link(self, text: str) -> None:
        first, second, delay = text.split()
        link = node_id_of(first), node_id_of(second)
        self._print_faults(fault_edits.change_link(self._client, *link, delay_ms=milliseconds_of(delay)))

    def _slow_disk(self, text: str) -> None:
        node, delay = text.split()
        self._print_faults(fault_edits.change_disk(self._client, node_id_of(node), delay_ms=milliseconds_of(delay)))

    def _faults(self, _: str) -> None:
        self._print_faults(self._client.faults())

    def _heal(self, _: str) -> None:
        self._client.set_faults(Faults())
        self._say("all faults are healed")

    # -- helpers ---------------------------------------------------------------------------------------------------------

    def _help(self, _: str) -> None:
        self._write(HELP)

    def _quit(self, _: str) -> None:
        raise Quit

    def _say(self, text: str, note: str = "") -> None:
        self._write(self._paint.answer(printable_lines(text), note))

    def _print_faults(self, found: Faults) -> None:
        for line in fault_edits.fault_lines(found):
            self._say(line)


def item_rows(items: Iterable[Item]) -> list[list[str]]:
    """Return a row for each key; values that are not text are in base64."""
    rows: list[list[str]] = []
    for item in items:
        value = item.value if item.value is not None else f"base64 {item.value_b64}"
        rows.append([item.key, str(item.index), shortened(value)])
    return rows


def node_id_of(text: str) -> int:
    """Return the node's id in the text; raise BargeError."""
    if not (text.isascii() and text.isdigit() and len(text) <= INT_DIGITS):
        raise BargeError("bad_request", f"a node's id is a number, not {text!r}")
    return int(text)


def group_of(text: str) -> list[int]:
    """Return the nodes of a group, written 0,1."""
    return [node_id_of(part) for part in text.split(",")]


def milliseconds_of(text: str) -> float:
    """Return the delay in the text; REST checks its bounds."""
    if not (text.isascii() and text.isdigit() and len(text) <= INT_DIGITS):
        raise BargeError("bad_request", f"a delay is a number of milliseconds, not {text!r}")
    return float(text)
