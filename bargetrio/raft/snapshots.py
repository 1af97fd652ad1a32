"""Log compaction by snapshots, and sending them to followers that are too far behind (Raft 7, Figure 13; Ongaro 5.1).

```
taking     is_due -> begin_snapshot -> (the host saves) -> snapshot_taken -> the log drops all but some trailing entries
sending    SendChunk -> SnapshotRequest -> SnapshotReply says how much is stored -> the next chunk, or entries again
```
A snapshot holds only committed state. What can go wrong is its metadata, its order relative to other snapshots, and the log
around it.
"""

from typing import Final

from bargetrio.raft import commit, membership
from bargetrio.raft.effects import Compact, SendChunk
from bargetrio.raft.facts import SnapshotSent, SnapshotTaken
from bargetrio.raft.messages import Index, NodeId, SnapshotMeta, SnapshotReply, SnapshotRequest
from bargetrio.raft.progress import Progress
from bargetrio.raft.roles import Leader
from bargetrio.raft.snapshot_state import SnapshotLabel
from bargetrio.raft.state import State

ENTRY_BYTES: Final = 64
"""What an entry costs in memory beside its command, in bytes."""
COMPACTION_SLICE: Final = 10_000
COMPACTION_BYTES: Final = 64 * 1024 * 1024
"""Entries that the log drops in one pass, and bytes of their commands: freeing a million at once would block the loop."""
MOST_PATIENCE: Final = 8
"""Longest wait for the answer to a piece that has left, in shortest election timeouts."""


# -- taking --------------------------------------------------------------------------------------------------------------


def check_due(state: State) -> None:
    """Set `is_due`: a snapshot is due by the policy, or was requested, and none is under way."""
    own = state.snapshots
    if own.is_taking or own.installing is not None:
        own.is_due = False
        return
    own.is_due = own.is_asked or _is_due_by_policy(state)
    if not own.is_due:
        own.policy_checked_index = state.last_applied


def begin(state: State) -> SnapshotLabel | None:
    """Begin the snapshot that is due, of what is applied; return None if there is nothing to be saved, or not yet."""
    own = state.snapshots
    index = state.last_applied
    if state.snapshot is not None and index <= state.snapshot.last_index and own.unreadable != state.snapshot:
        # Another file of the same name would replace this one, whose size and checksum may have been sent to other nodes.
        own.is_asked = own.is_due = False
        return None
    # Only entries that are on this disk: after a crash no snapshot may be ahead of the log.
    if index == 0 or index > state.durability.durable_index:
        return None
    own.is_taking, own.is_asked, own.is_due = True, False, False
    configuration = membership.configuration_at(state, index)
    return SnapshotLabel(index, state.log.term(index), state.log.digest(index), state.members, configuration)


def maybe_take_when_idle(state: State, now: float) -> None:
    """Request a snapshot when no entry was applied for `idle_s` and more than `trailing` entries are not in one."""
    own = state.snapshots
    if state.last_applied != own.idle_index:
        own.idle_index, own.idle_since = state.last_applied, now
    elif now - own.idle_since > own.policy.idle_s:
        own.idle_since = now
        last = 0 if state.snapshot is None else state.snapshot.last_index
        if state.last_applied - last > own.policy.trailing:
            own.is_asked = True


def _is_due_by_policy(state: State) -> bool:
    policy, snapshot = state.snapshots.policy, state.snapshot
    last = 0 if snapshot is None else snapshot.last_index
    entries = state.last_applied - last
    size = state.log.bytes_between(last, state.last_applied)
    if entries < policy.entries and size < policy.bytes:
        return False
    return snapshot is None or size + entries * ENTRY_BYTES >= snapshot.size


