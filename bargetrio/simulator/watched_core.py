"""A Core with hooks: reports proposals, snapshot chunks and their acknowledgements to the checkers.

A checker can't get these from facts and messages: the entries appended for proposals, the chunks to be sent and to be stored,
those that can't be read, and how a leader handled a follower's acknowledgement of a chunk.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from bargetrio.raft.core import Core
from bargetrio.raft.effects import Effect, SendChunk, StoreChunk, Ticket
from bargetrio.raft.messages import Command, Index, Message, NodeId, SnapshotMeta, SnapshotReply


class CoreWatcher(Protocol):
    """Receives the reports."""

    def proposed(self, tickets: Sequence[Ticket], first_index: Index) -> None:
        """Entries from `first_index` on were appended for these tickets, one each."""
        ...

    def storing(self, effect: StoreChunk) -> None:
        """A piece of a snapshot is to be stored."""
        ...

    def sending(self, effect: SendChunk) -> None:
        """A piece of a snapshot is to be read and sent."""
        ...

    def piece_missing(self, peer: NodeId, snapshot: SnapshotMeta) -> None:
        """A piece of a snapshot that is to be sent to a peer can't be read."""
        ...

    def piece_answered(self, reply: SnapshotReply) -> None:
        """The core has handled a follower's answer to a piece."""
        ...


class WatchedCore(Core):
    """Behaves as Core, and reports to its watcher."""

    def __init__(self, watcher: CoreWatcher, **arguments: Any) -> None:
        self._watcher = watcher
        super().__init__(**arguments)

    def propose_all(self, tickets: Sequence[Ticket], commands: Sequence[Command], now: float) -> None:
        """As Core's; once a proposal is refused as overloaded, so are those after it."""
        before = self.log.last_index
        super().propose_all(tickets, commands, now)
        self._watcher.proposed(tickets[: self.log.last_index - before], before + 1)

    def piece_missing(self, peer: NodeId, snapshot: SnapshotMeta) -> None:
        """As Core's."""
        self._watcher.piece_missing(peer, snapshot)
        super().piece_missing(peer, snapshot)

    def _step_rare(self, message: Message, now: float) -> None:
        super()._step_rare(message, now)
        if type(message) is SnapshotReply:
            self._watcher.piece_answered(message)

    def emit(self, effect: Effect) -> None:
        """As State's."""
        if type(effect) is StoreChunk:
            self._watcher.storing(effect)
        elif type(effect) is SendChunk:
            self._watcher.sending(effect)
        super().emit(effect)
