"""Asynchronous sync by the kernel: it ends once, returns its error, and signals the eventfd."""

import ctypes
import errno
import mmap
import os
import select
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from bargetrio.storage import kernel_sync
from bargetrio.storage.kernel_sync import AioSync, KernelSync, UringSync, _Kernel, make_kernel_sync

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="io_uring and io_submit are Linux's")
Make = Callable[[], KernelSync]


def may_use_io_uring() -> bool:
    """Return whether io_uring is permitted: in many containers it is not."""
    try:
        UringSync().close()
    except OSError:
        return False
    return True


URING = pytest.mark.skipif(sys.platform == "linux" and not may_use_io_uring(), reason="io_uring is forbidden here")
BOTH = pytest.mark.parametrize("make", [pytest.param(UringSync, marks=URING), AioSync])


def is_readable(descriptor: int, timeout_s: float) -> bool:
    """Return whether something can be read within that time."""
    return bool(select.select([descriptor], [], [], timeout_s)[0])


@BOTH
def test_a_sync_succeeds_and_signals_once(tmp_path: Path, make: Make) -> None:
    """Again and again, around the ring."""
    sync = make()
    with (tmp_path / "file").open("wb", buffering=0) as file:
        for _ in range(7):
            file.write(b"some bytes")
            sync.begin(file.fileno())
            assert sync.is_busy
            assert is_readable(sync.eventfd, 10)
            assert sync.end() is None
            assert not sync.is_busy
            assert os.eventfd_read(sync.eventfd) == 1
    sync.close()


@BOTH
def test_what_cannot_be_synced_is_an_error_and_not_a_success(make: Make) -> None:
    """A pipe has no disk; a closed file no number."""
    sync = make()
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
        problem = sync.end()
        assert problem is not None
        raise problem
    assert caught.value.errno == errno.EBADF
    assert not sync.is_busy
    sync.close()


@BOTH
def test_closing_waits_for_the_sync_that_runs(tmp_path: Path, make: Make) -> None:
    """The folder is no longer in use when it returns. Idempotent."""
    sync = make()
    with (tmp_path / "file").open("wb", buffering=0) as file:
        file.write(bytes(1 << 20))
        sync.begin(file.fileno())
        sync.close()
    sync.close()


@BOTH
def test_what_the_kernel_does_not_take_was_not_begun(tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """And is not begun with the next one, either."""
    sync = make()
    refusing = True
    call = _Kernel.call

    def refuse(self: _Kernel, name: str, number: int, *arguments: object) -> int:
        if refusing:
            raise OSError(errno.EAGAIN, name)
        return call(self, name, number, *arguments)

    monkeypatch.setattr(_Kernel, "call", refuse)
    with (tmp_path / "file").open("wb", buffering=0) as file:
        file.write(b"some bytes")
        with pytest.raises(BlockingIOError):
            sync.begin(-1)
        assert not sync.is_busy
        refusing = False
        sync.begin(file.fileno())
        assert sync.end() is None
        assert is_readable(sync.eventfd, 10)
        assert os.eventfd_read(sync.eventfd) == 1, "what was refused does not count"
    sync.close()


@URING
def test_a_sync_that_hangs_delays_no_other(tmp_path: Path) -> None:
    """OWN-28. Opening a pipe without a writer hangs as a bad disk does, and occupies a worker as a sync does."""
    hanging, well = UringSync(), UringSync()
    os.mkfifo(tmp_path / "pipe")
    name = ctypes.create_string_buffer(os.fsencode(tmp_path / "pipe"))
    pack_into = kernel_sync._SQE.pack_into

    def pack_open(entries: mmap.mmap, offset: int, *sync: int) -> None:
        open_, asynchronously, here = 18, 0x10, -100
        pack_into(entries, offset, open_, asynchronously, 0, here, 0, ctypes.addressof(name), 0, os.O_RDONLY, 0)

    with pytest.MonkeyPatch.context() as patch, (tmp_path / "file").open("wb", buffering=0) as file:
        patch.setattr(kernel_sync, "_SQE", SimpleNamespace(pack_into=pack_open, size=kernel_sync._SQE.size))
        hanging.begin(0)
        patch.undo()
        file.write(b"some bytes")
        well.begin(file.fileno())
        assert is_readable(well.eventfd, 5)
        assert well.end() is None
    os.close(os.open(tmp_path / "pipe", os.O_WRONLY))
    with suppress(OSError):
        hanging.end()
    hanging.close()
    well.close()


@URING
def test_where_io_uring_is_forbidden_io_submit_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in many containers."""
    first = make_kernel_sync()
    assert isinstance(first, UringSync)
    first.close()
    call = _Kernel.call

    def forbid(self: _Kernel, name: str, number: int, *arguments: object) -> int:
        if name == "io_uring_setup":
            raise PermissionError(errno.EPERM, name)
        return call(self, name, number, *arguments)

    monkeypatch.setattr(_Kernel, "call", forbid)
    second = make_kernel_sync()
    assert isinstance(second, AioSync)
    second.close()


@URING
def test_nothing_is_left_of_a_ring_that_could_not_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """No descriptor stays open."""
    before = set(os.listdir("/proc/self/fd"))
    call = _Kernel.call

    def forbid(self: _Kernel, name: str, number: int, *arguments: object) -> int:
        if name == "io_uring_register":
            raise PermissionError(errno.EPERM, name)
        return call(self, name, number, *arguments)

    monkeypatch.setattr(_Kernel, "call", forbid)
    with pytest.raises(PermissionError):
        UringSync()
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_machine_whose_numbers_are_not_known_gets_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """System call numbers are not guessed."""
    monkeypatch.setattr("platform.machine", lambda: "vax")
    with pytest.raises(OSError, match="not known"):
        AioSync()
    monkeypatch.setattr("sys.byteorder", "big")
    with pytest.raises(OSError, match="no io_uring"):
        make_kernel_sync()
