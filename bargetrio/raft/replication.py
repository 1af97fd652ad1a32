"""How logs become equal and entries committed (5.3, 5.4.2; dissertation 10.2).

The leader sends while its own write runs; a follower answers when its write is done; an entry of the leader's own term that a
majority of disks holds is committed, and everything before it.
"""

from typing import TYPE_CHECKING, Final

from bargetrio.raft import membership, snapshots
from bargetrio.raft.errors import ConsensusViolation
from bargetrio.raft.facts import AppendAccepted, AppendRejected, AppendSent, LogTruncated
from bargetrio.raft.messages import AppendReply, AppendRequest, Index, NodeId, StillReceiving, Term
from bargetrio.raft.progress import Progress
from bargetrio.raft.quorum import committed_index, is_majority
from bargetrio.raft.roles import Follower, Leader

if TYPE_CHECKING:
    from bargetrio.raft.core import Core


SLOW_WRITE_S: Final = 2.0
"""Seconds: a leader whose write runs for longer steps down if a majority of the others has synced those entries."""


# -- the leader's side ---------------------------------------------------------------------------------------------------


def on_heartbeat_deadline(core: "Core", leader: Leader, now: float) -> None:
    """Step down without a quorum (6.2) or with a disk that hangs, else send every follower a heartbeat (5.2)."""
    if leader.heard_from_majority(now, core.election_max_s):
        reason = why_others_lead_better(core, leader, now)
    else:
        reason = f"heard no majority for {round(core.election_max_s * 1000)} ms"
    if reason:
        core.become_follower(now, term=core.current_term, leader_id=None, reason=reason)
        return
    leader.heartbeat_deadline = now + core.heartbeat_s
    for peer, progress in leader.progress.items():
        if progress.demotion:
            membership.tell_demotion(core, peer, progress)
        if progress.demotion != "lost":
            send_empty(core, leader, peer, progress)
        if progress.transfer is not None:
            snapshots.wait_for_reply(core, peer, progress.transfer)
    if core.seen:
        membership.readmit_replaced(core, now)


def why_others_lead_better(core: "Core", leader: Leader, now: float) -> str:
    """Return why this leader should step down: its disk hangs, and a majority of the others has synced those entries; else "".

    Those commit without it and can elect a leader. Where their disks are as slow, another leader would be no better.
    """
    age_s = core.durability.write_age_s(now)
    if age_s <= SLOW_WRITE_S:
        return ""
    index = core.durability.in_flight_index
    holders = [peer for peer, progress in leader.progress.items() if progress.is_counted and progress.match_index >= index]
    if not is_majority(len(holders), len(core.members)):
        return ""
    return f"its disk has not ended a write for {age_s:.1f} s, nodes {', '.join(map(str, holders))} have synced entry {index}"


def send_empty(core: "Core", leader: Leader, peer: NodeId, progress: Progress) -> None:
    """Send an append without entries: a heartbeat, in state `probe` also the probe; about index 0 if the log begins too late."""
    progress.probe_sent = True
    prev_log_index = progress.next_index - 1 if progress.next_index > core.log.start_index else 0
    _send_append(core, leader, peer, prev_log_index, prev_log_index)


def send_entries(core: "Core", leader: Leader) -> None:
    """Send every follower what it lacks, as far as its window allows; probe those whose log is not known yet."""
    last_index, pipeline = core.log.last_index, core.pipeline
    leader.may_lack = False
    for peer, progress in leader.progress.items():
        if progress.next_index > last_index and progress.state == "replicate":
            continue  # the usual case: it lacks nothing until a refusal or a new entry
        if progress.demotion:
            continue
        leader.may_lack = True
        if progress.state != "snapshot" and progress.next_index <= core.log.start_index:
            snapshots.begin_transfer(core, peer, progress)
        if progress.state == "snapshot":
            snapshots.send_chunk(core, peer, progress)
            continue
        if progress.state == "probe":
            if not progress.probe_sent:
                send_empty(core, leader, peer, progress)
            continue
        window, most, most_bytes = pipeline.window_appends, pipeline.batch_entries, pipeline.window_bytes
        # Entries in flight are no lag: on a link with a long round trip they may be many.
        if last_index - progress.next_index >= pipeline.far_behind and progress.is_far_behind(last_index):
            window, most = progress.window_to_catch_up(last_index, pipeline), pipeline.catch_up_entries
        while progress.next_index <= last_index and len(progress.in_flight) < window and progress.in_flight_bytes < most_bytes:
            prev_log_index = progress.next_index - 1
            last = core.log.batch_end(progress.next_index, most, pipeline.batch_bytes)
            size = core.log.bytes_between(prev_log_index, last)
            progress.sent(last, size)
            _send_append(core, leader, peer, prev_log_index, last)


def progress_of(core: "Core", term: Term, follower_id: NodeId, now: float) -> Progress | None:
    """Return the sender's progress if its answer is to this leader in this term, else None; step down for a higher term (5.1)."""
    leader = core.role
    if term != core.current_term or not isinstance(leader, Leader):
        core.obey_higher_term(term, follower_id, now)
        return None
    return leader.progress.get(follower_id)


