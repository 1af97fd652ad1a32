"""The hello in both directions, over real sockets: admission, and the data exchanged."""

import json
from collections.abc import Callable

import pytest
import trio
from msgspec import structs

from bargetrio.cli.free_ports import free_ports
from bargetrio.protocol.errors import BargeError
from bargetrio.raft.standing import Standing
from bargetrio.transport.faults import LinkFaults
from bargetrio.transport.handshake import Greeted, HandshakeRefused, Identity, accept_hello, say_hello
from bargetrio.transport.network import Broken, Connection
from bargetrio.transport.sockets import SocketNetwork


def identity(node_id: int, *, store: str = "", secret: bytes | None = None, refuses: str = "") -> Identity:
    nonces = iter(f"nonce-{node_id}-{number}" for number in range(99))
    return Identity(
        cluster="barge",
        node_id=node_id,
        peer_ids=frozenset({0, 1, 2} - {node_id}),
        secret=secret,
        make_nonce=lambda: next(nonces),
        standing=lambda: Standing(store=store or f"store-{node_id}"),
        validate=lambda peer_id, standing: f"node {peer_id}: no {standing.store}" if standing.store == refuses else "",
    )


async def meet(acceptor: Identity, dial: Callable[[Connection], object]) -> tuple[Greeted | HandshakeRefused | Broken, object]:
    """Let one side accept while `dial` (an async function of the connection) speaks; return both outcomes."""
    network = SocketNetwork()
    port = free_ports(1)[0]
    listener = await network.listen("127.0.0.1", port)
    accepted: list[Greeted | HandshakeRefused | Broken] = []
    outcome: list[object] = []

    async def serve() -> None:
        connection = await listener.accept()
        try:
            accepted.append(await accept_hello(connection, acceptor))
        except (HandshakeRefused, Broken) as problem:
            accepted.append(problem)
            connection.finish()

    async def call() -> None:
        connection = await network.connect("127.0.0.1", port)
        try:
            outcome.append(await dial(connection))  # type: ignore[misc]  # an async function
        except (HandshakeRefused, Broken, BargeError) as problem:
            outcome.append(problem)
            connection.close()

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            nursery.start_soon(call)
    listener.close()
    return accepted[0], outcome[0]


async def test_a_peer_is_greeted_by_both_sides() -> None:
    """Each learns the other's standing."""
    accepted, said = await meet(identity(0), lambda connection: say_hello(connection, identity(1), 0))
    assert isinstance(accepted, Greeted)
    assert (accepted.peer_id, accepted.standing) == (1, Standing(store="store-1"))
    assert isinstance(said, Greeted)
    assert (said.peer_id, said.standing) == (0, Standing(store="store-0"))


async def test_both_sides_prove_that_they_know_the_secret() -> None:
    """The same secret is accepted; another is refused by the side that checks it first."""
    accepted, said = await meet(identity(0, secret=b"s"), lambda connection: say_hello(connection, identity(1, secret=b"s"), 0))
    assert isinstance(accepted, Greeted)
    assert isinstance(said, Greeted)
    accepted, said = await meet(identity(0, secret=b"s"), lambda connection: say_hello(connection, identity(1, secret=b"t"), 0))
    assert isinstance(said, HandshakeRefused)
    assert "does not know the peer secret" in str(said)
    assert not isinstance(accepted, Greeted)
    accepted, said = await meet(identity(0, secret=b"s"), lambda connection: say_hello(connection, identity(1), 0))
    assert not isinstance(accepted, Greeted)
    assert isinstance(said, HandshakeRefused)
    assert str(said) == "node 0 asks its peers for a proof: peer_secret_file is not configured here"


async def test_what_was_said_on_one_connection_proves_nothing_on_another() -> None:
    """Each connection has a nonce of the acceptor's own: a recorded hello and proof are refused."""
    acceptor, said = identity(0, secret=b"s"), list[bytes]()

    async def recorded(connection: Connection) -> Greeted:
        post = connection.post
        connection.post = lambda data: (said.append(data), post(data))[1]  # type: ignore[method-assign,func-returns-value]
        return await say_hello(connection, identity(1, secret=b"s"), 0)

    async def replayed(connection: Connection) -> None:
        connection.post(b"".join(said))
        while await connection.receive():
            pass

    accepted, _ = await meet(acceptor, recorded)
    assert isinstance(accepted, Greeted) and len(said) == 2
    accepted, _ = await meet(acceptor, replayed)
    assert isinstance(accepted, HandshakeRefused) and "the proof is wrong" in str(accepted)


@pytest.mark.parametrize("secret", [None, b"s"])
async def test_a_store_that_is_not_the_members_is_refused_with_a_reason_at_both_ends(secret: bytes | None) -> None:
    """BUG-38: a node that lost its disk must not vote as before; the dialler checks, too. BUG-182: it is told."""
    judge, new = identity(0, refuses="new", secret=secret), identity(1, store="new", secret=secret)
    accepted, said = await meet(judge, lambda connection: say_hello(connection, new, 0))
    assert isinstance(accepted, HandshakeRefused) and str(accepted) == "node 1: no new"
    assert isinstance(said, HandshakeRefused) and str(said) == "refused by node 0: node 1: no new"
    new, judge = identity(0, store="new", secret=secret), identity(1, refuses="new", secret=secret)
    _, said = await meet(new, lambda connection: say_hello(connection, judge, 0))
    assert isinstance(said, HandshakeRefused) and str(said) == "node 0: no new"


