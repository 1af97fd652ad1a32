"""How much memory the clients of a process may occupy together: one budget in bytes, over all connections of all its nodes.

Bounds of one connection do not bound a thousand of them. Counted is what a client decides: the beginning of a line whose end has
not come, requests that are not answered, and answers that it has not taken.

```
ANSWER_BYTES of answers not taken    reads wait; meanwhile who takes almost nothing is cut
CLIENT_BYTES of all three            who has occupied the most for the longest is refused
```
So a client pays for what it occupies itself. Those who send whole lines and take their answers are seldom met by either.
"""

import logging
from typing import Final, Protocol

import trio

from bargetrio.replica.requests import AnswerRoom

log = logging.getLogger(__name__)

CLIENT_BYTES: Final = 128 * 1024 * 1024
"""What all clients of a process may occupy; beyond it some are refused, until it is an eighth less."""
ANSWER_BYTES: Final = 64 * 1024 * 1024
"""Answers that were not taken, of all clients of a process; beyond it no read is looked up, but for what a step has begun."""
LOOK_S: Final = 0.5
"""Seconds between two looks at who takes answers, while reads wait for room."""
TAKEN_BYTES_PER_S: Final = 16 * 1024
"""Who takes less while others wait is cut."""
TELL_S: Final = 10.0
"""Shortest time in seconds between two log lines about clients that were refused."""


class Holder(Protocol):
    """A client's connection, as the budget sees it."""

    held_bytes: int
    """What it occupies."""
    since: int
    """The budget's clock when it last had brought a line to its end, or taken answers."""

    @property
    def taken_bytes(self) -> int | None:
        """How many bytes of answers the client's system has acknowledged, counted from anywhere; None if it owes none."""
        ...

    def refuse(self) -> None:
        """End the connection, with a word if the client reads."""
        ...


class ClientMemory:
    """One for all nodes of a process; used in one thread."""

    def __init__(self, most_bytes: int = CLIENT_BYTES, answer_bytes: int = ANSWER_BYTES) -> None:
        self.used_bytes = 0
        """What those that have entered and not left occupy."""
        self.clock = 0
        """How many bytes were ever brought in: the age of what a client occupies is what others have brought meanwhile."""
        self.answers = AnswerRoom(answer_bytes)
        self._most_bytes = most_bytes
        self._holders: dict[Holder, None] = {}
        self._seen: dict[Holder, int] = {}
        """Who owed answers at the last look while reads waited, and its `taken_bytes` then."""
        self._looked_at = self._told_at = float("-inf")

    def enter(self, holder: Holder) -> None:
        """Count it from now on."""
        holder.since = self.clock
        self._holders[holder] = None

    def leave(self, holder: Holder) -> None:
        """Count it no more: its requests end within their time. Twice is no error."""
        if holder in self._holders:
            del self._holders[holder]
            self.used_bytes -= holder.held_bytes
            self.answers.waiting.pop(holder, None)

    def change(self, holder: Holder, held_bytes: int, unsent_bytes: int) -> None:
        """Note that it occupies so many bytes more than before, and that so many more of its answers are not taken."""
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
        """Look every LOOK_S until cancelled; each node of the process may."""
        while True:
            await trio.sleep(LOOK_S)
            now = trio.current_time()
            if now - self._looked_at >= LOOK_S / 2:
                self._looked_at = now
                self.look()

    def look(self) -> None:
        """While reads wait for room, cut those who have taken almost nothing since the last look."""
        answers, before = self.answers, self._seen
        self._seen = {}
        if not answers.waiting:
            return
        for holder in self._holders:
            if (taken := holder.taken_bytes) is not None:
                self._seen[holder] = taken
        least = TAKEN_BYTES_PER_S * LOOK_S
        slow = [holder for holder, taken in self._seen.items() if holder in before and taken - before[holder] < least]
        if answers.free <= 0:
            for holder in slow:
                self._refuse(holder)
        answers.resume()

    def _make_room(self) -> None:
        """Refuse those who have occupied the most for the longest."""
        clock = self.clock
        excess = self.used_bytes - (self._most_bytes - self._most_bytes // 8)
        for holder in sorted(self._holders, key=lambda holder: holder.held_bytes * (clock - holder.since), reverse=True):
            if excess <= 0:
                break
            excess -= holder.held_bytes
            self._refuse(holder)

    def _refuse(self, holder: Holder) -> None:
        self.leave(holder)
        holder.refuse()
        now = trio.current_time()
        if now - self._told_at >= TELL_S:
            self._told_at = now
            log.warning("clients occupy too much memory (%d MiB): some are refused", self.used_bytes >> 20)
