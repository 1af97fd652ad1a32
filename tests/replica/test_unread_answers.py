"""A client that does not read its answers costs little: no read is looked up for it, and none of its requests is read."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from bargetrio.eventlog.recorder import Recorder
from bargetrio.kv.commands import encode_command
from bargetrio.kv.store import Store
from bargetrio.node import clients
from bargetrio.node.clients import CUT_BYTES, MOST_UNSENT_BYTES, ClientSession
from bargetrio.protocol.lines import LineReader
from bargetrio.protocol.requests import Get, List, Put, ReadLevel
from bargetrio.raft.core import Core
from bargetrio.raft.messages import Entry
from bargetrio.raft.records import HardState, Remembered
from bargetrio.raft.roles import Leader
from bargetrio.replica.sessions import Batch, DeferredReads, Session, Ticket
from bargetrio.transport.handshake import Greeted
from tests.replica.hosts import Hosted
from tests.replica.pipes import Pipe

VALUE = "v" * 100_000
COMMANDS = [msgspec.Raw(b'{"op":"put","key":"k%02d","value":"%s"}' % (number, VALUE.encode())) for number in range(30)]


class Place:
    """A single node that leads, with thirty long values, and a client of it."""

    def __init__(self, looked_up: list[str]) -> None:
        entries = tuple(Entry(1, command) for command in COMMANDS)
        core = Core(
            node_id=0,
            node_ids=(0,),
            remembered=Remembered(hard_state=HardState(term=1), entries=entries),
            heartbeat_s=0.05,
            election_s=(0.3, 0.6),
            random=Random(1),
            now=trio.current_time(),
        )
        self.recorder = Recorder("run", wall_clock=trio.current_time)
        self.node = Hosted(core, store=Listening(looked_up), events=self.recorder)
        self.pipe = Pipe()
        self.session = ClientSession(self.pipe, self.node.inbox.session_has_room)

    async def ask(self, *reads: Get | List) -> None:
        """Have the node take these."""
        self.session._in_flight += len(reads)
        self.node.inbox.take_requests(self.session, Batch([], [], list(reads)))
        self.node.inbox.wake()
        await wait_all_tasks_blocked()


class Listening(Store):
    """Notes what is looked up."""

    def __init__(self, looked_up: list[str]) -> None:
        super().__init__()
        self._looked_up = looked_up

    def get(self, key: str) -> Any:
        self._looked_up.append(key)
        return super().get(key)

    def items(self, *asked: Any, **more: Any) -> Any:
        self._looked_up.append("a list")
        return super().items(*asked, **more)


@asynccontextmanager
async def place(looked_up: list[str]) -> AsyncIterator[Place]:
    """Give one that leads."""
    found = Place(looked_up)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(found.node.run)
        while not isinstance(found.node.core.role, Leader) or found.node.core.last_applied <= len(COMMANDS):
            await trio.sleep(0.01)
        yield found
        nursery.cancel_scope.cancel()


def gets(count: int, read: ReadLevel) -> list[Get | List]:
    return [Get(id=number, key=f"k{number % 30:02d}", read=read) for number in range(count)]


READS = pytest.mark.parametrize("read", ["linearizable", "stale"])


@READS
async def test_answers_are_not_made_while_a_client_does_not_read(read: ReadLevel, autojump_clock: MockClock) -> None:
    """About 1 MiB is looked up; what was deferred comes as the client reads, all of it and in order."""
    looked_up: list[str] = []
    async with place(looked_up) as here:
        await here.ask(*gets(60, read))
        assert len(looked_up) == 11
        assert MOST_UNSENT_BYTES < here.pipe.unsent_bytes < MOST_UNSENT_BYTES + 2 * len(VALUE)
        await here.ask(*gets(60, read))
        assert len(looked_up) == 11
        while len(here.pipe.answers()) < 120:
            here.pipe.read(150_000)
            await wait_all_tasks_blocked()
            assert here.pipe.unsent_bytes < MOST_UNSENT_BYTES + 2 * len(VALUE)
        answers = here.pipe.answers()
        assert [answer["id"] for answer in answers] == [*range(60), *range(60)]
        assert {answer["value"] for answer in answers} == {VALUE}
        assert looked_up == [f"k{number % 30:02d}" for number in [*range(60), *range(60)]]


@READS
async def test_a_client_that_reads_at_once_gets_all_without_another_request(read: ReadLevel, autojump_clock: MockClock) -> None:
    """What is deferred for the bytes of this turn comes in the next ones, though no writer ever had to make room."""
    looked_up: list[str] = []
    async with place(looked_up) as here:
        here.pipe.room = 1 << 30
        await here.ask(*gets(60, read))
        assert [answer["id"] for answer in here.pipe.answers()] == list(range(60))


@READS
async def test_lists_are_not_made_while_a_client_does_not_read(read: ReadLevel, autojump_clock: MockClock) -> None:
    """A page counts with all that it shows."""
    looked_up: list[str] = []
    async with place(looked_up) as here:
        await here.ask(*[List(id=number, read=read) for number in range(20)])
        assert looked_up == ["a list", "a list"]


@READS
async def test_a_read_put_off_too_long_ends_as_an_error_and_is_never_looked_up(
    read: ReadLevel, autojump_clock: MockClock
) -> None:
    """The words say whose fault it is; one event tells of all that end together."""
    looked_up: list[str] = []
    async with place(looked_up) as here:
        await here.ask(*gets(60, read))
        await trio.sleep(6)
        here.pipe.read(1 << 24)
        await wait_all_tasks_blocked()
        answers = here.pipe.answers()
        assert len(answers) == 60 and len(looked_up) == 11
        errors = {(answer["error"], answer["detail"]) for answer in answers if not answer["ok"]}
        assert errors == {("overloaded", "earlier answers on this connection were not fetched in time")}
        told = [kept.fact for kept in here.recorder.page(None, kinds=frozenset({"request_answered"}), limit=100).events]
        assert [(fact.count, fact.op, fact.error) for fact in told] == [(49, "read", "overloaded")]  # type: ignore[union-attr]
        await here.ask(Get(id=99, key="k01", read=read))
        here.pipe.read(1 << 24)
        assert here.pipe.answers()[-1]["id"] == 99


async def test_a_client_that_reads_nothing_is_not_read_itself(autojump_clock: MockClock) -> None:
    """So the answers to writes are bounded, too: no more requests are taken than were under way."""
    taken: list[int] = []
    async with place([]) as here:
        pipe, session = here.pipe, here.session

        def submit(session: Session, batch: Batch) -> None:
            taken.append(len(batch.reads))
            here.node.inbox.take_requests(session, batch)

        greeted = Greeted(peer_id=None, standing=None, lines=[], reader=LineReader(1 << 20))
        requests = b"".join(msgspec.json.encode(read) + b"\n" for read in gets(20, "stale"))
        pipe.data = [requests] * 5
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.serve, greeted, submit, here.node.poller)
            await wait_all_tasks_blocked()
            seen = len(taken)
            assert seen < 5
            await trio.sleep(1)
            assert len(taken) == seen
            while len(pipe.answers()) < 100:
                pipe.read(1 << 20)
                await wait_all_tasks_blocked()
            assert taken == [20] * 5
            nursery.cancel_scope.cancel()


async def test_for_a_client_that_has_left_nothing_is_looked_up(autojump_clock: MockClock) -> None:
    """Nor does an event say of its reads, later, that they failed."""
    looked_up: list[str] = []
    async with place(looked_up) as here:
        greeted = Greeted(peer_id=None, standing=None, lines=[], reader=LineReader(1 << 20))
        await here.ask(*gets(30, "linearizable"))
        assert len(looked_up) == 11
        here.pipe.has_left.set()
        await here.session.serve(greeted, here.node.inbox.take_requests, here.node.poller)
        await here.ask(*gets(30, "linearizable"))
        here.pipe.read(1 << 24)
        await trio.sleep(6)
        assert len(looked_up) == 11
        assert here.recorder.page(None, kinds=frozenset({"request_answered"}), limit=100).events == []


BAD = b'{"id":7,"op":"get","key":""}'


@pytest.mark.parametrize("bad", [0, 1, 30])
async def test_what_was_answered_is_not_in_flight_any_more(bad: int, autojump_clock: MockClock) -> None:
    """Each request counts once, a bad one, too: else a connection is not read any more, or read without an end."""
    async with place([]) as here:
        good = [msgspec.json.encode(read) for read in gets(5, "stale")]
        lines = [line for pair in zip([BAD] * bad, good * 6, strict=False) for line in pair] or good
        greeted = Greeted(peer_id=None, standing=None, lines=lines, reader=LineReader(1 << 20))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(here.session.serve, greeted, here.node.inbox.take_requests, here.node.poller)
            while len(here.pipe.answers()) < len(lines):
                here.pipe.read(1 << 20)
                await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert here.session._in_flight == 0


async def test_requests_are_handed_over_with_the_bytes_of_their_lines(autojump_clock: MockClock) -> None:
    """A step takes requests up to a bound in bytes; a line that came in two parts counts as a whole."""
    async with place([]) as here:
        first, *rest = [msgspec.json.encode(read) for read in gets(5, "stale")]
        data = b"".join(line + b"\n" for line in rest)
        here.pipe.data = [data[:10], data[10:]]
        here.pipe.has_left.set()
        greeted = Greeted(peer_id=None, standing=None, lines=[first], reader=LineReader(1 << 20))
        sizes: list[int] = []
        await here.session.serve(greeted, lambda session, batch: sizes.append(batch.size), here.node.poller)
        assert sizes == [len(first), len(data)]


async def test_a_client_that_never_reads_is_disconnected(autojump_clock: MockClock) -> None:
    """Errors and the answers to writes are queued for whoever asked; there is an end to it."""
    async with place([]) as here:
        here.pipe.post(b"x" * CUT_BYTES)
        here.session._has_sent()  # as its writer does
        await here.ask(Get(id=1, key="none"))
        assert not here.pipe.is_aborted
        await trio.sleep(6)
        assert here.pipe.is_aborted


async def test_an_answer_that_no_line_holds_is_that_requests_error_alone(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others share the connection: a daemon's requests all travel on one."""
    monkeypatch.setattr(clients, "LINE_BYTES", 150_000)
    async with place([]) as here:
        await here.ask(Get(id=1, key="k01"), List(id=2, limit=2), Get(id=3, key="k02"))
        here.pipe.read(1 << 24)
        first, second, third = here.pipe.answers()
        assert (first["value"], third["value"]) == (VALUE, VALUE)
        assert (second["id"], second["ok"], second["error"], second["applied"]) == (2, False, "bad_request", False)


