"""One seed: a cluster, clients and faults for 20 simulated seconds, then all heals, and within 10 more it must be whole again.

Whatever breaks a rule ends the seed with a Failure that names the rule. The same seed gives the same trace hash in every process.
"""

import gc
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any, Final

import msgspec
from msgspec import Struct

from bargetrio.eventlog.driver_facts import DriverFact, FaultsChanged
from bargetrio.protocol.events import Event
from bargetrio.protocol.requests import Put
from bargetrio.raft.errors import ConsensusViolation
from bargetrio.raft.facts import Fact
from bargetrio.raft.messages import Message, NodeId
from bargetrio.raft.records import Install, Record
from bargetrio.raft.roles import Leader
from bargetrio.raft.standing import Standing
from bargetrio.simulator import accounts, linearizability
from bargetrio.simulator.clients import CLIENTS, GIVE_UP_S, KEYS, Call, Client
from bargetrio.simulator.goals import Goals
from bargetrio.simulator.invariants import Invariants
from bargetrio.simulator.linearizability import Operation
from bargetrio.simulator.lists import Reader, check_order
from bargetrio.simulator.losses import Losses
from bargetrio.simulator.memory import Broken, Excused
from bargetrio.simulator.narrow import NarrowEnd
from bargetrio.simulator.nemesis import Nemesis
from bargetrio.simulator.network import Network
from bargetrio.simulator.observer import Look, LookAtMessage
from bargetrio.simulator.operator import Operator
from bargetrio.simulator.plan import draw
from bargetrio.simulator.scale import scaled
from bargetrio.simulator.server import Server
from bargetrio.simulator.stores import MAY_FOLLOW
from bargetrio.simulator.world import World
from bargetrio.storage.errors import DamagedLog, DamagedSnapshot

MOST_STEPS: Final = 2_000_000
"""A seed that needs more goes round in circles."""
LOOK_S: Final = 0.1
QUIET_S: Final = 0.5
"""So long after the last answer nothing is waited for any more; where disks are late, after `LATE_QUIET_S`."""
LATE_QUIET_S: Final = 6.0
LATE_GIVE_UP_S: Final = 10.0
"""So long the last requests wait where disks are late: a write waits for the one before it and for its own sync."""
HASH_FACTS: Final = 200
"""So many facts of the trace are hashed at once."""

GIVEN_UP: Final = {
    "reads": "read_given_up",
    "writes": "writes_unknown",
    "a snapshot": "snapshot_given_up",
    "a write for lack of room": "write_refused_no_room",
}

Told = tuple[float, NodeId | None, Fact | DriverFact]


class Failure(Struct, frozen=True, kw_only=True):
    """A broken rule: which, when, how."""

    rule: str
    text: str
    at: float


class Result(Struct, frozen=True, kw_only=True):
    """What a seed came to. `trace` is the hash of everything that happened; facts and history are there if they were asked for.

    `drawn` are the kinds of fault that the seed draws by itself, `kinds` those of them that were allowed.
    """

    seed: int
    nodes: int
    drawn: tuple[str, ...]
    kinds: tuple[str, ...]
    failure: Failure | None
    trace: str
    simulated_s: float
    steps: int
    operations: int
    unknown: int
    committed: int
    goals: dict[str, int]
    told: list[Told] = []
    events: list[Event] = []
    """Ring 2 has its events from the recorder itself."""
    history: list[Operation] = []


