"""How many clients a node serves: fewer than the descriptors that the process may open, so that log and snapshots have theirs.

When all places are taken a new client is refused with the reason, unless one of the others has sent no request for a while: then
that connection is closed for the new one. Idle connections keep no other out for long, not even the daemons that forward REST's
requests.
"""

from collections import OrderedDict
from typing import Final

import trio

from bargetrio.node.clients import ClientSession
from bargetrio.transport.handshake import HandshakeRefused

CLIENTS: Final = 20_000
"""The default: what a node is built for."""
IDLE_S: Final = 3.0
"""Seconds without a request, counted from when the places became short, after which a client may be closed for another."""
POLL_S: Final = 0.5
"""Shortest time in seconds between two checks of which clients have sent a request; a check iterates over all of them."""


class ClientPlaces:
    """The places of one node's clients: a session that was admitted must `enter` before the next await, `leave` at its end."""

    def __init__(self, most: int = CLIENTS) -> None:
        self._most = most
        self._idle_since: OrderedDict[ClientSession, float] = OrderedDict()
        """In trio's time, the longest idle first, so that a refusal is cheap."""
        self._looked_at = float("-inf")

    def __len__(self) -> int:
        """Return how many places are in use."""
        return len(self._idle_since)

    def admit(self) -> None:
        """Find a place for another client; raise HandshakeRefused if there is none."""
        if len(self._idle_since) < self._most:
            return
        now = trio.current_time()
        if now - self._looked_at >= POLL_S:
            self._looked_at = now
            for session in list(self._idle_since):
                if session.was_active:
                    session.was_active = False
                    self._idle_since[session] = now
                    self._idle_since.move_to_end(session)
        longest = next(iter(self._idle_since), None)
        if longest is None or longest.was_active or now - self._idle_since[longest] < IDLE_S:
            raise HandshakeRefused("overloaded", f"{len(self._idle_since)} clients are connected to this node; it takes no more")
        self.leave(longest)
        longest.close()

    def enter(self, session: ClientSession) -> None:
        """Occupy the place."""
        self._idle_since[session] = trio.current_time()

    def leave(self, session: ClientSession) -> None:
        """Free the place. Idempotent."""
        self._idle_since.pop(session, None)
