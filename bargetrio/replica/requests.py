"""The requests of a replica's clients: a ticket for each, and exactly one answer for each ticket."""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final, assert_never

from msgspec import Raw, Struct

from bargetrio.eventlog.host_facts import RequestAnswered, RequestReceived
from bargetrio.kv.lookup import look_up
from bargetrio.kv.store import ConditionFailed, MalformedCommand, Removed, Store, Written
from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.requests import DeleteAnswer, ErrorAnswer, PutAnswer, Read
from bargetrio.raft.core import Core
from bargetrio.raft.effects import Apply, ProposalRefused, ProposalsUnknown, ReadFailed, ReadReady
from bargetrio.raft.log import SHOWN_COMMANDS
from bargetrio.raft.messages import NodeId
from bargetrio.replica.figures import NodeFigures
from bargetrio.replica.ports import Events
from bargetrio.replica.sessions import AnswerRoom, Batch, Session, Ticket

REQUESTS_A_STEP: Final = 2000
"""Requests that one step takes from the queue, or gives up; then messages and timers are handled."""
STEP_BYTES: Final = 4 * 1024 * 1024
"""The same in bytes of requests, and of peers' messages that one step takes; it ends with the one that reaches it."""

ANSWER_BYTES_A_STEP: Final = 4 * 1024 * 1024
"""Bytes of answers to reads that one step makes; the rest is made in the next step, after other tasks have run."""

Failures = dict[tuple[str, str], int]
"""How many requests were answered with an error, by ("write" or "read", the error's code)."""


