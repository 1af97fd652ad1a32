"""Planted bugs about durability."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from bargetrio.raft.records import Record
from bargetrio.simulator.breaks.registry import Patches, breaks
from bargetrio.simulator.disk import SimulatedDisk, SimulatedFile
from bargetrio.simulator.server import Server
from bargetrio.simulator.timed_wal import TimedWal
from bargetrio.storage import lines
from bargetrio.storage.recovery import Recovered, segment_name
from bargetrio.storage.wal import OpenFolder


@breaks("a write is synced before it is acknowledged", "BUG-50, BUG-56")
def nothing_is_synced(patches: Patches) -> None:
    patches.set(SimulatedFile, "sync", lambda self: None)


@breaks("a failed sync stops the node", "BUG-51")
def failed_sync_ignored(patches: Patches) -> None:
    old = OpenFolder.write

    def write(self: OpenFolder, records: Sequence[Record]) -> None:
        try:
            old(self, records)
        except OSError:
            if isinstance(self._disk, SimulatedDisk) and self._disk.unplugged_at is not None:
                raise
            self._failed = None
            self._note(records)

    patches.set(OpenFolder, "write", write)


@breaks("a failed sync stops the node, also where it is a step of its own", "BUG-51")
def failed_split_sync_ignored(patches: Patches) -> None:
    def sync(self: TimedWal[Server], descriptor: int, records: Sequence[Record]) -> None:
        with suppress(OSError):
            self._machine.disk.sync_descriptor(descriptor)
        self._folder.note_synced(records)

    patches.set(TimedWal, "_sync", sync)


@breaks("what is written and not synced is not acknowledged, where these are two steps", "BUG-50")
def split_write_acknowledged_before_sync(patches: Patches) -> None:
    def sync(self: TimedWal[Server], descriptor: int, records: Sequence[Record]) -> None:
        machine = self._machine

        def later() -> None:
            if not self._is_over:
                with suppress(OSError):
                    machine.disk.sync_descriptor(descriptor)

        self._folder.note_synced(records)
        machine.world.after(machine.random.uniform(*machine.disk_s), later)

    patches.set(TimedWal, "_sync", sync)


@breaks("recovery writes the last segment anew: what is read need not be on the disk", "BUG-51, BUG-53")
def tail_not_rewritten(patches: Patches) -> None:
    old = OpenFolder._renew_last_segment

    def renew(self: OpenFolder, recovered: Recovered) -> Any:
        if not recovered.last_segment:
            return old(self, recovered)
        name = segment_name(recovered.segments[-1][0])
        file = self._disk.open(name)
        self._file = file
        self._offset = len(recovered.last_segment)
        self._size = len(self._disk.read(name))
        return file

    patches.set(OpenFolder, "_renew_last_segment", renew)


@breaks("a new segment's name is on the disk before its first record", "BUG-52")
def folder_not_synced(patches: Patches) -> None:
    patches.set(SimulatedDisk, "sync_dir", lambda self, folder: None)


@breaks("a record has a checksum", "BUG-56")
def checksum_ignored(patches: Patches) -> None:
    patches.set(lines, "crc32", lambda data: 0)
