"""The first line of a connection in either direction, and the proof that a peer has the secret.

    → {"hello":"client","protocol":1,"cluster":"barge"}
    ← {"hello":"node","protocol":1,"cluster":"barge","node":0}

    → {"hello":"peer","protocol":3,"cluster":"barge","node":1,"to":0,"standing":{"store":"9f...",...},"nonce":"c1..."}
    ← {"hello":"node","protocol":3,"cluster":"barge","node":0,"standing":{"store":"77...",...},"nonce":"5a...","proof":"..."}
    → {"proof":"..."}
    ← {"hello":"accepted"}

The proofs are HMAC-SHA256 over both nonces and both ids; they are sent only if a secret is configured. The secret is never sent,
and a proof is not valid for another connection, direction or pair of nodes.
"""

import hashlib
import hmac
from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct

from bargetrio.protocol.limits import HELLO_CHARACTERS, MAX_INT

NodeId = Annotated[int, Meta(ge=0, le=MAX_INT)]
Short = Annotated[str, Meta(min_length=1, max_length=HELLO_CHARACTERS)]


class ClientHello(Struct, frozen=True, kw_only=True, tag_field="hello", tag="client", forbid_unknown_fields=True):
    """A client's protocol version, and the cluster that it expects."""

    protocol: int
    cluster: Short


class PeerHello(Struct, frozen=True, kw_only=True, tag_field="hello", tag="peer", forbid_unknown_fields=True):
    """The hello of a node that dials another: its id, the other's, and its store's standing (an object, raft/standing.py)."""

    protocol: int
    cluster: Short
    node: NodeId
    to: NodeId
    standing: Raw
    nonce: Short


class NodeHello(Struct, frozen=True, kw_only=True, tag_field="hello", tag="node", omit_defaults=True):
    """The node's answer to either hello; to a peer it adds its store's standing, its nonce and, with a secret, its proof."""

    protocol: int
    cluster: Short
    node: NodeId
    standing: Raw = Raw(b"{}")
    nonce: str = ""
    proof: str = ""


class PeerProof(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The dialler's proof, its second line, only if a secret is configured."""

    proof: Short


class HelloRefused(Struct, frozen=True, kw_only=True, tag_field="hello", tag="refused"):
    """Why the node refuses this connection, which it closes after this line."""

    error: str
    detail: str


class HelloAccepted(Struct, frozen=True, kw_only=True, tag_field="hello", tag="accepted"):
    """The node takes the peer's messages: sent once it has checked the peer's proof and its store's standing."""


Hello = ClientHello | PeerHello
HelloAnswer = NodeHello | HelloRefused
Verdict = HelloAccepted | HelloRefused

hello_decoder: msgspec.json.Decoder[Hello] = msgspec.json.Decoder(Hello)
answer_decoder: msgspec.json.Decoder[HelloAnswer] = msgspec.json.Decoder(HelloAnswer)
verdict_decoder: msgspec.json.Decoder[Verdict] = msgspec.json.Decoder(Verdict)
proof_decoder: msgspec.json.Decoder[PeerProof] = msgspec.json.Decoder(PeerProof)


def proof(secret: bytes, role: str, dialler: int, acceptor: int, dialler_nonce: str, acceptor_nonce: str) -> str:
    """Return the proof that `role` ("dialler" or "acceptor") sends to the other side, in hexadecimal."""
    text = f"barge {role} {dialler} {acceptor} {dialler_nonce} {acceptor_nonce}"
    return hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()


def proof_is_right(given: str, wanted: str) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(given.encode(), wanted.encode())
