"""The memory budget of all clients of a process, in bytes, over all connections of all its nodes.

Bounds per connection do not bound a thousand connections. The budget counts what clients control: incomplete lines, requests in
flight, and answers that were not received.

```
ANSWER_BYTES of unreceived answers   reads wait; meanwhile clients that receive almost nothing are disconnected
CLIENT_BYTES of all three            the client that has occupied the most for the longest is refused
```
So the clients that occupy memory are affected; those that send complete lines and receive their answers rarely are.
"""

import logging
from typing import Final, Protocol

import trio

from bargetrio.replica.sessions import AnswerRoom

log = logging.getLogger(__name__)

CLIENT_BYTES: Final = 128 * 1024 * 1024
"""Bound for all clients of a process; beyond it some are refused, until usage is lower by a share of it (FREED_PART)."""
ANSWER_BYTES: Final = 64 * 1024 * 1024
"""Bound for unreceived answers of all clients of a process; beyond it no read is executed, except by a step that has begun."""
POLL_S: Final = 0.5
"""Seconds between two checks of which clients receive answers, while reads wait."""
TAKEN_BYTES_PER_S: Final = 16 * 1024
"""A client that receives more slowly while others wait is disconnected."""
WARN_S: Final = 10.0
"""Shortest time in seconds between two log lines about clients that were refused."""
FREED_PART: Final = 8
"""Refusing ends when usage is below CLIENT_BYTES by 1/FREED_PART of it."""


class Holder(Protocol):
    """A client's connection, for the budget."""

    held_bytes: int
    """What it occupies."""
    since: int
    """The budget's clock when it last completed a line or received answers."""

    @property
    def taken_bytes(self) -> int | None:
        """How many bytes of answers the client's host has acknowledged, from any starting point; None if none are outstanding."""
        ...

    def refuse(self) -> None:
        """End the connection, after an error line if the client reads."""
        ...


class ClientMemory:
    """The budget of a process, shared by its nodes; used in one thread."""

    def __init__(self, most_bytes: int = CLIENT_BYTES, answer_bytes: int = ANSWER_BYTES) -> None:
        self.used_bytes = 0
        """The bytes that all present connections occupy."""
        self.clock = 0
        """All bytes ever received: the age of what a client occupies is what others have sent since."""
        self.answers = AnswerRoom(answer_bytes)
        self._most_bytes = most_bytes
        self._holders: dict[Holder, None] = {}
        self._seen: dict[Holder, int] = {}
        """The connections with unreceived answers at the last check while reads waited, and their `taken_bytes` then."""
        self._looked_at = self._warned_at = float("-inf")

    def enter(self, holder: Holder) -> None:
        """Add a connection."""
        holder.since = self.clock
        self._holders[holder] = None

    def leave(self, holder: Holder) -> None:
        """Remove a connection; its requests end within their time-out. Idempotent."""
        if holder in self._holders:
            del self._holders[holder]
            self.used_bytes -= holder.held_bytes
            self.answers.waiting.pop(holder, None)

    def change(self, holder: Holder, held_bytes: int, unsent_bytes: int) -> None:
        """Add to the bytes that it occupies, and to those of its unreceived answers."""
        holder.held_bytes += held_bytes
        self.answers.free -= unsent_bytes
        if holder in self._holders:
            self.used_bytes += held_bytes
            if held_bytes > 0:
                self.clock += held_bytes
                if self.used_bytes > self._most_bytes:
                    self._make_room()
        if unsent_bytes < 0 and self.answers.waiting:
            self.answers.resume()

    async def watch(self) -> None:
        """Check every POLL_S until cancelled; may be run by each node of the process."""
        while True:
            await trio.sleep(POLL_S)
            now = trio.current_time()
            if now - self._looked_at >= POLL_S / 2:
                self._looked_at = now
                self.look()

    def look(self) -> None:
        """While reads wait, disconnect clients that have received almost nothing since the last check."""
        answers, before = self.answers, self._seen
        self._seen = {}
        if not answers.waiting:
            return
        for holder in self._holders:
            if (taken := holder.taken_bytes) is not None:
                self._seen[holder] = taken
        least = TAKEN_BYTES_PER_S * POLL_S
        slow = [holder for holder, taken in self._seen.items() if holder in before and taken - before[holder] < least]
        if answers.free <= 0:
            for holder in slow:
                self._refuse(holder)
        answers.resume()

    def _make_room(self) -> None:
        """Refuse the clients that have occupied the most for the longest."""
        clock = self.clock
        excess = self.used_bytes - (self._most_bytes - self._most_bytes // FREED_PART)
        for holder in sorted(self._holders, key=lambda holder: holder.held_bytes * (clock - holder.since), reverse=True):
            if excess <= 0:
                break
            excess -= holder.held_bytes
            self._refuse(holder)

    def _refuse(self, holder: Holder) -> None:
        self.leave(holder)
        holder.refuse()
        now = trio.current_time()
        if now - self._warned_at >= WARN_S:
            self._warned_at = now
            log.warning("clients occupy too much memory (%d MiB): some are refused", self.used_bytes >> 20)
