"""A replica's work for its snapshots: save, send, receive, load, delete, each a job in steps that the host runs.

Walking and loading the keys happens in the loop, in slices; files are written and read where the host lets it block. The end of
each job goes back to the core through the inbox.
"""

import errno
from collections import Counter, deque
from collections.abc import Callable, Generator
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import Final, NamedTuple, assert_never

from msgspec import structs

from bargetrio.kv.scan import SLICE_KEYS, Scan
from bargetrio.kv.store import Store
from bargetrio.raft.core import Core
from bargetrio.raft.effects import Compact, LoadSnapshot, SendChunk, StoreChunk
from bargetrio.raft.messages import Index, NodeId
from bargetrio.raft.snapshot_state import SnapshotLabel
from bargetrio.replica.figures import NodeFigures
from bargetrio.replica.inbox import Inbox
from bargetrio.replica.ports import SLICE, Job, Jobs, Outbox, Sleep, Step, Steps, blocking
from bargetrio.replica.scheduler import ProcessScheduler
from bargetrio.storage.disk import Disk
from bargetrio.storage.errors import DamagedSnapshot, is_out_of_space
from bargetrio.storage.snapshots import (
    FolderFile,
    SnapshotReader,
    SnapshotReceiver,
    SnapshotStart,
    SnapshotWriter,
    discard_unfinished,
    read_piece,
    snapshot_name,
)
from bargetrio.storage.wal import OpenFolder

LINES_A_LOAD: Final = 4
KEYS_A_DROP: Final = 500
DROP_AGAIN_S: Final = 0.1
"""Seconds between checks whether a replaced state is still being saved."""
RECEIVE_AGAIN_S: Final = 1.0
"""Seconds that a follower with a full disk waits before it asks for the snapshot from the beginning."""


class SnapshotPlace(NamedTuple):
    """Where a replica's snapshots are, and in what pieces it works on them."""

    disk: Disk
    folder: OpenFolder
    cluster: str
    chunk_bytes: int
    """Bytes of a file in one message."""
    again_s: float
    """Seconds until the next snapshot after a full disk ended one."""
    slice_keys: int = SLICE_KEYS
    """Keys that are saved in one slice."""
    write_bytes: int = 256 * 1024
    """Bytes of slices that are collected for one blocking write."""


