"""All clients of a process share one memory budget: only those that occupy much for long are refused."""

from random import Random
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from bargetrio.kv.commands import encode_command
from bargetrio.kv.store import Store
from bargetrio.node.clients import MOST_ASKED_BYTES, REQUEST_BYTES, ClientSession
from bargetrio.node.memory import POLL_S, ClientMemory
from bargetrio.protocol.lines import LineReader
from bargetrio.protocol.requests import Get, Put
from bargetrio.raft.core import Core
from bargetrio.raft.messages import Entry
from bargetrio.raft.records import HardState, Remembered
from bargetrio.raft.roles import Leader
from bargetrio.replica import requests
from bargetrio.replica.sessions import Batch, Session
from bargetrio.transport.handshake import Greeted
from bargetrio.transport.outgoing import ROOM_BYTES
from tests.replica.hosts import Hosted
from tests.replica.pipes import Pipe

VALUE = "v" * 100_000


class Wire(Pipe):
    """A pipe whose client sends when the test says so, and whose end is an end."""

    def __init__(self) -> None:
        super().__init__()
        self.to_client, self._sent = trio.open_memory_channel[bytes](1000)

    def say(self, data: bytes) -> None:
        """Let the client send it."""
        self.to_client.send_nowait(data)

    async def receive(self) -> bytes:
        """Return what the client has sent next; b"" when it has disconnected."""
        try:
            return await self._sent.receive()
        except trio.EndOfChannel:
            return b""

    def abort(self) -> None:
        super().abort()
        self.outgoing.drop()


class Client:
    """A connection that is being served."""

    def __init__(self, harness: "Harness") -> None:
        self.wire = Wire()
        self.session = ClientSession(self.wire, harness.node.inbox.session_has_room, harness.memory)
        self.has_ended = False
        harness.nursery.start_soon(self._serve, harness)

    async def _serve(self, harness: "Harness") -> None:
        greeted = Greeted(peer_id=None, standing=None, lines=[], reader=LineReader(8 << 20))
        await self.session.serve(greeted, harness.take, harness.node.poller)
        self.has_ended = True

    def say(self, data: bytes) -> None:
        """Send it."""
        self.wire.say(data)

    def get(self, count: int = 1) -> None:
        """Ask for a long value so often."""
        self.say(b"".join(msgspec.json.encode(Get(id=number, key="k")) + b"\n" for number in range(count)))

    def answers(self) -> list[Any]:
        """Return what it has read, as much as there is."""
        self.wire.read(1 << 30)
        return self.wire.answers()


class Harness:
    """A single node that leads, with one long value."""

    def __init__(self, nursery: trio.Nursery, memory: ClientMemory) -> None:
        self.nursery = nursery
        self.memory = memory
        entry = Entry(1, encode_command(Put(id=0, key="k", value=VALUE)))
        core = Core(
            node_id=0,
            node_ids=(0,),
            remembered=Remembered(hard_state=HardState(term=1), entries=(entry,)),
            heartbeat_s=0.05,
            election_s=(0.3, 0.6),
            random=Random(1),
            now=trio.current_time(),
        )
        self.node = Hosted(core, store=Store(), answer_room=memory.answers)
        self.takes_requests = True

    def take(self, session: Session, batch: Batch) -> None:
        """As a node's inbox does, unless its disk hangs."""
        if self.takes_requests:
            self.node.inbox.take_requests(session, batch)

    async def client(self) -> Client:
        """Return one that was let in."""
        client = Client(self)
        await wait_all_tasks_blocked()
        return client


class Open:
    """`async with Open(memory) as harness`."""

    def __init__(self, memory: ClientMemory) -> None:
        self._memory = memory

    async def __aenter__(self) -> Harness:
        self._manager = trio.open_nursery()
        nursery = await self._manager.__aenter__()
        harness = Harness(nursery, self._memory)
        nursery.start_soon(harness.node.run)
        nursery.start_soon(self._memory.watch)
        while not isinstance(harness.node.core.role, Leader) or harness.node.core.last_applied < 2:
            await trio.sleep(0.01)
        self._nursery = nursery
        return harness

    async def __aexit__(self, *why: Any) -> None:
        self._nursery.cancel_scope.cancel()
        await self._manager.__aexit__(*why)


