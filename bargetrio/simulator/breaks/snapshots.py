"""Planted bugs about snapshots: what they hold, what is forgotten for them, how they are sent and put in place."""

from typing import Any

from msgspec import structs

from bargetrio.kv.scan import Scan
from bargetrio.kv.store import Store
from bargetrio.raft import receiving, snapshots
from bargetrio.raft.core import Core
from bargetrio.raft.effects import Compact
from bargetrio.raft.log import Log
from bargetrio.raft.messages import Entry, NodeId, SnapshotMeta, SnapshotReply, SnapshotRequest
from bargetrio.raft.progress import Transfer
from bargetrio.raft.records import LogStart
from bargetrio.raft.roles import Leader
from bargetrio.raft.snapshot_state import SnapshotLabel
from bargetrio.raft.state import State
from bargetrio.replica.jobs import SnapshotJobs
from bargetrio.replica.ports import Steps, blocking
from bargetrio.simulator.breaks.registry import Patches, breaks, lets_through
from bargetrio.simulator.disk import SimulatedDisk
from bargetrio.storage import wal
from bargetrio.storage.snapshots import SnapshotReceiver, SnapshotWriter, snapshot_labels, snapshot_name

# -- taking --------------------------------------------------------------------------------------------------------------


def _labels(patches: Patches, **wrong: Any) -> None:
    """The label of a snapshot has other values; each is made from the core and the right label."""
    old = snapshots.begin

    def begin(core: State) -> SnapshotLabel | None:
        label = old(core)
        return label and structs.replace(label, **{name: make(core, label) for name, make in wrong.items()})

    patches.set(snapshots, "begin", begin)


@breaks("a snapshot holds the state at its label, not a later one", "5.1; BUG-29")
def snapshot_newer_than_its_label(patches: Patches) -> None:
    old = SnapshotJobs._save

    def save(self: SnapshotJobs, label: SnapshotLabel, scan: Scan, began: float) -> Steps:
        store = scan._store
        assert isinstance(store, Store)
        scan.close()
        yield from blocking(lambda: None)
        yield from old(self, label, store.scan(scan._slice_keys), began)

    patches.set(SnapshotJobs, "_save", save)


@breaks("what changes while a state is saved is saved as it was", "5.1; BUG-29")
def scan_without_images(patches: Patches) -> None:
    patches.set(Scan, "note", lambda self, key, old, *, removed=False: None)


@breaks("a snapshot has the term of its last entry", "7, Figure 13; BUG-36")
def snapshot_with_present_term(patches: Patches) -> None:
    _labels(patches, last_term=lambda core, label: core.current_term)


@breaks("a snapshot names the members of its cluster", "7; BUG-36")
def snapshot_without_members(patches: Patches) -> None:
    _labels(patches, members=lambda core, label: ())


@breaks(
    "a snapshot that ends late does not replace a newer one",
    "BUG-31",
    faults=frozenset({"slow_saves", "backups", "partitions", "bridge", "delays"}),
)
def older_snapshot_counts(patches: Patches) -> None:
    old = snapshots.taken

    def taken(core: Core, snapshot: SnapshotMeta, now: float) -> None:
        if core.snapshots.installing is None and core.snapshot is not None and snapshot.last_index < core.snapshot.last_index:
            core.snapshot = None
        old(core, snapshot, now)

    patches.set(snapshots, "taken", taken)


@breaks("the log is forgotten when the snapshot lasts, not before", "7; BUG-34")
def log_cut_before_snapshot_lasts(patches: Patches) -> None:
    old = snapshots.begin

    def begin(core: State) -> SnapshotLabel | None:
        label = old(core)
        if label is not None:
            core.emit(
                Compact(label.last_index + 1, snapshots.snapshots_in_use(core) if core.snapshot is not None else frozenset({0}))
            )
        return label

    patches.set(snapshots, "begin", begin)


@breaks("the log is forgotten up to the snapshot, not beyond", "7; BUG-30")
def log_cut_beyond_snapshot(patches: Patches) -> None:
    old = Log.compact

    def compact(self: Log, to_index: int) -> None:
        old(self, min(to_index + 1, self.last_index))

    patches.set(Log, "compact", compact)


