"""The event log as lines, and its stream, resumed after restarts and at other daemons."""

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

import msgspec
from msgspec import Struct

from bargetrio.console import printable
from bargetrio.eventlog.sentences import sentence
from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.events import Event, EventPage

if TYPE_CHECKING:
    from bargetrio.client.client import Client

SILENCE_S: Final = 25.0
"""A stream sends at least a comment every ten seconds; without data for this long it is reopened."""
AGAIN_S: Final = 0.5


class EventFilter(Struct, frozen=True, kw_only=True):
    """The filter of a request for events."""

    node_ids: tuple[int, ...] = ()
    kinds: tuple[str, ...] = ()
    heartbeats: bool = False

    def newest(self, barge: "Client", limit: int) -> EventPage:
        """Return the newest events; raise BargeError."""
        return barge.admin.ask("GET", f"/events?{self._query(limit=str(limit))}", EventPage)

    def follow(self, barge: "Client", after: str, complain: Callable[[str], None]) -> Iterator[Event]:
        """Yield the events after the cursor, until Ctrl-C; a stream that ends is resumed at its cursor.

        Raises BargeError for errors that are not temporary.
        """
        cursor = after
        is_lost = False
        while True:
            try:
                headers = {"Accept": "text/event-stream", **({"Last-Event-ID": cursor} if cursor else {})}
                with barge.admin.stream(f"/events?{self._query()}", headers=headers, timeout_s=SILENCE_S) as lines:
                    if is_lost:
                        complain("the connection is back")
                    is_lost = False
                    for found in _frames(lines):
                        if isinstance(found, Event):
                            yield found
                        elif found.startswith("id "):
                            cursor = found.removeprefix("id ")
                        else:
                            complain(found)
            except BargeError as error:
                if error.code not in ("no_leader", "overloaded"):
                    raise
            if not is_lost:
                complain("the connection is lost; trying again")
            is_lost = True
            time.sleep(AGAIN_S)

    def _query(self, **more: str) -> str:
        pairs = [("node", str(node_id)) for node_id in self.node_ids] + [("kind", kind) for kind in self.kinds]
        return urlencode(pairs + ([("heartbeats", "1")] if self.heartbeats else []) + list(more.items()))


def line_of(event: Event) -> str:
    """Return the event as one line: time, node, sentence. Line ends in keys and values are escaped."""
    clock = time.strftime("%H:%M:%S", time.localtime(event.time)) + f".{int(event.time % 1 * 1000):03}"
    who = "cluster" if event.node is None else f"node {event.node}"
    return f"{clock}  {who:<8}{printable(sentence(event))}"


def _frames(lines: Iterator[bytes]) -> Iterator[Event | str]:
    """Yield events; as texts, "id " and the cursor after each batch, and notices of dropped events."""
    kind = data = cursor = ""
    for line in lines:
        name, _, value = line.decode(errors="replace").rstrip("\r\n").partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            kind = value
        elif name == "data":
            data = value
        elif name == "id":
            cursor = value
        elif line.strip() == b"":
            if kind == "dropped":
                yield f"{data} events came too fast and are missing here"
            elif data:
                yield msgspec.json.decode(data, type=Event)
            if cursor:
                yield f"id {cursor}"
            kind = data = cursor = ""