async def test_all_that_was_counted_is_given_back(autojump_clock: MockClock) -> None:
    """However a client leaves: in the middle of a line, with requests under way, or with answers that it never took."""
    memory = ClientMemory()
    async with Open(memory) as harness:
        middle, asked, unread = [await harness.client() for _ in range(3)]
        middle.say(b"x" * 1000)
        unread.get(3)
        await wait_all_tasks_blocked()
        harness.takes_requests = False
        asked.get(2)
        await wait_all_tasks_blocked()
        line = len(msgspec.json.encode(Get(id=0, key="k"))) + 1
        unsent = unread.wire.unsent_bytes
        assert (middle.session.held_bytes, asked.session.held_bytes) == (1000, 2 * (line + REQUEST_BYTES))
        assert unread.session.held_bytes == unsent > 3 * len(VALUE)
        assert memory.used_bytes == 1000 + 2 * (line + REQUEST_BYTES) + unsent
        for client in (middle, asked, unread):
            client.wire.to_client.close()
        await wait_all_tasks_blocked()
        unread.wire.abort()
        harness.takes_requests = True
        harness.take(asked.session, Batch([], [], [Get(id=number, key="k", read="stale") for number in range(2)]))
        harness.node.inbox.wake()
        await trio.sleep(6)
        asked.wire.abort()
        assert memory.used_bytes == 0
        assert memory.answers.free == ClientMemory().answers.free


async def test_half_lines_of_many_clients_have_one_budget(autojump_clock: MockClock) -> None:
    """1,000 of 8 MiB would be 8 GB. The client with the most for the longest gets a reason, and others' lines are completed."""
    memory = ClientMemory(most_bytes=1_000_000)
    async with Open(memory) as harness:
        hoarders = [await harness.client() for _ in range(30)]
        good = await harness.client()
        for round in range(10):
            for hoarder in hoarders:
                hoarder.say(b"x" * 20_000)
            put = msgspec.json.encode(Put(id=round, key="good", value="w" * 60_000)) + b"\n"
            for start in range(0, len(put), 20_000):
                good.say(put[start : start + 20_000])
                await wait_all_tasks_blocked()
            assert memory.used_bytes <= 1_000_000
        assert [answer["ok"] for answer in good.answers()] == [True] * 10
        refused = [hoarder for hoarder in hoarders if hoarder.has_ended]
        assert len(refused) >= 20
        for hoarder in refused:
            (told,) = hoarder.answers()
            assert (told["id"], told["error"]) == (None, "overloaded") and "occupy too much memory" in told["detail"]


async def test_an_idle_client_that_begins_a_long_line_is_not_the_oldest(autojump_clock: MockClock) -> None:
    """What it holds now it has not held since it was idle."""
    memory = ClientMemory(most_bytes=1_000_000)
    async with Open(memory) as harness:
        idle = await harness.client()
        busy = await harness.client()
        for _ in range(50):
            busy.say(msgspec.json.encode(Put(id=1, key="busy", value="w" * 60_000)) + b"\n")
            await wait_all_tasks_blocked()
        hoarders = [await harness.client() for _ in range(9)]
        for hoarder in hoarders:
            hoarder.say(b"x" * 100_000)
            await wait_all_tasks_blocked()
        idle.say(b"x" * 200_000)
        await wait_all_tasks_blocked()
        assert not idle.has_ended
        assert hoarders[0].has_ended and not hoarders[-1].has_ended


async def test_who_has_the_most_requests_under_way_is_refused(autojump_clock: MockClock) -> None:
    """They end within their time; others are not refused for them."""
    memory = ClientMemory(most_bytes=1_000_000)
    async with Open(memory) as harness:
        harness.takes_requests = False
        other, greedy = await harness.client(), await harness.client()
        other.get(1)
        await wait_all_tasks_blocked()
        for _ in range(20):
            greedy.get(100)
            await wait_all_tasks_blocked()
        assert greedy.has_ended and not other.has_ended
        assert memory.used_bytes < 10_000
        other.get(1)
        await wait_all_tasks_blocked()
        assert not other.has_ended


async def test_unread_answers_of_many_clients_have_one_budget(autojump_clock: MockClock) -> None:
    """A hundred cost 157 MiB, each within its own bound. Reads of others wait, and those that take nothing are cut."""
    memory = ClientMemory(answer_bytes=1_000_000)
    async with Open(memory) as harness:
        hoarders = [await harness.client() for _ in range(40)]
        for hoarder in hoarders:
            hoarder.get(10)
        await wait_all_tasks_blocked()
        held = sum(hoarder.wire.unsent_bytes for hoarder in hoarders)
        assert 1_000_000 <= held < 1_000_000 + 2 * len(VALUE)
        good = await harness.client()
        good.wire.room = 1 << 30
        good.get(3)
        await wait_all_tasks_blocked()
        assert good.wire.answers() == []
        await trio.sleep(8 * POLL_S)
        assert [answer["ok"] for answer in good.wire.answers()] == [True] * 3
        assert any(hoarder.wire.is_aborted for hoarder in hoarders)
        assert sum(hoarder.wire.unsent_bytes for hoarder in hoarders) < 1_000_000 + 2 * len(VALUE)