async def test_a_write_that_is_done_keeps_no_value_behind_a_read_that_waits(autojump_clock: MockClock) -> None:
    """Tickets time out in order: behind one unread get five seconds of others' puts stayed in memory, each with its value."""
    async with place([]) as here:
        await here.ask(*gets(60, "stale"))
        value = "w" * 1000
        others, before = Pipe(), sys.getrefcount(value)
        session = ClientSession(others, here.node.inbox.session_has_room)
        put = Put(id=1, key="k", value=value)
        here.node.inbox.take_requests(session, Batch([put], [encode_command(put)], []))
        del put
        here.node.inbox.wake()
        await wait_all_tasks_blocked()
        others.read(1 << 20)
        assert [answer["ok"] for answer in others.answers()] == [True]
        assert sum(not ticket.done for ticket in here.node.replica.requests.waiting) == 49
        assert len(here.node.replica.requests.waiting) == 50
        assert sys.getrefcount(value) == before


def test_a_read_that_is_deferred_again_stays_before_those_deferred_after_it() -> None:
    """It was taken when there was room, and by then there was none any more."""
    session: Any = None
    first, second = (Ticket(session, number, Get(id=number, key="a"), 0.0) for number in (1, 2))
    reads = DeferredReads()
    assert reads.add(first)
    assert reads.add(second)
    assert reads.add(next(reads.take_while(lambda: True)))
    assert [ticket.request_id for ticket in reads.take_while(lambda: True)] == [1, 2]
