"""Who comes in, how many of them, and what does not stop accepting."""

import errno
import logging
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import msgspec
import pytest
import trio
from trio.testing import MockClock

from bargetrio.cli.free_ports import free_ports
from bargetrio.protocol.limits import PEER_CONNECTIONS
from bargetrio.transport.acceptor import Acceptor
from bargetrio.transport.handshake import Greeted, HandshakeRefused, Identity
from bargetrio.transport.network import Broken, Connection, Network
from bargetrio.transport.sockets import SocketConnection, SocketListener, SocketNetwork
from tests.transport.accepting import IDENTITY, raise_it

CLIENT = b'{"hello":"client","protocol":1,"cluster":"barge"}\n'
PEER = b'{"hello":"peer","protocol":3,"cluster":"barge","node":1,"to":0,"standing":{"store":"s1"},"nonce":"n"}\n'
ERRNOS = sorted(errno.errorcode)


async def serve(connection: Connection, greeted: Greeted) -> None:
    """Answer each piece with itself, until the other side leaves."""
    while data := await connection.receive():
        connection.post(data)


class Scripted:
    """A listener whose first accepts are scripted, and which then blocks."""

    def __init__(self, *problems: BaseException) -> None:
        self._problems = list(problems)
        self.accepts: list[float] = []

    async def accept(self) -> Connection:
        self.accepts.append(trio.current_time())
        if self._problems:
            await trio.lowlevel.checkpoint()
            raise self._problems.pop(0)
        return await trio.sleep_forever()

    def close(self) -> None: ...


