"""What moves bytes, as the other files see it: a network that listens and connects, and its connections.

sockets.py is the real form; the simulator's is simulator/stack/network.py.
"""

from typing import Protocol

from bargetrio.transport.outgoing import Outgoing


class Broken(Exception):
    """The connection was reset, or closed at this end."""


class Connection(Protocol):
    """Bytes in both directions."""

    outgoing: Outgoing
    """The bytes that were posted and that the kernel has not taken yet."""

    @property
    def unsent_bytes(self) -> int:
        """Its length."""
        ...

    def kernel_bytes(self) -> int:
        """Return how many bytes that were sent the other side's system has not acknowledged."""
        ...

    def post(self, data: bytes) -> None:
        """Send now or soon, in order; never waits. On a broken connection the bytes are lost."""
        ...

    async def receive(self) -> bytes:
        """Return some bytes, b"" at the end; raise Broken."""
        ...

    async def write(self) -> None:
        """The writer task: sends what `post` could not. Returns when the connection is closed or broken."""
        ...

    def finish(self) -> None:
        """Say that nothing more comes from us; what was posted and fits the kernel's buffer still arrives."""
        ...

    def close(self) -> None:
        """End it in both directions; bytes that came and were not read turn this into a reset."""
        ...

    def abort(self) -> None:
        """Reset it: the other side sees an error, not an end."""
        ...


class Listener(Protocol):
    """A bound port."""

    async def accept(self) -> Connection:
        """Return the next connection; raise Broken once closed, OSError where only this one can't be had."""
        ...

    def close(self) -> None:
        """Unbind: the port refuses from now on."""
        ...


class Network(Protocol):
    """Where addresses ("host", port) lead."""

    async def listen(self, host: str, port: int) -> Listener:
        """Bind; raise OSError."""
        ...

    async def connect(self, host: str, port: int) -> Connection:
        """Dial; raise OSError."""
        ...
