"""The machine of a server of a seed: its disk, its clock, the durations of its operations, and its pauses."""

from collections.abc import Callable
from typing import Any, Final

from bargetrio.raft.messages import NodeId
from bargetrio.simulator.disk import SimulatedDisk
from bargetrio.simulator.plan import Plan
from bargetrio.simulator.world import World

CLUSTER: Final = "simulated"
LATE_TURN_S: Final = 0.003
"""After a pause everything that was due meanwhile happens within this many seconds, in random order."""


class Machine:
    """One for all lives of a server; `local_now` is the time on its own clock, which may run too fast or too slow."""

    def __init__(self, node_id: NodeId, plan: Plan, world: World) -> None:
        self.world = world
        self.random = world.random(f"server {node_id}")
        self.disk = SimulatedDisk(world.random(f"disk {node_id}"))
        self.disk.gives_descriptors = node_id in plan.kernel_synced
        self.rate = plan.clock_rates[node_id]
        self.offset = self.random.uniform(0, 1000)
        self.segment_bytes: int = self.random.choice((2048, 8192, 32768))
        self.paused_until = 0.0
        self.disk_s = plan.disk_s[node_id]
        """How long a write and its sync take, at least and at most."""
        self.disk_hangs_until = 0.0
        """The time before which no write of the log ends."""
        self.save_s, self.piece_s = plan.save_s[node_id], plan.piece_s[node_id]
        """How long it takes to write a slice of a snapshot that is saved, and to store or load a piece of one that has come."""
        self.readable: dict[str, int] = {}
        """Snapshot files that end too early when they are read for sending, and where."""

    @property
    def local_now(self) -> float:
        """The time on the server's own clock."""
        return self.offset + self.rate * self.world.now

    def is_paused(self, action: Callable[..., None], *arguments: Any) -> bool:
        """Return whether the process stands still; if it does, `action(*arguments)` is called soon after."""
        if self.world.now >= self.paused_until:
            return False
        self.world.at(self.paused_until + self.random.random() * LATE_TURN_S, action, *arguments)
        return True
