"""Dispatches simulated servers' reports to the invariants, the coverage counters and the trace hash."""

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any, Final

import msgspec

from bargetrio.eventlog.host_facts import FaultsChanged, HostFact, RequestAnswered, RequestReceived
from bargetrio.protocol.requests import ErrorAnswer, GetAnswer, ListAnswer, PutAnswer, Request, is_write
from bargetrio.raft.effects import StoreChunk
from bargetrio.raft.facts import Fact
from bargetrio.raft.messages import Index, Message, NodeId, SnapshotMeta, SnapshotReply
from bargetrio.raft.records import Install, Record
from bargetrio.raft.roles import Leader
from bargetrio.raft.standing import Standing
from bargetrio.replica.sessions import Ticket
from bargetrio.simulator import accounts
from bargetrio.simulator.answers import AnyAnswer, Asker
from bargetrio.simulator.goals import Goals
from bargetrio.simulator.invariants import Invariants
from bargetrio.simulator.memory import Breach, Fate
from bargetrio.simulator.observer import Look, LookAtMessage
from bargetrio.simulator.server import Server
from bargetrio.simulator.world import World
from bargetrio.storage.snapshots import snapshot_name

HASH_FACTS: Final = 200
"""How many facts of the trace are hashed at once."""

GOAL_OF_FATE: Final[dict[Fate, str]] = {
    "kept": "write_half_done_kept",
    "lost": "write_in_flight_lost",
    "vote lost": "vote_lost",
    "synced tail lost": "synced_tail_lost",
    "set back": "old_folder_lacks",
}

TimedFact = tuple[float, NodeId | None, Fact | HostFact]
"""Its time, its node (None for a fault), and the fact."""


class Facts:
    """Takes the facts of one server's replica; implements replica.ports.Events.

    Requests and answers are not part of the trace: they are in the clients' history.
    """

    def __init__(self, referee: "Referee", server: Server) -> None:
        self._referee = referee
        self._server = server
        self._node_id = server.node_id

    def stage(self, node_id: NodeId | None, fact: Fact | HostFact) -> None:
        """Take a fact."""
        kind = type(fact)
        if kind is RequestReceived or kind is RequestAnswered:
            return
        referee = self._referee
        unhashed = referee.unhashed
        unhashed.append((referee.world.now, self._node_id, fact.kind, fact))
        if len(unhashed) == HASH_FACTS:
            referee.hash_what_waits()
        if referee.keeps:
            referee.facts.append((referee.world.now, self._node_id, fact))
        looks = referee.looks.get(kind)
        if looks is not None:
            for look in looks:
                look(self._server, fact)

    def flush(self) -> None:
        """Nothing is buffered."""


