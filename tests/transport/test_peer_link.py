"""The line to one peer, where its connection ends."""

import random
from collections.abc import Callable
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from bargetrio.raft.messages import VoteReply, encode_message
from bargetrio.transport.faults import LinkFaults
from bargetrio.transport.handshake import HandshakeRefused
from bargetrio.transport.network import Connection, Listener
from bargetrio.transport.outgoing import Outgoing
from bargetrio.transport.peer_link import REDIAL_REFUSED_S, SMALL_BYTES, UNSENT_BYTES, PeerLink
from tests.raft.cores import append


class Line:
    """A connection that stands until it is hung up, and the network that leads to it."""

    unsent_bytes = 0

    def __init__(self) -> None:
        self.connection_closed = trio.Event()
        self.aborted = trio.Event()
        self.outgoing = Outgoing(len)
        self.posted: list[bytes] = []

    async def connect(self, host: str, port: int) -> Connection:
        return self

    async def listen(self, host: str, port: int) -> Listener:
        raise AssertionError("nobody listens here")

    async def receive(self) -> bytes:
        await self.connection_closed.wait()
        return b""

    async def write(self) -> None:
        await self.aborted.wait()

    def post(self, data: bytes) -> None:
        self.posted.append(data)

    def finish(self) -> None: ...

    def kernel_bytes(self) -> int:
        return 0

    def close(self) -> None: ...

    def abort(self) -> None:
        self.aborted.set()


def link_over(
    line: Line,
    faults: LinkFaults,
    traffic: Any,
    on_up: Callable[[], None],
    on_down: Callable[[str], None] = lambda reason: None,
) -> PeerLink:
    """Return a link to node 1 that dials this line."""
    return PeerLink(
        identity=SimpleNamespace(node_id=0),  # type: ignore[arg-type]  # as much of one as is needed here
        peer_id=1,
        address=("127.0.0.1", 1),
        network=line,
        faults=faults,
        random=random.Random(1),
        on_up=lambda peer: on_up(),
        on_down=lambda peer, reason: on_down(reason),
        figures=traffic,
    )


class PostsWhenTheWriterHasEnded(trio.abc.Instrument):
    """What a node's turn may do: it comes between the end of a connection's tasks and that of the one that began them."""

    def __init__(self, link: PeerLink) -> None:
        self._link = link
        self.problems: list[Exception] = []
        self.posted = trio.Event()

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        if task.name.endswith("write"):
            try:
                self._link.post(VoteReply(term=1, voter_id=0, granted=True))
            except Exception as problem:
                self.problems.append(problem)
            self.posted.set()


def test_what_is_long_does_not_keep_out_what_is_short() -> None:
    """OWN-37: a slow link that is full takes no further entries, but heartbeats, votes and answers for minutes."""
    line = Line()
    traffic = SimpleNamespace(sent_messages=0, sent_bytes=0, lost_messages=0, link_failures=0)
    link = link_over(line, LinkFaults(), traffic, lambda: None)
    link._connection = line
    entries, vote = append(log="1"), VoteReply(term=1, voter_id=0, granted=True)
    taken = []
    for line.unsent_bytes in (UNSENT_BYTES, UNSENT_BYTES + 1, UNSENT_BYTES + SMALL_BYTES + 1):
        line.posted.clear()
        for message in (entries, append(), vote):
            link.post(message)
        taken.append(len(line.posted))
    assert taken == [3, 2, 0]
    assert traffic.lost_messages == 4


class NarrowLine(Line):
    """Takes 40 bytes, and then nothing more."""

    def __init__(self) -> None:
        super().__init__()
        self.taken = bytearray()
        self.outgoing = Outgoing(self._take)

    @property
    def unsent_bytes(self) -> int:  # type: ignore[override]  # of the others it never changes
        return len(self.outgoing)

    def post(self, data: bytes) -> None:
        self.outgoing.post(data)

    def _take(self, data: bytes | memoryview) -> int:
        count = min(len(data), 40 - len(self.taken))
        if not count:
            raise BlockingIOError
        self.taken += data[:count]
        return count


