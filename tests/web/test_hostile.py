"""Clients that send nothing, or a byte at a time, or read nothing: they delay neither probes nor other clients."""

import http.client
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from bargetrio.web.guard import IN_FLIGHT, TRANSFERS
from bargetrio.web.server import CONNECTIONS
from tests.stories.daemon import Daemon, running

PROBES = ("/livez", "/readyz", "/metrics")
VALUE = "v" * 100_000


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with running(tmp_path_factory.mktemp("hostile")) as daemon:
        for number in range(100):  # more than the kernel buffers for a client that does not read
            daemon.put(f"large/{number}", VALUE)
        yield daemon


@contextmanager
def clients(daemon: Daemon, count: int, head: str, drip: bytes = b"") -> Iterator[list[socket.socket]]:
    """So many connections that send this and stay; with `drip` each sends that five times a second until the end."""
    host, _, port = daemon.api.partition(":")
    found: list[socket.socket] = []
    stop = threading.Event()

    def go_on() -> None:
        while not stop.wait(0.2):
            for sock in found:
                try:
                    sock.send(drip)
                except OSError:
                    continue

    try:
        for _ in range(count):
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.settimeout(5)
            sock.connect((host, int(port)))
            with suppress(OSError):  # refused and closed already
                sock.sendall(head.format(api=daemon.api).replace("\n", "\r\n").encode())
            found.append(sock)
        dripping = threading.Thread(target=go_on)
        if drip:
            dripping.start()
        yield found
    finally:
        stop.set()
        if drip:
            dripping.join()
        for sock in found:
            sock.close()


BULK = "POST /keys HTTP/1.1\nHost: {api}\nContent-Type: application/x-ndjson\nTransfer-Encoding: chunked\n\n"
PUT = "PUT /keys/slow HTTP/1.1\nHost: {api}\nContent-Type: text/plain\nContent-Length: 1000\n\n"
POST = "POST /keys HTTP/1.1\nHost: {api}\nContent-Type: application/json\nContent-Length: 1000\n\n"


@pytest.mark.parametrize(
    ("head", "count", "drip"),
    [
        (BULK, 64, b""),
        (BULK, 64, b"1\r\n \r\n"),
        (PUT, 2 * IN_FLIGHT, b""),
        (PUT, 2 * IN_FLIGHT, b"x"),
        (POST, IN_FLIGHT, b" "),
        ("GET /livez HTTP/1.1\nHost: {api}\nX", CONNECTIONS, b""),
        ("GET /livez HTTP/1.1\nHost: {api}\nX:", CONNECTIONS, b"x"),
        ("GET /snapshot HTTP/1.1\nHost: {api}\n\n", 64, b""),
        ("GET /keys?prefix=large/&limit=10 HTTP/1.1\nHost: {api}\n\n", IN_FLIGHT, b""),
        ("GET /events HTTP/1.1\nHost: {api}\nAccept: text/event-stream\n\n", 60, b""),
        ("GET /static/main.js HTTP/1.1\nHost: {api}\n\n", IN_FLIGHT, b""),
        ("GET /metrics HTTP/1.1\nHost: {api}\n\n", IN_FLIGHT, b""),
    ],
    ids=[
        "bulk",
        "bulk-drip",
        "put",
        "put-drip",
        "post-drip",
        "half",
        "half-drip",
        "snapshot",
        "list",
        "events",
        "log",
        "metrics",
    ],
)
def test_a_client_that_does_not_continue_loses_its_own_place(daemon: Daemon, head: str, count: int, drip: bytes) -> None:
    """Probes are answered at once; the others as soon as the slow ones have kept the daemon waiting for a second or two."""

    def is_served(number: int) -> bool:
        put = daemon.put(f"other/{number}", "v")
        return put.status in (200, 201) and daemon.get(f"other/{number}").status == 200

    with clients(daemon, count, head, drip):
        for _ in range(2):
            for path in PROBES:
                began = time.monotonic()
                assert daemon.http("GET", path).status == 200, path
                assert time.monotonic() - began < 5, path
        daemon.wait_for(lambda: all(map(is_served, range(10))), "places for the others", 2.5)
        for path in PROBES:
            assert daemon.http("GET", path).status == 200, path


@pytest.mark.parametrize(
    ("head", "path"),
    [
        pytest.param(BULK, "/keys", id="bulk"),
        pytest.param("GET /snapshot HTTP/1.1\nHost: {api}\n\n", "/snapshot", id="snapshot", marks=pytest.mark.long),
    ],
)
def test_a_transfer_that_stands_still_makes_room_for_another(daemon: Daemon, head: str, path: str) -> None:
    """16 at a time; the next takes the place of one that is seconds behind."""
    with clients(daemon, TRANSFERS, head):

        def honest() -> int:
            if path == "/snapshot":
                return daemon.http("GET", path).status
            return daemon.http("POST", path, b'{"key":"b","value":"v"}', {"Content-Type": "application/x-ndjson"}).status

        time.sleep(0.3)
        assert honest() == 503
        daemon.wait_for(lambda: honest() == 200, "a place for a transfer", 8)


def test_livez_answers_under_full_load(daemon: Daemon) -> None:
    """11: 100 connections that write without a pause, and probes beside them: all are answered, and by 200."""
    stop = threading.Event()
    codes: list[int] = []

    def write() -> None:
        connection = http.client.HTTPConnection(daemon.api, timeout=10)
        while not stop.is_set():
            connection.request("PUT", "/keys/busy", "v", {"Content-Type": "text/plain"})
            response = connection.getresponse()
            response.read()
            codes.append(response.status)

    threads = [threading.Thread(target=write) for _ in range(100)]
    for thread in threads:
        thread.start()
    try:
        probed = []
        for _ in range(5):
            probed += [daemon.http("GET", path).status for path in PROBES]
            time.sleep(0.1)
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)
    assert probed == [200] * 15
    assert set(codes) <= {200, 201, 503} and codes.count(200) > 100


def test_a_client_that_leaves_with_a_request_behind_an_unread_answer_gives_its_connection_back(daemon: Daemon) -> None:
    """The reader, which waited until the answer was out, waited for ever; 248 such connections shut the API for good."""
    page = "GET /keys?limit=100 HTTP/1.1\nHost: {api}\n\n"
    with clients(daemon, 30, page + page):
        time.sleep(1)

    def is_alone() -> bool:
        return b"barge_http_connections 1.0" in daemon.http("GET", "/metrics").body

    daemon.wait_for(is_alone, "the connections to end", 5)


def test_all_places_are_given_back(daemon: Daemon) -> None:
    """Whatever was done to them above."""

    def gauges() -> dict[str, float]:
        lines = daemon.http("GET", "/metrics").body.decode().splitlines()
        names = ("barge_http_in_flight", "barge_http_streams", "barge_http_transfers")
        return {line.split()[0]: float(line.split()[1]) for line in lines if line.startswith(names)}

    daemon.wait_for(lambda: set(gauges().values()) == {0.0}, "the places to be free", 5)