class Referee:
    """Passes what servers report to invariants, goals and the trace; implements observer.Watcher."""

    def __init__(self, world: World, nodes: int, *, keep: bool) -> None:
        self.invariants = Invariants(nodes, world)
        self.goals = Goals(self.invariants.servers)
        self.facts: list[TimedFact] = []
        self.on_stopped: Callable[[Server], None] = lambda server: None
        """Called with a server that stopped because an invariant required it."""
        self.world = world
        self.keeps = keep
        self._hash = blake2b(digest_size=8)
        self._encode_lines = msgspec.json.Encoder().encode_lines
        self.unhashed: list[tuple[float, NodeId, str, Fact | HostFact]] = []
        self.looks: dict[type[Fact | HostFact], tuple[Look[Server], ...]] = {
            kind: tuple(looks[kind] for looks in (self.goals.looks, self.invariants.looks) if kind in looks)
            for kind in (*self.goals.looks, *self.invariants.looks)
        }
        """The handlers of each kind of fact; four of five facts are appends sent and accepted, which have none."""
        self.sent: dict[type[Message], LookAtMessage[Server]] = {
            kind: _both(self.goals.sent[kind], look) if kind in self.goals.sent else look
            for kind, look in self.invariants.promises.sent.items()
        }
        self._facts: dict[NodeId, Facts] = {}
        self._stored: dict[NodeId, tuple[SnapshotMeta, bytes]] = {}
        """For each server's life: the snapshot that it receives, and the bytes that it stored; the file must be equal to them."""
        # Only the invariants need these.
        self.synced = self.invariants.synced
        self.passed = self.invariants.passed
        self.read_asked = self.invariants.read_asked
        stores = self.invariants.stores
        self.expects = stores.expected_reports
        self.message_received = stores.message_received
        self.sending = stores.sending

    def look_too(
        self, looks: dict[type[Fact | HostFact], Look[Server]], sent: dict[type[Message], LookAtMessage[Server]]
    ) -> None:
        """Report these facts, and these messages when they have left, to further checkers."""
        for kind, look in looks.items():
            self.looks[kind] = (*self.looks.get(kind, ()), look)
        for message, look_at in sent.items():
            self.sent[message] = _both(self.sent[message], look_at)

    @property
    def trace(self) -> str:
        """Return the hash of all facts so far."""
        self.hash_what_waits()
        return self._hash.hexdigest()

    def hash_what_waits(self) -> None:
        """Add the pending facts to the trace hash."""
        # Encoding many facts at once is faster (docs/decisions/simulator_pace.md); newlines occur only between facts.
        self._hash.update(self._encode_lines(self.unhashed).replace(b"\n", b""))
        self.unhashed.clear()

    def events_of(self, server: Server) -> "Facts":
        """Return the sink of this server's facts."""
        return self._facts.setdefault(server.node_id, Facts(self, server))

    def fact(self, server: Server, fact: Fact | HostFact) -> None:
        """Take a fact."""
        self._facts[server.node_id].stage(server.node_id, fact)

    def fault(self, text: str) -> None:
        """Handle a fault of a link, process or disk that the nemesis injects."""
        self.hash_what_waits()
        self._hash.update(text.encode())
        if self.keeps:
            self.facts.append((self.world.now, None, FaultsChanged(faults={}, text=text)))

    def writing(self, server: Server, records: Sequence[Record]) -> None:
        """A write began."""
        for record in records:
            if type(record) is Install:
                self.goals.installs(drops_entries=self.invariants.holds_uncommitted(server))
        self.invariants.writing(server, records)

    def sync_failed(self, server: Server) -> None:
        """A sync that is a step of its own failed."""
        self.goals.hit("kernel_sync_failed")

    def recovered(self, server: Server) -> None:
        """A server has recovered."""
        fate = self.invariants.recovered(server)
        if fate != "nothing in flight":
            self.goals.hit(GOAL_OF_FATE[fate])

    def crashing(self, server: Server, *, writing: bool) -> None:
        """A server is about to crash."""
        self.goals.before_crash(server, writing=writing)

    def standing_written(self, server: Server, standing: Standing) -> None:
        """The folder holds this standing."""
        self.invariants.membership.standing_written(server, standing)
        self.goals.standing_written(standing)

    def must_stop(self, server: Server) -> bool:
        """A server found that its log differs from the others'."""
        stops = self.invariants.stores.must_stop(server.node_id)
        if stops:
            self.goals.hit("log_that_differs_stops")
            self.on_stopped(server)
        return stops

    def refused(self, server: Server, peer: NodeId, reason: str) -> None:
        """A server refuses a peer."""
        self.goals.refused(reason)

    def disk_lost(self, server: Server) -> None:
        """An empty disk is in the place of the server's."""
        self.invariants.stores.disk_lost(server.node_id)

    def image_kept(self, server: Server) -> None:
        """There is a copy of the server's folder."""
        self.invariants.stores.image_kept(server.node_id)

    def put_back(self, server: Server, number: int) -> None:
        """The copy has replaced the folder."""
        self.invariants.stores.put_back(server.node_id, number)

    def power_failed(self, server: Server, *, lied: bool) -> None:
        """The server's machine went down."""
        self.invariants.stores.power_failed(server.node_id, lied=lied)

    def ended(self, server: Server) -> None:
        """A server's life ends."""
        self.invariants.outcomes.crashed(server.node_id)
        self._stored.pop(server.node_id, None)

    def gave_up(self, server: Server, what: str) -> None:
        """A full disk ended a job: only snapshots are given up."""
        assert what == "a snapshot"
        self.goals.hit("snapshot_given_up")

    def proposed(self, server: Server, tickets: Sequence[object], first_index: Index) -> None:
        """Entries were made of these proposals."""
        core = server.core
        assert core is not None
        for index, ticket in enumerate(tickets, first_index):
            assert isinstance(ticket, Ticket)
            self.invariants.outcomes.proposed(server.node_id, ticket.request_id, index, core.current_term)

    def answered(self, server: Server, request: Request, asker: Asker, answer: AnyAnswer) -> None:
        """A request has its answer."""
        if isinstance(answer, ErrorAnswer):
            self._see_error(server, request, answer)
        if isinstance(answer, (GetAnswer, ListAnswer)):
            self.invariants.read_served(server, asker)
        elif is_write(request):
            self.invariants.outcomes.answered(server.node_id, answer)
            if isinstance(answer, PutAnswer):
                self.goals.written()

    def _see_error(self, server: Server, request: Request, answer: ErrorAnswer) -> None:
        core = server.core
        assert core is not None
        leads = isinstance(core.role, Leader)
        if answer.error == "overloaded":
            self.goals.hit("write_refused_no_room" if core.lacks_room else "write_refused_overload")
            accounts.check_overloaded(server)
        elif answer.error in ("not_leader", "no_leader") and not is_write(request) and server.steps.led:
            self.goals.hit("read_timed_out" if leads else "read_given_up")
        elif answer.error == "outcome_unknown":
            self.goals.hit("write_timed_out" if leads else "writes_unknown")

    def storing(self, server: Server, effect: StoreChunk) -> None:
        """Pieces of two snapshots never share a file, also where both have the same last index."""
        if not effect.data:
            self._stored.pop(server.node_id, None)  # the file is deleted
            return
        if not effect.offset or server.node_id not in self._stored:
            self._stored[server.node_id] = effect.snapshot, b""
        snapshot, data = self._stored[server.node_id]
        self._stored[server.node_id] = snapshot, data + effect.data
        if snapshot != effect.snapshot or len(data) != effect.offset:
            piece = f"a piece of {effect.snapshot} from {effect.offset}"
            text = f"node {server.node_id} stores {piece} behind {len(data)} bytes of {snapshot}"
            raise Breach("a file has one snapshot's pieces", text)

    def piece_missing(self, server: Server, peer: NodeId, snapshot: SnapshotMeta) -> None:
        """A piece can't be read: the file ends too early, which is a fault, or is gone, and then it is not needed any more."""
        self.goals.missing_piece(server)
        core = server.core
        if core is not None and isinstance(core.role, Leader):
            is_gone = snapshot_name(snapshot.last_index, snapshot.last_term) not in server.disk.names()
            transfer = core.role.progress[peer].transfer
            is_sent = transfer is not None and transfer.snapshot == snapshot
            assert not (is_gone and is_sent), f"snapshot {snapshot.last_index} was deleted while it is sent"

    def piece_answered(self, server: Server, reply: SnapshotReply) -> None:
        """The next piece begins where the follower's disk ends: at the beginning if, and only if, it has nothing.

        Also if the leader begins with another file then: it does so only where the follower has to start over.
        """
        core = server.core
        if core is None or not isinstance(core.role, Leader) or reply.term != core.current_term or reply.installed:
            return
        progress = core.role.progress.get(reply.follower_id)
        transfer = None if progress is None else progress.transfer
        if transfer is None or transfer.snapshot.last_index != reply.last_index or reply.bytes_stored > transfer.snapshot.size:
            return
        if transfer.offset != reply.bytes_stored:
            stored = f"node {reply.follower_id} has {reply.bytes_stored} bytes of a snapshot"
            text = f"{stored}, and node {server.node_id} goes on at {transfer.offset}"
            raise Breach("the next piece begins where the follower's disk ends", text)

    def snapshot_saved(self, server: Server, snapshot: SnapshotMeta) -> None:
        """A server has a new file, whole."""
        server.machine.readable.pop(snapshot_name(snapshot.last_index, snapshot.last_term), None)
        self.invariants.snapshot_saved(server, snapshot)


def _both(first: LookAtMessage[Server], second: LookAtMessage[Server]) -> LookAtMessage[Server]:
    def look(server: Server, to: NodeId, message: Any) -> None:
        first(server, to, message)
        second(server, to, message)

    return look
