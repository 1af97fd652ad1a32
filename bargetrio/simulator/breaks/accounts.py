"""Planted bugs in counters, lists, and the freeing of memory."""

from typing import Any

from bargetrio.kv.store import Store
from bargetrio.protocol.requests import Item
from bargetrio.raft import receiving
from bargetrio.raft.core import Core
from bargetrio.raft.effects import SendChunk
from bargetrio.raft.log import Log
from bargetrio.raft.messages import SnapshotRequest
from bargetrio.raft.progress import Progress
from bargetrio.raft.roles import Leader
from bargetrio.raft.state import State
from bargetrio.replica.jobs import DROP_AGAIN_S, SnapshotJobs
from bargetrio.replica.ports import Sleep
from bargetrio.simulator.breaks.registry import Patches, breaks
from bargetrio.simulator.disk import SimulatedDisk


@breaks("what is no longer waited for does not fill the window", "10.2.1")
def bytes_under_way_not_forgotten(patches: Patches) -> None:
    patches.set(Progress, "forget_in_flight", lambda self: self.in_flight.clear())


@breaks("reads that wait for a leader's first commit are refused when it loses office", "6.4")
def waiting_reads_dropped(patches: Patches) -> None:
    old = State._fail_pending

    def close_office(self: State, leader: Leader, leader_id: int | None) -> None:
        leader.new_reads.clear()
        old(self, leader, leader_id)

    patches.set(State, "_fail_pending", close_office)


@breaks("what was received of a snapshot is given back when entries were faster", "OWN-34")
def half_received_snapshot_kept(patches: Patches) -> None:
    patches.set(State, "give_up_received", lambda self: None)


@breaks("the log that a snapshot replaced is given back", "OWN-36")
def replaced_log_kept(patches: Patches) -> None:
    patches.set(Log, "drop", lambda self, most_entries, most_bytes: None)


@breaks("a file has pieces of one snapshot only", "Figure 13, 2")
def pieces_of_two_snapshots(patches: Patches) -> None:
    old = receiving.on_snapshot_request

    def on_snapshot_request(core: Core, message: SnapshotRequest, now: float) -> None:
        receiving = core.snapshots.receiving
        if receiving is not None and not receiving.is_busy and receiving.snapshot.last_index == message.snapshot.last_index:
            receiving.snapshot = message.snapshot
        old(core, message, now)

    patches.set(receiving, "on_snapshot_request", on_snapshot_request)


@breaks("a folder's name is on the disk before its content is acknowledged", "BUG-52")
def folders_not_synced(patches: Patches) -> None:
    old = SimulatedDisk.sync_dir

    def sync_dir(self: SimulatedDisk, folder: str) -> None:
        unsynced = set(self._unsynced_folders)
        old(self, folder)
        self._unsynced_folders |= unsynced

    patches.set(SimulatedDisk, "sync_dir", sync_dir)


@breaks("a list goes on after a key, not with it", "docs/rest.md")
def list_begins_with_the_last_key(patches: Patches) -> None:
    old = Store.items

    def items(self: Store, prefix: str, after: str, limit: int, **options: Any) -> tuple[list[Item], str | None]:
        return old(self, prefix, "" if after == prefix else after, limit, **options)

    patches.set(Store, "items", items)


@breaks("a piece that nobody waits for any more is not kept", "docs/limits.md")
def piece_kept(patches: Patches) -> None:
    old = SnapshotJobs.perform

    def perform(self: SnapshotJobs, effect: Any) -> None:
        if isinstance(effect, SendChunk) and effect.to in self._reading:
            self._to_read[-1] = effect, 0
        old(self, effect)

    patches.set(SnapshotJobs, "perform", perform)


@breaks("a job ends", "docs/architecture.md")
def replaced_state_never_freed(patches: Patches) -> None:
    def drop(self: SnapshotJobs, store: Store) -> Any:
        while True:
            yield Sleep(DROP_AGAIN_S)

    patches.set(SnapshotJobs, "_drop", drop)