@breaks("what was compacted is neither appended again nor taken for a conflict", "5.3; BUG-21")
def compacted_taken_for_conflict(patches: Patches) -> None:
    old = Log.first_conflict

    def first_conflict(self: Log, prev_log_index: int, entries: tuple[Entry, ...]) -> int:
        return 0 if prev_log_index < self.start_index else old(self, prev_log_index, entries)

    patches.set(Log, "first_conflict", first_conflict)


# -- sending -------------------------------------------------------------------------------------------------------------


@breaks("a piece that is not answered is sent again", "7")
def lost_piece_not_sent_again(patches: Patches) -> None:
    patches.set(snapshots, "wait_for_reply", lambda core, leader, peer, progress: None)


@breaks("the next piece begins where the follower's disk ends", "7; BUG-35")
def follower_that_lost_its_pieces_not_heard(patches: Patches) -> None:
    old = snapshots.on_snapshot_reply

    def on_snapshot_reply(core: Core, message: SnapshotReply, now: float) -> None:
        offset = 0
        if isinstance(core.role, Leader) and message.follower_id in core.role.progress:
            transfer: Transfer | None = core.role.progress[message.follower_id].transfer
            offset = 0 if transfer is None else transfer.offset
        old(core, structs.replace(message, bytes_stored=max(message.bytes_stored, offset)), now)

    patches.set(snapshots, "on_snapshot_reply", on_snapshot_reply)


@breaks("what the follower's disk has of a snapshot is not sent again", "7; Figure 13, 4")
def first_piece_sent_twice(patches: Patches) -> None:
    old = snapshots.on_snapshot_reply

    def on_snapshot_reply(core: Core, message: SnapshotReply, now: float) -> None:
        old(core, message, now)
        progress = core.role.progress.get(message.follower_id) if isinstance(core.role, Leader) else None
        transfer: Transfer | None = None if progress is None else progress.transfer
        if transfer is not None and transfer.offset and not transfer.restarts:  # the answer to this piece corrects it
            transfer.offset, transfer.is_due, transfer.restarts = 0, True, 1

    patches.set(snapshots, "on_snapshot_reply", on_snapshot_reply)


@breaks("a snapshot that is being sent is not deleted", "7")
def sent_snapshot_deleted(patches: Patches) -> None:
    patches.set(snapshots, "snapshots_in_use", lambda core: frozenset({core.snapshot.last_index}))


# -- receiving -----------------------------------------------------------------------------------------------------------


@breaks("an older snapshot never replaces newer state", "7; BUG-32")
def older_snapshot_installed(patches: Patches) -> None:
    patches.set(receiving, "_is_here", lambda core, snapshot: False)


@breaks("a log that conflicts with an installed snapshot goes", "Figure 13, 7; BUG-33")
def conflict_with_snapshot_kept(patches: Patches) -> None:
    old = Log.reset

    def reset(self: Log, start: LogStart) -> None:
        if self.last_index > start.index:
            self.compact(start.index)
        else:
            old(self, start)

    patches.set(Log, "reset", reset)


@breaks("a received snapshot is checked as a whole", "BUG-56")
def received_file_not_checked(patches: Patches) -> None:
    patches.set(SnapshotReceiver, "_is_whole", lambda self, snapshot: self._stored == snapshot.size)


@breaks("pieces of a snapshot are stored in order", "Figure 13, 3")
def pieces_in_any_order(patches: Patches) -> None:
    old = receiving.on_snapshot_request

    def on_snapshot_request(core: Core, message: SnapshotRequest, now: float) -> None:
        receiving = core.snapshots.receiving
        if receiving is not None and receiving.snapshot == message.snapshot:
            message = structs.replace(message, offset=receiving.bytes_stored)
        old(core, message, now)

    patches.set(receiving, "on_snapshot_request", on_snapshot_request)
    patches.set(SnapshotReceiver, "_is_whole", lambda self, snapshot: True)


@breaks("an installation is acknowledged when it is on the disk", "3.8; BUG-50")
def install_acknowledged_before_sync(patches: Patches) -> None:
    lets_through(patches, SnapshotReply)


