"""One server, which has recovered and listens: it runs its replica's steps until its end.

Its end is always a crash: disk and network are fenced first, nothing is flushed. opening.py creates a Node, and releases its
resources.
"""

from collections.abc import Callable, Collection
from typing import Final

import trio

from bargetrio.eventlog.host_facts import DiskFailed, Sink
from bargetrio.kv.store import Store
from bargetrio.node.backup import READERS, Backup
from bargetrio.node.connections import Connections
from bargetrio.node.disk_work import DiskWork
from bargetrio.node.figures import NodeGauges
from bargetrio.node.outbox import PeerOutbox
from bargetrio.node.persister import Persister
from bargetrio.node.room import DiskRoom
from bargetrio.node.running_node import UNCOMMITTED, BackupFile, LocalSession, TakeAnswers
from bargetrio.node.status import Belief, NodeStatus, belief_of, proposals_pending, status_of
from bargetrio.node.stepping import Stepping
from bargetrio.protocol.errors import BargeError
from bargetrio.raft.core import Core
from bargetrio.raft.messages import NodeId
from bargetrio.replica.replica import Replica, StorageFailed
from bargetrio.storage.disk import Disk
from bargetrio.transport.acceptor import Acceptor
from bargetrio.transport.poller import Poller

BACKUP_POLL_S: Final = 0.02


class Node:
    """A server that has recovered and listens; implements `running_node.RunningNode`."""

    def __init__(
        self,
        *,
        replica: Replica,
        poller: Poller,
        persister: Persister,
        acceptor: Acceptor,
        outbox: PeerOutbox,
        connections: Connections,
        room: DiskRoom,
        sink: Sink,
        disk: Disk,
        disk_work: DiskWork,
    ) -> None:
        self.replica = replica
        """May be read between two steps, for tests and the simulator's checkers, too."""
        self.outbox = outbox
        self.connections = connections
        self._stepping = Stepping(replica)
        self._poller = poller
        self._persister = persister
        self._acceptor = acceptor
        self._room = room
        self._sink = sink
        self._disk = disk
        self._disk_work = disk_work
        self._readers = trio.CapacityLimiter(READERS)

    @property
    def last_turn(self) -> float:
        """When the replica's last step began."""
        return self._stepping.last_step

    @property
    def store(self) -> Store:
        """The keys."""
        return self.replica.store

    async def run(self) -> None:
        """Serve until cancelled; see `running_node.RunningNode.run`."""
        try:
            await self._poller.drive(self._stepping.step)
        except StorageFailed as problem:
            self._report_disk_failure(problem)
            raise

    def fence(self) -> None:
        """Cut the node off disk and network at once. Idempotent."""
        self.replica.fence(trio.current_time())
        self._persister.fence()
        self._acceptor.abort()
        self.connections.end_sessions()
        self.outbox.fence()

    def open_session(self, take: TakeAnswers, ended: Callable[[], None]) -> LocalSession:
        """See `running_node.RunningNode.open_session`."""
        return self.connections.open_session(take, ended)

    async def readmit(self, node_id: NodeId) -> str:
        """See `running_node.RunningNode.readmit`."""

        def ask(core: Core, now: float) -> str:
            reason = core.readmit(node_id, now)
            if not reason and core.membership.uncounted == node_id:
                return f"node {node_id}'s new disk {UNCOMMITTED}"
            return reason

        return await self._ask_core(ask)

    async def transfer(self, among: Collection[NodeId]) -> str:
        """See `running_node.RunningNode.transfer`."""
        return await self._ask_core(lambda core, now: core.transfer_leadership(among, now))

    async def bootstrap(self) -> str:
        """See `running_node.RunningNode.bootstrap`."""
        return await self._ask_core(lambda core, now: core.bootstrap(now))

    async def backup(self, index: int) -> BackupFile:
        """Wait until `index` is applied, have a snapshot taken unless one holds it, and open it; cancellable at any time."""
        replica, core = self.replica, self.replica.core
        while core.snapshot is None or core.snapshot.last_index < index:
            if core.last_applied >= index:
                replica.ask_for_snapshot()
            await trio.sleep(BACKUP_POLL_S)
        return Backup(core.snapshot, self._disk, self._disk_work, replica.snapshots.pins, self._readers)

    def belief(self) -> Belief:
        """Return the leader and term as known to this node."""
        return belief_of(self.replica.core, trio.current_time())

    def status(self) -> NodeStatus:
        """Return the node's state, from memory."""
        return status_of(self.replica.core, len(self.replica.store), self.outbox.links, trio.current_time())

    def gauges(self) -> NodeGauges:
        """Return the node's gauges, from memory."""
        core = self.replica.core
        return NodeGauges(
            keys=len(self.replica.store),
            log_entries=core.log.last_index - core.log.start_index,
            log_bytes=core.log.bytes_between(core.log.start_index, core.log.last_index),
            oldest_write_s=round(core.durability.write_age_s(trio.current_time()), 3),
            free_bytes=self._room.free_bytes,
            lacks_room=core.lacks_room,
            proposals_pending=proposals_pending(core),
            client_connections=len(self.connections.places),
            peer_connections=self.connections.of_peers,
        )

    async def _ask_core(self, ask: Callable[[Core, float], str]) -> str:
        """Call `ask` with the core in a step of the replica; return its answer.

        If the node ends first this never returns: use a time-out. Cancelled, `ask` may still be called.
        """
        answers: list[str] = []
        answered = trio.Event()

        def then(core: Core, now: float) -> None:
            answers.append(ask(core, now))
            answered.set()

        self.replica.inbox.call(then)
        await answered.wait()
        return answers[0]

    def _report_disk_failure(self, problem: StorageFailed) -> None:
        """Answer all waiting requests with the error, before their connections are closed."""
        node_id = self.replica.core.node_id
        self._sink.record(node_id, DiskFailed(reason=str(problem)))
        self.replica.fail_waiting(BargeError("storage_failed", f"the disk of node {node_id} failed: {problem}"))
