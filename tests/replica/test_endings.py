"""What a node tells of each operation, whichever way it ends: three replicas, whose messages a test may hold back."""

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any, Final

import pytest
import trio
from trio.testing import MockClock

from bargetrio.eventlog.host_facts import HostFact, RequestAnswered, RequestReceived
from bargetrio.kv.commands import encode_command
from bargetrio.node.clients import ClientSession
from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.requests import Delete, Get, List, Put, Request
from bargetrio.raft import core as core_module
from bargetrio.raft.core import Core
from bargetrio.raft.facts import Fact
from bargetrio.raft.messages import Message
from bargetrio.raft.records import Remembered
from bargetrio.raft.roles import Leader
from bargetrio.replica.figures import NodeFigures
from bargetrio.replica.replica import StorageFailed
from bargetrio.replica.sessions import Batch
from tests.replica.hosts import Hosted, Nobody, Posted
from tests.replica.pipes import Pipe

OPERATIONS: Final[dict[str, Request]] = {
    "put": Put(id=1, key="a", value="new"),
    "conditional put": Put(id=1, key="a", value="new", if_index=2),
    "put if absent": Put(id=1, key="b", value="new", if_absent=True),
    "delete": Delete(id=1, key="a"),
    "conditional delete": Delete(id=1, key="a", if_index=2),
    "get": Get(id=1, key="a"),
    "list": List(id=1),
}
"""Their conditions hold: the first write of the test is entry 2."""


class Counted(Nobody):
    """A sink that adds up what is told: how many writes came, and how many requests were answered, by kind and error."""

    def __init__(self) -> None:
        self.received = 0
        self.answered: Counter[tuple[str, str]] = Counter()

    def record(self, node_id: int | None, fact: Fact | HostFact) -> None:
        if isinstance(fact, RequestReceived):
            self.received += fact.count
        elif isinstance(fact, RequestAnswered):
            self.answered[fact.op, fact.error] += fact.count


class Client:
    """A session whose client reads all its answers."""

    def __init__(self, node: Hosted) -> None:
        self._pipe = Pipe()
        self._pipe.room = 1 << 30
        self.session = ClientSession(self._pipe, node.inbox.session_has_room)

    @property
    def answers(self) -> list[Any]:
        """Return the answers, decoded."""
        return self._pipe.answers()


class Three:
    """A cluster of three; `cut` are the nodes that neither send nor hear."""

    def __init__(self, request_timeout_s: float) -> None:
        self.cut: set[int] = set()
        self.dead: set[int] = set()
        self.sinks = [Counted() for _ in range(3)]
        self.figures = [NodeFigures() for _ in range(3)]
        self.nodes = [self._node(node_id, request_timeout_s) for node_id in range(3)]

    def _node(self, node_id: int, request_timeout_s: float) -> Hosted:
        core = Core(
            node_id=node_id,
            node_ids=(0, 1, 2),
            remembered=Remembered(),
            heartbeat_s=0.05,
            election_s=(0.3, 0.6),
            random=Random(node_id),
            now=trio.current_time(),
        )

        def post(to: int, message: Message) -> None:
            if not (self.cut | self.dead) & {node_id, to}:
                self.nodes[to].inbox.take_message(message)
                self.nodes[to].inbox.wake()

        return Hosted(
            core,
            events=self.sinks[node_id],
            outbox=Posted(post),
            figures=self.figures[node_id],
            request_timeout_s=request_timeout_s,
        )

    async def run(self, node_id: int) -> None:
        """As server.py does: a failed disk is told to all who wait."""
        node = self.nodes[node_id]
        try:
            await node.run()
        except StorageFailed as problem:
            node.replica.fail_waiting(BargeError("storage_failed", str(problem)))
            self.dead.add(node_id)

    def leaders(self) -> list[int]:
        return [n for n, node in enumerate(self.nodes) if isinstance(node.core.role, Leader) and n not in self.dead]

    async def until(self, look: Callable[[], object]) -> None:
        """Wait, in virtual time."""
        with trio.fail_after(30):
            while not look():
                await trio.sleep(0.01)

    def ask(self, node_id: int, request: Request) -> Client:
        """Ask a node; return who is told."""
        client = Client(self.nodes[node_id])
        is_write = isinstance(request, (Put, Delete))
        batch = Batch([request], [encode_command(request)], []) if is_write else Batch([], [], [request])  # type: ignore[list-item,arg-type]
        self.nodes[node_id].inbox.take_requests(client.session, batch)
        self.nodes[node_id].inbox.wake()
        return client


