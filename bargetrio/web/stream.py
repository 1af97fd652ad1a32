"""/events as server-sent events: at most ten frames a second, resumed by Last-Event-ID.

A reader has no buffer here, only a cursor into the recorder's ring buffer: a slow reader lags and gets the number of lost events;
one that stops reading is disconnected by the kernel's time-out. The `id:` of a frame is a cursor over all daemons.

A live page (`live=1`) never lags: each of its frames is one EventPage up to now, with frequent events thinned out under load, and
instead of heartbeats the age of the last one that each node received.
"""

from collections.abc import AsyncIterator
from typing import Final

import msgspec
import trio
from msgspec.structs import replace

from bargetrio.cluster.cluster import Cluster
from bargetrio.protocol.events import EventPage, EventQuery

FRAME_S: Final = 0.1
ELSEWHERE_S: Final = 1.0
"""How often other daemons are asked when nothing happens here."""
QUIET_S: Final = 10.0
"""Longest interval without data: then a comment is sent, so that a reader knows that the connection is alive."""
AT_ONCE: Final = 200
BEATS_S: Final = 0.2
"""How often heartbeats are sent to a live page while nothing else happens; where other daemons must be asked, less often."""
BEATS_ELSEWHERE_S: Final = 0.5
LIVE_AT_ONCE: Final = 60
"""More events than anyone can follow in a tenth of a second: above it a live page gets only the newest of the frequent kinds."""
LIVE_QUIET_S: Final = 2.0
"""Longest interval between two frames of a live page; the page takes three times as long without one for a lost connection."""
RETRY: Final = b"retry: 1000\n\n"

_encode: Final = msgspec.json.Encoder().encode


async def frames(cluster: Cluster, query: EventQuery) -> AsyncIterator[bytes]:
    """Yield frames until the reader disconnects; begins after the query's cursor, or with the newest events without one."""
    cursor = query.after
    idle_since = trio.current_time()
    while True:
        page = await cluster.events(replace(query, after=cursor, limit=AT_ONCE))
        cursor = page.next
        if page.events or page.dropped:
            idle_since = trio.current_time()
            yield _frame(page)
        elif trio.current_time() - idle_since > QUIET_S:
            idle_since = trio.current_time()
            yield b": still here\n\n"
        await trio.sleep(FRAME_S)
        if len(page.events) < AT_ONCE:
            with trio.move_on_after(FRAME_S if query.heartbeats else ELSEWHERE_S):
                await cluster.local.wait_for_event()


async def live_frames(cluster: Cluster, after: str) -> AsyncIterator[bytes]:
    """Yield frames for a live page until it disconnects, each an EventPage of the events since the cursor."""
    pause_s = BEATS_S if set(cluster.local_ids) == set(cluster.node_ids) else BEATS_ELSEWHERE_S
    cursor = after
    sent_at = trio.current_time()
    yield RETRY
    while True:
        page = await cluster.events(EventQuery(after=cursor, limit=LIVE_AT_ONCE, live=True))
        cursor = page.next
        heard = any(beat.age_ms <= 1000 * pause_s for beat in page.beats)
        if page.events or page.dropped or heard or trio.current_time() - sent_at > LIVE_QUIET_S:
            sent_at = trio.current_time()
            yield b"id: " + cursor.encode() + b"\nevent: page\ndata: " + _encode(page) + b"\n\n"
        await trio.sleep(FRAME_S)
        if len(page.events) < LIVE_AT_ONCE:
            with trio.move_on_after(pause_s - FRAME_S):
                await cluster.local.wait_for_event()


def _frame(page: EventPage) -> bytes:
    parts: list[bytes] = []
    if page.dropped:
        # Without events this advances the reader's cursor, so that it is not sent the same notice after a reconnection.
        cursor = b"" if page.events else b"id: " + page.next.encode() + b"\n"
        parts.append(cursor + b"event: dropped\ndata: %d\n\n" % page.dropped)
    last = len(page.events) - 1
    for number, event in enumerate(page.events):
        if number == last:
            parts.append(b"id: " + page.next.encode() + b"\n")
        parts.append(b"event: " + event.kind.encode() + b"\ndata: " + _encode(event) + b"\n\n")
    return b"".join(parts)
