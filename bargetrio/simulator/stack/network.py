"""A network in memory: connections that split, delay, and die after any byte; implements transport's `Network`."""

import errno
import heapq
from collections.abc import Callable
from random import Random
from typing import Any

import trio

from bargetrio.transport.stream import Broken, Connection, Listener

Address = tuple[str, int]


class MemoryConnection:
    """One end of a connection."""

    def __init__(self, network: "MemoryNetwork") -> None:
        self.other: MemoryConnection
        self.is_closed = False
        self.dies_after: int | None = None
        """So many more bytes arrive here, then both ends are reset."""
        self.last_arrival = 0.0
        self._network = network
        self._inbox = bytearray()
        self._is_over = False
        self._is_reset = False
        self._bell = trio.Event()
        self._closed = trio.Event()

    # -- transport's Connection ------------------------------------------------------------------------------------------

    @property
    def unsent_bytes(self) -> int:
        """The network takes everything at once."""
        return 0

    def post(self, data: bytes) -> None:
        """Send in pieces, each with a delay of its own, in order."""
        if not self.is_closed:
            for piece in self._network.pieces(data):
                self._network.fly(self.other, self.other.arrive, piece)

    async def receive(self) -> bytes:
        """Return what has come."""
        while True:
            if self.is_closed:
                raise Broken("closed here")
            if self._is_reset:
                raise Broken("reset")
            if self._inbox:
                data = bytes(self._inbox)
                self._inbox.clear()
                await trio.lowlevel.checkpoint()
                return data
            if self._is_over:
                return b""
            await self._bell.wait()
            self._bell = trio.Event()

    async def write(self) -> None:
        """Nothing is ever left over."""
        await self._closed.wait()

    def finish(self) -> None:
        """Nothing more comes from here."""
        if not self.is_closed:
            self._network.fly(self.other, self.other.be_over)

    def close(self) -> None:
        """End it; unread bytes turn this into a reset."""
        if not self.is_closed:
            self._shut()
            self._network.fly(self.other, self.other.reset if self._inbox else self.other.be_over)

    def abort(self) -> None:
        """Reset it."""
        if not self.is_closed:
            self._shut()
            self._network.fly(self.other, self.other.reset)

    # -- what arrives ----------------------------------------------------------------------------------------------------

    def arrive(self, data: bytes) -> None:
        """Take bytes; die in their middle if that is planned."""
        if self.is_closed or self._is_reset:
            return
        if self.dies_after is not None:
            data = data[: self.dies_after]
            self.dies_after -= len(data)
        self._inbox += data
        self._bell.set()
        if self.dies_after == 0:
            self.reset()
            self.other.reset()

    def be_over(self) -> None:
        """The other side has finished."""
        self._is_over = True
        self._bell.set()

    def reset(self) -> None:
        """The connection is broken; what was not read is gone."""
        self._is_reset = True
        self._inbox.clear()
        self._bell.set()

    def _shut(self) -> None:
        self.is_closed = True
        self._network.forget(self)
        self._bell.set()
        self._closed.set()


class MemoryListener:
    """A bound port."""

    def __init__(self, network: "MemoryNetwork", address: Address) -> None:
        self._network = network
        self._address = address
        self._waiting: list[MemoryConnection] = []
        self._is_closed = False
        self._bell = trio.Event()

    async def accept(self) -> Connection:
        """Return the next connection."""
        while True:
            if self._is_closed:
                raise Broken("closed here")
            if self._waiting:
                await trio.lowlevel.checkpoint()
                return self._waiting.pop(0)
            await self._bell.wait()
            self._bell = trio.Event()

    def close(self) -> None:
        """Refuse from now on; who was not accepted is reset."""
        if not self._is_closed:
            self._is_closed = True
            self._network.unbind(self._address)
            for connection in self._waiting:
                connection.abort()
            self._bell.set()

    def arrive(self, connection: MemoryConnection) -> None:
        """Somebody dialled."""
        self._waiting.append(connection)
        self._bell.set()


class MemoryNetwork:
    """Where addresses lead. `run` moves the bytes."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._listeners: dict[Address, MemoryListener] = {}
        self._open: dict[MemoryConnection, None] = {}
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._planned = 0
        self._bell = trio.Event()

    async def listen(self, host: str, port: int) -> Listener:
        """Bind."""
        address = (host, port)
        if address in self._listeners:
            raise OSError(errno.EADDRINUSE, f"can't listen on {host}:{port}: in use")
        listener = self._listeners[address] = MemoryListener(self, address)
        await trio.lowlevel.checkpoint()
        return listener

    async def connect(self, host: str, port: int) -> Connection:
        """Dial; takes a moment."""
        await trio.sleep(self._random.uniform(0.0002, 0.004))
        listener = self._listeners.get((host, port))
        if listener is None:
            raise OSError(errno.ECONNREFUSED, f"{host}:{port} does not answer")
        near, far = MemoryConnection(self), MemoryConnection(self)
        near.other, far.other = far, near
        self._open[near] = self._open[far] = None
        listener.arrive(far)
        return near

    async def run(self) -> None:
        """Carry until cancelled."""
        while True:
            until = self._heap[0][0] if self._heap else float("inf")
            with trio.move_on_at(until):
                await self._bell.wait()
            self._bell = trio.Event()
            while self._heap and self._heap[0][0] <= trio.current_time():
                _, _, action, arguments = heapq.heappop(self._heap)
                action(*arguments)

    def cut_one(self) -> None:
        """Let one of the open connections die after some byte."""
        if self._open:
            connection = self._random.choice(list(self._open))
            connection.dies_after = self._random.choice((0, 1, self._random.randint(1, 300), self._random.randint(1, 5000)))
            connection.arrive(b"")

    def pieces(self, data: bytes) -> list[bytes]:
        """Return the pieces in which `data` travels."""
        if self._random.random() < 0.7 or len(data) < 2:
            return [data]
        place = self._random.randrange(1, len(data))
        return [data[:place], data[place:]]

    def fly(self, to: MemoryConnection, action: Callable[..., None], *arguments: Any) -> None:
        """Do it at the other end, after all that was sent there before."""
        moment = trio.current_time() + self._random.uniform(0.0001, 0.002)
        to.last_arrival = max(moment, to.last_arrival)
        self._planned += 1
        heapq.heappush(self._heap, (to.last_arrival, self._planned, action, arguments))
        self._bell.set()

    def forget(self, connection: MemoryConnection) -> None:
        """It is closed."""
        self._open.pop(connection, None)

    def unbind(self, address: Address) -> None:
        """The port refuses."""
        self._listeners.pop(address, None)
