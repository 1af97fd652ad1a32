"""The life cycle of a node: lock and recover the folder, listen, serve, crash.

```
open_node: recover the folder -> listen -> make the parts -> nursery { replica's jobs, acceptor, a link per peer } -> the Node
```
There is no partly started Node. Its end is a crash: disk and network are fenced first, nothing is flushed, and the folder is
unlocked only when no thread writes to it any more.
"""

import random
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, NamedTuple

import trio

from bargetrio.eventlog.host_facts import NodeRecovered, Sink
from bargetrio.kv.commands import Stored
from bargetrio.kv.store import Store, decode_slice
from bargetrio.node.connections import Connections
from bargetrio.node.disk_work import DiskWork, ThreadWork
from bargetrio.node.figures import TimedLog
from bargetrio.node.jobs import NurseryJobs
from bargetrio.node.memory import ClientMemory
from bargetrio.node.outbox import PeerOutbox
from bargetrio.node.persister import Persister
from bargetrio.node.places import ClientPlaces
from bargetrio.node.room import DiskRoom
from bargetrio.node.server import Node
from bargetrio.node.settings import NodeSettings
from bargetrio.protocol.addresses import parse_address
from bargetrio.raft.core import Core
from bargetrio.raft.messages import NodeId
from bargetrio.raft.standing import as_stated
from bargetrio.replica.figures import NodeFigures
from bargetrio.replica.hellos import HelloValidator
from bargetrio.replica.inbox import Inbox
from bargetrio.replica.jobs import SnapshotPlace
from bargetrio.replica.replica import Replica
from bargetrio.replica.scheduler import ProcessScheduler
from bargetrio.storage.disk import Disk
from bargetrio.storage.wal import OpenFolder, open_folder
from bargetrio.transport.acceptor import Acceptor
from bargetrio.transport.event_loop import make_poller
from bargetrio.transport.faults import LinkFaults
from bargetrio.transport.handshake import Identity
from bargetrio.transport.network import Listener, Network
from bargetrio.transport.peer_link import PeerLink
from bargetrio.transport.poller import Poller
from bargetrio.transport.sockets import SocketNetwork

SNAPSHOT_AGAIN_S: Final = 10.0
"""Seconds until the next snapshot after a full disk ended one."""


class _Given(NamedTuple):
    """What `open_node` was given, with its defaults, and this life's randomness."""

    settings: NodeSettings
    disk: Disk
    sink: Sink
    link_faults: LinkFaults
    network: Network
    disk_work: DiskWork
    make_token: Callable[[], str]
    scheduler: ProcessScheduler
    memory: ClientMemory
    figures: NodeFigures
    random: random.Random


class _Recovered(NamedTuple):
    """What was in the folder."""

    folder: OpenFolder
    core: Core
    store: Store


@asynccontextmanager
async def open_node(
    settings: NodeSettings,
    *,
    disk: Disk,
    sink: Sink,
    link_faults: LinkFaults,
    network: Network | None = None,
    disk_work: DiskWork | None = None,
    make_poller: Callable[[], Poller] = make_poller,
    make_token: Callable[[], str] = lambda: secrets.token_hex(16),
    scheduler: ProcessScheduler | None = None,
    memory: ClientMemory | None = None,
    figures: NodeFigures | None = None,
) -> AsyncIterator[Node]:
    """Lock the folder, recover, listen; give the node, which serves while its `run` is awaited; then die, as in a crash.

    Raises StorageError or OSError where it can't start, and what the body raises. Cancelled while it recovers, it ends when the
    disk's call returns, and there never is a node. When it has ended, its port refuses, its connections are reset, and no thread
    touches its folder.
    """
    began_at = trio.current_time()
    given = _Given(
        settings=settings,
        disk=disk,
        sink=sink,
        link_faults=link_faults,
        network=SocketNetwork() if network is None else network,
        disk_work=ThreadWork() if disk_work is None else disk_work,
        make_token=make_token,
        scheduler=ProcessScheduler() if scheduler is None else scheduler,
        memory=ClientMemory() if memory is None else memory,
        figures=NodeFigures() if figures is None else figures,
        random=random.Random(settings.seed),
    )
    failure: Exception | None = None
    async with AsyncExitStack() as stack:
        poller = make_poller()
        stack.callback(poller.close)  # last: by then the disk's thread, which wakes it, has ended
        recovered = await _recover(given, stack)
        listener = await given.network.listen(*parse_address(settings.listen))
        stack.callback(listener.close)
        inbox = Inbox(poller.wake)
        persister = _make_persister(given, recovered.folder, poller, inbox)
        stack.push_async_callback(persister.aclose)
        connections, acceptor, outbox = _make_connections(given, recovered, poller, inbox, listener)
        room = DiskRoom(recovered.core, disk, given.disk_work, sink, settings.segment_bytes)
        async with trio.open_nursery() as nursery:
            replica = _make_replica(given, recovered, inbox, persister, outbox, nursery)
            node = Node(
                replica=replica,
                poller=poller,
                persister=persister,
                acceptor=acceptor,
                outbox=outbox,
                connections=connections,
                room=room,
                sink=sink,
                disk=disk,
                disk_work=given.disk_work,
            )
            stack.callback(replica.snapshots.close)
            stack.callback(node.fence)
            sink.record(settings.node_id, _what_was_recovered(recovered, trio.current_time() - began_at))
            nursery.start_soon(poller.run)
            nursery.start_soon(acceptor.run)
            for link in outbox.links.values():
                nursery.start_soon(link.run)
            nursery.start_soon(room.watch)
            nursery.start_soon(given.memory.watch)
            try:
                yield node
            except Exception as problem:  # raised once the tasks around the replica have ended
                failure = problem
            finally:
                node.fence()  # first: a task may end much later, as one that waits for a call of the disk
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def _recover(given: _Given, stack: AsyncExitStack) -> _Recovered:
    """Recover in a thread, as a long log must not block the loop. Not cancellable, so that the folder is not left half open."""
    now = trio.current_time()
    settings = given.settings

    def work() -> _Recovered:
        found: dict[str, Stored] = {}
        folder = open_folder(
            given.disk,
            settings.cluster,
            settings.node_id,
            given.make_token,
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
            random=given.random,
            now=now,
            snapshot_policy=settings.snapshot_policy,
            standing=folder.standing,
            pipeline=settings.pipeline,
        )
        folder.release_recovered()
        return _Recovered(folder, core, Store.of(found, core.last_applied))

    with trio.CancelScope(shield=True):
        recovered = await given.disk_work.call(work)
        stack.callback(recovered.folder.close)
    await trio.lowlevel.checkpoint()
    return recovered


