"""What an acceptor of the tests is given."""

from bargetrio.raft.standing import Standing
from bargetrio.transport.handshake import Identity

IDENTITY = Identity(
    cluster="barge",
    node_id=0,
    peer_ids=frozenset({1, 2}),
    secret=None,
    make_nonce=lambda: "nonce",
    standing=lambda: Standing(store="s0"),
    validate=lambda peer_id, standing: "",
)


def raise_it(problem: Exception) -> None:
    raise AssertionError from problem