def on_append_reply(core: "Core", message: AppendReply, now: float) -> None:
    """Move the follower's progress, then the commit index (5.3)."""
    progress = progress_of(core, message.term, message.follower_id, now)
    if progress is None:
        return
    leader = core.role
    assert isinstance(leader, Leader)
    progress.heard_at = now
    if message.round > progress.acknowledged_round:
        progress.acknowledged_round = min(message.round, leader.round)
    if message.success:
        known = progress.match_index
        if message.match_index != known or progress.state != "replicate":  # most answer heartbeats, and say nothing new
            _on_success(core, progress, message)
            if progress.match_index != known:
                advance_commit(core, leader)
    else:
        leader.may_lack = True
        if progress.match_index and membership.suspect(core, leader, progress, message):
            return
        _on_refusal(core, progress, message)


def on_still_receiving(core: "Core", message: StillReceiving, now: float) -> None:
    """Count the follower for check-quorum (6.2): a long message to it is arriving, so a snapshot's piece is not lost either."""
    progress = progress_of(core, message.term, message.follower_id, now)
    if progress is None:
        return
    progress.heard_at = now
    if progress.transfer is not None:
        progress.transfer.heartbeats_waited = 0


def advance_commit(core: "Core", leader: Leader) -> None:
    """Commit what a majority of disks holds, if it is of our own term (5.3, 5.4.2)."""
    matched = [progress.match_index if progress.is_counted else 0 for progress in leader.progress.values()]
    matched.append(core.durability.durable_index)
    index = committed_index(matched)
    # Counting copies commits only entries of our own term: Figure 8 shows an older one, on a majority, overwritten.
    if index >= leader.term_start:
        uncounted = core.uncounted
        core.advance_commit_to(index)
        if core.uncounted != uncounted:
            # Its readmission is committed: what it has acknowledged already counts, and no other acknowledgement need follow.
            advance_commit(core, leader)


def _on_success(core: "Core", progress: Progress, message: AppendReply) -> None:
    if message.match_index > core.log.last_index:
        return  # it answers nothing that was sent
    if progress.demotion:
        return
    if progress.suspect_round and message.round >= progress.suspect_round and message.match_index >= progress.match_index:
        progress.suspect_round = 0
    if message.match_index > progress.match_index:  # it only rises (BUG-18)
        progress.match_index = message.match_index
        progress.suspect_round = 0  # the probe was sent before this acknowledgement: its answer may be older
    progress.forget_acknowledged()
    match progress.state:
        case "probe":
            progress.become_replicate(max(progress.match_index, min(message.prev_log_index, core.log.last_index)) + 1)
        case "replicate":
            if progress.next_index <= progress.match_index:
                progress.next_index = progress.match_index + 1
        case "snapshot":
            if progress.match_index >= core.log.start_index:  # entries that were on their way were enough
                progress.resume(progress.match_index)


def _on_refusal(core: "Core", progress: Progress, message: AppendReply) -> None:
    """Go back to where the logs may agree: at most one probe per term (5.3, the end)."""
    if message.prev_log_index <= progress.match_index or progress.state == "snapshot":
        return  # an old refusal, overtaken by an acceptance or by a snapshot
    if progress.state == "probe" and message.prev_log_index != progress.next_index - 1:
        return  # not an answer to the present probe
    agree = core.log.last_index_within(min(message.hint_index, message.prev_log_index - 1), message.hint_term)
    progress.become_probe(max(agree, progress.match_index) + 1)


def _send_append(core: "Core", leader: Leader, peer: NodeId, prev_log_index: Index, last: Index) -> None:
    count = last - prev_log_index
    request = leader.last_request
    newest = core.configuration
    if (
        request is None
        or request.prev_log_index != prev_log_index
        or len(request.entries) != count
        or request.leader_commit != core.commit_index
        or request.round != leader.round
    ):
        request = leader.last_request = AppendRequest(
            term=core.current_term,
            leader_id=core.node_id,
            prev_log_index=prev_log_index,
            prev_log_term=core.log.term(prev_log_index) if prev_log_index else 0,
            entries=core.log.slice(prev_log_index + 1, last) if count else (),
            leader_commit=core.commit_index,
            round=leader.round,
            prev_digest=core.log.digest(prev_log_index),
            configurations=()
            if newest is None or newest.index <= prev_log_index
            else tuple([each.index for each in core.configurations if prev_log_index < each.index <= last]),
        )
    core.announce(
        AppendSent(
            peer=peer,
            term=request.term,
            index=last,
            first_index=prev_log_index + 1,
            first_term=request.entries[0].term if count else 0,
            last_term=request.entries[-1].term if count else 0,
            count=count,
            leader_commit=request.leader_commit,
            first_commands=core.log.commands(prev_log_index + 1, last) if count else (),
            digest=core.log.digest(last),
        )
    )
    core.send(peer, request)


# -- the follower's side -------------------------------------------------------------------------------------------------


