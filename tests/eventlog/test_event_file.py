"""events.jsonl over kills and full disks: every line is complete, no event is there twice, and losses are recorded."""

import errno
import logging
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from bargetrio.eventlog.host_facts import NodeCrashed, NodeKilled
from bargetrio.eventlog.jsonl import EventFile, read_events
from bargetrio.eventlog.recorder import Recorder
from tests.mounts import tmpfs
from tests.stories.daemon import Daemon, write_configuration


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


class FullDiskFile:
    """A file on a disk with limited room, which the test can extend; writes may be short."""

    def __init__(self, file: Any, random: Random) -> None:
        self._file = file
        self._random = random
        self.room = 0

    def write(self, data: memoryview) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        count = min(self.room, self._random.choice((1, len(data), self._random.randint(1, len(data)))))
        self.room -= count
        return int(self._file.write(data[:count]))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@pytest.mark.parametrize("seed", range(20))
async def test_no_line_is_torn_and_no_event_there_twice(seed: int, tmp_path: Path, autojump_clock: MockClock) -> None:
    """Short writes at every place, a disk that is full again and again, and each time `run` is begun anew, as the daemon does."""
    random = Random(seed)
    path = tmp_path / "events.jsonl"
    recorder = Recorder("run", wall_clock=trio.current_time)
    file = EventFile(path, recorder)
    disk: Any = FullDiskFile(file._file, random)
    file._file = disk

    async def run() -> None:
        while True:
            with suppress(OSError):
                await file.run()
            await trio.sleep(2)

    count = 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        for _ in range(40):
            for _ in range(random.choice((0, 1, 300))):
                count += 1
                recorder.record(0, NodeCrashed(reason="x" * random.choice((1, 1000))))
            disk.room += random.choice((0, 1, 50, 10_000))
            await trio.sleep(random.choice((0.1, 3)))
            whole = path.read_bytes().rpartition(b"\n")[0].count(b"\n")
            assert len(list(read_events(path))) >= whole
        disk.room = 1 << 40
        await trio.sleep(5)
        nursery.cancel_scope.cancel()
    file.close()
    assert [event.id for event in read_events(path)] == [f"run-{number}" for number in range(1, count + 1)]
    assert path.read_bytes().endswith(b"\n")


def test_a_record_that_ends_on_a_full_disk_ends_with_a_whole_line(tmp_path: Path) -> None:
    """For readers with other tools."""
    path = tmp_path / "events.jsonl"
    recorder = Recorder("run", wall_clock=lambda: 1.0)
    for _ in range(3):
        recorder.record(0, NodeKilled())
    file = EventFile(path, recorder)
    disk: Any = FullDiskFile(file._file, Random(1))
    disk.room = 150
    file._file = disk
    with pytest.raises(OSError, match="No space"):
        file.close()
    assert path.read_bytes().endswith(b"\n")
    assert [event.id for event in read_events(path)] == ["run-1"]
    assert file._file.closed


def test_a_record_that_is_rotated_on_a_full_disk_goes_on_with_a_whole_line(tmp_path: Path) -> None:
    """The half line is cut from the old file, and stands whole in the new one."""
    path, old = tmp_path / "events.jsonl", tmp_path / "events.jsonl.1"
    recorder = Recorder("run", wall_clock=lambda: 1.0)
    for _ in range(3):
        recorder.record(0, NodeKilled())
    file = EventFile(path, recorder)
    disk: Any = FullDiskFile(file._file, Random(1))
    disk.room = 150
    file._file = disk
    path.rename(old)
    with pytest.raises(OSError, match="No space"):
        file.reopen()
    file.close()
    assert [event.id for event in read_events(old)] == ["run-1"]
    assert old.read_bytes().endswith(b"\n")
    assert [event.id for event in read_events(path)] == ["run-2", "run-3"]


async def test_the_record_leaves_room_for_the_logs(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Events have more bytes than the writes that they record; clients could fill the disk with them."""
    free = [1.0]

    class DiskSpace:
        f_frsize, f_blocks = 4096, 1_000_000

        @property
        def f_bavail(self) -> int:
            return int(free[0] * self.f_blocks)

    monkeypatch.setattr(os, "fstatvfs", lambda descriptor: DiskSpace())
    path = tmp_path / "events.jsonl"
    recorder = Recorder("run", wall_clock=trio.current_time, capacity=10)
    file = EventFile(path, recorder, beside=tmp_path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(file.run)
        recorder.record(0, NodeKilled())
        await trio.sleep(1)
        free[0] = 0.09
        with caplog.at_level(logging.WARNING):
            for _ in range(30):
                recorder.record(0, NodeKilled())
                await trio.sleep(1)
        assert len(caplog.records) == 1
        assert [event.id for event in read_events(path)] == ["run-1"]
        free[0] = 0.11
        await trio.sleep(1)
        dropped: list[int] = []
        found = [event.id for event in read_events(path, dropped.append)]
        assert found == ["run-1", *[f"run-{number}" for number in range(22, 32)]]
        assert b'{"dropped":20}\n' in path.read_bytes() and dropped == [20]
        nursery.cancel_scope.cancel()
    file.close()


@pytest.mark.slow
def test_a_real_disk_that_was_full_for_a_while(tmp_path: Path) -> None:
    """The whole daemon, and `bargetrio check` of what it wrote."""
    with tmpfs(tmp_path / "small", "60k") as small:
        record = small / "events.jsonl"
        daemon = Daemon(write_configuration(tmp_path, 1), "--events", str(record))
        try:
            daemon.start()
            daemon.leader()
            for number in range(2_000):
                daemon.put(f"k{number}", "v" * 300)
                if _free(small) == 0:
                    break
            time.sleep(3)  # it is tried again every two seconds
            assert _free(small) == 0
            subprocess.run(["mount", "-o", "remount,size=20m", str(small)], check=True)
            daemon.put("after", "it")
            daemon.wait_for(lambda: b'"after"' in record.read_bytes(), "what it kept to be written", 3)
            assert daemon.stop() < 3
        finally:
            daemon.end()
        events = list(read_events(record))
        ids = [event.id for event in events]
        assert len(set(ids)) == len(ids) > 200
        assert ids == sorted(ids, key=lambda text: int(text.rpartition("-")[2]))
        checked = subprocess.run(
            [sys.executable, "-m", "bargetrio", "check", str(record)], check=False, capture_output=True, text=True
        )
        assert checked.returncode == 0, checked.stdout + checked.stderr


def _free(folder: Path) -> int:
    return os.statvfs(folder).f_bavail


def test_a_line_nested_deeper_than_python_recurses_is_no_event(tmp_path: Path) -> None:
    """The file may be anybody's: `replay` and `check` say which line it is."""
    beginning = b'{"id":"a-1","time":1.0,"node":0,"kind":"applied","detail":{"x":'
    (tmp_path / "events.jsonl").write_bytes(beginning + b"[" * 100_000 + b"]" * 100_000 + b"}}\n")
    with pytest.raises(ValueError, match=r"events\.jsonl:1: this is not an event"):
        list(read_events(tmp_path / "events.jsonl"))
