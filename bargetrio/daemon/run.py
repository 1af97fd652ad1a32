"""One daemon: the nodes of this host, the page and REST, the event log, in one nursery; and its end, within a second.

serve: bind the API -> start the nodes (recover, listen) -> READY -> until Ctrl-C or SIGTERM -> storage first, then the rest
"""

import logging
import os
import resource
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path
from typing import Final

import trio

from bargetrio import console
from bargetrio.cluster.cluster import Cluster
from bargetrio.cluster.daemons import Daemons
from bargetrio.cluster.disk_faults import DiskFaults, FaultyDisk
from bargetrio.cluster.fault_plan import listed
from bargetrio.cluster.forward import Forwarder
from bargetrio.cluster.local_nodes import LocalNodes
from bargetrio.config import DaemonConfiguration
from bargetrio.daemon import gc_policy, malloc_policy
from bargetrio.daemon.descriptors import connection_limits, raise_limit
from bargetrio.daemon.sd_notify import Notifier, watchdog_interval_s
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
from bargetrio.replica.turns import Turns
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

NO_NODE_LIVES: Final = 3
"""The exit code of a daemon that ends because all its nodes have crashed (docs/operations.md)."""
LOST_LOOK_S: Final = 1.0
END_S: Final = 0.7
"""Longest duration of a stop; whatever still runs then ends with the process."""
STATUS_S: Final = 1.0
LEADER_S: Final = 0.1
LAG_S: Final = 0.1
AGAIN_S: Final = 2.0


class CannotStart(Exception):
    """The daemon can't start; the text says why."""


