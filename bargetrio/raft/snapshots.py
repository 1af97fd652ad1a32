"""How the log stays short, and how a follower that is too far behind catches up (section 7, Figure 13; dissertation 5.1).

```
taking     TakeSnapshot -> (the driver saves) -> snapshot_taken -> the log forgets what it holds, but for some trailing entries
sending    SendChunk -> SnapshotRequest -> SnapshotReply says how much is stored -> the next piece, or entries again
receiving  SnapshotRequest -> StoreChunk -> chunk_stored -> ... -> Persist(Install) -> LoadSnapshot -> snapshot_loaded
```
A snapshot holds only what is committed, so nothing in it can be wrong; what can go wrong is its label, its order in time, and
what becomes of the log around it.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from bargetrio.raft import membership, replication
from bargetrio.raft.effects import Compact, LoadSnapshot, SendChunk, StoreChunk, TakeSnapshot
from bargetrio.raft.facts import SnapshotInstalled, SnapshotSent, SnapshotTaken
from bargetrio.raft.messages import Index, NodeId, SnapshotMeta, SnapshotReply, SnapshotRequest, Term
from bargetrio.raft.progress import Progress, Transfer
from bargetrio.raft.records import LogStart
from bargetrio.raft.roles import Leader

if TYPE_CHECKING:
    from bargetrio.raft.core import Core

ENTRY_BYTES: Final = 64
"""What an entry costs in memory beside its command, in bytes."""
COMPACTION_SLICE: Final = 10_000
"""Entries that the log drops in one pass: freeing a million at once would block the loop."""
MOST_PATIENCE: Final = 8
"""Longest wait for the answer to a piece that has left, in shortest election timeouts."""


class SnapshotPolicy(Struct, frozen=True, kw_only=True):
    """When a snapshot is taken: the log since the last one has so many entries, or so many bytes of commands.

    In either case it also outweighs the last snapshot, so that saving costs no more than writing did. `trailing` entries before
    it stay in the log, for followers that are a little behind.
    """

    entries: int = 100_000
    bytes: int = 64 * 1024 * 1024
    trailing: int = 10_000
    quiet_s: float = 10.0
    """When nothing was applied for so long, less is enough, if it is more than `trailing`: a restart is quick then."""


@dataclass(slots=True)
class Receiving:
    """A snapshot that a leader sends us; `is_busy` while a piece is being written."""

    snapshot: SnapshotMeta
    leader_id: NodeId
    term: Term
    bytes_stored: int = 0
    is_busy: bool = False


# -- taking --------------------------------------------------------------------------------------------------------------


def maybe_take(core: "Core") -> None:
    """Ask for a snapshot when it is time, or when somebody asked for one."""
    if core.is_taking or core.installing is not None:
        core.is_due = False
        return
    core.is_due = core.is_snapshot_asked or _is_time(core)
    if not core.is_due:
        core.weighed_index = core.last_applied
        return
    if core.must_not_take:
        return
    index = core.last_applied
    if core.snapshot is not None and index <= core.snapshot.last_index and core.unreadable != core.snapshot:
        # Another file of the same name would replace this one, whose size and checksum other nodes may know.
        core.is_snapshot_asked = core.is_due = False
        return
    # Only what this disk's log holds: after a crash no snapshot may be ahead of it.
    if index == 0 or index > core.durability.durable_index:
        return
    core.is_taking, core.is_snapshot_asked, core.is_due = True, False, False
    configuration = membership.configuration_at(core, index)
    core.emit(TakeSnapshot(index, core.log.term(index), core.log.digest(index), core.members, configuration))


def watch_for_quiet(core: "Core", now: float) -> None:
    """Ask for a snapshot when nothing was applied for `quiet_s` and more than `trailing` entries are not in one."""
    if core.last_applied != core.quiet_index:
        core.quiet_index, core.quiet_since = core.last_applied, now
    elif now - core.quiet_since > core.snapshot_policy.quiet_s:
        core.quiet_since = now
        last = 0 if core.snapshot is None else core.snapshot.last_index
        if core.last_applied - last > core.snapshot_policy.trailing:
            core.is_snapshot_asked = True


def _is_time(core: "Core") -> bool:
    policy, snapshot = core.snapshot_policy, core.snapshot
    last = 0 if snapshot is None else snapshot.last_index
    entries = core.last_applied - last
    size = core.log.bytes_between(last, core.last_applied)
    if entries < policy.entries and size < policy.bytes:
        return False
    return snapshot is None or size + entries * ENTRY_BYTES >= snapshot.size


def taken(core: "Core", snapshot: SnapshotMeta, now: float) -> None:
    """Note that the snapshot is durable: it replaces the log before it, but never a newer snapshot (BUG-31)."""
    core.is_taking = False
    core.weighed_index = -1
    old, is_replaced = core.snapshot, core.unreadable is not None and core.unreadable == core.snapshot
    if core.installing is not None or (old is not None and snapshot.last_index < old.last_index + (not is_replaced)):
        return
    core.snapshot, core.unreadable = snapshot, None
    if is_replaced and isinstance(core.role, Leader):
        for peer, progress in core.role.progress.items():
            if progress.transfer is not None and progress.transfer.snapshot == old:
                begin_transfer(core, peer, progress)
    trailing = core.snapshot_policy.trailing
    core.compact_to = max(core.log.start_index, min(snapshot.last_index - trailing, _needed_by_transfers(core, now)))
    core.announce(
        SnapshotTaken(
            term=core.current_term,
            index=snapshot.last_index,
            digest=snapshot.digest,
            size=snapshot.size,
            log_start=core.compact_to,
        )
    )
    core.emit(Compact(core.compact_to + 1, _kept(core)))


def compact(core: "Core") -> None:
    """Drop a slice of the entries that a snapshot holds."""
    core.log.drop(COMPACTION_SLICE)
    start = core.log.start_index
    if start < core.compact_to:
        core.log.compact(min(core.compact_to, start + COMPACTION_SLICE))


def _needed_by_transfers(core: "Core", now: float) -> Index:
    """Return the index after which entries are needed by followers who are being sent a snapshot, and answer."""
    needed = core.log.last_index
    if isinstance(core.role, Leader):
        for progress in core.role.progress.values():
            if progress.transfer is not None and now - progress.heard_at < core.election_max_s:
                needed = min(needed, progress.transfer.snapshot.last_index)
    return needed


def _kept(core: "Core") -> frozenset[Index]:
    """Return the last indices of the snapshots that must stay on the disk."""
    assert core.snapshot is not None
    kept = {core.snapshot.last_index}
    if isinstance(core.role, Leader):
        kept |= {each.transfer.snapshot.last_index for each in core.role.progress.values() if each.transfer is not None}
    return frozenset(kept)


# -- sending -------------------------------------------------------------------------------------------------------------


def begin_transfer(core: "Core", peer: NodeId, progress: Progress) -> None:
    """Begin to send the newest snapshot to a follower whose next entry is no longer in the log (7)."""
    assert core.snapshot is not None and core.snapshot.last_index >= core.log.start_index
    progress.become_snapshot(core.snapshot)
    _tell_sent(core, peer, core.snapshot, done=False)


def send_chunk(core: "Core", peer: NodeId, progress: Progress) -> None:
    """Send the piece that is due: one at a time to each follower."""
    transfer = progress.transfer
    assert transfer is not None
    if transfer.is_due:
        transfer.is_due, transfer.heartbeats_waited = False, 0
        request = SnapshotRequest(
            term=core.current_term, leader_id=core.node_id, snapshot=transfer.snapshot, offset=transfer.offset, data=b""
        )
        core.emit(SendChunk(peer, request))


def wait_for_reply(core: "Core", peer: NodeId, transfer: Transfer) -> None:
    """Count a heartbeat of waiting, unless the piece is still unsent; send it again after `patience`.

    A piece is lost with its connection (`Transfer.send_again`), or where a full link drops it. Time proves neither, so it is the
    last resort: a piece sent again behind itself fills a slow link.
    """
    if core.has_unsent(peer):
        transfer.heartbeats_waited = 0
        return
    transfer.heartbeats_waited += 1
    if transfer.heartbeats_waited * core.heartbeat_s >= transfer.patience * core.election_min_s:
        transfer.is_due = True
        transfer.patience = min(2 * transfer.patience, MOST_PATIENCE)


def on_piece_missing(core: "Core", peer: NodeId, snapshot: SnapshotMeta) -> None:
    """Send the newest snapshot in place of one whose file ends early or is gone; if it is the newest, have another taken."""
    leader = core.role
    if not isinstance(leader, Leader) or peer not in leader.progress:
        return
    progress = leader.progress[peer]
    if progress.transfer is not None and progress.transfer.snapshot == snapshot:
        _begin_with_another(core, peer, progress)


def _begin_with_another(core: "Core", peer: NodeId, progress: Progress) -> None:
    """Send another snapshot than this one, whose file is gone or damaged, or have one taken."""
    transfer = progress.transfer
    assert transfer is not None
    if core.snapshot != transfer.snapshot:
        begin_transfer(core, peer, progress)
        return
    # Without new entries the next snapshot has the same index: another file of the same state.
    core.unreadable = core.snapshot
    if not core.is_taking:
        core.take_snapshot()


def on_snapshot_reply(core: "Core", message: SnapshotReply, now: float) -> None:
    """Send the piece after what the follower's disk holds; go on with entries when it has the whole state."""
    progress = replication.progress_of(core, message.term, message.follower_id, now)
    if progress is None:
        return
    leader = core.role
    assert isinstance(leader, Leader)
    progress.heard_at = now
    transfer = progress.transfer
    if transfer is None or transfer.snapshot.last_index != message.last_index:
        return  # about another snapshot, or about one that it has
    if message.installed:
        _tell_sent(core, message.follower_id, transfer.snapshot, done=True)
        progress.resume(message.last_index)
        replication.advance_commit(core, leader)
    elif message.bytes_stored == 0 and transfer.offset and transfer.snapshot != core.snapshot:
        # It begins anew, so the newest one is sent: a damaged file would be sent for ever, and the log kept for it.
        begin_transfer(core, message.follower_id, progress)
    elif message.bytes_stored != transfer.offset and message.bytes_stored <= transfer.snapshot.size:
        # An answer with the offset already known is an old one: the piece after it is in flight.
        transfer.offset, transfer.is_due, transfer.patience = message.bytes_stored, True, 1
        if message.bytes_stored == 0:
            transfer.restarts += 1
            # For the same reason. A restarted follower begins anew, too; twice makes a damaged file more likely.
            if core.last_applied > transfer.snapshot.last_index or transfer.restarts > 1:
                _begin_with_another(core, message.follower_id, progress)


