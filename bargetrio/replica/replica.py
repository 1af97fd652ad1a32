"""The loop of one server: take the queued input, pass it to the core, execute its effects.

One step takes all queued input: requests of every connection, messages of every peer, the end of a write. So a batch is appended
once, encoded once, synced once, and each client gets one send.
"""

from typing import Final, assert_never

from bargetrio.kv.store import Store
from bargetrio.protocol.errors import BargeError
from bargetrio.raft.core import AT_ONCE, Core
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
    WriteStanding,
)
from bargetrio.raft.facts import RoleChanged
from bargetrio.raft.messages import AppendRequest, Message, NodeId
from bargetrio.raft.roles import Leader, Role
from bargetrio.replica.figures import NodeFigures
from bargetrio.replica.inbox import Inbox
from bargetrio.replica.jobs import SnapshotJobs, SnapshotPlace
from bargetrio.replica.ports import Events, Jobs, Outbox, Wal
from bargetrio.replica.requests import STEP_BYTES, Requests
from bargetrio.replica.scheduler import ProcessScheduler
from bargetrio.replica.sessions import AnswerRoom
from bargetrio.replica.standing import StandingWriter

MESSAGES_A_STEP: Final = 256
ENTRIES_A_STEP: Final = 1000
"""Bounds how long a step blocks the event loop; the rest is taken by the next step, after other tasks have run."""
LONG_BACKLOG: Final = 10_000
"""Committed entries not applied yet, from which on applying counts as a long backlog, mostly after a restart."""
NEVER: Final = float("inf")


class StorageFailed(Exception):
    """A write or sync failed. Nothing is retried: whether the bytes are there can't be known any more (BUG-51)."""


