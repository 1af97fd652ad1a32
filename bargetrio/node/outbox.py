"""The links to a replica's peers, and their counters."""

import trio

from bargetrio.raft.messages import AppendRequest, Message, NodeId
from bargetrio.replica.figures import PeerFigures
from bargetrio.transport.peer_link import PeerLink


class PeerOutbox:
    """Implements `replica.ports.Outbox`. `links` and `figures` have an entry for each peer."""

    def __init__(self, links: dict[NodeId, PeerLink], figures: dict[NodeId, PeerFigures]) -> None:
        self.links = links
        self._figures = figures
        self._is_fenced = False

    def post(self, to: NodeId, message: Message) -> None:
        """Send or drop the message; a fenced node sends nothing."""
        if not self._is_fenced:
            if type(message) is AppendRequest:
                self._figures[to].append_sent(message, trio.current_time())
            self.links[to].post(message)

    def has_unsent(self, to: NodeId) -> bool:
        """Return whether the link has bytes that the kernel has not accepted yet."""
        return self.links[to].has_unsent

    def connection(self, to: NodeId) -> int:
        """Return how many connections there were to this peer."""
        return self.links[to].connections

    def redial(self) -> None:
        """Close all connections, and dial again."""
        for link in self.links.values():
            link.reset()

    def fence(self) -> None:
        """Send nothing more, and reset the connections."""
        self._is_fenced = True
        for link in self.links.values():
            link.abort()
