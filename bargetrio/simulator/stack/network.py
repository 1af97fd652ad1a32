"""A network in memory: connections that split, delay, and break after any byte; implements transport's `Network`.

Sends are half taken and reads are short, as the kernel may do it. Now and then a connection takes only as many bytes as
the other side has read.
"""

import errno
import heapq
from collections.abc import Callable
from random import Random
from typing import Any, Final

import trio

from bargetrio.simulator.plan import ELECTION_S
from bargetrio.transport import peer_link
from bargetrio.transport.network import Broken, Connection, Listener
from bargetrio.transport.outgoing import Outgoing

Address = tuple[str, int]
LARGE_WINDOW: Final = 4 * 1024 * 1024
SMALL_WINDOW: Final = (2_000, 60_000)
NARROW_WINDOW: Final = 20_000
"""Most unread bytes of a connection with a bandwidth; the rest waits at the sender."""
NARROW_S: Final = 0.02
"""Interval at which bytes of a connection with a bandwidth arrive."""
STILL_RECEIVING: Final = b'{"type":"still_receiving"'
BULK: Final = (b'{"type":"append_request"', b'{"type":"snapshot_request"')


class MemoryConnection:
    """One end of a connection."""

    def __init__(self, network: "MemoryNetwork") -> None:
        self.other: MemoryConnection
        self.is_closed = False
        self.dies_after: int | None = None
        """After this many more bytes have arrived here, both ends are reset; None: never."""
        self.last_arrival = 0.0
        self.bytes_s = network.bandwidth()
        """What arrives here in a second at most, 0 if that has no bound."""
        self.outgoing = Outgoing(self._take)
        self._network = network
        self._window = network.window()
        """Most bytes that were accepted and not read by the other side."""
        self._under_way = 0
        self._wake = trio.Event()
        self._writable = trio.Event()
        self._inbox = bytearray()
        self._is_over = False
        self._is_reset = False
        self._wake_up = trio.Event()

    # -- transport's Connection ------------------------------------------------------------------------------------------

    @property
    def unsent_bytes(self) -> int:
        """Bytes that the network has not accepted."""
        return len(self.outgoing)

    def kernel_bytes(self) -> int:
        """0: there is no kernel."""
        return 0

    def post(self, data: bytes) -> None:
        """Send some of it now; the writer task sends the rest."""
        if not self.is_closed:
            if data.startswith(STILL_RECEIVING):
                self._network.hit("still_receiving")
            try:
                if self.outgoing.post(data):
                    self._wake.set()
                if len(self.outgoing) > peer_link.UNSENT_BYTES and data.startswith(BULK):
                    self._network.hit("unsent_bound_reached")
            except OSError:
                self.abort()

    async def receive(self) -> bytes:
        """Return received bytes."""
        while True:
            if self.is_closed:
                raise Broken("closed here")
            if self._is_reset:
                raise Broken("reset")
            if self._inbox:
                count = self._network.share_of(len(self._inbox))
                data = bytes(self._inbox[:count])
                del self._inbox[:count]
                self.other.was_read(count)
                await trio.lowlevel.checkpoint()
                return data
            if self._is_over:
                return b""
            await self._wake_up.wait()
            self._wake_up = trio.Event()

    async def write(self) -> None:
        """Send the rest of `post`, as the other side reads."""
        while not self.is_closed:
            await self._wake.wait()
            self._wake = trio.Event()
            try:
                while self.outgoing and not self.is_closed:
                    await trio.sleep(self._network.pause())
                    if self._under_way >= self._window and not (self._is_reset or self.is_closed):
                        self._writable = trio.Event()
                        await self._writable.wait()
                    if self.outgoing:
                        self.outgoing.push()
            except OSError:
                self.abort()

    def finish(self) -> None:
        """Half-close."""
        if not self.is_closed:
            self._network.fly(self.other, self.other.be_over)

    def close(self) -> None:
        """End it; with unread bytes this becomes a reset."""
        if not self.is_closed:
            self._shut()
            self._network.fly(self.other, self.other.reset if self._inbox else self.other.be_over)

    def abort(self) -> None:
        """Reset it."""
        if not self.is_closed:
            self._shut()
            self._network.fly(self.other, self.other.reset)

    # -- arrivals --------------------------------------------------------------------------------------------------------

    def arrive(self, data: bytes) -> None:
        """Receive bytes; break within them if that is planned."""
        if self.is_closed:
            self._network.fly(self.other, self.other.reset)
        if self.is_closed or self._is_reset:
            return
        if self.dies_after is not None:
            data = data[: self.dies_after]
            self.dies_after -= len(data)
        self._inbox += data
        self._wake_up.set()
        if self.dies_after == 0:
            self.reset()
            self.other.reset()

    def be_over(self) -> None:
        """The other side has finished."""
        self._is_over = True
        self._wake_up.set()

    def reset(self) -> None:
        """The connection is broken; unread bytes are lost."""
        self._is_reset = True
        self._inbox.clear()
        self._wake_up.set()
        self._wake.set()
        self._writable.set()

    def was_read(self, count: int) -> None:
        """The other side has read `count` bytes of what was sent here."""
        self._under_way -= count
        self._writable.set()

    def _take(self, data: bytes | memoryview) -> int:
        """Take any part of it, as a socket's send does."""
        if self._is_reset:
            raise ConnectionResetError(errno.ECONNRESET, "reset")
        bytes_s = self.other.bytes_s
        room = min(len(data), (NARROW_WINDOW if bytes_s else self._window) - self._under_way)
        if room <= 0:
            if bytes_s:
                self._network.hit("narrow_queue")
            raise BlockingIOError
        count = self._network.share_of(room)
        self._under_way += count
        for piece in self._network.pieces(bytes(data[:count])):
            if bytes_s:
                self._network.trickle(self.other, piece)
            else:
                self._network.fly(self.other, self.other.arrive, piece)
        return count

    def _shut(self) -> None:
        self.is_closed = True
        self._network.forget(self)
        self.outgoing.drop()
        self._wake_up.set()
        self._wake.set()
        self._writable.set()


