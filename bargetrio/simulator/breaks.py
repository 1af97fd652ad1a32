"""Planted bugs: each takes one rule away, and the simulator must find it (`bargetrio simulate --break NAME`).

They show what a rule is for, and prove that the simulator would notice its loss. A break replaces a function of the running
program for one run and puts it back; nothing of it is in the program otherwise.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from msgspec import Struct, structs

from bargetrio.kv.store import Store
from bargetrio.raft import election, reads, replication
from bargetrio.raft.core import Core
from bargetrio.raft.durability import Durability
from bargetrio.raft.effects import ProposalRefused, ReadReady, Send
from bargetrio.raft.log import Log
from bargetrio.raft.messages import AppendReply, AppendRequest, Entry, VoteReply, VoteRequest
from bargetrio.raft.records import Record, Truncate
from bargetrio.raft.roles import Candidate, Follower, Leader, Progress, ReadRound
from bargetrio.simulator.clients import Call, Client
from bargetrio.simulator.disk import SimulatedDisk, SimulatedFile
from bargetrio.storage import lines
from bargetrio.storage.recovery import Recovered, segment_name
from bargetrio.storage.wal import OpenFolder


class Patches:
    """Replaces attributes until `undo`."""

    def __init__(self) -> None:
        self._old: list[tuple[Any, str, Any]] = []

    def set(self, owner: Any, name: str, value: Any) -> Any:
        """Replace `owner.name`; return what was there."""
        old = owner.__dict__[name]
        self._old.append((owner, name, old))
        setattr(owner, name, value)
        return old

    def undo(self) -> None:
        """Put everything back."""
        for owner, name, value in reversed(self._old):
            setattr(owner, name, value)
        self._old.clear()


class Break(Struct, frozen=True):
    """A rule, where it is written, and how to take it away."""

    rule: str
    source: str
    apply: Callable[[Patches], None]


BREAKS: Final[dict[str, Break]] = {}


def _breaks(rule: str, source: str) -> Callable[[Callable[[Patches], None]], Callable[[Patches], None]]:
    def register(apply: Callable[[Patches], None]) -> Callable[[Patches], None]:
        BREAKS[apply.__name__] = Break(rule, source, apply)
        return apply

    return register


@contextmanager
def broken(name: str | None) -> Iterator[None]:
    """Run with one rule taken away; None takes none. Raise KeyError for an unknown name."""
    patches = Patches()
    if name is not None:
        BREAKS[name].apply(patches)
    try:
        yield
    finally:
        patches.undo()


Said = TypeVar("Said", VoteReply, AppendRequest, AppendReply)


def _misreads(patches: Patches, module: Any, handler: str, misread: Callable[[Core, Said], Said]) -> None:
    """The handler takes every message for what `misread` makes of it."""
    old = module.__dict__[handler]

    def handle(core: Core, message: Said, now: float) -> None:
        old(core, misread(core, message), now)

    patches.set(module, handler, handle)


def _as_of_this_term(core: Core, message: Said) -> Said:
    """An old term's message, taken for one of the present term."""
    return structs.replace(message, term=max(message.term, core.current_term))


# -- votes and terms -----------------------------------------------------------------------------------------------------


def _lets_through(patches: Patches, kind: type) -> None:
    """Messages of this kind no longer wait for the disk."""
    old = Durability.hold

    def hold(self: Durability, send: Send, index: int = 0) -> bool:
        return False if isinstance(send.message, kind) else old(self, send, index)

    patches.set(Durability, "hold", hold)


@_breaks("a vote is answered only when it is on the disk", "5.2, 3.8; BUG-01")
def vote_before_sync(patches: Patches) -> None:
    _lets_through(patches, VoteReply)


@_breaks("a candidate asks, and counts itself, when its own vote is on the disk", "5.2; BUG-50")
def own_vote_before_sync(patches: Patches) -> None:
    _lets_through(patches, VoteRequest)
    patches.set(Durability, "hard_state_is_durable", property(lambda self: True))


@_breaks("term and vote are remembered over a restart", "Figure 2; BUG-01")
def term_and_vote_forgotten(patches: Patches) -> None:
    patches.set(Durability, "remember_hard_state", lambda self, hard_state: None)


@_breaks("a vote is not taken back when its giver steps down", "BUG-03")
def vote_cleared_on_step_down(patches: Patches) -> None:
    old = Core.become_follower

    def become_follower(self: Core, now: float, **arguments: Any) -> None:
        same_term = arguments["term"] == self.current_term
        was_follower = isinstance(self.role, Follower)
        old(self, now, **arguments)
        if same_term and not was_follower:
            self.voted_for = None

    patches.set(Core, "become_follower", become_follower)


