"""What a replay shows of recorded files, and what it says is not shown."""

from pathlib import Path

import msgspec
import pytest

from bargetrio.eventlog import replay
from bargetrio.eventlog.jsonl import LONGEST_LINE
from bargetrio.eventlog.replay import view_of
from bargetrio.protocol.events import Event


def write(path: Path, run: str, times: list[float], *, beats: bool = False, gap: int = 0) -> Path:
    """A file of events at these times, with a gap behind the first one."""
    lines: list[object] = [
        Event(
            id=f"{run}-{seq}",
            time=time,
            node=0,
            peer=None,
            kind="append_sent" if beats else "term_changed",
            term=1,
            index=None,
            heartbeat=beats,
            detail={},
        )
        for seq, time in enumerate(times, 1)
    ]
    if gap:
        lines.insert(1, {"dropped": gap})
    path.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    return path


def test_all_that_was_recorded_is_shown_or_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events and heartbeats of several files, the newest ones; what falls out, and what the recorder had dropped."""
    monkeypatch.setattr(replay, "SHOWN", 5)
    monkeypatch.setattr(replay, "HEARTBEATS", 3)
    files = [
        write(tmp_path / "a", "a", [1, 3, 5, 7]),
        write(tmp_path / "b", "b", [2, 4, 6, 8], gap=10),
        write(tmp_path / "c", "c", [1, 2, 3, 4, 5], beats=True),
    ]
    view = view_of(files)
    assert [event.time for event in view.events if not event.heartbeat] == [4, 5, 6, 7, 8]
    assert [event.time for event in view.events if event.heartbeat] == [3, 4, 5]
    assert view.heartbeats == 3
    assert len(view.events) + view.dropped == 13 + 10


def test_an_end_in_one_file_is_an_end_in_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the others recorded before it is shown, though they recorded much more behind it; and only that is counted."""
    monkeypatch.setattr(replay, "SHOWN", 5)
    files = [
        write(tmp_path / "long", "long", [1, 2, *range(10, 40)], gap=2),
        write(tmp_path / "short", "short", [3, 4, 5]),
    ]
    view = view_of(files, until_id="short-2")
    assert [event.id for event in view.events] == ["long-1", "long-2", "short-1", "short-2"]
    assert view.dropped == 2
    with pytest.raises(ValueError, match="no event 'short-9'"):
        view_of(files, until_id="short-9")


def test_long_lines_are_bounded_in_bytes_over_all_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """20,000 lines of 1 MiB a file would be 20 GiB; what is left out is counted."""
    files = [write(tmp_path / name, name, list(range(start, 100, 2))) for name, start in (("a", 0), ("b", 1))]
    size = max(len(line) for file in files for line in file.read_bytes().splitlines(keepends=True))
    monkeypatch.setattr(replay, "SHOWN_BYTES", 10 * size + 5)
    view = view_of(files)
    assert [event.time for event in view.events] == list(range(90, 100))
    assert view.dropped == 90


def test_a_line_that_is_longer_than_any_event_is_refused(tmp_path: Path) -> None:
    """It is not read to its end, which may never come."""
    file = write(tmp_path / "a", "a", [1])
    with file.open("ab") as more:
        more.write(b'{"id":"' + b"x" * LONGEST_LINE + b'"}\n')
    with pytest.raises(ValueError, match=r"a:2: this is not an event: the line is longer than 1048576 bytes"):
        view_of([file])
