"""A client's connection that takes only so many bytes."""

from typing import Any

import msgspec
import trio

from bargetrio.transport.outgoing import Outgoing


class Pipe:
    """A connection whose client reads as much as the test lets it."""

    def __init__(self) -> None:
        self.taken = bytearray()
        self.room = 0
        self.is_aborted = False
        self.outgoing = Outgoing(self._send)
        self.has_left = trio.Event()
        self.data: list[bytes] = []

    def _send(self, data: bytes | memoryview) -> int:
        count = min(self.room, len(data))
        if not count:
            raise BlockingIOError
        self.room -= count
        self.taken += data[:count]
        return count

    @property
    def unsent_bytes(self) -> int:
        return len(self.outgoing)

    def kernel_bytes(self) -> int:
        return 0

    def post(self, data: bytes) -> None:
        self.outgoing.post(data)

    def read(self, count: int) -> None:
        """Let the client read so much."""
        self.room = count
        while self.room and self.outgoing:
            self.outgoing.push()

    async def receive(self) -> bytes:
        if not self.data:
            await self.has_left.wait()
            return b""
        await trio.lowlevel.checkpoint()
        return self.data.pop(0)

    def abort(self) -> None:
        self.is_aborted = True

    async def write(self) -> None: ...
    def finish(self) -> None: ...
    def close(self) -> None: ...

    def answers(self) -> list[Any]:
        """Return what the client has read, line by line."""
        return [msgspec.json.decode(line) for line in bytes(self.taken).split(b"\n")[:-1]]
