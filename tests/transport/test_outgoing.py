"""A send takes any part of what it is given, one byte included: every byte arrives, in order, at real and simulated sockets."""

import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import product
from random import Random

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from bargetrio.cli.free_ports import free_ports
from bargetrio.simulator.stack import network as simulated
from bargetrio.simulator.stack.network import MemoryNetwork
from bargetrio.transport.acceptor import leave
from bargetrio.transport.network import Broken, Connection
from bargetrio.transport.outgoing import ROOM_BYTES, SEND_BYTES, Outgoing
from bargetrio.transport.sockets import SocketConnection, SocketNetwork

STEPS = st.lists(st.one_of(st.binary(max_size=12), st.none()), max_size=30)


@given(STEPS, st.lists(st.integers(0, 5), min_size=1, max_size=9))
def test_every_byte_once_and_in_order(steps: list[bytes | None], takes: list[int]) -> None:
    """Whatever the sends take, 0 being a buffer that is full, and whenever posts and pushes (None) come."""
    taken = bytearray()
    calls = 0

    def send(data: bytes | memoryview) -> int:
        nonlocal calls
        calls += 1
        count = min(len(data), takes[calls % len(takes)])
        if not count:
            raise BlockingIOError
        taken.extend(data[:count])
        return count

    outgoing = Outgoing(send)
    posted = b""
    for step in steps:
        if step is None:
            if outgoing:
                outgoing.push()
        elif step:
            had = len(outgoing)
            wakes = outgoing.post(step)
            posted += step
            assert wakes == (not had and bool(outgoing))
        assert bytes(taken) + bytes(outgoing.unsent) == posted
        assert len(outgoing) == len(outgoing.unsent)


def test_room_is_reported_below_its_mark_and_at_the_end() -> None:
    """Who waits for room would wait for ever on a connection that was closed."""
    told: list[int] = []
    takes = [0, SEND_BYTES, 10, 10, 10]

    def send(data: bytes | memoryview) -> int:
        count = min(len(data), takes.pop(0))
        if not count:
            raise BlockingIOError
        return count

    outgoing = Outgoing(send)
    outgoing.on_room = lambda: told.append(len(outgoing))
    outgoing.post(b"x" * (SEND_BYTES + ROOM_BYTES + 15))
    for _ in range(3):
        outgoing.push()
    assert told == [ROOM_BYTES - 5]
    outgoing.drop()
    assert told == [ROOM_BYTES - 5, 0]


class ShortSends(socket.socket):
    """Takes a byte of each send, or a few."""

    random = Random(1)

    def send(self, data, flags: int = 0) -> int:  # type: ignore[no-untyped-def]
        return super().send(bytes(data)[: self.random.choice((1, 1, 2, 700))], flags)