async def test_who_takes_its_answers_is_not_cut_and_has_all_in_order(autojump_clock: MockClock) -> None:
    """Slowly is fast enough, and reads that waited for others' answers come in their order."""
    memory = ClientMemory(answer_bytes=300_000)
    async with Open(memory) as harness:
        clients = [await harness.client() for _ in range(5)]
        for client in clients:
            client.get(20)
        for _ in range(400):
            await trio.sleep(0.01)
            for client in clients:
                client.wire.read(30_000)
            await wait_all_tasks_blocked()
            assert sum(client.wire.unsent_bytes for client in clients) < 300_000 + 2 * len(VALUE)
        for client in clients:
            assert not client.wire.is_aborted
            assert [answer["id"] for answer in client.wire.answers()] == list(range(20))
            assert all(answer["ok"] for answer in client.wire.answers())


async def test_a_trickle_does_not_keep_the_room(autojump_clock: MockClock) -> None:
    """A client that receives 100 bytes a second occupies its answers like one that receives none."""
    memory = ClientMemory(answer_bytes=500_000)
    async with Open(memory) as harness:
        hoarder, good = await harness.client(), await harness.client()
        hoarder.get(20)
        await wait_all_tasks_blocked()
        good.wire.room = 1 << 30
        good.get()
        for _ in range(30):
            await trio.sleep(0.1)
            hoarder.wire.read(10)
        assert hoarder.wire.is_aborted
        assert [answer["ok"] for answer in good.wire.answers()] == [True]


async def test_nobody_is_cut_while_there_is_room(autojump_clock: MockClock) -> None:
    """A client may pause: its unreceived answers affect no other."""
    memory = ClientMemory()
    async with Open(memory) as harness:
        client = await harness.client()
        client.get(3)
        await trio.sleep(20)
        assert [answer["ok"] for answer in client.answers()] == [True] * 3


async def test_requests_that_wait_are_bounded_in_bytes_too(autojump_clock: MockClock) -> None:
    """20,000 of a connection were allowed, each with a value of 1 MiB."""
    async with Open(ClientMemory()) as harness:
        harness.takes_requests = False
        client = await harness.client()
        for number in range(40):
            client.say(msgspec.json.encode(Put(id=number, key="k", value="w" * 1_000_000)) + b"\n")
        await wait_all_tasks_blocked()
        assert MOST_ASKED_BYTES < client.session.held_bytes < MOST_ASKED_BYTES + 1_100_000


def test_what_is_left_for_answers_is_what_is_not_used() -> None:
    """Whatever comes and goes; the clock only rises."""

    class Holder:
        held_bytes = since = 0
        taken_bytes = None

        def refuse(self) -> None:
            raise AssertionError("there is room")

    random = Random(1)
    memory = ClientMemory(most_bytes=10_000, answer_bytes=5000)
    holders = [Holder() for _ in range(5)]
    unsent = dict.fromkeys(holders, 0)
    for holder in holders:
        memory.enter(holder)
    for _ in range(1000):
        holder = random.choice(holders)
        pending, owed = random.randint(0, 1000), random.randint(0, 1000)
        clock = memory.clock
        memory.change(holder, pending + owed - holder.held_bytes, owed - unsent[holder])
        unsent[holder] = owed
        assert memory.used_bytes == sum(each.held_bytes for each in holders)
        assert memory.answers.free == 5000 - sum(unsent.values())
        assert memory.clock >= clock


@pytest.mark.parametrize("count", [1, 40])
async def test_sessions_that_wait_for_room_are_resumed_in_turn(count: int, autojump_clock: MockClock) -> None:
    """All of them, also where each step's answers are taken at once and nothing ever is unsent."""
    memory = ClientMemory(answer_bytes=150_000)
    async with Open(memory) as harness:
        clients = [await harness.client() for _ in range(count)]
        for client in clients:
            client.wire.room = 1 << 30
            client.get(5)
        await trio.sleep(0.5)
        for client in clients:
            assert [answer["id"] for answer in client.wire.answers()] == list(range(5))
        assert not memory.answers.waiting and memory.used_bytes == 0
        assert ROOM_BYTES > 150_000


async def test_a_step_makes_so_many_bytes_of_answers_and_no_more(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """64 MiB of them held the loop longer than an election timeout. All come, in their order, a few in each step."""
    monkeypatch.setattr(requests, "ANSWER_BYTES_A_STEP", 3 * len(VALUE))
    memory = ClientMemory()
    made: list[int] = []
    async with Open(memory) as house:
        flush = house.node.replica.requests.flush

        def flushed() -> None:
            made.append(house.node.replica.requests._made_bytes)
            flush()

        monkeypatch.setattr(house.node.replica.requests, "flush", flushed)
        clients = [await house.client() for _ in range(7)]
        for client in clients:
            client.wire.room = 1 << 30
            client.get(10)
        await trio.sleep(0.5)
        for client in clients:
            assert [answer["id"] for answer in client.wire.answers()] == list(range(10))
        assert max(made) == 3 * len(VALUE) and sum(made) == 70 * len(VALUE)
