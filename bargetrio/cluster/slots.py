"""A slot for each node of this daemon: it starts, kills and restarts the node.

Starting, killed and crashed are states of the slot, not roles of Raft. Every exception of a node is caught in its slot, so that
no error of one node ends another.
"""

import logging
from collections.abc import Collection
from typing import Final, Literal

import trio
from msgspec import Struct
from trio import TaskStatus

from bargetrio.eventlog.host_facts import NodeCrashed, NodeKilled, NodeRevived, Sink
from bargetrio.node.figures import NodeGauges
from bargetrio.node.running_node import OpenNode, RunningNode
from bargetrio.node.status import Belief, NodeStatus
from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.views import NodeState
from bargetrio.replica.replica import StorageFailed
from bargetrio.storage.errors import StorageError, is_out_of_space

log = logging.getLogger(__name__)

KILL_WAIT_S: Final = 0.5
REVIVE_WAIT_S: Final = 30.0
STILL_S: Final = 3.0
"""A running node's loop makes a step at least once a second; after this many seconds without one it hangs."""


class NotRunning(Struct, frozen=True):
    """Why a node does not run; a node that a full disk ended is started again when there is room."""

    state: Literal["starting", "killed", "crashed"]
    reason: str = ""
    was_out_of_space: bool = False


class Slot:
    """The running node, or why it does not run."""

    def __init__(self, node_id: int, open_node: OpenNode, sink: Sink) -> None:
        self.node_id = node_id
        self._open_node = open_node
        self._sink = sink
        self._life: RunningNode | NotRunning = NotRunning("killed")
        self._scope = trio.CancelScope()
        self._ended = trio.Event()
        self._ended.set()
        self._lock = trio.Lock()

    @property
    def node(self) -> RunningNode | None:
        """The running node, None if there is none."""
        return None if isinstance(self._life, NotRunning) else self._life

    @property
    def state(self) -> NodeState:
        """Whether the node runs, or is starting, killed or crashed."""
        return self._life.state if isinstance(self._life, NotRunning) else "running"

    @property
    def reason(self) -> str:
        """Why the node was killed or crashed."""
        return self._life.reason if isinstance(self._life, NotRunning) else ""

    @property
    def was_out_of_space(self) -> bool:
        """Whether a full disk ended the node."""
        return isinstance(self._life, NotRunning) and self._life.was_out_of_space

    def status(self) -> NodeStatus | None:
        """Return the running node's status, None if there is none."""
        return None if isinstance(self._life, NotRunning) else self._life.status()

    def belief(self) -> Belief | None:
        """Return the leader and term as known to the running node, None if there is none."""
        return None if isinstance(self._life, NotRunning) else self._life.belief()

    async def readmit(self, node_id: int) -> str:
        """Have the running node, a leader, readmit `node_id` with its new disk: see `running_node.RunningNode.readmit`."""
        return "it does not run" if isinstance(self._life, NotRunning) else await self._life.readmit(node_id)

    async def transfer(self, among: Collection[int]) -> str:
        """Have the running node, a leader, transfer its leadership: see `running_node.RunningNode.transfer`."""
        return "it does not run" if isinstance(self._life, NotRunning) else await self._life.transfer(among)

    async def bootstrap(self) -> str:
        """Have the running node begin the cluster: see `running_node.RunningNode.bootstrap`."""
        return "it does not run" if isinstance(self._life, NotRunning) else await self._life.bootstrap()

    def gauges(self) -> NodeGauges | None:
        """Return the running node's gauges, None if there is none."""
        return None if isinstance(self._life, NotRunning) else self._life.gauges()

    def hangs(self, now: float) -> bool:
        """Return whether the node runs and its loop makes no progress."""
        return not isinstance(self._life, NotRunning) and now - self._life.last_turn > STILL_S

    async def start(self, nursery: trio.Nursery) -> None:
        """Start the node; return once it runs, or has failed to start: then the state is crashed, or killed.

        Cancelling this does not end the node; `crash` does, at any time.
        """
        with trio.CancelScope(shield=True):
            async with self._lock:
                await nursery.start(self._live)

    def crash(self, task: str = "kill") -> bool:
        """End the node at once, without flushing; return whether it was running or starting. Its tasks may end a little later."""
        node = self.node
        if node is None and self.state != "starting":
            return False
        self._life = NotRunning("killed", task)
        if node is not None:
            node.fence()
        self._sink.record(self.node_id, NodeKilled())
        self._scope.cancel()
        return True

    async def kill(self) -> bool:
        """Crash the node; return whether it was running or starting. On return its port refuses; its last sync may still run.

        A recovering node ends when the present call in the disk's thread returns, and never runs.
        """
        changed = self.crash()
        with trio.move_on_after(KILL_WAIT_S):
            await self._ended.wait()
        return changed

    async def revive(self, nursery: trio.Nursery) -> bool:
        """Start the node unless it runs; return whether it was started.

        Raises BargeError: cannot_start, with the reason; outcome_unknown if another call still starts it after REVIVE_WAIT_S.
        If it is killed while starting, `state` is killed on return.
        """
        with trio.move_on_after(REVIVE_WAIT_S) as waited:
            await self._lock.acquire()  # concurrent revives start the node once
        if waited.cancelled_caught:
            raise BargeError("outcome_unknown", f"node {self.node_id} is starting, and still recovers or waits for its disk")
        try:
            if self.state == "running":
                return False
            with trio.move_on_after(REVIVE_WAIT_S) as waited:
                await self._ended.wait()
            if waited.cancelled_caught:
                why = "it still waits for its disk from before it was killed"
                raise BargeError("cannot_start", f"node {self.node_id} can't start: {why}")
            self._sink.record(self.node_id, NodeRevived())
            with trio.CancelScope(shield=True):
                await nursery.start(self._live)
            if self.state == "crashed":
                raise BargeError("cannot_start", f"node {self.node_id} can't start: {self.reason}")
            return True
        finally:
            self._lock.release()

    async def _live(self, task_status: TaskStatus[None]) -> None:
        started = _StartSignal(task_status)
        self._ended = trio.Event()
        self._scope = trio.CancelScope()
        self._life = NotRunning("starting")
        try:
            with self._scope:
                async with self._open_node(self.node_id) as node:
                    if self._scope.cancel_called:  # killed just before it was started: it ends at its next checkpoint
                        node.fence()
                    else:
                        self._life = node
                    started.over()
                    await node.run()
                    raise RuntimeError("it returned")
        except BaseExceptionGroup as group:
            cancelled, problems = group.split(trio.Cancelled)
            if problems is not None:
                self._crashed(problems)
            if cancelled is not None:
                raise cancelled from None
        except Exception as problem:  # ends this node only
            self._crashed(problem)
        finally:
            if self.node is not None:  # the daemon's nursery was cancelled
                self._life = NotRunning("killed")
            self._ended.set()
            started.over()

    def _crashed(self, problem: BaseException) -> None:
        if self.state == "killed" and self._scope.cancel_called:
            log.warning("node %d: an error after its kill: %s", self.node_id, problem)
            return
        expected = isinstance(problem, (StorageError, StorageFailed, OSError))
        reason = _reason(problem)
        self._life = NotRunning("crashed", reason, is_out_of_space(problem))
        self._sink.record(self.node_id, NodeCrashed(reason=reason))
        log.error("node %d crashed: %s", self.node_id, reason, exc_info=None if expected else problem)


class _StartSignal:
    """Reports to `start`, once, that the node runs, or has ended before."""

    def __init__(self, task_status: TaskStatus[None]) -> None:
        self._task_status = task_status
        self._reported = False

    def over(self) -> None:
        """End the wait of `start`."""
        if not self._reported:
            self._reported = True
            self._task_status.started()


def _reason(problem: BaseException) -> str:
    """Return the text of the innermost cause, with its type if it is a bug."""
    while isinstance(problem, BaseExceptionGroup) and problem.exceptions:
        problem = problem.exceptions[0]
    if isinstance(problem, OSError):
        return problem.strerror or str(problem)
    if isinstance(problem, (StorageError, StorageFailed)):
        return str(problem)
    return f"{type(problem).__name__}: {problem}"
