"""Pieces of snapshots that a node reads to send: one at a time for each peer, and what can't be read is said."""

import errno
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest
import trio
import trio.testing

from bargetrio.kv.commands import encode_command
from bargetrio.kv.lookup import look_up
from bargetrio.kv.store import Store
from bargetrio.node.backup import READERS, Backup
from bargetrio.node.jobs import NurseryJobs
from bargetrio.protocol.requests import Item, List, ListAnswer, Put
from bargetrio.raft.effects import Compact, LoadSnapshot, SendChunk
from bargetrio.raft.messages import Message, NodeId, SnapshotMeta, SnapshotRequest
from bargetrio.raft.snapshot_state import SnapshotLabel
from bargetrio.replica.figures import NodeFigures
from bargetrio.replica.inbox import Inbox, Then
from bargetrio.replica.jobs import SnapshotJobs, SnapshotPlace
from bargetrio.replica.ports import Blocking, Job
from bargetrio.replica.scheduler import ProcessScheduler
from bargetrio.storage.real_disk import RealDisk
from bargetrio.storage.snapshots import FolderFile, SnapshotStart, SnapshotWriter, read_snapshot, snapshot_name
from tests.raft.cores import snapshot
from tests.replica.hosts import Begun, Posted

T = TypeVar("T")
OF = snapshot("1 1 1", size=100)


class HangingDisk:
    """Work on it begins, and ends when `works` is set."""

    def __init__(self) -> None:
        self.begun = 0
        self.works = trio.Event()

    async def call(self, work: Callable[[], T]) -> T:
        self.begun += 1
        await self.works.wait()
        return work()


class AtOnce(Inbox):
    """The core is called at once; it is asked for few things only."""

    def __init__(self, core: Any) -> None:
        super().__init__(lambda: None)
        self._core = core

    def call(self, then: Then) -> None:
        then(self._core, 0.0)


class Sender:
    """A node's snapshots, over a folder with a file that holds so many bytes of the snapshot."""

    def __init__(self, nursery: trio.Nursery, folder: Path, size: int | None) -> None:
        disk = RealDisk(folder)
        if size is not None:
            disk.make_dir("snapshots")
            (folder / snapshot_name(OF.last_index, OF.last_term)).write_bytes(b"x" * size)
        self.disk = HangingDisk()
        self.sent: list[tuple[NodeId, int, int]] = []
        self.reported: list[tuple[NodeId, SnapshotMeta]] = []
        self.taken: list[SnapshotMeta] = []
        self.loaded: list[SnapshotMeta] = []
        self.stores: list[Store] = []
        self.given_up = False
        self.kept: list[set[int]] = []
        self.inbox = AtOnce(self)
        work: Any = self.disk  # as much of one as is needed here
        self.work = work
        trim: Any = SimpleNamespace(trim=lambda first_index, keep: self.kept.append(set(keep)))
        self.place = SnapshotPlace(disk=disk, folder=trim, cluster="c", chunk_bytes=60, again_s=10, slice_keys=1)
        self.outbox = Posted(self._post)
        self.snapshots = SnapshotJobs(
            place=self.place,
            inbox=self.inbox,
            outbox=self.outbox,
            jobs=NurseryJobs(nursery, work),
            scheduler=ProcessScheduler(),
            figures=NodeFigures(),
            replace_store=self._replace_store,
        )

    def ask(self, to: NodeId, offset: int) -> None:
        request = SnapshotRequest(term=1, leader_id=0, snapshot=OF, offset=offset, data=b"")
        self.perform(SendChunk(to, request))

    def perform(self, effect: Compact | SendChunk | LoadSnapshot) -> None:
        self.snapshots.perform(effect)

    def save(self, index: int, store: Store) -> None:
        self.snapshots.save(SnapshotLabel(index, 1, 0, (0, 1, 2), None), store, trio.current_time())

    def another_may_save(self) -> bool:
        return self.snapshots._scheduler.may_save("another node", trio.current_time())

    def _post(self, to: NodeId, message: Message) -> None:
        assert isinstance(message, SnapshotRequest)
        self.sent.append((to, message.offset, len(message.data)))

    def _replace_store(self, store: Store) -> Store:
        self.stores.append(store)
        return Store()

    def piece_missing(self, peer: NodeId, of: SnapshotMeta) -> None:
        self.reported.append((peer, of))

    def snapshot_given_up(self) -> None:
        self.given_up = True

    def snapshot_taken(self, snapshot: SnapshotMeta, now: float) -> None:
        self.taken.append(snapshot)

    def snapshot_loaded(self, snapshot: SnapshotMeta) -> None:
        self.loaded.append(snapshot)


