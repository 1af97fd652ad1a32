"""A peer's connection: reports of incomplete messages."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from msgspec import structs
from trio.testing import wait_all_tasks_blocked

from bargetrio.node.peers import LONG_BYTES, BadMessage, PeerSession
from bargetrio.protocol.limits import LINE_BYTES
from bargetrio.protocol.lines import LineReader
from bargetrio.raft.messages import Message, SnapshotRequest, encode_message
from bargetrio.raft.standing import Configuration, Standing
from bargetrio.replica.figures import PeerFigures
from bargetrio.replica.hellos import HelloValidator
from bargetrio.replica.inbox import MESSAGE_BYTES, MESSAGES_BYTES, Inbox
from bargetrio.transport.handshake import Greeted
from tests.raft.cores import append, follower, snapshot
from tests.replica.hosts import Hosted, one_of_three


class Parts:
    """What comes, part by part, as one node's poller hand it over."""

    def __init__(self, *parts: bytes) -> None:
        self._parts = parts

    def wake(self) -> None: ...

    async def read(self, connection: Any, take: Callable[[bytes], trio.Event | None], *, is_urgent: bool) -> None:
        assert is_urgent  # heartbeats wait for no client's megabytes
        for part in self._parts:
            take(part)


async def received_of(*parts: bytes, refusal: str = "") -> tuple[int, int]:
    """Return how many messages arrived, and how often bytes of a long one were reported."""
    inbox = Inbox(lambda: None)
    figures = PeerFigures()
    session = PeerSession(1, follower().core, inbox, figures, lambda: refusal, lambda: None)
    greeted = Greeted(peer_id=1, standing=None, lines=[], reader=LineReader(LINE_BYTES))
    await session.serve(None, greeted, Parts(*parts))  # type: ignore[arg-type]  # as much as is needed here
    assert figures.received_bytes == sum(map(len, parts))
    sizes = [size - MESSAGE_BYTES for _, size in inbox.messages]
    assert sum(sizes) + len(sizes) == figures.received_bytes, "all are lines, with their ends"
    return len(inbox.messages), len(inbox.calls)


async def test_bytes_of_a_long_message_are_reported() -> None:
    """Not its end, which makes it a message, nor its first few bytes."""
    of = snapshot("1", size=3000)
    piece = encode_message(SnapshotRequest(term=1, leader_id=1, snapshot=of, offset=0, data=b"x" * 3000))
    parts = [piece[:1000], piece[1000:2000], piece[2000:3000], piece[3000:]]
    assert await received_of(*parts) == (1, 2)


async def test_a_heartbeat_in_parts_is_no_long_message() -> None:
    """Found by ring 2, whose reads are short: the leader took a piece that was lost for one that is arriving, for ever."""
    heartbeat = encode_message(append())
    assert len(heartbeat) < LONG_BYTES / 2
    assert await received_of(*[heartbeat[:7], heartbeat[7:]] * 5) == (5, 0)


@pytest.mark.parametrize("parts", [1, 3])
async def test_a_store_that_is_no_longer_the_members_is_refused_once_and_its_messages_dropped(parts: int) -> None:
    """BUG-38: also where it is noticed in the middle of a long message, and the members' stores do not change again."""
    piece = encode_message(SnapshotRequest(term=1, leader_id=1, snapshot=snapshot("1", size=3000), offset=0, data=b"x" * 3000))
    size = len(piece) // parts + 1
    inbox = Inbox(lambda: None)
    refusals = iter(
        [*[""] * (parts > 1), "has another store than before", "", "", ""]
    )  # it is asked before anything has come, too
    session = PeerSession(1, follower().core, inbox, PeerFigures(), lambda: next(refusals), lambda: None)
    greeted = Greeted(peer_id=1, standing=None, lines=[piece[:-1]] if parts == 1 else [], reader=LineReader(LINE_BYTES))
    with pytest.raises(BadMessage, match="another store"):
        await session.serve(None, greeted, Parts(*[piece[at : at + size] for at in range(0, len(piece), size)]))  # type: ignore[arg-type]
    assert inbox.is_empty