@pytest.mark.parametrize("secret", [None, b"s"])
async def test_a_node_that_the_configuration_does_not_name_is_refused_and_its_standing_noted(secret: bytes | None) -> None:
    """It may show that the configuration is wrong; without the right proof it shows nothing."""
    noted: list[tuple[int, Standing]] = []

    def note(peer_id: int, standing: Standing) -> str:
        noted.append((peer_id, standing))
        return ""

    here = structs.replace(identity(0, secret=secret), validate=note)
    accepted, said = await meet(here, lambda connection: say_hello(connection, identity(7, secret=secret), 0))
    reason = "node 7 is not a peer of node 0, whose configuration does not name it"
    assert isinstance(accepted, HandshakeRefused) and str(accepted) == reason
    assert isinstance(said, HandshakeRefused) and str(said) == f"refused by node 0: {reason}"
    assert noted == [(7, Standing(store="store-7"))]
    if secret is not None:
        accepted, said = await meet(here, lambda connection: say_hello(connection, identity(7, secret=b"another"), 0))
        assert not isinstance(accepted, Greeted) and not isinstance(said, Greeted)
        assert len(noted) == 1


async def test_a_protocol_of_many_digits_is_refused_and_not_quoted_in_full() -> None:
    """A refusal is a line of a bounded length."""

    async def dial(connection: Connection) -> bytes:
        connection.post(b'{"hello":"client","protocol":%s,"cluster":"barge"}\n' % (b"9" * 900))
        return await connection.receive()

    _, answer = await meet(identity(0), dial)
    assert isinstance(answer, bytes) and b"refused" in answer and len(answer) < 300


async def test_a_standing_that_is_none_is_a_bad_hello() -> None:
    """Reported as such, before it is checked."""

    async def dial(connection: Connection) -> bytes:
        hello = {"hello": "peer", "protocol": 3, "cluster": "barge", "node": 1, "to": 0, "standing": {"stor": 1}, "nonce": "n"}
        connection.post(json.dumps(hello).encode() + b"\n")
        answer = b""
        while answer.count(b"\n") != 2:
            answer += await connection.receive()
        return answer

    accepted, answer = await meet(identity(0), dial)
    assert isinstance(accepted, HandshakeRefused)
    assert b"does not state its store's standing" in bytes(answer)  # type: ignore[call-overload]  # dial returns bytes


async def test_an_unborn_store_states_the_nodes_of_its_configuration() -> None:
    """Both sides do; nodes that contradict themselves make a bad hello (raft/checks.py)."""
    told = Standing(store="new", members=(0, 1, 2))
    one, other = (structs.replace(identity(node_id), standing=lambda: told) for node_id in (0, 1))
    accepted, said = await meet(one, lambda connection: say_hello(connection, other, 0))
    assert isinstance(accepted, Greeted) and isinstance(said, Greeted)
    assert accepted.standing == said.standing == told
    twice = structs.replace(other, standing=lambda: Standing(store="new", members=(0, 1, 1)))
    accepted, said = await meet(one, lambda connection: say_hello(connection, twice, 0))
    assert isinstance(accepted, HandshakeRefused) and "rising order" in str(accepted)
    assert isinstance(said, HandshakeRefused) and "rising order" in str(said)


async def test_requests_may_follow_the_hello_in_one_piece() -> None:
    """OWN-01: a long first request behind a short hello is no long hello."""

    async def dial(connection: Connection) -> bytes:
        hello = b'{"hello":"client","protocol":1,"cluster":"barge"}\n'
        connection.post(hello + b'{"id":1,"op":"get","key":"a"}\n' + b"x" * 10_000)
        return await connection.receive()

    accepted, answer = await meet(identity(0), dial)
    assert isinstance(accepted, Greeted)
    assert accepted.lines == [b'{"id":1,"op":"get","key":"a"}']
    assert b'"node":0' in bytes(answer)  # type: ignore[call-overload]  # dial returns bytes


async def test_a_hello_without_an_end_is_refused_at_its_limit() -> None:
    """An unauthenticated connection can occupy 4 KiB, not 8 MiB."""

    async def dial(connection: Connection) -> bytes:
        connection.post(b"x" * 5000)
        return await connection.receive()

    accepted, answer = await meet(identity(0), dial)
    assert isinstance(accepted, HandshakeRefused)
    assert b"4096" in bytes(answer)  # type: ignore[call-overload]  # dial returns bytes


@pytest.mark.parametrize("to", [1, 7])
async def test_a_node_that_is_not_the_one_wanted_is_refused(to: int) -> None:
    """An address that leads to another node."""
    accepted, said = await meet(identity(0), lambda connection: say_hello(connection, identity(2), to))
    assert isinstance(accepted, HandshakeRefused)
    assert isinstance(said, HandshakeRefused)


def test_partitions_and_link_faults_decide_each_message() -> None:
    """Groups cut both ways, links one way; a node in no group stands alone; healed, all passes."""
    faults = LinkFaults(seed=1)
    assert faults.verdict(0, 1) == 0.0
    faults.set([[0, 1]], {(1, 0): (True, 0.0, 0.0), (0, 1): (False, 0.0, 0.2)})
    assert (faults.verdict(0, 1), faults.verdict(1, 0), faults.verdict(0, 2), faults.verdict(2, 3)) == (0.2, None, None, None)
    faults.set([], {(0, 1): (False, 0.5, 0.0)})
    lost = sum(faults.verdict(0, 1) is None for _ in range(1000))
    assert 400 < lost < 600
    faults.set([], {})
    assert faults.verdict(0, 1) == 0.0
