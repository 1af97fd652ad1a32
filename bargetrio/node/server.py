"""One server's life: lock and recover the folder, listen, drive the core, die.

```
run: open folder -> core -> listen -> nursery { replica, its jobs, acceptor, a link per peer }
```
Dying is a crash whoever asks for it: ports are fenced first, nothing is flushed, and the folder is given back only when no thread
writes to it any more.
"""

import logging
import random
import secrets
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final

import trio
from trio import TaskStatus

from bargetrio.eventlog.driver_facts import DiskFailed, DiskSpace, LinkDown, LinkUp, NodeRecovered, Sink
from bargetrio.kv.commands import Stored
from bargetrio.kv.store import Store, decode_slice
from bargetrio.node.backup import READERS, Backup
from bargetrio.node.clients import ClientSession
from bargetrio.node.figures import NodeGauges, TimedLog
from bargetrio.node.jobs import NurseryJobs
from bargetrio.node.outbox import PeerOutbox
from bargetrio.node.peers import BadMessage, PeerSession
from bargetrio.node.persister import DiskWork, Persister, ThreadWork
from bargetrio.node.places import ClientPlaces
from bargetrio.node.running_node import UNCOMMITTED, BackupFile
from bargetrio.node.settings import NodeSettings
from bargetrio.node.status import Belief, NodeStatus, PeerStatus
from bargetrio.protocol.addresses import parse_address
from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.lines import LineTooLong
from bargetrio.raft.core import Core
from bargetrio.raft.messages import NodeId
from bargetrio.raft.roles import Leader
from bargetrio.raft.standing import Standing, why_refused
from bargetrio.replica.figures import NodeFigures
from bargetrio.replica.inbox import Inbox
from bargetrio.replica.jobs import SnapshotPlace
from bargetrio.replica.replica import Replica, StorageFailed
from bargetrio.replica.turns import Turns
from bargetrio.storage.disk import Disk
from bargetrio.storage.wal import OpenFolder, open_folder
from bargetrio.transport.acceptor import Acceptor
from bargetrio.transport.arrivals import Arrivals
from bargetrio.transport.faults import LinkFaults
from bargetrio.transport.handshake import Greeted, Identity
from bargetrio.transport.hub import make_arrivals
from bargetrio.transport.network import Connection, Listener, Network
from bargetrio.transport.peer_link import PeerLink
from bargetrio.transport.sockets import SocketNetwork

log = logging.getLogger(__name__)

BACKUP_LOOK_S: Final = 0.02
SNAPSHOT_AGAIN_S: Final = 10.0
"""Seconds until the next snapshot after a full disk ended one."""


ROOM_SEGMENTS: Final = 2
"""With less free space than so many segments of the log, a leader proposes no writes: what is under way still fits."""
ROOM_AGAIN_SEGMENTS: Final = 3
ROOM_LOOK_S: Final = 1.0
STEP_S: Final = 1.0
"""Longest time in seconds between two steps of the replica: a node whose last step is older hangs (the watchdog checks)."""


