"""A simulated server's snapshots: saved slice by slice while it goes on, sent, stored and loaded after a moment each.

What replica/jobs.py does in steps that its host runs, step by step on the world's clock; a crash may come between any two.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING, Final, assert_never

from msgspec import structs

from bargetrio.kv.scan import Scan
from bargetrio.kv.store import Store
from bargetrio.raft.effects import Compact, LoadSnapshot, SendChunk, StoreChunk, TakeSnapshot
from bargetrio.raft.messages import SnapshotMeta
from bargetrio.raft.roles import Leader
from bargetrio.simulator.memory import Broken
from bargetrio.simulator.world import World
from bargetrio.storage.errors import is_out_of_space
from bargetrio.storage.snapshots import (
    FolderFile,
    SnapshotReader,
    SnapshotReceiver,
    SnapshotStart,
    SnapshotWriter,
    read_piece,
    snapshot_name,
)
from bargetrio.storage.wal import OpenFolder

if TYPE_CHECKING:
    from bargetrio.simulator.server import Server

CLUSTER: Final = "simulated"
SLICE_KEYS: Final = 2
"""So many and up to two more, by node: two nodes' files of the same state are not the same bytes."""
STEP_S: Final = (0.0002, 0.02)
"""How long reading a piece to send, or loading a slice, takes."""
SAVE_AGAIN_S: Final = 1.0
"""So long after a full disk stopped a snapshot the next one may begin."""
TRIM_S: Final = (0.0002, 0.5)
"""How long deleting files takes."""


