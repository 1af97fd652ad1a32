"""The parts of a daemon and how they are put together: nodes, cluster, forwarder, API, event files. It starts no task."""

import logging
import resource
import secrets
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import trio

from bargetrio.cluster.cluster import Cluster
from bargetrio.cluster.daemons import Daemons
from bargetrio.cluster.disk_faults import DiskFaults, FaultyDisk
from bargetrio.cluster.forward import Forwarder
from bargetrio.cluster.local_nodes import LocalNodes
from bargetrio.config import DaemonConfiguration
from bargetrio.daemon.descriptors import connection_limits
from bargetrio.eventlog.debug_log import DebugLog
from bargetrio.eventlog.jsonl import EventFile
from bargetrio.eventlog.recorder import Recorder
from bargetrio.eventlog.render import LogView, check_page
from bargetrio.node.memory import ClientMemory
from bargetrio.node.opening import open_node
from bargetrio.node.server import Node
from bargetrio.node.settings import NodeSettings
from bargetrio.protocol.addresses import parse_address
from bargetrio.raft.snapshot_state import SnapshotPolicy
from bargetrio.replica.scheduler import ProcessScheduler
from bargetrio.storage.real_disk import RealDisk
from bargetrio.transport.event_loop import make_event_loop, make_poller
from bargetrio.transport.faults import LinkFaults
from bargetrio.transport.sockets import SocketNetwork
from bargetrio.web.app import make_app
from bargetrio.web.fast_lane import FastLane
from bargetrio.web.guard import Guard, hosts_of
from bargetrio.web.rest import FILE_EVENTS, column_of
from bargetrio.web.server import WebServer, bind

log = logging.getLogger("bargetrio")


class CannotStart(Exception):
    """The daemon can't start; the text says why."""


