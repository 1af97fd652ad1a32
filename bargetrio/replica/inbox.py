"""The input of a replica, queued for its next step.

It is created before the replica and used by it alone: connections, the log's writer and jobs refer to the inbox, not to the
replica.
"""

from collections import deque
from collections.abc import Callable
from typing import Final

from bargetrio.raft.core import Core
from bargetrio.raft.messages import Message, NodeId
from bargetrio.replica.ports import Wake
from bargetrio.replica.sessions import Batch, Session

Then = Callable[[Core, float], None]
"""A call of the core in the next step; the float is its time."""

MESSAGES_BYTES: Final = 16 * 1024 * 1024
"""Bytes of queued messages of all peers, beyond which no peer is read: a leader sends less ahead (`Pipeline.window_bytes`)."""
MESSAGE_BYTES: Final = 512
"""What a queued message is counted with beside its line."""


class Inbox:
    """Methods are called in the replica's thread, `write_ended_threadsafe` in any; none blocks.

    Only the replica reads the queues.
    """

    def __init__(self, wake: Wake) -> None:
        self.wake = wake
        self.messages: deque[tuple[Message, int]] = deque()
        """Each with the bytes that it is counted with."""
        self.messages_bytes = 0
        """Of all of them, together."""
        self.when_room: list[Callable[[], None]] = []
        self.requests: deque[tuple[Session, Batch]] = deque()
        self.writes: deque[tuple[int, OSError | None]] = deque()
        """Writes that have ended: their numbers, and why they failed."""
        self.calls: deque[Then] = deque()
        self.sessions_with_room: list[Session] = []
        """Sessions whose deferred reads may be executed now."""
        self.failure: OSError | None = None
        """Why the disk has failed; None if it has not."""

    @property
    def is_empty(self) -> bool:
        """Whether all queues are empty."""
        return not (
            self.messages or self.requests or self.writes or self.calls or self.failure is not None or self.sessions_with_room
        )

    def take_message(self, message: Message, size: int = 0) -> None:
        """Queue a peer's validated message of `size` bytes; the caller wakes the replica after the last one received with it."""
        self.messages.append((message, size))
        self.messages_bytes += size

    @property
    def has_room(self) -> bool:
        """Whether peers may be read: the messages that wait are not too many."""
        return self.messages_bytes <= MESSAGES_BYTES

    def call_when_there_is_room(self, then: Callable[[], None]) -> None:
        """Call `then` once a step has taken enough messages that peers may be read; for use while there is no room."""
        self.when_room.append(then)

    def resume_peers(self) -> None:
        """Have those that wait for room be read, if there is some; for the replica."""
        if self.has_room:
            waiting, self.when_room = self.when_room, []
            for then in waiting:
                then()

    def drop_messages(self) -> None:
        """Drop all that wait; for the replica."""
        self.messages.clear()
        self.messages_bytes = 0
        self.resume_peers()

    def bytes_received(self, peer_id: NodeId) -> None:
        """Queue that a part of a peer's long message has arrived; the caller wakes the replica, as for `take_message`."""
        self.calls.append(lambda core, now: core.bytes_received(peer_id, now))

    def take_requests(self, session: Session, batch: Batch) -> None:
        """Queue a client's validated requests; the caller wakes the replica, as for `take_message`."""
        self.requests.append((session, batch))

    def write_ended_threadsafe(self, number: int, failure: OSError | None) -> None:
        """Queue the end of a write of the log, and wake the replica; for other threads than the replica's."""
        self.writes.append((number, failure))
        self.wake()

    def write_ended(self, number: int, failure: OSError | None) -> None:
        """Queue the end of a write of the log; within a step or just before one, so that nothing need be woken."""
        self.writes.append((number, failure))

    def call(self, then: Then) -> None:
        """Queue a call of the core for the next step, as at the end of a job or when a link is up, and wake the replica."""
        self.calls.append(then)
        self.wake()

    def disk_failed(self, failure: OSError) -> None:
        """End the replica: a snapshot or `meta` could not be written or read, so the disk has failed."""
        self.failure = failure
        self.wake()

    def session_has_room(self, session: Session) -> None:
        """Queue a session's deferred reads for the next step, and wake the replica."""
        self.sessions_with_room.append(session)
        self.wake()
