"""Log replication (Raft 5.3, 5.4.2; Ongaro 10.2).

The leader sends while its own write is in flight; a follower replies when its write is done; an entry of the leader's own term
that is on a majority of disks is committed, with everything before it.
"""

from typing import Final

from bargetrio.raft import appends, commit, demotion, membership, readmission, snapshots, transfer
from bargetrio.raft.errors import ConsensusViolation
from bargetrio.raft.facts import AppendAccepted, AppendRejected, LogTruncated
from bargetrio.raft.messages import AppendReply, AppendRequest, NodeId, StillReceiving
from bargetrio.raft.progress import Progress
from bargetrio.raft.quorum import is_majority
from bargetrio.raft.roles import Follower, Leader
from bargetrio.raft.state import State

SLOW_WRITE_S: Final = 2.0
"""Seconds: a leader whose write runs for longer steps down if a majority of the others has synced those entries."""


# -- the leader's side ---------------------------------------------------------------------------------------------------


def on_heartbeat_deadline(state: State, leader: Leader, now: float) -> None:
    """Step down without a quorum (Ongaro 6.2) or with a disk that hangs, else send every follower a heartbeat (Raft 5.2)."""
    if leader.heard_from_majority(now, state.election_max_s):
        reason = why_others_lead_better(state, leader, now)
    else:
        reason = f"heard no majority for {round(state.election_max_s * 1000)} ms"
    if reason:
        state.become_follower(now, term=state.current_term, leader_id=None, reason=reason)
        return
    leader.heartbeat_deadline = now + state.heartbeat_s
    for peer, progress in leader.progress.items():
        if progress.demotion:
            demotion.send_demotion(state, peer, progress)
        if progress.demotion != "lost":
            appends.send_empty(state, leader, peer, progress)
        if progress.transfer is not None and not progress.may_lack_acknowledged:
            snapshots.wait_for_reply(state, leader, peer, progress)
    if state.membership.seen:
        readmission.readmit_replaced(state, now)
    transfer.on_heartbeat_deadline(state, leader, now)


def why_others_lead_better(state: State, leader: Leader, now: float) -> str:
    """Return why this leader should step down: its disk hangs, and a majority of the others has synced those entries; else "".

    They can commit and elect a leader without it. If their disks are as slow, another leader would be no better.
    """
    age_s = state.durability.write_age_s(now)
    if age_s <= SLOW_WRITE_S:
        return ""
    index = state.durability.in_flight_index
    holders = [peer for peer, progress in leader.progress.items() if progress.is_counted and progress.match_index >= index]
    if not is_majority(len(holders), len(state.members)):
        return ""
    return f"its disk has not ended a write for {age_s:.1f} s, nodes {', '.join(map(str, holders))} have synced entry {index}"


def send_entries(state: State, leader: Leader) -> None:
    """Send every follower the entries that it lacks, as far as its window allows; probe those whose log is not known yet."""
    last_index, pipeline = state.log.last_index, state.pipeline
    leader.has_lagging_follower = False
    for peer, progress in leader.progress.items():
        if progress.next_index > last_index and progress.state == "replicate":
            continue  # the usual case: up to date until a refusal or a new entry
        if progress.demotion:
            continue
        leader.has_lagging_follower = True
        if progress.state != "snapshot" and progress.next_index <= state.log.start_index:
            snapshots.begin_transfer(state, peer, progress)
        if progress.state == "snapshot" and not progress.may_lack_acknowledged:
            snapshots.send_chunk(state, peer, progress)
            continue
        if progress.state != "replicate":
            if not progress.probe_sent:
                appends.send_empty(state, leader, peer, progress)
            continue
        window, most, most_bytes = pipeline.window_appends, pipeline.batch_entries, pipeline.window_bytes
        # Entries in flight do not count as lag: on a link with a long round trip there are many.
        if last_index - progress.next_index >= pipeline.far_behind and progress.is_far_behind(last_index):
            window, most = progress.window_to_catch_up(last_index, pipeline), pipeline.catch_up_entries
        while progress.next_index <= last_index and len(progress.in_flight) < window and progress.in_flight_bytes < most_bytes:
            prev_log_index = progress.next_index - 1
            last = state.log.batch_end(progress.next_index, most, pipeline.batch_bytes)
            size = state.log.bytes_between(prev_log_index, last)
            progress.sent(last, size)
            appends.send_append(state, leader, peer, prev_log_index, last)


