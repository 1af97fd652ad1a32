"""The process of a daemon: it starts its parts (parts.py) in one nursery, obeys signals and systemd, and ends within a second.

serve: bind the API -> start the nodes (recover, listen) -> READY -> until Ctrl-C or SIGTERM -> storage first, then the rest
"""

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import trio

from bargetrio import console
from bargetrio.cluster.fault_plan import listed
from bargetrio.config import DaemonConfiguration
from bargetrio.daemon import gc_policy, malloc_policy
from bargetrio.daemon.descriptors import raise_limit
from bargetrio.daemon.parts import CannotStart, Parts
from bargetrio.daemon.sd_notify import Notifier, watchdog_interval_s

log = logging.getLogger("bargetrio")

NO_NODE_LIVES: Final = 3
"""The exit code of a daemon that ends because all its nodes have crashed (docs/operations.md)."""
LOST_POLL_S: Final = 1.0
END_S: Final = 0.7
"""Longest duration of a stop; whatever still runs then ends with the process."""
STATUS_S: Final = 1.0
LEADER_S: Final = 0.1
LAG_S: Final = 0.1
AGAIN_S: Final = 2.0


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
    """One process: runs its parts until a signal, or until all its nodes have crashed."""

    def __init__(
        self, configuration: DaemonConfiguration, node_ids: list[int] | None, *, debug: bool, events_file: Path | None
    ) -> None:
        self._configuration = configuration
        self._alone = node_ids is None
        self._ends_when_lost = node_ids is not None or len(configuration.nodes) == 1
        self.exit_code = 0
        self._parts = Parts(configuration, node_ids, debug=debug, events_file=events_file)
        self._local = self._parts.local
        self._notifier = Notifier()
        self._had_terminal = _has_terminal()
        self._ignores_hangup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN

    async def run(self) -> None:
        """Serve until a signal stops it."""
        sock = self._parts.bind_api()
        try:
            with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._handle_signals, signals, nursery)
                    await self._start(nursery, sock)
        finally:
            sock.close()
            if self._parts.event_loop is not None:
                self._parts.event_loop.close()
            self._parts.finish_files()

    async def _start(self, nursery: trio.Nursery, sock: socket.socket) -> None:
        gc_policy.pause()
        if self._parts.event_loop is not None:
            nursery.start_soon(self._parts.event_loop.run)
        forwarder = self._parts.make_forwarder(nursery)
        problems = await self._local.start(nursery)
        if problems:
            reasons = [f"node {node_id} can't start: {why}" for node_id, why in sorted(problems.items())]
            if others := self._local.running_ids():
                reasons.append(f"so the daemon does not start; node {listed(others)} would have")
            self._local.stop()
            nursery.cancel_scope.cancel()
            raise CannotStart("\n".join(reasons))
        gc_policy.start()
        nursery.start_soon(restart_on_error, "the API", self._parts.api_server(forwarder, nursery, sock))
        if self._ends_when_lost:
            nursery.start_soon(self._end_when_lost, nursery)
        nursery.start_soon(restart_on_error, "notifying systemd", self._notify_systemd)
        nursery.start_soon(restart_on_error, "announcing leaders", self._print_leader)
        nursery.start_soon(restart_on_error, "the loop's lag", self._measure_lag)
        nursery.start_soon(restart_on_error, "garbage collection", gc_policy.Collector(self._applied).run)
        if self._parts.debug_log is not None:
            nursery.start_soon(restart_on_error, "log.html", self._parts.debug_log.run)
        if self._parts.event_file is not None:
            nursery.start_soon(restart_on_error, "the event file", self._parts.event_file.run)
        self._notifier.send("READY=1", "STATUS=recovered and listening")
        self._print_addresses()

    async def _end_when_lost(self, nursery: trio.Nursery) -> None:
        """End a daemon whose own nodes have all crashed, so that systemd restarts it (exit code 3); killed nodes are no crash.

        A daemon of all nodes of a larger cluster goes on serving REST, by which its nodes are revived.
        """
        was_lost = False
        while not (was_lost and self._local.all_crashed()):  # seen twice: time for answers, for writing events, for a revive
            was_lost = self._local.all_crashed()
            await trio.sleep(LOST_POLL_S)
        log.error("all nodes of this daemon have crashed: it ends")
        self.exit_code = NO_NODE_LIVES
        self._stop(nursery)

    async def _handle_signals(self, signals: AsyncIterator[int], nursery: trio.Nursery) -> None:
        """Stop at SIGINT or SIGTERM, also during recovery; reopen the event file at SIGHUP.

        SIGHUP also stops the daemon if its terminal was closed, unless it is ignored (nohup).
        """
        async for number in signals:
            if number == signal.SIGHUP and (self._ignores_hangup or not self._had_terminal or _has_terminal()):
                self._parts.reopen_events()
                continue
            console.say(f"stopping ({signal.Signals(number).name})")
            await self._local.hand_over()
            self._stop(nursery)
            return

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
            self._parts.finish_files()
        os._exit(self.exit_code)

    # -- output ----------------------------------------------------------------------------------------------------------

    def _print_addresses(self) -> None:
        lines = [f"Barge: cluster {self._configuration.cluster}, {'all nodes' if self._alone else 'one of several daemons'}"]
        for node_id in self._parts.node_ids:
            node = self._configuration.node(node_id)
            lines.append(f"  node {node_id}  {node.listen}  data in {self._configuration.data_dir / f'node-{node_id}'}")
        lines += [
            f"  page    http://{self._parts.api}/",
            f"  API     http://{self._parts.api}/keys  (docs/rest.md)",
            "  Ctrl-C stops it",
        ]
        console.say("\n".join(lines))

    async def _print_leader(self) -> None:
        """Print the leader whenever it changes."""
        last: tuple[int, int] | None = None
        while True:
            seen = self._parts.recorder.last_seq
            known = self._local.known_leader()
            if known is not None and (known.leader, known.term) != last:
                last = known.leader, known.term
                console.say(f"leader: node {known.leader} in term {known.term}")
            await trio.sleep(LEADER_S)
            with trio.move_on_after(STATUS_S):  # the known leader may change without an event
                await self._parts.recorder.wait(seen)

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