def _make_persister(given: _Given, folder: OpenFolder, poller: Poller, inbox: Inbox) -> Persister:
    fsync, disk_work = given.figures.fsync, given.disk_work
    name = f"node {given.settings.node_id} disk"
    thread = disk_work.persister(TimedLog(folder.write, fsync), inbox.write_ended_threadsafe, name)
    faults = getattr(given.disk, "sync_faults", None)
    return disk_work.with_kernel_syncs(thread, folder, poller, inbox.write_ended, fsync, faults)


def _make_connections(
    given: _Given, recovered: _Recovered, poller: Poller, inbox: Inbox, listener: Listener
) -> tuple[Connections, Acceptor, PeerOutbox]:
    """Make the connections' handler, who accepts them, and a link to each peer."""
    settings, figures, core = given.settings, given.figures, recovered.core
    hello_validator = HelloValidator(core, inbox, recovered.folder.earlier_stores)
    connections = Connections(
        core=core,
        inbox=inbox,
        poller=poller,
        sink=given.sink,
        figures=figures,
        hello_validator=hello_validator,
        places=ClientPlaces(settings.most_clients),
        memory=given.memory,
        peer_spoke=lambda peer: outbox.links[peer].peer_spoke(),
    )
    identity = Identity(
        cluster=settings.cluster,
        node_id=settings.node_id,
        peer_ids=frozenset(settings.addresses) - {settings.node_id},
        secret=settings.peer_secret,
        make_nonce=given.make_token,
        standing=lambda: as_stated(recovered.folder.standing, core.members),
        validate=hello_validator.validate,
    )
    acceptor = Acceptor(
        listener,
        identity,
        connections.serve,
        connections.on_error,
        admit_client=connections.places.admit,
        most_unauthenticated=settings.most_unauthenticated,
    )
    outbox = PeerOutbox(
        {peer: _make_link(given, peer, identity, connections) for peer in core.peers},
        {peer: figures.peer(peer) for peer in core.peers},
    )
    core.snapshots.has_unsent = outbox.has_unsent
    return connections, acceptor, outbox


def _make_link(given: _Given, peer: NodeId, identity: Identity, connections: Connections) -> PeerLink:
    return PeerLink(
        identity=identity,
        peer_id=peer,
        address=parse_address(given.settings.addresses[peer]),
        network=given.network,
        faults=given.link_faults,
        random=given.random,
        on_up=connections.link_up,
        on_down=connections.link_down,
        figures=given.figures.peer(peer),
    )


def _make_replica(
    given: _Given, recovered: _Recovered, inbox: Inbox, persister: Persister, outbox: PeerOutbox, nursery: trio.Nursery
) -> Replica:
    settings = given.settings
    return Replica(
        core=recovered.core,
        store=recovered.store,
        inbox=inbox,
        wal=persister,
        outbox=outbox,
        jobs=NurseryJobs(nursery, given.disk_work),
        events=given.sink,
        place=SnapshotPlace(
            disk=given.disk,
            folder=recovered.folder,
            cluster=settings.cluster,
            chunk_bytes=settings.chunk_bytes,
            again_s=SNAPSHOT_AGAIN_S,
            slice_keys=settings.slice_keys,
        ),
        addresses=settings.addresses,
        request_timeout_s=settings.request_timeout_s,
        scheduler=given.scheduler,
        figures=given.figures,
        answer_room=given.memory.answers,
    )


def _what_was_recovered(recovered: _Recovered, seconds: float) -> NodeRecovered:
    core = recovered.core
    return NodeRecovered(
        term=core.current_term,
        index=core.log.last_index,
        voted_for=core.voted_for,
        seconds=round(seconds, 4),
        repaired=recovered.folder.repaired,
        snapshot=core.last_applied,
        store=core.standing.store,
    )
