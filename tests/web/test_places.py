"""Places in virtual time: only a client that keeps the daemon waiting loses its place."""

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from bargetrio.protocol.errors import BargeError
from bargetrio.web.places import BYTES_PER_S, Message, Place, Places

GRACE_S = 15.0


class Client:
    """One that sends `rate` bytes a second, a piece each second, or takes an answer at that rate."""

    def __init__(self, rate: float, size: int = 0) -> None:
        self.rate = rate
        self.left = size

    async def receive(self) -> Message:
        if self.rate == 0:
            await trio.sleep_forever()
        await trio.sleep(1)
        piece = min(self.left, int(self.rate))
        self.left -= piece
        return {"type": "http.request", "body": bytes(piece), "more_body": self.left > 0}

    async def send(self, message: Message) -> None:
        size = len(message.get("body", b""))
        if size:
            await (trio.sleep(size / self.rate) if self.rate else trio.sleep_forever())


async def whole_body(place: Place) -> int:
    size = 0
    with place.scope:
        while True:
            message = await place.receive()
            size += len(message["body"])
            if not message["more_body"]:
                return size
    return -1


async def answered(place: Place, size: int, pieces: int = 1) -> bool:
    """Send an answer; return whether it went out whole."""
    with place.scope:
        await place.send({"type": "http.response.start", "status": 200})
        for number in range(pieces):
            await place.send({"type": "http.response.body", "body": bytes(size // pieces), "more_body": number < pieces - 1})
    return not place.scope.cancelled_caught


def places(most: int = 1, patience_s: float = 1.0) -> Places:
    return Places(most, "requests are in flight", grace_s=GRACE_S, patience_s=patience_s)


def place_of(client: Client) -> Place:
    return places().take(client.receive, client.send)


@pytest.mark.parametrize("pieces", [1, 64])
@pytest.mark.parametrize(
    ("rate", "goes_out"), [(BYTES_PER_S, True), (BYTES_PER_S // 4, False), (1, False), (0, False), (100 * BYTES_PER_S, True)]
)
async def test_an_answer_is_bounded_in_total(autojump_clock: MockClock, rate: int, goes_out: bool, pieces: int) -> None:
    """A byte a second is progress for ever; what counts is the rate, and a grace for the beginning."""
    size = 1024 * 1024
    assert await answered(place_of(Client(rate)), size, pieces) is goes_out
    assert trio.current_time() <= GRACE_S + size / BYTES_PER_S + 1


async def test_what_was_fast_once_is_no_credit(autojump_clock: MockClock) -> None:
    """A megabyte at once, and then nothing: such a client is behind as soon as any other."""
    gate = places(2)
    sizes = [1024 * 1024, 1]

    async def receive() -> Message:
        if not sizes:
            await trio.sleep_forever()
        return {"type": "http.request", "body": bytes(sizes.pop(0)), "more_body": True}

    taken = 0

    async def send(message: Message) -> None:
        nonlocal taken
        taken += len(message.get("body", b""))
        if taken > 1024 * 1024:
            await trio.sleep_forever()

    reader, writer = gate.take(receive, send), gate.take(receive, send)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(answered, reader, 4 * 1024 * 1024)
        nursery.start_soon(whole_body, writer)
        await trio.sleep(1.5)
        gate.take(receive, send)
        gate.take(receive, send)
    assert reader.scope.cancelled_caught and writer.scope.cancelled_caught


async def test_what_the_daemon_does_meanwhile_costs_the_client_nothing(autojump_clock: MockClock) -> None:
    """A stream of events that is silent for an hour stays open; a handler may take long."""
    place = place_of(Client(100 * BYTES_PER_S))
    with place.scope:
        await place.send({"type": "http.response.start", "status": 200})
        for _ in range(3):
            await trio.sleep(3600)
            await place.send({"type": "http.response.body", "body": b"x", "more_body": True})
    assert not place.scope.cancelled_caught


async def test_the_next_request_takes_the_place_of_the_slowest(autojump_clock: MockClock) -> None:
    """Of those that wait for their client; one that works keeps its place, whatever it has waited before."""
    gate = places(3)
    fast, silent, slow = Client(100 * BYTES_PER_S, 10**9), Client(0), Client(BYTES_PER_S // 2, 10**9)
    held = [gate.take(client.receive, client.send) for client in (fast, silent, slow)]
    sizes: dict[str, int] = {}

    async def read(name: str, place: Place) -> None:
        sizes[name] = await whole_body(place)
        gate.release(place)

    async with trio.open_nursery() as nursery:
        for name, place in zip(("fast", "silent", "slow"), held, strict=True):
            nursery.start_soon(read, name, place)
        await wait_all_tasks_blocked()
        with pytest.raises(BargeError, match="3 requests are in flight"):
            gate.take(fast.receive, fast.send)  # no client lags yet
        await trio.sleep(4.5)
        first = gate.take(fast.receive, fast.send)
        await wait_all_tasks_blocked()
        assert sizes == {"silent": -1}
        second = gate.take(fast.receive, fast.send)
        await wait_all_tasks_blocked()
        assert sizes == {"silent": -1, "slow": -1}
        with pytest.raises(BargeError, match="3 requests are in flight"):
            gate.take(fast.receive, fast.send)
        assert (len(gate), first.scope.cancel_called, second.scope.cancel_called) == (3, False, False)
        nursery.cancel_scope.cancel()


async def test_a_body_that_has_come_is_never_taken_back(autojump_clock: MockClock) -> None:
    """The write may be in progress: its place can't be taken, however slowly it arrived, and its client's silence is not lag."""
    gate = places(1)
    client = Client(1, 3)
    place = gate.take(client.receive, client.send)
    assert await whole_body(place) == 3

    async def wait_for_disconnect() -> None:
        client.rate = 0
        await place.receive()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_for_disconnect)
        await trio.sleep(100)
        with pytest.raises(BargeError):
            gate.take(client.receive, client.send)
        nursery.cancel_scope.cancel()


async def test_a_place_lost_at_the_last_byte_begins_nothing() -> None:
    """The body's end and the loss at the same moment: what follows is not run, so that `applied` is false in truth."""
    gate = places(1, patience_s=-1e9)
    go = trio.Event()
    begun: list[Any] = []

    async def receive() -> Message:
        await go.wait()
        return {"type": "http.request", "body": b"", "more_body": False}

    client = Client(0)
    place = gate.take(receive, client.send)

    async def request() -> None:
        with place.scope:
            begun.append(await place.receive())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(request)
        await wait_all_tasks_blocked()
        go.set()
        gate.take(client.receive, client.send)
    assert begun == []
    assert place.scope.cancelled_caught


async def test_bodies_that_are_not_whole_share_a_budget(autojump_clock: MockClock) -> None:
    """64 of 8 MiB would be 512 MiB. The longest one is ended, which was not begun; a whole one is not, for it may be written."""
    shared = Places(4, "requests are in flight", grace_s=GRACE_S, patience_s=1.0, body_bytes=1_000_000)
    clients = [Client(200_000, 1_600_000), Client(300_000, 1_600_000), Client(500_000, 500_000), Client(100_000, 300_000)]
    ends: dict[int, int] = {}

    async def one(number: int, place: Place) -> None:
        ends[number] = await whole_body(place)
        if number == 2:
            await trio.sleep(5)  # as it is being written
            assert not place.scope.cancel_called
        shared.release(place)

    async with trio.open_nursery() as nursery:
        for number, client in enumerate(clients):
            nursery.start_soon(one, number, shared.take(client.receive, client.send))
    assert ends == {0: -1, 1: -1, 2: 500_000, 3: 300_000}


async def test_a_body_that_is_used_as_it_comes_is_not_counted(autojump_clock: MockClock) -> None:
    """A bulk write may be of any length."""
    uncounted = Places(1, "bulk writes are in flight", grace_s=GRACE_S, patience_s=1.0, body_bytes=None)
    client = Client(1_000_000, 20_000_000)
    assert await whole_body(uncounted.take(client.receive, client.send)) == 20_000_000
