"""Watches for a nearly full disk: then a leader refuses writes, so that those in flight still fit."""

from contextlib import suppress
from typing import Final

import trio

from bargetrio.eventlog.host_facts import DiskSpace, Sink
from bargetrio.node.disk_work import DiskWork
from bargetrio.raft.core import Core
from bargetrio.storage.disk import Disk

ROOM_SEGMENTS: Final = 2
"""With less free space than this number of log segments, a leader proposes no writes."""
ROOM_AGAIN_SEGMENTS: Final = 3
ROOM_POLL_S: Final = 1.0


class DiskRoom:
    """Sets `core.lacks_room`. `free_bytes` is the result of the last check, None before the first."""

    def __init__(self, core: Core, disk: Disk, work: DiskWork, sink: Sink, segment_bytes: int) -> None:
        self.free_bytes: int | None = None
        self._core = core
        self._disk = disk
        self._work = work
        self._sink = sink
        self._segment_bytes = segment_bytes

    async def watch(self) -> None:
        """Check every ROOM_POLL_S until cancelled."""
        core = self._core
        while True:
            with suppress(OSError):
                free = self.free_bytes = await self._work.call(self._disk.free_bytes)
                is_low = free < self._segment_bytes * (ROOM_AGAIN_SEGMENTS if core.lacks_room else ROOM_SEGMENTS)
                if is_low != core.lacks_room:
                    core.lacks_room = is_low
                    self._sink.record(core.node_id, DiskSpace(free_bytes=free, is_low=is_low))
            await trio.sleep(ROOM_POLL_S)
