"""A cluster of ring 1: simulated servers and links, clients, faults, and the checkers."""

from typing import Any, Final

from bargetrio.protocol.requests import Get, Put
from bargetrio.raft.messages import NodeId
from bargetrio.raft.roles import Leader
from bargetrio.simulator import accounts, linearizability
from bargetrio.simulator.clients import CLIENTS, GIVE_UP_S, KEYS, Call, WorkloadClient
from bargetrio.simulator.goals import look_at_window
from bargetrio.simulator.linearizability import Operation
from bargetrio.simulator.lists import Reader, check_order
from bargetrio.simulator.losses import Losses
from bargetrio.simulator.memory import Breach
from bargetrio.simulator.nemesis import Nemesis
from bargetrio.simulator.network import SimulatedNetwork
from bargetrio.simulator.operator import Operator
from bargetrio.simulator.plan import draw
from bargetrio.simulator.referee import Referee
from bargetrio.simulator.server import Server
from bargetrio.simulator.world import World

MOST_STEPS: Final = 2_000_000
"""A seed that needs more steps is taken to loop for ever."""
POLL_S: Final = 0.1
QUIET_S: Final = 0.5
"""Time after the last answer after which nothing may wait any more; where disks are late, `LATE_QUIET_S`."""
LATE_QUIET_S: Final = 6.0
LATE_GIVE_UP_S: Final = 10.0
REST_S: Final = 1.0
"""How long a server may still be busy when all is quiet: a heartbeat is under way, and its answer."""
MOMENT_S: Final = 0.001
"""Interval of the checks whether that has ended."""
"""How long the last requests may wait where disks are late: a write waits for the one before it and for its own sync."""


class SimulatedCluster:
    """The state of one seed; seed.py runs it."""

    def __init__(self, seed: int, nodes: int, allowed: frozenset[str] | None, *, keep: bool) -> None:
        self.world = World(seed)
        self.plan = draw(self.world.random("plan"), self.world.random("plan of disks and members"), nodes, allowed)
        self.referee = Referee(self.world, nodes, keep=keep)
        self.history: list[Operation] = []
        network = self.network = SimulatedNetwork(self.world, self.plan, self.referee.goals.hit)
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
        self.nemesis = Nemesis(self.plan, self.world, self.network, self.servers, referee.fault, referee.goals, self._burst)
        tools = referee.fault, referee.goals, self.nemesis.revive
        invariants = referee.invariants
        self.operator = Operator(self.plan, self.world, self.servers, invariants.membership, *tools, self.network)
        self.losses = Losses(self.plan, self.world, self.network, self.servers, self.operator, invariants, *tools)
        self.nemesis.operator, self.nemesis.losses = self.operator, self.losses
        referee.on_stopped = self.operator.stopped
        referee.look_too(self.losses.looks, self.losses.sent)
        for server in self.servers:
            server.look_at_room()
        values = (10_000, 100_000) if self.plan.large_values else (400, 4000)
        self.clients = [
            WorkloadClient(number, self.world, self.servers, self.history, self.plan.clients_until, self.plan.quiet, values)
            for number in range(CLIENTS)
        ]
        self.reader = Reader(self.world, self.servers, self.referee.invariants.states, KEYS, self.plan.clients_until)
        if "small_batches" in self.plan.kinds:
            self._look_at_windows()
        rates = self.plan.clock_rates
        if max(rates) - min(rates) > 0.1:
            self.referee.goals.hit("clock_apart")

    def go_on(self, until: float) -> None:
        """Let simulated time pass; raise Breach if that does not end."""
        self._check_steps(self.world.run(until, MOST_STEPS))

    def _check_steps(self, is_within: bool) -> None:
        if not is_within:
            raise Breach("it ends", f"{MOST_STEPS:,} steps and no end")

    def come_to_rest(self) -> None:
        """After the healing: a leader, a new committed write, the same state everywhere, and a last read of every key."""
        world, plan = self.world, self.plan
        give_up_s = LATE_GIVE_UP_S if plan.late_disks else GIVE_UP_S
        reader = WorkloadClient(CLIENTS, world, self.servers, self.history, 0.0, give_up_s=give_up_s)
        last: Call | None = None
        reads: list[Call] = []
        while world.now < plan.end_at:
            self.go_on(world.now + POLL_S)
            if last is None or (last.done and not self._was_applied(last)):
                key = KEYS[0]
                last = reader.call(Put(id=0, key=key, value=f"last {world.now:.1f}"), key)
            elif last.done and not reads and self.is_whole():
                reads = [reader.call(Get(id=0, key=key), key) for key in KEYS]
            elif reads and all(call.done for call in reads) and self.is_whole():
                return
        alive = [server for server in self.servers if not server.is_lost]
        state = ", ".join(_state_of(server) for server in alive)
        what = "no new write was committed" if last is None or not last.done else "the nodes did not become equal"
        raise self.referee.invariants.stores.at_a_halt(
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

    def judge(self) -> None:
        """Once all is quiet: nothing is left, all stores are equal, and the clients' history is linearizable; raise Breach."""
        alive = [server for server in self.servers if not server.is_lost]
        self.check_quiet()
        first = alive[0]
        for other in alive[1:]:
            if _content(other) != _content(first):
                raise Breach("equal stores", f"nodes {first.node_id} and {other.node_id} hold different keys")
        verdict = linearizability.check(self.history)
        if not verdict.ok:
            raise Breach("linearizability", verdict.reason)
        check_order(self.reader.pages, self.history)
        if self.reader.goes_on:
            self.referee.goals.hit("list_goes_on")
        for operation in self.history:
            if operation.effect == "refused":
                self.referee.goals.hit("write_refused_condition")
            elif operation.effect == "unknown" and operation.kind != "get":
                self.referee.goals.hit("write_unknown_told")

    def check_quiet(self) -> None:
        """Raise Breach if a server keeps anything for a request that has ended; heartbeats that are under way end first."""
        alive = [server for server in self.servers if not server.is_lost]
        for server in alive:
            until = self.world.now + REST_S
            while not server.has_nothing_to_do and self.world.now < until:
                self.go_on(self.world.now + MOMENT_S)
                self._check_steps(self.world.end_moment(MOST_STEPS))  # a timer that is due at this very moment is no work
            accounts.check_quiet(server, [other.node_id for other in alive])

    def _look_at_windows(self) -> None:
        for server in self.servers:
            if server.core is not None and isinstance(server.core.role, Leader):
                look_at_window(server.core.role, server.core, self.referee.goals.hit)
        self.world.after(POLL_S, self._look_at_windows)

    def _burst(self, node_id: NodeId, count: int) -> None:
        self.clients[0].burst(node_id, count)


def _content(server: Server) -> list[Any]:
    return server.store.items("", "", 1000, most_bytes=1 << 40)[0]


def _state_of(server: Server) -> str:
    core = server.core
    if core is None:
        return f"node {server.node_id} is down"
    where = f"term {core.current_term}, log {core.log.last_index}, commit {core.commit_index}, applied {core.last_applied}"
    place = "" if core.is_settled else ", may vote" if core.may_vote else ", abstains"
    return f"node {server.node_id} {core.role.name} ({where}{place})"
