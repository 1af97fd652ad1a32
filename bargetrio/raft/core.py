"""The core: one server of the paper, as a value that input changes and that leaves effects.

Here are its state, the way in (`step`, `tick`, `propose`, `read`, `persisted`), the way out (`take_effects`), and the changes of
term and role that everything shares. The rules themselves stand in election.py, replication.py and reads.py.
"""

from collections.abc import Callable, Sequence
from math import nextafter
from random import Random
from typing import Final, assert_never

from bargetrio.raft import election, membership, reads, replication, snapshots
from bargetrio.raft.durability import Durability
from bargetrio.raft.effects import (
    Announce,
    Apply,
    Effect,
    ProposalRefused,
    ProposalsUnknown,
    ReadFailed,
    RefusalReason,
    Send,
    Ticket,
)
from bargetrio.raft.errors import ConsensusViolation
from bargetrio.raft.facts import Applied, CommitAdvanced, Fact, RoleChanged, TermChanged
from bargetrio.raft.log import Log
from bargetrio.raft.messages import (
    NO_OP,
    AppendReply,
    AppendRequest,
    Command,
    Demotion,
    Entry,
    Index,
    Introduction,
    LogDiffers,
    Message,
    NodeId,
    PreVoteReply,
    PreVoteRequest,
    SnapshotMeta,
    SnapshotReply,
    SnapshotRequest,
    StillReceiving,
    Term,
    VoteReply,
    VoteRequest,
)
from bargetrio.raft.progress import PIPELINE, Pipeline, Progress
from bargetrio.raft.records import HardState, Remembered
from bargetrio.raft.roles import DISK_DECIDES, TRANSITIONS, Candidate, Follower, Leader, PreCandidate, Role
from bargetrio.raft.snapshots import Receiving, SnapshotPolicy
from bargetrio.raft.standing import Configuration, Standing, identity_of

APPLY_SLICE: Final = 1000
"""Entries of one Apply: no pass may hold the loop for long."""
UNCOMMITTED_ENTRIES: Final = 100_000
UNCOMMITTED_BYTES: Final = 64 * 1024 * 1024
"""A leader that has more than this uncommitted, or not yet on its own disk, refuses proposals as overloaded."""