def serve(
    configuration: DaemonConfiguration, node_ids: list[int] | None, *, debug: bool = False, events_file: Path | None = None
) -> int:
    """Run until Ctrl-C or SIGTERM; return the exit code. Raises CannotStart."""
    console.keep_running()  # OWN-29
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(console.LogFormatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    raise_limit()
    malloc_policy.apply()
    daemon = Daemon(configuration, node_ids, debug=debug, events_file=events_file)
    try:
        trio.run(daemon.run)
    except BaseExceptionGroup as group:
        problem: BaseException = group
        while isinstance(problem, BaseExceptionGroup) and len(problem.exceptions) == 1:
            problem = problem.exceptions[0]
        if isinstance(problem, CannotStart):
            raise problem from None
        raise
    return daemon.exit_code


class Daemon:
    """One process: nodes, REST, event files, signals."""

    def __init__(
        self, configuration: DaemonConfiguration, node_ids: list[int] | None, *, debug: bool, events_file: Path | None
    ) -> None:
        self._configuration = configuration
        self._alone = node_ids is None
        self._ends_when_lost = node_ids is not None or len(configuration.nodes) == 1
        self.exit_code = 0
        self._node_ids = [node.id for node in configuration.nodes] if node_ids is None else node_ids
        self._api = configuration.api_of(node_ids)
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._shares = connection_limits(limit, len(self._node_ids), len(configuration.nodes))
        if self._shares.is_short:
            log.warning("this process may open %d files, too few for its nodes: raise the limit (ulimit -n)", limit)
        self._recorder = Recorder(secrets.token_hex(4), wall_clock=time.time)
        self._link_faults = LinkFaults()
        self._turns = Turns()
        self._client_memory = ClientMemory()
        self._disk_faults = DiskFaults()
        self._rest_connections: Callable[[], int] = lambda: 0
        self._event_loop = make_event_loop(lambda: not self._network.waits.count and not self._rest_connections())
        self._network = SocketNetwork(self._register_listener)
        self._notifier = Notifier()
        self._had_terminal = _has_terminal()
        self._ignores_hangup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        self._apis = {
            node.id: self._api if node.id in self._node_ids else (node.api or self._api) for node in configuration.nodes
        }
        self._local = self._make_nodes()
        self._debug_log = self._open_debug_log(Path("log.html")) if debug else None
        self._event_file = self._open_events(events_file)

    async def run(self) -> None:
        """Serve until a signal stops it."""
        sock = self._bind()
        try:
            with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._handle_signals, signals, nursery)
                    await self._start(nursery, sock)
        finally:
            sock.close()
            if self._event_loop is not None:
                self._event_loop.close()
            self._finish_files()

    async def _start(self, nursery: trio.Nursery, sock: socket.socket) -> None:
        gc_policy.pause()
        if self._event_loop is not None:
            nursery.start_soon(self._event_loop.run)
        forwarder = self._make_forwarder(nursery)
        problems = await self._local.start(nursery)
        if problems:
            reasons = [f"node {node_id} can't start: {why}" for node_id, why in sorted(problems.items())]
            if others := self._local.running_ids():
                reasons.append(f"so the daemon does not start; node {listed(others)} would have")
            self._local.stop()
            nursery.cancel_scope.cancel()
            raise CannotStart("\n".join(reasons))
        gc_policy.start()
        cluster = self._make_cluster(forwarder, nursery)
        app = make_app(
            cluster,
            hosts=hosts_of(self._apis_of_hosts(), self._configuration.allowed_hosts),
            token=self._configuration.api_token,
            election_ms=self._configuration.timing.election_ms,
        )
        nursery.start_soon(restart_on_error, "the API", self._web(cluster, app, sock))
        if self._ends_when_lost:
            nursery.start_soon(self._end_when_lost, nursery)
        nursery.start_soon(restart_on_error, "notifying systemd", self._notify_systemd)
        nursery.start_soon(restart_on_error, "announcing leaders", self._print_leader)
        nursery.start_soon(restart_on_error, "the loop's lag", self._measure_lag)
        nursery.start_soon(restart_on_error, "garbage collection", gc_policy.Collector(self._applied).run)
        if self._debug_log is not None:
            nursery.start_soon(restart_on_error, "log.html", self._debug_log.run)
        if self._event_file is not None:
            nursery.start_soon(restart_on_error, "the event file", self._event_file.run)
        self._notifier.send("READY=1", "STATUS=recovered and listening")
        self._print_addresses()

    async def _end_when_lost(self, nursery: trio.Nursery) -> None:
        """End a daemon whose own nodes have all crashed, so that systemd restarts it (exit code 3); killed nodes are no crash.

        A daemon of all nodes of a larger cluster goes on serving REST, by which its nodes are revived.
        """
        was_lost = False
        while not (was_lost and self._local.all_crashed()):  # seen twice: time for answers, for writing events, for a revive
            was_lost = self._local.all_crashed()
            await trio.sleep(LOST_LOOK_S)
        log.error("all nodes of this daemon have crashed: it ends")
        self.exit_code = NO_NODE_LIVES
        self._stop(nursery)

    async def _handle_signals(self, signals: AsyncIterator[int], nursery: trio.Nursery) -> None:
        """Stop at SIGINT or SIGTERM, also during recovery; reopen the event file at SIGHUP.

        SIGHUP also stops the daemon if its terminal was closed, unless it is ignored (nohup).
        """
        async for number in signals:
            if number == signal.SIGHUP and (self._ignores_hangup or not self._had_terminal or _has_terminal()):
                self._reopen_events()
                continue
            console.say(f"stopping ({signal.Signals(number).name})")
            self._stop(nursery)
            return

    def _reopen_events(self) -> None:
        if self._event_file is None:
            return
        try:
            self._event_file.reopen()
        except OSError as problem:
            log.error("the event file can't be reopened: %s; the old one is still written to", problem.strerror)

    def _stop(self, nursery: trio.Nursery) -> None:
        """Stop storage first; force the end of the process after END_S."""
        self._notifier.send("STOPPING=1", "STATUS=stopping")
        self._local.stop()
        nursery.cancel_scope.cancel()
        ending = threading.Timer(END_S, self._force_exit)
        ending.daemon = True
        ending.start()

    def _force_exit(self) -> None:
        """Exit although a task does not end (a hanging sync, a shielded client): no acknowledged write is lost."""
        with suppress(Exception):
            self._finish_files()
        os._exit(self.exit_code)

    # -- parts -----------------------------------------------------------------------------------------------------------

    def _make_nodes(self) -> LocalNodes:
        return LocalNodes(
            cluster=self._configuration.cluster,
            addresses={node.id: node.address for node in self._configuration.nodes},
            apis=self._apis,
            local_ids=self._node_ids,
            open_node=self._open_node,
            recorder=self._recorder,
            disk_faults=self._disk_faults,
            free_bytes=self._free_bytes,
        )

    def _make_cluster(self, forwarder: Forwarder, nursery: trio.Nursery) -> Cluster:
        return Cluster(
            self._local,
            forwarder,
            link_faults=self._link_faults,
            disk_faults=self._disk_faults,
            daemons=Daemons(self._apis, self._configuration.api_token, cluster=self._configuration.cluster),
            nursery=nursery,
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
            sink=self._recorder,
            link_faults=self._link_faults,
            network=self._network,
            figures=self._local.figures()[node_id],
            turns=self._turns,
            memory=self._client_memory,
            make_poller=lambda: make_poller(self._event_loop),
        )

    def _make_forwarder(self, nursery: trio.Nursery) -> Forwarder:
        return Forwarder(
            cluster=self._configuration.cluster,
            addresses={node.id: node.address for node in self._configuration.nodes},
            request_timeout_s=self._configuration.timing.request_timeout_ms / 1000,
            leader_hint=self._local.leader_hint,
            local_ids=self._local.running_ids,
            can_lead=self._local.can_lead,
            network=self._network,
            nursery=nursery,
            poller=make_poller(self._event_loop) if self._event_loop is not None else None,
        )

    def _web(self, cluster: Cluster, app: Guard, sock: socket.socket) -> Callable[[], Awaitable[None]]:
        """Return the task that serves the API: on the bound socket, after a failure on a new one."""
        sockets = [sock]

        async def run() -> None:
            sock = sockets.pop() if sockets else bind(*parse_address(self._api))
            lane = FastLane(cluster, app)
            server = WebServer(
                app,
                sock,
                most=self._shares.web,
                lane=lane,
                most_in_lane=self._shares.lane,
                make_poller=lambda: make_poller(self._event_loop),
                waits=self._network.waits,
            )
            try:
                self._register_listener(sock.fileno())
            except OSError:
                sock.close()
                raise
            app.connections = server.connections
            self._rest_connections = server.connections_of_hypercorn
            await server.run()

        return run

    def _register_listener(self, descriptor: int) -> None:
        if self._event_loop is not None:
            self._event_loop.register_listener(descriptor)

    def _bind(self) -> socket.socket:
        try:
            return bind(*parse_address(self._api))
        except OSError as problem:
            raise CannotStart(f"the API: {problem.strerror}") from None

    def _open_debug_log(self, path: Path) -> DebugLog:
        try:
            check_page(path)
        except OSError as problem:
            raise CannotStart(f"{path} can't be written: {problem.strerror}") from None
        return DebugLog(path, self._recorder, self._look)

    def _open_events(self, path: Path | None) -> EventFile | None:
        if path is None:
            return None
        try:
            return EventFile(path, self._recorder, beside=self._configuration.data_dir)
        except OSError as problem:
            raise CannotStart(f"{path} can't be written: {problem.strerror}") from None

    def _apis_of_hosts(self) -> list[str]:
        nodes = [node.api for node in self._configuration.nodes if node.api is not None]
        return [self._configuration.api, *nodes]

    # -- output ----------------------------------------------------------------------------------------------------------

    def _print_addresses(self) -> None:
        lines = [f"Barge: cluster {self._configuration.cluster}, {'all nodes' if self._alone else 'one of several daemons'}"]
        for node_id in self._node_ids:
            node = self._configuration.node(node_id)
            lines.append(f"  node {node_id}  {node.listen}  data in {self._configuration.data_dir / f'node-{node_id}'}")
        lines += [f"  page    http://{self._api}/", f"  API     http://{self._api}/keys  (docs/rest.md)", "  Ctrl-C stops it"]
        console.say("\n".join(lines))

    async def _print_leader(self) -> None:
        """Print the leader whenever it changes."""
        last: tuple[int, int] | None = None
        while True:
            seen = self._recorder.last_seq
            known = self._local.known_leader()
            if known is not None and (known.leader, known.term) != last:
                last = known.leader, known.term
                console.say(f"leader: node {known.leader} in term {known.term}")
            await trio.sleep(LEADER_S)
            with trio.move_on_after(STATUS_S):  # the known leader may change without an event
                await self._recorder.wait(seen)

    async def _notify_systemd(self) -> None:
        """Notify the watchdog only while every running node's loop makes progress, and update the status line."""
        interval = watchdog_interval_s()
        pause = min(STATUS_S, STATUS_S if interval is None else interval)
        while True:
            hanging = self._local.hanging()
            known = self._local.known_leader()
            status = "no leader" if known is None else f"leader: node {known.leader}, term {known.term}"
            if self._local.none_running():
                self._notifier.send(f"STATUS={status}; no node of this daemon runs")
            elif hanging:
                log.error("the event loop has stalled for nodes %s", hanging)
                self._notifier.send(f"STATUS={status}; hanging: {hanging}")
            else:
                self._notifier.send(*(() if interval is None else ("WATCHDOG=1",)), f"STATUS={status}")
            await trio.sleep(pause)

    async def _measure_lag(self) -> None:
        """Wake ten times a second and record the delay: the lag of the event loop, which also delays heartbeats."""
        while True:
            due = trio.current_time() + LAG_S
            await trio.sleep_until(due)
            self._local.loop_lag.observe(trio.current_time() - due)

    def _applied(self) -> int:
        """The sum of the own nodes' last applied indices."""
        return sum(view.last_applied or 0 for view in self._local.views())

    def _look(self) -> Callable[[], LogView]:
        """Copy the state for log.html; the view is made from it in a thread."""
        page = self._recorder.page(None, heartbeats=True, limit=FILE_EVENTS)
        columns = [column_of(view) for view in self._local.views()]

        def view() -> LogView:
            return LogView(
                cluster=self._configuration.cluster,
                columns=columns,
                events=[self._recorder.event(kept) for kept in page.events],
                heartbeats=page.heartbeats,
                dropped=page.dropped,
                limit=FILE_EVENTS,
                election_ms=self._configuration.timing.election_ms,
            )

        return view

    def _finish_files(self) -> None:
        event_file, self._event_file = self._event_file, None
        debug_log, self._debug_log = self._debug_log, None
        for finish in (*(() if event_file is None else (event_file.close,)), *(() if debug_log is None else (debug_log.finish,))):
            try:
                finish()
            except Exception as problem:  # a full disk must not change the exit code
                log.error("the last events can't be written: %s", problem)


async def restart_on_error(name: str, work: Callable[[], Awaitable[None]]) -> None:
    """Run a task of the daemon; an exception is logged, ends no node, and the task is restarted after AGAIN_S."""
    while True:
        try:
            return await work()
        except Exception as problem:
            log.error("%s failed: %s: %s", name, type(problem).__name__, problem)
        await trio.sleep(AGAIN_S)


def _has_terminal() -> bool:
    """Return whether this process has a controlling terminal."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK))
    except OSError:
        return False
    return True
