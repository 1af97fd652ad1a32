"""How a leader is chosen: pre-vote, votes, and who may have one (5.2, 5.4.1; dissertation 4.2.3, 9.6).

A voter that hears a leader refuses, so a node that was cut off cannot depose anybody when it comes back; a refusal carries the
voter's own term, so that a node left behind learns it and can win later (BUG-10).
"""

from typing import TYPE_CHECKING, Final

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
from bargetrio.raft.roles import DISK_DECIDES, Candidate, Follower, Leader, PreCandidate

if TYPE_CHECKING:
    from bargetrio.raft.core import Core

SLOWEST_S: Final = 10.0
"""Seconds: an election's time grows with the candidate's last sync up to this one, so that one hang costs no minutes."""


def on_election_deadline(core: "Core", role: Follower | PreCandidate | Candidate, now: float) -> None:
    """Ask again for the votes that a candidate lacks, as long as its time lasts (5.1); else ask for pre-votes.

    Where disks are slow a candidate's time is long, and nobody else may be able to win: a lost request must not cost all of it.
    """
    if isinstance(role, Candidate) and now < role.time_ends_at:
        role.election_deadline = min(core.new_election_deadline(now), role.time_ends_at)
        _ask_for_votes(core, role)
    else:
        start_pre_vote(core, now)


def start_pre_vote(core: "Core", now: float) -> None:
    """Ask every peer whether it would vote for this node in the next term (9.6); a node that may not vote does not ask."""
    if not core.may_vote:
        if not isinstance(core.role, Follower):
            core.become_follower(now, term=core.current_term, leader_id=None, reason="its disk is not one of the cluster's")
        assert isinstance(core.role, Follower)
        core.role.election_deadline = core.new_election_deadline(now)
        return
    assert not isinstance(core.role, Leader)
    if waits_for_disk(core, now):
        core.role.election_deadline = DISK_DECIDES
        return
    reason = {
        "follower": "heard no leader in time",
        "pre_candidate": "too few answers, asks again",
        "candidate": "no majority in time, asks again",
    }[core.role.name]
    role = core.become_pre_candidate(now, reason)
    term = core.current_term + 1
    for peer in core.peers:
        last_log_index, last_log_term = core.log.last_index, core.log.last_term
        core.announce(PreVoteRequested(peer=peer, term=term, last_log_index=last_log_index, last_log_term=last_log_term))
        core.send(
            peer,
            PreVoteRequest(term=term, candidate_id=core.node_id, last_log_index=last_log_index, last_log_term=last_log_term),
        )
    _maybe_start_election(core, role, now)


def waits_for_disk(core: "Core", now: float) -> bool:
    """Return whether this node must not stand for election yet: its term or vote, or an older write, is not synced."""
    return not core.durability.hard_state_is_durable or core.durability.write_age_s(now) > core.election_max_s


def start_timer(core: "Core", role: Follower | PreCandidate | Candidate, now: float) -> None:
    """Start an election timer that waited for the disk, once term and vote are on it.

    A candidate's time, and a voter's, begins when the vote is on the disk: otherwise an election could never end where a sync
    takes longer than an election timeout. The others' disks are likely to be as slow as this one, so that time covers two syncs,
    a voter's own and one under way before it, or what votes took to arrive in the last elections.
    """
    durability = core.durability
    if not durability.hard_state_is_durable:
        return
    timeout_s = wait_s = core.new_election_deadline(now) - now
    if core.voted_for is not None and durability.hard_state_number == durability.synced_number:
        expected_s = max(2 * durability.last_write_s, core.vote_wait_s)
        wait_s *= max(1.0, min(expected_s, 2 * SLOWEST_S) / core.election_min_s)
    role.election_deadline = now + wait_s
    if isinstance(role, Candidate):
        role.election_deadline, role.time_ends_at = now + timeout_s, now + wait_s
        core.votes_asked_at = now
        core.vote_wait_s /= 2  # votes that take as long again raise it


def on_pre_vote_request(core: "Core", message: PreVoteRequest, now: float) -> None:
    """Answer whether this node would vote for the sender; neither term nor vote changes (9.6)."""
    reason = _why_no_pre_vote(core, message, now)
    if reason:
        core.announce(PreVoteRefused(peer=message.candidate_id, term=message.term, reason=reason))
        reply = PreVoteReply(term=core.current_term, voter_id=core.node_id, granted=False, reason=reason)
    else:
        core.announce(PreVoteGranted(peer=message.candidate_id, term=message.term))
        reply = PreVoteReply(term=message.term, voter_id=core.node_id, granted=True)
    core.send(message.candidate_id, reply)


def on_pre_vote_reply(core: "Core", message: PreVoteReply, now: float) -> None:
    """Count a grant for the term that was asked about; learn a higher term from a refusal (BUG-10)."""
    if not message.granted:
        core.obey_higher_term(message.term, message.voter_id, now)
        return
    role = core.role
    if isinstance(role, PreCandidate) and message.term == core.current_term + 1:
        role.granted.add(message.voter_id)
        _maybe_start_election(core, role, now)


