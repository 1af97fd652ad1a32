"""Leader election: pre-vote, votes, and the conditions for granting them (Raft 5.2, 5.4.1; Ongaro 4.2.3, 9.6).

A voter with a live leader refuses, so a node that was partitioned does not depose it when it reconnects. A refusal carries the
voter's own term, so that a node with an old term adopts it and can win later (BUG-10).
"""

from typing import Final

from bargetrio.raft import membership
from bargetrio.raft.facts import (
    PreVoteGranted,
    PreVoteRefused,
    PreVoteRequested,
    VoteGranted,
    VoteRefused,
    VoteRequested,
)
from bargetrio.raft.messages import NodeId, PreVoteReply, PreVoteRequest, VoteReply, VoteRequest
from bargetrio.raft.quorum import is_majority
from bargetrio.raft.roles import UNTIL_SYNCED, Candidate, Follower, Leader, PreCandidate
from bargetrio.raft.state import State

SLOWEST_S: Final = 10.0
"""Seconds: an election's time grows with the candidate's last sync up to this one, so that one hang costs no minutes."""
DIFFERS_S: Final = 4 * SLOWEST_S
"""Seconds for which a peer's log is taken to differ from this one's since it said so: as long as an election may last."""


def on_election_deadline(state: State, role: Follower | PreCandidate | Candidate, now: float) -> None:
    """Ask again for the votes that a candidate lacks, as long as its time lasts (Raft 5.1); else ask for pre-votes.

    With slow disks a candidate's time is long, and perhaps no other node can win: a lost request must not cost all of it.
    """
    if isinstance(role, Candidate) and now < role.time_ends_at:
        role.election_deadline = min(state.new_election_deadline(now), role.time_ends_at)
        _ask_for_votes(state, role)
    else:
        start_pre_vote(state, now)


def start_pre_vote(state: State, now: float) -> None:
    """Ask every peer whether it would vote for this node in the next term (Ongaro 9.6); a node that may not vote does not ask."""
    if not state.may_vote:
        if not isinstance(state.role, Follower):
            state.become_follower(now, term=state.current_term, leader_id=None, reason="its disk is not one of the cluster's")
        assert isinstance(state.role, Follower)
        state.role.election_deadline = state.new_election_deadline(now)
        return
    assert not isinstance(state.role, Leader)
    if waits_for_disk(state, now):
        state.role.election_deadline = UNTIL_SYNCED
        return
    reason = {
        "follower": "heard no leader in time",
        "pre_candidate": "too few answers, asks again",
        "candidate": "no majority in time, asks again",
    }[state.role.name]
    role = state.become_pre_candidate(now, reason)
    term = state.current_term + 1
    for peer in state.peers:
        last_log_index, last_log_term = state.log.last_index, state.log.last_term
        state.announce(PreVoteRequested(peer=peer, term=term, last_log_index=last_log_index, last_log_term=last_log_term))
        state.send(
            peer,
            PreVoteRequest(term=term, candidate_id=state.node_id, last_log_index=last_log_index, last_log_term=last_log_term),
        )
    _maybe_start_election(state, role, now)


def start_election(state: State, now: float, reason: str, *, transfers: bool = False) -> None:
    """Begin a new term with a vote for this node, and ask the others for theirs (Raft 5.2)."""
    candidate = state.become_candidate(now, reason)
    candidate.transfers = transfers
    _ask_for_votes(state, candidate)


def waits_for_disk(state: State, now: float) -> bool:
    """Return whether this node must not stand for election yet: its term or vote, or an older write, is not synced."""
    return not state.durability.hard_state_is_durable or state.durability.write_age_s(now) > state.election_max_s


def start_timer(state: State, role: Follower | PreCandidate | Candidate, now: float) -> None:
    """Start an election timer that waited for the disk, once term and vote are on it.

    A candidate's time, and a voter's, begins when the vote is on the disk: otherwise no election could succeed where a sync takes
    longer than an election timeout. Other disks are probably as slow as this one, so that time covers two syncs (a voter's own
    and one in flight before it), or the time that votes took to arrive in the last elections.
    """
    durability = state.durability
    if not durability.hard_state_is_durable:
        return
    timeout_s = wait_s = state.new_election_deadline(now) - now
    if state.voted_for is not None and durability.hard_state_number == durability.synced_number:
        expected_s = max(2 * durability.last_write_s, state.vote_wait_s)
        wait_s *= max(1.0, min(expected_s, 2 * SLOWEST_S) / state.election_min_s)
    role.election_deadline = now + wait_s
    if isinstance(role, Candidate):
        role.election_deadline, role.time_ends_at = now + timeout_s, now + wait_s
        state.votes_asked_at = now
        state.vote_wait_s /= 2  # raised again if votes still take as long


