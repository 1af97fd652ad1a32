"""The handshake: the first lines of a connection, on both sides (docs/wire_format.md).

The acceptor refuses a wrong protocol, cluster, id, target or store with the reason, and closes. Any line that is not the expected
hello ends the connection; none is skipped.
"""

from collections.abc import Callable
from typing import Final, TypeVar

import msgspec
from msgspec import Raw, Struct

from bargetrio.protocol.hello import (
    ClientHello,
    Hello,
    HelloAccepted,
    HelloRefused,
    NodeHello,
    PeerHello,
    answer_decoder,
    hello_decoder,
    proof,
    proof_decoder,
    proof_is_right,
    verdict_decoder,
)
from bargetrio.protocol.limits import (
    HELLO_LINE_BYTES,
    LINE_BYTES,
    PEER_PROTOCOL_VERSION,
    PROTOCOL_VERSION,
    QUOTED_CHARACTERS,
)
from bargetrio.protocol.lines import LineReader, LineTooLong
from bargetrio.raft.checks import check_standing
from bargetrio.raft.standing import Standing
from bargetrio.transport.network import Broken, Connection

_Answer = TypeVar("_Answer", NodeHello, HelloAccepted)

_encode: Final = msgspec.json.Encoder().encode
_standing_decoder: Final = msgspec.json.Decoder(Standing)


class HandshakeRefused(Exception):
    """One side has refused the other's hello; `code` (protocol/errors.py) and the text say why."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class Identity(Struct, frozen=True, kw_only=True):
    """A node's side of the handshake, and the check of a peer's.

    `standing()` returns its own store's present standing; `validate(peer, standing)` why a peer's is refused, "" if it is not. It
    is called for nodes that are not in `peer_ids`, too: these are refused in any case.
    """

    cluster: str
    node_id: int
    peer_ids: frozenset[int]
    secret: bytes | None
    make_nonce: Callable[[], str]
    standing: Callable[[], Standing]
    validate: Callable[[int, Standing], str]


class Greeted(Struct, frozen=True, kw_only=True):
    """The result of a handshake: lines received after it, and the reader for the rest."""

    peer_id: int | None
    standing: Standing | None
    lines: list[bytes]
    reader: LineReader


def _admit_all() -> None:
    """Admit every client."""


async def accept_hello(connection: Connection, identity: Identity, admit_client: Callable[[], None] = _admit_all) -> Greeted:
    """Read the hello of an accepted connection and answer it.

    `admit_client` raises HandshakeRefused if there is no place for another client. The caller sets the time-out; cancelled, the
    connection is in an undefined state and must be closed.

    Raises HandshakeRefused, after sending the refusal, or Broken.
    """
    reader = LineReader(LINE_BYTES)
    try:
        first, *rest = await _next_lines(connection, reader)
        hello = _decode_hello(first)
        _check_cluster(hello, identity)
        if isinstance(hello, ClientHello):
            admit_client()
            connection.post(_line(NodeHello(protocol=PROTOCOL_VERSION, cluster=identity.cluster, node=identity.node_id)))
            return Greeted(peer_id=None, standing=None, lines=rest, reader=reader)
        if hello.to != identity.node_id:
            raise HandshakeRefused("forbidden", f"this is node {identity.node_id}, not {hello.to}")
        nonce = identity.make_nonce()
        connection.post(_line(_answer_to_peer(hello, identity, nonce)))
        if identity.secret is not None:
            if not rest:
                rest = await _next_lines(connection, reader)
            _check_proof(rest.pop(0), hello, identity, nonce)
        standing = _check_standing(hello.node, hello.standing, identity)
        connection.post(_line(HelloAccepted()))
    except HandshakeRefused as refused:
        connection.post(_line(HelloRefused(error=refused.code, detail=str(refused))))
        raise
    return Greeted(peer_id=hello.node, standing=standing, lines=rest, reader=reader)


async def say_hello(connection: Connection, identity: Identity, to: int) -> Greeted:
    """Send this node's hello to peer `to`, check its answer, and wait until it accepts this node.

    The caller sets the time-out. Raises HandshakeRefused or Broken.
    """
    reader = LineReader(LINE_BYTES)
    nonce = identity.make_nonce()
    hello = PeerHello(
        protocol=PEER_PROTOCOL_VERSION,
        cluster=identity.cluster,
        node=identity.node_id,
        to=to,
        standing=Raw(_encode(identity.standing())),
        nonce=nonce,
    )
    connection.post(_line(hello))
    first, *rest = await _next_lines(connection, reader)
    answer = _decode_answer(answer_decoder, first, to)
    if answer.protocol != PEER_PROTOCOL_VERSION or answer.cluster != identity.cluster or answer.node != to:
        raise HandshakeRefused("bad_request", f"there answers node {answer.node} of cluster {answer.cluster!r}, not node {to}")
    if identity.secret is not None:
        wanted = proof(identity.secret, "acceptor", identity.node_id, to, nonce, answer.nonce)
        if not proof_is_right(answer.proof, wanted):
            raise HandshakeRefused("forbidden", f"node {to} does not know the peer secret")
        ours = proof(identity.secret, "dialler", identity.node_id, to, nonce, answer.nonce)
        connection.post(_encode({"proof": ours}) + b"\n")
    elif answer.proof:
        raise HandshakeRefused("forbidden", f"node {to} asks its peers for a proof: peer_secret_file is not configured here")
    standing = _check_standing(to, answer.standing, identity)
    # A peer checks this node's standing last: until then a refused connection seems to be up (OWN-182).
    if not rest:
        rest = await _next_lines(connection, reader)
    _decode_answer(verdict_decoder, rest.pop(0), to)
    return Greeted(peer_id=to, standing=standing, lines=rest, reader=reader)


async def _next_lines(connection: Connection, reader: LineReader) -> list[bytes]:
    """Return the lines received, at least one; those after the hello may be longer than HELLO_LINE_BYTES."""
    too_long = HandshakeRefused("bad_request", f"a hello has at most {HELLO_LINE_BYTES} bytes")
    while True:
        data = await connection.receive()
        if not data:
            raise Broken("ended before its hello")
        try:
            lines = reader.feed(data)
        except LineTooLong:
            raise too_long from None
        if len(lines[0]) > HELLO_LINE_BYTES if lines else reader.pending_bytes > HELLO_LINE_BYTES:
            raise too_long
        if lines:
            return lines


def _decode_answer(decoder: "msgspec.json.Decoder[_Answer | HelloRefused]", line: bytes, to: int) -> _Answer:
    """Return a peer's answer; raise HandshakeRefused if it is a refusal, or none."""
    try:
        answer = decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise HandshakeRefused("bad_request", "the other side does not speak this protocol") from None
    if isinstance(answer, HelloRefused):
        raise HandshakeRefused(answer.error, f"refused by node {to}: {answer.detail}")
    return answer