class Referee:
    """Looks on for everybody: invariants, goals, trace; implements port.Watcher."""

    def __init__(self, world: World, nodes: int, *, keep: bool) -> None:
        self.invariants = Invariants(nodes, world)
        self.goals = Goals(self.invariants.servers)
        self.told: list[Told] = []
        self.on_stopped: Callable[[Server], None] = lambda server: None
        """Who is told of a server that stopped as it should."""
        self._world = world
        self._keep = keep
        self._hash = blake2b(digest_size=8)
        self._encode_lines = msgspec.json.Encoder().encode_lines
        self._unhashed: list[tuple[float, NodeId, str, Fact | DriverFact]] = []
        self._looks: dict[type[Fact | DriverFact], tuple[Look, ...]] = {
            kind: tuple(looks[kind] for looks in (self.goals.looks, self.invariants.looks) if kind in looks)
            for kind in (*self.goals.looks, *self.invariants.looks)
        }
        """Who looks at which kind of fact; four of five are appends sent and accepted, which nobody looks at."""
        self.sent: dict[type[Message], LookAtMessage] = {
            kind: _both(self.goals.sent[kind], look) if kind in self.goals.sent else look
            for kind, look in self.invariants.sent.items()
        }
        # Only the invariants look on here.
        self.outcomes = self.invariants.outcomes
        self.synced = self.invariants.synced
        self.applied = self.invariants.applied
        self.passed = self.invariants.passed
        self.snapshot_saved = self.invariants.snapshot_saved
        self.piece_missing = self.goals.missing_piece
        self.read_asked = self.invariants.read_asked
        self.read_served = self.invariants.read_served
        stores = self.invariants.stores
        self.expects = stores.owed
        self.arrived = stores.arrived

    def look_too(self, looks: dict[type[Fact | DriverFact], Look], sent: dict[type[Message], LookAtMessage]) -> None:
        """Somebody else wants to see these facts, and these messages that have left."""
        for kind, look in looks.items():
            self._looks[kind] = (*self._looks.get(kind, ()), look)
        for message, look_at in sent.items():
            self.sent[message] = _both(self.sent[message], look_at)

    @property
    def trace(self) -> str:
        """Return the hash of all facts so far."""
        self._hash_what_waits()
        return self._hash.hexdigest()

    def _hash_what_waits(self) -> None:
        # Encoding many facts at once is faster (docs/decisions/simulator_pace.md); a newline stands nowhere but between two.
        self._hash.update(self._encode_lines(self._unhashed).replace(b"\n", b""))
        self._unhashed.clear()

    def fact(self, server: Server, fact: Fact | DriverFact) -> None:
        """Take a fact."""
        self._unhashed.append((self._world.now, server.node_id, fact.kind, fact))
        if len(self._unhashed) == HASH_FACTS:
            self._hash_what_waits()
        if self._keep:
            self.told.append((self._world.now, server.node_id, fact))
        looks = self._looks.get(type(fact))
        if looks is not None:
            for look in looks:
                look(server, fact)

    def fault(self, text: str) -> None:
        """Take what the nemesis does to links, processes and disks."""
        self._hash_what_waits()
        self._hash.update(text.encode())
        if self._keep:
            self.told.append((self._world.now, None, FaultsChanged(faults={}, text=text)))

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
        """A server is back."""
        fate = self.invariants.recovered(server)
        if fate == "kept":
            self.goals.hit("write_half_done_kept")
        elif fate != "nothing in flight":
            self.goals.hit("vote_lost" if fate == "vote lost" else "write_in_flight_lost")

    def crashing(self, server: Server, *, writing: bool) -> None:
        """A server is about to crash."""
        self.goals.before_crash(server, writing=writing)

    def standing_written(self, server: Server, standing: Standing) -> None:
        """The folder holds this standing."""
        self.invariants.standing_written(server, standing)
        self.goals.standing_written(standing)

    def must_stop(self, server: Server) -> bool:
        """A server found that its log is not the others'."""
        stops = self.invariants.stores.must_stop(server.node_id)
        if stops:
            self.goals.hit("log_that_differs_stops")
            self.on_stopped(server)
        return stops

    def refused(self, server: Server, peer: NodeId, reason: str) -> None:
        """A server does not hear a peer."""
        self.goals.refused(reason)

    def disk_lost(self, server: Server) -> None:
        """An empty disk is in the place of the server's."""
        self.invariants.stores.disk_lost(server.node_id)

    def image_kept(self, server: Server) -> None:
        """There is a copy of the server's folder."""
        self.invariants.stores.image_kept(server.node_id)

    def put_back(self, server: Server, number: int) -> None:
        """It is in the folder's place."""
        self.invariants.stores.put_back(server.node_id, number)

    def power_failed(self, server: Server, *, lied: bool) -> None:
        """The server's machine went down."""
        self.invariants.stores.power_failed(server.node_id, lied=lied)

    def overloaded(self, server: Server) -> None:
        """A write was refused."""
        self.goals.hit("write_refused_overload")
        accounts.check_overloaded(server)

    def gave_up(self, server: Server, what: str) -> None:
        """A leader lost its office with somebody waiting."""
        self.goals.hit(GIVEN_UP[what])


