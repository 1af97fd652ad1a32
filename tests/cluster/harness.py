"""Three real nodes and their cluster in the test's own event loop: loopback sockets, a temporary folder, replaceable ports."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import trio
from msgspec import structs

from bargetrio.cli.free_ports import free_ports
from bargetrio.cluster.cluster import Cluster
from bargetrio.cluster.daemons import Daemons
from bargetrio.cluster.disk_faults import DiskFaults, FaultyDisk
from bargetrio.cluster.forward import Forwarder
from bargetrio.cluster.local_nodes import LocalNodes
from bargetrio.eventlog.host_facts import Sink
from bargetrio.eventlog.recorder import Recorder
from bargetrio.node.opening import open_node
from bargetrio.node.running_node import OpenNode, RunningNode
from bargetrio.node.server import Node
from bargetrio.node.settings import NodeSettings
from bargetrio.protocol.requests import Get, GetAnswer, Put, PutAnswer
from bargetrio.storage.disk import Disk
from bargetrio.storage.real_disk import RealDisk
from bargetrio.transport.faults import LinkFaults
from bargetrio.transport.network import Network
from bargetrio.transport.sockets import SocketNetwork


def one_daemon(
    *,
    apis: dict[int, str],
    local_ids: list[int],
    daemons: Daemons,
    open_node: OpenNode = lambda node_id: pytest.fail("nothing is started"),
    nursery: trio.Nursery | None = None,
) -> Cluster:
    """Return the cluster as one of its daemons answers for it, without a forwarder: nothing is read or written.

    Without `nursery` nothing is revived.
    """
    local = LocalNodes(
        cluster="barge",
        addresses={node_id: f"node-{node_id}:1" for node_id in apis},
        apis=apis,
        local_ids=local_ids,
        open_node=open_node,
        recorder=Recorder("test", wall_clock=lambda: 0.0),
        disk_faults=DiskFaults(),
    )
    forwarder, nursery = cast(Forwarder, None), cast(trio.Nursery, nursery)
    return Cluster(local, forwarder, link_faults=LinkFaults(), disk_faults=DiskFaults(), daemons=daemons, nursery=nursery)


class Harness:
    """The nodes of a test; `disk_of`, `network_of`, `sink_of` and `node_of` may be replaced before a node starts."""

    def __init__(self, folder: Path, size: int = 3, request_timeout_s: float = 5.0, **settings: Any) -> None:
        """`settings` are fields of NodeSettings that differ from those in `open_node`."""
        ports = free_ports(size)
        self.folder = folder
        self.request_timeout_s = request_timeout_s
        self.settings = settings
        self.addresses = {node_id: f"127.0.0.1:{port}" for node_id, port in enumerate(ports)}
        self.recorder = Recorder("test", wall_clock=trio.current_time)
        self.link_faults = LinkFaults()
        self.disk_faults = DiskFaults()
        self.disk_of: Callable[[int], Disk] = lambda node_id: RealDisk(folder / f"node-{node_id}")
        self.network_of: Callable[[int], Network] = lambda node_id: SocketNetwork()
        self.sink_of: Callable[[int], Sink] = lambda node_id: self.recorder
        self.node_of: OpenNode = self.open_node
        self.local = LocalNodes(
            cluster="barge",
            addresses=self.addresses,
            apis=dict.fromkeys(self.addresses, "127.0.0.1:1"),
            local_ids=list(self.addresses),
            open_node=self._open,
            recorder=self.recorder,
            disk_faults=self.disk_faults,
        )

    def _open(self, node_id: int) -> AbstractAsyncContextManager[RunningNode]:
        return self.node_of(node_id)

    def open_node(self, node_id: int) -> AbstractAsyncContextManager[Node]:
        """Open a node that uses this harness's ports."""
        settings = NodeSettings(
            cluster="barge",
            node_id=node_id,
            listen=self.addresses[node_id],
            addresses=self.addresses,
            heartbeat_s=0.05,
            election_s=(0.3, 0.6),
            request_timeout_s=self.request_timeout_s,
        )
        settings = structs.replace(settings, **self.settings)
        disk = FaultyDisk(self.disk_of(node_id), node_id, self.disk_faults)
        network = self.network_of(node_id)
        return open_node(settings, disk=disk, sink=self.sink_of(node_id), link_faults=self.link_faults, network=network)

    @asynccontextmanager
    async def open(self, within_s: float = 30) -> AsyncIterator["Harness"]:
        """Start everything; end it when the context is left, or after a time-out."""
        with trio.fail_after(within_s):
            async with trio.open_nursery() as nursery:
                forwarder = Forwarder(
                    cluster="barge",
                    addresses=self.addresses,
                    request_timeout_s=self.request_timeout_s,
                    leader_hint=self.local.leader_hint,
                    local_ids=self.local.running_ids,
                    can_lead=self.local.can_lead,
                    running=self.local.running_node,
                    network=SocketNetwork(),
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
                self.problems = await self.local.start(nursery)
                try:
                    yield self
                finally:
                    self.local.stop()
                    nursery.cancel_scope.cancel()

    async def put(self, key: str, value: str = "x") -> PutAnswer:
        """Write a key through the leader."""
        answer = await self.cluster.execute(Put(id=0, key=key, value=value))
        assert isinstance(answer, PutAnswer)
        return answer

    async def get(self, key: str) -> str | None:
        """Read a key through the leader."""
        answer = await self.cluster.execute(Get(id=0, key=key))
        assert isinstance(answer, GetAnswer)
        return answer.value

    async def leader(self) -> int:
        """Return the leader, waiting for an election."""
        while (known := self.local.known_leader()) is None:
            await trio.sleep(0.01)
        return known.leader

    def state(self, node_id: int) -> tuple[str, str]:
        """Return a node's state and its reason."""
        view = self.local.views()[node_id]
        return view.state, view.reason

    async def until(self, look: Callable[[], bool]) -> None:
        """Return when `look` is true; the harness's own time-out ends a wait for ever."""
        while not look():
            await trio.sleep(0.01)