def _tell_sent(core: "Core", peer: NodeId, snapshot: SnapshotMeta, *, done: bool) -> None:
    core.announce(SnapshotSent(peer=peer, term=core.current_term, index=snapshot.last_index, size=snapshot.size, done=done))


# -- receiving -----------------------------------------------------------------------------------------------------------


def on_snapshot_request(core: "Core", message: SnapshotRequest, now: float) -> None:
    """Store a piece of the leader's snapshot if it is the next one, and answer how much is stored (Figure 13)."""
    if message.term < core.current_term:
        _reply(core, message.leader_id, message.snapshot, 0)
        return
    replication.follow(core, message.term, message.leader_id, now)
    snapshot = message.snapshot
    if _differs(core, snapshot):
        membership.tell_difference(core, message.leader_id, snapshot.last_index)
        return
    if _is_here(core, snapshot):
        _decline(core, message.leader_id, snapshot)
        return
    if core.installing is not None:
        return  # the one before it is being put in place: the leader will ask again
    receiving = core.receiving
    if receiving is not None and (receiving.is_busy or _is_older(receiving, message)):
        return
    if receiving is None or receiving.snapshot != snapshot:
        receiving = core.receiving = Receiving(snapshot, message.leader_id, message.term)
    receiving.leader_id, receiving.term = message.leader_id, message.term
    if message.offset != receiving.bytes_stored or not message.data:
        _reply(core, message.leader_id, snapshot, receiving.bytes_stored)
        return
    receiving.is_busy = True
    core.emit(StoreChunk(snapshot, message.offset, message.data))


