"""A run of the simulator as events: the same page, the same events.jsonl as a real cluster's. Simulated time begins in 1970."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from bargetrio.eventlog.jsonl import check_record
from bargetrio.eventlog.recorder import Recorder
from bargetrio.eventlog.render import Column, LogView, check_page, log_html
from bargetrio.files import check_ours
from bargetrio.protocol.events import Event
from bargetrio.simulator.linearizability import Operation
from bargetrio.simulator.plan import ELECTION_S
from bargetrio.simulator.seed import Result

SHOWN_ON_PAGE = 20_000


def events_of(result: Result) -> list[Event]:
    """Return the events of a run that kept them."""
    if result.events:
        return result.events
    now = [0.0]
    size = len(result.facts) + 1
    recorder = Recorder(f"seed-{result.seed}", wall_clock=lambda: now[0], capacity=size, heartbeats=size)
    for moment, node_id, fact in result.facts:
        now[0] = moment
        recorder.record(node_id, fact)
    page = recorder.page(0, heartbeats=True, limit=size)
    return [recorder.event(kept) for kept in page.events]


def check_targets(events_file: str | None, history_file: str | None, html_file: str | None) -> None:
    """Raise OSError if one of them is there already and is no file of its kind: it would be replaced."""
    if events_file is not None:
        check_record(Path(events_file))
    if history_file is not None:
        check_ours(Path(history_file), (b'{"process":',), "history")
    if html_file is not None:
        check_page(Path(html_file))


def write_events(path: Path, events: Sequence[Event]) -> None:
    """Write events.jsonl, as `bargetrio check` and later tools read it."""
    encode = msgspec.json.Encoder().encode
    path.write_bytes(b"".join(encode(event) + b"\n" for event in events))


def write_history(path: Path, history: Sequence[Operation]) -> None:
    """Write what the clients saw, an operation a line."""
    encode = msgspec.json.Encoder().encode
    path.write_bytes(b"".join(encode(operation) + b"\n" for operation in history))


def write_page(path: Path, result: Result, events: Sequence[Event]) -> None:
    """Write the run as one self-contained page; of a very long one its end."""
    shown = list(events[-SHOWN_ON_PAGE:])
    beats = sum(event.heartbeat for event in shown)
    states: dict[int, tuple[str, int | None]] = {}
    for event in events:
        if event.node is not None:
            state, term = states.get(event.node, ("follower", None))
            states[event.node] = (str(event.detail.get("role", state)), event.term if event.term is not None else term)
    columns = [
        Column(node_id=node_id, state=states.get(node_id, ("follower", None))[0], term=states.get(node_id, ("", None))[1])
        for node_id in range(result.nodes)
    ]
    view = LogView(
        cluster=f"seed {result.seed}" if result.failure is None else f"seed {result.seed}: {result.failure.text}",
        columns=columns,
        events=shown,
        heartbeats=beats,
        dropped=len(events) - len(shown),
        limit=SHOWN_ON_PAGE,
        election_ms=(round(ELECTION_S[0] * 1000), round(ELECTION_S[1] * 1000)),
    )
    path.write_text(log_html(view)[0], encoding="utf-8")