def taken(state: State, snapshot: SnapshotMeta, now: float) -> None:
    """Handle a durable snapshot: it replaces the log before it, but never a newer snapshot (BUG-31)."""
    own = state.snapshots
    own.end_taking()
    old, is_replaced = state.snapshot, own.unreadable is not None and own.unreadable == state.snapshot
    if own.installing is not None or (old is not None and snapshot.last_index < old.last_index + (not is_replaced)):
        return
    state.snapshot, own.unreadable = snapshot, None
    if is_replaced and isinstance(state.role, Leader):
        for peer, progress in state.role.progress.items():
            if progress.transfer is not None and progress.transfer.snapshot == old:
                begin_transfer(state, peer, progress)
    trailing = _trailing(state, snapshot.last_index)
    own.compact_to = max(state.log.start_index, min(snapshot.last_index - trailing, _needed_by_transfers(state, now)))
    state.announce(
        SnapshotTaken(
            term=state.current_term,
            index=snapshot.last_index,
            digest=snapshot.digest,
            size=snapshot.size,
            log_start=own.compact_to,
        )
    )
    state.emit(Compact(own.compact_to + 1, snapshots_in_use(state)))


def compact(state: State) -> None:
    """Drop a slice of the entries that a snapshot covers."""
    log, own = state.log, state.snapshots
    log.drop(COMPACTION_SLICE, COMPACTION_BYTES)
    if log.start_index < own.compact_to:
        log.compact(min(own.compact_to, log.batch_end(log.start_index + 1, COMPACTION_SLICE, COMPACTION_BYTES)))


def _trailing(state: State, last_index: Index) -> int:
    """Return how many entries up to `last_index` stay in the log, for followers that lag a little."""
    policy, log = state.snapshots.policy, state.log
    first = max(log.start_index, last_index - policy.trailing)
    if first < last_index and log.bytes_between(first, last_index) > policy.trailing_bytes:
        first = log.first_within(last_index, policy.trailing_bytes)
    return last_index - first


def _needed_by_transfers(state: State, now: float) -> Index:
    """Return the index after which followers that are receiving a snapshot, and reply, need entries.

    A transfer for which the log would have to keep too much is restarted with the newest snapshot.
    """
    log, policy, newest = state.log, state.snapshots.policy, state.snapshot
    assert newest is not None
    needed = log.last_index
    if isinstance(state.role, Leader):
        for peer, progress in state.role.progress.items():
            transfer = progress.transfer
            if transfer is None or now - progress.heard_at >= state.election_max_s:
                continue
            sent = transfer.snapshot
            most_bytes = max(policy.transfer_bytes, 2 * sent.size)
            if sent != newest and log.bytes_between(sent.last_index, newest.last_index) > most_bytes:
                begin_transfer(state, peer, progress)
                sent = newest
            needed = min(needed, sent.last_index)
    return needed


def snapshots_in_use(state: State) -> frozenset[Index]:
    """Return the last indices of the snapshots that must stay on the disk."""
    assert state.snapshot is not None
    kept = {state.snapshot.last_index}
    if isinstance(state.role, Leader):
        kept |= {each.transfer.snapshot.last_index for each in state.role.progress.values() if each.transfer is not None}
    return frozenset(kept)


# -- sending -------------------------------------------------------------------------------------------------------------


def begin_transfer(state: State, peer: NodeId, progress: Progress) -> None:
    """Begin to send the newest snapshot to a follower whose next entry is compacted (Raft 7)."""
    assert state.snapshot is not None and state.snapshot.last_index >= state.log.start_index
    progress.become_snapshot(state.snapshot)


def send_chunk(state: State, peer: NodeId, progress: Progress) -> None:
    """Send the chunk that is due: one at a time to each follower."""
    transfer = progress.transfer
    assert transfer is not None
    if transfer.is_due:
        if not transfer.has_begun:
            transfer.has_begun = True
            _announce_sent(state, peer, transfer.snapshot, done=False)
        transfer.is_due, transfer.probe_round, transfer.heartbeats_waited = False, 0, 0
        request = SnapshotRequest(
            term=state.current_term, leader_id=state.node_id, snapshot=transfer.snapshot, offset=transfer.offset, data=b""
        )
        state.emit(SendChunk(peer, request))