class Snapshots:
    """One life's."""

    def __init__(self, server: "Server", world: World, folder: OpenFolder, random: Random) -> None:
        self._server = server
        self._world = world
        self._folder = folder
        self._random = random
        self._life = server.lives
        self._receiver = SnapshotReceiver(server.disk, CLUSTER)
        self._stored: tuple[SnapshotMeta, bytes] | None = None
        """What was stored of which snapshot: the file must be just that."""
        self._under_way: list[Callable[[], None]] = []
        """Steps that will change files."""
        self.is_saving = self.is_storing = self.is_loading = False
        self._saving: Callable[[], None] | None = None
        """The step of saving that is under way."""

    def break_off(self) -> None:
        """The process ends here, perhaps in the middle of a step, between two calls of the disk."""
        if self._under_way and self._random.random() < 0.7:
            disk = self._server.disk
            disk.unplugged_at = disk.calls + self._random.randint(1, 5)
            with suppress(OSError):
                self._random.choice(self._under_way)()

    def begin(self, effect: TakeSnapshot | Compact | SendChunk | StoreChunk | LoadSnapshot) -> None:
        """Begin what the core asks for."""
        match effect:
            case TakeSnapshot():
                self._take(effect)
            case Compact():
                self._later(lambda: self._folder.trim(effect.first_index, effect.keep), TRIM_S, changes=True)
            case SendChunk():
                self._later(lambda: self._send_chunk(effect))
            case StoreChunk():
                self.is_storing = True
                self._later(lambda: self._store_chunk(effect), self._server.piece_s, changes=True)
            case LoadSnapshot():
                self.is_loading = True
                self._later(lambda: self._load(effect))
            case _:
                assert_never(effect)

    def _later(self, step: Callable[[], None], takes_s: tuple[float, float] = STEP_S, *, changes: bool = False) -> None:
        if changes:
            self._under_way.append(step)
        self._world.after(self._random.uniform(*takes_s), self._do, step)

    def _do(self, step: Callable[[], None]) -> None:
        server = self._server
        if server.lives != self._life or server.core is None:
            return
        if self._world.now < server.paused_until:
            self._world.at(server.paused_until + self._random.random() * 0.003, self._do, step)
            return
        if step in self._under_way:
            self._under_way.remove(step)
        try:
            step()
        except OSError as problem:
            if step is self._saving and is_out_of_space(problem):
                self._give_up()
            else:
                server.disk_failed(problem)

    def _give_up(self) -> None:
        """Take the snapshot again later, as replica/jobs.py does."""
        server, core = self._server, self._server.core
        self.is_saving = False
        self._saving = None
        if core is not None:
            core.snapshots.must_not_take = True
            self._world.after(SAVE_AGAIN_S, setattr, core.snapshots, "must_not_take", False)
        server.snapshot_given_up()
        server.step_done(lambda core, now: core.snapshot_given_up())

    def _save_later(self, step: Callable[[], None]) -> None:
        self._saving = step
        self._later(step, self._server.save_s, changes=True)

    def _take(self, effect: TakeSnapshot) -> None:
        store = self._server.store
        assert store.last_index == effect.last_index, "the label says what the store holds"
        start = SnapshotStart(
            cluster=CLUSTER,
            members=effect.members,
            last_index=effect.last_index,
            last_term=effect.last_term,
            digest=effect.digest,
            configuration=effect.configuration,
        )
        scan = store.scan(SLICE_KEYS + self._server.node_id % 3)
        self.is_saving = True
        self._save_later(lambda: self._save(SnapshotWriter(self._server.disk, start), scan))

    def _save(self, writer: SnapshotWriter, scan: Scan) -> None:
        line = scan.next_slice()
        while line == b"":  # here nobody waits
            line = scan.next_slice()
        if line is not None:
            writer.add(line)
            self._save_later(lambda: self._save(writer, scan))
            return
        snapshot = writer.finish()
        self.is_saving = False
        self._server.snapshot_lasts(snapshot)
        self._server.step_done(lambda core, now: core.snapshot_taken(snapshot, now))

    def _send_chunk(self, effect: SendChunk) -> None:
        snapshot = effect.message.snapshot
        offset, readable = effect.message.offset, self._server.readable.get(snapshot, snapshot.size)
        data = read_piece(self._server.disk, snapshot, offset, max(0, min(self._server.chunk_bytes, readable - offset)))
        if data or (data is not None and offset >= snapshot.size):
            self._server.post(effect.to, structs.replace(effect.message, data=data))
            return
        self._server.piece_missing(effect.to, snapshot)
        if data is not None:
            return
        core = self._server.core
        if core is not None and isinstance(core.role, Leader):
            transfer = core.role.progress[effect.to].transfer
            is_sent = transfer is not None and transfer.snapshot == snapshot
            assert not is_sent, f"snapshot {snapshot.last_index} was deleted while it is sent"

    def _store_chunk(self, effect: StoreChunk) -> None:
        snapshot = effect.snapshot
        stored = self._receiver.store(snapshot, effect.offset, effect.data)
        self.is_storing = False
        self._check_stored(effect)
        self._server.step_done(lambda core, now: core.chunk_stored(snapshot, stored, now))

    def _check_stored(self, effect: StoreChunk) -> None:
        """Pieces of two snapshots never share a file, also where both have the same last index."""
        if not effect.offset or self._stored is None:
            self._stored = effect.snapshot, b""
        snapshot, data = self._stored
        self._stored = snapshot, data + effect.data
        if snapshot != effect.snapshot or len(data) != effect.offset:
            piece = f"a piece of {effect.snapshot} from {effect.offset}"
            text = f"node {self._server.node_id} stores {piece} behind {len(data)} bytes of {snapshot}"
            raise Broken("a file has one snapshot's pieces", text)

    def _load(self, effect: LoadSnapshot) -> None:
        snapshot = effect.snapshot
        path = snapshot_name(snapshot.last_index, snapshot.last_term)
        self._load_line(effect, iter(SnapshotReader(FolderFile(self._server.disk, path), path)), Store())

    def _load_line(self, effect: LoadSnapshot, lines: Iterator[bytes], store: Store) -> None:
        line = next(lines, None)
        if line is not None:
            store.load(line)
            self._later(lambda: self._load_line(effect, lines, store), self._server.piece_s)
            return
        store.last_index = effect.snapshot.last_index
        self.is_loading = False
        self._server.replace_store(store)
        self._server.step_done(lambda core, now: core.snapshot_loaded(effect.snapshot))
