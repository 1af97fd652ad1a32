"""What slow, hostile and many clients of the fast lane may cost."""

import json
import socket
import struct

import pytest
import trio

from bargetrio.web import fast_lane, lane_connection
from bargetrio.web import server as server_module
from tests.web.lane_server import answers, serving


async def test_requests_that_wait_are_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all connections together; who comes then is hypercorn's, which bounds its own."""
    monkeypatch.setattr(fast_lane, "HELD_BYTES", 10_000)
    async with serving() as server:
        server.cluster.seconds = 0.5
        first, second = await server.open(), await server.open()
        await first.send_all(server.request("PUT", "/keys/slow", "x" * 9_000))
        await trio.sleep(0.05)
        await first.send_all(server.request("PUT", "/keys/a", "x" * 2_000))
        await trio.sleep(0.05)
        await second.send_all(server.request("PUT", "/keys/b", "1"))
        assert (await answers(second, 1))[0][0] == 201
        assert server.cluster.by == ["hypercorn"]
        assert [status for status, _ in await answers(first, 2)] == [201, 201]
        assert server.cluster.by == ["hypercorn", "lane", "hypercorn"]
        await second.send_all(server.request("PUT", "/keys/b", "1"))
        await answers(second, 1)
        assert server.cluster.by[3:] == ["lane"]
        for stream in (first, second):
            await stream.aclose()


def narrow(port: int) -> socket.socket:
    """Return a connection whose client takes little at a time."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", port))
    return sock


async def test_a_client_that_does_not_receive_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it lags by SEND_S; until then its next requests wait, and others are answered."""
    monkeypatch.setattr(lane_connection, "SEND_S", 0.5)
    monkeypatch.setattr(fast_lane, "SWEEP_S", 0.05)
    async with serving() as server:
        server.cluster.keys["big"] = "x" * 1_000_000, 1
        slow = narrow(server.port)
        slow.sendall(server.request("GET", "/keys/big") * 40)
        await trio.sleep(0.2)
        assert 0 < server.lane.unsent_bytes < 17_000_000
        stream = await server.open()
        await stream.send_all(server.request("GET", "/keys/none"))
        assert (await answers(stream, 1))[0][0] == 404
        while server.lane.unsent_bytes:
            await trio.sleep(0.05)
        assert server.cluster.by.count("lane") <= lane_connection.GROUP + 1
        slow.close()
        await stream.aclose()


@pytest.mark.parametrize("clients", [1, 2, 8])
async def test_too_much_unsent_costs_the_clients_that_lag_most(monkeypatch: pytest.MonkeyPatch, clients: int) -> None:
    """Reads wait until they are gone, as many as it takes."""
    monkeypatch.setattr(fast_lane, "ALL_UNSENT_BYTES", 5_000_000)
    monkeypatch.setattr(fast_lane, "PATIENCE_S", 0.3)
    monkeypatch.setattr(fast_lane, "SWEEP_S", 0.05)
    async with serving() as server:
        server.cluster.keys["big"] = "x" * 1_000_000, 1
        slow = [narrow(server.port) for _ in range(clients)]
        for one in slow:
            one.sendall(server.request("GET", "/keys/big") * 16)
        while server.lane.unsent_bytes <= 5_000_000:
            await trio.sleep(0.01)
        stream = await server.open()
        began = trio.current_time()
        await stream.send_all(server.request("GET", "/keys/none"))
        assert (await answers(stream, 1))[0][0] == 404
        assert 0.1 < trio.current_time() - began < 2.0
        assert server.lane.unsent_bytes <= 5_000_000
        for one in slow:
            one.close()
        await stream.aclose()


async def test_hundreds_of_connections_are_busy_at_once() -> None:
    """Beyond hypercorn's number, each with a write of its own; none is refused."""
    async with serving(seconds=40) as server:
        statuses: list[int] = []

        async def write(number: int) -> None:
            stream = await server.open()
            for turn in range(3):
                await stream.send_all(server.request("PUT", f"/keys/{number}", str(turn)))
                statuses.extend([status for status, _ in await answers(stream, 1)])
            await stream.aclose()

        async with trio.open_nursery() as nursery:
            for number in range(600):
                nursery.start_soon(write, number)
        assert len(statuses) == 1_800
        assert set(statuses) == {200, 201}
        assert set(server.cluster.by) == {"lane"}