def _is_older(receiving: Receiving, message: SnapshotRequest) -> bool:
    """Return whether the leader of this term has begun to send a newer snapshot since: the message was delayed.

    In another term the same leader may have only an older one: its disk was replaced, or put back from a copy.
    """
    return receiving.term == message.term and message.snapshot.last_index < receiving.snapshot.last_index


def _is_here(core: "Core", snapshot: SnapshotMeta) -> bool:
    """Return whether the snapshot's content is here already: its state, or its last entry and so all before it (5.3)."""
    return snapshot.last_index <= core.commit_index or core.log.holds(snapshot.last_index, snapshot.last_term)


def _differs(core: "Core", snapshot: SnapshotMeta) -> bool:
    """Return whether the log has the snapshot's last entry by index and term, and another digest there."""
    log, index = core.log, snapshot.last_index
    is_comparable = log.start_index <= index and log.holds(index, snapshot.last_term)
    return is_comparable and log.digest(index) != snapshot.digest


def _decline(core: "Core", leader_id: NodeId, snapshot: SnapshotMeta) -> None:
    """Answer that the state is here, by entries; those after it stay, as they may be acknowledged (BUG-32; Figure 13, 6)."""
    core.advance_commit_to(snapshot.last_index)
    give_up(core)
    _reply(core, leader_id, snapshot, 0, installed=True)


