"""A node's connections: a dead node sends nothing, and what is timed on one ends with it."""

from collections.abc import Callable
from unittest.mock import AsyncMock, Mock

from bargetrio.node.connections import Connections
from bargetrio.node.memory import ClientMemory
from bargetrio.node.outbox import PeerOutbox
from bargetrio.node.places import ClientPlaces
from bargetrio.protocol.limits import LINE_BYTES
from bargetrio.protocol.lines import LineReader
from bargetrio.raft.messages import AppendReply, NodeId, VoteReply, encode_message
from bargetrio.raft.standing import Standing
from bargetrio.replica.figures import NodeFigures, PeerFigures
from bargetrio.replica.hellos import HelloValidator
from bargetrio.replica.inbox import Inbox
from bargetrio.transport.handshake import Greeted
from bargetrio.transport.network import Connection
from bargetrio.transport.peer_link import PeerLink
from bargetrio.transport.poller import TaskPoller
from tests.raft.cores import append, follower
from tests.replica.hosts import Nobody


def connections_of(figures: NodeFigures, hello_validator: HelloValidator, peer_spoke: Callable[[NodeId], None]) -> Connections:
    """Return the connections of node 0, a follower."""
    return Connections(
        core=follower().core,
        inbox=Inbox(lambda: None),
        poller=TaskPoller(),
        sink=Nobody(),
        figures=figures,
        hello_validator=hello_validator,
        places=ClientPlaces(),
        memory=ClientMemory(),
        peer_spoke=peer_spoke,
    )


def test_a_fenced_node_sends_nothing_though_a_chunk_was_being_read() -> None:
    """The thread that read it comes back after the kill, with something to send."""
    link = Mock(PeerLink)
    outbox = PeerOutbox({1: link}, {1: PeerFigures()})
    message = VoteReply(term=1, voter_id=0, granted=True)
    outbox.post(1, message)
    outbox.fence()
    outbox.post(1, message)
    link.post.assert_called_once_with(message)
    link.abort.assert_called_once_with()


async def test_what_is_timed_on_a_connection_ends_with_it() -> None:
    """Otherwise the reply to an append of the old connection would match no append, or measure a round trip of minutes."""
    figures = NodeFigures()
    connections = connections_of(figures, Mock(HelloValidator), lambda peer: None)
    figures.peer(1).append_sent(append(log="1"), 0.0)
    connections.link_up(1)
    reply = AppendReply(term=1, follower_id=1, success=True, match_index=1, prev_log_index=0, round=0)
    figures.peer(1).append_answered(reply, 60.0)
    assert sum(figures.peer(1).round_trip.counts) == 0


async def test_a_peer_that_connects_is_dialled_when_it_has_sent_a_message() -> None:
    """Its hello alone does not show that it accepts this node's store: it may be about to close the connection."""
    told: list[NodeId] = []
    hello_validator = Mock(HelloValidator, revalidator=lambda peer, standing: lambda: "")
    connections = connections_of(NodeFigures(), hello_validator, told.append)
    ended = Mock(Connection, receive=AsyncMock(return_value=b""))
    spoken: list[list[NodeId]] = []
    for lines in ([], [encode_message(append())]):
        greeted = Greeted(peer_id=1, standing=Standing(store="s"), lines=lines, reader=LineReader(LINE_BYTES))
        await connections.serve(ended, greeted)
        spoken.append(told.copy())
    assert spoken == [[], [1]]
