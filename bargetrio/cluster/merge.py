"""Several daemons' events as one log: merged by time, with a cursor per daemon.

A cursor has `<run>-<seq>` of each daemon, joined by commas. The order within a daemon is exact; between daemons it depends on
their clocks.
"""

from urllib.parse import urlencode

from msgspec import Struct

from bargetrio.eventlog.recorder import format_id, parse_id
from bargetrio.protocol.events import Event, EventPage, EventQuery


class DaemonPage(Struct, frozen=True, kw_only=True):
    """One daemon's page; `run` identifies its numbering."""

    page: EventPage
    run: str


def path_of(query: EventQuery) -> str:
    """Return the path of the same query for another daemon's own events only."""
    pairs = [("local", "1"), ("limit", str(query.limit)), ("after", query.after)]
    pairs += [("node", str(node)) for node in sorted(query.nodes)] + [("kind", kind) for kind in sorted(query.kinds)]
    pairs += [("heartbeats", "1")] if query.heartbeats else []
    return "/events?" + urlencode(pairs + ([("live", "1")] if query.live else []))


def merge(parts: list[DaemonPage], query: EventQuery, unreachable: list[int]) -> EventPage:
    """Return one page. The cursor of an unreachable daemon is kept, so that none of its events is lost.

    `dropped` and `skipped` count events before the new cursor, so none of a daemon whose cursor is kept. If a live page leaves
    events out, or with `heartbeats` some were dropped, the page is not truncated and may exceed `limit`: their positions are not
    known, and those after the end of a truncated page would be counted twice.
    """
    after, limit = query.after, query.limit
    events = sorted((event for part in parts for event in part.page.events), key=_order)
    cursors = _cursors(after)
    seen = {part.run: part.page.next for part in parts}
    counted = list(parts)
    may_cut = not any(part.page.skipped or (query.heartbeats and part.page.dropped) for part in parts)
    if len(events) > limit and after and may_cut:
        left_out = events[limit:]
        events = events[:limit]
        for run in {parse_id(event.id)[0] for event in left_out}:
            ours = [event.id for event in events if parse_id(event.id)[0] == run]
            seen[run] = ours[-1] if ours else format_id(run, cursors.get(run, 0))
            if not ours:
                counted = [part for part in counted if part.run != run]
    elif len(events) > limit and not after:
        events = events[-limit:]
    kept = {run: format_id(run, seq) for run, seq in cursors.items() if run not in seen} if unreachable else {}
    return EventPage(
        events=events,
        next=",".join(text for _, text in sorted({**kept, **seen}.items())),
        dropped=sum(part.page.dropped for part in counted),
        heartbeats=sum(part.page.heartbeats for part in parts),
        unreachable=sorted(unreachable),
        skipped=sum(part.page.skipped for part in counted),
        beats=[beat for part in parts for beat in part.page.beats],
    )


def _order(event: Event) -> tuple[float, str, int]:
    return event.time, *parse_id(event.id)


def _cursors(after: str) -> dict[str, int]:
    return dict(parse_id(cursor) for cursor in after.split(",")) if after else {}
