"""A node's work for its snapshots, in tasks of its own: save, send, receive, load, delete.

Walking and loading the keys happens in the loop, in slices that take a small share of its time; files are written and read in
threads. The end of each job goes back to the core through the driver's inbox.
"""

import errno
import logging
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from typing import Final

import trio
from msgspec import structs

from bargetrio.kv.scan import Scan
from bargetrio.kv.store import Store
from bargetrio.node.figures import NodeFigures
from bargetrio.node.pace import LOADING_SHARE, SAVING_SHARE, Pace
from bargetrio.node.persister import DiskWork
from bargetrio.node.turns import Turns
from bargetrio.raft.core import Core
from bargetrio.raft.effects import Compact, LoadSnapshot, SendChunk, StoreChunk, TakeSnapshot
from bargetrio.raft.messages import Message, NodeId, SnapshotMeta
from bargetrio.storage.disk import Disk
from bargetrio.storage.errors import DamagedSnapshot, is_out_of_space
from bargetrio.storage.snapshots import (
    FileOf,
    SnapshotReader,
    SnapshotReceiver,
    SnapshotStart,
    SnapshotWriter,
    discard_unfinished,
    read_piece,
    snapshot_name,
)
from bargetrio.storage.wal import OpenFolder

log = logging.getLogger(__name__)

WRITE_BYTES: Final = 256 * 1024
"""Bytes of slices that are collected for one write in a thread."""
LINES_A_LOAD: Final = 4
AGAIN_S: Final = 10.0
"""Seconds until the next snapshot after a full disk ended one."""
RECEIVE_AGAIN_S: Final = 1.0
"""Seconds that a follower with a full disk waits before it asks for the snapshot from the beginning."""
READERS: Final = 2
"""Pieces of backups that are read at once, however many clients fetch one: the node's own snapshots need threads, too."""

Then = Callable[[Core, float], None]
"""A call of the core at the end of a job; the float is the time."""