def on_append_reply(state: State, message: AppendReply, now: float) -> None:
    """Update the follower's progress, then the commit index (Raft 5.3)."""
    progress = state.progress_of(message.term, message.follower_id, now)
    if progress is None:
        return
    leader = state.role
    assert isinstance(leader, Leader)
    progress.heard_at = now
    if message.round > progress.acknowledged_round:
        progress.acknowledged_round = min(message.round, leader.round)
    if message.success:
        known = progress.match_index
        if message.match_index != known or progress.state != "replicate":  # else nothing new: a reply to a heartbeat, as most are
            _on_success(state, progress, message)
            if progress.match_index != known:
                commit.advance_commit(state, leader)
    else:
        leader.has_lagging_follower = True
        if progress.acknowledged_index and demotion.suspect(state, leader, progress, message):
            return
        _on_refusal(state, progress, message)


def on_still_receiving(state: State, message: StillReceiving, now: float) -> None:
    """Count the follower for check-quorum (Ongaro 6.2): a long message to it is arriving, so a snapshot's chunk is not lost."""
    progress = state.progress_of(message.term, message.follower_id, now)
    if progress is None:
        return
    progress.heard_at = now
    if progress.transfer is not None:
        progress.transfer.heartbeats_waited = 0


def _on_success(state: State, progress: Progress, message: AppendReply) -> None:
    if message.match_index > state.log.last_index:
        return  # not a reply to anything that was sent
    if progress.demotion:
        return
    if progress.suspect_round and message.round >= progress.suspect_round and message.match_index >= progress.match_index:
        progress.suspect_round = 0
    if message.match_index > progress.match_index:  # it never decreases (BUG-18)
        progress.match_index = message.match_index
        progress.suspect_round = 0  # the probe was sent before this acknowledgement: the reply to it may be older
    progress.forget_acknowledged()
    match progress.state:
        case "probe":
            progress.become_replicate(max(progress.match_index, min(message.prev_log_index, state.log.last_index)) + 1)
        case "replicate":
            if progress.next_index <= progress.match_index:
                progress.next_index = progress.match_index + 1
        case "snapshot":
            if progress.match_index >= state.log.start_index:  # entries that were in flight were enough
                progress.resume(progress.match_index)


def _on_refusal(state: State, progress: Progress, message: AppendReply) -> None:
    """Decrease `next_index` to where the logs may agree: at most one probe per term (Raft 5.3, the end)."""
    progress.refused_round = max(progress.refused_round, message.round)
    if message.prev_log_index <= progress.match_index or progress.state == "snapshot":
        return  # an old refusal, overtaken by an acceptance or by a snapshot
    if progress.state == "probe" and message.prev_log_index != progress.next_index - 1:
        return  # not a reply to the present probe
    agree = state.log.last_index_within(min(message.hint_index, message.prev_log_index - 1), message.hint_term)
    progress.become_probe(max(agree, progress.match_index) + 1)


# -- the follower's side -------------------------------------------------------------------------------------------------