def _decode_hello(line: bytes) -> Hello:
    try:
        return hello_decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise HandshakeRefused("bad_request", f"the first line must be a hello: {problem}") from None


def _check_cluster(hello: Hello, identity: Identity) -> None:
    spoken = PROTOCOL_VERSION if isinstance(hello, ClientHello) else PEER_PROTOCOL_VERSION
    if hello.protocol != spoken:
        who = "clients" if isinstance(hello, ClientHello) else "its peers"
        raise HandshakeRefused(
            "bad_request", f"this node speaks protocol {spoken} with {who}, not {str(hello.protocol)[:QUOTED_CHARACTERS]}"
        )
    if hello.cluster != identity.cluster:
        raise HandshakeRefused("forbidden", f"this is cluster {identity.cluster!r}, not {hello.cluster!r}")


def _answer_to_peer(hello: PeerHello, identity: Identity, nonce: str) -> NodeHello:
    ours = ""
    if identity.secret is not None:
        ours = proof(identity.secret, "acceptor", hello.node, identity.node_id, hello.nonce, nonce)
    return NodeHello(
        protocol=PEER_PROTOCOL_VERSION,
        cluster=identity.cluster,
        node=identity.node_id,
        standing=Raw(_encode(identity.standing())),
        nonce=nonce,
        proof=ours,
    )


def _check_proof(line: bytes, hello: PeerHello, identity: Identity, nonce: str) -> None:
    assert identity.secret is not None
    try:
        given = proof_decoder.decode(line).proof
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise HandshakeRefused("forbidden", "this cluster asks its peers for a proof") from None
    wanted = proof(identity.secret, "dialler", hello.node, identity.node_id, hello.nonce, nonce)
    if not proof_is_right(given, wanted):
        raise HandshakeRefused("forbidden", "the proof is wrong: another peer secret?")


def _check_standing(peer_id: int, raw: Raw, identity: Identity) -> Standing:
    """Return the peer's standing; raise HandshakeRefused if it is malformed, or its store is not the member's (BUG-38)."""
    try:
        standing = _standing_decoder.decode(raw)
        check_standing(peer_id, standing)
    except (ValueError, RecursionError) as problem:
        raise HandshakeRefused("bad_request", f"node {peer_id} does not state its store's standing: {problem}") from None
    refusal = identity.validate(peer_id, standing)
    if peer_id not in identity.peer_ids:  # another configuration names both nodes: its standing was noted all the same
        refusal = f"node {peer_id} is not a peer of node {identity.node_id}, whose configuration does not name it"
    if refusal:
        raise HandshakeRefused("forbidden", refusal)
    return standing


def _line(message: Struct) -> bytes:
    return _encode(message) + b"\n"