class Parts:
    """The parts that a daemon has for as long as it lives, and those that it makes when it starts."""

    def __init__(
        self, configuration: DaemonConfiguration, node_ids: list[int] | None, *, debug: bool, events_file: Path | None
    ) -> None:
        self._configuration = configuration
        self.node_ids = [node.id for node in configuration.nodes] if node_ids is None else node_ids
        self.api = configuration.api_of(node_ids)
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._shares = connection_limits(limit, len(self.node_ids), len(configuration.nodes))
        if self._shares.is_short:
            log.warning("this process may open %d files, too few for its nodes: raise the limit (ulimit -n)", limit)
        self.recorder = Recorder(secrets.token_hex(4), wall_clock=time.time)
        self._link_faults = LinkFaults()
        self._scheduler = ProcessScheduler()
        self._client_memory = ClientMemory()
        self._disk_faults = DiskFaults()
        self._requests_in_tasks: Callable[[], int] = lambda: 0
        self.event_loop = make_event_loop(lambda: not self._network.waits.count and not self._requests_in_tasks())
        self._network = SocketNetwork(self._register_listener)
        self._apis = {node.id: self.api if node.id in self.node_ids else (node.api or self.api) for node in configuration.nodes}
        self.local = self._make_nodes()
        self.debug_log = self._open_debug_log(Path("log.html")) if debug else None
        self.event_file = self._open_events(events_file)

    def bind_api(self) -> socket.socket:
        """Return the API's listening socket; raise CannotStart."""
        try:
            return bind(*parse_address(self.api))
        except OSError as problem:
            raise CannotStart(f"the API: {problem.strerror}") from None

    def _make_nodes(self) -> LocalNodes:
        return LocalNodes(
            cluster=self._configuration.cluster,
            addresses={node.id: node.address for node in self._configuration.nodes},
            apis=self._apis,
            local_ids=self.node_ids,
            open_node=self._open_node,
            recorder=self.recorder,
            disk_faults=self._disk_faults,
            free_bytes=self._free_bytes,
        )

    def _open_node(self, node_id: int) -> AbstractAsyncContextManager[Node]:
        configuration = self._configuration
        timing = configuration.timing
        snapshots = configuration.snapshots
        settings = NodeSettings(
            cluster=configuration.cluster,
            node_id=node_id,
            listen=configuration.node(node_id).listen,
            addresses={node.id: node.address for node in configuration.nodes},
            heartbeat_s=timing.heartbeat_ms / 1000,
            election_s=(timing.election_ms[0] / 1000, timing.election_ms[1] / 1000),
            request_timeout_s=timing.request_timeout_ms / 1000,
            peer_secret=configuration.peer_secret,
            most_clients=self._shares.clients,
            most_unauthenticated=self._shares.unauthenticated,
            snapshot_policy=SnapshotPolicy(
                entries=snapshots.entries, bytes=snapshots.mib * 1024 * 1024, trailing=snapshots.trailing_entries
            ),
        )
        disk = FaultyDisk(RealDisk(configuration.data_dir / f"node-{node_id}"), node_id, self._disk_faults)
        return open_node(
            settings,
            disk=disk,
            sink=self.recorder,
            link_faults=self._link_faults,
            network=self._network,
            figures=self.local.figures()[node_id],
            scheduler=self._scheduler,
            memory=self._client_memory,
            make_poller=lambda: make_poller(self.event_loop),
        )

    async def _free_bytes(self, node_id: int) -> int:
        """Return the free bytes on the disk of a node's folder; raises OSError, also if the folder is missing or empty.

        It may have been moved, or its disk unmounted, to make room: a node started there would create a new store.
        """
        folder = self._configuration.data_dir / f"node-{node_id}"

        def look() -> int:
            (folder / "meta").stat()
            disk = FaultyDisk(RealDisk(folder), node_id, self._disk_faults)
            try:
                return disk.free_bytes()
            finally:
                disk.unlock()

        return await trio.to_thread.run_sync(look)

    def make_forwarder(self, nursery: trio.Nursery) -> Forwarder:
        """Make what sends requests to the leader; its connections live in the nursery."""
        return Forwarder(
            cluster=self._configuration.cluster,
            addresses={node.id: node.address for node in self._configuration.nodes},
            request_timeout_s=self._configuration.timing.request_timeout_ms / 1000,
            leader_hint=self.local.leader_hint,
            local_ids=self.local.running_ids,
            can_lead=self.local.can_lead,
            running=self.local.running_node,
            network=self._network,
            nursery=nursery,
            poller=None if self.event_loop is None else make_poller(self.event_loop),
        )

    def _make_app(self, cluster: Cluster) -> Guard:
        return make_app(
            cluster,
            hosts=hosts_of(self._apis_of_hosts(), self._configuration.allowed_hosts),
            token=self._configuration.api_token,
            election_ms=self._configuration.timing.election_ms,
        )

    def _make_cluster(self, forwarder: Forwarder, nursery: trio.Nursery) -> Cluster:
        return Cluster(
            self.local,
            forwarder,
            link_faults=self._link_faults,
            disk_faults=self._disk_faults,
            daemons=Daemons(self._apis, self._configuration.api_token, cluster=self._configuration.cluster),
            nursery=nursery,
        )

    def api_server(self, forwarder: Forwarder, nursery: trio.Nursery, sock: socket.socket) -> Callable[[], Awaitable[None]]:
        """Return the task that serves the API: on the bound socket, after a failure on a new one."""
        cluster = self._make_cluster(forwarder, nursery)
        app = self._make_app(cluster)
        sockets = [sock]

        async def run() -> None:
            sock = sockets.pop() if sockets else bind(*parse_address(self.api))
            lane = FastLane(cluster, app)
            server = WebServer(
                app,
                sock,
                most=self._shares.web,
                lane=lane,
                most_in_lane=self._shares.lane,
                make_poller=lambda: make_poller(self.event_loop),
                waits=self._network.waits,
            )
            try:
                self._register_listener(sock.fileno())
            except OSError:
                sock.close()
                raise
            app.connections = server.connections
            self._requests_in_tasks = lambda: server.connections_of_hypercorn() + lane.in_application
            await server.run()

        return run

    def _register_listener(self, descriptor: int) -> None:
        if self.event_loop is not None:
            self.event_loop.register_listener(descriptor)

    def _apis_of_hosts(self) -> list[str]:
        nodes = [node.api for node in self._configuration.nodes if node.api is not None]
        return [self._configuration.api, *nodes]

    def _open_debug_log(self, path: Path) -> DebugLog:
        try:
            check_page(path)
        except OSError as problem:
            raise CannotStart(f"{path} can't be written: {problem.strerror}") from None
        return DebugLog(path, self.recorder, self._look)

    def _open_events(self, path: Path | None) -> EventFile | None:
        if path is None:
            return None
        try:
            return EventFile(path, self.recorder, beside=self._configuration.data_dir)
        except OSError as problem:
            raise CannotStart(f"{path} can't be written: {problem.strerror}") from None

    def reopen_events(self) -> None:
        """Close the event file and open it anew by its name, as after a rotation."""
        if self.event_file is None:
            return
        try:
            self.event_file.reopen()
        except OSError as problem:
            log.error("the event file can't be reopened: %s; the old one is still written to", problem.strerror)

    def _look(self) -> Callable[[], LogView]:
        """Copy the state for log.html; the view is made from it in a thread."""
        page = self.recorder.page(None, heartbeats=True, limit=FILE_EVENTS)
        columns = [column_of(view) for view in self.local.views()]

        def view() -> LogView:
            return LogView(
                cluster=self._configuration.cluster,
                columns=columns,
                events=[self.recorder.event(kept) for kept in page.events],
                heartbeats=page.heartbeats,
                dropped=page.dropped,
                limit=FILE_EVENTS,
                election_ms=self._configuration.timing.election_ms,
            )

        return view

    def finish_files(self) -> None:
        """Write the last events; once. An error is logged."""
        event_file, self.event_file = self.event_file, None
        debug_log, self.debug_log = self.debug_log, None
        for finish in (*(() if event_file is None else (event_file.close,)), *(() if debug_log is None else (debug_log.finish,))):
            try:
                finish()
            except Exception as problem:  # a full disk must not change the exit code
                log.error("the last events can't be written: %s", problem)
