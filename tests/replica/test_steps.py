"""A step of a replica: what it takes, what it tells though it fails, and when it wants the next one."""

from typing import Any
from unittest.mock import Mock

import pytest
import trio
from msgspec import structs
from trio.testing import MockClock

from bargetrio.eventlog.recorder import Recorder
from bargetrio.kv.commands import encode_command
from bargetrio.node.clients import ClientSession
from bargetrio.protocol.requests import Get, Put
from bargetrio.raft.core import AT_ONCE, Core
from bargetrio.raft.effects import Effect
from bargetrio.raft.errors import ConsensusViolation
from bargetrio.raft.messages import Message, NodeId
from bargetrio.replica.replica import MESSAGES_A_STEP, NEVER
from bargetrio.replica.requests import STEP_BYTES
from bargetrio.replica.sessions import Batch
from tests.raft.cores import append
from tests.replica.hosts import Hosted, Nobody, Posted, one_of_three


async def test_what_a_step_staged_before_it_failed_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last facts before a node's end are those that matter most."""
    recorder = Recorder("run", wall_clock=lambda: 0.0)
    node = Hosted(one_of_three(), events=recorder)
    command = Put(id=1, key="a", value="1")
    node.inbox.take_requests(Mock(ClientSession), Batch([command], [encode_command(command)], []))

    def violated(core: Core, **_: object) -> list[Effect]:
        raise ConsensusViolation("two leaders")

    monkeypatch.setattr(Core, "take_effects", violated)
    with pytest.raises(ConsensusViolation):
        await node.run()
    assert [kept.fact.kind for kept in recorder.page(None, limit=9).events] == ["request_received"]


async def test_a_fenced_replica_makes_no_step(autojump_clock: MockClock) -> None:
    """Not even one that was due when it was killed: what it did then would be told after its death."""
    told: list[object] = []

    class Listening(Nobody):
        def record(self, node_id: int | None, fact: object) -> None:
            """Note it."""
            told.append(fact)

    node = Hosted(one_of_three(), events=Listening())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(node.run)
        await trio.sleep(0.2)
        node.replica.fence(trio.current_time())
        assert node.replica.step_one(append(term=3), trio.current_time()) == NEVER
        await trio.sleep(2)
        nursery.cancel_scope.cancel()
    assert told == []


async def test_one_message_that_finds_a_replica_at_rest_is_a_step() -> None:
    """`step_one` is `take_message` and `step`: the same is sent, and the next deadline is the same."""
    deadlines, sent = [], []
    for is_short in (False, True):
        posted: list[tuple[NodeId, Message]] = []
        node = Hosted(one_of_three(), outbox=Posted(lambda to, message, posted=posted: posted.append((to, message))))  # type: ignore[misc]
        node.replica.step(0.0)
        if is_short:
            deadline = node.replica.step_one(append(term=3), 0.1)
        else:
            node.inbox.take_message(append(term=3))
            deadline = node.replica.step(0.1)
        deadlines += [deadline, node.replica.step(0.1)]
        sent.append(posted)
    assert deadlines[0] == deadlines[2] == AT_ONCE, "its write has ended"
    assert deadlines[1] == deadlines[3] > 0.1
    assert sent[0] == sent[1] != []


async def test_a_session_is_flushed_once_a_step_however_much_it_is_answered() -> None:
    """And what was answered stays with the session until then."""
    node = Hosted(one_of_three())
    session: Any = Mock(ClientSession, answers=[], room=1 << 20)
    for number in range(3):
        node.inbox.take_requests(session, Batch([], [], [Get(id=number, key="a", read="stale")]))
    node.replica.step(0.0)
    assert [answer.id for answer in session.answers] == [0, 1, 2]
    session.flush.assert_called_once_with()


@pytest.mark.parametrize("changed_by", ["a message", "a call", "the time"])
async def test_messages_that_wait_when_a_members_store_changes_are_dropped(
    changed_by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """BUG-38: they came over connections of the stores before, and may acknowledge what the new one does not hold."""
    node = Hosted(one_of_three())
    stepped: list[Message] = []

    def change(core: Core) -> None:
        assert core.configuration is not None
        core.configuration = structs.replace(core.configuration, index=core.configuration.index + 1)

    def step(core: Core, message: Message, now: float) -> None:
        stepped.append(message)
        if changed_by == "a message":
            change(core)

    monkeypatch.setattr(Core, "step", step)
    if changed_by == "the time":
        monkeypatch.setattr(Core, "tick", lambda core, now: change(core))
    if changed_by == "a call":
        node.inbox.call(lambda core, now: change(core))
    for _ in range(MESSAGES_A_STEP + 1):
        node.inbox.take_message(append(term=1))
    node.replica.step(trio.current_time())
    assert len(stepped) == {"a message": 1, "a call": 0, "the time": MESSAGES_A_STEP}[changed_by]
    assert not node.inbox.messages


@pytest.mark.parametrize(("size", "taken"), [(STEP_BYTES * 3, 1), (STEP_BYTES // 4, 4), (100, 9)])
async def test_a_step_takes_messages_and_requests_up_to_a_bound_in_bytes(
    size: int, taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """256 messages may be lines of 8 MiB; one is taken in any case, and nothing is lost."""
    node = Hosted(one_of_three())
    stepped: list[Message] = []
    monkeypatch.setattr(Core, "step", lambda core, message, now: stepped.append(message))
    session: Any = Mock(ClientSession, answers=[], room=1 << 20)
    for number in range(9):
        node.inbox.take_message(append(term=1), size)
        node.inbox.take_requests(session, Batch([], [], [Get(id=number, key="a", read="stale")], size))
    now = trio.current_time()
    deadline = node.replica.step(now)
    assert (len(stepped), len(session.answers)) == (taken, taken)
    assert (deadline == AT_ONCE) == (taken < 9)
    for _ in range(8):
        node.replica.step(now)
    assert (len(stepped), len(session.answers)) == (9, 9)