def test_what_an_earlier_term_had_to_say_does_not_keep_a_vote_waiting() -> None:
    """OWN-37: a deposed leader has megabytes of entries in a slow link; the line that has begun ends whole."""
    line = NarrowLine()
    traffic = SimpleNamespace(sent_messages=0, sent_bytes=0, lost_messages=0, link_failures=0)
    link = link_over(line, LinkFaults(), traffic, lambda: None)
    link._connection = line
    first, vote = append(log="1 1"), VoteReply(term=2, voter_id=0, granted=True)
    for message in (first, append(log="1"), append(), vote, append(term=2)):
        link.post(message)
    waiting = encode_message(first)[40:] + encode_message(vote) + encode_message(append(term=2))
    assert (bytes(line.taken), bytes(line.outgoing.unsent)) == (encode_message(first)[:40], waiting)
    assert traffic.lost_messages == 2


@pytest.mark.parametrize("delay_ms", [0, 50])
async def test_a_message_posted_while_the_connection_ends_is_lost_and_no_more(
    delay_ms: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OWN-32. Whether a fault delays it or not: the network takes it."""

    async def hello(link: PeerLink, connection: Connection) -> Any:
        return SimpleNamespace()

    monkeypatch.setattr(PeerLink, "_hello", hello)
    line, faults, up = Line(), LinkFaults(), trio.Event()
    traffic = SimpleNamespace(sent_messages=0, sent_bytes=0, lost_messages=0, link_failures=0)
    faults.set([], {(0, 1): (False, 0.0, delay_ms / 1000)})
    link = link_over(line, faults, traffic, up.set)
    instrument = PostsWhenTheWriterHasEnded(link)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(link.run)
            await up.wait()
            trio.lowlevel.add_instrument(instrument)
            line.connection_closed.set()
            await instrument.posted.wait()
            trio.lowlevel.remove_instrument(instrument)
            nursery.cancel_scope.cancel()
    assert (instrument.problems, line.posted, traffic.lost_messages) == ([], [], 1)


class Lines(Line):
    """A network that leads to one connection after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[Line] = []

    async def connect(self, host: str, port: int) -> Connection:
        self.made.append(Line())
        return self.made[-1]


async def test_what_was_delayed_on_an_old_connection_is_not_said_on_a_new_one(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new connection's hello may be of another store: queued messages of the old one are not that store's (BUG-38)."""

    async def hello(link: PeerLink, connection: Connection) -> Any:
        return SimpleNamespace()

    monkeypatch.setattr(PeerLink, "_hello", hello)
    lines, faults, ups = Lines(), LinkFaults(), []
    traffic = SimpleNamespace(sent_messages=0, sent_bytes=0, lost_messages=0, link_failures=0)
    link = link_over(lines, faults, traffic, lambda: ups.append(trio.current_time()))
    faults.set([], {(0, 1): (False, 0.0, 1.0)})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.run)
        await trio.testing.wait_all_tasks_blocked()
        link.post(VoteReply(term=1, voter_id=0, granted=True))
        lines.made[0].connection_closed.set()
        await trio.sleep(5)
        nursery.cancel_scope.cancel()
    assert len(ups) == 2
    assert [line.posted for line in lines.made] == [[], []]


@pytest.mark.parametrize("what", ["nothing", "a message of the peer", "another standing of this node"])
async def test_a_refused_link_dials_at_once_only_when_the_refusal_may_not_hold_any_more(
    what: str, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A readmitted node is heard again without the pause after a refusal; what comes while it dials or is up changes nothing."""
    dialled: list[float] = []

    async def refused(link: PeerLink, connection: Connection) -> Any:
        dialled.append(trio.current_time())
        raise HandshakeRefused("forbidden", "another store")

    monkeypatch.setattr(PeerLink, "_hello", refused)
    traffic = SimpleNamespace(sent_messages=0, sent_bytes=0, lost_messages=0, link_failures=0)
    downs: list[str] = []
    link = link_over(Lines(), LinkFaults(), traffic, lambda: None, downs.append)
    link.peer_spoke()
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.run)
        await trio.sleep(0.1)
        if what == "a message of the peer":
            link.peer_spoke()
        elif what == "another standing of this node":
            link.reset()
        await trio.sleep(10.0)
        nursery.cancel_scope.cancel()
    pauses = [later - earlier for earlier, later in pairwise(dialled)]
    first, *others = pauses
    assert dialled[0] == began
    assert first == pytest.approx(0.1) if what != "nothing" else REDIAL_REFUSED_S[0] <= first <= REDIAL_REFUSED_S[1]
    assert all(REDIAL_REFUSED_S[0] <= pause <= REDIAL_REFUSED_S[1] for pause in others)
    assert downs == ["another store"]
