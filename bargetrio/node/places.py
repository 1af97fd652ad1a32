"""How many clients a node serves: below what the process may open, so that logs and snapshots always can.

When all places are taken a newcomer is refused in words, unless somebody has asked nothing for a while: then that connection
is closed for it. So a crowd that only stays keeps out nobody for long, least of all the daemons that carry REST's requests.
"""

from typing import Final

import trio

from bargetrio.node.clients import ClientSession
from bargetrio.transport.handshake import Refused

CLIENTS: Final = 20_000
"""Without another word: what a node is built for."""
IDLE_S: Final = 3.0
"""A client that has asked nothing for so long, since the places became short, may be closed for another."""
LOOK_S: Final = 0.5
"""Who has asked something is looked up at most so often."""


class ClientPlaces:
    """One node's. `admit` raises Refused; who was admitted must `enter` before anything else happens, and `leave`."""

    def __init__(self, most: int = CLIENTS) -> None:
        self._most = most
        self._idle_since: dict[ClientSession, float] = {}
        self._looked_at = float("-inf")

    def __len__(self) -> int:
        """Return how many places are taken."""
        return len(self._idle_since)

    def admit(self) -> None:
        """Find a place for one more client; raise Refused if there is none."""
        if len(self._idle_since) < self._most:
            return
        now = trio.current_time()
        if now - self._looked_at >= LOOK_S:
            self._looked_at = now
            for session in self._idle_since:
                if session.was_active:
                    session.was_active = False
                    self._idle_since[session] = now
        longest = min(self._idle_since, key=self._idle_since.__getitem__, default=None)
        if longest is None or longest.was_active or now - self._idle_since[longest] < IDLE_S:
            raise Refused("overloaded", f"{len(self._idle_since)} clients are connected to this node; it has no place for more")
        self.leave(longest)
        longest.close()

    def enter(self, session: ClientSession) -> None:
        """Take the place."""
        self._idle_since[session] = trio.current_time()

    def leave(self, session: ClientSession) -> None:
        """Give it back; twice is no error."""
        self._idle_since.pop(session, None)
