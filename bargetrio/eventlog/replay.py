"""The view of recorded event files for the live page: the last events, merged by time."""

from collections import deque
from pathlib import Path
from typing import Final

from bargetrio.eventlog.jsonl import read_events
from bargetrio.eventlog.recorder import parse_id
from bargetrio.eventlog.render import Column, LogView
from bargetrio.protocol.events import Event
from bargetrio.protocol.limits import QUOTED_CHARACTERS

SHOWN: Final = 20_000
HEARTBEATS: Final = 5_000
NAMES_CHARACTERS: Final = 60
"""Most events and heartbeats of a page, the last ones: a browser must hold them, and the state at any of them."""


def view_of(paths: list[Path], until_id: str | None = None, election_ms: int | None = None) -> LogView:
    """Return the last events of these files, merged by time; raise ValueError for a malformed file, or an unknown `until_id`."""
    kept: list[Event] = []
    count = 0
    nodes: set[int] = set()
    end = None if until_id is None else _place_of(until_id, paths)
    for path in paths:
        events: deque[Event] = deque(maxlen=SHOWN)
        beats: deque[Event] = deque(maxlen=HEARTBEATS)
        missing: list[int] = []
        for event in read_events(path, missing.append):
            if end is not None and _order(event) > end:
                continue
            nodes.update(node for node in (event.node, event.peer) if node is not None)
            count += 1 + sum(missing)
            missing.clear()
            (beats if event.heartbeat else events).append(event)
        count += sum(missing) if end is None else 0
        kept += [*events, *beats]
    kept.sort(key=_order)
    shown, beating = [event for event in kept if not event.heartbeat][-SHOWN:], [event for event in kept if event.heartbeat]
    shown = sorted([*shown, *beating[-HEARTBEATS:]], key=_order)
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
