"""/events as server-sent events: at most ten frames a second, resumed by Last-Event-ID.

A reader has no buffer here, only a cursor into the recorder's ring: who reads slowly falls behind and is told what it missed, and
who stops reading is cut by the kernel's time-out. The `id:` of a frame is a cursor over all daemons.
"""

from collections.abc import AsyncIterator
from typing import Final

import msgspec
import trio

from bargetrio.cluster.port import Cluster, EventPage

FRAME_S: Final = 0.1
ELSEWHERE_S: Final = 1.0
"""How often other daemons are asked when nothing happens here."""
QUIET_S: Final = 10.0
"""A comment goes out at least so often, so that a reader knows that the line is alive."""
AT_ONCE: Final = 200

_encode: Final = msgspec.json.Encoder().encode


async def frames(
    cluster: Cluster, after: str, nodes: frozenset[int], kinds: frozenset[str], heartbeats: bool
) -> AsyncIterator[bytes]:
    """Yield frames until the reader leaves; begins after the cursor, or with the newest events without one."""
    cursor = after
    quiet_since = trio.current_time()
    while True:
        page = await cluster.events(after=cursor, nodes=nodes, kinds=kinds, heartbeats=heartbeats, limit=AT_ONCE)
        cursor = page.next
        if page.events:
            quiet_since = trio.current_time()
            yield _frame(page)
        elif trio.current_time() - quiet_since > QUIET_S:
            quiet_since = trio.current_time()
            yield b": still here\n\n"
        await trio.sleep(FRAME_S)
        if len(page.events) < AT_ONCE:
            with trio.move_on_after(FRAME_S if heartbeats else ELSEWHERE_S):
                await cluster.wait_for_event()


def _frame(page: EventPage) -> bytes:
    parts: list[bytes] = []
    if page.dropped:
        parts.append(b"event: dropped\ndata: %d\n\n" % page.dropped)
    last = len(page.events) - 1
    for number, event in enumerate(page.events):
        if number == last:
            parts.append(b"id: " + page.next.encode() + b"\n")
        parts.append(b"event: " + event.kind.encode() + b"\ndata: " + _encode(event) + b"\n\n")
    return b"".join(parts)
