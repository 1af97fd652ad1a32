"""The state of one server (Figure 2), and the changes of it that several rules share.

The decisions are in the rules (election.py, replication.py, ...), which take a State and emit effects in order.
"""

from collections.abc import Callable
from random import Random

from bargetrio.raft.durability import Durability
from bargetrio.raft.effects import (
    Announce,
    Effect,
    ProposalsUnknown,
    ReadFailed,
    Send,
    StoreChunk,
)
from bargetrio.raft.errors import ConsensusViolation
from bargetrio.raft.facts import Fact, RoleChanged, TermChanged
from bargetrio.raft.log import Log
from bargetrio.raft.membership_state import MembershipState
from bargetrio.raft.messages import NO_OP, Entry, Index, Message, NodeId, SnapshotMeta, Term
from bargetrio.raft.progress import PIPELINE, Pipeline, Progress
from bargetrio.raft.records import HardState, Remembered
from bargetrio.raft.roles import TRANSITIONS, UNTIL_SYNCED, Candidate, Follower, Leader, PreCandidate, Role
from bargetrio.raft.snapshot_state import SnapshotPolicy, SnapshotState
from bargetrio.raft.standing import Configuration, Standing, identity_of


class State:
    """The state of one server. `now` is in seconds on a monotonic clock; randomness is the caller's `random`."""

    def __init__(
        self,
        *,
        node_id: NodeId,
        node_ids: tuple[NodeId, ...],
        remembered: Remembered,
        heartbeat_s: float,
        election_s: tuple[float, float],
        random: Random,
        now: float,
        snapshot_policy: SnapshotPolicy | None = None,
        standing: Standing | None = None,
        pipeline: Pipeline = PIPELINE,
        has_unsent: Callable[[NodeId], bool] = lambda peer: False,
    ) -> None:
        """Begin as a follower; the arguments are those of Core, which says what they mean and what is raised."""
        assert node_id in node_ids
        self.node_id = node_id
        self.members = tuple(sorted(node_ids))
        self.peers = tuple(sorted(set(node_ids) - {node_id}))
        self.heartbeat_s = heartbeat_s
        self.election_min_s, self.election_max_s = election_s
        self._random = random
        # Persistent state (Figure 2): on the disk before any answer depends on it.
        self.current_term: Term = remembered.hard_state.term
        self.voted_for: NodeId | None = remembered.hard_state.voted_for
        self.log = Log(remembered.entries, remembered.start)
        if self.log.last_term > self.current_term:
            raise ConsensusViolation(f"the log ends in term {self.log.last_term}, the disk remembers term {self.current_term}")
        self.durability = Durability(self.log.last_index, self.log.last_digest)
        self.snapshot: SnapshotMeta | None = remembered.snapshot
        """The newest snapshot on this disk; the host has loaded it before it made this core."""
        # Volatile state.
        self.first_heard: tuple[Term, Index] = (0, 0)
        """The first leader's term, and what was committed before this node heard it, as far as that is known."""
        self.knows_first_commit = False
        """Whether it is: a leader's commit index covers all that was committed before once it has risen (Raft 5.4.2, 8)."""
        self.commit_index: Index = 0 if self.snapshot is None else self.snapshot.last_index
        self.last_applied: Index = self.commit_index
        self.pipeline = pipeline
        self.lacks_room = False
        """Set by the host: this node's disk is nearly full, and a leader refuses proposals as overloaded."""
        policy = SnapshotPolicy() if snapshot_policy is None else snapshot_policy
        self.snapshots = SnapshotState(policy, self.last_applied, now, has_unsent)
        self.role: Role = Follower(self.new_election_deadline(now))
        self._effects: list[Effect] = []
        self._now = now
        """The time of the latest input."""
        self.votes_asked_at = now
        self.vote_wait_s = 0.0
        """How many seconds votes took to arrive in this node's last elections."""
        # Membership (membership.py).
        self.membership = MembershipState(now)
        self.standing = _made_up_standing(node_id, node_ids) if standing is None else standing
        """The content of the file `meta`."""
        self.configuration: Configuration | None = None
        """The configuration in force."""
        self.may_vote = False
        self.is_settled = False
        """Whether this node votes, its cluster is born, and no member is being readmitted: the usual case."""

    # -- leader ----------------------------------------------------------------------------------------------------------

    @property
    def leader_id(self) -> NodeId | None:
        """The leader of this node's term, as far as this node knows; None: not known."""
        match self.role:
            case Leader():
                return self.node_id
            case Follower():
                return self.role.leader_id
            case _:
                return None

    @property
    def lag(self) -> int:
        """How many committed entries are not applied here, as far as this node knows.

        A follower's own commit index does not cover entries that its log lacks, so the leader's is used.
        """
        committed = self.commit_index
        if isinstance(self.role, Follower):
            committed = max(committed, self.role.leader_commit)
        return committed - self.last_applied

    @property
    def is_catching_up(self) -> bool:
        """Whether it still lacks entries that were committed before it heard a leader, or is being sent a snapshot."""
        own = self.snapshots
        is_sent = isinstance(self.role, Follower) and (own.receiving is not None or own.installing is not None)
        return is_sent or self.last_applied < self.first_heard[1]

    def has_live_leader(self, now: float) -> bool:
        """Return whether a leader was heard within the shortest election timeout, or this node leads a quorum (Ongaro 4.2.3)."""
        match self.role:
            case Follower():
                return self.role.heard_leader_at is not None and now - self.role.heard_leader_at < self.election_min_s
            case Leader():
                return self.role.heard_from_majority(now, self.election_min_s)
            case _:
                return False

    def has_quorum(self, now: float) -> bool:
        """Return whether this node is part of a working majority, as far as it can know."""
        match self.role:
            case Leader():
                return self.role.heard_from_majority(now, self.election_max_s)
            case Follower():
                return self.role.heard_leader_at is not None and now - self.role.heard_leader_at < self.election_max_s
            case _:
                return False

    def new_election_deadline(self, now: float) -> float:
        """Return a random time between the shortest and longest election timeout from now (Raft 5.2)."""
        # Random.uniform inlined: this runs for every append.
        return now + (self.election_min_s + (self.election_max_s - self.election_min_s) * self._random.random())

    # -- effects ---------------------------------------------------------------------------------------------------------

    def announce(self, fact: Fact) -> None:
        """Queue a fact for the event log."""
        self._effects.append(Announce(fact))

    def emit(self, effect: Effect) -> None:
        """Queue an effect for the next `take_effects`."""
        self._effects.append(effect)

    def send(self, to: NodeId, message: Message, durable_to: Index = 0) -> None:
        """Send once term, vote and the log up to `durable_to` are on the disk: at once if they are."""
        send = Send(to, message)
        durability = self.durability
        is_durable = durable_to <= durability.durable_index and durability.hard_state_number <= durability.synced_number
        if is_durable or not durability.hold(send, durable_to):
            self._effects.append(send)

    # -- term and role ---------------------------------------------------------------------------------------------------

    def set_term(self, term: Term, voted_for: NodeId | None, reason: str) -> None:
        """Enter a higher term, or vote in the present one: one record holds both (BUG-02)."""
        assert term >= self.current_term, "the term never falls"
        if term == self.current_term:
            assert self.voted_for is None, "one vote a term"
        else:
            self.announce(TermChanged(term=term, old_term=self.current_term, reason=reason))
        self.current_term = term
        self.voted_for = voted_for
        self.durability.queue_hard_state(HardState(term=term, voted_for=voted_for))

    def become_follower(self, now: float, *, term: Term, leader_id: NodeId | None, reason: str) -> None:
        """Follow `leader_id` (None: not known yet) in `term` (Raft 5.1: a higher term is adopted at once).

        A change of term alone does not restart the election timer (BUG-08), but a leader that steps down starts a full timeout.
        """
        if term > self.current_term:
            self.set_term(term, None, reason)
        old = self.role
        deadline = self.new_election_deadline(now) if isinstance(old, Leader) else old.election_deadline
        self._change_role(Follower(deadline, leader_id), reason)
        if isinstance(old, Leader):
            self._remember_acknowledged(old)
            self._fail_pending(old, leader_id)

    def adopt_higher_term(self, term: Term, node_id: NodeId, now: float) -> bool:
        """If the term of a message from `node_id` is above this node's, become a follower in it (Raft 5.1); return whether so."""
        if term <= self.current_term:
            return False
        self.become_follower(now, term=term, leader_id=None, reason=f"node {node_id} has a higher term")
        return True

    def follow(self, term: Term, leader_id: NodeId, now: float) -> Follower:
        """Follow the leader of this term and restart the election timer, even if the log check fails later (BUG-09).

        Raises ConsensusViolation if this node leads that term itself (Raft 5.2).
        """
        role = self.role
        if isinstance(role, Leader) and term == self.current_term:
            raise ConsensusViolation(f"node {leader_id} claims to lead term {term}, which this node leads")
        if term > self.current_term or not isinstance(role, Follower) or role.leader_id != leader_id:
            self.become_follower(now, term=term, leader_id=leader_id, reason=f"node {leader_id} leads term {term}")
            role = self.role
        assert isinstance(role, Follower)
        role.heard_leader_at = now
        role.election_deadline = self.new_election_deadline(now)
        return role

    def become_pre_candidate(self, now: float, reason: str) -> PreCandidate:
        """Begin a pre-vote (Ongaro 9.6): neither term nor vote changes."""
        votes = self.role.granted if isinstance(self.role, Candidate) else set[NodeId]()
        if isinstance(self.role, PreCandidate):
            votes = self.role.votes
        role = PreCandidate(self.new_election_deadline(now), {self.node_id}, votes)
        self._change_role(role, reason)
        return role

    def become_candidate(self, now: float, reason: str) -> Candidate:
        """Begin a new term with a vote for this node, which counts when it is on the disk (Raft 5.2)."""
        role = Candidate(UNTIL_SYNCED)
        self.set_term(self.current_term + 1, self.node_id, "starts an election")
        self._change_role(role, reason)
        return role

    def become_leader(self, now: float, reason: str) -> Leader:
        """Append an empty entry of the own term: only with it can older entries commit (Raft 5.4.2, 8)."""
        next_index = self.log.last_index + 1
        progress = {peer: Progress(next_index=next_index, heard_at=now) for peer in self.peers}
        leader = Leader(next_index, now + self.heartbeat_s, progress)
        self._change_role(leader, reason)
        self.knows_first_commit = True  # its log has all that is committed
        self._recall_acknowledged(leader)
        if self.membership.uncounted is not None:
            assert self.membership.uncounted != self.node_id, "who is not counted does not stand for election"
            progress[self.membership.uncounted].is_counted = False
        self.append_own(leader, [Entry(self.current_term, NO_OP)])
        leader.tickets.append(None)
        return leader

    def _change_role(self, role: Role, reason: str) -> None:
        assert (self.role.name, role.name) in TRANSITIONS, f"{self.role.name} to {role.name}"
        if role.name != self.role.name:
            self.announce(RoleChanged(term=self.current_term, old=self.role.name, new=role.name, reason=reason))
        self.role = role

    def note_acknowledged(self, peer: NodeId, progress: Progress) -> None:
        """Remember what the peer's store acknowledged and must not lose, as it is committed (OWN-175).

        What is not committed may be deleted by another leader. If that deletes the entry that readmits the peer with another
        store, this one counts again: each store is remembered by itself (OWN-181).
        """
        if self.configuration is not None:
            index = max(progress.acknowledged_before, min(progress.match_index, self.commit_index))
            self.membership.acknowledged[peer, self.configuration.stores[peer]] = index

    def _remember_acknowledged(self, leader: Leader) -> None:
        """Leadership is lost: remember what was acknowledged, of the stores that can still count."""
        own = self.membership
        for peer, progress in leader.progress.items():
            self.note_acknowledged(peer, progress)
        # Of the configurations in a log all but the last one are committed: the next is proposed only then (Ongaro 4.1).
        stores = {member for each in own.configurations[-2:] for member in each.stores.items()}
        own.acknowledged = {member: index for member, index in own.acknowledged.items() if member in stores}

    def _recall_acknowledged(self, leader: Leader) -> None:
        """Leadership is won: restore what each peer's present store acknowledged in an earlier term."""
        if self.configuration is not None:
            for peer, progress in leader.progress.items():
                progress.acknowledged_before = self.membership.acknowledged.get((peer, self.configuration.stores[peer]), 0)

    def _fail_pending(self, leader: Leader, leader_id: NodeId | None) -> None:
        """Leadership is lost: proposals end as unknown, as another leader may commit them, and reads as failed."""
        tickets = [ticket for ticket in leader.tickets if ticket is not None]
        if tickets:
            self._effects.append(ProposalsUnknown(tickets, leader_id))
        unread = [*leader.new_reads]
        for waiting in (*leader.rounds, *leader.confirmed):
            unread.extend(waiting.tickets)
        if unread:
            self._effects.append(ReadFailed(unread, "not_leader" if leader_id is not None else "no_leader", leader_id))

    # -- as a leader -----------------------------------------------------------------------------------------------------

    def append_own(self, leader: Leader, entries: list[Entry], configurations: tuple[Index, ...] = ()) -> None:
        """Append a leader's own entries, to be written and sent; `configurations` are the indices of those that hold one."""
        leader.has_lagging_follower = True
        first_index = self.log.last_index + 1
        self.log.append(entries)
        size = self.log.bytes_between(first_index - 1, self.log.last_index)
        self.durability.queue_entries(first_index, entries, self.log.last_digest, configurations, size=size)

    def progress_of(self, term: Term, follower_id: NodeId, now: float) -> Progress | None:
        """Return the sender's progress if it replies to this leader in this term, else None; adopt a higher term (Raft 5.1)."""
        leader = self.role
        if term != self.current_term or not isinstance(leader, Leader):
            self.adopt_higher_term(term, follower_id, now)
            return None
        return leader.progress.get(follower_id)

    # -- snapshots -------------------------------------------------------------------------------------------------------

    def give_up_received(self) -> None:
        """Drop a partly received snapshot and its file, once all that it covers is committed here (OWN-34).

        Not while a chunk is being written: a second file begun meanwhile would mix the two (OWN-16).
        """
        receiving = self.snapshots.receiving
        if receiving is not None and not receiving.is_busy and receiving.snapshot.last_index <= self.commit_index:
            receiving.is_busy = True
            self.emit(StoreChunk(receiving.snapshot, 0, b""))


def _made_up_standing(node_id: NodeId, node_ids: tuple[NodeId, ...]) -> Standing:
    stores = {each: f"store-{each}" for each in node_ids}
    return Standing(store=stores[node_id], identity=identity_of(stores), birth=stores)