class Snapshots:
    """The jobs of one life of a node. Methods return at once; a job ends with a call of `tell`, or `fail` if the disk failed."""

    def __init__(
        self,
        *,
        nursery: trio.Nursery,
        disk: Disk,
        folder: OpenFolder,
        work: DiskWork,
        cluster: str,
        post: Callable[[NodeId, Message], None],
        tell: Callable[[Then], None],
        fail: Callable[[OSError], None],
        replace_store: Callable[[Store], Store],
        chunk_bytes: int,
        slice_keys: int,
        turns: Turns,
        figures: NodeFigures,
    ) -> None:
        self._nursery = nursery
        self._disk = disk
        self._folder = folder
        self._work = work
        self._cluster = cluster
        self._post = post
        self._tell = tell
        self._fail = fail
        self._replace_store = replace_store
        self._chunk_bytes = chunk_bytes
        self._slice_keys = slice_keys
        self._turns = turns
        self._figures = figures
        self._receiver = SnapshotReceiver(disk, cluster)
        self._tidying = trio.Lock()
        self._again_at = 0.0
        """No snapshot is taken before this time, since the disk was full."""
        self._reading: set[NodeId] = set()
        """The peers for whom a piece is being read."""
        self._to_read: dict[NodeId, SendChunk] = {}
        """For each peer the newest piece to be read next."""
        self._readers = trio.CapacityLimiter(READERS)
        self._pins: Counter[int] = Counter()
        """How many backups are being read of the snapshot with this last index; it is not deleted meanwhile."""

    def must_wait(self, now: float, *, wants: bool) -> bool:
        """Return whether a snapshot must wait: the disk was full, or another node of this process saves its state or is next."""
        return now < self._again_at or not self._turns.may_save(self, now, wants=wants)

    def take(self, effect: TakeSnapshot, store: Store) -> None:
        """Save `store` as it is now."""
        assert store.last_index == effect.last_index, "the label says what the store holds"
        self._turns.begin_saving(self, trio.current_time())
        self._nursery.start_soon(self._take, effect, store, store.scan(self._slice_keys))

    def compact(self, effect: Compact) -> None:
        """Delete the log segments and snapshots that are not needed any more."""
        self._nursery.start_soon(self._compact, effect)

    def send_chunk(self, effect: SendChunk) -> None:
        """Send a piece of a file; one at a time is read for each peer, so that a disk that hangs does not occupy all threads."""
        self._to_read[effect.to] = effect
        if effect.to not in self._reading:
            self._reading.add(effect.to)
            self._nursery.start_soon(self._send_chunks, effect.to)

    def store_chunk(self, effect: StoreChunk) -> None:
        """Store a piece of a file."""
        self._nursery.start_soon(self._store_chunk, effect)

    def load(self, effect: LoadSnapshot) -> None:
        """Replace the store."""
        self._nursery.start_soon(self._load, effect)

    def backup(self, snapshot: SnapshotMeta) -> "Backup":
        """Return a snapshot of this disk to be read; its file is kept until that is closed."""
        return Backup(snapshot, self._disk, self._work, self._pins, self._readers)

    def fence(self) -> None:
        """Give up this node's turn: it has ended, though its disk may still be busy."""
        self._turns.leave(self, trio.current_time())

    def close(self) -> None:
        """Close open files."""
        self._receiver.close()
        self.fence()

    async def _take(self, effect: TakeSnapshot, store: Store, scan: Scan) -> None:
        start = SnapshotStart(
            cluster=self._cluster,
            members=effect.members,
            last_index=effect.last_index,
            last_term=effect.last_term,
            digest=effect.digest,
            configuration=effect.configuration,
        )
        try:
            began = trio.current_time()
            writer = await self._work.call(lambda: SnapshotWriter(self._disk, start))
            pace = Pace(SAVING_SHARE, store)
            try:
                while lines := await self._next_lines(scan, pace):
                    await self._work.call(lambda lines=lines: _add_all(writer, lines))  # type: ignore[misc]
                snapshot = await self._work.call(writer.finish)
            finally:
                writer.abandon()
        except OSError as problem:
            if is_out_of_space(problem):
                await self._give_up(problem)
            else:
                self._fail(problem)
            return
        finally:
            scan.close()
            self._turns.end_saving(self, trio.current_time())
        self._figures.snapshots_taken += 1
        self._figures.snapshot_seconds += trio.current_time() - began
        self._figures.snapshot_bytes += snapshot.size
        self._tell(lambda core, now: core.snapshot_taken(snapshot, now))

    async def _give_up(self, problem: OSError) -> None:
        """Take the snapshot again later: the log has its blocks reserved, and the node goes on."""
        log.warning("a snapshot is given up, and taken again in %.0f s at the earliest: %s", AGAIN_S, problem.strerror or problem)
        self._again_at = trio.current_time() + AGAIN_S
        with suppress(OSError):
            await self._work.call(lambda: discard_unfinished(self._disk))
        self._tell(lambda core, now: core.snapshot_given_up())

    async def _next_lines(self, scan: Scan, pace: "Pace") -> list[bytes]:
        lines: list[bytes] = []
        size = 0
        while size < WRITE_BYTES:
            with pace:
                line = scan.next_slice()
            await pace.rest()
            if line is None:
                break
            if line:
                lines.append(line)
                size += len(line)
        return lines

    async def _compact(self, effect: Compact) -> None:
        async with self._tidying:
            try:
                keep = effect.keep | frozenset(self._pins)
                await self._work.call(lambda: self._folder.trim(effect.first_index, keep))
            except OSError as problem:
                self._fail(problem)

    async def _send_chunks(self, to: NodeId) -> None:
        try:
            while (effect := self._to_read.pop(to, None)) is not None:
                await self._send_chunk(effect)
        finally:
            self._reading.discard(to)

    async def _send_chunk(self, effect: SendChunk) -> None:
        message = effect.message
        snapshot = message.snapshot
        try:
            data = await self._work.call(lambda: read_piece(self._disk, snapshot, message.offset, self._chunk_bytes))
        except OSError as problem:
            self._fail(problem)
            return
        if data is None or (not data and message.offset < snapshot.size):  # the file is gone, or ends too early
            self._tell(lambda core, now: core.piece_missing(effect.to, snapshot))
            return
        self._figures.snapshot_bytes_sent += len(data)
        self._figures.snapshots_sent += message.offset + len(data) >= snapshot.size
        self._post(effect.to, structs.replace(message, data=data))

    async def _store_chunk(self, effect: StoreChunk) -> None:
        snapshot = effect.snapshot
        try:
            stored = await self._work.call(lambda: self._receiver.store(snapshot, effect.offset, effect.data))
        except OSError as problem:
            if not is_out_of_space(problem):
                self._fail(problem)
                return
            with suppress(OSError):
                await self._work.call(lambda: self._receiver.store(snapshot, 0, b""))  # deletes what came before
            await trio.sleep(RECEIVE_AGAIN_S)
            stored = 0
        self._tell(lambda core, now: core.chunk_stored(snapshot, stored, now))

    async def _load(self, effect: LoadSnapshot) -> None:
        snapshot = effect.snapshot
        path = snapshot_name(snapshot.last_index, snapshot.last_term)
        store = Store()
        pace = Pace(LOADING_SHARE)
        try:
            reader = await self._work.call(lambda: SnapshotReader(FileOf(self._disk, path), path))
            lines = iter(reader)
            while some := await self._work.call(lambda: list(islice(lines, LINES_A_LOAD))):
                for line in some:
                    with pace:
                        store.load(line)
                    await pace.rest()
        except OSError as problem:
            self._fail(problem)
            return
        except (DamagedSnapshot, ValueError) as problem:  # it was whole when it came
            self._fail(OSError(errno.EIO, str(problem)))
            return
        store.last_index = snapshot.last_index
        self._figures.snapshots_installed += 1
        old = self._replace_store(store)
        self._tell(lambda core, now: core.snapshot_loaded(snapshot))
        is_more = True
        while is_more:
            with pace:
                is_more = old.drop(500)
            await pace.rest()


class Backup:
    """A snapshot that is read as a backup; implements `port.BackupFile`."""

    def __init__(
        self, snapshot: SnapshotMeta, disk: Disk, work: DiskWork, pins: "Counter[int]", readers: trio.CapacityLimiter
    ) -> None:
        self.index, self.term = snapshot.last_index, snapshot.last_term
        self.size, self.checksum = snapshot.size, snapshot.checksum
        self._disk = disk
        self._work = work
        self._pins = pins
        self._readers = readers
        self._offset = 0
        pins[self.index] += 1

    async def read(self) -> bytes:
        """Return the next piece, b"" at the end."""
        path = snapshot_name(self.index, self.term)
        async with self._readers:
            data = await self._work.call(lambda: self._disk.read_part(path, self._offset, WRITE_BYTES))
        self._offset += len(data)
        return data

    def close(self) -> None:
        """Release the file."""
        self._pins[self.index] -= 1
        if self._pins[self.index] <= 0:
            del self._pins[self.index]


def _add_all(writer: SnapshotWriter, lines: list[bytes]) -> None:
    for line in lines:
        writer.add(line)
