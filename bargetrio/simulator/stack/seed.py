"""One seed of ring 2: a daemon's whole inside in virtual time, faults for 8 virtual seconds, healing, and a judgement.

What must hold: the clients' history is linearizable, no acknowledged write is lost, the recorded events pass the audit, every
node comes back and has applied the same, and nothing hangs.
"""

import errno
import gc
import logging
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from hashlib import blake2b
from random import Random
from typing import Any, Final

import msgspec
import trio
import trio.testing

from bargetrio.cluster.cluster import Cluster
from bargetrio.cluster.daemons import Daemons
from bargetrio.cluster.disk_faults import DiskFaults
from bargetrio.cluster.forward import Forwarder
from bargetrio.cluster.local_nodes import LocalNodes
from bargetrio.cluster.node_link import NodeLink
from bargetrio.node.opening import open_node
from bargetrio.node.server import Node
from bargetrio.node.settings import NodeSettings
from bargetrio.protocol.events import Event
from bargetrio.raft.core import Core
from bargetrio.raft.snapshot_state import SnapshotPolicy
from bargetrio.replica.turns import Turns
from bargetrio.simulator import linearizability
from bargetrio.simulator.audit import Audit
from bargetrio.simulator.disk import SimulatedDisk
from bargetrio.simulator.linearizability import Operation
from bargetrio.simulator.memory import Broken
from bargetrio.simulator.plan import STACK_KINDS, STACK_RARE, draw_first_starts
from bargetrio.simulator.seed import Failure, Result
from bargetrio.simulator.server import ELECTION_S, HEARTBEAT_S
from bargetrio.simulator.stack.accounts import check_quiet
from bargetrio.simulator.stack.clients import CLIENTS, KEYS, BulkWriter, Client
from bargetrio.simulator.stack.disk_work import VirtualWork
from bargetrio.simulator.stack.goals import STACK_GOALS, count_events
from bargetrio.simulator.stack.ledger import Ledger
from bargetrio.simulator.stack.nemesis import Nemesis, StackFailure
from bargetrio.simulator.stack.network import MemoryNetwork
from bargetrio.simulator.stack.readers import Reader, States
from bargetrio.transport.faults import LinkFaults
from bargetrio.transport.poller import TaskPoller
from bargetrio.web.app import make_app
from bargetrio.web.guard import App

FAULTS_S: Final = 8.0
HEAL_S: Final = 10.0
QUIET_S: Final = 1.0
"""So long after the last answer nothing is waited for any more."""
SEGMENT_BYTES: Final = (8 * 1024, 64 * 1024, 1024 * 1024)
"""A file of the log has one of these sizes, so that logs roll; full size would be 32 MiB of memory a node."""
MOST_STEPS: Final = 3_000_000
BUG: Final = re.compile(r"[A-Z]\w+: ")
"""What ends a node begins with an exception's name if it is a bug (cluster/slots.py)."""