class Requests:
    """What clients of one replica wait for; `waiting` has all tickets that time out, the oldest first.

    Tickets give up after `timeout_s`: a write that was proposed may still be committed then. The store is an argument: a loaded
    snapshot replaces it.
    """

    def __init__(
        self,
        *,
        core: Core,
        events: Events,
        figures: NodeFigures,
        addresses: dict[NodeId, str],
        timeout_s: float,
        answer_room: AnswerRoom,
    ) -> None:
        self.waiting: deque[Ticket] = deque()
        self._core = core
        self._events = events
        self._figures = figures
        self._addresses = addresses
        self._timeout_s = timeout_s
        self._answer_room = answer_room
        self._made_bytes = 0
        """Bytes of answers that this step has made; in the next step the sessions count which of them were not received."""
        self._held_back: dict[Session, None] = {}
        """Sessions whose reads wait for the next step, because this one has reached ANSWER_BYTES_A_STEP."""
        self.to_flush: list[Session] = []
        self.failed: Failures = {}
        """Requests that this step's effects answered with an error, and that are not reported as a fact yet."""

    # -- input ----------------------------------------------------------------------------------------------------------

    def take(self, queue: deque[tuple[Session, Batch]], store: Store, now: float) -> None:
        """Take requests from the queue, REQUESTS_A_STEP or STEP_BYTES at most; all writes are proposed together."""
        deadline = now + self._timeout_s
        count = size = 0
        tickets: list[Ticket] = []
        commands: list[Raw] = []
        while queue and count < REQUESTS_A_STEP and size < STEP_BYTES:
            session, batch = queue.popleft()
            size += batch.size
            count += len(batch.writes) + len(batch.reads)
            tickets += [Ticket(session, write.id, None, deadline) for write in batch.writes]
            commands += batch.commands
            if batch.reads:
                self._take_reads(session, batch.reads, store, deadline, now)
        if tickets:
            self.waiting += tickets
            self._core.propose_all(tickets, commands, now)
            fact = RequestReceived(count=len(tickets), op="write", first_commands=tuple(commands[:SHOWN_COMMANDS]))
            self._events.stage(self._core.node_id, fact)

    def _take_reads(self, session: Session, reads: list[Read], store: Store, deadline: float, now: float) -> None:
        tickets = [Ticket(session, read.id, read, deadline) for read in reads if read.read != "stale"]
        self.waiting += tickets
        self._core.read_all(tickets, now)
        if len(tickets) < len(reads):
            stale = [Ticket(session, read.id, read, deadline) for read in reads if read.read == "stale"]
            self._answer_reads(stale, store)
            self.waiting += [ticket for ticket in stale if not ticket.done]

    def resume_reads(self, sessions: list[Session], store: Store) -> None:
        """Execute the deferred reads of these sessions, as far as there is room now."""
        for session in sessions:
            self._answer_reads(session.take_deferred(), store)

    # -- effects of the core ---------------------------------------------------------------------------------------------

    def apply(self, effect: Apply, store: Store, now: float) -> None:
        """Apply committed entries and answer their requests; the core has paired its tickets with its own entries."""
        log = self._core.log
        tickets: Sequence[Ticket | None] = effect.tickets
        first_ticket = effect.last - len(tickets) + 1
        if effect.first < first_ticket:
            store.apply_all([entry.command for entry in log.slice(effect.first, first_ticket - 1)], effect.first)
        if not tickets:
            return
        entries = log.slice(first_ticket, effect.last)
        outcomes = store.apply_each([entry.command for entry in entries], first_ticket)
        to_flush = self.to_flush
        failed: Failures = {}
        answered, proposed_at = 0, 0.0
        for index, (ticket, entry, outcome) in enumerate(zip(tickets, entries, outcomes, strict=True), first_ticket):
            if ticket is None or ticket.done or outcome is None:
                continue
            if not answered:
                proposed_at = ticket.deadline - self._timeout_s
            answered += 1
            answer = _answer_of(outcome, ticket.request_id, index, entry.term)
            if type(answer) is ErrorAnswer:  # of a msgspec class isinstance takes four times as long to say no
                _add(failed, "write", answer.error)
            ticket.done = True
            session = ticket.session
            answers = session.answers
            if not answers:
                to_flush.append(session)
            answers.append(answer)
        if answered:
            self._figures.proposals_committed += answered
            self._figures.commit.observe(now - proposed_at)
            done = answered - sum(failed.values())
            if done:
                self._report_answered(done, "write", "")
            self._report(failed)

    def answer_reads(self, effect: ReadReady, store: Store) -> None:
        """Answer reads that the core has confirmed."""
        self._answer_reads(effect.tickets, store)

    def refuse_reads(self, effect: ReadFailed) -> None:
        """Answer reads that can't be confirmed here."""
        error = self._refusal(effect.reason, effect.leader)
        tickets: Sequence[Ticket] = effect.tickets
        for ticket in tickets:
            if not ticket.done:
                self._answer_error(ticket, error)
                _add(self.failed, "read", error.code)

    def refuse_proposal(self, effect: ProposalRefused) -> None:
        """Answer a write that was never proposed."""
        error = self._refusal(effect.reason, effect.leader)
        self._figures.proposals_failed[effect.reason] += 1
        self._answer_error(effect.ticket, error)
        _add(self.failed, "write", error.code)

    def give_up_proposals(self, effect: ProposalsUnknown) -> None:
        """Answer writes of a leader that has lost its office: a later one decides."""
        detail = "this node lost its leadership before the write was committed; another leader may still commit it"
        error = BargeError("outcome_unknown", detail, leader=effect.leader)
        tickets: Sequence[Ticket] = effect.tickets
        for ticket in tickets:
            if not ticket.done:
                self._count_failure(ticket, error.code)
                self._answer_error(ticket, error)
                _add(self.failed, "write", error.code)

    # -- the end of a step -----------------------------------------------------------------------------------------------

    def report_failures(self) -> None:
        """Stage what this step's effects have answered with errors, one fact for each kind."""
        self._report(self.failed)
        self.failed = {}

    def expire(self, now: float) -> None:
        """Give up on requests whose time is over, REQUESTS_A_STEP at most: a write that was proposed may still be committed."""
        waiting = self.waiting
        expired: Failures = {}
        left = REQUESTS_A_STEP
        while left and waiting and (waiting[0].done or waiting[0].deadline <= now):
            ticket = waiting.popleft()
            if ticket.done:
                continue
            left -= 1
            op = _op_of(ticket)
            if op == "write":
                error = BargeError("outcome_unknown", "not committed in time; the write may still be applied later")
            elif ticket.is_deferred:
                error = BargeError("overloaded", "earlier answers on this connection were not fetched in time")
            else:
                error = BargeError("no_leader", "no majority confirmed the read in time")
            self._count_failure(ticket, error.code)
            self._answer_error(ticket, error)
            _add(expired, op, error.code)
        self._report(expired)
        if expired:
            self._core.forget_reads(_is_done)

    def fail_all(self, error: BargeError) -> None:
        """Answer every waiting request with `error`, and flush: the replica ends."""
        failed: Failures = {}
        for ticket in self.waiting:
            if not ticket.done:
                self._count_failure(ticket, error.code)
                self._answer_error(ticket, error)
                _add(failed, _op_of(ticket), error.code)
        self.waiting.clear()
        self._report(failed)
        self._events.flush()
        self.flush()

    def flush(self) -> None:
        """Have each session that was answered send its answers."""
        if self.to_flush:
            sessions, self.to_flush = self.to_flush, []
            for session in sessions:
                session.flush()
            if self._made_bytes:
                room = self._answer_room
                room.free += self._made_bytes
                self._made_bytes = 0
                if room.waiting:
                    room.resume()
                if self._held_back:
                    held_back, self._held_back = self._held_back, {}
                    for session in held_back:
                        session.resume()

    # -- helpers ---------------------------------------------------------------------------------------------------------

    def _answer_reads(self, tickets: Iterable[Ticket], store: Store) -> None:
        """Execute reads, except those that timed out or whose client must receive earlier answers first.

        A linearizable read that is deferred stays one: the state at any later moment holds all that it must show (Ongaro 6.4).
        """
        most = left = min(self._answer_room.free, ANSWER_BYTES_A_STEP - self._made_bytes)
        for ticket in tickets:
            session = ticket.session
            if session.room <= 0 or left <= 0 or ticket.done:
                if left <= 0:
                    self._count_made(most - left)
                    most = left
                    if self._made_bytes >= ANSWER_BYTES_A_STEP:
                        self._held_back[session] = None
                session.defer(ticket)
                continue
            assert ticket.read is not None, "only reads are executed here"
            answer, size = look_up(store, ticket.read)
            session.room -= size
            left -= size
            ticket.done = True  # as in _answer, inlined
            if not session.answers:
                self.to_flush.append(session)
            session.answers.append(answer)
        self._count_made(most - left)

    def _count_made(self, size: int) -> None:
        self._answer_room.free -= size
        self._made_bytes += size

    def _answer(self, ticket: Ticket, answer: Struct) -> None:
        """Give the answer; a second one is dropped. `apply` has the same inline."""
        if ticket.done:
            return
        ticket.done = True
        session = ticket.session
        if not session.answers:
            self.to_flush.append(session)
        session.answers.append(answer)

    def _answer_error(self, ticket: Ticket, error: BargeError) -> None:
        self._answer(ticket, ErrorAnswer.of(ticket.request_id, error))

    def _refusal(self, reason: str, leader: NodeId | None) -> BargeError:
        node_id = self._core.node_id
        if reason == "overloaded" and self._core.lacks_room:
            detail = f"the disk of node {node_id} is nearly full: it takes no writes until there is space on it"
            return BargeError("overloaded", detail, leader=leader)
        if reason == "overloaded":
            return BargeError("overloaded", "too many writes wait to be committed; try again", leader=leader)
        if leader is None:
            why = "transfers its leadership" if self._core.leader_id == node_id else "knows no leader"
            return BargeError("no_leader", f"node {node_id} {why}")
        detail = f"node {node_id} is not the leader, node {leader} is"
        return BargeError("not_leader", detail, leader=leader, address=self._addresses.get(leader))

    def _count_failure(self, ticket: Ticket, code: str) -> None:
        if not ticket.done and ticket.read is None:
            self._figures.proposals_failed[code] += 1

    def _report(self, failed: Failures) -> None:
        for (op, code), count in failed.items():
            self._report_answered(count, op, code)

    def _report_answered(self, count: int, op: str, error: str) -> None:
        self._events.stage(self._core.node_id, RequestAnswered(count=count, op=op, error=error))


def _answer_of(outcome: Written | Removed | ConditionFailed | MalformedCommand, request_id: int, index: int, term: int) -> Struct:
    match outcome:
        case Written(created=False):
            return PutAnswer(id=request_id, key=outcome.key, index=index, term=term)
        case Written():
            return PutAnswer(id=request_id, key=outcome.key, index=index, term=term, created=True)
        case Removed():
            return DeleteAnswer(id=request_id, key=outcome.key, index=index, term=term, deleted=outcome.deleted)
        case ConditionFailed():
            return ErrorAnswer.of(request_id, BargeError("precondition_failed", outcome.detail))
        case MalformedCommand():
            return ErrorAnswer.of(request_id, BargeError("bad_request", outcome.detail))
        case _:
            assert_never(outcome)


def _op_of(ticket: Ticket) -> str:
    return "write" if ticket.read is None else "read"


def _add(failed: Failures, op: str, code: str) -> None:
    failed[op, code] = failed.get((op, code), 0) + 1


def _is_done(ticket: Ticket) -> bool:
    return ticket.done
