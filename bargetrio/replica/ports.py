"""The ports of a replica, implemented by its host: write-ahead log, peers, jobs, event log.

The product's host is node/: tasks of trio, threads, sockets. A port may call the replica's inbox at once, within its call.
"""

from collections.abc import Callable, Generator, Sequence
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeVar

from bargetrio.eventlog.host_facts import HostFact
from bargetrio.kv.store import Store
from bargetrio.raft.facts import Fact
from bargetrio.raft.messages import Message, NodeId
from bargetrio.raft.records import Record

T = TypeVar("T")

Wake = Callable[[], None]
"""Has `Replica.step` called soon. Thread-safe; what was queued before the call is taken by that step."""


class Wal(Protocol):
    """The write-ahead log."""

    def begin(self, number: int, records: Sequence[Record]) -> None:
        """Begin write `number`, at most one at a time; never blocks.

        It ends with one `Inbox.write_ended_threadsafe` or `write_ended`, or with the host.
        """
        ...


class Outbox(Protocol):
    """The connections to the peers."""

    def post(self, to: NodeId, message: Message) -> None:
        """Send the message, or lose it; never blocks."""
        ...

    def connection(self, to: NodeId) -> int:
        """Return a number that is another one after each reconnect to this peer."""
        ...

    def redial(self) -> None:
        """Reconnect to all peers: this node's standing has changed since the hellos of its connections."""
        ...


class Events(Protocol):
    """The sink of the replica's facts."""

    def stage(self, node_id: NodeId | None, fact: Fact | HostFact) -> None:
        """Timestamp the fact now and keep it for `flush`, which is called before the step returns; never raises."""
        ...

    def flush(self) -> None:
        """Record the staged facts; called after messages and answers of the step are sent."""
        ...


class Blocking(NamedTuple):
    """A step of a job: blocking work on files, which the host runs in a thread; it sends the result, or OSError, to the job."""

    work: Callable[[], object]


class Slice:
    """A step of a job: the job has just done a slice of its work in the loop, and yields to other tasks."""


class Sleep(NamedTuple):
    """A step of a job: continue after `seconds`."""

    seconds: float


SLICE: Final = Slice()

Step = Blocking | Slice | Sleep
Steps = Generator[Step, Any, None]


def blocking(work: Callable[[], T]) -> Generator[Step, Any, T]:
    """Have the host run `work`, and return its result: `data = yield from blocking(...)`. Raises what `work` raises."""
    result: T = yield Blocking(work)
    return result


JobKind = Literal["save", "load", "drop", "send", "store", "trim", "standing"]


class Job(NamedTuple):
    """A long job: for each step that `steps` yields, the host acts and then sends its result.

    A host that ends closes the generator. Steps run in the loop, one at a time, never during a step of the replica.
    """

    kind: JobKind
    steps: Steps
    store: Store | None = None
    """The state that is saved: while nothing is written to it, a host may give the job more of its time."""


class Jobs(Protocol):
    """Runs jobs concurrently with the loop."""

    def start(self, job: Job) -> None:
        """Run the job to its end, concurrently with others; returns before its first step."""
        ...

    def gave_up(self, what: str, again_s: float, problem: OSError) -> None:
        """Log that a full disk ended a job, which is retried after `again_s` seconds."""
        ...