@pytest.mark.parametrize(
    "bad",
    [
        structs.replace(append(term=3, prev=(3, 1), log="2 3"), configurations=(9,)),
        append(term=3, prev=(3, 1), log="3 4"),
        append(term=2**63 - 1),
        SnapshotRequest(term=1, leader_id=1, snapshot=structs.replace(snapshot("1"), members=(0, 1)), offset=0, data=b"x"),
    ],
)
async def test_a_message_that_contradicts_itself_ends_its_connection_and_nothing_else(bad: Message) -> None:
    """What came before it is taken; it never reaches the core, where it would end the node."""
    inbox = Inbox(lambda: None)
    session = PeerSession(1, follower().core, inbox, PeerFigures(), lambda: "", lambda: None)
    greeted = Greeted(peer_id=1, standing=None, lines=[], reader=LineReader(LINE_BYTES))
    with pytest.raises(BadMessage):
        await session.serve(None, greeted, Parts(encode_message(append()) + encode_message(bad)))  # type: ignore[arg-type]
    assert [message for message, _ in inbox.messages] == [append()]


def test_a_connection_is_checked_again_when_members_or_the_own_store_change() -> None:
    """BUG-38: it was accepted for a store that counted then; a readmission on either side may have replaced that since."""
    before = Configuration(index=0, identity="born", stores={0: "s0", 1: "s1", 2: "s2"})
    after = Configuration(index=5, identity="born", stores={0: "s0", 1: "new", 2: "s2"}, readmitted=1)
    core: Any = SimpleNamespace(configuration=before, standing=Standing(store="s0", identity="born"), members=(0, 1, 2))
    refusal = HelloValidator(core, Inbox(lambda: None), {}).revalidator(1, Standing(store="s1", identity="born"))
    assert refusal() == ""
    core.configuration = after
    assert "another store" in refusal() and "another store" in refusal()
    core.configuration = before  # truncated
    assert refusal() == ""
    core.standing = Standing(store="s0", identity="of another cluster")
    assert "another cluster" in refusal()


async def test_the_first_messages_of_a_connection_are_reported_once() -> None:
    """Bytes without an end of a line, and a hello without messages behind it, are none."""
    heartbeat = encode_message(append())
    told: list[int] = []
    inbox = Inbox(lambda: None)
    session = PeerSession(1, follower().core, inbox, PeerFigures(), lambda: "", lambda: told.append(len(inbox.messages)))
    greeted = Greeted(peer_id=1, standing=None, lines=[], reader=LineReader(LINE_BYTES))
    parts = Parts(heartbeat[:9], heartbeat[9:] + heartbeat, heartbeat)
    await session.serve(None, greeted, parts)  # type: ignore[arg-type]  # as much as is needed here
    assert (told, len(inbox.messages)) == ([2], 3)


@pytest.mark.parametrize(("log", "count"), [("", 100), ("1 " * 400, 4)])
async def test_a_peer_is_not_read_while_too_much_of_peers_waits_for_a_step(log: str, count: int) -> None:
    """Without a secret anybody may say that he is one, and send without an end; small messages count, too."""
    node = Hosted(one_of_three())
    data = encode_message(append(log=log)) * count
    counted = len(data) + count * MESSAGE_BYTES
    reads = 0

    async def receive() -> bytes:
        nonlocal reads
        await trio.lowlevel.checkpoint()
        reads += 1
        assert reads < 3 * MESSAGES_BYTES / counted, "it is read without an end"
        return data

    connection: Any = SimpleNamespace(receive=receive)
    session = PeerSession(1, node.core, node.inbox, PeerFigures(), lambda: "", lambda: None)
    greeted = Greeted(peer_id=1, standing=None, lines=[], reader=LineReader(LINE_BYTES))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.serve, connection, greeted, node.poller)
        await wait_all_tasks_blocked()
        before = reads
        assert MESSAGES_BYTES - counted < reads * counted <= MESSAGES_BYTES + 2 * counted
        while not node.inbox.has_room:
            node.replica.step(trio.current_time())
        await wait_all_tasks_blocked()
        assert before < reads < before + 9, "steps have made room"
        node.inbox.drop_messages()
        await wait_all_tasks_blocked()
        assert reads >= 2 * before, "a change of members makes room, too"
        nursery.cancel_scope.cancel()