class Seed:
    """Everything of one run."""

    def __init__(self, seed: int, nodes: int, allowed: frozenset[str] | None, *, keep: bool) -> None:
        self.world = World(seed)
        self.plan = draw(self.world.random("plan"), self.world.random("plan of disks and members"), nodes, allowed)
        self.referee = Referee(self.world, nodes, keep=keep)
        self.history: list[Operation] = []
        network = self.network = Network(self.world, self.plan, self.referee.goals.hit)
        self.servers = [
            Server(node_id, self.plan, self.world, network.post, self.referee, network.has_unsent) for node_id in range(nodes)
        ]
        network.connect(
            [server.take_message for server in self.servers],
            [server.bytes_come for server in self.servers],
            [server.link_up for server in self.servers],
        )
        self.referee.invariants.servers.update({server.node_id: server for server in self.servers})
        referee = self.referee
        self.nemesis = Nemesis(self.plan, self.world, self.network, self.servers, referee.fault, self._burst)
        tools = referee.invariants, referee.fault, referee.goals, self.nemesis.revive
        self.operator = Operator(self.plan, self.world, self.servers, *tools, self.network)
        self.losses = Losses(self.plan, self.world, self.network, self.servers, self.operator, *tools)
        self.nemesis.operator, self.nemesis.losses = self.operator, self.losses
        referee.on_stopped = self.operator.stopped
        referee.look_too(self.losses.looks, self.losses.sent)
        for server in self.servers:
            server.look_at_room()
        values = (10_000, 100_000) if self.plan.large_values else (400, 4000)
        self.clients = [
            Client(number, self.world, self.servers, self.history, self.plan.clients_until, self.plan.quiet, values)
            for number in range(CLIENTS)
        ]
        self.reader = Reader(self.world, self.servers, self.referee.invariants.states, KEYS, self.plan.clients_until)
        if "small_batches" in self.plan.kinds:
            self._look_at_windows()
        rates = self.plan.clock_rates
        if max(rates) - min(rates) > 0.1:
            self.referee.goals.hit("clock_apart")

    def run(self) -> None:
        """Run to the end; raise Broken, ConsensusViolation or DamagedLog."""
        self.go_on(self.plan.clients_until)
        self._come_to_rest()
        if self.plan.narrow_end is not None:
            self.nemesis.heal_disks()
            NarrowEnd(self, self.plan.narrow_end).run()
        self.go_on(self.world.now + (LATE_QUIET_S if self.plan.late_disks else QUIET_S))
        self._judge()

    def go_on(self, until: float) -> None:
        """Let simulated time pass; raise Broken if that does not end."""
        if not self.world.run(until, MOST_STEPS):
            raise Broken("it ends", f"{MOST_STEPS:,} steps and no end")

    def _come_to_rest(self) -> None:
        """After the healing: a leader, a new committed write, the same state everywhere, and a last read of every key."""
        world, plan = self.world, self.plan
        give_up_s = LATE_GIVE_UP_S if plan.late_disks else GIVE_UP_S
        reader = Client(CLIENTS, world, self.servers, self.history, 0.0, give_up_s=give_up_s)
        last: Call | None = None
        reads: list[Call] = []
        while world.now < plan.end_at:
            self.go_on(world.now + LOOK_S)
            if last is None or (last.done and not self._was_applied(last)):
                key = KEYS[0]
                last = reader.call(Put(id=0, key=key, value=f"last {world.now:.1f}"), key)
            elif last.done and not reads and self.is_whole():
                reads = [reader.call(None, key) for key in KEYS]
            elif reads and all(call.done for call in reads) and self.is_whole():
                return
        alive = [server for server in self.servers if not server.is_lost]
        state = ", ".join(_state_of(server) for server in alive)
        what = "no new write was committed" if last is None or not last.done else "the nodes did not become equal"
        raise self.referee.invariants.stores.broken(
            "it heals", f"{what} within {plan.end_at - plan.heal_at:.0f} s after all had healed: {state}"
        )

    def _was_applied(self, call: Call) -> bool:
        return any(operation.called == call.called and operation.effect == "applied" for operation in self.history[-40:])

    def is_whole(self) -> bool:
        """Return whether all who are not lost run, one leads, and all have applied the same."""
        alive = [server for server in self.servers if not server.is_lost]
        cores = [server.core for server in alive if server.core is not None]
        if len(cores) < len(alive) or not any(isinstance(core.role, Leader) for core in cores):
            return False
        last = max(core.log.last_index for core in cores)
        return all(core.last_applied == last and core.may_vote and core.standing.identity for core in cores)

    def _judge(self) -> None:
        alive = [server for server in self.servers if not server.is_lost]
        for server in alive:
            accounts.check_quiet(server, [other.node_id for other in alive])
        first = alive[0]
        for other in alive[1:]:
            if _content(other) != _content(first):
                raise Broken("equal stores", f"nodes {first.node_id} and {other.node_id} hold different keys")
        verdict = linearizability.check(self.history)
        if not verdict.ok:
            raise self.referee.invariants.stores.broken("linearizability", verdict.reason)
        check_order(self.reader.pages, self.history)
        if self.reader.goes_on:
            self.referee.goals.hit("list_goes_on")
        for operation in self.history:
            if operation.effect == "refused":
                self.referee.goals.hit("write_refused_condition")
            elif operation.effect == "unknown" and operation.kind != "get":
                self.referee.goals.hit("write_unknown_told")

    def _look_at_windows(self) -> None:
        for server in self.servers:
            if server.core is not None and isinstance(server.core.role, Leader):
                self.referee.goals.look_at_window(server.core.role, server.core)
        self.world.after(LOOK_S, self._look_at_windows)

    def _burst(self, node_id: NodeId, count: int) -> None:
        self.clients[0].burst(node_id, count)