@breaks("applying goes on behind an installed snapshot", "7; BUG-48")
def applied_index_not_moved(patches: Patches) -> None:
    old = receiving.loaded

    def loaded(core: Core, snapshot: SnapshotMeta) -> None:
        applied = core.last_applied
        old(core, snapshot)
        core.last_applied = applied

    patches.set(receiving, "loaded", loaded)


@breaks("nothing is applied while the state is replaced", "7; BUG-48")
def applied_while_installing(patches: Patches) -> None:
    patches.set(Core, "has_more_to_apply", property(lambda self: self.last_applied < self.commit_index))


@breaks(
    "a second snapshot waits until the first is in place",
    "BUG-35",
    faults=frozenset({"slow_saves", "slow_pieces", "crashes", "kills", "restart_all", "partitions", "bridge", "stranded_leader"}),
)
def two_snapshots_at_once(patches: Patches) -> None:
    old = receiving.on_snapshot_request

    def on_snapshot_request(core: Core, message: SnapshotRequest, now: float) -> None:
        installing, core.snapshots.installing = core.snapshots.installing, None
        old(core, message, now)
        core.snapshots.installing = installing

    patches.set(receiving, "on_snapshot_request", on_snapshot_request)


# -- files ---------------------------------------------------------------------------------------------------------------


@breaks("a snapshot is synced before it gets its name", "BUG-50")
def snapshot_named_before_sync(patches: Patches) -> None:
    old = SnapshotWriter.finish

    def finish(self: SnapshotWriter) -> SnapshotMeta:
        self._file.sync = lambda: None  # type: ignore[method-assign]
        return old(self)

    patches.set(SnapshotWriter, "finish", finish)


@breaks("a snapshot's name is on the disk before the log is cut for it", "BUG-52")
def snapshot_folder_not_synced(patches: Patches) -> None:
    old = SimulatedDisk.sync_dir

    def sync_dir(self: SimulatedDisk, folder: str) -> None:
        if folder != "snapshots":
            old(self, folder)

    patches.set(SimulatedDisk, "sync_dir", sync_dir)


@breaks("a segment's removal is on the disk before the next one's", "OWN-18")
def removals_not_synced(patches: Patches) -> None:
    old = wal.OpenFolder._drop_first_segment

    def drop(self: wal.OpenFolder, first_index: int) -> bool:
        disk = self._disk
        assert isinstance(disk, SimulatedDisk)
        disk.sync_dir = lambda folder: None  # type: ignore[method-assign]
        try:
            return old(self, first_index)
        finally:
            del disk.sync_dir

    patches.set(wal.OpenFolder, "_drop_first_segment", drop)


@breaks("only segments that hold nothing behind the snapshot go", "BUG-30")
def segments_trimmed_too_far(patches: Patches) -> None:
    old = wal.OpenFolder._drop_first_segment

    def drop(self: wal.OpenFolder, first_index: int) -> bool:
        return old(self, first_index + 5)

    patches.set(wal.OpenFolder, "_drop_first_segment", drop)


@breaks("a node begins with its newest snapshot", "BUG-34")
def oldest_snapshot_loaded(patches: Patches) -> None:
    old = wal.__dict__["snapshot_labels"]
    patches.set(wal, "snapshot_labels", lambda disk: old(disk)[:1])


@breaks("a snapshot that is newer than what is needed is not deleted", "BUG-31")
def newer_snapshot_deleted(patches: Patches) -> None:
    def remove(disk: SimulatedDisk, keep: frozenset[int]) -> None:
        for last_index, last_term in snapshot_labels(disk):
            if last_index not in keep:
                disk.remove(snapshot_name(last_index, last_term))

    patches.set(wal, "remove_snapshots", remove)


@breaks("state and applied index come from one snapshot", "BUG-48")
def snapshot_not_loaded_at_start(patches: Patches) -> None:
    old = wal.__dict__["_read_newest"]

    def read_newest(disk: Any, cluster: str, members: tuple[NodeId, ...] | None, load: Any) -> SnapshotMeta | None:
        found: SnapshotMeta | None = old(disk, cluster, members, lambda payload: None)
        return found

    patches.set(wal, "_read_newest", read_newest)
