"""The view of recorded event files for the live page: the last events, merged by time."""

from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from bargetrio.eventlog.jsonl import read_events, read_sized_events
from bargetrio.eventlog.recorder import parse_id
from bargetrio.eventlog.render import Column, LogView
from bargetrio.protocol.events import Event
from bargetrio.protocol.limits import QUOTED_CHARACTERS

SHOWN: Final = 20_000
HEARTBEATS: Final = 5_000
NAMES_CHARACTERS: Final = 60
"""Most events and heartbeats of a page, the last ones: a browser must hold them, and the state at any of them."""
SHOWN_BYTES: Final = 32 * 1024 * 1024
"""The same of each in bytes of their lines: one of our files has some hundred bytes a line."""

_Sized = tuple[Event, int]
"""An event with the bytes of its line."""


class _Newest:
    """The events that were added last, `most` of them and SHOWN_BYTES at most."""

    def __init__(self, most: int, events: Iterable[_Sized] = ()) -> None:
        self.events: deque[_Sized] = deque(maxlen=most)
        self._bytes = 0
        for event, size in events:
            self.add(event, size)

    def add(self, event: Event, size: int) -> None:
        """Keep it, and drop the oldest ones beyond the bounds."""
        events = self.events
        if len(events) == events.maxlen:
            self._bytes -= events[0][1]
        events.append((event, size))
        self._bytes += size
        while self._bytes > SHOWN_BYTES:
            self._bytes -= events.popleft()[1]

    def merged(self, other: "_Newest") -> "_Newest":
        """Return the newest by time of both."""
        assert self.events.maxlen is not None
        return _Newest(self.events.maxlen, sorted([*self.events, *other.events], key=lambda sized: _order(sized[0])))


def view_of(paths: list[Path], until_id: str | None = None, election_ms: int | None = None) -> LogView:
    """Return the last events of these files, merged by time; raise ValueError for a malformed file, or an unknown `until_id`."""
    events, beats = _Newest(SHOWN), _Newest(HEARTBEATS)
    count = 0
    nodes: set[int] = set()
    end = None if until_id is None else _place_of(until_id, paths)
    for path in paths:
        events_here, beats_here = _Newest(SHOWN), _Newest(HEARTBEATS)
        missing: list[int] = []
        for event, size in read_sized_events(path, missing.append):
            if end is not None and _order(event) > end:
                continue
            nodes.update(node for node in (event.node, event.peer) if node is not None)
            count += 1 + sum(missing)
            missing.clear()
            (beats_here if event.heartbeat else events_here).add(event, size)
        count += sum(missing) if end is None else 0
        events, beats = events.merged(events_here), beats.merged(beats_here)
    shown = sorted([event for event, _ in (*events.events, *beats.events)], key=_order)
    names = ", ".join(path.name for path in paths)
    return LogView(
        cluster=names if len(names) < NAMES_CHARACTERS else f"{len(paths)} files",
        columns=[Column(node_id=node, state="follower") for node in sorted(nodes)],
        events=shown,
        heartbeats=sum(event.heartbeat for event in shown),
        dropped=count - len(shown),
        limit=len(shown),
        election_ms=None if election_ms is None else (election_ms, election_ms),
    )


def _place_of(event_id: str, paths: list[Path]) -> tuple[float, str, int]:
    for path in paths:
        for event in read_events(path):
            if event.id == event_id:
                return _order(event)
    raise ValueError(f"there is no event {event_id[:QUOTED_CHARACTERS]!r} in these files")


def _order(event: Event) -> tuple[float, str, int]:
    return event.time, *parse_id(event.id)
