"""What a host offers a replica: its log, its peers, its jobs, and who hears of its facts.

The product's host is node/: tasks of trio, threads, sockets. A port may call the replica's inbox back at once, within the call.
"""

from collections.abc import Callable, Generator, Sequence
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeVar

from bargetrio.eventlog.driver_facts import DriverFact
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
        """Begin write `number`, and return; one is in flight at most. It ends with one `Inbox.write_done`, or with the host."""
        ...


class Outbox(Protocol):
    """The connections to the peers."""

    def post(self, to: NodeId, message: Message) -> None:
        """Send the message, or lose it; never waits."""
        ...

    def redial(self) -> None:
        """This node's standing has changed since the hellos of its connections: begin them anew."""
        ...


class Events(Protocol):
    """Who hears of the replica's facts."""

    def stage(self, node_id: NodeId | None, fact: Fact | DriverFact) -> None:
        """Stamp the fact now and keep it for `flush`, which comes before the step returns; never raises."""
        ...

    def flush(self) -> None:
        """Tell the facts that were staged: nobody waits for the step any more."""
        ...


class Blocking(NamedTuple):
    """A step of a job: blocking work on files, which the host runs (in a thread) and whose result, or OSError, it gives back."""

    work: Callable[[], object]


class Slice:
    """A step of a job: a short part of a long work was just done by the job itself, and others may run before it goes on."""


class Sleep(NamedTuple):
    """A step of a job: go on after so many seconds."""

    seconds: float


SLICE: Final = Slice()

Step = Blocking | Slice | Sleep
Steps = Generator[Step, Any, None]


def blocking(work: Callable[[], T]) -> Generator[Step, Any, T]:
    """Have the host run `work`; return what it returns: `data = yield from blocking(...)`. Raises what it raises."""
    result: T = yield Blocking(work)
    return result


JobKind = Literal["save", "load", "send", "store", "trim", "standing"]


class Job(NamedTuple):
    """A long work: each `yield` of `steps` is something that the host does before it sends the result and the job goes on.

    A host that ends closes the generator. Steps run in the loop, one at a time, never while the replica makes a step.
    """

    kind: JobKind
    steps: Steps
    store: Store | None = None
    """The state that is saved: while nothing is written to it, a host may give the job more of its time."""


class Jobs(Protocol):
    """Runs jobs beside the loop."""

    def start(self, job: Job) -> None:
        """Run the job to its end, several at once; returns before its first step."""
        ...

    def gave_up(self, what: str, again_s: float, problem: OSError) -> None:
        """A full disk ended a job that will be tried again after so many seconds: tell the operator."""
        ...