class Node:
    """One life of one server; implements `port.RunningNode`."""

    def __init__(
        self,
        settings: NodeSettings,
        *,
        disk: Disk,
        sink: Sink,
        link_faults: LinkFaults,
        network: Network | None = None,
        disk_work: DiskWork | None = None,
        make_arrivals: Callable[[], Arrivals] = make_arrivals,
        make_token: Callable[[], str] = lambda: secrets.token_hex(16),
        turns: Turns | None = None,
        figures: NodeFigures | None = None,
    ) -> None:
        self._started_at = trio.current_time()
        self._settings = settings
        self._disk = disk
        self._sink = sink
        self._link_faults = link_faults
        self._network = SocketNetwork() if network is None else network
        self._disk_work = ThreadWork() if disk_work is None else disk_work
        self._make_arrivals = make_arrivals
        self._make_token = make_token
        self._turns = Turns() if turns is None else turns
        self._figures = NodeFigures() if figures is None else figures
        self._places = ClientPlaces(settings.most_clients)
        self._peer_connections = 0
        self._random = random.Random(settings.seed)
        self._free_bytes: int | None = None
        self._outbox = PeerOutbox({}, {})
        self._readers = trio.CapacityLimiter(READERS)
        self.last_turn = self._started_at
        """When the replica's last step began."""
        self._core: Core | None = None
        self._inbox: Inbox | None = None
        self._replica: Replica | None = None
        self._acceptor: Acceptor | None = None
        self._persister: Persister | None = None
        self._folder: OpenFolder | None = None
        self._arrivals: Arrivals | None = None

    async def run(self, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; see `port.RunningNode.run`."""
        settings = self._settings
        listener: Listener | None = None
        try:
            folder, core, store = await self._open_folder()
            self._arrivals = self._make_arrivals()
            inbox = self._inbox = Inbox(self._arrivals.ring)
            self._core = core
            listener = await self._network.listen(*parse_address(settings.listen))
            timed = TimedLog(folder.write, self._figures.fsync)
            thread = self._disk_work.persister(timed, inbox.write_done, f"node {settings.node_id} disk")
            fsync = self._figures.fsync
            persister = self._persister = self._disk_work.with_kernel_syncs(
                thread, folder, self._arrivals, inbox.write_ended, fsync, getattr(self._disk, "sync_faults", None)
            )
            identity = self._identity(folder)
            self._acceptor = Acceptor(
                listener,
                identity,
                self._serve,
                self._on_connection_error,
                admit_client=self._places.admit,
                most_strangers=settings.most_strangers,
            )
            self._outbox = PeerOutbox(
                {peer: self._link(identity, peer) for peer in core.peers},
                {peer: self._figures.peer(peer) for peer in core.peers},
            )
            core.snapshots.has_unsent = self._outbox.has_unsent
            self._sink.record(
                settings.node_id,
                NodeRecovered(
                    term=core.current_term,
                    index=core.log.last_index,
                    voted_for=core.voted_for,
                    seconds=round(trio.current_time() - self._started_at, 4),
                    repaired=folder.repaired,
                    snapshot=core.last_applied,
                    store=core.standing.store,
                ),
            )
            await self._live(folder, store, inbox, persister, task_status)
        finally:
            self.fence()
            if listener is not None:
                listener.close()
            if self._persister is not None:
                await self._persister.aclose()
            if self._folder is not None:
                self._folder.close()
            if self._replica is not None:
                self._replica.snapshots.close()
            if self._arrivals is not None:  # the disk's thread has ended and wakes it no more
                self._arrivals.close()

    async def readmit(self, node_id: NodeId) -> str:
        """See `port.RunningNode.readmit`."""

        def ask(core: Core, now: float) -> str:
            reason = core.readmit(node_id, now)
            if not reason and core.membership.uncounted == node_id:
                return f"node {node_id}'s new disk {UNCOMMITTED}"
            return reason

        return await self._ask_core(ask)

    async def bootstrap(self) -> str:
        """See `port.RunningNode.bootstrap`."""
        return await self._ask_core(lambda core, now: core.bootstrap(now))

    async def _ask_core(self, ask: Callable[[Core, float], str]) -> str:
        """Call `ask` with the core in a step of the replica; return its answer.

        If the node ends first this never returns: the caller bounds the wait. Cancelled, the core may still be asked.
        """
        inbox = self._inbox
        assert inbox is not None, "asked before it started"
        answers: list[str] = []
        answered = trio.Event()

        def then(core: Core, now: float) -> None:
            answers.append(ask(core, now))
            answered.set()

        inbox.call(then)
        await answered.wait()
        return answers[0]

    async def backup(self, index: int) -> BackupFile:
        """Wait until `index` is applied, have a snapshot taken unless one holds it, and open it; cancellable at any time."""
        replica = self._replica
        assert replica is not None, "asked before it started"
        core = replica.core
        while core.snapshot is None or core.snapshot.last_index < index:
            if core.last_applied >= index:
                replica.ask_for_snapshot()
            await trio.sleep(BACKUP_LOOK_S)
        return Backup(core.snapshot, self._disk, self._disk_work, replica.snapshots.pins, self._readers)

    @property
    def store(self) -> Store:
        """The keys of a node that has started, for tests and the simulator's judges."""
        assert self._replica is not None, "asked before it started"
        return self._replica.store

    def fence(self) -> None:
        """Cut disk and network at once; again at the end of `run`, for what came into being after a kill in its beginning."""
        if self._replica is not None:
            self._replica.fence(trio.current_time())
        if self._persister is not None:
            self._persister.fence()
        if self._acceptor is not None:
            self._acceptor.abort()
        self._outbox.fence()

    def belief(self) -> Belief:
        """Return whom this node believes to lead."""
        assert self._replica is not None, "asked before it started"
        core = self._replica.core
        return Belief(
            term=core.current_term,
            leader=core.leader_id,
            has_quorum=core.has_quorum(trio.current_time()),
            leads=isinstance(core.role, Leader),
        )

    def status(self) -> NodeStatus:
        """Return the node's state, from memory."""
        assert self._replica is not None, "asked before it started"
        core = self._replica.core
        return NodeStatus(
            role=core.role.name,
            term=core.current_term,
            voted_for=core.voted_for,
            leader=core.leader_id,
            has_quorum=core.has_quorum(trio.current_time()),
            is_born=core.standing.identity != "",
            may_vote=core.may_vote,
            abstains=core.why_abstains(),
            commit_index=core.commit_index,
            last_applied=core.last_applied,
            lag=core.lag,
            last_log_index=core.log.last_index,
            last_log_term=core.log.last_term,
            log_start=core.log.start_index,
            snapshot_index=0 if core.snapshot is None else core.snapshot.last_index,
            keys=len(self._replica.store),
            peers=[self._peer_status(core, peer) for peer in core.peers],
        )

    def gauges(self) -> NodeGauges:
        """Return the node's sizes, from memory."""
        assert self._replica is not None, "asked before it started"
        core = self._replica.core
        return NodeGauges(
            keys=len(self._replica.store),
            log_entries=core.log.last_index - core.log.start_index,
            log_bytes=core.log.bytes_between(core.log.start_index, core.log.last_index),
            oldest_write_s=round(core.durability.write_age_s(trio.current_time()), 3),
            free_bytes=self._free_bytes,
            lacks_room=core.lacks_room,
            proposals_pending=_writes_pending(core.role) if isinstance(core.role, Leader) else 0,
            client_connections=len(self._places),
            peer_connections=self._peer_connections,
        )

    # -- beginning -------------------------------------------------------------------------------------------------------

    async def _open_folder(self) -> tuple[OpenFolder, Core, Store]:
        """Recover in a thread: a long log must not hold the loop. It can't be cancelled, lest the folder stays half open."""
        settings = self._settings
        now = trio.current_time()

        def work() -> tuple[OpenFolder, Core, Store]:
            found: dict[str, Stored] = {}
            folder = open_folder(
                self._disk,
                settings.cluster,
                settings.node_id,
                self._make_token,
                members=tuple(settings.addresses),
                load=lambda line: found.update(decode_slice(line)),
                segment_bytes=settings.segment_bytes,
            )
            core = Core(
                node_id=settings.node_id,
                node_ids=tuple(sorted(settings.addresses)),
                remembered=folder.remembered,
                heartbeat_s=settings.heartbeat_s,
                election_s=settings.election_s,
                random=self._random,
                now=now,
                snapshot_policy=settings.snapshot_policy,
                standing=folder.standing,
            )
            folder.forget_remembered()
            return folder, core, Store.of(found, core.last_applied)

        with trio.CancelScope(shield=True):
            folder, core, store = await self._disk_work.call(work)
            self._folder = folder
        await trio.lowlevel.checkpoint()
        return folder, core, store

    def _make_replica(
        self, folder: OpenFolder, store: Store, inbox: Inbox, persister: Persister, nursery: trio.Nursery
    ) -> Replica:
        assert self._core is not None
        settings = self._settings
        return Replica(
            core=self._core,
            store=store,
            inbox=inbox,
            wal=persister,
            outbox=self._outbox,
            jobs=NurseryJobs(nursery, self._disk_work),
            events=self._sink,
            place=SnapshotPlace(
                disk=self._disk,
                folder=folder,
                cluster=settings.cluster,
                chunk_bytes=settings.chunk_bytes,
                again_s=SNAPSHOT_AGAIN_S,
                slice_keys=settings.slice_keys,
            ),
            addresses=settings.addresses,
            request_timeout_s=settings.request_timeout_s,
            turns=self._turns,
            figures=self._figures,
        )

    def _identity(self, folder: OpenFolder) -> Identity:
        settings = self._settings
        return Identity(
            cluster=settings.cluster,
            node_id=settings.node_id,
            peer_ids=frozenset(settings.addresses) - {settings.node_id},
            secret=settings.peer_secret,
            make_nonce=self._make_token,
            standing=lambda: folder.standing,
            judge=self._judge_hello,
        )

    def _link(self, identity: Identity, peer_id: NodeId) -> PeerLink:
        return PeerLink(
            identity=identity,
            peer_id=peer_id,
            address=parse_address(self._settings.addresses[peer_id]),
            network=self._network,
            faults=self._link_faults,
            random=self._random,
            on_up=self._on_link_up,
            on_down=self._on_link_down,
            figures=self._figures.peer(peer_id),
        )

    # -- living ----------------------------------------------------------------------------------------------------------

    async def _live(
        self, folder: OpenFolder, store: Store, inbox: Inbox, persister: Persister, task_status: TaskStatus[None]
    ) -> None:
        assert self._acceptor is not None and self._arrivals is not None
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            replica = self._replica = self._make_replica(folder, store, inbox, persister, nursery)
            nursery.start_soon(self._arrivals.run)
            nursery.start_soon(self._acceptor.run)
            for link in self._outbox.links.values():
                nursery.start_soon(link.run)
            nursery.start_soon(self._watch_room, replica.core)
            task_status.started()
            try:
                await self._arrivals.drive(self._step)
            except Exception as problem:  # told once the tasks around the replica are gone
                failure = problem
                self._tell_why(replica, problem)
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    def _step(self) -> float:
        """Have the replica make a step; return when the next one is due: within STEP_S, so that one that hangs can be told."""
        assert self._replica is not None
        now = self.last_turn = trio.current_time()
        return min(self._replica.step(now), now + STEP_S)

    async def _watch_room(self, core: Core) -> None:
        """Look every ROOM_LOOK_S whether the disk is nearly full: then nothing is proposed, until there is room again."""
        segment_bytes = self._settings.segment_bytes
        while True:
            with suppress(OSError):
                free = self._free_bytes = await self._disk_work.call(self._disk.free_bytes)
                is_low = free < segment_bytes * (ROOM_AGAIN_SEGMENTS if core.lacks_room else ROOM_SEGMENTS)
                if is_low != core.lacks_room:
                    core.lacks_room = is_low
                    self._sink.record(self._settings.node_id, DiskSpace(free_bytes=free, is_low=is_low))
            await trio.sleep(ROOM_LOOK_S)

    def _judge_hello(self, peer_id: NodeId, theirs: Standing) -> str:
        """Return why a peer's store is refused, "" if it is not; the core is told of it in either case."""
        assert self._inbox is not None
        self._inbox.call(lambda core, now: core.saw(peer_id, theirs, now))
        return self._why_refused(peer_id, theirs)

    def _why_refused(self, peer_id: NodeId, theirs: Standing) -> str:
        assert self._core is not None and self._folder is not None
        core = self._core
        if core.configuration is None:  # of a cluster of an earlier version: the stores that its file `peers` names
            known = self._folder.known_stores.get(peer_id)
            if known not in (None, theirs.store):
                return f"node {peer_id} has another store than before: its disk was lost or exchanged; see docs/operations.md"
        return why_refused(core.standing, core.configuration, peer_id, theirs, core.members)

    def _refusal_since(self, peer_id: NodeId, theirs: Standing) -> Callable[[], str]:
        """Return what says whether that store still counts; it looks anew only when the members' stores have changed."""
        assert self._core is not None
        core = self._core
        judged: list[object] = [core.configuration, core.standing]
        told = ""

        def refusal() -> str:
            nonlocal told
            if core.configuration is not judged[0] or core.standing is not judged[1]:
                judged[:] = [core.configuration, core.standing]
                told = self._why_refused(peer_id, theirs)
            return told

        return refusal

    def _tell_why(self, replica: Replica, problem: Exception) -> None:
        if isinstance(problem, StorageFailed):
            self._sink.record(self._settings.node_id, DiskFailed(reason=str(problem)))
            replica.fail_waiting(BargeError("storage_failed", f"the disk of node {self._settings.node_id} failed: {problem}"))

    async def _serve(self, connection: Connection, greeted: Greeted) -> None:
        assert self._inbox is not None and self._arrivals is not None
        if greeted.peer_id is None:
            client = ClientSession(connection, self._inbox.session_has_room)
            self._places.enter(client)
            try:
                await client.serve(greeted, self._inbox.take_requests, self._arrivals)
            finally:
                self._places.leave(client)
        else:
            assert greeted.standing is not None
            self._peer_connections += 1
            try:
                session = self._peer_session(greeted.peer_id, greeted.standing)
                await session.serve(connection, greeted, self._arrivals)
            except (BadMessage, LineTooLong) as problem:
                self._on_link_down(greeted.peer_id, f"closed its link: {problem}")
            finally:
                self._peer_connections -= 1
                self._inbox.call(partial(_hung_up, greeted.peer_id, greeted.standing))

    def _peer_session(self, peer_id: NodeId, standing: Standing) -> PeerSession:
        inbox, core, figures = self._inbox, self._core, self._figures.peer(peer_id)
        assert inbox is not None and core is not None
        refusal = self._refusal_since(peer_id, standing)
        return PeerSession(peer_id, core, inbox.take_message, inbox.bytes_came, figures, refusal)

    def _peer_status(self, core: Core, peer: NodeId) -> PeerStatus:
        connected = self._outbox.links[peer].connected
        if not isinstance(core.role, Leader):
            return PeerStatus(id=peer, connected=connected)
        progress = core.role.progress[peer]
        return PeerStatus(
            id=peer,
            connected=connected,
            match_index=progress.match_index,
            next_index=progress.next_index,
            progress=progress.state,
        )

    # -- what happens around the loop ------------------------------------------------------------------------------------

    def _on_link_up(self, peer_id: NodeId) -> None:
        self._figures.peer(peer_id).link_changed()
        self._sink.record(self._settings.node_id, LinkUp(peer=peer_id))
        if self._inbox is not None:
            self._inbox.call(lambda core, now: core.link_up(peer_id, now))

    def _on_link_down(self, peer_id: NodeId, reason: str) -> None:
        self._sink.record(self._settings.node_id, LinkDown(peer=peer_id, reason=reason))

    def _on_connection_error(self, problem: Exception) -> None:
        """Log a bug that has ended one connection."""
        log.error("node %d: a connection ended by an error", self._settings.node_id, exc_info=problem)


def _writes_pending(leader: Leader) -> int:
    """Return how many writes wait; None stands for an entry that nobody waits for."""
    return len(leader.tickets) - leader.tickets.count(None)


def _hung_up(peer_id: NodeId, standing: Standing, core: Core, now: float) -> None:
    core.hung_up(peer_id, standing)
