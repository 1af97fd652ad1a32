"""A simulated server's steps: when it makes one, on the world's clock, and not while its process stands still."""

from collections.abc import Callable
from typing import Generic

from bargetrio.raft.core import AT_ONCE
from bargetrio.raft.errors import ConsensusViolation
from bargetrio.raft.messages import Message
from bargetrio.raft.roles import Leader
from bargetrio.replica.replica import Replica, StorageFailed
from bargetrio.simulator.machine import Machine
from bargetrio.simulator.observer import S, Watcher


class TimedSteps(Generic[S]):
    """The steps of all lives of a server: one that is planned when a life ends is made by the next one, if that has begun.

    `failed` is called with what a step raised.
    """

    def __init__(
        self,
        server: S,
        watcher: Watcher[S],
        *,
        machine: Machine,
        failed: Callable[[ConsensusViolation | StorageFailed], None],
    ) -> None:
        self.is_planned = False
        """Whether input waits for a step."""
        self.led = False
        """Whether the server led when its last step began."""
        self._server = server
        self._watcher = watcher
        self._machine = machine
        self._world = machine.world
        self._failed = failed
        self._replica: Replica | None = None
        self._timer_at = float("inf")

    def begin(self, replica: Replica) -> None:
        """A life begins: step this replica from now on."""
        self._replica = replica

    def end(self) -> None:
        """The life has ended: make no steps."""
        self._replica = None

    def take_message(self, message: Message) -> None:
        """Make a step with this message at once if nothing else is planned for this moment; else queue it."""
        replica = self._replica
        assert replica is not None, "a server that is down takes no message"
        if not self.is_planned and self._world.takes_next_step():  # as in wake_last; where no step is planned, nothing waits
            self._step(replica, message)
        else:
            replica.inbox.take_message(message)
            self.wake()

    def wake(self) -> None:
        """Have a step made at this moment, or when the process goes on."""
        if not self.is_planned:
            self.is_planned = True
            self._world.at(max(self._world.now, self._machine.paused_until), self._turn)

    def wake_last(self) -> None:
        """Wake, at the end of a step of the world."""
        if self.is_planned:
            return
        if self._replica is not None and self._world.now >= self._machine.paused_until and self._world.takes_next_step():
            self._step(self._replica)
        else:
            self.wake()

    def _turn(self) -> None:
        self.is_planned = False
        if self._replica is None:
            return
        if self._world.now < self._machine.paused_until:
            self.wake()
            return
        self._step(self._replica)

    def _on_timer(self, moment: float) -> None:
        if moment == self._timer_at:
            self._timer_at = float("inf")
            self.wake_last()

    def _step(self, replica: Replica, message: Message | None = None) -> None:
        """Make a step with all queued input, or with this message if nothing else is queued, as in three steps of five."""
        machine = self._machine
        now = machine.offset + machine.rate * self._world.now
        self.led = type(replica.core.role) is Leader
        try:
            deadline = replica.step(now) if message is None else replica.step_one(message, now)
        except (ConsensusViolation, StorageFailed) as problem:
            self._failed(problem)
            return
        self._watcher.passed(self._server, now)
        if deadline == AT_ONCE:
            self.wake()
            return
        moment = (deadline - machine.offset) / machine.rate + 1e-6
        if moment < self._timer_at:
            self._timer_at = moment
            self._world.at(moment, self._on_timer, moment)
