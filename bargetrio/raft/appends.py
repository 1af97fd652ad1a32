"""Sending AppendEntries to one follower (Figure 2)."""

from bargetrio.raft.facts import AppendSent
from bargetrio.raft.messages import AppendRequest, Index, NodeId
from bargetrio.raft.progress import Progress
from bargetrio.raft.roles import Leader
from bargetrio.raft.state import State


def send_empty(state: State, leader: Leader, peer: NodeId, progress: Progress) -> None:
    """Send an append without entries: a heartbeat, in state `probe` also the probe.

    Where the log begins after the follower's next index, `prev_log_index` is 0, which no follower refuses; or the log's start, to
    see whether the follower has lost what it acknowledged.
    """
    progress.probe_sent = True
    prev_log_index = progress.next_index - 1
    if prev_log_index < state.log.start_index:
        prev_log_index = state.log.start_index if progress.may_lack_acknowledged else 0
    send_append(state, leader, peer, prev_log_index, prev_log_index)


def send_append(state: State, leader: Leader, peer: NodeId, prev_log_index: Index, last: Index) -> None:
    count = last - prev_log_index
    request = leader.last_request
    newest = state.configuration
    if (
        request is None
        or request.prev_log_index != prev_log_index
        or len(request.entries) != count
        or request.leader_commit != state.commit_index
        or request.round != leader.round
    ):
        request = leader.last_request = AppendRequest(
            term=state.current_term,
            leader_id=state.node_id,
            prev_log_index=prev_log_index,
            prev_log_term=state.log.term(prev_log_index) if prev_log_index else 0,
            entries=state.log.slice(prev_log_index + 1, last) if count else (),
            leader_commit=state.commit_index,
            round=leader.round,
            prev_digest=state.log.digest(prev_log_index),
            configurations=()
            if newest is None or newest.index <= prev_log_index
            else tuple([each.index for each in state.membership.configurations if prev_log_index < each.index <= last]),
        )
    state.announce(
        AppendSent(
            peer=peer,
            term=request.term,
            index=last,
            first_index=prev_log_index + 1,
            first_term=request.entries[0].term if count else 0,
            last_term=request.entries[-1].term if count else 0,
            count=count,
            leader_commit=request.leader_commit,
            first_commands=state.log.commands(prev_log_index + 1, last) if count else (),
            digest=state.log.digest(last),
        )
    )
    state.send(peer, request)