def wait_for_reply(state: State, leader: Leader, peer: NodeId, progress: Progress) -> None:
    """Count a heartbeat of waiting, once what was sent after the chunk has been answered; send it again after `patience`.

    A chunk is lost with its connection (`Transfer.send_again`), or when a full link drops it. A timeout proves neither: while
    the chunk, or what follows it on its way, is still in a queue, sending it again behind itself fills a slow link. The network's
    own queues can't be asked, so heartbeats with a new round number are sent behind the chunk (as for reads, BUG-44).
    """
    transfer = progress.transfer
    assert transfer is not None
    if state.snapshots.has_unsent(peer):
        transfer.probe_round = transfer.heartbeats_waited = 0
        return
    if not transfer.probe_round:
        leader.round += 1
        transfer.probe_round = leader.round
        return
    if progress.acknowledged_round < transfer.probe_round:
        return
    transfer.heartbeats_waited += 1
    if transfer.heartbeats_waited * state.heartbeat_s >= transfer.patience * state.election_min_s:
        transfer.is_due = True
        transfer.patience = min(2 * transfer.patience, MOST_PATIENCE)


def on_piece_missing(state: State, peer: NodeId, snapshot: SnapshotMeta) -> None:
    """Send the newest snapshot in place of one whose file is truncated or missing; if that is the newest, request another."""
    leader = state.role
    if not isinstance(leader, Leader) or peer not in leader.progress:
        return
    progress = leader.progress[peer]
    if progress.transfer is not None and progress.transfer.snapshot == snapshot:
        _begin_with_another(state, peer, progress)


def _begin_with_another(state: State, peer: NodeId, progress: Progress) -> None:
    """Send another snapshot than this one, whose file is missing or damaged, or request one."""
    transfer = progress.transfer
    assert transfer is not None
    if state.snapshot != transfer.snapshot:
        begin_transfer(state, peer, progress)
        return
    # Without new entries the next snapshot has the same index: another file of the same state.
    state.snapshots.unreadable = state.snapshot
    if not state.snapshots.is_taking:
        state.snapshots.is_asked = True


def on_snapshot_reply(state: State, message: SnapshotReply, now: float) -> None:
    """Send the chunk after what is on the follower's disk; continue with entries when it has the whole state."""
    progress = state.progress_of(message.term, message.follower_id, now)
    if progress is None:
        return
    leader = state.role
    assert isinstance(leader, Leader)
    progress.heard_at = now
    transfer = progress.transfer
    if transfer is None or transfer.snapshot.last_index != message.last_index:
        return  # about another snapshot, or about one that it has
    if message.installed:
        _announce_sent(state, message.follower_id, transfer.snapshot, done=True)
        progress.resume(message.last_index)
        commit.advance_commit(state, leader)
    elif message.bytes_stored == 0 and transfer.offset and transfer.snapshot != state.snapshot:
        # It starts over, so send the newest one: a damaged file would be sent for ever, and the log kept for it.
        begin_transfer(state, message.follower_id, progress)
    elif message.bytes_stored != transfer.offset and message.bytes_stored <= transfer.snapshot.size:
        # A reply with the offset already known is an old one: the chunk after it is in flight.
        transfer.offset, transfer.is_due, transfer.patience = message.bytes_stored, True, 1
        if message.bytes_stored == 0:
            transfer.restarts += 1
            # For the same reason. A restarted follower starts over, too; if it happens twice, the file is probably damaged.
            if state.last_applied > transfer.snapshot.last_index or transfer.restarts > 1:
                _begin_with_another(state, message.follower_id, progress)


def _announce_sent(state: State, peer: NodeId, snapshot: SnapshotMeta, *, done: bool) -> None:
    state.announce(SnapshotSent(peer=peer, term=state.current_term, index=snapshot.last_index, size=snapshot.size, done=done))