@contextmanager
def _without_collection() -> Iterator[None]:
    """A seed makes many objects and hardly any cycles: looking for them took 2 % of its time. Afterwards it is as it was."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@_without_collection()
def run(seed: int, nodes: int, allowed: frozenset[str] | None = None, *, keep: bool = False) -> Result:
    """Run one seed; with `keep` the result holds every fact and the clients' history."""
    cluster = Seed(seed, nodes, allowed, keep=keep)
    failure: Failure | None = None
    try:
        with scaled(cluster.world.random("scale")):
            cluster.run()
    except Excused as problem:
        cluster.referee.fault(f"nothing more can be demanded: {problem}")
        cluster.referee.goals.hit("loss_excused")
    except Broken as problem:
        if cluster.referee.invariants.stores.is_damaged and problem.rule in MAY_FOLLOW:
            cluster.referee.goals.hit("loss_excused")
        else:
            failure = Failure(rule=problem.rule, text=str(problem), at=cluster.world.now)
    except ConsensusViolation as problem:
        if cluster.referee.invariants.stores.is_damaged:
            cluster.referee.goals.hit("loss_excused")
        else:
            failure = Failure(rule="the core's own checks", text=str(problem), at=cluster.world.now)
    except AssertionError as problem:
        failure = Failure(rule="the core's own checks", text=f"assertion: {problem}", at=cluster.world.now)
    except (DamagedLog, DamagedSnapshot) as problem:
        failure = Failure(rule="disk remembers", text=str(problem), at=cluster.world.now)
    referee = cluster.referee
    goals: Counter[str] = referee.goals.counts
    return Result(
        seed=seed,
        nodes=nodes,
        drawn=cluster.plan.drawn,
        kinds=cluster.plan.kinds,
        failure=failure,
        trace=referee.trace,
        simulated_s=cluster.world.now,
        steps=cluster.world.steps,
        operations=len(cluster.history),
        unknown=sum(operation.effect == "unknown" for operation in cluster.history),
        committed=len(referee.invariants.committed) - 1,
        goals=dict(sorted(goals.items())),
        told=referee.told,
        history=cluster.history if keep else [],
    )


def _both(first: LookAtMessage, second: LookAtMessage) -> LookAtMessage:
    def look(server: Server, to: NodeId, message: Any) -> None:
        first(server, to, message)
        second(server, to, message)

    return look


def _content(server: Server) -> list[Any]:
    return server.store.items("", "", 1000, most_bytes=1 << 40)[0]


def _state_of(server: Server) -> str:
    core = server.core
    if core is None:
        return f"node {server.node_id} is down"
    where = f"term {core.current_term}, log {core.log.last_index}, commit {core.commit_index}, applied {core.last_applied}"
    place = "" if core.is_settled else ", may vote" if core.may_vote else ", abstains"
    return f"node {server.node_id} {core.role.name} ({where}{place})"