class _Steps(trio.abc.Instrument):
    """Counts task steps, and ends a run that goes round in circles."""

    def __init__(self) -> None:
        self.count = 0
        self.scope = trio.CancelScope()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Count."""
        self.count += 1
        if self.count == MOST_STEPS:
            self.scope.cancel()


class Stack:
    """Everything of one seed."""

    def __init__(self, seed: int, nodes: int, allowed: frozenset[str] | None) -> None:
        self.seed = seed
        self.nodes = nodes
        draw = self.random("plan")
        self.drawn = tuple(kind for kind in STACK_KINDS if draw.random() < STACK_RARE.get(kind, 0.5))
        self.kinds = tuple(kind for kind in self.drawn if allowed is None or kind in allowed)
        often = draw.random() < 0.5
        self.snapshot_policy = SnapshotPolicy(
            entries=draw.randint(5, 50) if often else 10_000, bytes=1 << 30, trailing=draw.choice((0, 0, 1, 5, 20))
        )
        self.chunk_bytes = draw.choice((100, 500, 3000))
        self.request_timeout_s: float = self.random("time-out").choice((0.25, 0.6, 1.5))
        """Shorter than an election in a third of the seeds: then a leader that was cut off gives up on writes while in office."""
        self.history: list[Operation] = []
        self.ledger = Ledger()
        self.made: Counter[str] = Counter()
        """How often the rare situations of goals.py were reached that no event tells."""
        self.addresses = {node_id: f"node-{node_id}:1" for node_id in range(nodes)}
        self.recorder = States(self._core_of, "stack", wall_clock=trio.current_time, capacity=1_000_000, heartbeats=1_000_000)
        self.network = MemoryNetwork(self.random("network"))
        self.disks = {node_id: SimulatedDisk(self.random(f"disk {node_id}")) for node_id in range(nodes)}
        self.work = {
            node_id: VirtualWork(self.disks[node_id], self.random(f"work {node_id}"), self.hit) for node_id in range(nodes)
        }
        draw = self.random("kernel syncs")
        for disk in self.disks.values():
            disk.gives_descriptors = draw.random() < 0.5
        draw = self.random("disks and members")
        self.segment_bytes: int = draw.choice(SEGMENT_BYTES)
        self.first_starts, self.bootstraps_at = draw_first_starts(draw, nodes, is_on="late_start" in self.kinds)
        self.absent = {node_id for node_id, moment in enumerate(self.first_starts) if moment}
        """Nodes that have not started for the first time: their disks are not there yet."""
        self.link_faults = LinkFaults(seed)
        self.turns = Turns()
        self._lives: Counter[int] = Counter()
        self.living: dict[int, Node] = {}
        """Each node's present life."""
        self.ended_at = 0.0
        self.disk_faults = DiskFaults()
        self.local = LocalNodes(
            cluster="stack",
            addresses=self.addresses,
            apis=dict.fromkeys(self.addresses, "simulated:1"),
            local_ids=list(self.addresses),
            open_node=self._open_node,
            recorder=self.recorder,
            disk_faults=self.disk_faults,
            free_bytes=self._free_bytes,
        )

    def hit(self, *goals: str) -> None:
        """Count rare situations."""
        for goal in goals:
            assert goal in STACK_GOALS, goal
            self.made[goal] += 1

    async def _free_bytes(self, node_id: int) -> int:
        return self.disks[node_id].free_bytes()

    def _core_of(self, node_id: int) -> Core:
        return self.living[node_id].replica.core

    def random(self, name: str) -> Random:
        """Return a source of randomness of its own."""
        return Random(f"{self.seed}/stack/{name}")

    @asynccontextmanager
    async def _open_node(self, node_id: int) -> AsyncIterator[Node]:
        if node_id in self.absent:
            raise OSError(errno.ENODEV, "its disk is not there yet")
        self.disks[node_id].end_process()
        self._lives[node_id] += 1
        tokens = self.random(f"tokens {node_id} {self._lives[node_id]}")
        settings = NodeSettings(
            cluster="stack",
            node_id=node_id,
            listen=self.addresses[node_id],
            addresses=self.addresses,
            heartbeat_s=HEARTBEAT_S,
            election_s=ELECTION_S,
            request_timeout_s=self.request_timeout_s,
            peer_secret=b"between us" if self.seed % 2 else None,
            seed=tokens.getrandbits(64),
            snapshot_policy=self.snapshot_policy,
            chunk_bytes=self.chunk_bytes,
            slice_keys=1,
            segment_bytes=self.segment_bytes,
        )
        async with open_node(
            settings,
            disk=self.disks[node_id],
            sink=self.recorder,
            link_faults=self.link_faults,
            network=self.network,
            disk_work=self.work[node_id],
            make_poller=lambda: TaskPoller(self.work[node_id].stand_still),
            make_token=lambda: f"{tokens.getrandbits(128):032x}",
            turns=self.turns,
        ) as node:
            self.living[node_id] = node
            yield node

    # -- the run ---------------------------------------------------------------------------------------------------------

    async def run(self, steps: _Steps) -> None:
        """Run and judge; raise StackFailure."""
        with steps.scope:
            with trio.move_on_after(FAULTS_S + HEAL_S + 30) as watchdog:
                async with trio.open_nursery() as nursery:
                    began = trio.current_time()
                    try:
                        await self._inside(nursery)
                    finally:
                        self.ended_at = trio.current_time() - began
                        self.local.stop()
                    nursery.cancel_scope.cancel()
            if watchdog.cancelled_caught:
                raise StackFailure("it ends", "the run did not end in time")
        if steps.scope.cancelled_caught:
            raise StackFailure("it ends", f"{MOST_STEPS:,} steps and no end")
        self._judge()

    async def start(self, nursery: trio.Nursery) -> App:
        """Start everything in `nursery`; return the web application."""
        nursery.start_soon(self.network.run)
        forwarder = Forwarder(
            cluster="stack",
            addresses=self.addresses,
            request_timeout_s=self.request_timeout_s,
            leader_hint=self.local.leader_hint,
            local_ids=self.local.running_ids,
            can_lead=self.local.can_lead,
            network=self.network,
            nursery=nursery,
        )
        self.cluster = Cluster(
            self.local, forwarder, link_faults=self.link_faults, disk_faults=self.disk_faults, daemons=Daemons({}, None)
        )
        problems = await self.local.start(nursery)
        if set(problems) - self.absent:
            raise StackFailure("it starts", f"{problems}")
        return make_app(self.cluster, hosts=frozenset({"simulated:1"}), token=None)

    async def _inside(self, nursery: trio.Nursery) -> None:
        app = await self.start(nursery)
        nemesis = Nemesis(self)
        clients = [
            Client(number, self.cluster, app, self.random(f"client {number}"), self.history, self.ledger)
            for number in range(CLIENTS)
        ]
        for client in clients:
            client.large_values = "narrow_links" in self.kinds
        writer = BulkWriter(app, self.random("bulk"), self.ledger)
        links = {node_id: NodeLink(address, "stack", self.network, nursery) for node_id, address in self.addresses.items()}
        reader = Reader(
            cluster=self.cluster,
            app=app,
            links=links,
            life_of=self._lives.__getitem__,
            random=self.random("reader"),
            states=self.recorder.states,
            history=self.history,
            keys=KEYS,
        )
        end = trio.current_time() + FAULTS_S
        async with trio.open_nursery() as working:
            working.start_soon(reader.run, end + 1)
            working.start_soon(writer.run, end + 1)
            for client in clients:
                working.start_soon(client.run, end + 1)
            working.start_soon(nemesis.make_faults, app, end)
        await self._come_to_rest(clients[0], nemesis, app)
        self.made["write_refused_no_room"] += sum(client.refused_no_room for client in clients)
        await trio.sleep(QUIET_S)
        check_quiet(self, list(links.values()))
        reader.judge()

    async def _come_to_rest(self, client: Client, nemesis: Nemesis, app: App) -> None:
        """Everybody back, a new write, the same everywhere, a last read of every key."""
        for node_id in self.addresses:
            self.disks[node_id].fail_at.clear()
            self.disks[node_id].free_space()
            self.work[node_id].heal()
        self.absent.clear()
        for node_id in self.addresses:
            await nemesis.revive(node_id)
        end = trio.current_time() + HEAL_S
        written = None
        while trio.current_time() < end:
            await nemesis.take_in(app)
            if written is None or written.effect != "applied":
                written = await client.ask(KEYS[0], 0.5)
            elif self._is_whole():
                for key in KEYS:
                    if await client.ask(key, 0.0) is None:
                        raise StackFailure("it heals", f"{key} can't be read after all has healed")
                return
            await trio.sleep(0.05)
        views = [
            (view.id, view.state, view.role, view.term, view.last_log_index, view.last_applied, view.may_vote)
            for view in self.local.views()
        ]
        raise StackFailure("it heals", f"not whole within {HEAL_S:.0f} s: {views}")

    def _is_whole(self) -> bool:
        views = self.local.views()
        applied = {view.last_applied for view in views}
        return all(view.state == "running" and view.may_vote for view in views) and applied == {
            max(view.last_log_index or 0 for view in views)
        }

    def _judge(self) -> None:
        self.ledger.judge(self.recorder.commands, self.recorder.outcomes)
        verdict = linearizability.check(self.history)
        if not verdict.ok:
            raise StackFailure("linearizability", verdict.reason)
        contents = {node_id: node.store.items("", "", 1000) for node_id, node in self.living.items()}
        if len({msgspec.json.encode(content) for content in contents.values()}) > 1:
            raise StackFailure("equal states", f"the nodes hold different keys: {contents}")
        for event in self.events():
            if event.kind == "node_crashed" and BUG.match(reason := str(event.detail["reason"])):
                raise StackFailure("only a disk ends a node", f"node {event.node}: {reason}")
        finding = Audit().take_all(self.events())
        if finding is not None:
            raise StackFailure(finding.rule, finding.told())

    def goals(self) -> dict[str, int]:
        """Return how often each rare situation was reached."""
        several = sum(sum(name.startswith("wal/") for name in disk.names()) > 1 for disk in self.disks.values())
        counts = self.made + count_events(self.events()) + Counter(several_segments=several)
        return dict(sorted(counts.items()))

    def events(self) -> list[Event]:
        """Return all that was recorded."""
        page = self.recorder.page(0, heartbeats=True, limit=2_000_000)
        return [self.recorder.event(kept) for kept in page.events]