def on_vote_request(core: "Core", message: VoteRequest, now: float) -> None:
    """Grant the one vote of the term, or refuse with the reason (5.2, 5.4.1)."""
    if message.term > core.current_term and not core.hears_a_leader(now):
        core.become_follower(
            now, term=message.term, leader_id=None, reason=f"node {message.candidate_id} asks for votes in a higher term"
        )
    reason = _why_no_vote(core, message, now)
    if reason:
        core.announce(VoteRefused(peer=message.candidate_id, term=message.term, reason=reason))
        core.send(
            message.candidate_id,
            VoteReply(term=core.current_term, voter_id=core.node_id, granted=False, reason=reason),
        )
        return
    if core.voted_for is None:
        _vote(core, message, now)
    # Else it is asked again, and says the same: the candidate has been given its time, and may be one that hears no answers.
    known = max(core.commit_index, core.settled_index)
    reply = VoteReply(term=message.term, voter_id=core.node_id, granted=True, commit_index=known)
    core.send(message.candidate_id, reply)


def _vote(core: "Core", message: VoteRequest, now: float) -> None:
    if not isinstance(core.role, Follower):  # a pre-candidate has no vote of its own yet: it helps who came first
        core.become_follower(now, term=message.term, leader_id=None, reason=f"votes for node {message.candidate_id}")
    assert isinstance(core.role, Follower)
    core.set_term(message.term, message.candidate_id, "")
    core.role.election_deadline = DISK_DECIDES  # BUG-09: a granted vote restarts the timer, once it is synced
    core.announce(VoteGranted(peer=message.candidate_id, term=message.term))


def on_vote_reply(core: "Core", message: VoteReply, now: float) -> None:
    """Count each voter once, and only votes of this very election (5.2, BUG-06)."""
    if core.obey_higher_term(message.term, message.voter_id, now):
        return
    role = core.role
    if not message.granted or message.term != core.current_term:
        return
    core.known_commit = max(core.known_commit, message.commit_index)
    core.vote_wait_s = max(core.vote_wait_s, now - core.votes_asked_at)
    if isinstance(role, Candidate):
        role.granted.add(message.voter_id)
        _maybe_take_office(core, role.granted, now)
    elif isinstance(role, PreCandidate) and role.votes:
        # It has begun a pre-vote and not the next term: votes of this term still count.
        role.votes.add(message.voter_id)
        _maybe_take_office(core, role.votes, now)


def count_own_vote(core: "Core", role: Candidate, now: float) -> None:
    """Count the candidate's own vote like any other, once it is on the disk (5.2, BUG-50)."""
    if core.durability.hard_state_is_durable:
        role.granted.add(core.node_id)
        _maybe_take_office(core, role.granted, now)


def _maybe_start_election(core: "Core", role: PreCandidate, now: float) -> None:
    if not is_majority(len(role.granted), len(core.members)):
        return
    candidate = core.become_candidate(now, f"would be voted for by {_names(role.granted)}")
    _ask_for_votes(core, candidate)


def _ask_for_votes(core: "Core", role: Candidate) -> None:
    for peer in core.peers:
        if peer in role.granted:
            continue
        last_log_index, last_log_term = core.log.last_index, core.log.last_term
        core.announce(
            VoteRequested(peer=peer, term=core.current_term, last_log_index=last_log_index, last_log_term=last_log_term)
        )
        core.send(
            peer,
            VoteRequest(
                term=core.current_term,
                candidate_id=core.node_id,
                last_log_index=last_log_index,
                last_log_term=last_log_term,
            ),
        )


def _maybe_take_office(core: "Core", votes: set[NodeId], now: float) -> None:
    if is_majority(len(votes), len(core.members)):
        membership.learn_commit(core)
        core.become_leader(now, f"has the votes of {_names(votes)}")


def _why_no_pre_vote(core: "Core", message: PreVoteRequest, now: float) -> str:
    if message.term <= core.current_term:
        return f"term {message.term} is not above ours, {core.current_term}"
    return _abstains(core) or _leader_is_alive(core, now) or _log_is_behind(core, message)


def _why_no_vote(core: "Core", message: VoteRequest, now: float) -> str:
    if message.term < core.current_term:
        return f"term {message.term} is old, ours is {core.current_term}"
    if message.term > core.current_term:  # we did not enter it: a leader is alive (4.2.3)
        return _leader_is_alive(core, now)
    if core.voted_for not in (None, message.candidate_id):
        return f"already voted for node {core.voted_for}"
    return _abstains(core) or _log_is_behind(core, message)


def _abstains(core: "Core") -> str:
    return "" if core.may_vote else f"abstains: {core.why_abstains()}"


def _leader_is_alive(core: "Core", now: float) -> str:
    if not core.hears_a_leader(now):
        return ""
    return "leads itself" if core.leader_id == core.node_id else f"hears leader {core.leader_id}"


def _log_is_behind(core: "Core", message: VoteRequest | PreVoteRequest) -> str:
    log = core.log
    if log.is_behind(message.last_log_index, message.last_log_term):
        return ""
    theirs = f"{message.last_log_index} in term {message.last_log_term}"
    return f"its log ends at {theirs}, ours at {log.last_index} in term {log.last_term}"


def _names(granted: set[int]) -> str:
    return ", ".join(f"node {node_id}" for node_id in sorted(granted))
