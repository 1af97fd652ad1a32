"""The loop of one server: wait for input or time, give it to the core, do what the core says.

One pass takes all that waits: requests of every connection, messages of every peer, the end of a write. So a batch is appended
once, encoded once, synced once, and each client gets one send.
"""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, assert_never, cast

import trio
from msgspec import Raw, Struct

from bargetrio.eventlog.driver_facts import RequestAnswered, RequestReceived, Sink
from bargetrio.kv.lookup import look_up
from bargetrio.kv.store import Refused, Removed, Store, Unusable, Written
from bargetrio.node.clients import Batch, ClientSession, Ticket
from bargetrio.node.figures import NodeFigures
from bargetrio.node.persister import Persister, StorageFailed
from bargetrio.node.snapshots import Snapshots, Then
from bargetrio.node.turns import Turns
from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.requests import (
    Delete,
    DeleteAnswer,
    ErrorAnswer,
    Get,
    List,
    Put,
    PutAnswer,
    Request,
)
from bargetrio.raft.core import Core
from bargetrio.raft.effects import (
    Announce,
    Apply,
    Compact,
    LoadSnapshot,
    Persist,
    ProposalRefused,
    ProposalsUnknown,
    ReadFailed,
    ReadReady,
    ReplaceStore,
    Send,
    SendChunk,
    StoreChunk,
    TakeSnapshot,
    WriteStanding,
)
from bargetrio.raft.effects import Ticket as AnyTicket
from bargetrio.raft.messages import AppendRequest, Message, NodeId
from bargetrio.raft.roles import Leader
from bargetrio.transport.arrivals import NOW, Arrivals, TaskArrivals

REQUESTS_A_PASS: Final = 2000
MESSAGES_A_PASS: Final = 256
ENTRIES_A_PASS: Final = 1000
"""No pass holds the loop for long; what is left waits for the next one, after everybody else had a turn."""
LONG_BACKLOG: Final = 10_000
"""Committed entries that are not applied yet: with so many a node is busy for a while, after a restart most often."""
TURN_S: Final = 1.0
"""Longest time in seconds between two steps of the loop: a node whose last step is older hangs (the watchdog checks)."""

Failures = dict[tuple[str, str], int]
"""How many requests were answered with an error, by ("write" or "read", the error's code)."""


