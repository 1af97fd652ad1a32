"""Planted bugs about votes, terms and time."""

from typing import Any

from msgspec import structs

from bargetrio.raft import appends, election, replication
from bargetrio.raft.core import Core
from bargetrio.raft.durability import Durability
from bargetrio.raft.log import Log
from bargetrio.raft.messages import VoteReply, VoteRequest
from bargetrio.raft.roles import UNTIL_SYNCED, Candidate, Follower, Leader, PreCandidate
from bargetrio.raft.state import State
from bargetrio.simulator.breaks.registry import Patches, as_of_this_term, breaks, lets_through, misreads


@breaks("a vote is answered only when it is on the disk", "5.2, 3.8; BUG-01")
def vote_before_sync(patches: Patches) -> None:
    lets_through(patches, VoteReply)


@breaks("a candidate asks, and counts itself, when its own vote is on the disk", "5.2; BUG-50")
def own_vote_before_sync(patches: Patches) -> None:
    lets_through(patches, VoteRequest)
    patches.set(Durability, "hard_state_is_durable", property(lambda self: True))


@breaks("term and vote are remembered over a restart", "Figure 2; BUG-01")
def term_and_vote_forgotten(patches: Patches) -> None:
    patches.set(Durability, "queue_hard_state", lambda self, hard_state: None)


@breaks("a vote is not taken back when its giver steps down", "BUG-03")
def vote_cleared_on_step_down(patches: Patches) -> None:
    old = State.become_follower

    def become_follower(self: State, now: float, **arguments: Any) -> None:
        same_term = arguments["term"] == self.current_term
        was_follower = isinstance(self.role, Follower)
        old(self, now, **arguments)
        if same_term and not was_follower:
            self.voted_for = None

    patches.set(State, "become_follower", become_follower)


@breaks("a server votes once a term", "5.2; BUG-05")
def two_votes_a_term(patches: Patches) -> None:
    old = election._why_no_vote

    def why_no_vote(core: Core, message: VoteRequest, now: float) -> str:
        reason = old(core, message, now)
        return "" if reason.startswith("already voted") and not isinstance(core.role, Leader) else reason

    patches.set(election, "_why_no_vote", why_no_vote)


@breaks("a vote goes only to a log at least as up to date", "5.4.1")
def logs_not_compared(patches: Patches) -> None:
    patches.set(Log, "is_behind", lambda self, last_log_index, last_log_term: True)


@breaks("a vote counts in its own term only", "5.2; BUG-06")
def old_votes_count(patches: Patches) -> None:
    misreads(patches, election, "on_vote_reply", as_of_this_term)


@breaks("each voter counts once", "5.2; BUG-06")
def repeated_votes_count(patches: Patches) -> None:
    def misread(core: Core, message: VoteReply) -> VoteReply:
        role = core.role
        again = isinstance(role, Candidate) and message.granted and message.voter_id in role.granted
        return structs.replace(message, voter_id=1000 + len(role.granted)) if again else message  # type: ignore[union-attr]

    misreads(patches, election, "on_vote_reply", misread)


def _deadline(core: State) -> float:
    return core.role.heartbeat_deadline if isinstance(core.role, Leader) else core.role.election_deadline


@breaks("hearing the leader puts off the own election", "5.2")
def timer_not_reset_by_append(patches: Patches) -> None:
    old = State.follow

    def follow(self: State, term: int, leader_id: int, now: float) -> Follower:
        deadline = _deadline(self)
        follower = old(self, term, leader_id, now)
        if deadline < follower.election_deadline:
            follower.election_deadline = max(deadline, now)
        return follower

    patches.set(State, "follow", follow)


@breaks("a granted vote puts off the own election", "5.2; BUG-09")
def timer_not_reset_by_vote(patches: Patches) -> None:
    old = election.on_vote_request

    def on_vote_request(core: Core, message: VoteRequest, now: float) -> None:
        deadline = _deadline(core)
        old(core, message, now)
        if isinstance(core.role, Follower):
            core.role.election_deadline = deadline

    patches.set(election, "on_vote_request", on_vote_request)


@breaks("a leader that hears no majority steps down", "6.2")
def no_check_quorum(patches: Patches) -> None:
    def on_heartbeat_deadline(core: Core, leader: Leader, now: float) -> None:
        leader.heartbeat_deadline = now + core.heartbeat_s
        for peer, progress in leader.progress.items():
            appends.send_empty(core, leader, peer, progress)

    patches.set(replication, "on_heartbeat_deadline", on_heartbeat_deadline)


@breaks("an election waits for the disks: a candidate's time begins when its vote is on its own", "5.2; BUG-09")
def election_timer_runs_during_the_sync(patches: Patches) -> None:
    stand, ask, vote = State.become_candidate, State.become_pre_candidate, election.on_vote_request

    def become_candidate(self: State, now: float, reason: str) -> Candidate:
        role = stand(self, now, reason)
        role.election_deadline = self.new_election_deadline(now)
        return role

    def become_pre_candidate(self: State, now: float, reason: str) -> PreCandidate:
        role = ask(self, now, reason)
        role.votes = set()
        return role

    def on_vote_request(core: Core, message: VoteRequest, now: float) -> None:
        vote(core, message, now)
        if isinstance(core.role, Follower) and core.role.election_deadline == UNTIL_SYNCED:
            core.role.election_deadline = core.new_election_deadline(now)

    patches.set(State, "become_candidate", become_candidate)
    patches.set(State, "become_pre_candidate", become_pre_candidate)
    patches.set(election, "on_vote_request", on_vote_request)
    patches.set(election, "waits_for_disk", lambda core, now: False)


@breaks("the silence of a process that stood still is forgiven once, not again and again", "6.2")
def silence_forgiven_for_ever(patches: Patches) -> None:
    old = Core._restart_timers_after_stall

    def restart(self: Core, now: float, late_s: float) -> None:
        old(self, now, late_s)
        if isinstance(self.role, Leader):
            for progress in self.role.progress.values():
                progress.heard_at = now
        else:
            self.role.election_deadline = self.new_election_deadline(now)

    patches.set(Core, "_restart_timers_after_stall", restart)


@breaks("a leader whose disk hangs leaves office when a majority of the others has synced what it waits for", "6.2, 10.2.1")
def leader_stays_though_its_disk_hangs(patches: Patches) -> None:
    patches.set(replication, "why_others_lead_better", lambda core, leader, now: "")