async def test_a_disk_that_hangs_is_asked_once_for_each_peer(tmp_path: Path) -> None:
    """And then for what is wanted by now: forty questions would take all threads of the process (OWN-39)."""
    async with trio.open_nursery() as nursery:
        sender = Sender(nursery, tmp_path, 100)
        for number in range(20):
            sender.ask(1, 0)
            sender.ask(2, number)
            await trio.testing.wait_all_tasks_blocked()
        assert sender.disk.begun == 2
        sender.disk.works.set()
    assert sorted(sender.sent) == [(1, 0, 60), (1, 0, 60), (2, 0, 60), (2, 19, 60)]


async def test_a_piece_that_was_wanted_for_an_earlier_connection_is_not_sent(tmp_path: Path) -> None:
    """The follower may have been restarted and have lost entries, which a snapshot that is installed would hide (OWN-184)."""
    async with trio.open_nursery() as nursery:
        sender = Sender(nursery, tmp_path, 100)
        sender.ask(1, 0)
        sender.ask(1, 60)
        await trio.testing.wait_all_tasks_blocked()
        sender.outbox.connections += 1
        sender.ask(2, 0)
        sender.disk.works.set()
    assert sender.sent == [(2, 0, 60)]


async def test_a_truncated_file_is_reported(tmp_path: Path) -> None:
    """What is there is sent; behind it is nothing, and that is no empty piece."""
    async with trio.open_nursery() as nursery:
        sender = Sender(nursery, tmp_path, 70)
        sender.disk.works.set()
        for offset in (0, 60, 70):
            sender.ask(1, offset)
            await trio.testing.wait_all_tasks_blocked()
    assert (sender.sent, sender.reported) == ([(1, 0, 60), (1, 60, 10)], [(1, OF)])


async def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    """Somebody deleted it."""
    async with trio.open_nursery() as nursery:
        sender = Sender(nursery, tmp_path, None)
        sender.disk.works.set()
        sender.ask(1, 0)
    assert (sender.sent, sender.reported) == ([], [(1, OF)])


async def test_a_node_that_ended_while_it_saved_blocks_no_other_from_saving(tmp_path: Path) -> None:
    """Its thread may hang in its disk for minutes: the other nodes of the process do not wait for it."""
    async with trio.open_nursery() as nursery:
        dead, alive = Sender(nursery, tmp_path / "dead", None).snapshots, object()
        scheduler, now = dead._scheduler, trio.current_time()
        scheduler.begin_saving(dead, now)
        scheduler.request_save(alive)
        assert not scheduler.may_save(alive, now)
        dead.fence(now)
        assert scheduler.may_save(alive, now)


async def test_what_is_sent_is_counted_once(tmp_path: Path) -> None:
    """A snapshot with its last piece, its bytes as they leave."""
    async with trio.open_nursery() as nursery:
        sender = Sender(nursery, tmp_path, OF.size)
        sender.disk.works.set()
        counted = []
        for offset in (0, 60):
            sender.ask(1, offset)
            await trio.testing.wait_all_tasks_blocked()
            counted.append((sender.snapshots._figures.snapshots_sent, sender.snapshots._figures.snapshot_bytes_sent))
    assert sender.sent == [(1, 0, 60), (1, 60, 40)]
    assert counted == [(0, 60), (1, 100)]