@_breaks("a server votes once a term", "5.2; BUG-05")
def two_votes_a_term(patches: Patches) -> None:
    old = election._why_no_vote

    def why_no_vote(core: Core, message: VoteRequest, now: float) -> str:
        reason = old(core, message, now)
        return "" if reason.startswith("already voted") and not isinstance(core.role, Leader) else reason

    patches.set(election, "_why_no_vote", why_no_vote)


@_breaks("a vote goes only to a log at least as up to date", "5.4.1")
def logs_not_compared(patches: Patches) -> None:
    patches.set(Log, "is_behind", lambda self, last_log_index, last_log_term: True)


@_breaks("a vote counts in its own term only", "5.2; BUG-06")
def old_votes_count(patches: Patches) -> None:
    _misreads(patches, election, "on_vote_reply", _as_of_this_term)


@_breaks("each voter counts once", "5.2; BUG-06")
def repeated_votes_count(patches: Patches) -> None:
    def misread(core: Core, message: VoteReply) -> VoteReply:
        role = core.role
        again = isinstance(role, Candidate) and message.granted and message.voter_id in role.granted
        return structs.replace(message, voter_id=1000 + len(role.granted)) if again else message  # type: ignore[union-attr]

    _misreads(patches, election, "on_vote_reply", misread)


# -- time ----------------------------------------------------------------------------------------------------------------


@_breaks("hearing the leader puts off the own election", "5.2")
def timer_not_reset_by_append(patches: Patches) -> None:
    old = replication.follow

    def follow(core: Core, term: int, leader_id: int, now: float) -> Follower:
        deadline = core._timer
        follower = old(core, term, leader_id, now)
        if deadline < follower.election_deadline:
            follower.election_deadline = max(deadline, now)
        return follower

    patches.set(replication, "follow", follow)


@_breaks("a granted vote puts off the own election", "5.2; BUG-09")
def timer_not_reset_by_vote(patches: Patches) -> None:
    old = election.on_vote_request

    def on_vote_request(core: Core, message: VoteRequest, now: float) -> None:
        deadline = core._timer
        old(core, message, now)
        if isinstance(core.role, Follower):
            core.role.election_deadline = deadline

    patches.set(election, "on_vote_request", on_vote_request)


@_breaks("a leader that hears no majority steps down", "6.2")
def no_check_quorum(patches: Patches) -> None:
    def on_heartbeat_deadline(core: Core, leader: Leader, now: float) -> None:
        leader.heartbeat_deadline = now + core.heartbeat_s
        for peer, progress in leader.progress.items():
            replication.send_empty(core, leader, peer, progress)

    patches.set(replication, "on_heartbeat_deadline", on_heartbeat_deadline)


# -- the log -------------------------------------------------------------------------------------------------------------


@_breaks("an append is answered only when its entries are on the disk", "3.8; BUG-50")
def append_answered_before_sync(patches: Patches) -> None:
    _lets_through(patches, AppendReply)


@_breaks("an append of an old term is rejected", "5.1")
def old_term_append(patches: Patches) -> None:
    def misread(core: Core, message: AppendRequest) -> AppendRequest:
        return message if isinstance(core.role, Leader) else _as_of_this_term(core, message)

    _misreads(patches, replication, "on_append_request", misread)


@_breaks("entries are appended only after an entry that both logs hold", "5.3")
def previous_entry_unchecked(patches: Patches) -> None:
    def misread(core: Core, message: AppendRequest) -> AppendRequest:
        if message.prev_log_index > core.log.last_index:
            return message
        return structs.replace(message, prev_log_term=core.log.term(message.prev_log_index))

    _misreads(patches, replication, "on_append_request", misread)


@_breaks("entries that conflict are deleted", "5.3; BUG-23")
def conflict_kept(patches: Patches) -> None:
    def first_conflict(self: Log, prev_log_index: int, entries: Sequence[Entry]) -> int:
        return max(0, min(len(entries), self.last_index - prev_log_index))

    patches.set(Log, "first_conflict", first_conflict)


@_breaks("only entries that conflict are deleted", "5.3; BUG-22")
def unconditional_truncation(patches: Patches) -> None:
    patches.set(Log, "first_conflict", lambda self, prev_log_index, entries: 0)