def on_pre_vote_request(state: State, message: PreVoteRequest, now: float) -> None:
    """Answer whether this node would vote for the sender; neither term nor vote changes (Ongaro 9.6)."""
    reason = _why_no_pre_vote(state, message, now)
    if reason:
        state.announce(PreVoteRefused(peer=message.candidate_id, term=message.term, reason=reason))
        reply = PreVoteReply(term=state.current_term, voter_id=state.node_id, granted=False, reason=reason)
    else:
        state.announce(PreVoteGranted(peer=message.candidate_id, term=message.term))
        reply = PreVoteReply(term=message.term, voter_id=state.node_id, granted=True)
    state.send(message.candidate_id, reply)


def on_pre_vote_reply(state: State, message: PreVoteReply, now: float) -> None:
    """Count a grant for the requested term; adopt a higher term from a refusal (BUG-10)."""
    if not message.granted:
        state.adopt_higher_term(message.term, message.voter_id, now)
        return
    role = state.role
    if isinstance(role, PreCandidate) and message.term == state.current_term + 1:
        role.granted.add(message.voter_id)
        _maybe_start_election(state, role, now)


def on_vote_request(state: State, message: VoteRequest, now: float) -> None:
    """Grant the one vote of the term, or refuse with the reason (Raft 5.2, 5.4.1)."""
    if message.term > state.current_term and (message.transfers or not state.has_live_leader(now)):
        state.become_follower(
            now, term=message.term, leader_id=None, reason=f"node {message.candidate_id} asks for votes in a higher term"
        )
    reason = _why_no_vote(state, message, now)
    if message.term == state.current_term:
        _expect_split_votes(state)
    if reason:
        state.announce(VoteRefused(peer=message.candidate_id, term=message.term, reason=reason))
        state.send(
            message.candidate_id,
            VoteReply(
                term=state.current_term,
                voter_id=state.node_id,
                granted=False,
                reason=reason,
                has_given_up=state.voted_for == state.node_id and not _counts_votes(state),
            ),
        )
        return
    if state.voted_for is None:
        _vote(state, message, now)
    # Else the request is repeated: same answer, but the timer is not restarted, as the candidate may be receiving no replies.
    known = max(state.commit_index, state.membership.settled_index)
    reply = VoteReply(term=message.term, voter_id=state.node_id, granted=True, commit_index=known)
    state.send(message.candidate_id, reply)


def _counts_votes(state: State) -> bool:
    """Return whether this node has stood for election in this term, and not been restarted since: votes for it still count."""
    role = state.role
    return isinstance(role, Candidate | Leader) or (isinstance(role, PreCandidate) and bool(role.votes))


def _expect_split_votes(state: State) -> None:
    """As a candidate that knows of another one in its term: wait for one election timeout only, however slow disks are.

    The votes may be split, and with a member down neither may win: both would wait long (Raft 5.2). One that was restarted since
    asks for no votes any more: its refusal states that it has given up (OWN-185). That a voter has voted for a candidate, or
    that another one's time is over, is no reason: with slow disks one of them is about to win.
    """
    if isinstance(state.role, Candidate):
        state.role.time_ends_at = min(state.role.time_ends_at, state.role.election_deadline)


def _vote(state: State, message: VoteRequest, now: float) -> None:
    if not isinstance(state.role, Follower):  # a pre-candidate has not voted: it grants its vote to the first that asks
        state.become_follower(now, term=message.term, leader_id=None, reason=f"votes for node {message.candidate_id}")
    assert isinstance(state.role, Follower)
    state.set_term(message.term, message.candidate_id, "")
    state.role.election_deadline = UNTIL_SYNCED  # BUG-09: a granted vote restarts the timer, once it is synced
    state.announce(VoteGranted(peer=message.candidate_id, term=message.term))


