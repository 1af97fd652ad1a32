"""A peer's connection: what is told of a message that is not whole yet."""

from collections.abc import Callable
from typing import Any

import trio

from bargetrio.node.figures import PeerFigures
from bargetrio.node.peers import LONG_BYTES, PeerSession
from bargetrio.protocol.limits import LINE_BYTES
from bargetrio.protocol.lines import LineReader
from bargetrio.raft.messages import Message, SnapshotRequest, encode_message
from bargetrio.transport.handshake import Greeted
from tests.raft.cores import append, snapshot


class Parts:
    """What comes, part by part, as one node's arrivals hand it over."""

    def __init__(self, *parts: bytes) -> None:
        self._parts = parts

    def ring(self) -> None: ...

    async def read(self, connection: Any, take: Callable[[bytes], trio.Event | None]) -> None:
        for part in self._parts:
            take(part)


async def told_of(*parts: bytes, refusal: str = "") -> tuple[int, int]:
    """Return how many messages came, and how often it was told that bytes of a long one had."""
    messages: list[Message] = []
    peers: list[int] = []
    session = PeerSession(1, messages.append, peers.append, PeerFigures(), lambda: refusal)
    greeted = Greeted(peer_id=1, standing=None, lines=[], reader=LineReader(LINE_BYTES))
    await session.serve(None, greeted, Parts(*parts))  # type: ignore[arg-type]  # as much as is needed here
    assert set(peers) <= {1}
    return len(messages), len(peers)


async def test_bytes_of_a_long_message_are_told() -> None:
    """Not its end, which makes it a message, nor its first few bytes."""
    of = snapshot("1")
    piece = encode_message(SnapshotRequest(term=1, leader_id=1, snapshot=of, offset=0, data=b"x" * 3000))
    parts = [piece[:1000], piece[1000:2000], piece[2000:3000], piece[3000:]]
    assert await told_of(*parts) == (1, 2)


async def test_a_heartbeat_in_parts_is_no_long_message() -> None:
    """Found by ring 2, whose reads are short: the leader took a piece that was lost for one that is arriving, for ever."""
    heartbeat = encode_message(append())
    assert len(heartbeat) < LONG_BYTES / 2
    assert await told_of(*[heartbeat[:7], heartbeat[7:]] * 5) == (5, 0)
