"""Who waits for a simulated server's answers (Ticket), and who looks on (Watcher)."""

from collections.abc import Callable, Mapping, Sequence, Sized
from typing import TYPE_CHECKING, Any, Protocol

from bargetrio.eventlog.driver_facts import DriverFact
from bargetrio.kv.store import Outcome, Store
from bargetrio.raft.facts import Fact
from bargetrio.raft.messages import Message, NodeId, SnapshotMeta, Term
from bargetrio.raft.records import Record
from bargetrio.raft.standing import Standing

if TYPE_CHECKING:
    from bargetrio.simulator.outcomes import Outcomes
    from bargetrio.simulator.server import Server


Look = Callable[["Server", Any], None]
"""What is done with a fact of one kind."""
LookAtMessage = Callable[["Server", NodeId, Any], None]
"""What is done with a message of one kind to a node."""


class Ticket(Protocol):
    """A client that waits for one answer; exactly one of these is called, unless the server dies first."""

    def committed(self, outcome: Outcome, index: int, term: Term) -> None:
        """The write was applied at `index`."""
        ...

    def read_at(self, store: Store) -> None:
        """The read may be answered from `store`."""
        ...

    def refused(self, leader: NodeId | None) -> None:
        """Nothing was done, and certainly so."""
        ...

    def unknown(self) -> None:
        """Nobody can tell."""
        ...


class Watcher(Protocol):
    """Who looks on: the invariants, the trace, the recorder."""

    @property
    def outcomes(self) -> "Outcomes":
        """Who compares what writes are told with what became of them."""
        ...

    @property
    def expects(self) -> Sized:
        """Empty unless somebody wants to see what arrives."""
        ...

    @property
    def sent(self) -> Mapping[type[Message], LookAtMessage]:
        """What is done with a message that has left, by its kind."""
        ...

    def fact(self, server: "Server", fact: Fact | DriverFact) -> None:
        """Something happened."""
        ...

    def synced(self, server: "Server", records: Sequence[Record]) -> None:
        """These records are on the disk for good."""
        ...

    def writing(self, server: "Server", records: Sequence[Record]) -> None:
        """A write has begun: from now on the disk may hold these records, whole or not at all."""
        ...

    def sync_failed(self, server: "Server") -> None:
        """The sync of a write failed that had been written before, in a step of its own."""
        ...

    def recovered(self, server: "Server") -> None:
        """The server has read its log."""
        ...

    def snapshot_saved(self, server: "Server", snapshot: SnapshotMeta) -> None:
        """A snapshot of the server's own has its name."""
        ...

    def piece_missing(self, server: "Server") -> None:
        """A piece of a snapshot that is to be sent can't be read."""
        ...

    def applied(self, server: "Server", first: int, last: int) -> None:
        """The store has taken these entries."""
        ...

    def passed(self, server: "Server", now: float) -> None:
        """A pass is over that began, and so ended, at `now` by the server's own clock."""
        ...

    def crashing(self, server: "Server", *, writing: bool) -> None:
        """The server is about to crash; `writing`: in the middle of a write."""
        ...

    def read_asked(self, ticket: Ticket) -> None:
        """A read has reached a server."""
        ...

    def read_served(self, server: "Server", ticket: Ticket) -> None:
        """It is answered from this server's store."""
        ...

    def arrived(self, server: "Server", message: Message) -> None:
        """A message has come, from a peer that is welcome; only while `expects` is not empty."""
        ...

    def refused(self, server: "Server", peer: NodeId, reason: str) -> None:
        """The server does not hear a peer, and says why."""
        ...

    def standing_written(self, server: "Server", standing: Standing) -> None:
        """The folder holds this standing."""
        ...

    def disk_lost(self, server: "Server") -> None:
        """An empty disk is in the place of the server's."""
        ...

    def image_kept(self, server: "Server") -> None:
        """There is another copy of the server's folder."""
        ...

    def put_back(self, server: "Server", number: int) -> None:
        """That copy is in the folder's place; the first one is number 0."""
        ...

    def power_failed(self, server: "Server", *, lied: bool) -> None:
        """The server's machine went down; `lied`: its disk has lost something that it had said to be synced."""
        ...

    def must_stop(self, server: "Server") -> bool:
        """Return whether a server that found something broken for good has stopped as it should."""
        ...

    def overloaded(self, server: "Server") -> None:
        """A leader has refused a write because it has too much that is not committed."""
        ...

    def gave_up(self, server: "Server", what: str) -> None:
        """A leader lost its office with "reads" or "writes" waiting; or a disk was full, for "a snapshot" or a write."""
        ...