def on_vote_reply(state: State, message: VoteReply, now: float) -> None:
    """Count each voter once, and only votes of this election (Raft 5.2, BUG-06)."""
    if state.adopt_higher_term(message.term, message.voter_id, now):
        return
    role = state.role
    if message.term != state.current_term:
        return
    if not message.granted:
        if message.has_given_up:
            _expect_split_votes(state)
        return
    state.membership.known_commit = max(state.membership.known_commit, message.commit_index)
    state.vote_wait_s = max(state.vote_wait_s, now - state.votes_asked_at)
    if isinstance(role, Candidate):
        role.granted.add(message.voter_id)
        _maybe_become_leader(state, role.granted, now)
    elif isinstance(role, PreCandidate) and role.votes:
        # It has begun a pre-vote, but not the next term: votes of this term still count.
        role.votes.add(message.voter_id)
        _maybe_become_leader(state, role.votes, now)


def count_own_vote(state: State, role: Candidate, now: float) -> None:
    """Count the candidate's own vote like any other, once it is on the disk (Raft 5.2, BUG-50)."""
    if state.durability.hard_state_is_durable:
        role.granted.add(state.node_id)
        _maybe_become_leader(state, role.granted, now)


def _maybe_start_election(state: State, role: PreCandidate, now: float) -> None:
    if not is_majority(len(_votes_with_equal_logs(state, role.granted, now)), len(state.members)):
        return
    start_election(state, now, f"would be voted for by {_names(role.granted)}")


def _ask_for_votes(state: State, role: Candidate) -> None:
    for peer in state.peers:
        if peer in role.granted:
            continue
        last_log_index, last_log_term = state.log.last_index, state.log.last_term
        state.announce(
            VoteRequested(peer=peer, term=state.current_term, last_log_index=last_log_index, last_log_term=last_log_term)
        )
        state.send(
            peer,
            VoteRequest(
                term=state.current_term,
                candidate_id=state.node_id,
                last_log_index=last_log_index,
                last_log_term=last_log_term,
                transfers=role.transfers,
            ),
        )


def _maybe_become_leader(state: State, votes: set[NodeId], now: float) -> None:
    if is_majority(len(_votes_with_equal_logs(state, votes, now)), len(state.members)):
        membership.learn_commit(state)
        state.become_leader(now, f"has the votes of {_names(votes)}")


def _votes_with_equal_logs(state: State, votes: set[NodeId], now: float) -> set[NodeId]:
    """Return the votes of peers whose logs are not known to differ from this one's: the others would acknowledge no entry.

    A leader elected with their votes steps down before slow disks have stored its term on a majority, and nothing would ever be
    committed (OWN-152). A candidate may require what a leader needs to commit: no useful election is lost. What a store reported
    says nothing of another one with which its node was readmitted since (OWN-173).
    """
    reported = state.membership.differed.items()
    differing = {peer for peer, (store, at) in reported if now - at <= DIFFERS_S and store == membership.store_of(state, peer)}
    return votes - differing


def _why_no_pre_vote(state: State, message: PreVoteRequest, now: float) -> str:
    if message.term <= state.current_term:
        return f"term {message.term} is not above ours, {state.current_term}"
    return _abstains(state) or _leader_is_alive(state, now) or _log_is_behind(state, message)


def _why_no_vote(state: State, message: VoteRequest, now: float) -> str:
    if message.term < state.current_term:
        return f"term {message.term} is old, ours is {state.current_term}"
    if message.term > state.current_term:  # the term was not adopted: there is a live leader (Ongaro 4.2.3)
        return _leader_is_alive(state, now)
    if state.voted_for not in (None, message.candidate_id):
        return f"already voted for node {state.voted_for}"
    return _abstains(state) or _log_is_behind(state, message)


def _abstains(state: State) -> str:
    return "" if state.may_vote else f"abstains: {membership.why_abstains(state)}"


def _leader_is_alive(state: State, now: float) -> str:
    if not state.has_live_leader(now):
        return ""
    return "leads itself" if state.leader_id == state.node_id else f"hears leader {state.leader_id}"


def _log_is_behind(state: State, message: VoteRequest | PreVoteRequest) -> str:
    log = state.log
    if log.is_behind(message.last_log_index, message.last_log_term):
        return ""
    theirs = f"{message.last_log_index} in term {message.last_log_term}"
    return f"its log ends at {theirs}, ours at {log.last_index} in term {log.last_term}"


def _names(granted: set[int]) -> str:
    return ", ".join(f"node {node_id}" for node_id in sorted(granted))
