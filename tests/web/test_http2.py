"""HTTP/2 with prior knowledge, as a hostile client speaks it: what it does not take costs itself (docs/rest.md, "HTTP/2")."""

import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import h2.config
import h2.connection
import h2.events
import pytest
from h2.settings import SettingCodes

from tests.stories.daemon import Daemon, running

Headers = list[tuple[str, str]]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with running(tmp_path_factory.mktemp("http2")) as daemon:
        yield daemon


class Http2:
    """One connection, which records what it receives."""

    def __init__(self, daemon: Daemon, window: int = 65535) -> None:
        self.daemon = daemon
        host, _, port = daemon.api.partition(":")
        self.sock = socket.create_connection((host, int(port)), 5)
        raw: Any = {"validate_outbound_headers": False, "normalize_outbound_headers": False}
        config = h2.config.H2Configuration(header_encoding="utf-8", **raw)
        self.wire = h2.connection.H2Connection(config)
        self.wire.local_settings = h2.settings.Settings(initial_values={SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.wire.initiate_connection()
        self.flush()
        self.events: list[Any] = []
        self.read_until(lambda: any(isinstance(event, h2.events.RemoteSettingsChanged) for event in self.events))

    def ask(self, method: str, path: str, *more: tuple[str, str], body: bytes | None = None, end: bool = True) -> int:
        """Begin a request; return its stream."""
        stream = self.wire.get_next_available_stream_id()
        headers = [(":method", method), (":path", path), (":scheme", "http"), (":authority", self.daemon.api), *more]
        self.wire.send_headers(stream, headers, end_stream=end and body is None)
        if body is not None:
            self.wire.send_data(stream, body, end_stream=end)
        self.flush()
        return stream

    def flush(self) -> None:
        """Send what is to be sent."""
        self.sock.sendall(self.wire.data_to_send())

    def read_until(self, done: Any, timeout: float = 5) -> None:
        """Read until it is so; the connection may not end before."""
        end = time.monotonic() + timeout
        while not done():
            self.sock.settimeout(max(0.01, end - time.monotonic()))
            data = self.sock.recv(65536)
            assert data, "the connection was closed"
            self.events += self.wire.receive_data(data)
            self.flush()

    def status(self, stream: int) -> int:
        """Return the status of the answer, once it has come."""
        found: list[int] = []

        def look() -> bool:
            for event in self.events:
                if isinstance(event, h2.events.ResponseReceived) and event.stream_id == stream:
                    headers: Any = dict(event.headers)
                    found.append(int(headers[":status"]))
            return bool(found)

        self.read_until(look)
        return found[0]

    def body(self, stream: int) -> bytes:
        """Return the body of the answer, once it is whole."""
        ends = (h2.events.StreamEnded, h2.events.StreamReset)
        self.read_until(lambda: any(isinstance(event, ends) and event.stream_id == stream for event in self.events))
        return b"".join(
            event.data for event in self.events if isinstance(event, h2.events.DataReceived) and event.stream_id == stream
        )

    def close(self) -> None:
        """Close the socket without GOAWAY."""
        self.sock.close()


def gauge(daemon: Daemon, name: str) -> float:
    text = daemon.http("GET", "/metrics").body.decode()
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name} "))


PLAIN = ("content-type", "text/plain")


def test_http2_is_spoken(daemon: Daemon) -> None:
    """Many requests at once over one connection, each with its own answer."""
    client = Http2(daemon)
    streams = [client.ask("PUT", f"/keys/h2-{number}", PLAIN, body=b"%d" % number) for number in range(20)]
    assert {client.status(stream) for stream in streams} == {201}
    assert json.loads(client.body(client.ask("GET", "/keys/h2-7")))["value"] == "7"
    client.close()


@pytest.mark.parametrize("how", ["close", "reset", "stay"])
@pytest.mark.parametrize("path", ["/keys/held", "/keys", "/metrics", "/snapshot"])
def test_answers_that_are_not_taken_give_their_places_back(daemon: Daemon, how: str, path: str) -> None:
    """81: a window of 0, so that nothing of a body can be sent; probes and others are answered meanwhile, and after."""
    client = Http2(daemon, window=0)
    method, more = ("PUT", {"body": b"v"}) if path == "/keys/held" else ("GET", {})
    for _ in range(64):
        client.ask(method, path, PLAIN, **more)  # type: ignore[arg-type]
    time.sleep(0.3)
    for probe in ("/livez", "/readyz", "/metrics"):
        assert daemon.http("GET", probe).status == 200
    if how == "close":
        client.close()
    elif how == "reset":
        for stream in range(1, 129, 2):
            client.wire.reset_stream(stream)
        client.flush()
    if how != "stay":
        for name in ("barge_http_in_flight", "barge_http_transfers"):
            daemon.wait_for(lambda name=name: gauge(daemon, name) == 0, f"{name} to be 0", 5)  # type: ignore[misc]

    def others_are_served() -> bool:
        return {daemon.put(f"other{number}", "v").status for number in range(5)} <= {200, 201}

    # Where it stays, it may keep its places for some time; the next request then gets one.
    daemon.wait_for(others_are_served, "places for the others", 2 if how == "stay" else 0)
    client.close()
    daemon.wait_for(lambda: gauge(daemon, "barge_http_connections") <= 2, "the connection to end", 5)


def test_a_stream_whose_window_stays_shut_is_reset(daemon: Daemon) -> None:
    """The others of its connection go on: a frame belongs to several requests, and none breaks off another's."""
    client = Http2(daemon, window=0)
    held = [client.ask("GET", "/keys/none") for _ in range(64)]
    time.sleep(1.2)
    assert daemon.http("GET", "/leader").status == 200  # one more request in flight than there are places
    client.read_until(lambda: any(isinstance(event, h2.events.StreamReset) for event in client.events))
    stream = held[-1]
    client.wire.increment_flow_control_window(1000, stream)
    client.flush()
    assert json.loads(client.body(stream))["error"] == "not_found"
    client.close()


@pytest.mark.parametrize(
    ("method", "path", "more", "status"),
    [
        ("PUT", "//keys/x", [PLAIN], 404),
        ("put", "/keys/x", [PLAIN], 400),
        ("GET", "/keys/\u00e9", [], 400),
        ("CONNECT", "/events", [(":protocol", "websocket")], 501),
        ("GET", "/livez", [("origin", "http://foreign.example"), ("origin", "null")], 403),
        ("PUT", "/keys/x", [PLAIN, ("content-encoding", "gzip")], 415),
        ("GET", "/keys?unknown=1", [], 400),
        ("FOO", "/keys/x", [], 405),
    ],
)
def test_what_is_refused_is_a_problem(daemon: Daemon, method: str, path: str, more: Headers, status: int) -> None:
    """A problem, as over HTTP/1.1; and the connection stays open."""
    client = Http2(daemon)
    stream = client.ask(method, path, *more)
    assert client.status(stream) == status
    told = json.loads(client.body(stream))
    assert (told["status"], told["applied"]) == (status, False)
    assert client.status(client.ask("GET", "/livez")) == 200
    client.close()


def test_a_body_behind_its_answer_costs_no_other_request(daemon: Daemon) -> None:
    """413 is sent early; data received by then is dropped, and the connection's window is restored."""
    client = Http2(daemon)
    for _ in range(3):
        stream = client.ask("PUT", "/keys/x", PLAIN, ("content-length", "9000000"), body=b"x" * 10_000, end=False)
        assert client.status(stream) == 413
        client.wire.send_data(stream, b"x" * 10_000)
        client.flush()
    assert client.status(client.ask("GET", "/livez")) == 200
    client.close()


def test_a_foreign_host_beside_the_authority_ends_the_connection(daemon: Daemon) -> None:
    """RFC 9113, 8.3.1: such a request is malformed; neither of the two is believed."""
    for lines in ([("host", "foreign.example")], [("host", daemon.api), ("host", "foreign.example")]):
        client = Http2(daemon)
        stream = client.ask("GET", "/livez", *lines)
        with pytest.raises((AssertionError, OSError, h2.exceptions.ProtocolError)):
            client.status(stream)
        client.close()
