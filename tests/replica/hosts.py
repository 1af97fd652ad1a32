"""A replica in a task of the test's own loop, with as little around it as a test needs."""

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import trio

from bargetrio.eventlog.host_facts import HostFact
from bargetrio.kv.store import Store
from bargetrio.raft.core import Core
from bargetrio.raft.facts import Fact
from bargetrio.raft.messages import Message, NodeId
from bargetrio.raft.records import Record, Remembered
from bargetrio.replica.figures import NodeFigures
from bargetrio.replica.inbox import Inbox
from bargetrio.replica.jobs import SnapshotPlace
from bargetrio.replica.ports import Events, Job, Jobs, Outbox
from bargetrio.replica.replica import Replica
from bargetrio.replica.scheduler import ProcessScheduler
from bargetrio.replica.sessions import AnswerRoom
from bargetrio.simulator.disk import SimulatedDisk
from bargetrio.transport.poller import TaskPoller


class Nobody:
    """Keeps no fact."""

    def record(self, node_id: NodeId | None, fact: Fact | HostFact) -> None:
        pass

    def stage(self, node_id: NodeId | None, fact: Fact | HostFact) -> None:
        self.record(node_id, fact)

    def flush(self) -> None:
        pass


class AtOnce:
    """A log without a disk: each write is done at once, or fails with `failure`."""

    def __init__(self, inbox: Inbox) -> None:
        self.failure: OSError | None = None
        self._inbox = inbox

    def begin(self, number: int, records: Sequence[Record]) -> None:
        self._inbox.write_ended(number, self.failure)


class Posted:
    """Peers that are a call of the test's."""

    def __init__(self, post: Callable[[NodeId, Message], None] = lambda to, message: None) -> None:
        self.post = post
        self.connections = 0

    def connection(self, to: NodeId) -> int:
        return self.connections

    def redial(self) -> None:
        pass


class Begun:
    """Jobs that are begun, and never make a step."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []

    def start(self, job: Job) -> None:
        self.jobs.append(job)

    def gave_up(self, what: str, again_s: float, problem: OSError) -> None:
        raise AssertionError(what)


class Hosted:
    """A replica, its inbox, and the task that has it make steps."""

    def __init__(
        self,
        core: Core,
        *,
        store: Store | None = None,
        events: Events | None = None,
        outbox: Outbox | None = None,
        jobs: Jobs | None = None,
        scheduler: ProcessScheduler | None = None,
        figures: NodeFigures | None = None,
        answer_room: AnswerRoom | None = None,
        request_timeout_s: float = 5,
    ) -> None:
        self.poller = TaskPoller()
        self.inbox = Inbox(self.poller.wake)
        self.wal = AtOnce(self.inbox)
        unused: Any = None
        self.replica = Replica(
            core=core,
            store=Store() if store is None else store,
            inbox=self.inbox,
            wal=self.wal,
            outbox=Posted() if outbox is None else outbox,
            jobs=Begun() if jobs is None else jobs,
            events=Nobody() if events is None else events,
            place=SnapshotPlace(disk=SimulatedDisk(unused), folder=unused, cluster="c", chunk_bytes=100, again_s=10),
            addresses={other: f"node-{other}:1" for other in core.members},
            request_timeout_s=request_timeout_s,
            scheduler=ProcessScheduler() if scheduler is None else scheduler,
            figures=NodeFigures() if figures is None else figures,
            answer_room=AnswerRoom() if answer_room is None else answer_room,
        )

    @property
    def core(self) -> Core:
        return self.replica.core

    async def run(self) -> None:
        """Step until cancelled; then it is dead, as a node."""
        try:
            await self.poller.drive(lambda: self.replica.step(trio.current_time()))
        finally:
            self.replica.fence(trio.current_time())


def one_of_three(*, heartbeat_s: float = 0.05, election_s: tuple[float, float] = (0.3, 0.6)) -> Core:
    """Return a new core of node 0 of three."""
    return Core(
        node_id=0,
        node_ids=(0, 1, 2),
        remembered=Remembered(),
        heartbeat_s=heartbeat_s,
        election_s=election_s,
        random=Random(1),
        now=0.0,
    )
