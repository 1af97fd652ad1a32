"""Answers of bulk writes that nobody takes are bounded in bytes, for one request and for all of a process."""

from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import trio
from trio.testing import wait_all_tasks_blocked

from bargetrio.cluster.cluster import Cluster
from bargetrio.protocol.requests import Put, PutAnswer
from bargetrio.web import bulk
from bargetrio.web.bulk import BulkMemory, BulkWrite
from bargetrio.web.metrics import WebCounters

MIB = 1024 * 1024
BATCH = b"".join(b'{"key":"%s","value":"x"}\n' % (b"%06d" % number * 170) for number in range(500))
"""Lines with keys of 1 KiB, whose answers are as long."""
UNDER_WAY = 2 * bulk.WAITING_BYTES
"""Answers to lines that were read before the bound was reached are made, and are not much longer than these."""


class AtOnce:
    """A cluster that answers at once, and counts what it has answered in bytes of keys."""

    def __init__(self) -> None:
        self.answered_bytes = 0

    async def execute_many(self, puts: Sequence[Put]) -> list[PutAnswer]:
        await trio.lowlevel.checkpoint()
        self.answered_bytes += sum(len(put.key) for put in puts)
        return [PutAnswer(id=0, key=put.key, index=1, term=1) for put in puts]


class Client:
    """Sends batches, `most` of them, and takes answers once `reads` is set."""

    def __init__(self, memory: BulkMemory, most: int = 40) -> None:
        self.reads = trio.Event()
        self.longest = self.taken = 0
        self.cluster = AtOnce()
        self._most = most
        self._write = BulkWrite(cast("Cluster", self.cluster), WebCounters(), memory, self._receive, self._send)

    async def run(self) -> None:
        await self._write.run()

    async def _receive(self) -> dict[str, Any]:
        await trio.lowlevel.checkpoint()
        self._most -= 1
        return {"type": "http.request", "body": BATCH, "more_body": self._most > 0}

    async def _send(self, message: Any) -> None:
        if body := message.get("body", b""):
            await self.reads.wait()
            await trio.lowlevel.checkpoint()
            self.longest = max(self.longest, len(body))
            self.taken += body.count(b"\n")


async def test_a_client_that_takes_no_answer_is_read_no_further_than_a_bound_in_bytes() -> None:
    """512 batches with keys of 1 KiB were 280 MiB; when it takes them, all lines are answered, in pieces."""
    memory = BulkMemory()
    client = Client(memory, most=100)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.run)
        await wait_all_tasks_blocked()
        assert bulk.ANSWER_BYTES - 2 * MIB < client.cluster.answered_bytes < bulk.ANSWER_BYTES + UNDER_WAY
        assert bulk.ANSWER_BYTES <= memory.used_bytes < bulk.ANSWER_BYTES + UNDER_WAY
        client.reads.set()
    assert client.taken == 100 * 500
    assert client.longest <= bulk.SEND_BYTES
    assert memory.used_bytes == 0


async def test_all_clients_together_are_bounded_and_one_that_takes_its_answers_is_served() -> None:
    """16 requests had a bound of 4 GiB; whoever is cut off gives its share back."""
    memory = BulkMemory()
    silent = [Client(memory) for _ in range(16)]
    reading = Client(memory, most=40)
    reading.reads.set()
    async with trio.open_nursery() as nursery:
        for client in silent:
            nursery.start_soon(client.run)
        await wait_all_tasks_blocked()
        assert bulk.ALL_ANSWER_BYTES <= memory.used_bytes < bulk.ALL_ANSWER_BYTES + 16 * UNDER_WAY
        assert min(client.cluster.answered_bytes for client in silent) > 0
        with trio.fail_after(20):
            await reading.run()
        assert reading.taken == 40 * 500
        nursery.cancel_scope.cancel()
    assert memory.used_bytes == 0


async def test_short_answers_to_180_000_lines_are_kept_for_a_client_that_sends_everything_first() -> None:
    """As docs/rest.md says; also if each line came alone."""
    for lines in (500, 1):
        memory = BulkMemory()
        count = 180_000 // (1 if lines == 500 else 10)
        body = b"".join(b'{"key":"%030d","value":"x"}\n' % number for number in range(lines))
        receives = iter(range(count // lines))

        async def receive(body: bytes, receives: Any) -> dict[str, Any]:
            await trio.lowlevel.checkpoint()
            return {"type": "http.request", "body": body, "more_body": next(receives, None) is not None}

        async def send(message: Any) -> None:
            if message.get("body"):
                await trio.sleep_forever()

        cluster = AtOnce()
        async with trio.open_nursery() as nursery:
            write = BulkWrite(cast("Cluster", cluster), WebCounters(), memory, partial(receive, body, receives), send)
            nursery.start_soon(write.run)
            await wait_all_tasks_blocked()
            assert cluster.answered_bytes >= 30 * count
            nursery.cancel_scope.cancel()