class SnapshotJobs:
    """The jobs of one life of a replica; a job ends with a call of the core, or of `Inbox.disk_failed`.

    `replace_store` puts a loaded state in place and returns the old one.
    """

    def __init__(
        self,
        *,
        place: SnapshotPlace,
        inbox: Inbox,
        outbox: Outbox,
        jobs: Jobs,
        scheduler: ProcessScheduler,
        figures: NodeFigures,
        replace_store: Callable[[Store], Store],
    ) -> None:
        self.pins: Counter[Index] = Counter()
        """How often the snapshot with this last index is being read for a backup: it is not deleted."""
        self._place = place
        self._inbox = inbox
        self._outbox = outbox
        self._jobs = jobs
        self._scheduler = scheduler
        self._figures = figures
        self._replace_store = replace_store
        self._receiver = SnapshotReceiver(place.disk, place.cluster)
        self._again_at = 0.0
        """No snapshot is taken before this time, since the disk was full."""
        self.waits_to_save = False
        self._reading: set[NodeId] = set()
        """The peers for whom a piece is being read."""
        self._to_read: dict[NodeId, tuple[SendChunk, int]] = {}
        """For each peer the newest piece to be read next."""
        self._to_trim: deque[Compact] = deque()
        self._is_trimming = False

    def maybe_save(self, core: Core, store: Store, now: float, *, is_due: bool) -> None:
        """Begin a snapshot that is due, unless it must wait: the disk was full, or another replica of this process saves first.

        `store` is the state at this moment. Call it also where a snapshot that is queued is not due any more.
        """
        self.waits_to_save = is_due
        if not is_due:
            self._scheduler.withdraw_request(self)
            return
        if now < self._again_at:
            self._scheduler.withdraw_request(self)  # a full disk: waiting for it would only delay the others' snapshots
            return
        self._scheduler.request_save(self)
        if not self._scheduler.may_save(self, now):
            return
        label = core.begin_snapshot()
        if label is not None:
            self.save(label, store, now)

    def save(self, label: SnapshotLabel, store: Store, now: float) -> None:
        """Start to save the state under this label; no other replica of this process begins meanwhile."""
        assert store.last_index == label.last_index, "the label says what the store holds"
        self.waits_to_save = False
        self._scheduler.begin_saving(self, now)
        self._jobs.start(Job("save", self._save(label, store.scan(self._place.slice_keys), now), store))

    def perform(self, effect: Compact | SendChunk | StoreChunk | LoadSnapshot) -> None:
        """Start the job that the core asks for."""
        match effect:
            case Compact():
                self._to_trim.append(effect)
                if not self._is_trimming:
                    self._is_trimming = True
                    self._jobs.start(Job("trim", self._trim()))
            case SendChunk():
                self._to_read[effect.to] = effect, self._outbox.connection(effect.to)
                if effect.to not in self._reading:  # one at a time: a disk that hangs does not occupy all threads (OWN-39)
                    self._reading.add(effect.to)
                    self._jobs.start(Job("send", self._send_chunks(effect.to)))
            case StoreChunk():
                self._jobs.start(Job("store", self._store_chunk(effect)))
            case LoadSnapshot():
                self._jobs.start(Job("load", self._load(effect)))
            case _:
                assert_never(effect)

    def fence(self, now: float) -> None:
        """Let the next replica save: this one has ended, though its disk may still be busy."""
        self._scheduler.leave(self, now)

    def close(self) -> None:
        """Close open files; no job runs any more."""
        self._receiver.close()

    # -- the jobs --------------------------------------------------------------------------------------------------------

    def _save(self, label: SnapshotLabel, scan: Scan, began: float) -> Steps:
        start = SnapshotStart(
            cluster=self._place.cluster,
            members=label.members,
            last_index=label.last_index,
            last_term=label.last_term,
            digest=label.digest,
            configuration=label.configuration,
        )
        try:
            writer = yield from blocking(lambda: SnapshotWriter(self._place.disk, start))
            try:
                while lines := (yield from self._next_lines(scan)):
                    yield from blocking(partial(_add_all, writer, lines))
                snapshot = yield from blocking(writer.finish)
            finally:
                writer.abandon()
        except OSError as problem:
            if is_out_of_space(problem):
                yield from self._give_up(problem)
            else:
                self._inbox.call(lambda core, now: self._scheduler.end_saving(self, now))
                self._inbox.disk_failed(problem)
            return
        finally:
            scan.close()

        def taken(core: Core, now: float) -> None:
            self._scheduler.end_saving(self, now)
            self._figures.snapshots_taken += 1
            self._figures.snapshot_seconds += now - began
            self._figures.snapshot_bytes += snapshot.size
            core.snapshot_taken(snapshot, now)

        self._inbox.call(taken)

    def _give_up(self, problem: OSError) -> Steps:
        """Take the snapshot again later: the log has its blocks reserved, and the node goes on."""
        self._jobs.gave_up("a snapshot", self._place.again_s, problem)
        with suppress(OSError):
            yield from blocking(lambda: discard_unfinished(self._place.disk))

        def given_up(core: Core, now: float) -> None:
            self._scheduler.end_saving(self, now)
            self._again_at = now + self._place.again_s
            core.snapshot_given_up()

        self._inbox.call(given_up)

    def _next_lines(self, scan: Scan) -> Generator[Step, None, list[bytes]]:
        lines: list[bytes] = []
        size = 0
        while size < self._place.write_bytes:
            line = scan.next_slice()
            yield SLICE
            if line is None:
                break
            if line:
                lines.append(line)
                size += len(line)
        return lines

    def _trim(self) -> Steps:
        """Delete the log segments and snapshots that are not needed any more; one after another."""
        try:
            while self._to_trim:
                effect = self._to_trim.popleft()
                keep = effect.keep | frozenset(self.pins)
                yield from blocking(partial(self._place.folder.trim, effect.first_index, keep))
        except OSError as problem:
            self._inbox.disk_failed(problem)
        finally:
            self._is_trimming = False

    def _send_chunks(self, to: NodeId) -> Steps:
        try:
            while (wanted := self._to_read.pop(to, None)) is not None:
                yield from self._send_chunk(*wanted)
        except OSError as problem:
            self._inbox.disk_failed(problem)
        finally:
            self._reading.discard(to)

    def _send_chunk(self, effect: SendChunk, connection: int) -> Steps:
        """Read and send a piece, unless there is another connection by then: the core asks anew (OWN-184)."""
        message = effect.message
        snapshot = message.snapshot
        data = yield from blocking(lambda: read_piece(self._place.disk, snapshot, message.offset, self._place.chunk_bytes))
        if data is None or (not data and message.offset < snapshot.size):  # the file is gone, or ends too early
            self._inbox.call(lambda core, now: core.piece_missing(effect.to, snapshot))
            return
        if self._outbox.connection(effect.to) != connection:
            return
        self._figures.snapshot_bytes_sent += len(data)
        self._figures.snapshots_sent += message.offset + len(data) >= snapshot.size
        self._outbox.post(effect.to, structs.replace(message, data=data))

    def _store_chunk(self, effect: StoreChunk) -> Steps:
        snapshot = effect.snapshot
        try:
            stored = yield from blocking(lambda: self._receiver.store(snapshot, effect.offset, effect.data))
        except OSError as problem:
            if not is_out_of_space(problem):
                self._inbox.disk_failed(problem)
                return
            with suppress(OSError):
                yield from blocking(lambda: self._receiver.store(snapshot, 0, b""))  # deletes what came before
            yield Sleep(RECEIVE_AGAIN_S)
            stored = 0
        self._inbox.call(lambda core, now: core.chunk_stored(snapshot, stored, now))

    def _load(self, effect: LoadSnapshot) -> Steps:
        snapshot = effect.snapshot
        path = snapshot_name(snapshot.last_index, snapshot.last_term)
        store = Store()
        try:
            reader = yield from blocking(lambda: SnapshotReader(FolderFile(self._place.disk, path), path))
            lines = iter(reader)
            while some := (yield from blocking(lambda: list(islice(lines, LINES_A_LOAD)))):
                for line in some:
                    store.load(line)
                    yield SLICE
        except OSError as problem:
            self._inbox.disk_failed(problem)
            return
        except (DamagedSnapshot, ValueError) as problem:  # it was whole when it came
            self._inbox.disk_failed(OSError(errno.EIO, str(problem)))
            return
        store.last_index = snapshot.last_index
        self._figures.snapshots_installed += 1
        old = self._replace_store(store)
        self._inbox.call(lambda core, now: core.snapshot_loaded(snapshot))
        self._jobs.start(Job("drop", self._drop(old)))

    def _drop(self, store: Store) -> Steps:
        """Free a replaced state, once no snapshot of it is being saved any more."""
        while store.is_scanned:
            yield Sleep(DROP_AGAIN_S)
        while store.drop(KEYS_A_DROP):
            yield SLICE


def _add_all(writer: SnapshotWriter, lines: list[bytes]) -> None:
    for line in lines:
        writer.add(line)
