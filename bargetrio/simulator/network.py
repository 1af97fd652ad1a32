"""The links between the nodes of a seed: they lose, duplicate, delay and reorder messages, and can be cut in one direction.

Without "reordering" a link keeps the order, as a connection does; messages in flight are lost when a link is cut. A link may have
a bandwidth: then its messages leave one after another, each takes as long as its encoded bytes do, what waits is bounded as in
transport/peer_link.py. While a long one arrives, the receiver gets notices that bytes arrive.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

from msgspec import structs

from bargetrio.raft.messages import Message, NodeId, SnapshotRequest, Term, encode_message, is_bulk
from bargetrio.raft.standing import Standing
from bargetrio.simulator.plan import Plan
from bargetrio.simulator.world import World

Inbox = Callable[[Message, Standing], None]
"""Takes a message, and the standing with which its connection began."""
AboutPeer = Callable[[NodeId], None]
"""Notifies a node of an event of its connection with that peer."""

BYTES_COME_S: Final = 0.02
"""Interval of the notices to the receiver of a long message that bytes of it arrive."""
LONG_BYTES: Final = 1024
"""A message is long from this many bytes on (node/peers.py)."""
REDIAL_S: Final = 0.05
"""How long it takes until a link that was cut is up again."""
LONG_S: Final = 0.6
"""A message that takes longer than the longest election timeout is a long one."""


@dataclass(slots=True)
class Link:
    """One direction between two nodes. `slow_s` is added to each message's delay, `last` is when the last one arrives.

    `bytes_s` is its bandwidth, 0 if it has no bound; if it has, `waiting` holds messages that have not left, with their sizes and
    their senders' standings, the first of them on its way out. `connection` is counted up whenever what waits is lost.
    """

    inbox: Inbox
    bytes_come: AboutPeer
    source: NodeId
    is_cut: bool = False
    slow_s: float = 0.0
    last: float = 0.0
    bytes_s: float = 0.0
    waiting: deque[tuple[Message, int, Standing]] = field(default_factory=deque)
    unsent_bytes: int = 0
    term: Term = 0
    connection: int = 0

    def lose_what_waits(self) -> int:
        """The connection ended; return how many messages are lost with it."""
        lost = len(self.waiting)
        self.waiting.clear()
        self.unsent_bytes = 0
        self.connection += 1
        return lost


class SimulatedNetwork:
    """Delivers messages; `links[source][target]` is the link of each pair."""

    def __init__(self, world: World, plan: Plan, hit: Callable[[str], None] = lambda goal: None) -> None:
        self.links: list[list[Link]] = []
        self.lost = 0
        self.repeated = 0
        self._world = world
        self._hit = hit
        """Counts a rare situation (goals.py)."""
        self._link_up: list[AboutPeer] = []
        self._random: Random = world.random("network")
        self._chance = self._random.random
        self._keeps_order = "reordering" not in plan.kinds
        self._loss, self._duplication, self._late, self._damage = plan.loss, plan.duplication, plan.late, plan.damage
        self._unsent_bytes, self._queued_bytes = plan.unsent_bytes, plan.queued_bytes
        self._rates = plan.bytes_s

    def connect(self, inboxes: Sequence[Inbox], bytes_come: Sequence[AboutPeer], link_up: Sequence[AboutPeer]) -> None:
        """Create a link between each pair of nodes; the target's inbox is called with each message that arrives.

        `bytes_come[target](source)` is called while a long message arrives, `link_up[source](target)` when a link stands again.
        """
        self.links = [
            [Link(inbox, come, source) for inbox, come in zip(inboxes, bytes_come, strict=True)] for source in range(len(inboxes))
        ]
        self._link_up = list(link_up)
        if self._rates:
            rates = iter(self._rates)
            for source, links in enumerate(self.links):
                for target, link in enumerate(links):
                    if source != target:
                        link.bytes_s = next(rates)

    def heal(self) -> None:
        """From now on every message arrives, once, soon, and in order."""
        for source, links in enumerate(self.links):
            for target, link in enumerate(links):
                if link.is_cut:
                    self.mend(source, target)
                link.slow_s = 0.0
        self.widen(0.0)
        self._loss = self._duplication = self._late = self._damage = 0.0
        self._keeps_order = True

    def widen(self, bytes_s: float, far_s: float = 0.0) -> None:
        """Set every link's bandwidth, 0: unlimited, and what is queued is sent at once; and how long a byte is on its way."""
        for link in (link for links in self.links for link in links):
            link.bytes_s, link.slow_s = bytes_s, far_s
            if not bytes_s:
                waiting = list(link.waiting)
                link.lose_what_waits()
                for message, _, standing in waiting:
                    self._fly(link, message, standing)

    def cut(self, source: NodeId, target: NodeId) -> None:
        """Cut the link; queued messages and those in flight are lost."""
        link = self.links[source][target]
        link.is_cut = True
        self.lost += link.lose_what_waits()

    def mend(self, source: NodeId, target: NodeId) -> None:
        """Heal the link; the source gets a link_up when it has dialled."""
        self.links[source][target].is_cut = False
        self._world.after(REDIAL_S, self._is_up, source, target)

    def restarted(self, node_id: NodeId) -> None:
        """A process was restarted: reset its connections."""
        for peer in range(len(self.links)):
            if peer != node_id:
                self.lost += self.links[node_id][peer].lose_what_waits() + self.links[peer][node_id].lose_what_waits()
                self._world.after(REDIAL_S, self._is_up, peer, node_id)

    def has_unsent(self, source: NodeId, target: NodeId) -> bool:
        """Return whether messages are queued at the sender, and not only in the network."""
        return self.links[source][target].unsent_bytes > self._queued_bytes

    def post(self, source: NodeId, target: NodeId, message: Message, standing: Standing) -> None:
        """Send from a node with this standing; it may never arrive."""
        if target >= len(self.links):
            return  # a node that is only in a wrong configuration
        link = self.links[source][target]
        if link.is_cut or (self._loss and self._chance() < self._loss):
            self.lost += 1
            return
        if self._damage and isinstance(message, SnapshotRequest) and self._chance() < self._damage:
            message = self._damaged(message)
        if link.bytes_s:
            self._wait(link, message, standing)
        else:
            self._fly(link, message, standing)
        if self._duplication and self._chance() < self._duplication:
            self.repeated += 1
            self._fly(link, message, standing)

    def _damaged(self, message: SnapshotRequest) -> SnapshotRequest:
        """Corrupt a byte of a chunk (a bad sector, bad memory); only the check of the whole file detects it."""
        data = bytearray(message.data)
        if data:
            data[self._random.randrange(len(data))] ^= 1 << self._random.randrange(8)
        return structs.replace(message, data=bytes(data))

    # -- narrow links ----------------------------------------------------------------------------------------------------

    def _wait(self, link: Link, message: Message, standing: Standing) -> None:
        """Queue it after unsent messages, as PeerLink.post does."""
        if message.term > link.term:
            link.term = message.term
            while len(link.waiting) > 1:  # unsent messages of an earlier term, but not the one being sent
                self._hit("narrow_old_term_dropped")
                link.unsent_bytes -= link.waiting.pop()[1]
                self.lost += 1
        if link.unsent_bytes > self._unsent_bytes and is_bulk(message):
            self._hit("narrow_bulk_dropped")
            self.lost += 1
            return
        size = len(encode_message(message))
        link.waiting.append((message, size, standing))
        link.unsent_bytes += size
        if len(link.waiting) == 1:
            self._send_first(link)
        else:
            self._hit("narrow_queue")

    def _send_first(self, link: Link) -> None:
        seconds = link.waiting[0][1] / link.bytes_s
        end = self._world.now + seconds
        if seconds > LONG_S:
            self._hit("narrow_long_message")
        first_s = max(BYTES_COME_S, LONG_BYTES / link.bytes_s)
        if seconds > first_s:
            self._world.after(first_s, self._bytes_come, link, link.connection, end)
        self._world.at(end, self._has_left, link, link.connection)

    def _bytes_come(self, link: Link, connection: int, end: float) -> None:
        if connection == link.connection:
            self._world.after(link.slow_s, self._bytes_are_there, link, connection)
            if self._world.now + BYTES_COME_S < end:
                self._world.after(BYTES_COME_S, self._bytes_come, link, connection, end)

    def _bytes_are_there(self, link: Link, connection: int) -> None:
        if connection == link.connection:
            link.bytes_come(link.source)

    def _has_left(self, link: Link, connection: int) -> None:
        if connection == link.connection:
            message, size, standing = link.waiting.popleft()
            link.unsent_bytes -= size
            self._fly(link, message, standing)
            if link.waiting:
                self._send_first(link)

    def _is_up(self, source: NodeId, target: NodeId) -> None:
        if not self.links[source][target].is_cut:
            self._link_up[source](target)

    # -- in flight -------------------------------------------------------------------------------------------------------

    def _fly(self, link: Link, message: Message, standing: Standing) -> None:
        delay = 0.0002 + self._chance() * 0.002
        if self._late and self._chance() < self._late:
            delay += min(5.0, self._random.expovariate(5))
        moment = self._world.now + (delay + link.slow_s)
        if self._keeps_order:
            if moment < link.last:
                moment = link.last
            link.last = moment
        self._world.at(moment, self._arrive, link, message, standing)

    def _arrive(self, link: Link, message: Message, standing: Standing) -> None:
        if link.is_cut:
            self.lost += 1
        else:
            link.inbox(message, standing)
