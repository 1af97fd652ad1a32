"""events.jsonl over a kill: the next life's first line is not glued to the last life's half line."""

from pathlib import Path

from bargetrio.eventlog.event import NodeKilled
from bargetrio.eventlog.jsonl import EventFile, read_events
from bargetrio.eventlog.recorder import Recorder


def test_a_half_line_is_cut_before_the_next_life_writes(tmp_path: Path) -> None:
    """kill -9 in the middle of a line, then the same file again."""
    path = tmp_path / "events.jsonl"
    for run in ("one", "two"):
        recorder = Recorder(run, wall_clock=lambda: 1.0)
        recorder.record(0, NodeKilled())
        recorder.record(1, NodeKilled())
        file = EventFile(path, recorder)
        file.close()
        if run == "one":
            path.write_bytes(path.read_bytes()[:-20])
    assert [event.id for event in read_events(path)] == ["one-1", "two-1", "two-2"]