async def test_a_snapshot_that_is_read_for_backups_stays_until_the_last_is_closed(tmp_path: Path) -> None:
    """A newer one has taken its place meanwhile, and the node needs it no more."""
    async with trio.open_nursery() as nursery:
        sender = Sender(nursery, tmp_path, OF.size)
        sender.disk.works.set()
        readers = trio.CapacityLimiter(READERS)
        backups = [Backup(OF, sender.place.disk, sender.work, sender.snapshots.pins, readers) for _ in range(2)]
        for backup in (*backups, None):
            sender.perform(Compact(1, frozenset({9})))
            await trio.testing.wait_all_tasks_blocked()
            if backup is not None:
                backup.close()
    assert sender.kept == [{OF.last_index, 9}, {OF.last_index, 9}, {9}]
    assert not sender.snapshots.pins


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
async def test_a_snapshot_that_failed_leaves_no_scan_and_no_turn(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A walk that nobody goes on with would keep what each write replaces, for ever; and other nodes' states wait to be saved."""

    def add(writer: SnapshotWriter, line: bytes) -> None:
        raise OSError(code, "ended")

    monkeypatch.setattr(SnapshotWriter, "add", add)
    store = Store()
    store.apply_all([encode_command(Put(id=0, key=f"k{number}", value="x" * 256 * 1024)) for number in range(3)], 1)
    async with trio.open_nursery() as nursery:
        sender = Sender(nursery, tmp_path, None)
        sender.disk.works.set()
        sender.save(3, store)
        assert store._scans
    assert store._scans == []
    assert sender.given_up == (code == errno.ENOSPC) and bool(sender.inbox.failure) == (code == errno.EIO)
    assert sender.another_may_save()
    assert (sender.snapshots._figures.snapshots_taken, sender.snapshots._figures.snapshot_bytes) == (0, 0)


async def test_a_state_that_was_loaded_knows_its_index_before_anything_is_applied_to_it(tmp_path: Path) -> None:
    """A list that is read at once tells it, and so does the next snapshot's label."""
    disk = RealDisk(tmp_path)
    writer = SnapshotWriter(disk, SnapshotStart(cluster="c", members=(0, 1, 2), last_index=3, last_term=1, digest=0))
    writer.add(b'{"a":["x",1,false],"b":["y",3,false]}')
    meta = writer.finish()
    async with trio.open_nursery() as nursery:
        sender = Sender(nursery, tmp_path, None)
        sender.disk.works.set()
        sender.perform(LoadSnapshot(meta))
    (store,) = sender.stores
    answer, _ = look_up(store, List(id=1))
    items = [Item(key="a", index=1, value="x"), Item(key="b", index=3, value="y")]
    assert answer == ListAnswer(id=1, items=items, next=None, index=3)
    assert sender.loaded == [meta]


async def test_what_is_saved_and_loaded_is_counted_each_time(tmp_path: Path) -> None:
    """Number and bytes of all that were saved, not of the last one."""
    store = Store()
    async with trio.open_nursery() as nursery:
        sender = Sender(nursery, tmp_path, None)
        sender.disk.works.set()
        for index in (1, 2):
            store.apply(encode_command(Put(id=0, key="k", value="x" * 100 * index)), index)
            sender.save(index, store)
            while len(sender.taken) < index:
                await trio.sleep(0.001)
            sender.perform(LoadSnapshot(sender.taken[-1]))
            while len(sender.loaded) < index:
                await trio.sleep(0.001)
    figures = sender.snapshots._figures
    assert sender.loaded == sender.taken
    assert (figures.snapshots_taken, figures.snapshots_installed) == (2, 2)
    assert figures.snapshot_bytes == sum(meta.size for meta in sender.taken)


def go_on(job: Job, most_steps: int) -> bool:
    """Let a job make so many steps; return whether it has ended."""
    result: object = None
    for _ in range(most_steps):
        try:
            step = job.steps.send(result)
        except StopIteration:
            return True
        result = step.work() if isinstance(step, Blocking) else None
    return False


async def test_a_state_that_is_replaced_while_it_is_saved_is_freed_when_that_has_ended(tmp_path: Path) -> None:
    """Freed before, its keys would be missing in a file that is whole and has its checksum (OWN-169)."""
    disk, jobs = RealDisk(tmp_path), Begun()
    writer = SnapshotWriter(disk, SnapshotStart(cluster="c", members=(0, 1, 2), last_index=9, last_term=1, digest=0))
    meta = writer.finish()
    old = Store()
    old.apply_all([encode_command(Put(id=0, key=f"k{number}", value="x")) for number in range(5)], 1)
    async with trio.open_nursery() as nursery:
        sender = Sender(nursery, tmp_path, None)
        snapshots = SnapshotJobs(
            place=sender.place,
            inbox=sender.inbox,
            outbox=Posted(sender._post),
            jobs=jobs,
            scheduler=ProcessScheduler(),
            figures=NodeFigures(),
            replace_store=lambda store: old,
        )
        snapshots.save(SnapshotLabel(5, 1, 0, (0, 1, 2), None), old, 0.0)
        snapshots.perform(LoadSnapshot(meta))
        save, load = jobs.jobs
        assert not go_on(save, 3)
        assert go_on(load, 100)
        (drop,) = jobs.jobs[2:]
        assert not go_on(drop, 100)
        assert go_on(save, 100)
        assert go_on(drop, 100)
    assert not old.stored
    (taken,) = sender.taken
    path, saved = snapshot_name(5, 1), Store()
    read_snapshot(FolderFile(disk, path), path, saved.load)
    assert (taken.last_index, sorted(saved.stored)) == (5, [f"k{number}" for number in range(5)])
