"""The network port: listening, connecting, and connections.

sockets.py implements it with TCP, simulator/stack/network.py in memory.
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
        """How many bytes were posted and are not sent yet."""
        ...

    def kernel_bytes(self) -> int:
        """Return how many bytes that were sent the other side's system has not acknowledged."""
        ...

    def post(self, data: bytes) -> None:
        """Send now or later, in order; never blocks. On a broken connection the bytes are lost."""
        ...

    async def receive(self) -> bytes:
        """Return some bytes, b"" at the end; raise Broken."""
        ...

    async def write(self) -> None:
        """The writer task: sends what `post` could not. Returns when the connection is closed or broken."""
        ...

    def finish(self) -> None:
        """Half-close: send nothing more; posted bytes that fit the kernel's buffer still arrive."""
        ...

    def close(self) -> None:
        """Close in both directions; with unread received bytes this is a reset."""
        ...

    def abort(self) -> None:
        """Reset: the other side gets an error, not an end of stream."""
        ...


class Listener(Protocol):
    """A bound port."""

    async def accept(self) -> Connection:
        """Return the next connection; raise Broken once closed, OSError if accepting one connection failed."""
        ...

    def close(self) -> None:
        """Unbind: the port refuses connections from now on."""
        ...


class Network(Protocol):
    """Listens on and connects to addresses (host, port)."""

    async def listen(self, host: str, port: int) -> Listener:
        """Bind; raise OSError."""
        ...

    async def connect(self, host: str, port: int) -> Connection:
        """Dial; raise OSError."""
        ...