class Core:
    """One server (Figure 2). `now` is seconds on a clock that never goes back; randomness is the caller's `random`."""

    # More attributes than Python 3.11 keeps in an object itself without this (29): each look-up would take a quarter longer.
    __slots__ = (
        *("_effects", "_now", "_random", "_snapshot_policy", "commit_index", "compact_to", "configuration"),
        *("configurations", "current_term", "durability", "election_max_s", "election_min_s", "has_unsent"),
        *("heartbeat_s", "installing", "installing_from", "introduce_at", "is_demoted", "is_due"),
        *("is_settled", "is_snapshot_asked", "is_taking", "is_writing_standing", "known_commit", "settled_index"),
        *("lacks_room", "last_applied", "log", "may_vote", "members", "met", "must_not_apply"),
        *("must_not_take", "node_id", "peers", "pipeline", "quiet_index", "quiet_since", "receiving", "role"),
        *("began_at", "last_hello", "seen", "snapshot", "standing", "uncounted", "unreadable", "vote_wait_s", "voted_for"),
        *("birth_under_way", "votes_asked_at", "weighed_index"),
    )

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
        """Begin as a follower.

        Times are in seconds: `election_s` the shortest and the longest election timeout. `standing` is what the folder's `meta`
        holds; None: a store of a birth set with made-up ids, for clusters without folders. `has_unsent`: see the attribute.

        Raises ConsensusViolation if the log ends in a later term than the disk remembers.
        """
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
        """The newest snapshot on this disk; the driver has loaded it before it made this core."""
        # Volatile state.
        self.commit_index: Index = 0 if self.snapshot is None else self.snapshot.last_index
        self.last_applied: Index = self.commit_index
        self._snapshot_policy = SnapshotPolicy() if snapshot_policy is None else snapshot_policy
        self.pipeline = pipeline
        self.has_unsent = has_unsent
        """Returns whether the link to a peer holds unsent bytes; asked when a piece of a snapshot has not been answered."""
        self.unreadable: SnapshotMeta | None = None
        """The newest snapshot, if its file can't be sent: another one, also of the same index, may replace it."""
        self.is_taking = False
        self.must_not_take = False
        """Set by the driver: no snapshot may begin, since another node of the process takes one."""
        self.must_not_apply = False
        """Set by the driver: nothing is applied, since another node of the process applies a backlog that clients wait for."""
        self.lacks_room = False
        """Set by the driver: this node's disk is nearly full, and a leader refuses proposals as overloaded."""
        self.is_snapshot_asked = False
        self.is_due = False
        """Whether a snapshot is due by the policy, or was asked for, and none is under way."""
        self.weighed_index: Index = -1
        """The applied index at which a snapshot was last found not to be due."""
        self.quiet_since = now
        self.quiet_index = self.last_applied
        """The last applied index, unchanged since `quiet_since`."""
        self.compact_to: Index = 0
        self.receiving: Receiving | None = None
        self.installing: SnapshotMeta | None = None
        """A received snapshot that is replacing state and log; nothing is applied meanwhile."""
        self.installing_from: NodeId = node_id
        self.role: Role = Follower(self.new_election_deadline(now))
        self._effects: list[Effect] = []
        self._now = now
        """The latest time that this core was given."""
        self.votes_asked_at = now
        self.vote_wait_s = 0.0
        """Seconds that votes took to arrive in this node's last elections."""
        # Membership (membership.py).
        self.standing = _born_with(node_id, node_ids) if standing is None else standing
        self.configurations: list[Configuration] = []
        """That of the birth set or of the snapshot, and those of the log's entries, by index; the last one is in force."""
        self.configuration: Configuration | None = None
        self.uncounted: NodeId | None = None
        """The node whose readmission is in the log and not known to be committed."""
        self.known_commit: Index = 0
        """The highest commit index that came with a granted vote."""
        self.settled_index: Index = 0
        """The configurations up to here are committed, though `commit_index` may be lower after a restart."""
        self.may_vote = False
        self.is_settled = False
        """Whether this node votes, its cluster is born, and no member is being readmitted: the usual case."""
        self.is_demoted = False
        """Whether this disk lost what it had acknowledged, and its new store id is not written yet."""
        self.is_writing_standing = False
        self.birth_under_way: Standing | None = None
        """The standing with a birth set that is being written: this node's introductions say it already."""
        self.introduce_at = now
        self.met: dict[NodeId, tuple[Standing, float]] = {}
        """The standing that each peer has introduced itself with, and when."""
        self.seen: dict[NodeId, tuple[Standing, float]] = {}
        """The standing of each peer's last hello, accepted or refused, and when it came; until a connection of it ends."""
        self.last_hello: dict[NodeId, tuple[Standing, float]] = {}
        """The same, kept when the connection ends."""
        self.began_at = now
        membership.begin(self, remembered, now)

    # -- the way in ------------------------------------------------------------------------------------------------------

    def step(self, message: Message, now: float) -> None:
        """Take one message; raise ConsensusViolation if it proves that something is broken for good."""
        self._now = now
        # By kind, not by isinstance: of a msgspec class it takes four times as long to say no (docs/decisions/simulator_pace.md).
        if type(message) is AppendReply:
            replication.on_append_reply(self, message, now)
        elif type(message) is AppendRequest:
            replication.on_append_request(self, message, now)
        else:
            self._step_rare(message, now)

    def _step_rare(self, message: Message, now: float) -> None:
        match message:
            case VoteRequest():
                election.on_vote_request(self, message, now)
            case VoteReply():
                election.on_vote_reply(self, message, now)
            case PreVoteRequest():
                election.on_pre_vote_request(self, message, now)
            case PreVoteReply():
                election.on_pre_vote_reply(self, message, now)
            case SnapshotRequest():
                snapshots.on_snapshot_request(self, message, now)
            case SnapshotReply():
                snapshots.on_snapshot_reply(self, message, now)
            case StillReceiving():
                replication.on_still_receiving(self, message, now)
            case Introduction():
                membership.on_introduction(self, message, now)
            case LogDiffers():
                membership.on_log_differs(self, message, now)
            case Demotion():
                membership.on_demotion(self, message, now)
            case AppendRequest() | AppendReply():
                raise AssertionError("these are not rare")
            case _:
                assert_never(message)

    def tick(self, now: float) -> None:
        """Do what time asks for. A timer that fires more than a heartbeat late means that this process stood still."""
        if self.last_applied != self.quiet_index or now - self.quiet_since > self._snapshot_policy.quiet_s:
            snapshots.watch_for_quiet(self, now)
        self._now = now
        if not self.is_settled:
            membership.tick(self, now)
        role = self.role
        deadline = role.heartbeat_deadline if type(role) is Leader else role.election_deadline
        if now < deadline:
            return
        if now - deadline > self.heartbeat_s:
            self._restart_timers_after_stall(now, now - deadline)
        match role:
            case Leader():
                replication.on_heartbeat_deadline(self, role, now)
            case Follower() | PreCandidate() | Candidate():
                if now >= role.election_deadline:
                    election.on_election_deadline(self, role, now)

    def propose(self, ticket: Ticket | None, command: Command, now: float) -> None:
        """Append `command` to the log if this node leads; the ticket ends with Apply, ProposalRefused or ProposalsUnknown."""
        leader = self.role
        if not isinstance(leader, Leader):
            if ticket is not None:
                self._effects.append(ProposalRefused(ticket, self._refusal(), self.leader_id))
            return
        if self._is_overloaded():
            if ticket is not None:
                self._effects.append(ProposalRefused(ticket, "overloaded", self.node_id))
            return
        self.append_own(leader, [Entry(self.current_term, command)])
        leader.tickets.append(ticket)

    def propose_all(self, tickets: Sequence[Ticket], commands: Sequence[Command], now: float) -> None:
        """Propose many commands as `propose` would one after another, in one step if this node leads and has room for them."""
        leader = self.role
        if not isinstance(leader, Leader) or self._is_overloaded(len(commands), sum(map(len, commands))):
            for ticket, command in zip(tickets, commands, strict=True):
                self.propose(ticket, command, now)
            return
        self.append_own(leader, [Entry(self.current_term, command) for command in commands])
        leader.tickets.extend(tickets)

    def forget_reads(self, is_over: Callable[[Ticket], bool]) -> None:
        """Drop the reads that are over by `is_over`; they are kept in the order of their deadlines."""
        if isinstance(self.role, Leader):
            reads.forget(self.role, is_over)

    def read(self, ticket: Ticket, now: float) -> None:
        """Ask for a linearizable read; the ticket ends with ReadReady or ReadFailed (6.4)."""
        if isinstance(self.role, Leader):
            self.role.new_reads.append(ticket)
        else:
            self._effects.append(ReadFailed([ticket], self._refusal(), self.leader_id))

    def read_all(self, tickets: Sequence[Ticket], now: float) -> None:
        """Ask for many reads as `read` would one after another."""
        if isinstance(self.role, Leader):
            self.role.new_reads += tickets
        elif tickets:
            self._effects.append(ReadFailed(list(tickets), self._refusal(), self.leader_id))

    def persisted(self, number: int, now: float) -> None:
        """Note that the write of Persist(number) is synced, and its `then` has left."""
        for send in self.durability.persisted(number, now):
            self._effects.append(send)
        snapshots.maybe_load(self)
        if not isinstance(self.role, Leader) and self.role.election_deadline == DISK_DECIDES:
            election.start_timer(self, self.role, now)
        if not self.is_settled:
            membership.settle(self)
        match self.role:
            case Leader():
                replication.advance_commit(self, self.role)
            case Candidate():
                election.count_own_vote(self, self.role, now)
            case _:
                pass

    def bytes_came(self, peer: NodeId, now: float) -> None:
        """Note that bytes of a message of `peer` have arrived, and the message is not complete yet.

        The host calls it only for a peer whose hello was accepted. It puts off elections, and counts for no vote and no commit.
        """
        replication.on_bytes(self, peer, now)

    def link_up(self, peer: NodeId, now: float) -> None:
        """Note that a new connection to `peer` is open: what the old one held may be lost."""
        if isinstance(self.role, Leader):
            transfer = self.role.progress[peer].transfer
            if transfer is not None:
                transfer.send_again()

    def piece_missing(self, peer: NodeId, snapshot: SnapshotMeta) -> None:
        """Note that SendChunk to `peer` found no bytes: the file is gone, or shorter than `snapshot.size`."""
        snapshots.on_piece_missing(self, peer, snapshot)

    def take_snapshot(self) -> None:
        """Ask for a snapshot before it is due: TakeSnapshot follows as soon as none is under way."""
        self.is_snapshot_asked = True

    def saw(self, peer: NodeId, standing: Standing, now: float) -> None:
        """Note the standing in a peer's hello, whether the hello was accepted or not."""
        membership.saw(self, peer, standing, now)

    def hung_up(self, peer: NodeId, standing: Standing) -> None:
        """Note that a connection of this store has ended: the next one of this peer may be that of another disk."""
        if peer in self.seen and self.seen[peer][0].store == standing.store:
            del self.seen[peer]

    def readmit(self, node_id: NodeId, now: float) -> str:
        """As the leader, propose the store of `node_id`'s last hello as its member's (an operator's command; dissertation 4.1).

        Return why that can't be; "" if the entry is proposed, or the node is a member with that store already.
        """
        return membership.readmit(self, node_id, now)

    def bootstrap(self, now: float) -> str:
        """Begin a cluster with the members present (an operator's command); return why not, "" if it is under way."""
        return membership.bootstrap(self, now)

    def standing_written(self, standing: Standing, now: float) -> None:
        """Note that the folder holds this standing, synced: WriteStanding or ReplaceStore is done."""
        membership.standing_written(self, standing, now)

    def snapshot_taken(self, snapshot: SnapshotMeta, now: float) -> None:
        """Note that the snapshot which TakeSnapshot asked for is on the disk, under its name."""
        snapshots.taken(self, snapshot, now)

    def snapshot_given_up(self) -> None:
        """Note that the snapshot which TakeSnapshot asked for was not saved: it is due again when the driver allows it."""
        self.is_taking = False
        self.weighed_index = -1

    def chunk_stored(self, snapshot: SnapshotMeta, bytes_stored: int, now: float) -> None:
        """Note that StoreChunk is done: the received file has `bytes_stored` synced bytes; once it is whole, it was checked."""
        snapshots.chunk_stored(self, snapshot, bytes_stored, now)

    def snapshot_loaded(self, snapshot: SnapshotMeta) -> None:
        """Note that the state machine is what LoadSnapshot asked for."""
        snapshots.loaded(self, snapshot)

    @property
    def snapshot_policy(self) -> SnapshotPolicy:
        """When snapshots are taken; it may be changed at any time."""
        return self._snapshot_policy

    @snapshot_policy.setter
    def snapshot_policy(self, policy: SnapshotPolicy) -> None:
        self._snapshot_policy = policy
        self.weighed_index = -1

    # -- the way out -----------------------------------------------------------------------------------------------------

    @property
    def next_deadline(self) -> float:
        """When `tick` must be called at the latest; -inf while there is more to apply, or memory of a dropped log to free."""
        if (self.last_applied < self.commit_index and self.has_more_to_apply) or self.log.forgotten:
            return float("-inf")
        role = self.role
        deadline = role.heartbeat_deadline if type(role) is Leader else role.election_deadline
        return deadline if self.is_settled or self.standing.identity else min(deadline, self.introduce_at)

    @property
    def has_more_to_apply(self) -> bool:
        """Whether another Apply waits for the next `take_effects`."""
        return self.last_applied < self.commit_index and self.installing is None and not self.must_not_apply

    def take_effects(self) -> list[Effect]:
        """Return the effects since the last call, in the order in which they must be performed; call it after every batch."""
        role = self.role
        if type(role) is Leader:
            if role.new_reads:
                reads.confirm(role)  # frees rounds for the reads that wait
                reads.start_round(self, role)
            if role.may_lack:
                replication.send_entries(self, role)
        if self.durability.is_queued:
            persist = self.durability.next_write(self._now, self.pipeline.write_bytes)
            if persist is not None:
                self._effects.append(persist)
        if self.last_applied < self.commit_index and self.has_more_to_apply:
            self._apply()
        if self.last_applied != self.weighed_index or self.is_snapshot_asked:
            snapshots.maybe_take(self)
        if self.compact_to > self.log.start_index or self.log.forgotten:
            snapshots.compact(self)
        if type(role) is Leader and (role.rounds or role.confirmed):
            reads.release(self, role)
        effects, self._effects = self._effects, []
        return effects

    # -- what the rules share --------------------------------------------------------------------------------------------

    def why_abstains(self) -> str:
        """Return why this node takes no part in elections; "" if it does."""
        return membership.why_abstains(self)

    @property
    def leader_id(self) -> NodeId | None:
        """Whom this node believes to lead, if anybody."""
        match self.role:
            case Leader():
                return self.node_id
            case Follower():
                return self.role.leader_id
            case _:
                return None

    def hears_a_leader(self, now: float) -> bool:
        """Return whether a leader was heard within the shortest election timeout, or this node leads a quorum (4.2.3)."""
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
        """Return a random time between the shortest and longest election timeout from now (5.2)."""
        # What Random.uniform does, without the call: every append asks for it.
        return now + (self.election_min_s + (self.election_max_s - self.election_min_s) * self._random.random())

    def announce(self, fact: Fact) -> None:
        """Leave a fact for the event log."""
        self._effects.append(Announce(fact))

    def emit(self, effect: Effect) -> None:
        """Leave an effect."""
        self._effects.append(effect)

    def send(self, to: NodeId, message: Message, durable_to: Index = 0) -> None:
        """Send once term, vote and the log up to `durable_to` are on the disk: at once if they are."""
        send = Send(to, message)
        durability = self.durability
        is_durable = durable_to <= durability.durable_index and durability.hard_state_number <= durability.synced_number
        if is_durable or not durability.hold(send, durable_to):
            self._effects.append(send)

    def set_term(self, term: Term, voted_for: NodeId | None, reason: str) -> None:
        """Enter a higher term, or vote in the present one: one record holds both (BUG-02)."""
        assert term >= self.current_term, "the term never falls"
        if term == self.current_term:
            assert self.voted_for is None, "one vote a term"
        else:
            self.announce(TermChanged(term=term, old_term=self.current_term, reason=reason))
        self.current_term = term
        self.voted_for = voted_for
        self.durability.remember_hard_state(HardState(term=term, voted_for=voted_for))

    def become_follower(self, now: float, *, term: Term, leader_id: NodeId | None, reason: str) -> None:
        """Follow `leader_id`, or nobody yet, in `term` (5.1: a higher term is obeyed at once).

        A change of term alone does not put off our own election (BUG-08), but a leader that steps down starts a full timeout.
        """
        if term > self.current_term:
            self.set_term(term, None, reason)
        old = self.role
        deadline = self.new_election_deadline(now) if isinstance(old, Leader) else old.election_deadline
        self._change_role(Follower(deadline, leader_id), reason)
        if isinstance(old, Leader):
            self._close_office(old, leader_id)

    def obey_higher_term(self, term: Term, node_id: NodeId, now: float) -> bool:
        """If the term of a message from `node_id` is above this node's, become a follower in it (5.1); return whether it was."""
        if term <= self.current_term:
            return False
        self.become_follower(now, term=term, leader_id=None, reason=f"node {node_id} has a higher term")
        return True

    def become_pre_candidate(self, now: float, reason: str) -> PreCandidate:
        """Ask before disturbing (9.6): neither term nor vote changes."""
        votes = self.role.granted if isinstance(self.role, Candidate) else set[NodeId]()
        if isinstance(self.role, PreCandidate):
            votes = self.role.votes
        role = PreCandidate(self.new_election_deadline(now), {self.node_id}, votes)
        self._change_role(role, reason)
        return role

    def become_candidate(self, now: float, reason: str) -> Candidate:
        """Begin a new term with a vote for ourselves, which counts when it is on the disk (5.2)."""
        role = Candidate(DISK_DECIDES)
        self.set_term(self.current_term + 1, self.node_id, "starts an election")
        self._change_role(role, reason)
        return role

    def become_leader(self, now: float, reason: str) -> Leader:
        """Begin office with an empty entry of the own term: only that lets older entries commit (5.4.2, 8)."""
        next_index = self.log.last_index + 1
        progress = {peer: Progress(next_index=next_index, heard_at=now) for peer in self.peers}
        leader = Leader(next_index, now + self.heartbeat_s, progress)
        self._change_role(leader, reason)
        if self.uncounted is not None:
            assert self.uncounted != self.node_id, "who is not counted does not stand for election"
            progress[self.uncounted].is_counted = False
        self.append_own(leader, [Entry(self.current_term, NO_OP)])
        leader.tickets.append(None)
        return leader

    def append_own(self, leader: Leader, entries: list[Entry], configurations: tuple[Index, ...] = ()) -> None:
        """Append a leader's own entries, to be written and sent; `configurations` are the indices of those that hold one."""
        leader.may_lack = True
        first_index = self.log.last_index + 1
        self.log.append(entries)
        size = self.log.bytes_between(first_index - 1, self.log.last_index)
        self.durability.remember_entries(first_index, entries, self.log.last_digest, configurations, size=size)

    def advance_commit_to(self, index: Index) -> None:
        """Raise the commit index; it never falls (BUG-16)."""
        if index <= self.commit_index:
            return
        assert index <= self.log.last_index
        fact = CommitAdvanced(term=self.current_term, index=index, old_index=self.commit_index, digest=self.log.digest(index))
        self.commit_index = index
        self.announce(fact)
        if self.receiving is not None:
            snapshots.give_up(self)
        if not self.is_settled:
            membership.settle(self)

    # -- inside ----------------------------------------------------------------------------------------------------------

    def _change_role(self, role: Role, reason: str) -> None:
        assert (self.role.name, role.name) in TRANSITIONS, f"{self.role.name} to {role.name}"
        if role.name != self.role.name:
            self.announce(RoleChanged(term=self.current_term, old=self.role.name, new=role.name, reason=reason))
        self.role = role

    def _close_office(self, leader: Leader, leader_id: NodeId | None) -> None:
        """End all open tickets: proposals may still commit through another leader, reads were not served."""
        tickets = [ticket for ticket in leader.tickets if ticket is not None]
        if tickets:
            self._effects.append(ProposalsUnknown(tickets, leader_id))
        unread = [*leader.new_reads]
        for waiting in (*leader.rounds, *leader.confirmed):
            unread.extend(waiting.tickets)
        if unread:
            self._effects.append(ReadFailed(unread, "not_leader" if leader_id is not None else "no_leader", leader_id))

    def _refusal(self) -> RefusalReason:
        return "no_leader" if self.leader_id is None else "not_leader"

    def _is_overloaded(self, more_entries: int = 0, more_bytes: int = 0) -> bool:
        if self.lacks_room:
            return True
        last, after = self.log.last_index, min(self.commit_index, self.durability.durable_index)
        return (
            last - after + more_entries >= UNCOMMITTED_ENTRIES
            or self.log.bytes_between(after, last) + more_bytes >= UNCOMMITTED_BYTES
        )

    def _apply(self) -> None:
        first = self.last_applied + 1
        last = min(self.commit_index, self.last_applied + APPLY_SLICE)
        self.last_applied = last
        tickets: list[Ticket | None] = []
        if isinstance(self.role, Leader) and last >= self.role.term_start:
            own = last - max(first, self.role.term_start) + 1
            waiting = self.role.tickets
            tickets = [waiting.popleft() for _ in range(own)]
        self._effects.append(Apply(first, last, tickets))
        self._effects.append(
            Announce(
                Applied(
                    term=self.log.term(last),
                    index=last,
                    first_index=first,
                    first_term=self.log.term(first),
                    first_commands=self.log.commands(first, last),
                    digest=self.log.digest(last),
                )
            )
        )

    def _restart_timers_after_stall(self, now: float, late_s: float) -> None:
        """The process was paused (SIGSTOP, VM, GC): handle queued messages before any timeout fires.

        Once for each peer until it is heard again: on a starved machine pauses recur, and there, too, a leader that was cut off
        must step down and a follower whose leader died must stand for election.
        """
        self.durability.not_counted(late_s)
        just_before = nextafter(now, 0.0)  # a message handled at `now` is later
        match self.role:
            case Leader():
                for progress in self.role.progress.values():
                    if progress.heard_at != progress.forgiven_at:
                        progress.heard_at = progress.forgiven_at = just_before
            case Follower():
                heard_at = self.role.heard_leader_at
                forgiven_at = self.role.forgiven_at
                if forgiven_at is None or (heard_at is not None and heard_at > forgiven_at):
                    self.role.forgiven_at = just_before
                    self.role.election_deadline = self.new_election_deadline(now)
            case PreCandidate() | Candidate():
                if self.role.forgiven_at is None:
                    self.role.forgiven_at = just_before
                    self.role.election_deadline = self.new_election_deadline(now)


def _born_with(node_id: NodeId, node_ids: tuple[NodeId, ...]) -> Standing:
    stores = {each: f"store-{each}" for each in node_ids}
    return Standing(store=stores[node_id], identity=identity_of(stores), birth=stores)