def give_up(core: "Core") -> None:
    """Drop what was received of a snapshot, also its bytes on the disk, once all that it holds is committed here (OWN-34).

    A piece that is being written is waited for: a second file begun meanwhile would mix the two (OWN-16).
    """
    receiving = core.receiving
    if receiving is not None and not receiving.is_busy and receiving.snapshot.last_index <= core.commit_index:
        receiving.is_busy = True
        core.emit(StoreChunk(receiving.snapshot, 0, b""))


def chunk_stored(core: "Core", snapshot: SnapshotMeta, bytes_stored: int, now: float) -> None:
    """Note how many bytes the received file has; when it is whole, replace state and log by it."""
    receiving = core.receiving
    assert receiving is not None and receiving.snapshot == snapshot and receiving.is_busy, "one piece is written at a time"
    receiving.bytes_stored, receiving.is_busy = bytes_stored, False
    if not bytes_stored and snapshot.last_index <= core.commit_index:
        core.receiving = None
        return
    if bytes_stored < snapshot.size:
        _reply(core, receiving.leader_id, snapshot, bytes_stored)
        give_up(core)
        return
    if _differs(core, snapshot):  # entries that came since the last piece did, from another leader
        membership.tell_difference(core, receiving.leader_id, snapshot.last_index)
        return
    if _is_here(core, snapshot):  # since the last piece came (OWN-15)
        _decline(core, receiving.leader_id, snapshot)
        return
    core.receiving = None
    core.installing = snapshot
    core.installing_from = receiving.leader_id
    # The log conflicts at the snapshot's last index, or ends before it (BUG-33): the whole log is dropped.
    core.log.reset(LogStart(index=snapshot.last_index, term=snapshot.last_term, digest=snapshot.digest))
    core.compact_to = 0
    core.commit_index = snapshot.last_index
    core.durability.remember_install(snapshot)
    membership.on_installed(core, snapshot.configuration)
    _reply(core, receiving.leader_id, snapshot, snapshot.size, installed=True)


def maybe_load(core: "Core") -> None:
    """Have the state machine replaced once the snapshot is in place on the disk."""
    snapshot = core.installing
    if snapshot is not None and core.snapshot != snapshot and core.durability.durable_index >= snapshot.last_index:
        core.snapshot = snapshot
        core.emit(LoadSnapshot(snapshot))


def loaded(core: "Core", snapshot: SnapshotMeta) -> None:
    """Go on applying after it."""
    assert core.installing == snapshot
    core.installing = None
    core.last_applied = snapshot.last_index
    core.announce(
        SnapshotInstalled(
            peer=core.installing_from,
            term=core.current_term,
            index=snapshot.last_index,
            digest=snapshot.digest,
            size=snapshot.size,
        )
    )
    core.emit(Compact(core.log.start_index + 1, _kept(core)))


def _reply(core: "Core", to: NodeId, snapshot: SnapshotMeta, bytes_stored: int, *, installed: bool = False) -> None:
    reply = SnapshotReply(
        term=core.current_term,
        follower_id=core.node_id,
        last_index=snapshot.last_index,
        bytes_stored=bytes_stored,
        installed=installed,
    )
    core.send(to, reply, durable_to=snapshot.last_index if installed else 0)
