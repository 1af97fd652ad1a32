"""The prompt, with leader and term, Tab and history: by prompt-toolkit (extra `repl`), or plain input without it."""

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bargetrio.cli.client_calls import ClientCalls
from bargetrio.cli.repl import PROMPT
from bargetrio.cli.repl_commands import MOST_KEYS, Completions, complete
from bargetrio.console import printable
from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.requests import ReadLevel

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import FileHistory

POLL_S: Final = 1.0
"""Seconds between the prompt's requests for the leader."""
HELPER_S: Final = 1.0
"""The longest wait for what only helps: the leader in the prompt, what Tab offers."""


class LeaderPoller:
    """Polls the leader with a client of its own, so that the prompt can show it without waiting."""

    def __init__(self, client: ClientCalls, changed: Callable[[], None]) -> None:
        self._client = client
        self._changed = changed
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.text = ""

    def look(self) -> str:
        """Request the leader; return the text before the prompt."""
        try:
            found = self._client.leader()
            self.text = printable(f"[node {found.leader}, term {found.term}] ")
        except BargeError:
            self.text = "[no leader] "
        return self.text

    def start(self) -> None:
        """Begin to poll, at once."""
        self.look()
        self._thread.start()

    def stop(self) -> None:
        """Stop polling."""
        self._end.set()

    def _run(self) -> None:
        while not self._end.wait(POLL_S):
            before = self.text
            if self.look() != before:
                self._changed()


def offered_keys(client: ClientCalls, prefix: str) -> list[str]:
    """Return the first keys with that prefix; without a leader by a stale read, and none if no node answers.

    Not by a stale read first: a new key is missing at a follower until the next heartbeat.
    """
    levels: tuple[ReadLevel, ...] = ("linearizable", "stale")
    for read in levels:
        try:
            found = client.items(prefix, limit=MOST_KEYS, keys_only=True, read=read).items
            return [item.key for item in found if item.key.isprintable()]  # others cannot be typed
        except BargeError:
            continue
    return []


class CompletionSource:
    """Completions for Tab, by a client of its own; none if the cluster does not answer."""

    def __init__(self, client: ClientCalls) -> None:
        self._client = client
        self._lock = threading.Lock()

    def complete(self, line: str) -> Completions:
        """Return the completions of the line."""
        with self._lock:
            return complete(line, self.keys, self.ids)

    def keys(self, prefix: str) -> list[str]:
        """Return the first keys with that prefix."""
        return offered_keys(self._client, prefix)

    def ids(self) -> Sequence[int]:
        """Return the nodes' ids."""
        try:
            return [node.id for node in self._client.nodes()]
        except BargeError:
            return []


@contextmanager
def reader(make_client: Callable[[], ClientCalls], *, colours: bool, plain: bool = False) -> Iterator[Callable[[], str]]:
    """Yield a function that reads one line: with Tab, history and a live prompt by prompt-toolkit, or by input() without it.

    `plain` is for an output that is not a terminal.
    """
    try:
        if plain:
            raise _NoToolkit
        with _toolkit_reader(make_client, colours=colours) as read:
            yield read
    except _NoToolkit:
        watch = LeaderPoller(make_client(), lambda: None)
        yield lambda: input(watch.look() + PROMPT)


class _NoToolkit(Exception):
    """prompt-toolkit is not installed, or not wanted."""


@contextmanager
def _toolkit_reader(make_client: Callable[[], ClientCalls], *, colours: bool) -> Iterator[Callable[[], str]]:
    try:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.completion import CompleteEvent, Completer, Completion
        from prompt_toolkit.document import Document
        from prompt_toolkit.history import InMemoryHistory
        from prompt_toolkit.output import ColorDepth
    except ImportError:
        raise _NoToolkit from None

    helper = CompletionSource(make_client())

    class TabCompleter(Completer):
        def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
            length, words = helper.complete(document.text_before_cursor)
            return [Completion(word, start_position=-length) for word in words]

    session: PromptSession[str] = PromptSession(
        completer=TabCompleter(),
        complete_while_typing=False,
        complete_in_thread=True,  # a slow cluster does not block typing
        history=_file_history() or InMemoryHistory(),
        color_depth=None if colours else ColorDepth.DEPTH_1_BIT,
    )
    watch = LeaderPoller(make_client(), lambda: _redraw(session))
    watch.start()
    try:
        yield lambda: session.prompt(lambda: [("ansicyan", watch.text), ("bold", PROMPT)])
    finally:
        watch.stop()


def _redraw(session: "PromptSession[str]") -> None:
    with suppress(Exception):  # the prompt may have ended
        session.app.invalidate()


def history_path() -> Path | None:
    """Return the path of the history: $BARGE_HISTORY (empty: None), or in the user's state folder."""
    named = os.environ.get("BARGE_HISTORY")
    if named is not None:
        return Path(named).expanduser() if named else None
    try:
        folder = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    except RuntimeError:
        return None
    return Path(folder) / "barge" / "history"


def _file_history() -> "FileHistory | None":
    """Return the history, in a file of mode 0600 as it has values; None if it can't be opened."""
    from prompt_toolkit.history import FileHistory

    class BestEffortHistory(FileHistory):
        def store_string(self, string: str) -> None:
            with suppress(OSError):  # a full disk must not end the session
                super().store_string(string)

    path = history_path()
    if path is None:
        return None
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600))
        path.read_bytes()
    except OSError:
        return None
    return BestEffortHistory(str(path))
