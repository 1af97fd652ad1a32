"""One life of a simulated server: the product's replica and its ports, which report to the seed's watcher."""

from collections.abc import Callable
from typing import Any, Generic

from bargetrio.kv.store import Store
from bargetrio.protocol.requests import Request
from bargetrio.raft.core import Core
from bargetrio.raft.messages import NodeId, SnapshotMeta
from bargetrio.raft.standing import Standing
from bargetrio.replica.figures import NodeFigures
from bargetrio.replica.hellos import HelloValidator
from bargetrio.replica.inbox import Inbox
from bargetrio.replica.jobs import SnapshotPlace
from bargetrio.replica.ports import JobKind
from bargetrio.replica.replica import Replica
from bargetrio.replica.scheduler import ProcessScheduler
from bargetrio.replica.sessions import AnswerRoom
from bargetrio.simulator.answers import AnyAnswer, Asker, ClientsSession
from bargetrio.simulator.machine import CLUSTER, Machine
from bargetrio.simulator.observer import S, Watcher
from bargetrio.simulator.peers import Peers, Post
from bargetrio.simulator.plan import SAVE_AGAIN_S
from bargetrio.simulator.timed_jobs import TimedJobs
from bargetrio.simulator.timed_steps import TimedSteps
from bargetrio.simulator.timed_wal import TimedWal
from bargetrio.storage.wal import OpenFolder


class Life(Generic[S]):
    """A server from one start to its end: the replica, and what it was given.

    Reports to the seed's watcher what the replica's ports observe.
    """

    def __init__(
        self,
        server: S,
        watcher: Watcher[S],
        *,
        core: Core,
        machine: Machine,
        folder: OpenFolder,
        store: Store,
        chunk_bytes: int,
        request_timeout_s: float,
        steps: TimedSteps[S],
        post: Post,
        node_ids: tuple[NodeId, ...],
        is_list_wrong: bool,
        write_begun: Callable[[float], None],
    ) -> None:
        """`write_begun` is called with the duration of each write of the log."""
        self._server = server
        self._watcher = watcher
        self.folder = folder
        inbox = Inbox(steps.wake)
        self.peers = Peers(
            server,
            watcher,
            core=core,
            inbox=inbox,
            hello_validator=HelloValidator(core, inbox, folder.earlier_stores),
            steps=steps,
            post=post,
            node_ids=node_ids,
            is_list_wrong=is_list_wrong,
        )
        self.session = ClientsSession(inbox, self._answered)
        self.wal = TimedWal(server, watcher, machine=machine, folder=folder, inbox=inbox, begun=write_begun, wake=steps.wake_last)
        self.jobs = TimedJobs(machine, self._done, self._gave_up)
        self.replica = Replica(
            core=core,
            store=store,
            inbox=inbox,
            wal=self.wal,
            outbox=self.peers,
            jobs=self.jobs,
            events=watcher.events_of(server),
            place=_place(core, machine, folder, chunk_bytes),
            addresses={},
            request_timeout_s=request_timeout_s,
            answer_room=AnswerRoom(),
            scheduler=ProcessScheduler(),
            figures=NodeFigures(),
        )

    def _answered(self, request: Request, asker: Asker, answer: AnyAnswer) -> None:
        self._watcher.answered(self._server, request, asker, answer)
        asker.answered(answer)

    def _done(self, kind: JobKind, result: Any) -> None:
        if isinstance(result, SnapshotMeta):
            self._watcher.snapshot_saved(self._server, result)
        elif isinstance(result, Standing):
            self._watcher.standing_written(self._server, result)

    def _gave_up(self, what: str) -> None:
        self._watcher.gave_up(self._server, what)


def _place(core: Core, machine: Machine, folder: OpenFolder, chunk_bytes: int) -> SnapshotPlace:
    return SnapshotPlace(
        disk=machine.disk,
        folder=folder,
        cluster=CLUSTER,
        chunk_bytes=chunk_bytes,
        again_s=SAVE_AGAIN_S,
        slice_keys=2 + core.node_id % 3,  # two nodes' files of the same state are not the same bytes
        write_bytes=1,
    )