def on_append_request(state: State, message: AppendRequest, now: float) -> None:
    """Reject old terms, check the previous entry, delete conflicts, append, raise the commit index (Figure 2, AppendEntries)."""
    if message.term < state.current_term:
        # The reply's higher term makes a deposed leader step down, or lets a node with an old term catch up (BUG-10).
        _reject(state, message, f"term {message.term} is old, ours is {state.current_term}")
        return
    leader_id, prev_log_index = message.leader_id, message.prev_log_index
    follower = state.follow(message.term, leader_id, now)
    follower.leader_commit = message.leader_commit
    if not state.knows_first_commit:
        term_before, index = state.first_heard
        if message.term != term_before or message.leader_commit > index:
            state.knows_first_commit = message.term == term_before
            state.first_heard = message.term, message.leader_commit
    log, term = state.log, state.current_term
    if not log.holds(prev_log_index, message.prev_log_term):
        where = f"no entry {prev_log_index} of term {message.prev_log_term}"
        _reject(state, message, f"{where}: the log ends at {log.last_index}")
        return
    assert follower.leader_id == leader_id
    count = len(message.entries)
    covered = prev_log_index + count
    known = log.first_conflict(prev_log_index, message.entries) if count else 0
    digest = message.prev_digest
    if digest is not None and log.differs(prev_log_index, digest, message.entries[:known] if known else ()):
        # Same index and term, different logs (excluded by Raft 5.3): nothing of this append may be acknowledged.
        demotion.report_difference(state, leader_id, prev_log_index + known)
        return
    if known < count:
        _take_entries(state, message, known)
    state.announce(
        AppendAccepted(
            peer=leader_id,
            term=term,
            index=covered,
            first_index=prev_log_index + 1,
            first_term=message.entries[0].term if count else 0,
            last_term=message.entries[-1].term if count else 0,
            count=count,
            first_commands=log.commands(prev_log_index + 1, covered) if count else (),
            digest=log.digest(covered),
        )
    )
    # Only what this append covers is known to be the leader's log (BUG-17), and its commit may be ahead of it (BUG-28).
    commit.advance_commit_to(state, min(message.leader_commit, covered))
    # A heartbeat is answered at once, with what is on the disk by now; entries when they are on the disk.
    match_index = covered if count else min(covered, state.durability.durable_index)
    state.send(
        leader_id,
        AppendReply(
            term=term,
            follower_id=state.node_id,
            success=True,
            match_index=match_index,
            prev_log_index=prev_log_index,
            round=message.round,
        ),
        durable_to=match_index,
    )


def on_bytes(state: State, peer: NodeId, now: float) -> None:
    """Restart the election timer, as for a complete message of the leader (Raft 5.2), and reply once per heartbeat interval.

    Otherwise both ends would time out while a message takes longer than an election timeout to arrive.
    """
    role = state.role
    if type(role) is not Follower or role.leader_id != peer:
        return
    role.heard_leader_at = now
    role.election_deadline = state.new_election_deadline(now)
    if now - role.still_receiving_sent_at >= state.heartbeat_s:
        role.still_receiving_sent_at = now
        state.send(peer, StillReceiving(term=state.current_term, follower_id=state.node_id))


def _take_entries(state: State, message: AppendRequest, known: int) -> None:
    """Append new entries, after deleting conflicting ones (Raft 5.3)."""
    first_new = message.prev_log_index + known + 1
    if first_new <= state.log.last_index:
        if first_new <= state.commit_index:
            raise ConsensusViolation(
                f"node {message.leader_id} would overwrite entry {first_new}, but {state.commit_index} are committed here"
            )
        state.announce(LogTruncated(term=state.current_term, index=first_new, last_index=state.log.last_index))
        state.log.truncate(first_new)
        state.durability.queue_truncation(first_new, state.log.last_term, state.log.last_digest)
        membership.on_truncated(state, first_new)
    new = message.entries[known:]
    state.log.append(new)
    indices = message.configurations
    if indices:
        indices = tuple([index for index in indices if index >= first_new])
    size = state.log.bytes_between(first_new - 1, state.log.last_index)
    state.durability.queue_entries(first_new, list(new), state.log.last_digest, indices, size=size)
    if indices:
        membership.on_appended(state, new, first_new, indices)


def _reject(state: State, message: AppendRequest, reason: str) -> None:
    """Refuse, with a hint where the logs may agree; also in an old term, since the same leader may lead a later one."""
    hint_index = state.log.last_index_within(message.prev_log_index, message.prev_log_term)
    state.announce(AppendRejected(peer=message.leader_id, term=state.current_term, index=message.prev_log_index, reason=reason))
    state.send(
        message.leader_id,
        AppendReply(
            term=state.current_term,
            follower_id=state.node_id,
            success=False,
            prev_log_index=message.prev_log_index,
            hint_index=hint_index,
            hint_term=state.log.term(hint_index) if hint_index else 0,
            # Rounds are numbered anew in every term: the same leader must not take an old term's for one of this (OWN-11).
            round=message.round if message.term == state.current_term else 0,
        ),
    )
