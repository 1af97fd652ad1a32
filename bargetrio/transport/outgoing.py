"""The send buffer of one connection: bytes that its socket has not accepted yet, in order.

A send may accept any part of its data. Real and simulated sockets share this code, so that the simulator tests it with sends of
one byte.
"""

from collections.abc import Callable
from typing import Final

SEND_BYTES: Final = 1 << 20
"""Offered to one send."""
ROOM_BYTES: Final = 512 * 1024
"""With less than this unsent, the connection has room again."""

Send = Callable[[bytes | memoryview], int]
"""A socket's `send`: takes one byte at least and returns how many it took; raises BlockingIOError where it takes none."""


class Outgoing:
    """The unsent bytes of one connection.

    `unsent` stays the same object, so that its length can be read without a method call. `on_room` is called whenever a `push`
    has left less than ROOM_BYTES unsent, and when the connection is closed.
    """

    __slots__ = ("_send", "on_room", "pushed_bytes", "unsent")

    def __init__(self, send: Send) -> None:
        self._send = send
        self.unsent = bytearray()
        self.pushed_bytes = 0
        """What `push` has sent."""
        self.on_room: Callable[[], None] | None = None

    def __len__(self) -> int:
        """Return how many bytes are unsent."""
        return len(self.unsent)

    def post(self, data: bytes) -> bool:
        """Send, and keep the rest; return whether the writer must be woken. Raises OSError."""
        if self.unsent:
            self.unsent += data
            return False
        try:
            sent = self._send(data)
        except BlockingIOError:
            sent = 0
        if sent == len(data):
            return False
        self.unsent += memoryview(data)[sent:]
        return True

    def push(self) -> None:
        """Send once more, when the socket may be writable. Raises OSError."""
        try:
            with memoryview(self.unsent) as view, view[:SEND_BYTES] as offered:
                sent = self._send(offered)
        except BlockingIOError:
            return
        del self.unsent[:sent]
        self.pushed_bytes += sent
        if self.on_room is not None and len(self.unsent) < ROOM_BYTES:
            self.on_room()

    def drop_lines(self) -> int:
        """Drop the unsent lines after the one that may be partly sent; return how many."""
        begun = self.unsent.find(b"\n") + 1
        if not begun:
            return 0
        count = self.unsent.count(b"\n", begun)
        del self.unsent[begun:]
        return count

    def drop(self) -> None:
        """Drop everything: the connection is closed."""
        self.unsent.clear()
        if self.on_room is not None:
            self.on_room()
