"""The interactive client: a line in, an answer out; piped input runs as a script and stops at the first error."""

from collections.abc import Callable, Iterable
from typing import Final

from bargetrio.client.client import Client
from bargetrio.protocol.errors import BargeError

HELP: Final = """\
  {key}={value}   write a key
  get {key}       read a key
  del {key}       remove a key
  leader          who leads
  status          every node
  kill {id}       crash a node
  revive {id}     start it again
  help            this
  quit            leave"""

EXIT_CODES: Final[dict[str, int]] = {
    "not_found": 3,
    "precondition_failed": 4,
    "no_leader": 5,
    "not_leader": 5,
    "overloaded": 5,
    "storage_failed": 6,
    "outcome_unknown": 6,
}
"""What a command ends with; every other error is 1."""


class Quit(Exception):
    """The user wants to leave."""


class Repl:
    """Understands one line at a time; `write` takes what to show."""

    def __init__(self, client: Client, write: Callable[[str], None]) -> None:
        self._client = client
        self._write = write
        self._commands: dict[str, Callable[[str], None]] = {
            "get": self._get,
            "del": self._delete,
            "kill": self._kill,
            "revive": self._revive,
            "leader": self._leader,
            "status": self._status,
            "help": self._help,
            "quit": self._quit,
            "exit": self._quit,
        }

    def run_script(self, lines: Iterable[str], complain: Callable[[str], None]) -> int:
        """Run every line; stop at the first error and return its exit code, else 0."""
        for number, line in enumerate(lines, 1):
            try:
                self.do(line)
            except Quit:
                return 0
            except BargeError as error:
                complain(f"line {number}: {told(error)}")
                return EXIT_CODES.get(error.code, 1)
        return 0

    def run_prompt(self, read: Callable[[str], str], complain: Callable[[str], None]) -> int:
        """Ask for lines until the user leaves; an error is shown and the next line asked for."""
        self._write("Barge. `help` lists what can be said here.")
        while True:
            try:
                self.do(read("barge> "))
            except (Quit, EOFError):
                return 0
            except BargeError as error:
                complain(told(error))

    def do(self, line: str) -> None:
        """Do what the line says; raise BargeError or Quit."""
        line = line.rstrip("\r\n").lstrip()
        if not line or line.startswith("#"):
            return
        word, _, rest = line.partition(" ")
        command = self._commands.get(word)
        if command is not None:
            command(rest.strip())
        elif "=" in line:
            key, _, value = line.partition("=")
            self._put(key.strip(), value)
        else:
            raise BargeError("bad_request", f"{word!r} is no command; {{key}}={{value}} writes a key, help lists the rest")

    def _put(self, key: str, value: str) -> None:
        answer = self._client.put(key, value)
        self._write(f"{key}={value}  (index {answer.index}, term {answer.term})")

    def _get(self, key: str) -> None:
        answer = self._client.get(key)
        if answer.index == 0:
            raise BargeError("not_found", f"{key} is not there")
        value = answer.value if answer.value is not None else f"base64 {answer.value_b64}"
        self._write(f"{value}  (index {answer.index})")

    def _delete(self, key: str) -> None:
        answer = self._client.delete(key)
        if not answer.deleted:
            raise BargeError("not_found", f"{key} is not there")
        self._write(f"{key} is removed  (index {answer.index}, term {answer.term})")

    def _kill(self, text: str) -> None:
        changed = self._client.kill(_node_id(text))
        self._write(f"node {text} is killed" if changed else f"node {text} does not run")

    def _revive(self, text: str) -> None:
        changed = self._client.revive(_node_id(text))
        self._write(f"node {text} is revived" if changed else f"node {text} runs already")

    def _leader(self, _: str) -> None:
        found = self._client.leader()
        self._write(f"node {found['leader']} leads in term {found['term']}, at {found['address']}")

    def _status(self, _: str) -> None:
        for line in status_lines(self._client):
            self._write(line)

    def _help(self, _: str) -> None:
        self._write(HELP)

    def _quit(self, _: str) -> None:
        raise Quit


def status_lines(client: Client) -> list[str]:
    """Return a table of the nodes."""
    lines = [f"{'node':>4}  {'state':<11}  {'role':<13}  {'term':>6}  {'commit':>9}  {'applied':>9}  address"]
    for node in client.nodes():
        cells = [node.get(name) for name in ("role", "term", "commit_index", "last_applied")]
        role, term, commit, applied = ("-" if cell is None else str(cell) for cell in cells)
        lines.append(f"{node['id']:>4}  {node['state']:<11}  {role:<13}  {term:>6}  {commit:>9}  {applied:>9}  {node['address']}")
    return lines


def told(error: BargeError) -> str:
    """Return the error in a line: its code, its words, and what is certain about the write."""
    certain = "" if error.applied is False else " (it is unknown whether it took effect)"
    return f"{error.code}: {error.detail}{certain}"


def _node_id(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise BargeError("bad_request", f"a node's id is a number, not {text!r}")
    return int(text)
