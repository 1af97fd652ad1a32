"""The links between the nodes of a seed: they lose, repeat, delay and reorder messages, and can be cut in one direction.

Without "reordering" a link keeps the order, as a connection does; what is in the air when a link is cut is lost.
"""

from collections.abc import Callable
from random import Random

from msgspec import structs

from bargetrio.raft.messages import Message, NodeId, SnapshotRequest
from bargetrio.simulator.plan import Plan
from bargetrio.simulator.world import World

Link = tuple[NodeId, NodeId]


class Network:
    """Carries messages; `inboxes[node_id]` is called with each that arrives."""

    def __init__(self, world: World, plan: Plan) -> None:
        self.inboxes: list[Callable[[Message], None]] = []
        self.cut: set[Link] = set()
        self.slow: dict[Link, float] = {}
        self.lost = 0
        self.repeated = 0
        self._world = world
        self._random: Random = world.random("network")
        self._chance = self._random.random
        self._keeps_order = "reordering" not in plan.kinds
        self._loss, self._duplication, self._late, self._damage = plan.loss, plan.duplication, plan.late, plan.damage
        self._last: dict[Link, float] = {}

    def heal(self) -> None:
        """From now on every message arrives, once, soon, and in order."""
        self.cut.clear()
        self.slow.clear()
        self._loss = self._duplication = self._late = self._damage = 0.0
        self._keeps_order = True

    def post(self, source: NodeId, target: NodeId, message: Message) -> None:
        """Send; it may never arrive."""
        link = (source, target)
        if (self.cut and link in self.cut) or (self._loss and self._chance() < self._loss):
            self.lost += 1
            return
        if self._damage and isinstance(message, SnapshotRequest) and self._chance() < self._damage:
            message = self._damaged(message)
        self._fly(link, message)
        if self._duplication and self._chance() < self._duplication:
            self.repeated += 1
            self._fly(link, message)

    def _damaged(self, message: SnapshotRequest) -> SnapshotRequest:
        """A byte of a piece is wrong: a bad sector, bad memory; only the check of the whole file can tell."""
        data = bytearray(message.data)
        if data:
            data[self._random.randrange(len(data))] ^= 1 << self._random.randrange(8)
        return structs.replace(message, data=bytes(data))

    def _fly(self, link: Link, message: Message) -> None:
        delay = 0.0002 + self._chance() * 0.002
        if self._late and self._chance() < self._late:
            delay += min(5.0, self._random.expovariate(5))
        if self.slow:
            delay += self.slow.get(link, 0.0)
        moment = self._world.now + delay
        if self._keeps_order:
            before = self._last.get(link, 0.0)
            moment = self._last[link] = moment if moment > before else before
        self._world.at(moment, self._arrive, link, message)

    def _arrive(self, link: Link, message: Message) -> None:
        if self.cut and link in self.cut:
            self.lost += 1
            return
        self.inboxes[link[1]](message)
