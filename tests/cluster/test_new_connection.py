"""A new connection to the same node: the same ids are in use at once, and no answer of the old one reaches the new one's."""

import json
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from bargetrio.cluster.in_flight import RequestBatch
from bargetrio.cluster.node_link import NodeLink
from bargetrio.protocol.errors import NoAnswer, NotSent
from bargetrio.protocol.requests import Delete, ErrorAnswer, Get, GetAnswer, Put, Request
from bargetrio.transport.network import Broken, Connection, Listener
from bargetrio.transport.outgoing import Outgoing

HELLO = b'{"hello":"node","protocol":1,"cluster":"barge","node":0}\n'


class Wire:
    """A connection whose other side is the test."""

    def __init__(self) -> None:
        self.sent = b""
        self.outgoing = Outgoing(len)
        self.is_closed = False
        self._to_read, self._arrived = trio.open_memory_channel[bytes](100)
        self.unsent_bytes = 0
        self.say(HELLO)

    def say(self, data: bytes) -> None:
        self._to_read.send_nowait(data)

    def cut(self) -> None:
        self._to_read.close()

    def ids(self) -> list[tuple[int, str]]:
        """Return (id, key) of what was asked here."""
        asked = [json.loads(line) for line in self.sent.split(b"\n")[:-1]]
        return [(request["id"], request["key"]) for request in asked if "id" in request]

    def post(self, data: bytes) -> None:
        self.sent += data

    async def receive(self) -> bytes:
        try:
            return await self._arrived.receive()
        except trio.EndOfChannel:
            raise Broken("cut") from None

    async def write(self) -> None: ...
    def finish(self) -> None: ...

    def kernel_bytes(self) -> int:
        return 0

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.close()


class Wires:
    """A network that gives a new one for each dial."""

    def __init__(self) -> None:
        self.dialled: list[Wire] = []

    async def connect(self, host: str, port: int) -> Connection:
        await trio.lowlevel.checkpoint()
        self.dialled.append(Wire())
        return self.dialled[-1]

    async def listen(self, host: str, port: int) -> Listener:
        raise AssertionError("nobody listens here")


def got(request_id: int, key: str, value: str) -> bytes:
    return json.dumps({"id": request_id, "ok": True, "key": key, "index": 1, "value": value}).encode() + b"\n"


def values(batch: RequestBatch) -> list[Any]:
    return [answer.value if isinstance(answer, GetAnswer) else answer for answer in batch.answers]


@pytest.mark.parametrize("attempt", range(20))  # trio runs what is ready in any order
async def test_requests_of_two_connections_never_meet(attempt: int) -> None:
    """One is cut with a request under way and half an answer read; another is asked at once, with the same id."""
    network = Wires()
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            link = NodeLink("there:1", "barge", network, nursery)
            old, new = (
                RequestBatch([Get(id=0, key="a"), Get(id=0, key="b")]),
                RequestBatch([Get(id=0, key="c"), Get(id=0, key="d")]),
            )
            ended: list[str] = []

            async def ask(batch: RequestBatch, name: str) -> None:
                try:
                    await link.ask(batch)
                    ended.append(f"{name} is answered")
                except NoAnswer:
                    ended.append(f"{name} is cut")

            nursery.start_soon(ask, old, "old")
            await wait_all_tasks_blocked()
            first = network.dialled[0]
            (one, _), (two, _) = first.ids()
            first.say(got(two, "b", "B") + got(one, "a", "old")[:-9])
            first.cut()
            while not first.is_closed:  # before or after the one that waited has been woken
                await trio.lowlevel.checkpoint()
            nursery.start_soon(ask, new, "new")
            await wait_all_tasks_blocked()
            second = network.dialled[1]
            asked = second.ids()
            assert {key for _, key in asked} == {"c", "d"}
            for request_id, key in asked:
                second.say(got(request_id, key, key.upper())[:20])
                second.say(got(request_id, key, key.upper())[20:])
            await wait_all_tasks_blocked()
            assert values(new) == ["C", "D"]
            assert values(old) == [None, "B"]
            assert sorted(ended) == ["new is answered", "old is cut"]
            assert first.is_closed and not second.is_closed
            assert link.waiting == 0
            nursery.cancel_scope.cancel()


