"""All of a daemon in virtual time: nodes, links, disks and the recorder of one seed of ring 2."""

import errno
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Final

import trio
import trio.testing
from msgspec import structs

from bargetrio.cluster.cluster import Cluster
from bargetrio.cluster.daemons import Daemons
from bargetrio.cluster.disk_faults import DiskFaults
from bargetrio.cluster.forward import Forwarder
from bargetrio.cluster.local_nodes import LocalNodes
from bargetrio.node.opening import open_node
from bargetrio.node.server import Node
from bargetrio.node.settings import NodeSettings
from bargetrio.protocol.events import Event
from bargetrio.raft.core import Core
from bargetrio.raft.progress import PIPELINE
from bargetrio.raft.snapshot_state import SnapshotPolicy
from bargetrio.replica.scheduler import ProcessScheduler
from bargetrio.simulator import beginnings
from bargetrio.simulator.disk import SimulatedDisk
from bargetrio.simulator.linearizability import Operation
from bargetrio.simulator.memory import Breach
from bargetrio.simulator.plan import (
    ELECTION_S,
    HEARTBEAT_S,
    STACK_KINDS,
    STACK_RARE,
    Begun,
    draw_begun_with,
    draw_first_starts,
    one_of_each_group,
)
from bargetrio.simulator.stack.disk_work import VirtualWork
from bargetrio.simulator.stack.goals import COUNTED, STACK_GOALS, count_events
from bargetrio.simulator.stack.ledger import Ledger
from bargetrio.simulator.stack.network import MemoryNetwork
from bargetrio.simulator.stack.readers import States
from bargetrio.simulator.stack.scale import draw_small_pipeline, with_few_bytes
from bargetrio.simulator.stack.tails import Tails
from bargetrio.transport.faults import LinkFaults
from bargetrio.transport.poller import TaskPoller
from bargetrio.web.app import make_app
from bargetrio.web.guard import App

SEGMENT_BYTES: Final = (8 * 1024, 64 * 1024, 1024 * 1024)
"""A file of the log has one of these sizes, so that logs roll; full size would be 32 MiB of memory a node."""

LARGE_BYTES: Final = 5000
"""A command of more has a large value."""


class StackFailure(Exception):
    """A promise was broken: `rule` is its name, the text says how."""

    def __init__(self, rule: str, text: str) -> None:
        super().__init__(f"{rule}: {text}")
        self.rule = rule