@_breaks("a truncation is remembered over a restart", "5.3; BUG-40")
def truncation_not_written(patches: Patches) -> None:
    old = Durability.remember_truncation

    def remember_truncation(self: Durability, from_index: int, last_term: int, digest: int) -> None:
        old(self, from_index, last_term, digest)
        self._log_records.pop()

    patches.set(Durability, "remember_truncation", remember_truncation)


@_breaks("a write proves nothing about entries that were truncated while it ran", "BUG-26")
def truncation_during_write(patches: Patches) -> None:
    def remember_truncation(self: Durability, from_index: int, last_term: int, digest: int) -> None:
        self._log_records.append(Truncate(from_index=from_index, last_term=last_term, digest=digest))
        self._queued_covers = from_index - 1

    patches.set(Durability, "remember_truncation", remember_truncation)


@_breaks("after a rejection the leader looks further back", "5.3; BUG-27")
def rejection_ignored(patches: Patches) -> None:
    def on_refusal(core: Core, progress: Progress, message: AppendReply) -> None:
        progress.probe_sent = False

    patches.set(replication, "_on_refusal", on_refusal)


@_breaks("what was acknowledged leaves the window", "10.2.1; BUG-27")
def window_never_freed(patches: Patches) -> None:
    old = replication._on_success

    def on_success(core: Core, progress: Progress, message: AppendReply) -> None:
        kept, size = list(progress.in_flight), progress.in_flight_bytes
        old(core, progress, message)
        progress.in_flight.clear()
        progress.in_flight.extend(kept)
        progress.in_flight_bytes = size

    patches.set(replication, "_on_success", on_success)


# -- commit --------------------------------------------------------------------------------------------------------------


def _commits(patches: Patches, choose: Callable[[Core, Leader], int]) -> None:
    """The leader commits up to what `choose` returns."""

    def advance_commit(core: Core, leader: Leader) -> None:
        core.advance_commit_to(choose(core, leader))

    patches.set(replication, "advance_commit", advance_commit)


def _matched(core: Core, leader: Leader, own: int, count: int) -> int:
    matched = [*(progress.match_index for progress in leader.progress.values()), own]
    return sorted(matched, reverse=True)[count - 1]


@_breaks("only entries of the own term are committed by counting", "5.4.2, Figure 8; BUG-15")
def figure_8(patches: Patches) -> None:
    _commits(patches, lambda core, leader: _matched(core, leader, core.durability.durable_index, core.majority))


@_breaks("an entry is committed when a majority holds it", "5.3")
def minority_commits(patches: Patches) -> None:
    def choose(core: Core, leader: Leader) -> int:
        index = _matched(core, leader, core.durability.durable_index, max(1, core.majority - 1))
        return index if index >= leader.term_start else 0

    _commits(patches, choose)


@_breaks("the leader's own copy counts when it is on its disk", "10.2.1; BUG-50")
def leader_counts_unsynced(patches: Patches) -> None:
    def choose(core: Core, leader: Leader) -> int:
        index = _matched(core, leader, core.log.last_index, core.majority)
        return index if index >= leader.term_start else 0

    _commits(patches, choose)


@_breaks("a follower commits only what this append verified", "5.3; BUG-17")
def commit_beyond_verified(patches: Patches) -> None:
    old = replication.on_append_request

    def on_append_request(core: Core, message: AppendRequest, now: float) -> None:
        old(core, message, now)
        prev = message.prev_log_index
        agrees = prev <= core.log.last_index and core.log.term(prev) == message.prev_log_term
        if agrees and message.term == core.current_term:
            core.advance_commit_to(min(message.leader_commit, core.log.last_index))

    patches.set(replication, "on_append_request", on_append_request)


@_breaks("the commit index never falls", "Figure 2; BUG-16")
def commit_falls(patches: Patches) -> None:
    old = Core.advance_commit_to

    def advance_commit_to(self: Core, index: int) -> None:
        old(self, index)
        if not isinstance(self.role, Leader):
            self.commit_index = index

    patches.set(Core, "advance_commit_to", advance_commit_to)


@_breaks("match_index only rises", "Figure 2; BUG-18")
def match_falls(patches: Patches) -> None:
    old = replication._on_success

    def on_success(core: Core, progress: Progress, message: AppendReply) -> None:
        old(core, progress, message)
        if message.match_index <= core.log.last_index:
            progress.match_index = message.match_index

    patches.set(replication, "_on_success", on_success)


