"""A Core with hooks: reports proposals, snapshot chunks and their acknowledgements to the checkers.

A checker can't get these from facts and messages: the entries appended for proposals, the chunks to be sent and to be stored,
those that can't be read, and how a leader handled a follower's acknowledgement of a chunk.
"""

from collections.abc import Sequence
from typing import Any, Generic

from bargetrio.raft.core import Core
from bargetrio.raft.effects import Effect, SendChunk, StoreChunk, Ticket
from bargetrio.raft.messages import Command, Message, NodeId, SnapshotMeta, SnapshotReply
from bargetrio.simulator.observer import S, Watcher


class WatchedCore(Core, Generic[S]):
    """Behaves as Core, and reports to the watcher of the seed."""

    def __init__(self, server: S, watcher: Watcher[S], **arguments: Any) -> None:
        self._server = server
        self._watcher = watcher
        super().__init__(**arguments)

    def propose_all(self, tickets: Sequence[Ticket], commands: Sequence[Command], now: float) -> None:
        """As Core's; once a proposal is refused as overloaded, so are those after it."""
        before = self.log.last_index
        super().propose_all(tickets, commands, now)
        self._watcher.proposed(self._server, tickets[: self.log.last_index - before], before + 1)

    def piece_missing(self, peer: NodeId, snapshot: SnapshotMeta) -> None:
        """As Core's."""
        self._watcher.piece_missing(self._server, peer, snapshot)
        super().piece_missing(peer, snapshot)

    def _step_rare(self, message: Message, now: float) -> None:
        super()._step_rare(message, now)
        if type(message) is SnapshotReply:
            self._watcher.piece_answered(self._server, message)

    def emit(self, effect: Effect) -> None:
        """As State's."""
        if type(effect) is StoreChunk:
            self._watcher.storing(self._server, effect)
        elif type(effect) is SendChunk:
            self._watcher.sending(self._server, effect)
        super().emit(effect)