class MemoryListener:
    """A bound port."""

    def __init__(self, network: "MemoryNetwork", address: Address) -> None:
        self._network = network
        self._address = address
        self._waiting: list[MemoryConnection] = []
        self._is_closed = False
        self._wake_up = trio.Event()

    async def accept(self) -> Connection:
        """Return the next connection."""
        while True:
            if self._is_closed:
                raise Broken("closed here")
            if self._waiting:
                await trio.lowlevel.checkpoint()
                return self._waiting.pop(0)
            await self._wake_up.wait()
            self._wake_up = trio.Event()

    def close(self) -> None:
        """Refuse from now on; connections that were not accepted are reset."""
        if not self._is_closed:
            self._is_closed = True
            self._network.unbind(self._address)
            for connection in self._waiting:
                connection.abort()
            self._wake_up.set()

    def arrive(self, connection: MemoryConnection) -> None:
        """A connection was dialled."""
        self._waiting.append(connection)
        self._wake_up.set()


class MemoryNetwork:
    """Listeners by address. `run` moves the bytes. `hit` counts rare situations (goals.py)."""

    def __init__(self, random: Random, hit: Callable[..., None] = lambda *goals: None) -> None:
        self.hit = hit
        self._random = random
        self._listeners: dict[Address, MemoryListener] = {}
        self._open: dict[MemoryConnection, None] = {}
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._planned = 0
        self._wake_up = trio.Event()
        self._is_narrow = False

    async def listen(self, host: str, port: int) -> Listener:
        """Bind."""
        address = (host, port)
        if address in self._listeners:
            raise OSError(errno.EADDRINUSE, f"can't listen on {host}:{port}: in use")
        await trio.lowlevel.checkpoint()  # before it is bound: if cancelled afterwards it would stay bound
        listener = self._listeners[address] = MemoryListener(self, address)
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
        """Move bytes until cancelled."""
        while True:
            until = self._heap[0][0] if self._heap else float("inf")
            with trio.move_on_at(until):
                await self._wake_up.wait()
            self._wake_up = trio.Event()
            while self._heap and self._heap[0][0] <= trio.current_time():
                _, _, action, arguments = heapq.heappop(self._heap)
                action(*arguments)

    def cut_one(self) -> None:
        """Break one of the open connections after some byte."""
        if self._open:
            connection = self._random.choice(list(self._open))
            connection.dies_after = self._random.choice((0, 1, self._random.randint(1, 300), self._random.randint(1, 5000)))
            connection.arrive(b"")

    def narrow(self, *, is_narrow: bool) -> None:
        """Give all connections a bandwidth, those dialled from now on, too; or take it from them."""
        self._is_narrow = is_narrow
        for connection in self._open:
            connection.bytes_s = self.bandwidth()

    def bandwidth(self) -> float:
        """Return what a connection carries in a second: 0.1 to 100 Mbit/s while all are narrow, else 0."""
        return float(12_500 * 1000 ** self._random.random()) if self._is_narrow else 0.0

    def window(self) -> int:
        """Return how many unread bytes a connection takes."""
        return self._random.randint(*SMALL_WINDOW) if self._random.random() < 0.1 else LARGE_WINDOW

    def share_of(self, count: int) -> int:
        """Return how many of `count` bytes a send takes or a read returns: mostly all, one at least."""
        if self._random.random() < 0.8 or count < 2:
            return count
        return self._random.choice((1, self._random.randint(1, count)))

    def pause(self) -> float:
        """Return how long it takes until a send is tried again."""
        return self._random.uniform(0, 0.001)

    def pieces(self, data: bytes) -> list[bytes]:
        """Return the pieces in which `data` travels."""
        if self._random.random() < 0.7 or len(data) < 2:
            return [data]
        place = self._random.randrange(1, len(data))
        return [data[:place], data[place:]]

    def trickle(self, to: MemoryConnection, data: bytes) -> None:
        """Have the bytes arrive in small parts, as fast as the connection carries them."""
        part = max(1, int(to.bytes_s * NARROW_S))
        for place in range(0, len(data), part):
            to.last_arrival = max(trio.current_time(), to.last_arrival) + len(data[place : place + part]) / to.bytes_s
            self.fly(to, to.arrive, data[place : place + part])
        if to.last_arrival - trio.current_time() > ELECTION_S[1]:
            self.hit("narrow_late")

    def fly(self, to: MemoryConnection, action: Callable[..., None], *arguments: Any) -> None:
        """Do it at the other end, after all that was sent there before."""
        moment = trio.current_time() + self._random.uniform(0.0001, 0.002)
        to.last_arrival = max(moment, to.last_arrival)
        self._planned += 1
        heapq.heappush(self._heap, (to.last_arrival, self._planned, action, arguments))
        self._wake_up.set()

    def forget(self, connection: MemoryConnection) -> None:
        """It is closed."""
        self._open.pop(connection, None)

    def unbind(self, address: Address) -> None:
        """The port refuses."""
        self._listeners.pop(address, None)