class Driver:
    """Owns the core and the store of one server; everything else talks to it through its inbox."""

    def __init__(
        self,
        *,
        core: Core,
        store: Store,
        sink: Sink,
        post: Callable[[NodeId, Message], None],
        addresses: dict[NodeId, str],
        request_timeout_s: float,
        turns: Turns | None = None,
        figures: NodeFigures | None = None,
        arrivals: Arrivals | None = None,
    ) -> None:
        self.core = core
        self.store = store
        self.last_turn = trio.current_time()
        self.persister: Persister | None = None
        self.snapshots: Snapshots | None = None
        self.write_standing: Callable[[WriteStanding | ReplaceStore], None] | None = None
        self._sink = sink
        self._post = post
        self._addresses = addresses
        self._request_timeout_s = request_timeout_s
        self._turns = Turns() if turns is None else turns
        self._figures = NodeFigures() if figures is None else figures
        self._messages: deque[Message] = deque()
        self._requests: deque[tuple[ClientSession, Batch]] = deque()
        self._then: dict[int, Persist] = {}
        self._written: deque[tuple[int, OSError | None]] = deque()
        self._ended: deque[Then] = deque()
        self._failure: OSError | None = None
        self._waiting: deque[Ticket] = deque()
        self._dirty: list[ClientSession] = []
        self._with_room: list[ClientSession] = []
        """Sessions with room for answers again, whose postponed reads may be looked up now."""
        self._fenced = False
        self._arrivals = TaskArrivals() if arrivals is None else arrivals

    # -- the inbox -------------------------------------------------------------------------------------------------------

    def take_message(self, message: Message) -> None:
        """Queue a peer's message for the next pass; a caller outside `Arrivals.read` must wake the loop (`ring`)."""
        self._messages.append(message)

    def bytes_came(self, peer_id: NodeId) -> None:
        """Queue that a part of a peer's long message has come, as `take_message` does with a whole one."""
        self._ended.append(lambda core, now: core.bytes_came(peer_id, now))

    def take_requests(self, session: ClientSession, batch: Batch) -> None:
        """Queue a client's requests for the next pass; a caller outside `Arrivals.read` must wake the loop (`ring`)."""
        self._requests.append((session, batch))

    def write_done(self, number: int, failure: OSError | None) -> None:
        """The persister ended a write; may be called from any thread."""
        self.write_ended(number, failure)
        self._arrivals.ring()

    def write_ended(self, number: int, failure: OSError | None) -> None:
        """As `write_done`, told in this loop just before or in a turn: a bell would only bring another turn, for nothing."""
        self._written.append((number, failure))

    def snapshot_step_done(self, then: Then) -> None:
        """Queue a call of the core, as at the end of a snapshot's work or when a link is up, and wake the loop."""
        self._ended.append(then)
        self._arrivals.ring()

    def ask_for_snapshot(self) -> None:
        """Have a snapshot taken, now or as soon as the one under way is done."""
        if not self.core.is_snapshot_asked and not self.core.is_taking:
            self.core.take_snapshot()
            self._arrivals.ring()

    def disk_failed(self, failure: OSError) -> None:
        """End the node: a snapshot or `meta` could not be written or read, so the disk is not to be trusted any more."""
        self._failure = failure
        self._arrivals.ring()

    def replace_store(self, store: Store) -> Store:
        """Put the state of a loaded snapshot in place; return the old one."""
        old, self.store = self.store, store
        return old

    def session_has_answers(self, session: ClientSession) -> None:
        """Flush a session at the end of this pass."""
        self._dirty.append(session)

    def session_has_room(self, session: ClientSession) -> None:
        """Look up a session's postponed reads in the next pass."""
        self._with_room.append(session)
        self._arrivals.ring()

    # -- the loop --------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Drive until cancelled; raises StorageFailed or ConsensusViolation, after which this server must stop."""
        try:
            await self._arrivals.drive(self._turn)
        finally:
            self._turns.hurry(self, hurries=False)

    def fail_waiting(self, error: BargeError) -> None:
        """Answer every waiting request with `error`: this server ends."""
        failed: Failures = {}
        for ticket in self._waiting:
            if not ticket.done:
                self._count_failure(ticket, error.code)
                ticket.answer(ErrorAnswer.of(ticket.request.id, error))
                _add(failed, _op_of(ticket.request), error.code)
        self._waiting.clear()
        self._tell_failures(failed)
        self._sink.flush()
        self._flush()

    def fence(self) -> None:
        """This node is dead: a turn that comes before its task has heard of it does nothing, and tells nothing."""
        self._fenced = True
        if self.snapshots is not None:
            self.snapshots.fence()

    def _turn(self) -> float:
        """Take what waits; return when the next turn is due."""
        if self._fenced:
            return float("inf")
        now = self.last_turn = trio.current_time()
        try:
            self._pass(now)
        finally:
            self._sink.flush()  # only now: nobody waits for it
        has_more = self._messages or self._requests or self._written or self._ended or self._failure or self._with_room
        return NOW if has_more else self._next_deadline()

    def _next_deadline(self) -> float:
        deadline = min(self.core.next_deadline, self.last_turn + TURN_S)
        return min(deadline, self._waiting[0].deadline) if self._waiting else deadline

    def _pass(self, now: float) -> None:
        core = self.core
        if self._failure is not None:
            raise StorageFailed(self._failure.strerror or str(self._failure)) from self._failure
        while self._written:
            self._finish_write(*self._written.popleft(), now)
        configuration = core.configuration
        while self._ended:
            self._ended.popleft()(core, now)
        if core.configuration is not configuration:
            # Messages in the queue came from connections that were accepted by the members' old stores: Raft sends them again.
            self._messages.clear()
        self._take_messages(now)
        self._take_requests(now)
        if self._with_room:
            self._resume_reads()
        configuration = core.configuration
        core.tick(now)
        if core.configuration is not configuration:
            self._messages.clear()  # as above
        self._let_others_go_first(now)
        self._perform()
        self._figures.see_leader(core.leader_id, core.current_term)
        self._expire(now)
        self._flush()

    def _let_others_go_first(self, now: float) -> None:
        """Say what waits here for another node of this process."""
        core, turns = self.core, self._turns
        is_behind = core.commit_index - core.last_applied > LONG_BACKLOG
        turns.hurry(self, hurries=is_behind and isinstance(core.role, Leader))
        core.must_not_apply = is_behind and not turns.may_apply(self)
        wants = core.is_due and not is_behind
        core.must_not_take = is_behind or (self.snapshots is not None and self.snapshots.must_wait(now, wants=wants))

    def _take_messages(self, now: float) -> None:
        messages = self._messages
        entries = 0
        configuration = self.core.configuration
        for _ in range(min(len(messages), MESSAGES_A_PASS)):
            message = messages.popleft()
            self.core.step(message, now)
            if self.core.configuration is not configuration:
                messages.clear()  # as in _pass
                break
            if isinstance(message, AppendRequest):
                entries += len(message.entries)
                if entries >= ENTRIES_A_PASS:
                    break

    def _finish_write(self, number: int, failure: OSError | None, now: float) -> None:
        if failure is not None:
            raise StorageFailed(failure.strerror or str(failure)) from failure
        for send in self._then.pop(number).then:
            self._post(send.to, send.message)
        self.core.persisted(number, now)

    def _perform(self) -> None:
        failed: Failures = {}
        for effect in self.core.take_effects():
            match effect:
                case Announce():
                    self._sink.stage(self.core.node_id, effect.fact)
                    self._figures.note(effect.fact)
                case Send():
                    self._post(effect.to, effect.message)
                case Persist():
                    assert self.persister is not None
                    self._then[effect.number] = effect
                    self.persister.begin(effect.number, effect.records)
                case Apply():
                    self._apply(effect)
                case WriteStanding() | ReplaceStore():
                    assert self.write_standing is not None
                    self.write_standing(effect)
                case TakeSnapshot() | Compact() | SendChunk() | StoreChunk() | LoadSnapshot():
                    self._perform_for_snapshots(effect)
                case ReadReady():
                    self._answer_reads(cast("list[Ticket]", effect.tickets))  # all that was ever given to `core.read_all`
                case ReadFailed():
                    error = self._refusal(effect.reason, effect.leader)
                    for ours in map(_ours, effect.tickets):
                        if not ours.done:
                            self._answer_error(ours, error)
                            _add(failed, "read", error.code)
                case ProposalRefused():
                    error = self._refusal(effect.reason, effect.leader)
                    self._figures.proposals_failed[effect.reason] += 1
                    self._answer_error(effect.ticket, error)
                    _add(failed, "write", error.code)
                case ProposalsUnknown():
                    detail = "this node lost its office before the write was committed; it may still be, by another leader"
                    error = BargeError("outcome_unknown", detail, leader=effect.leader)
                    for ours in map(_ours, effect.tickets):
                        if not ours.done:
                            self._count_failure(ours, error.code)
                            self._answer_error(ours, error)
                            _add(failed, "write", error.code)
                case _:
                    assert_never(effect)
        self._tell_failures(failed)

    def _perform_for_snapshots(self, effect: TakeSnapshot | Compact | SendChunk | StoreChunk | LoadSnapshot) -> None:
        snapshots = self.snapshots
        assert snapshots is not None
        match effect:
            case TakeSnapshot():
                snapshots.take(effect, self.store)
            case Compact():
                snapshots.compact(effect)
            case SendChunk():
                snapshots.send_chunk(effect)
            case StoreChunk():
                snapshots.store_chunk(effect)
            case LoadSnapshot():
                snapshots.load(effect)
            case _:
                assert_never(effect)

    # -- requests --------------------------------------------------------------------------------------------------------

    def _take_requests(self, now: float) -> None:
        """Take what clients ask; all writes are proposed together."""
        deadline = now + self._request_timeout_s
        count = 0
        tickets: list[Ticket] = []
        commands: list[Raw] = []
        while self._requests and count < REQUESTS_A_PASS:
            session, batch = self._requests.popleft()
            count += len(batch.writes) + len(batch.reads)
            tickets += [Ticket(session, write, deadline) for write in batch.writes]
            commands += batch.commands
            if batch.reads:
                self._take_reads(session, batch.reads, deadline, now)
        if tickets:
            self._waiting += tickets
            self.core.propose_all(tickets, commands, now)
            fact = RequestReceived(count=len(tickets), op="write", first_commands=tuple(commands[:3]))
            self._sink.stage(self.core.node_id, fact)

    def _take_reads(self, session: ClientSession, reads: list[Get | List], deadline: float, now: float) -> None:
        tickets = [Ticket(session, read, deadline) for read in reads if read.read != "stale"]
        self._waiting += tickets
        self.core.read_all(tickets, now)
        if len(tickets) < len(reads):
            stale = [Ticket(session, read, deadline) for read in reads if read.read == "stale"]
            self._answer_reads(stale)
            self._waiting += [ticket for ticket in stale if not ticket.done]

    def _answer_reads(self, tickets: Iterable[Ticket]) -> None:
        """Look them up, but those whose time is over or whose client must fetch earlier answers first.

        A linearizable read that is put off stays one: the state at any later moment holds all that it must show (Ongaro 6.4).
        """
        store = self.store
        for ticket in tickets:
            session = ticket.session
            if session.room <= 0 or ticket.done:
                session.put_off(ticket)
                continue
            answer, size = look_up(store, ticket.request)
            session.room -= size
            ticket.answer(answer)

    def _resume_reads(self) -> None:
        sessions, self._with_room = self._with_room, []
        for session in sessions:
            self._answer_reads(session.take_put_off())

    def _apply(self, effect: Apply) -> None:
        """Apply committed entries and answer who waits; the core has paired its tickets with its own entries."""
        log, store, tickets = self.core.log, self.store, effect.tickets
        first_ticket = effect.last - len(tickets) + 1
        if effect.first < first_ticket:
            store.apply_all([entry.command for entry in log.slice(effect.first, first_ticket - 1)], effect.first)
        if not tickets:
            return
        entries = log.slice(first_ticket, effect.last)
        outcomes = store.apply_each([entry.command for entry in entries], first_ticket)
        failed: Failures = {}
        answered, proposed_at = 0, 0.0
        for index, (ticket, entry, outcome) in enumerate(zip(tickets, entries, outcomes, strict=True), first_ticket):
            if ticket is None or (ours := _ours(ticket)).done or outcome is None:
                continue
            if not answered:
                proposed_at = ours.deadline - self._request_timeout_s
            answered += 1
            answer = _answer_of(outcome, ours.request.id, index, entry.term)
            if type(answer) is ErrorAnswer:  # of a msgspec class isinstance takes four times as long to say no
                _add(failed, "write", answer.error)
            ours.answer(answer)
        if answered:
            self._figures.proposals_committed += answered
            self._figures.commit.observe(trio.current_time() - proposed_at)
            done = answered - sum(failed.values())
            if done:
                self._tell_answered(done, "write", "")
            self._tell_failures(failed)

    def _refusal(self, reason: str, leader: NodeId | None) -> BargeError:
        if reason == "overloaded" and self.core.lacks_room:
            detail = f"the disk of node {self.core.node_id} is nearly full: nothing is written before there is room on it"
            return BargeError("overloaded", detail, leader=leader)
        if reason == "overloaded":
            return BargeError("overloaded", "too many writes wait to be committed; try again", leader=leader)
        if leader is None:
            return BargeError("no_leader", f"node {self.core.node_id} knows no leader")
        detail = f"node {self.core.node_id} is not the leader, node {leader} is"
        return BargeError("not_leader", detail, leader=leader, address=self._addresses.get(leader))

    def _answer_error(self, ticket: AnyTicket, error: BargeError) -> None:
        ours = _ours(ticket)
        ours.answer(ErrorAnswer.of(ours.request.id, error))

    def _expire(self, now: float) -> None:
        """Give up on requests whose time is over: a write that was proposed may still be committed."""
        waiting = self._waiting
        expired: Failures = {}
        left = REQUESTS_A_PASS
        while left and waiting and (waiting[0].done or waiting[0].deadline <= now):
            ticket = waiting.popleft()
            if ticket.done:
                continue
            left -= 1
            op = _op_of(ticket.request)
            if op == "write":
                error = BargeError("outcome_unknown", "not committed in time; the write may still be applied later")
            elif ticket.is_put_off:
                error = BargeError("overloaded", "earlier answers on this connection were not fetched in time")
            else:
                error = BargeError("no_leader", "no majority confirmed the read in time")
            self._count_failure(ticket, error.code)
            ticket.answer(ErrorAnswer.of(ticket.request.id, error))
            _add(expired, op, error.code)
        self._tell_failures(expired)
        if expired:
            self.core.forget_reads(lambda ticket: _ours(ticket).done)

    def _count_failure(self, ticket: Ticket, code: str) -> None:
        if not ticket.done and isinstance(ticket.request, (Put, Delete)):
            self._figures.proposals_failed[code] += 1

    def _flush(self) -> None:
        if self._dirty:
            dirty, self._dirty = self._dirty, []
            for session in dirty:
                session.flush()

    def _tell_failures(self, failed: Failures) -> None:
        for (op, code), count in failed.items():
            self._tell_answered(count, op, code)

    def _tell_answered(self, count: int, op: str, error: str) -> None:
        self._sink.stage(self.core.node_id, RequestAnswered(count=count, op=op, error=error))


def _answer_of(outcome: Written | Removed | Refused | Unusable, request_id: int, index: int, term: int) -> Struct:
    match outcome:
        case Written(created=False):
            return PutAnswer(id=request_id, key=outcome.key, index=index, term=term)
        case Written():
            return PutAnswer(id=request_id, key=outcome.key, index=index, term=term, created=True)
        case Removed():
            return DeleteAnswer(id=request_id, key=outcome.key, index=index, term=term, deleted=outcome.deleted)
        case Refused():
            return ErrorAnswer.of(request_id, BargeError("precondition_failed", outcome.detail))
        case Unusable():
            return ErrorAnswer.of(request_id, BargeError("bad_request", outcome.detail))
        case _:
            assert_never(outcome)


def _op_of(request: Request) -> str:
    return "write" if isinstance(request, (Put, Delete)) else "read"


def _add(failed: Failures, op: str, code: str) -> None:
    failed[op, code] = failed.get((op, code), 0) + 1


def _ours(ticket: AnyTicket) -> Ticket:
    assert isinstance(ticket, Ticket)
    return ticket