@asynccontextmanager
async def real() -> AsyncIterator[tuple[Connection, Connection]]:
    """Two ends whose sockets take little of each send and whose kernel buffers are small."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = ShortSends(socket.AF_INET, socket.SOCK_STREAM)
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        near.connect(server.getsockname())
        far, _ = server.accept()
        ends = SocketConnection(near), SocketConnection(far)
        try:
            yield ends
        finally:
            for end in ends:
                end.close()


@asynccontextmanager
async def memory() -> AsyncIterator[tuple[Connection, Connection]]:
    """Two ends in the simulated network, with a window of 2,000 bytes."""
    network = MemoryNetwork(Random(3))
    network.window = lambda: simulated.SMALL_WINDOW[0]  # type: ignore[method-assign]
    listener = await network.listen("there", 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(network.run)
        near = await network.connect("there", 1)
        yield near, await listener.accept()
        nursery.cancel_scope.cancel()


async def test_a_vanished_client_is_detected_by_keepalive() -> None:
    """A host that lost its power sends no FIN: its connection would stay for ever, with a descriptor and a task."""
    network = SocketNetwork()
    (port,) = free_ports(1)
    listener = await network.listen("127.0.0.1", port)
    near, far = await network.connect("127.0.0.1", port), await listener.accept()
    for end in (near, far):
        assert isinstance(end, SocketConnection)
        sock = socket.socket(fileno=os.dup(end.fileno()))
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        idle_s, again_s, probes = (sock.getsockopt(socket.IPPROTO_TCP, option) for option in options)
        assert idle_s + again_s * probes <= 60
        sock.close()
        end.close()
    listener.close()


KINDS = pytest.mark.parametrize("ends", [real, memory])
Ends = Callable[[], "AsyncIterator[tuple[Connection, Connection]]"]


@KINDS
async def test_a_slow_reader_gets_every_byte_in_order(ends: Callable[[], object]) -> None:
    """Posts come while earlier ones are still on their way."""
    random = Random(2)
    wanted = b"".join(b"%06d\n" % number for number in range(6_000))
    got = b""
    with trio.fail_after(30):
        async with ends() as (near, far), trio.open_nursery() as nursery:  # type: ignore[attr-defined]
            nursery.start_soon(near.write)
            place = 0
            while len(got) < len(wanted):
                size = random.choice((1, 7, 300, 9_000))
                if place < len(wanted):
                    near.post(wanted[place : place + size])
                    place += size
                if near.unsent_bytes > 20_000 or place >= len(wanted):
                    data = await far.receive()
                    assert data
                    got += data
            nursery.cancel_scope.cancel()
    assert got == wanted


@KINDS
async def test_the_last_words_arrive_though_they_were_half_taken(ends: Callable[[], object]) -> None:
    """A refusal of a hundred bytes, and then the end: `leave` waits for the writer."""
    words = b"x" * 1500 + b"\n"
    got = b""
    with trio.fail_after(10):
        async with ends() as (near, far), trio.open_nursery() as nursery:  # type: ignore[attr-defined]
            nursery.start_soon(near.write)
            near.post(words)
            nursery.start_soon(leave, near)
            while data := await far.receive():
                got += data
            nursery.cancel_scope.cancel()
    assert got == words


@KINDS
async def test_a_writer_ends_with_its_connection_whatever_is_unsent(ends: Callable[[], object]) -> None:
    """At this end or at the other; a later read raises, and no byte is sent later."""
    for closes, after_s in product((0, 1), (0.0, 0.0003, 0.0007, 0.001, 0.002, 0.01)):
        with trio.fail_after(10):
            async with ends() as both:  # type: ignore[attr-defined]
                near, far = both
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(near.write)
                    near.post(b"x" * 8_000_000)
                    await trio.sleep(after_s)
                    both[closes].abort()
                assert near.unsent_bytes == 0
                near.post(b"after the end")
                assert near.unsent_bytes == 0
                with pytest.raises(Broken):
                    while await far.receive():
                        pass
                    raise Broken("an end")


async def test_a_hello_may_be_half_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The writer is there before the hello is answered: a byte of it at a time still is a hello."""
    from bargetrio.cluster.in_flight import RequestBatch
    from bargetrio.cluster.node_link import NodeLink
    from bargetrio.protocol.requests import Get
    from bargetrio.transport.acceptor import Acceptor
    from tests.transport.accepting import IDENTITY, raise_it

    async def answer(connection: Connection, greeted: object) -> None:
        lines: list[bytes] = []
        while len(lines) < 1:
            lines += greeted.lines or greeted.reader.feed(await connection.receive())  # type: ignore[attr-defined]
        connection.post(b'{"id":1,"ok":true,"key":"k","index":7,"value":"v"}\n')
        await trio.sleep_forever()

    monkeypatch.setattr(socket.socket, "send", _one_byte)
    (port,) = free_ports(1)
    network = SocketNetwork()
    acceptor = Acceptor(await network.listen("127.0.0.1", port), IDENTITY, answer, raise_it)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(acceptor.run)
            batch = RequestBatch([Get(id=0, key="k")])
            await NodeLink(f"127.0.0.1:{port}", "barge", network, nursery).ask(batch)
            acceptor.abort()
            nursery.cancel_scope.cancel()
    assert [(answer.key, answer.index) for answer in batch.answers if not isinstance(answer, (type(None),))] == [("k", 7)]  # type: ignore[union-attr]


def _one_byte(sock: socket.socket, data: bytes | memoryview, flags: int = 0) -> int:
    import _socket

    return _socket.socket.send(sock, bytes(data)[:1], flags)
