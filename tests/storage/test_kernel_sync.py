"""The kernel's own sync: it ends once, says what went wrong, and rings."""

import errno
import os
import select
import sys
from pathlib import Path

import pytest

from bargetrio.storage.kernel_sync import KernelSync

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="io_submit is Linux's")


def is_readable(descriptor: int, timeout_s: float) -> bool:
    """Return whether something can be read within that time."""
    return bool(select.select([descriptor], [], [], timeout_s)[0])


def test_a_sync_ends_well_and_rings_once(tmp_path: Path) -> None:
    """Again and again, with one context."""
    sync = KernelSync()
    with (tmp_path / "file").open("wb", buffering=0) as file:
        for _ in range(3):
            file.write(b"some bytes")
            sync.begin(file.fileno())
            assert sync.is_busy
            assert is_readable(sync.eventfd, 10)
            assert sync.end() is None
            assert not sync.is_busy
            assert not is_readable(sync.eventfd, 0)
    sync.close()


def test_what_cannot_be_synced_is_an_error_and_not_a_success() -> None:
    """A pipe has no disk; a closed file no number."""
    sync = KernelSync()
    reading, writing = os.pipe()
    with pytest.raises(OSError) as caught:
        sync.begin(writing)
        problem = sync.end()
        assert problem is not None
        raise problem
    assert caught.value.errno == errno.EINVAL
    os.close(reading)
    os.close(writing)
    with pytest.raises(OSError) as caught:
        sync.begin(writing)
    assert caught.value.errno == errno.EBADF
    assert not sync.is_busy
    sync.close()


def test_closing_waits_for_the_sync_that_runs(tmp_path: Path) -> None:
    """Nothing touches the folder any more when it has returned; a second time nothing happens."""
    sync = KernelSync()
    with (tmp_path / "file").open("wb", buffering=0) as file:
        file.write(bytes(1 << 20))
        sync.begin(file.fileno())
        sync.close()
    sync.close()


def test_a_machine_whose_numbers_are_not_known_gets_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Better slow than a wrong system call."""
    monkeypatch.setattr("platform.machine", lambda: "vax")
    with pytest.raises(OSError):
        KernelSync()
