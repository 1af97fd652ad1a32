"""The links between the nodes of a seed: they lose, repeat, delay and reorder messages, and can be cut in one direction.

Without "reordering" a link keeps the order, as a connection does; what is in the air when a link is cut is lost.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from msgspec import structs

from bargetrio.raft.messages import Message, NodeId, SnapshotRequest
from bargetrio.simulator.plan import Plan
from bargetrio.simulator.world import World

Inbox = Callable[[Message], None]


@dataclass(slots=True)
class Link:
    """The way from one node to another. `slow_s` is what every message takes longer, `last` when the last one arrives."""

    inbox: Inbox
    is_cut: bool = False
    slow_s: float = 0.0
    last: float = 0.0


class Network:
    """Carries messages; `links[source][target]` is the way of each."""

    def __init__(self, world: World, plan: Plan) -> None:
        self.links: list[list[Link]] = []
        self.lost = 0
        self.repeated = 0
        self._world = world
        self._random: Random = world.random("network")
        self._chance = self._random.random
        self._keeps_order = "reordering" not in plan.kinds
        self._loss, self._duplication, self._late, self._damage = plan.loss, plan.duplication, plan.late, plan.damage

    def connect(self, inboxes: Sequence[Inbox]) -> None:
        """Lay a link from each node to each; the inbox of its target is called with each message that arrives."""
        self.links = [[Link(inbox) for inbox in inboxes] for _ in inboxes]

    def heal(self) -> None:
        """From now on every message arrives, once, soon, and in order."""
        for link in (link for links in self.links for link in links):
            link.is_cut, link.slow_s = False, 0.0
        self._loss = self._duplication = self._late = self._damage = 0.0
        self._keeps_order = True

    def post(self, source: NodeId, target: NodeId, message: Message) -> None:
        """Send; it may never arrive."""
        link = self.links[source][target]
        if link.is_cut or (self._loss and self._chance() < self._loss):
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
        moment = self._world.now + (delay + link.slow_s)
        if self._keeps_order:
            if moment < link.last:
                moment = link.last
            link.last = moment
        self._world.at(moment, self._arrive, link, message)

    def _arrive(self, link: Link, message: Message) -> None:
        if link.is_cut:
            self.lost += 1
        else:
            link.inbox(message)
