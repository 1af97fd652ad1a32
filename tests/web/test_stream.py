"""/events as a stream: dropped events are reported once, with or without other events."""

from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import pytest
import trio
from trio.testing import MockClock

from bargetrio.protocol.events import Event, EventPage, EventQuery
from bargetrio.web.stream import frames, live_frames

RUN: Final = "run"


class Pages:
    """A cluster whose log is these pages: of each, how many events it has, and how many fell out before it."""

    node_ids = local_ids = (0,)

    @property
    def local(self) -> "Pages":
        """Its own nodes are all there are."""
        return self

    def __init__(self, pages: list[tuple[int, int]]) -> None:
        self._pages = pages

    async def events(self, query: EventQuery) -> EventPage:
        """Return the page behind the cursor, an empty one at the end."""
        place = int(query.after.rpartition("-")[2])
        told, dropped = self._pages[place] if place < len(self._pages) else (0, 0)
        events = [
            Event(id=f"{RUN}-{number}", time=0.0, node=0, peer=None, kind="fact", term=1, index=None, heartbeat=False, detail={})
            for number in range(told)
        ]
        return EventPage(events=events, next=f"{RUN}-{min(place + 1, len(self._pages))}", dropped=dropped)

    async def wait_for_event(self) -> None:
        """Nothing happens any more."""
        await trio.sleep_forever()


def followed(cluster: Any, after: str) -> AsyncIterator[bytes]:
    return frames(cluster, EventQuery(after=after))


def dropped_in(frame: bytes) -> int:
    """Return how many events the frame reports as lost: in a notice, or in the page of a live one."""
    found = 0
    for line in frame.split(b"\n"):
        if line.startswith(b"data: ") and line[6:].isdigit():
            found += int(line[6:])
        elif b'"dropped":' in line:
            found += int(line.split(b'"dropped":')[1].split(b",")[0].rstrip(b"}"))
    return found


@pytest.mark.parametrize("stream", [followed, live_frames])
@pytest.mark.parametrize("pages", [[(1, 0), (2, 1), (1, 7)], [(0, 3), (1, 0)], [(2, 0), (0, 1), (0, 0), (0, 4)]], ids=str)
async def test_all_dropped_events_are_counted_once(
    stream: Callable[[Any, str], AsyncIterator[bytes]], pages: list[tuple[int, int]], autojump_clock: MockClock
) -> None:
    """Also where the filters leave no event of a page, and where the reader connects again after each frame."""
    for reconnects in (False, True):
        told, cursor = 0, f"{RUN}-0"
        with trio.move_on_after(60):
            while True:
                async for frame in stream(Pages(pages), cursor):
                    told += dropped_in(frame)
                    ids = [line[4:] for line in frame.split(b"\n") if line.startswith(b"id: ")]
                    cursor = ids[-1].decode() if ids else cursor
                    if reconnects and ids:
                        break
        assert told == sum(dropped for _, dropped in pages)
