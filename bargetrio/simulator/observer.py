"""The interface for the reports of simulated servers: to the invariants, the coverage counters and the trace hash."""

from collections.abc import Callable, Mapping, Sequence, Sized
from typing import Any, Protocol, TypeVar

from bargetrio.eventlog.host_facts import HostFact
from bargetrio.protocol.requests import Request
from bargetrio.raft.effects import SendChunk, StoreChunk, Ticket
from bargetrio.raft.facts import Fact
from bargetrio.raft.messages import Index, Message, NodeId, SnapshotMeta, SnapshotReply
from bargetrio.raft.records import Record
from bargetrio.raft.standing import Standing
from bargetrio.replica.ports import Events
from bargetrio.simulator.answers import AnyAnswer, Asker

S = TypeVar("S")
S_contra = TypeVar("S_contra", contravariant=True)
"""A server: this file stands below it."""

Look = Callable[[S, Any], None]
"""Handler of facts of one kind."""
LookAtMessage = Callable[[S, NodeId, Any], None]
"""Handler of sent messages of one kind; the node id is the receiver's."""


class Watcher(Protocol[S_contra]):
    """Receives a call for each event of a server, when it happens."""

    @property
    def expects(self) -> Sized:
        """Empty unless a checker needs received messages."""
        ...

    @property
    def sent(self) -> Mapping[type[Message], Callable[[S_contra, NodeId, Any], None]]:
        """Handlers of sent messages, by kind."""
        ...

    def events_of(self, server: S_contra) -> Events:
        """Return the sink of a server's facts."""
        ...

    def fact(self, server: S_contra, fact: Fact | HostFact) -> None:
        """The server's host reports a fact."""
        ...

    def passed(self, server: S_contra, now: float) -> None:
        """A step has ended; it began, and so ended, at `now` by the server's own clock."""
        ...

    def message_received(self, server: S_contra, message: Message) -> None:
        """A message was received from an accepted peer; only while `expects` is not empty."""
        ...

    def refused(self, server: S_contra, peer: NodeId, reason: str) -> None:
        """The server refuses a peer, with a reason."""
        ...

    # -- requests --------------------------------------------------------------------------------------------------------

    def read_asked(self, asker: Asker) -> None:
        """A read has reached a server."""
        ...

    def proposed(self, server: S_contra, tickets: Sequence[Ticket], first_index: Index) -> None:
        """Entries from `first_index` on were appended for these tickets of the replica, one each."""
        ...

    def answered(self, server: S_contra, request: Request, asker: Asker, answer: AnyAnswer) -> None:
        """The server answers a request, at the end of the step that decided it."""
        ...

    # -- the disk --------------------------------------------------------------------------------------------------------

    def writing(self, server: S_contra, records: Sequence[Record]) -> None:
        """A write has begun: from now on the disk may hold these records, whole or not at all."""
        ...

    def synced(self, server: S_contra, records: Sequence[Record]) -> None:
        """These records are durable."""
        ...

    def sync_failed(self, server: S_contra) -> None:
        """The sync of a write failed that had been written before, in a step of its own."""
        ...

    def snapshot_saved(self, server: S_contra, snapshot: SnapshotMeta) -> None:
        """A snapshot that the server saved was renamed to its final name."""
        ...

    def storing(self, server: S_contra, effect: StoreChunk) -> None:
        """A piece of a snapshot is to be stored."""
        ...

    def sending(self, server: S_contra, effect: SendChunk) -> None:
        """A piece of a snapshot is to be read and sent."""
        ...

    def piece_missing(self, server: S_contra, peer: NodeId, snapshot: SnapshotMeta) -> None:
        """A piece of a snapshot that is to be sent to a peer can't be read."""
        ...

    def piece_answered(self, server: S_contra, reply: SnapshotReply) -> None:
        """A server has handled a follower's answer to a piece of a snapshot."""
        ...

    def standing_written(self, server: S_contra, standing: Standing) -> None:
        """The folder holds this standing."""
        ...

    def gave_up(self, server: S_contra, what: str) -> None:
        """A full disk ended a job."""
        ...

    # -- life and death --------------------------------------------------------------------------------------------------

    def recovered(self, server: S_contra) -> None:
        """The server has read its log."""
        ...

    def crashing(self, server: S_contra, *, writing: bool) -> None:
        """The server is about to crash; `writing`: in the middle of a write."""
        ...

    def ended(self, server: S_contra) -> None:
        """The server's life ends; no waiting request is answered."""
        ...

    def power_failed(self, server: S_contra, *, lied: bool) -> None:
        """The server's machine went down; `lied`: its disk has lost something that it had said to be synced."""
        ...

    def disk_lost(self, server: S_contra) -> None:
        """An empty disk is in the place of the server's."""
        ...

    def image_kept(self, server: S_contra) -> None:
        """There is another copy of the server's folder."""
        ...

    def put_back(self, server: S_contra, number: int) -> None:
        """That copy is in the folder's place; the first one is number 0."""
        ...

    def must_stop(self, server: S_contra) -> bool:
        """Return whether a server that found something broken for good has stopped as it should."""
        ...
