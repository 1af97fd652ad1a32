"""One life of a simulated server: the product's replica and its ports, which report to the seed's watcher."""

from collections.abc import Callable, Sequence
from typing import Any, Generic

from bargetrio.kv.store import Store
from bargetrio.protocol.requests import Request
from bargetrio.raft.core import Core
from bargetrio.raft.effects import SendChunk, StoreChunk, Ticket
from bargetrio.raft.messages import Index, NodeId, SnapshotMeta, SnapshotReply
from bargetrio.raft.records import Record
from bargetrio.raft.standing import Standing
from bargetrio.replica.figures import NodeFigures
from bargetrio.replica.hellos import HelloJudge
from bargetrio.replica.inbox import Inbox
from bargetrio.replica.jobs import SnapshotPlace
from bargetrio.replica.ports import JobKind, Outbox
from bargetrio.replica.replica import Replica
from bargetrio.replica.requests import AnswerRoom
from bargetrio.replica.turns import Turns
from bargetrio.simulator.answers import AnyAnswer, Asker, ClientsSession
from bargetrio.simulator.machine import CLUSTER, Machine
from bargetrio.simulator.observer import S, Watcher
from bargetrio.simulator.plan import ELECTION_S, HEARTBEAT_S, SAVE_AGAIN_S, Plan
from bargetrio.simulator.timed_jobs import TimedJobs
from bargetrio.simulator.timed_wal import TimedWal
from bargetrio.simulator.watched_core import WatchedCore
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
        node_id: NodeId,
        node_ids: tuple[NodeId, ...],
        machine: Machine,
        plan: Plan,
        folder: OpenFolder,
        store: Store,
        outbox: Outbox,
        has_unsent: Callable[[NodeId], bool],
        chunk_bytes: int,
        request_timeout_s: float,
        wake: Callable[[], None],
        wake_last: Callable[[], None],
        write_begun: Callable[[float], None],
    ) -> None:
        """`wake` and `wake_last` schedule a step; `write_begun` is called with the duration of each write of the log."""
        self._server = server
        self._watcher = watcher
        self._write_begun = write_begun
        self.folder = folder
        core: Core = WatchedCore(
            self,
            node_id=node_id,
            node_ids=node_ids,
            remembered=folder.remembered,
            heartbeat_s=HEARTBEAT_S,
            election_s=ELECTION_S,
            random=machine.random,
            now=machine.local_now,
            snapshot_policy=plan.snapshot_policies[node_id],
            pipeline=plan.pipeline,
            has_unsent=has_unsent,
            standing=folder.standing,
        )
        store.last_index = core.last_applied
        self.inbox = Inbox(wake)
        self.hellos = HelloJudge(core, self.inbox, folder.earlier_stores)
        self.session = ClientsSession(self.inbox, self._answered)
        self.wal = TimedWal(machine, folder, self.inbox, self, wake_last)
        self.jobs = TimedJobs(machine, self._done, self._gave_up)
        self.replica = Replica(
            core=core,
            store=store,
            inbox=self.inbox,
            wal=self.wal,
            outbox=outbox,
            jobs=self.jobs,
            events=watcher.events_of(server),
            place=SnapshotPlace(
                disk=machine.disk,
                folder=folder,
                cluster=CLUSTER,
                chunk_bytes=chunk_bytes,
                again_s=SAVE_AGAIN_S,
                slice_keys=2 + node_id % 3,  # two nodes' files of the same state are not the same bytes
                write_bytes=1,
            ),
            addresses={},
            request_timeout_s=request_timeout_s,
            answer_room=AnswerRoom(),
            turns=Turns(),
            figures=NodeFigures(),
        )

    # -- reports of the parts --------------------------------------------------------------------------------------------

    def proposed(self, tickets: Sequence[Ticket], first_index: Index) -> None:
        """See CoreWatcher."""
        self._watcher.proposed(self._server, tickets, first_index)

    def storing(self, effect: StoreChunk) -> None:
        """See CoreWatcher."""
        self._watcher.storing(self._server, effect)

    def sending(self, effect: SendChunk) -> None:
        """See CoreWatcher."""
        self._watcher.sending(self._server, effect)

    def piece_missing(self, peer: NodeId, snapshot: SnapshotMeta) -> None:
        """See CoreWatcher."""
        self._watcher.piece_missing(self._server, peer, snapshot)

    def piece_answered(self, reply: SnapshotReply) -> None:
        """See CoreWatcher."""
        self._watcher.piece_answered(self._server, reply)

    def writing(self, records: Sequence[Record], seconds: float) -> None:
        """See WalWatcher."""
        self._watcher.writing(self._server, records)
        self._write_begun(seconds)

    def synced(self, records: Sequence[Record]) -> None:
        """See WalWatcher."""
        self._watcher.synced(self._server, records)

    def sync_failed(self) -> None:
        """See WalWatcher."""
        self._watcher.sync_failed(self._server)

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