async def test_no_error_of_accept_but_a_closed_listener_ends_accepting(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """accept(2) hands out what befell the connection, ENOPROTOOPT or EHOSTDOWN, say; and a rule of a firewall may say EPERM."""
    listener = Scripted(*[OSError(number, errno.errorcode[number]) for number in ERRNOS])
    acceptor = Acceptor(listener, IDENTITY, serve, raise_it)
    with trio.move_on_after(0.1 * len(ERRNOS) + 1), caplog.at_level(logging.WARNING):
        await acceptor.run()
        raise AssertionError("it ended")
    assert len(listener.accepts) == len(ERRNOS) + 1
    waits = [later - earlier for earlier, later in zip(listener.accepts, listener.accepts[1:], strict=False)]
    assert min(waits) == pytest.approx(0.1)
    assert len(caplog.records) == 2  # of 133, in 13 seconds


async def test_a_closed_listener_ends_accepting() -> None:
    """Else the node's task would ask it for ever."""
    with trio.fail_after(5):
        await Acceptor(Scripted(Broken("closed here")), IDENTITY, serve, raise_it).run()


class FailingSocket(socket.socket):
    """Its accept fails as scripted, then works."""

    problems: Iterator[OSError] = iter(())

    def accept(self) -> tuple[socket.socket, object]:
        for problem in self.problems:
            raise problem
        return super().accept()


async def test_the_real_listener_hands_out_the_error_and_the_next_connection() -> None:
    """A real accept, with an errno put in its way; one that was reset while it waited is ignored."""
    sock = FailingSocket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setblocking(False)
    sock.bind(("127.0.0.1", 0))
    sock.listen()
    sock.problems = iter([ConnectionAbortedError(errno.ECONNABORTED, "gone"), OSError(errno.ENONET, "no net")])
    listener = SocketListener(sock)
    with trio.fail_after(5), socket.create_connection(sock.getsockname()):
        with pytest.raises(OSError, match="no net"):
            await listener.accept()
        connection = await listener.accept()
        assert isinstance(connection, SocketConnection)
        connection.close()
        listener.close()
        with pytest.raises(Broken):
            await listener.accept()


async def test_a_bug_in_a_greeting_ends_its_connection_alone() -> None:
    """Not the node: an acceptor's nursery is the node's."""
    problems: list[Exception] = []

    def bug() -> str:
        raise ZeroDivisionError("a bug")

    identity = msgspec.structs.replace(IDENTITY, make_nonce=bug)
    async with accepting(identity, on_error=problems.append) as (network, port):
        peer = await dial(network, port, PEER)
        with pytest.raises(Broken):
            while await peer.receive():
                pass
            raise Broken("ended")
        assert await answer(await dial(network, port, CLIENT)) == b'{"hello":"node","protocol":1,"cluster":"barge","node":0}\n'
    assert [type(problem) for problem in problems] == [ZeroDivisionError]


async def test_clients_may_be_refused_in_words_and_peers_come_in() -> None:
    """A peer needs none of the clients' places."""

    def full() -> None:
        raise HandshakeRefused("overloaded", "no place")

    async with accepting(admit_client=full) as (network, port):
        refused = await answer(await dial(network, port, CLIENT))
        assert refused == b'{"hello":"refused","error":"overloaded","detail":"no place"}\n'
        assert b'"hello":"node"' in await answer(await dial(network, port, PEER))


async def test_connections_with_a_peers_id_are_bounded_and_the_oldest_is_closed_for_a_new_one() -> None:
    """OWN-192: without a peer secret anybody can send a peer's hello and be silent. Other peers and clients are not affected."""
    async with accepting() as (network, port):
        others = [await dial(network, port, PEER.replace(b'"node":1', b'"node":2')), await dial(network, port, CLIENT)]
        for other in others:
            assert b'"hello":"node"' in await answer(other)
        held: list[Connection] = []
        for _ in range(3 * PEER_CONNECTIONS):
            held.append(await dial(network, port, PEER))
            assert b'"hello":"accepted"' in await answer_with(held[-1], b"accepted")
        for closed in held[:-PEER_CONNECTIONS]:
            with pytest.raises(Broken):
                await closed.receive()
        for kept in [*others, *held[-PEER_CONNECTIONS:]]:
            kept.post(b"ping\n")
            assert await answer_with(kept, b"ping") == b"ping\n"


@asynccontextmanager
async def accepting(
    identity: Identity = IDENTITY, *, admit_client: Callable[[], None] = lambda: None, on_error: object = raise_it
) -> AsyncIterator[tuple[Network, int]]:
    """Accept on a port of loopback, for at most five seconds."""
    network = SocketNetwork()
    (port,) = free_ports(1)
    acceptor = Acceptor(await network.listen("127.0.0.1", port), identity, serve, on_error, admit_client=admit_client)  # type: ignore[arg-type]
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(acceptor.run)
            try:
                yield network, port
            finally:
                acceptor.abort()
                nursery.cancel_scope.cancel()


async def dial(network: Network, port: int, hello: bytes) -> Connection:
    connection = await network.connect("127.0.0.1", port)
    connection.post(hello)
    return connection


async def answer(connection: Connection) -> bytes:
    """Return what comes, up to a whole line."""
    data = b""
    while not data.endswith(b"\n"):
        piece = await connection.receive()
        if not piece:
            break
        data += piece
    return data


async def answer_with(connection: Connection, word: bytes) -> bytes:
    """Return what comes, up to the end of the line with this word."""
    data = b""
    while word not in data:
        data += await answer(connection)
    return data


async def test_nothing_is_kept_of_connections_that_have_ended() -> None:
    """Whether accepted, refused or silent: a node serves millions of them."""
    network = SocketNetwork()
    (port,) = free_ports(1)
    acceptor = Acceptor(await network.listen("127.0.0.1", port), IDENTITY, serve, raise_it)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(acceptor.run)
            for hello in (CLIENT, PEER, b"no hello\n", b'{"hello":', b""):
                connection = await dial(network, port, hello)
                if hello.endswith(b"\n"):
                    assert await answer(connection)
                connection.close()
            last = await dial(network, port, CLIENT)
            assert await answer(last)
            while len(acceptor._connections) > 1 or acceptor._unauthenticated or any(acceptor._of_peers.values()):
                await trio.sleep(0.01)
            last.close()
            while acceptor._connections:
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
