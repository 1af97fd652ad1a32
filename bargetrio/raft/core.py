"""The core: one server of the paper as a state machine, changed by input, which returns effects.

Here are the inputs (`step`, `tick`, `propose`, `read`, `persisted`, ...), the dispatch of each to its rule, and the output
(`take_effects`). The state is in state.py; the rules in election.py, replication.py, commit.py, reads.py, snapshots.py,
receiving.py, membership.py, birth.py, readmission.py, demotion.py and transfer.py import the state and not this file.
"""

from collections.abc import Callable, Collection, Sequence
from math import nextafter
from random import Random
from typing import Final, assert_never

from bargetrio.raft import (
    birth,
    commit,
    demotion,
    election,
    membership,
    readmission,
    reads,
    receiving,
    replication,
    snapshots,
    transfer,
)
from bargetrio.raft.effects import (
    Announce,
    Apply,
    Effect,
    ProposalRefused,
    ReadFailed,
    RefusalReason,
    ReturnedTicket,
    Ticket,
)
from bargetrio.raft.facts import Applied
from bargetrio.raft.messages import (
    AppendReply,
    AppendRequest,
    Command,
    Demotion,
    Entry,
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
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from bargetrio.raft.progress import PIPELINE, Pipeline
from bargetrio.raft.records import Remembered
from bargetrio.raft.roles import UNTIL_SYNCED, Candidate, Follower, Leader, PreCandidate
from bargetrio.raft.snapshot_state import SnapshotLabel, SnapshotPolicy
from bargetrio.raft.standing import Standing
from bargetrio.raft.state import State

AT_ONCE: Final = float("-inf")
"""The deadline of a core, or of its host, that has more to do."""
APPLY_SLICE: Final = 1000
APPLY_BYTES: Final = 4 * 1024 * 1024
"""Entries of one Apply, and bytes of their commands, or one larger command: no step may hold the loop for long."""
UNCOMMITTED_ENTRIES: Final = 100_000
UNCOMMITTED_BYTES: Final = 64 * 1024 * 1024
"""A leader that has more than this uncommitted, or not yet on its own disk, refuses proposals as overloaded."""


class Core(State):
    """One server (Figure 2). `now` is in seconds on a monotonic clock; randomness is the caller's `random`."""

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

        Raises ConsensusViolation if the log ends in a later term than the stored one.
        """
        super().__init__(
            node_id=node_id,
            node_ids=node_ids,
            remembered=remembered,
            heartbeat_s=heartbeat_s,
            election_s=election_s,
            random=random,
            now=now,
            snapshot_policy=snapshot_policy,
            standing=standing,
            pipeline=pipeline,
            has_unsent=has_unsent,
        )
        membership.begin(self, remembered)
        birth.maybe_be_born(self, now)

    # -- inputs ----------------------------------------------------------------------------------------------------------

    def step(self, message: Message, now: float) -> None:
        """Handle one message; raise ConsensusViolation if it shows that an invariant of Raft is broken."""
        self._now = now
        # Not isinstance(): with a msgspec class a negative answer takes four times as long (docs/decisions/simulator_pace.md).
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
                receiving.on_snapshot_request(self, message, now)
            case SnapshotReply():
                snapshots.on_snapshot_reply(self, message, now)
            case StillReceiving():
                replication.on_still_receiving(self, message, now)
            case Introduction():
                birth.on_introduction(self, message, now)
            case LogDiffers():
                demotion.on_log_differs(self, message, now)
            case Demotion():
                demotion.on_demotion(self, message, now)
            case TimeoutNow():
                transfer.on_timeout_now(self, message, now)
            case AppendRequest() | AppendReply():
                raise AssertionError("these are not rare")
            case _:
                assert_never(message)

    def tick(self, now: float) -> None:
        """Handle the timers that are due. One that fires more than a heartbeat late means that this process was paused."""
        own = self.snapshots
        if self.last_applied != own.idle_index or now - own.idle_since > own.policy.idle_s:
            snapshots.maybe_take_when_idle(self, now)
        self._now = now
        if not self.is_settled:
            birth.tick(self, now)
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
        if leader.transfer is not None:  # the client asks again: another node is about to lead
            if ticket is not None:
                self._effects.append(ProposalRefused(ticket, "no_leader", None))
            return
        if self._is_overloaded():
            if ticket is not None:
                self._effects.append(ProposalRefused(ticket, "overloaded", self.node_id))
            return
        self.append_own(leader, [Entry(self.current_term, command)])
        leader.tickets.append(ticket)

    def propose_all(self, tickets: Sequence[Ticket], commands: Sequence[Command], now: float) -> None:
        """Propose many commands as `propose` would one after another, in one append if this node leads and is not overloaded."""
        leader = self.role
        if (
            not isinstance(leader, Leader)
            or leader.transfer is not None
            or self._is_overloaded(len(commands), sum(map(len, commands)))
        ):
            for ticket, command in zip(tickets, commands, strict=True):
                self.propose(ticket, command, now)
            return
        self.append_own(leader, [Entry(self.current_term, command) for command in commands])
        leader.tickets.extend(tickets)

    def forget_reads(self, is_over: Callable[[ReturnedTicket], bool]) -> None:
        """Drop the reads for which `is_over` is true; they are in the order of their deadlines."""
        if isinstance(self.role, Leader):
            reads.forget(self.role, is_over)

    def read(self, ticket: Ticket, now: float) -> None:
        """Ask for a linearizable read; the ticket ends with ReadReady or ReadFailed (Ongaro 6.4)."""
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
        receiving.maybe_load(self)
        if not isinstance(self.role, Leader) and self.role.election_deadline == UNTIL_SYNCED:
            election.start_timer(self, self.role, now)
        if not self.is_settled:
            membership.maybe_admit(self)
        match self.role:
            case Leader():
                commit.advance_commit(self, self.role)
            case Candidate():
                election.count_own_vote(self, self.role, now)
            case _:
                pass

    def bytes_received(self, peer: NodeId, now: float) -> None:
        """Handle the arrival of bytes of a message of `peer` that is not complete yet.

        The host calls it only for a peer whose hello was accepted. It restarts the election timer; no vote or commit counts it.
        """
        replication.on_bytes(self, peer, now)

    def link_up(self, peer: NodeId, now: float) -> None:
        """Note that a new connection to `peer` is open: what was sent over the old one may be lost."""
        if isinstance(self.role, Leader):
            self.role.round += 1
            progress = self.role.progress[peer]
            progress.begin_connection(self.role.round)
            transfer = progress.transfer
            if transfer is not None and not transfer.offset and transfer.snapshot != self.snapshot:
                snapshots.begin_transfer(self, peer, progress)  # nothing of the old one has been acknowledged

    def link_down(self, peer: NodeId) -> None:
        """Note that the connection to `peer` has ended, or could not be opened: a disk that it had may be another one by now.

        The member's store is known by its own connection (`connection_closed`); a refused store's connection is short-lived.
        """
        configuration, (standing, _) = self.configuration, self.membership.seen.get(peer, (None, 0.0))
        if standing is not None and configuration is not None and standing.store != configuration.stores.get(peer):
            del self.membership.seen[peer]

    def piece_missing(self, peer: NodeId, snapshot: SnapshotMeta) -> None:
        """Note that SendChunk to `peer` found no bytes: the file is gone, or shorter than `snapshot.size`."""
        snapshots.on_piece_missing(self, peer, snapshot)

    def take_snapshot(self) -> None:
        """Ask for a snapshot before it is due: it is due as soon as none is under way."""
        self.snapshots.is_asked = True

    def hello_received(self, peer: NodeId, standing: Standing, now: float) -> None:
        """Record the standing in a peer's hello, whether the hello was accepted or not."""
        readmission.on_hello(self, peer, standing, now)

    def connection_closed(self, peer: NodeId, standing: Standing) -> None:
        """Handle the end of a connection of this store: the next one of this peer may be that of another disk."""
        if peer in self.membership.seen and self.membership.seen[peer][0].store == standing.store:
            del self.membership.seen[peer]

    def readmit(self, node_id: NodeId, now: float) -> str:
        """As the leader, propose the store in `node_id`'s last hello as the member's new store (operator's command; Ongaro 4.1).

        Return why that can't be; "" if the entry is proposed, or the node is a member with that store already.
        """
        return readmission.readmit(self, node_id, now)

    def transfer_leadership(self, among: Collection[NodeId], now: float) -> str:
        """As the leader, have one of these elected (Ongaro 3.10); return why none can be, "" if it is under way or done.

        No proposal is taken until another node leads, or the transfer is given up after the longest election timeout.
        """
        return transfer.begin(self, among, now)

    def bootstrap(self, now: float) -> str:
        """Begin a cluster with the members present (an operator's command); return why not, "" if it is under way."""
        return birth.bootstrap(self, now)

    def standing_written(self, standing: Standing, now: float) -> None:
        """Note that the folder holds this standing, synced: WriteStanding or ReplaceStore is done."""
        membership.standing_written(self, standing, now)

    def begin_snapshot(self) -> SnapshotLabel | None:
        """Begin the snapshot that is due (`snapshots.is_due`), after the effects have been performed; None: not yet, or no more.

        The host saves the state machine as it is now, beside everything else, then calls `snapshot_taken` or `snapshot_given_up`.
        """
        return snapshots.begin(self)

    def snapshot_taken(self, snapshot: SnapshotMeta, now: float) -> None:
        """Note that the snapshot that was begun is on the disk, under its name."""
        snapshots.taken(self, snapshot, now)

    def snapshot_given_up(self) -> None:
        """Note that the snapshot that was begun was not saved: it is due again."""
        self.snapshots.end_taking()

    def chunk_stored(self, snapshot: SnapshotMeta, bytes_stored: int, now: float) -> None:
        """Note that StoreChunk is done: the received file has `bytes_stored` synced bytes; once it is whole, it was checked."""
        receiving.chunk_stored(self, snapshot, bytes_stored, now)

    def snapshot_loaded(self, snapshot: SnapshotMeta) -> None:
        """Note that the state machine is what LoadSnapshot asked for."""
        receiving.loaded(self, snapshot)

    # -- output ----------------------------------------------------------------------------------------------------------

    def next_deadline(self, *, may_apply: bool = True) -> float:
        """Return when `tick` must be called at the latest, in seconds of the host's clock; `may_apply` as for `take_effects`.

        AT_ONCE while there are entries that may be applied, or memory to be freed.
        """
        if (self.last_applied < self.commit_index and may_apply and self.has_more_to_apply) or self.log.forgotten:
            return AT_ONCE
        role = self.role
        deadline = role.heartbeat_deadline if type(role) is Leader else role.election_deadline
        return deadline if self.is_settled or self.standing.identity else min(deadline, self.membership.introduce_at)

    @property
    def has_more_to_apply(self) -> bool:
        """Whether another Apply waits for the next `take_effects`."""
        return self.last_applied < self.commit_index and self.snapshots.installing is None

    def take_effects(self, *, may_apply: bool = True) -> list[Effect]:
        """Return the effects since the last call, in the order in which they must be performed; call it after every batch.

        Without `may_apply` what is committed waits.
        """
        role = self.role
        if type(role) is Leader:
            if role.new_reads:
                reads.confirm(role)  # frees rounds for waiting reads
                reads.start_round(self, role)
            if role.has_lagging_follower:
                replication.send_entries(self, role)
        if self.durability.is_queued:
            persist = self.durability.next_write(self._now, self.pipeline.write_bytes)
            if persist is not None:
                self._effects.append(persist)
        if self.last_applied < self.commit_index and may_apply and self.has_more_to_apply:
            self._apply()
        own = self.snapshots
        if self.last_applied != own.policy_checked_index or own.is_asked:
            snapshots.check_due(self)
        if own.compact_to > self.log.start_index or self.log.forgotten:
            snapshots.compact(self)
        if type(role) is Leader:
            if role.rounds or role.confirmed:
                reads.release(self, role)
            if role.transfer is not None:
                transfer.advance(self, role)
        effects, self._effects = self._effects, []
        return effects

    # -- private ---------------------------------------------------------------------------------------------------------

    def why_abstains(self) -> str:
        """Return why this node takes no part in elections; "" if it does."""
        return membership.why_abstains(self)

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
        if last > first and self.log.bytes_between(self.last_applied, last) > APPLY_BYTES:
            last = self.log.batch_end(first, APPLY_SLICE, APPLY_BYTES)
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

        Once per peer until its next message: where pauses recur, a partitioned leader must still step down, and a follower whose
        leader died must still stand for election.
        """
        self.durability.exclude_pause(late_s)
        just_before = nextafter(now, 0.0)  # a message handled at `now` is later
        match self.role:
            case Leader():
                for progress in self.role.progress.values():
                    if progress.heard_at != progress.timer_restarted_at:
                        progress.heard_at = progress.timer_restarted_at = just_before
            case Follower():
                heard_at = self.role.heard_leader_at
                timer_restarted_at = self.role.timer_restarted_at
                if timer_restarted_at is None or (heard_at is not None and heard_at > timer_restarted_at):
                    self.role.timer_restarted_at = just_before
                    self.role.election_deadline = self.new_election_deadline(now)
            case PreCandidate() | Candidate():
                if self.role.timer_restarted_at is None:
                    self.role.timer_restarted_at = just_before
                    self.role.election_deadline = self.new_election_deadline(now)