@_breaks("an answer to an earlier term's append proves nothing", "5.1; BUG-19")
def old_append_reply_counts(patches: Patches) -> None:
    def misread(core: Core, message: AppendReply) -> AppendReply:
        return _as_of_this_term(core, message) if isinstance(core.role, Leader) else message

    _misreads(patches, replication, "on_append_reply", misread)


# -- reads and answers ---------------------------------------------------------------------------------------------------


@_breaks("no read before an entry of the own term is committed", "6.4; BUG-42")
def read_before_first_commit(patches: Patches) -> None:
    def start_round(core: Core, leader: Leader) -> None:
        if not leader.new_reads:
            return
        leader.round += 1
        leader.rounds.append(ReadRound(leader.round, core.commit_index, leader.new_reads))
        leader.new_reads = []
        for peer, progress in leader.progress.items():
            replication.send_empty(core, leader, peer, progress)

    patches.set(reads, "start_round", start_round)


@_breaks("a read is confirmed by a majority", "6.4; BUG-43")
def read_without_quorum(patches: Patches) -> None:
    def release(core: Core, leader: Leader) -> None:
        while leader.rounds:
            ready = leader.rounds.popleft()
            core.emit(ReadReady(ready.tickets, ready.read_index))

    patches.set(reads, "release", release)


@_breaks("only answers to a later round confirm a read", "6.4; BUG-44")
def any_answer_confirms_a_read(patches: Patches) -> None:
    def misread(core: Core, message: AppendReply) -> AppendReply:
        return structs.replace(message, round=core.role.round) if isinstance(core.role, Leader) else message

    _misreads(patches, replication, "on_append_reply", misread)


@_breaks("an outcome that nobody knows is not called a refusal", "docs/architecture.md; BUG-47")
def unknown_called_refused(patches: Patches) -> None:
    old = Core._close_office

    def close_office(self: Core, leader: Leader, leader_id: int | None) -> None:
        for ticket in leader.tickets:
            if ticket is not None:
                self.emit(ProposalRefused(ticket, "not_leader", leader_id))
        leader.tickets.clear()
        old(self, leader, leader_id)

    patches.set(Core, "_close_office", close_office)


@_breaks("a client does not repeat a write whose outcome is unknown", "BUG-47")
def unknown_repeated(patches: Patches) -> None:
    old = Client.on_unknown

    def on_unknown(self: Client, call: Call) -> None:
        if not call.done and call.request is not None and call.tries < 20:
            call.client.on_refused(call, None)
            self._world.after(1.5, self.on_unknown, call)
        else:
            old(self, call)

    patches.set(Client, "on_unknown", on_unknown)


@_breaks("a condition is judged when the write is applied", "docs/architecture.md")
def condition_ignored(patches: Patches) -> None:
    old = Store._put

    def put(self: Store, command: Any, index: int) -> Any:
        return old(self, structs.replace(command, if_index=None), index)

    patches.set(Store, "_put", put)


# -- the disk ------------------------------------------------------------------------------------------------------------


@_breaks("a write is synced before it is told", "BUG-50, BUG-56")
def nothing_is_synced(patches: Patches) -> None:
    patches.set(SimulatedFile, "sync", lambda self: None)


@_breaks("a failed sync stops the node", "BUG-51")
def failed_sync_ignored(patches: Patches) -> None:
    old = OpenFolder.write

    def write(self: OpenFolder, records: Sequence[Record]) -> None:
        try:
            old(self, records)
        except OSError:
            if isinstance(self._disk, SimulatedDisk) and self._disk.unplugged_at is not None:
                raise
            self._failed = ""
            self._note(records)

    patches.set(OpenFolder, "write", write)


@_breaks("recovery writes the last segment anew: what is read need not be on the disk", "BUG-51, BUG-53")
def tail_not_rewritten(patches: Patches) -> None:
    old = OpenFolder._renew_last_segment

    def renew(self: OpenFolder, recovered: Recovered) -> Any:
        if not recovered.last_segment:
            return old(self, recovered)
        name = segment_name(recovered.segments[-1][0])
        file = self._disk.open(name)
        self._file = file
        self._offset = len(recovered.last_segment)
        self._size = len(self._disk.read(name))
        return file

    patches.set(OpenFolder, "_renew_last_segment", renew)


@_breaks("a new segment's name is on the disk before its first record", "BUG-52")
def folder_not_synced(patches: Patches) -> None:
    patches.set(SimulatedDisk, "sync_dir", lambda self, folder: None)


@_breaks("a record has a checksum", "BUG-56")
def checksum_ignored(patches: Patches) -> None:
    patches.set(lines, "crc32", lambda data: 0)
