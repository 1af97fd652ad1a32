"""A slot for each node of this daemon: it starts, kills and restarts the node.

Starting, killed and crashed are states of the slot, not roles of Raft. Every exception of a node is caught in its slot, so that
no error of one node ends another.
"""

import logging
from typing import Final

import trio
from trio import TaskStatus

from bargetrio.eventlog.host_facts import NodeCrashed, NodeKilled, NodeRevived, Sink
from bargetrio.node.figures import NodeGauges
from bargetrio.node.running_node import BackupFile, OpenNode, RunningNode
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


class Slot:
    """The state of one node, and the running node if there is one."""

    def __init__(self, node_id: int, open_node: OpenNode, sink: Sink) -> None:
        self.node_id = node_id
        self.state: NodeState = "killed"
        self.reason = ""
        self.was_out_of_space = False
        """Whether a full disk ended the node: it is started again when there is room."""
        self._open_node = open_node
        self._sink = sink
        self._node: RunningNode | None = None
        self._scope = trio.CancelScope()
        self._ended = trio.Event()
        self._ended.set()
        self._lock = trio.Lock()

    def status(self) -> NodeStatus | None:
        """Return the running node's status, None if there is none."""
        return self._node.status() if self.state == "running" and self._node is not None else None

    def belief(self) -> Belief | None:
        """Return the leader and term as known to the running node, None if there is none."""
        return self._node.belief() if self.state == "running" and self._node is not None else None

    async def readmit(self, node_id: int) -> str:
        """Have the running node, a leader, readmit `node_id` with its new disk: see `running_node.RunningNode.readmit`."""
        return "it does not run" if self.state != "running" or self._node is None else await self._node.readmit(node_id)

    async def bootstrap(self) -> str:
        """Have the running node begin the cluster: see `running_node.RunningNode.bootstrap`."""
        return "it does not run" if self.state != "running" or self._node is None else await self._node.bootstrap()

    async def backup(self, index: int) -> BackupFile:
        """Return a snapshot of the running node; there must be one."""
        assert self._node is not None
        return await self._node.backup(index)

    def gauges(self) -> NodeGauges | None:
        """Return the running node's gauges, None if there is none."""
        return self._node.gauges() if self.state == "running" and self._node is not None else None

    def hangs(self, now: float) -> bool:
        """Return whether the node runs and its loop makes no progress."""
        return self.state == "running" and self._node is not None and now - self._node.last_turn > STILL_S

    async def start(self, nursery: trio.Nursery) -> None:
        """Start the node; return once it runs, or has failed to start: then the state is crashed, or killed.

        Cancelling this does not end the node; `crash` does, at any time.
        """
        with trio.CancelScope(shield=True):
            async with self._lock:
                await nursery.start(self._live)

    def crash(self, task: str = "kill") -> bool:
        """End the node at once, without flushing; return whether it was running or starting. Its tasks may end a little later."""
        if self.state not in ("starting", "running"):
            return False
        self.state = "killed"
        self.reason = task
        if self._node is not None:
            self._node.fence()
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
        started = _StartSignal(task_status, self)
        self._ended = trio.Event()
        self._scope = trio.CancelScope()
        self.state, self.reason = "starting", ""
        try:
            with self._scope:
                async with self._open_node(self.node_id) as node:
                    self._node = node
                    if self._scope.cancel_called:  # killed just before it was started
                        node.fence()
                    started.started()
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
            self._node = None
            self._ended.set()
            started.over()

    def _crashed(self, problem: BaseException) -> None:
        if self.state == "killed" and self._scope.cancel_called:
            log.warning("node %d: an error after its kill: %s", self.node_id, problem)
            return
        self.was_out_of_space = is_out_of_space(problem)
        expected = isinstance(problem, (StorageError, StorageFailed, OSError))
        self.reason = _reason(problem)
        self.state = "crashed"
        self._sink.record(self.node_id, NodeCrashed(reason=self.reason))
        log.error("node %d crashed: %s", self.node_id, self.reason, exc_info=None if expected else problem)


class _StartSignal:
    """Reports to `start`, once, that the node runs, or has ended before."""

    def __init__(self, task_status: TaskStatus[None], slot: Slot) -> None:
        self._task_status = task_status
        self._slot = slot
        self._told = False

    def started(self, value: None = None) -> None:
        """Report that the node listens; if it was killed meanwhile, it ends at its next checkpoint."""
        if self._slot.state == "starting":
            self._slot.state = "running"
        self.over()

    def over(self) -> None:
        """End the wait of `start`."""
        if not self._told:
            self._told = True
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
