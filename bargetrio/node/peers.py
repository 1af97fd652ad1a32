"""A peer's connection: decodes and validates its messages; the first invalid one, or another node's, ends it."""

from collections.abc import Callable
from typing import Final

import trio

from bargetrio.kv.commands import check_commands
from bargetrio.protocol.errors import BargeError
from bargetrio.raft.checks import check_message
from bargetrio.raft.core import Core
from bargetrio.raft.messages import AppendReply, AppendRequest, NodeId, decode_message, sender
from bargetrio.replica.figures import PeerFigures
from bargetrio.replica.inbox import MESSAGE_BYTES, Inbox
from bargetrio.transport.handshake import Greeted
from bargetrio.transport.network import Connection
from bargetrio.transport.poller import Poller

LONG_BYTES: Final = 1024
"""Heartbeats, votes and answers are shorter: that one of them comes in two parts is no sign of entries or a piece."""


class BadMessage(Exception):
    """A peer's line that is not a valid message, or is another node's: its connection must be closed."""


class PeerSession:
    """The connection of one peer that dialled this node.

    `core` is only read: its members and its term, by which messages are validated. `inbox` gets the messages with their bytes,
    for the step that follows, and is notified of bytes of an incomplete line of at least LONG_BYTES; while it has no
    room, the connection is not read. `refusal` returns why this connection's store is refused by now, "" if it is not; it is
    called before messages are taken, since members' stores change. `on_first` is called after the connection's first messages.
    """

    def __init__(
        self,
        peer_id: NodeId,
        core: Core,
        inbox: Inbox,
        figures: PeerFigures,
        refusal: Callable[[], str],
        on_first: Callable[[], None],
    ) -> None:
        self._peer_id = peer_id
        self._core = core
        self._inbox = inbox
        self._refusal = refusal
        self._figures = figures
        self._on_first: Callable[[], None] | None = on_first

    async def serve(self, connection: Connection, greeted: Greeted, poller: Poller) -> None:
        """Read messages until the peer disconnects; raise BadMessage, LineTooLong or Broken."""

        inbox = self._inbox

        def take(data: bytes) -> trio.Event | None:
            self._figures.received_bytes += len(data)
            lines = greeted.reader.feed(data)
            if lines:
                self._take(lines)
                if not inbox.has_room:
                    room = trio.Event()
                    inbox.call_when_there_is_room(room.set)
                    return room
            elif greeted.reader.pending_bytes >= LONG_BYTES:
                if refusal := self._refusal():
                    raise BadMessage(refusal)
                inbox.bytes_received(self._peer_id)
            return None

        self._take(greeted.lines)
        poller.wake()
        await poller.read(connection, take, is_urgent=True)

    def _take(self, lines: list[bytes]) -> None:
        if refusal := self._refusal():
            raise BadMessage(refusal)
        for line in lines:
            try:
                message = decode_message(line)
                if sender(message) != self._peer_id:
                    raise ValueError(f"node {self._peer_id} sent a message of node {sender(message)}")
                check_message(message, self._core.members, self._core.current_term)
                if type(message) is AppendRequest and message.entries:
                    check_commands([entry.command for entry in message.entries])
            except (ValueError, RecursionError, BargeError) as problem:
                raise BadMessage(str(problem)) from None
            if type(message) is AppendReply:
                self._figures.append_answered(message, trio.current_time())
            self._inbox.take_message(message, len(line) + MESSAGE_BYTES)
        if lines and self._on_first is not None:
            self._on_first()
            self._on_first = None
