"""The stream of events, taken up again where it ended."""

import json
from collections.abc import Iterator

import pytest

from bargetrio.cli.events import EventFilter, line_of
from bargetrio.client import BargeError, Client
from bargetrio.protocol.events import Event
from tests.client.servers import BadServer, nobody, problem

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n: barge events\n\n"


def event(number: int) -> dict[str, object]:
    detail = {"old_term": number - 1, "reason": "told so"}
    what = {"kind": "term_changed", "term": number, "index": None, "heartbeat": False, "detail": detail}
    return {"id": f"run-{number}", "time": 0.5, "node": 1, "peer": None, **what}


def frame(*numbers: int, after: str = "") -> bytes:
    """Return events as the server sends them: the last of a batch carries the cursor."""
    parts = [f"event: term_changed\ndata: {json.dumps(event(number))}\n\n" for number in numbers]
    parts[-1] = f"id: {after or f'run-{numbers[-1]}'}\n" + parts[-1]
    return "".join(parts).encode()


def follow(*places: str, after: str = "run-0") -> tuple[Iterator[Event], list[str]]:
    complaints: list[str] = []
    return EventFilter(node_ids=(1,)).follow(Client([], apis=list(places)), after, complaints.append), complaints


def test_a_stream_that_ends_is_taken_up_where_it_was() -> None:
    """With the cursor of the last complete batch; dropped events are reported; no event is returned twice."""
    dropped = b"event: dropped\ndata: 7\n\n"
    with BadServer("rest", b"", first=(HEAD + frame(1, 2, after="run-2,other-5"), HEAD + dropped + frame(3))) as server:
        events, complaints = follow(server.address)
        assert [next(events).id for _ in range(3)] == ["run-1", "run-2", "run-3"]
        assert [b"Last-Event-ID: run-0" in server.asked[0], b"Last-Event-ID: run-2,other-5" in server.asked[1]] == [True, True]
        assert b"/events?node=1 " in server.asked[0]
    assert complaints == [
        "the connection is lost; trying again",
        "the connection is back",
        "7 events came too fast and are missing here",
    ]


def test_an_incomplete_event_is_ignored() -> None:
    """It comes whole when the stream is taken up again."""
    half = frame(2)[:-20]
    with BadServer("rest", b"", first=(HEAD + frame(1) + half, HEAD + frame(2))) as server:
        events, _ = follow(server.address)
        assert [next(events).id for _ in range(2)] == ["run-1", "run-2"]
        assert b"Last-Event-ID: run-1" in server.asked[1]


def test_the_next_daemon_is_tried_when_one_does_not_answer() -> None:
    """And what waiting does not mend is an error."""
    with BadServer("rest", HEAD + frame(1)) as server:
        events, _ = follow(nobody(), server.address)
        assert next(events).id == "run-1"
    with BadServer("rest", problem("bad_request", 400)) as server, pytest.raises(BargeError, match="as told"):
        next(follow(server.address)[0])


def test_an_event_is_one_line() -> None:
    """Whatever stands in a key."""
    told = Event(**{**event(3), "detail": {"old_term": 2, "reason": "a\nb"}})  # type: ignore[arg-type]  # made from JSON
    assert line_of(told).endswith("  node 1  term 2 → 3: a\\nb")
