"""Who looks on while servers run: the invariants, the goals, the trace."""

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
"""What is done with a fact of one kind."""
LookAtMessage = Callable[[S, NodeId, Any], None]
"""What is done with a message of one kind to a node."""


class Watcher(Protocol[S_contra]):
    """Is told what servers do, when they do it."""

    @property
    def expects(self) -> Sized:
        """Empty unless somebody wants to see what arrives."""
        ...

    @property
    def sent(self) -> Mapping[type[Message], Callable[[S_contra, NodeId, Any], None]]:
        """What is done with a message that has left, by its kind."""
        ...

    def events_of(self, server: S_contra) -> Events:
        """Return what takes the facts of a server's replica."""
        ...

    def fact(self, server: S_contra, fact: Fact | HostFact) -> None:
        """Something happened to the server."""
        ...

    def passed(self, server: S_contra, now: float) -> None:
        """A step is over that began, and so ended, at `now` by the server's own clock."""
        ...

    def message_received(self, server: S_contra, message: Message) -> None:
        """A message has come, from a peer that is welcome; only while `expects` is not empty."""
        ...

    def refused(self, server: S_contra, peer: NodeId, reason: str) -> None:
        """The server does not hear a peer, and says why."""
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
        """These records are on the disk for good."""
        ...

    def sync_failed(self, server: S_contra) -> None:
        """The sync of a write failed that had been written before, in a step of its own."""
        ...

    def snapshot_saved(self, server: S_contra, snapshot: SnapshotMeta) -> None:
        """A snapshot of the server's own has its name."""
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
        """The server ends; nobody who waits for it is answered."""
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