def on_append_request(core: "Core", message: AppendRequest, now: float) -> None:
    """Reject old terms, check the previous entry, cut the conflict, append, move the commit (Figure 2, AppendEntries)."""
    if message.term < core.current_term:
        # The answer's higher term makes a deposed leader step down, or lets a node left behind catch up (BUG-10).
        _reject(core, message, f"term {message.term} is old, ours is {core.current_term}")
        return
    leader_id, prev_log_index = message.leader_id, message.prev_log_index
    follower = follow(core, message.term, leader_id, now)
    log, term = core.log, core.current_term
    if not log.holds(prev_log_index, message.prev_log_term):
        where = f"no entry {prev_log_index} of term {message.prev_log_term}"
        _reject(core, message, f"{where}: the log ends at {log.last_index}")
        return
    assert follower.leader_id == leader_id
    count = len(message.entries)
    covered = prev_log_index + count
    known = log.first_conflict(prev_log_index, message.entries) if count else 0
    digest = message.prev_digest
    if digest is not None and log.differs(prev_log_index, digest, message.entries[:known] if known else ()):
        # Same index and term, different logs (5.3 excludes it): nothing of this append may be acknowledged.
        membership.tell_difference(core, leader_id, prev_log_index + known)
        return
    if known < count:
        _take_entries(core, message, known)
    core.announce(
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
    core.advance_commit_to(min(message.leader_commit, covered))
    # A heartbeat is answered at once, for what the disk holds by now; entries when the disk holds them.
    match_index = covered if count else min(covered, core.durability.durable_index)
    core.send(
        leader_id,
        AppendReply(
            term=term,
            follower_id=core.node_id,
            success=True,
            match_index=match_index,
            prev_log_index=prev_log_index,
            round=message.round,
        ),
        durable_to=match_index,
    )


def follow(core: "Core", term: Term, leader_id: NodeId, now: float) -> Follower:
    """Follow the leader of this term and restart the election timer, even if the log check fails (BUG-09).

    Raises ConsensusViolation if this node leads that term itself (5.2).
    """
    role = core.role
    if isinstance(role, Leader) and term == core.current_term:
        raise ConsensusViolation(f"node {leader_id} claims to lead term {term}, which this node leads")
    if term > core.current_term or not isinstance(role, Follower) or role.leader_id != leader_id:
        core.become_follower(now, term=term, leader_id=leader_id, reason=f"node {leader_id} leads term {term}")
        role = core.role
    assert isinstance(role, Follower)
    role.heard_leader_at = now
    role.election_deadline = core.new_election_deadline(now)
    return role


def on_bytes(core: "Core", peer: NodeId, now: float) -> None:
    """Restart the election timer, as for a complete message of the leader (5.2), and answer once a heartbeat interval.

    A message that takes longer to cross a link than an election timeout would otherwise be taken for silence at both ends.
    """
    role = core.role
    if type(role) is not Follower or role.leader_id != peer:
        return
    role.heard_leader_at = now
    role.election_deadline = core.new_election_deadline(now)
    if now - role.told_leader_at >= core.heartbeat_s:
        role.told_leader_at = now
        core.send(peer, StillReceiving(term=core.current_term, follower_id=core.node_id))


def _take_entries(core: "Core", message: AppendRequest, known: int) -> None:
    """Append what is new, after cutting what conflicts (5.3)."""
    first_new = message.prev_log_index + known + 1
    if first_new <= core.log.last_index:
        if first_new <= core.commit_index:
            raise ConsensusViolation(
                f"node {message.leader_id} would overwrite entry {first_new}, but {core.commit_index} are committed here"
            )
        core.announce(LogTruncated(term=core.current_term, index=first_new, last_index=core.log.last_index))
        core.log.truncate(first_new)
        core.durability.remember_truncation(first_new, core.log.last_term, core.log.last_digest)
        membership.on_truncated(core, first_new)
    new = message.entries[known:]
    core.log.append(new)
    indices = message.configurations
    if indices:
        indices = tuple([index for index in indices if index >= first_new])
    size = core.log.bytes_between(first_new - 1, core.log.last_index)
    core.durability.remember_entries(first_new, list(new), core.log.last_digest, indices, size=size)
    if indices:
        membership.on_appended(core, new, first_new, indices)


def _reject(core: "Core", message: AppendRequest, reason: str) -> None:
    """Refuse, with a hint where the logs may agree; also to an old term, since the same leader may lead a later one."""
    hint_index = core.log.last_index_within(message.prev_log_index, message.prev_log_term)
    core.announce(AppendRejected(peer=message.leader_id, term=core.current_term, index=message.prev_log_index, reason=reason))
    core.send(
        message.leader_id,
        AppendReply(
            term=core.current_term,
            follower_id=core.node_id,
            success=False,
            prev_log_index=message.prev_log_index,
            hint_index=hint_index,
            hint_term=core.log.term(hint_index) if hint_index else 0,
            # Rounds are counted anew in every term: an old term's says nothing to the same leader in this one (OWN-11).
            round=message.round if message.term == core.current_term else 0,
        ),
    )