async def test_the_end_of_an_old_connection_wakes_no_request_on_the_new_one() -> None:
    """Its task may end after the next one was dialled; and what left it must not be taken back from the new one."""
    network = Wires()
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            link = NodeLink("there:1", "barge", network, nursery)
            for round_ in range(3):
                batch = RequestBatch([Get(id=0, key=f"k{round_}")])
                with trio.CancelScope() as patience:
                    async with trio.open_nursery() as asking:
                        asking.start_soon(link.ask, batch)
                        await wait_all_tasks_blocked()
                        assert link.waiting == 1
                        if round_ == 1:
                            patience.cancel()  # cancelled: a late answer on the same connection is ignored
                            continue
                        wire = network.dialled[-1]
                        for request_id, key in [(ident, key) for ident, key in wire.ids()]:
                            wire.say(got(request_id, key, "v" if key == f"k{round_}" else "late"))
                if round_ != 1:
                    assert values(batch) == ["v"]
                assert link.waiting == 0
            nursery.cancel_scope.cancel()


async def test_an_answer_about_another_key_or_unreadable_is_its_own_requests_error() -> None:
    """Those beside it are answered; of a write it is unknown whether it was done."""
    network = Wires()
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            link = NodeLink("there:1", "barge", network, nursery)
            batches = [
                RequestBatch([Get(id=0, key="a")]),
                RequestBatch([Put(id=0, key="b", value="x")]),
                RequestBatch([Get(id=0, key="c")]),
            ]
            for batch in batches:
                nursery.start_soon(link.ask, batch)
            await wait_all_tasks_blocked()
            (wire,) = network.dialled
            for request_id, key in wire.ids():
                wrong = {"a": got(request_id, "other", "v"), "b": b'{"id":%d,"ok":true,"key":"b","index":"x"}\n' % request_id}
                wire.say(wrong.get(key, got(request_id, key, "v")))
            await wait_all_tasks_blocked()
            first, second, third = [batch.answers[0] for batch in batches]
            assert isinstance(first, ErrorAnswer) and isinstance(second, ErrorAnswer)
            assert (first.error, second.error, second.applied) == ("bad_request", "outcome_unknown", None)
            assert isinstance(third, GetAnswer)
            nursery.cancel_scope.cancel()


async def test_links_to_several_nodes_use_the_same_ids_at_once() -> None:
    """Each connection counts from one: an answer is looked for among the requests of its own."""
    networks = [Wires(), Wires(), Wires()]
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            links = [NodeLink("there:1", "barge", network, nursery) for network in networks]
            batches = [RequestBatch([Get(id=0, key=f"{name}{number}") for number in range(3)]) for name in "abc"]
            for link, batch in zip(links, batches, strict=True):
                nursery.start_soon(link.ask, batch)
            await wait_all_tasks_blocked()
            wires = [network.dialled[0] for network in networks]
            assert wires[0].ids() != wires[1].ids()
            for wire in reversed(wires):
                for request_id, key in wire.ids():
                    wire.say(got(request_id, key, key.upper()))
                await wait_all_tasks_blocked()
            assert [values(batch) for batch in batches] == [[f"{name}{number}" for number in range(3)] for name in "ABC"]
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("write", [Put(id=0, key="b", value="x"), Delete(id=0, key="b")], ids=["put", "delete"])
async def test_a_write_whose_answer_cannot_be_read_is_unknown(write: Request) -> None:
    """It may be committed, whichever operation it is; an answer about another key says no more."""
    network = Wires()
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            link = NodeLink("there:1", "barge", network, nursery)
            for answer in (b'{"id":%d,"ok":true,"key":"b","index":"x"}\n', b'{"id":%d,"ok":true,"key":"c","index":1,"term":1}\n'):
                batch = RequestBatch([write])
                nursery.start_soon(link.ask, batch)
                await wait_all_tasks_blocked()
                wire = network.dialled[-1]
                wire.say(answer % wire.ids()[-1][0])
                await wait_all_tasks_blocked()
                (told,) = batch.answers
                assert isinstance(told, ErrorAnswer) and (told.error, told.applied) == ("outcome_unknown", None)
            nursery.cancel_scope.cancel()


class Closed(Wires):
    """A network in which dials fail at first."""

    is_open = False

    async def connect(self, host: str, port: int) -> Connection:
        if not self.is_open:
            raise OSError("nobody there")
        return await super().connect(host, port)


async def test_a_write_that_was_not_sent_keeps_no_other_waiting() -> None:
    """Single writes wait for those under way: one that never left is none of them."""
    network = Closed()
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            link = NodeLink("there:1", "barge", network, nursery)
            for _ in range(2):
                with pytest.raises(NotSent):
                    await link.ask(RequestBatch([Put(id=0, key="a", value="x")]))
            network.is_open = True
            nursery.start_soon(link.ask, RequestBatch([Put(id=0, key="b", value="x")]))
            await wait_all_tasks_blocked()
            assert [key for _, key in network.dialled[-1].ids()] == ["b"]
            nursery.cancel_scope.cancel()