class Replica:
    """Owns the core and the store of one server; everything else reaches them through its inbox.

    `core` and `store` may be read between two steps.
    """

    def __init__(
        self,
        *,
        core: Core,
        store: Store,
        inbox: Inbox,
        wal: Wal,
        outbox: Outbox,
        jobs: Jobs,
        events: Events,
        place: SnapshotPlace,
        addresses: dict[NodeId, str],
        request_timeout_s: float,
        scheduler: ProcessScheduler,
        figures: NodeFigures,
        answer_room: AnswerRoom,
    ) -> None:
        """`addresses` are for redirecting clients of a follower. Replicas of a process share `scheduler` and `answer_room`."""
        self.core = core
        self.store = store
        self.inbox = inbox
        self.requests = Requests(
            core=core,
            events=events,
            figures=figures,
            addresses=addresses,
            timeout_s=request_timeout_s,
            answer_room=answer_room,
        )
        self.snapshots = SnapshotJobs(
            place=place,
            inbox=inbox,
            outbox=outbox,
            jobs=jobs,
            scheduler=scheduler,
            figures=figures,
            replace_store=self._replace_store,
        )
        self._standing = StandingWriter(place.folder, inbox, outbox, jobs)
        self._wal = wal
        self._outbox = outbox
        self._events = events
        self._scheduler = scheduler
        self._figures = figures
        self._then: dict[int, Persist] = {}
        self._is_fenced = False
        self._has_priority = False
        """Whether this replica leads and has a long backlog to apply, for which clients wait."""
        self._role: Role | None = None
        """The core's role when the leader was last checked: with another leader it is another object."""

    # -- for the host ----------------------------------------------------------------------------------------------------

    def step(self, now: float) -> float:
        """Handle the queued input; return when to call again though nothing comes, or AT_ONCE.

        It may be called earlier, for nothing. Raises StorageFailed or ConsensusViolation, after which this server must stop.
        """
        if self._is_fenced:
            return NEVER
        try:
            self._take_what_waits(now)
            return self._finish(now)
        finally:
            self._events.flush()  # last: no client waits for it

    def step_one(self, message: Message, now: float) -> float:
        """As `Inbox.take_message` and `step`, for a replica at rest: `inbox` is empty, and a message comes alone."""
        if self._is_fenced:
            return NEVER
        try:
            self.core.step(message, now)
            return self._finish(now)
        finally:
            self._events.flush()

    def ask_for_snapshot(self) -> None:
        """Have a snapshot taken in the next step that may, whether or not the policy has one due; none while one is under way."""
        if not self.core.snapshots.is_asked and not self.core.snapshots.is_taking:
            self.core.take_snapshot()
            self.inbox.wake()

    def fail_waiting(self, error: BargeError) -> None:
        """Answer every waiting request with `error`: this server ends."""
        self.requests.fail_all(error)

    def fence(self, now: float) -> None:
        """End this server: further steps do nothing and report no facts; another replica may save or apply in its place."""
        self._is_fenced = True
        self._scheduler.prioritize(self, has_priority=False)
        self.snapshots.fence(now)

    @property
    def writes_under_way(self) -> int:
        """How many writes of the log have begun and not ended."""
        return len(self._then)

    # -- a step ----------------------------------------------------------------------------------------------------------

    def _take_what_waits(self, now: float) -> None:
        core, inbox = self.core, self.inbox
        if inbox.failure is not None:
            raise StorageFailed(inbox.failure.strerror or str(inbox.failure)) from inbox.failure
        writes = inbox.writes
        while writes:
            self._finish_write(*writes.popleft(), now)
        configuration = core.configuration
        calls = inbox.calls
        while calls:
            calls.popleft()(core, now)
        if core.configuration is not configuration:
            # Messages in the queue came from connections that were accepted by the members' old stores: Raft sends them again.
            inbox.drop_messages()
        if inbox.messages:
            self._take_messages(now)
        if inbox.requests:
            self.requests.take(inbox.requests, self.store, now)
        if inbox.sessions_with_room:
            sessions, inbox.sessions_with_room = inbox.sessions_with_room, []
            self.requests.resume_reads(sessions, self.store)

    def _finish(self, now: float) -> float:
        """Let time pass, do what follows from all that was taken, answer; return when to step again."""
        core, inbox, requests = self.core, self.inbox, self.requests
        configuration = core.configuration
        core.tick(now)
        if core.configuration is not configuration:
            inbox.drop_messages()  # as in _take_what_waits
        is_behind = core.commit_index - core.last_applied > LONG_BACKLOG
        may_apply = not (is_behind or self._has_priority) or self._may_apply(is_behind=is_behind)
        self._perform(now, may_apply=may_apply)
        if core.snapshots.is_due or self.snapshots.waits_to_save:
            # No snapshot while a backlog is applied: it would lack those entries and delay them.
            self.snapshots.maybe_save(core, self.store, now, is_due=core.snapshots.is_due and not is_behind)
        if core.role is not self._role:
            self._role = core.role
            self._figures.see_leader(core.leader_id, core.current_term)
        waiting = requests.waiting
        if waiting:
            requests.expire(now)
        if requests.to_flush:
            requests.flush()
        if not inbox.is_empty:
            return AT_ONCE
        deadline = core.next_deadline(may_apply=may_apply)
        return min(deadline, waiting[0].deadline) if waiting else deadline

    def _may_apply(self, *, is_behind: bool) -> bool:
        """Return whether no other replica of the process has priority: clients wait for a leader with a long backlog."""
        self._has_priority = is_behind and isinstance(self.core.role, Leader)
        self._scheduler.prioritize(self, has_priority=self._has_priority)
        return not is_behind or self._scheduler.may_apply(self)

    def _take_messages(self, now: float) -> None:
        inbox = self.inbox
        messages = inbox.messages
        entries = taken_bytes = 0
        configuration = self.core.configuration
        for _ in range(min(len(messages), MESSAGES_A_STEP)):
            message, size = messages.popleft()
            self.core.step(message, now)
            if self.core.configuration is not configuration:
                inbox.drop_messages()  # as in _take_what_waits
                return
            taken_bytes += size
            if taken_bytes >= STEP_BYTES:
                break
            if type(message) is AppendRequest:
                entries += len(message.entries)
                if entries >= ENTRIES_A_STEP:
                    break
        inbox.messages_bytes -= taken_bytes
        if inbox.when_room:
            inbox.resume_peers()

    def _finish_write(self, number: int, failure: OSError | None, now: float) -> None:
        if failure is not None:
            raise StorageFailed(failure.strerror or str(failure)) from failure
        for send in self._then.pop(number).then:
            self._outbox.post(send.to, send.message)
        self.core.persisted(number, now)

    def _perform(self, now: float, *, may_apply: bool) -> None:
        core, requests = self.core, self.requests
        for effect in core.take_effects(may_apply=may_apply):
            # The usual ones first and by type: of a msgspec class isinstance takes four times as long to say no.
            if type(effect) is Announce:
                fact = effect.fact
                self._events.stage(core.node_id, fact)
                if type(fact) is RoleChanged:
                    self._figures.see_role(fact)
                continue
            if type(effect) is Send:
                self._outbox.post(effect.to, effect.message)
                continue
            match effect:
                case Persist():
                    self._then[effect.number] = effect
                    self._wal.begin(effect.number, effect.records)
                case Apply():
                    requests.apply(effect, self.store, now)
                case WriteStanding() | ReplaceStore():
                    self._standing.write(effect)
                case Compact() | SendChunk() | StoreChunk() | LoadSnapshot():
                    self.snapshots.perform(effect)
                case ReadReady():
                    requests.answer_reads(effect, self.store)
                case ReadFailed():
                    requests.refuse_reads(effect)
                case ProposalRefused():
                    requests.refuse_proposal(effect)
                case ProposalsUnknown():
                    requests.give_up_proposals(effect)
                case Announce() | Send():
                    raise AssertionError("done above")
                case _:
                    assert_never(effect)
        if requests.failed:
            requests.report_failures()

    def _replace_store(self, store: Store) -> Store:
        """Put the state of a loaded snapshot in place; return the old one."""
        old, self.store = self.store, store
        return old