class Stack:
    """The state of one seed."""

    def __init__(self, seed: int, nodes: int, allowed: frozenset[str] | None) -> None:
        self.seed = seed
        self.nodes = nodes
        draw = self.random("plan")
        drawn = [kind for kind in STACK_KINDS if draw.random() < STACK_RARE.get(kind, 0.5)]
        self.drawn = tuple(kind for kind in one_of_each_group(drawn) if nodes > 1 or kind != "other_backups")
        self.kinds = tuple(kind for kind in self.drawn if allowed is None or kind in allowed)
        often = draw.random() < 0.5
        self.snapshot_policy = SnapshotPolicy(
            entries=draw.randint(5, 50) if often else 10_000, bytes=1 << 30, trailing=draw.choice((0, 0, 1, 5, 20))
        )
        self.chunk_bytes = draw.choice((100, 500, 3000))
        self.pipeline, self.slice_keys, small = PIPELINE, 1, self.random("small batches")
        self.is_small = "small_batches" in self.kinds
        """Whether bounds are scaled down (scale.py)."""
        if self.is_small:
            self.snapshot_policy = with_few_bytes(small, self.snapshot_policy)
            self.slice_keys = small.choice((1, 2, 100))
            self.pipeline = draw_small_pipeline(small)
            if "late_syncs" not in self.kinds:  # an entry a sync would take minutes
                self.pipeline = structs.replace(self.pipeline, write_bytes=small.choice((100, 1000, 10_000)))
        self.request_timeout_s: float = self.random("time-out").choice((0.25, 0.6, 1.5))
        """Shorter than an election in a third of the seeds: then a leader that was cut off gives up on writes while in office."""
        self.history: list[Operation] = []
        self.ledger = Ledger()
        self.made: Counter[str] = Counter()
        """How often the rare situations of goals.py were reached that no event shows."""
        self.addresses = {node_id: f"node-{node_id}:1" for node_id in range(nodes)}
        self.tails = Tails(self._core_of, nodes, self.hit)
        self.tails.end = self._end
        self.problem: Breach | None = None
        """What has ended the seed: a failure, or that no further checks are possible."""
        self.over = trio.CancelScope()
        self.recorder = States(
            self._core_of, self.tails, self.hit, "stack", wall_clock=trio.current_time, capacity=1_000_000, heartbeats=1_000_000
        )
        self.network = MemoryNetwork(self.random("network"), self.hit)
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
        self.listed: dict[int, list[int]] = {}
        """Nodes that are started with another list of nodes."""
        self.absent = {node_id for node_id, moment in enumerate(self.first_starts) if moment}
        """Nodes that have not started for the first time: their disks are not there yet."""
        self.lives: Counter[int] = Counter()
        self.begun_with = draw_begun_with(self.random("backups"), nodes, self.kinds)
        """What each node's folder begins with."""
        for node_id, begun in enumerate(self.begun_with):
            if begun:
                self.restore(node_id, begun)
        self.tails.must_not_commit = len(set(self.begun_with)) > 1
        if any(self.begun_with):  # the last that any node has, or will have
            self.recorder.begin_with(beginnings.TERM, beginnings.commands()[: beginnings.LAST["tuesday"]])
        self.link_faults = LinkFaults(seed)
        self.scheduler = ProcessScheduler()
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
            assert goal in STACK_GOALS or goal in COUNTED, goal
            self.made[goal] += 1

    def _end(self, problem: Breach) -> None:
        """End the seed; the first problem counts."""
        self.problem = self.problem or problem
        self.over.cancel()

    async def _free_bytes(self, node_id: int) -> int:
        return self.disks[node_id].free_bytes()

    def _core_of(self, node_id: int) -> Core:
        return self.living[node_id].replica.core

    def random(self, name: str) -> Random:
        """Return a source of randomness of its own."""
        return Random(f"{self.seed}/stack/{name}")

    def restore(self, node_id: int, begun: Begun) -> None:
        """Have a node, which is down, begin with a backup."""
        disk, ids = self.disks[node_id], self.random(f"stores {node_id} {self.lives[node_id]}")
        disk.lose()
        disk.fail_at.clear()
        beginnings.restore(disk, "stack", node_id, tuple(self.addresses), lambda: f"{ids.getrandbits(128):032x}", begun)

    def restore_alike(self) -> None:
        """Have all nodes, which are down, begin with the same backup: nothing was acknowledged, so nothing is lost."""
        for node_id in self.addresses:
            self.restore(node_id, "tuesday")
        self.tails.must_not_commit = False

    @asynccontextmanager
    async def _open_node(self, node_id: int) -> AsyncIterator[Node]:
        if node_id in self.absent:
            raise OSError(errno.ENODEV, "its disk is not there yet")
        self.disks[node_id].end_process()
        self.lives[node_id] += 1
        tokens = self.random(f"tokens {node_id} {self.lives[node_id]}")
        settings = NodeSettings(
            cluster="stack",
            node_id=node_id,
            listen=self.addresses[node_id],
            addresses={other: f"node-{other}:1" for other in self.listed.get(node_id, self.addresses)},
            heartbeat_s=HEARTBEAT_S,
            election_s=ELECTION_S,
            request_timeout_s=self.request_timeout_s,
            peer_secret=b"between us" if self.seed % 2 else None,
            seed=tokens.getrandbits(64),
            snapshot_policy=self.snapshot_policy,
            chunk_bytes=self.chunk_bytes,
            slice_keys=self.slice_keys,
            pipeline=self.pipeline,
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
            scheduler=self.scheduler,
        ) as node:
            self.living[node_id] = node
            self.tails.opened(node_id, node.replica.core, trio.current_time())
            yield node

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
            running=self.local.running_node,
            network=self.network,
            nursery=nursery,
        )
        self.cluster = Cluster(
            self.local,
            forwarder,
            link_faults=self.link_faults,
            disk_faults=self.disk_faults,
            daemons=Daemons({}, None, cluster="barge"),
            nursery=nursery,
        )
        problems = await self.local.start(nursery)
        if set(problems) - self.absent:
            raise StackFailure("it starts", f"{problems}")
        return make_app(self.cluster, hosts=frozenset({"simulated:1"}), token=None)

    def is_whole(self) -> bool:
        """Return whether all nodes run, vote, and have applied the same."""
        views = self.local.views()
        applied = {view.last_applied for view in views}
        return all(view.state == "running" and view.may_vote for view in views) and applied == {
            max(view.last_log_index or 0 for view in views)
        }

    def goals(self) -> dict[str, int]:
        """Return how often each rare situation was reached."""
        several = sum(sum(name.startswith("wal/") for name in disk.names()) > 1 for disk in self.disks.values())
        large = sum(len(command) > LARGE_BYTES for command in self.recorder.commands)
        counts = self.made + count_events(self.events(), self.chunk_bytes) + Counter(several_segments=several, large_value=large)
        return dict(sorted(counts.items()))

    def as_audited(self) -> list[Event]:
        """Return the events. A store whose disk forgot a vote or a term has another name since: the audit knows no such disks."""
        events = self.events()
        for place, event in enumerate(events):
            times = sum(moment <= event.time for moment in self.tails.forgotten.get(event.node, ()))
            if times and event.kind == "node_recovered":
                detail = {**event.detail, "store": f"{event.detail['store']}, set back {times} times"}
                events[place] = structs.replace(event, detail=detail)
        return events

    def events(self) -> list[Event]:
        """Return all that was recorded."""
        page = self.recorder.page(0, heartbeats=True, limit=2_000_000)
        return [self.recorder.event(kept) for kept in page.events]