@contextmanager
def deterministic(seed: int) -> Iterator[None]:
    """Let trio's scheduler draw from the seed, in a fixed order; and no garbage collection at moments of its own."""
    runner: Any = trio._core._run
    state, allowed = runner._r.getstate(), runner._ALLOW_DETERMINISTIC_SCHEDULING
    was_on = gc.isenabled()
    runner._ALLOW_DETERMINISTIC_SCHEDULING = True
    runner._r.seed(seed)
    gc.collect()  # of the seed before, whose objects hold each other
    gc.disable()
    try:
        yield
    finally:
        runner._ALLOW_DETERMINISTIC_SCHEDULING = allowed
        runner._r.setstate(state)
        if was_on:
            gc.enable()


def _innermost(problem: BaseException) -> BaseException:
    while isinstance(problem, BaseExceptionGroup):
        problem = problem.exceptions[0]
    return problem


def run(seed: int, nodes: int, allowed: frozenset[str] | None = None, *, keep: bool = False) -> Result:
    """Run one seed; with `keep` the result holds events and history."""
    stack = Stack(seed, nodes, allowed)
    steps = _Steps()
    failure: Failure | None = None
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # a node whose disk was made to fail says so; here that is no news
    with deterministic(seed):
        try:
            trio.run(stack.run, steps, clock=trio.testing.MockClock(rate=0.0, autojump_threshold=0), instruments=[steps])
        except* (StackFailure, Broken) as group:
            problem = _innermost(group)
            assert isinstance(problem, (StackFailure, Broken))
            failure = Failure(rule=problem.rule, text=str(problem), at=stack.ended_at)
        finally:
            logging.disable(level)
    events = stack.events()
    return Result(
        seed=seed,
        nodes=nodes,
        drawn=stack.drawn,
        kinds=stack.kinds,
        failure=failure,
        trace=blake2b(msgspec.json.encode((events, stack.history)), digest_size=8).hexdigest(),
        simulated_s=stack.ended_at,
        steps=steps.count,
        operations=len(stack.history),
        unknown=sum(operation.effect == "unknown" for operation in stack.history),
        committed=max((event.index or 0 for event in events if event.kind == "commit_advanced"), default=0),
        goals=stack.goals(),
        events=events if keep else [],
        history=stack.history if keep else [],
    )