Ending = Callable[[Three, int, Request], Client]


def committed(three: Three, leader: int, request: Request) -> Client:
    return three.ask(leader, request)


def cut_off(three: Three, leader: int, request: Request) -> Client:
    three.cut.add(leader)
    return three.ask(leader, request)


def disk_fails(three: Three, leader: int, request: Request) -> Client:
    three.cut.add(leader)
    three.nodes[leader].wal.failure = OSError(5, "Input/output error")
    client = three.ask(leader, request)
    if not isinstance(request, (Put, Delete)):
        three.ask(leader, OPERATIONS["put"])  # a read writes nothing: somebody must
    return client


def asked_of_a_follower(three: Three, leader: int, request: Request) -> Client:
    return three.ask((leader + 1) % 3, request)


def condition_fails(three: Three, leader: int, request: Request) -> Client:
    if isinstance(request, Put):
        return three.ask(leader, Put(id=1, key="a", value="new", if_absent=True))
    if isinstance(request, Delete):
        return three.ask(leader, Delete(id=1, key="a", if_index=7))
    return three.ask(leader, request)


ENDINGS: Final[dict[str, tuple[Ending, float, str, str]]] = {
    "committed": (committed, 5, "", ""),
    "time out": (cut_off, 0.2, "outcome_unknown", "no_leader"),
    "time out before a step down": (cut_off, 0.2, "outcome_unknown", "no_leader"),
    "step down": (cut_off, 5, "outcome_unknown", "no_leader"),
    "disk fails": (disk_fails, 5, "storage_failed", "storage_failed"),
    "asked of a follower": (asked_of_a_follower, 5, "not_leader", "not_leader"),
    "overloaded": (committed, 5, "overloaded", ""),
    "condition fails": (condition_fails, 5, "precondition_failed", ""),
}
"""How; the node's time-out (an election takes 0.3 to 0.6 s); the error of a write, and of a read, "" for none."""


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("ending", ENDINGS)
async def test_what_is_answered_is_what_the_log_has(
    operation: str, ending: str, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exactly one answer; an error that says "not applied" belongs to no entry, then or later; an index to this very command."""
    request = OPERATIONS[operation]
    end, timeout_s, of_write, of_read = ENDINGS[ending]
    is_write = isinstance(request, (Put, Delete))
    three = Three(timeout_s)
    async with trio.open_nursery() as nursery:
        for node_id in range(3):
            nursery.start_soon(three.run, node_id)
        await three.until(three.leaders)
        (leader,) = three.leaders()
        first = three.ask(leader, Put(id=0, key="a", value="first"))
        await three.until(lambda: first.answers)
        assert first.answers[0]["index"] == 2
        await trio.sleep(0.2)
        if ending == "overloaded":
            monkeypatch.setattr(core_module, "UNCOMMITTED_ENTRIES", 0)
        client = end(three, leader, request)
        await three.until(lambda: client.answers)
        monkeypatch.undo()
        if ending.endswith("step down"):
            await three.until(lambda: leader not in three.leaders())
        three.cut.clear()
        three.nodes[leader].wal.failure = None
        await three.until(three.leaders)
        await trio.sleep(3)
        (new_leader,) = three.leaders()
        last = three.ask(new_leader, Put(id=0, key="z", value="last"))
        await three.until(lambda: last.answers)
        nursery.cancel_scope.cancel()
    assert len(client.answers) == 1
    (told,) = client.answers
    error = told.get("error", "")
    assert error == (of_write if is_write else of_read)
    log = three.nodes[new_leader].core.log
    commands = [bytes(log.entry(index).command) for index in range(1, log.last_index + 1)]
    if is_write and not error:
        assert commands[told["index"] - 1] == bytes(encode_command(request))  # type: ignore[arg-type]
    if is_write and error and told["applied"] is False and error != "precondition_failed":
        assert bytes(encode_command(request)) not in commands  # type: ignore[arg-type]
    for node_id, node in enumerate(three.nodes):
        if node_id not in three.dead:
            assert not node.replica.writes_under_way, "each write has ended, and what was to be sent behind it was"
            assert all(ticket.done for ticket in node.replica.requests.waiting)
    wanted = Counter({("write", ""): 2})
    if error or is_write:
        wanted["write" if is_write else "read", error] += 1
    if ending == "disk fails" and not is_write:
        wanted["write", "storage_failed"] += 1
    assert sum((sink.answered for sink in three.sinks), Counter()) == wanted
    for sink, figures in zip(three.sinks, three.figures, strict=True):
        assert sum(count for (op, _), count in sink.answered.items() if op == "write") == sink.received
        assert figures.proposals_committed + sum(figures.proposals_failed.values()) == sink.received


async def test_a_write_that_was_given_up_and_is_committed_with_another_is_no_committed_proposal(
    autojump_clock: MockClock,
) -> None:
    """It was counted as one that failed; each is counted once."""
    three = Three(0.2)
    async with trio.open_nursery() as nursery:
        for node_id in range(3):
            nursery.start_soon(three.run, node_id)
        await three.until(three.leaders)
        (leader,) = three.leaders()
        first = three.ask(leader, Put(id=0, key="a", value="first"))
        await three.until(lambda: first.answers)
        three.cut.add(leader)
        late = three.ask(leader, Put(id=1, key="a", value="late"))
        await three.until(lambda: late.answers)
        last = three.ask(leader, Put(id=2, key="a", value="last"))
        three.cut.clear()
        await three.until(lambda: last.answers)
        nursery.cancel_scope.cancel()
    assert [told["ok"] for client in (first, late, last) for told in client.answers] == [True, False, True]
    assert three.nodes[leader].core.last_applied == last.answers[0]["index"] == 4
    figures = three.figures[leader]
    failed = {code: count for code, count in figures.proposals_failed.items() if count}
    assert (figures.proposals_committed, failed) == (2, {"outcome_unknown": 1})
    assert three.sinks[leader].answered == {("write", ""): 2, ("write", "outcome_unknown"): 1}


@pytest.mark.parametrize("read", [Get(id=1, key="a", read="stale"), List(id=1, read="stale")], ids=["get", "list"])
async def test_a_stale_read_is_answered_by_every_node(read: Get | List, autojump_clock: MockClock) -> None:
    """Whoever leads, and though none hears another."""
    three = Three(5)
    async with trio.open_nursery() as nursery:
        for node_id in range(3):
            nursery.start_soon(three.run, node_id)
        await three.until(three.leaders)
        (leader,) = three.leaders()
        first = three.ask(leader, Put(id=0, key="a", value="first"))
        await three.until(lambda: first.answers)
        await trio.sleep(0.2)
        three.cut |= {0, 1, 2}
        clients = [three.ask(node_id, read) for node_id in range(3)]
        await trio.sleep(0.05)
        nursery.cancel_scope.cancel()
    item = {"key": "a", "index": 2, "value": "first"}
    shown = {"items": [item], "next": None, "index": 2} if isinstance(read, List) else item
    assert [client.answers for client in clients] == [[{"id": 1, "ok": True, **shown}]] * 3
