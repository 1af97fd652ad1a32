"""How a follower receives and installs the leader's snapshot (Raft 7, Figure 13).

```
SnapshotRequest -> StoreChunk -> chunk_stored -> ... -> Persist(Install) -> LoadSnapshot -> snapshot_loaded
```
"""

from bargetrio.raft import commit, demotion, membership, snapshots
from bargetrio.raft.effects import Compact, LoadSnapshot, StoreChunk
from bargetrio.raft.facts import SnapshotInstalled
from bargetrio.raft.messages import NodeId, SnapshotMeta, SnapshotReply, SnapshotRequest
from bargetrio.raft.records import LogStart
from bargetrio.raft.snapshot_state import Receiving
from bargetrio.raft.state import State


def on_snapshot_request(state: State, message: SnapshotRequest, now: float) -> None:
    """Store a chunk of the leader's snapshot if it is the next one, and reply how much is stored (Figure 13)."""
    if message.term < state.current_term:
        _reply(state, message.leader_id, message.snapshot, 0)
        return
    state.follow(message.term, message.leader_id, now)
    snapshot = message.snapshot
    if _differs(state, snapshot):
        demotion.report_difference(state, message.leader_id, snapshot.last_index)
        return
    if _is_here(state, snapshot):
        _decline(state, message.leader_id, snapshot)
        return
    if state.snapshots.installing is not None:
        return  # the previous snapshot is being installed: the leader will send this chunk again
    receiving = state.snapshots.receiving
    if receiving is not None and (receiving.is_busy or _is_older(receiving, message)):
        return
    if receiving is None or receiving.snapshot != snapshot:
        receiving = state.snapshots.receiving = Receiving(snapshot, message.leader_id, message.term)
    receiving.leader_id, receiving.term = message.leader_id, message.term
    if message.offset != receiving.bytes_stored or not message.data:
        _reply(state, message.leader_id, snapshot, receiving.bytes_stored)
        return
    receiving.is_busy = True
    state.emit(StoreChunk(snapshot, message.offset, message.data))


def _is_older(receiving: Receiving, message: SnapshotRequest) -> bool:
    """Return whether the leader of this term has begun to send a newer snapshot since: the message was delayed.

    In another term the same leader may have only an older one: its disk was replaced, or put back from a copy.
    """
    return receiving.term == message.term and message.snapshot.last_index < receiving.snapshot.last_index


def _is_here(state: State, snapshot: SnapshotMeta) -> bool:
    """Return whether this node has the snapshot's content: its state, or its last entry and so all before it (Raft 5.3)."""
    return snapshot.last_index <= state.commit_index or state.log.holds(snapshot.last_index, snapshot.last_term)


def _differs(state: State, snapshot: SnapshotMeta) -> bool:
    """Return whether the log has the snapshot's last entry by index and term, and another digest there."""
    log, index = state.log, snapshot.last_index
    is_comparable = log.start_index <= index and log.holds(index, snapshot.last_term)
    return is_comparable and log.digest(index) != snapshot.digest


def _decline(state: State, leader_id: NodeId, snapshot: SnapshotMeta) -> None:
    """Reply `installed`: the log has the state's entries; later ones stay, as they may be acknowledged (BUG-32; Figure 13, 6)."""
    commit.advance_commit_to(state, snapshot.last_index)
    state.give_up_received()
    _reply(state, leader_id, snapshot, 0, installed=True)


def chunk_stored(state: State, snapshot: SnapshotMeta, bytes_stored: int, now: float) -> None:
    """Record how many bytes the received file has; when it is complete, replace state and log by it."""
    receiving = state.snapshots.receiving
    assert receiving is not None and receiving.snapshot == snapshot and receiving.is_busy, "one piece is written at a time"
    receiving.bytes_stored, receiving.is_busy = bytes_stored, False
    if not bytes_stored and snapshot.last_index <= state.commit_index:
        state.snapshots.receiving = None
        return
    if bytes_stored < snapshot.size:
        _reply(state, receiving.leader_id, snapshot, bytes_stored)
        state.give_up_received()
        return
    if _differs(state, snapshot):  # by entries that arrived since the last chunk, from another leader
        demotion.report_difference(state, receiving.leader_id, snapshot.last_index)
        return
    if _is_here(state, snapshot):  # by entries that arrived since the last chunk (OWN-15)
        _decline(state, receiving.leader_id, snapshot)
        return
    state.snapshots.receiving = None
    state.snapshots.installing = snapshot
    state.snapshots.installing_from = receiving.leader_id
    # The log conflicts at the snapshot's last index, or ends before it (BUG-33): the whole log is dropped.
    state.log.reset(LogStart(index=snapshot.last_index, term=snapshot.last_term, digest=snapshot.digest))
    state.snapshots.compact_to = 0
    state.commit_index = snapshot.last_index
    state.durability.queue_install(snapshot)
    membership.on_installed(state, snapshot.configuration)
    _reply(state, receiving.leader_id, snapshot, snapshot.size, installed=True)


def maybe_load(state: State) -> None:
    """Emit LoadSnapshot once the snapshot has replaced the log on the disk."""
    snapshot = state.snapshots.installing
    if snapshot is not None and state.snapshot != snapshot and state.durability.durable_index >= snapshot.last_index:
        state.snapshot = snapshot
        state.emit(LoadSnapshot(snapshot))


def loaded(state: State, snapshot: SnapshotMeta) -> None:
    """Continue with the entries after the loaded snapshot."""
    assert state.snapshots.installing == snapshot
    state.snapshots.installing = None
    state.last_applied = snapshot.last_index
    state.announce(
        SnapshotInstalled(
            peer=state.snapshots.installing_from,
            term=state.current_term,
            index=snapshot.last_index,
            digest=snapshot.digest,
            size=snapshot.size,
        )
    )
    state.emit(Compact(state.log.start_index + 1, snapshots.snapshots_in_use(state)))


def _reply(state: State, to: NodeId, snapshot: SnapshotMeta, bytes_stored: int, *, installed: bool = False) -> None:
    reply = SnapshotReply(
        term=state.current_term,
        follower_id=state.node_id,
        last_index=snapshot.last_index,
        bytes_stored=bytes_stored,
        installed=installed,
    )
    state.send(to, reply, durable_to=snapshot.last_index if installed else 0)