async def test_idle_connections_make_room_in_the_order_of_their_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many come; who was heard meanwhile stays, and with nobody idle for IDLE_S a new one is refused."""
    monkeypatch.setattr(server_module, "IDLE_S", 0.2)
    monkeypatch.setattr(server_module, "CANDIDATES", 10)
    async with serving(most=4, most_in_lane=97) as server:
        idle = [await server.open() for _ in range(100)]
        await trio.sleep(0.3)
        for heard in (3, 50):
            await idle[heard].send_all(server.request("GET", "/keys/none"))
            await answers(idle[heard], 1)
        more = [await server.open() for _ in range(40)]
        for stream in more:
            await stream.send_all(server.request("GET", "/keys/none"))
            assert (await answers(stream, 1))[0][0] == 404
        gone = [number for number, stream in enumerate(idle) if await _is_closed(stream)]
        assert gone == [number for number in range(41) if number != 3]
        await trio.sleep(0.3)
        for stream in [*more, *idle[41:], idle[3]]:
            await stream.send_all(server.request("GET", "/keys/none"))
            await answers(stream, 1)
        refused = await server.open()
        await refused.send_all(server.request("GET", "/keys/none"))
        assert (await refused.receive_some()).startswith(b"HTTP/1.1 503")
        for stream in [*idle, *more, refused]:
            await stream.aclose()


async def _is_closed(stream: trio.SocketStream) -> bool:
    with trio.move_on_after(0.01):
        assert await stream.receive_some() == b""
        return True
    return False


async def test_room_is_made_whenever_somebody_is_idle_however_often_it_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts that are refused do not put it off."""
    monkeypatch.setattr(server_module, "IDLE_S", 0.3)
    async with serving(most=4, most_in_lane=17) as server:
        server.cluster.seconds = 0.5
        busy = [await server.open() for _ in range(20)]
        for stream in busy:
            await stream.send_all(server.request("GET", "/keys/slow"))
        was_refused = 0
        while True:
            stream = await server.open()
            await stream.send_all(server.request("GET", "/keys/none"))
            answer = await stream.receive_some()
            await stream.aclose()
            if answer.startswith(b"HTTP/1.1 404"):
                break
            was_refused += 1
            await trio.sleep(0.05)
        assert was_refused > 5
        for stream in busy:
            await stream.aclose()


async def test_a_connection_with_nothing_but_http2s_preface_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has asked for nothing."""
    monkeypatch.setattr(server_module, "IDLE_S", 0.2)
    async with serving(most=8) as server:
        idle = [await server.open() for _ in range(6)]
        for stream in idle:
            await stream.send_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        await trio.sleep(0.5)
        stream = await server.open()
        await stream.send_all(server.request("GET", "/version"))
        assert (await answers(stream, 1))[0][0] == 200
        for one in [stream, *idle]:
            await one.aclose()


@pytest.mark.parametrize("count", [10, 200])
async def test_a_client_that_pipelines_and_resets_its_connection_leaves_nothing(count: int) -> None:
    """More than is read ahead, so that nobody reads the connection when it ends: `serving` sees that nothing is held."""
    async with serving() as server:
        server.cluster.seconds = 0.2
        sock = socket.create_connection(("127.0.0.1", server.port))
        sock.sendall(server.request("GET", "/keys/slow") * count)
        await trio.sleep(0.05)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
        await trio.sleep(0.05)


async def test_a_client_that_received_fast_and_stops_lags_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Having been faster before does not help; one that receives at a fair rate is not disconnected."""
    monkeypatch.setattr(fast_lane, "ALL_UNSENT_BYTES", 2_000_000)
    monkeypatch.setattr(fast_lane, "PATIENCE_S", 0.5)
    monkeypatch.setattr(fast_lane, "SWEEP_S", 0.05)
    async with serving() as server:
        server.cluster.keys["big"] = "x" * 1_000_000, 1
        fast = narrow(server.port)
        fast.sendall(server.request("GET", "/keys/big") * 12)
        await trio.sleep(0.1)

        def receive(size: int) -> None:
            while size > 0:
                size -= len(fast.recv(65536))

        await trio.to_thread.run_sync(receive, 6_000_000)
        stream = await server.open()
        began = trio.current_time()
        await stream.send_all(server.request("GET", "/keys/none"))
        assert (await answers(stream, 1))[0][0] == 404
        assert trio.current_time() - began < 3.0
        fast.close()
        await stream.aclose()


async def test_hypercorns_connections_are_bounded_and_the_lane_goes_on() -> None:
    """Past its number a connection gets a clear 503; requests for keys are answered meanwhile."""
    async with serving(most=8) as server:
        idle = [await server.open() for _ in range(20)]
        for stream in idle:
            await stream.send_all(b"OPTIONS /keys HTTP/1.1\r\n")
        await trio.sleep(0.2)
        stream = await server.open()
        await stream.send_all(server.request("PUT", "/keys/a", "1"))
        assert (await answers(stream, 1))[0][0] == 201
        refused = [one for one in idle if await _is_refused(one)]
        assert len(refused) == 20 - 6  # two are for probes
        for probe in range(3):
            await stream.send_all(server.request("GET", "/livez", None, "TE: trailers"))
            assert (await answers(stream, 1))[0][0] == 200, probe
        for one in [stream, *idle]:
            await one.aclose()


async def _is_refused(stream: trio.SocketStream) -> bool:
    with trio.move_on_after(0.05):
        data = await stream.receive_some()
        assert data.startswith(b"HTTP/1.1 503")
        assert json.loads(data.partition(b"\r\n\r\n")[2])["applied"] is False
        return True
    return False
