"""fdatasync by the kernel's own workers: the caller goes on, and an eventfd tells when it is done. Linux, by io_submit(2).

A thread that waits for a disk has to take the interpreter's lock back, from a loop that needs it: where three nodes share a
process, each sync cost a tenth of a millisecond that the disk did not need (docs/decisions/kernel_sync.md).
"""

import ctypes
import os
import platform
import sys
from contextlib import suppress
from typing import Final

_CALLS: Final = {
    "x86_64": {"setup": 206, "destroy": 207, "getevents": 208, "submit": 209},
    "aarch64": {"setup": 0, "destroy": 1, "submit": 2, "getevents": 4},
}
_FDSYNC: Final = 3
_TELL_EVENTFD: Final = 1


class _Iocb(ctypes.Structure):
    """struct iocb of linux/aio_abi.h, for little-endian machines."""

    _fields_ = (
        ("data", ctypes.c_uint64),
        ("key", ctypes.c_uint32),
        ("rw_flags", ctypes.c_int32),
        ("opcode", ctypes.c_uint16),
        ("reqprio", ctypes.c_int16),
        ("descriptor", ctypes.c_uint32),
        ("buffer", ctypes.c_uint64),
        ("nbytes", ctypes.c_uint64),
        ("offset", ctypes.c_int64),
        ("reserved", ctypes.c_uint64),
        ("flags", ctypes.c_uint32),
        ("eventfd", ctypes.c_uint32),
    )


class _IoEvent(ctypes.Structure):
    """struct io_event."""

    _fields_ = (
        ("data", ctypes.c_uint64),
        ("iocb", ctypes.c_uint64),
        ("result", ctypes.c_int64),
        ("result2", ctypes.c_int64),
    )


class KernelSync:
    """One sync at a time, of any file. Raises OSError if this system can't; then threads must do."""

    def __init__(self) -> None:
        calls = _CALLS.get(platform.machine()) if sys.platform == "linux" and sys.byteorder == "little" else None
        if calls is None:
            raise OSError(38, "no io_submit on this system")
        self._calls = calls
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._context = ctypes.c_ulong(0)
        self._call("setup", 1, ctypes.byref(self._context))
        self.eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        """Readable when the sync has ended."""
        self._iocb = _Iocb(opcode=_FDSYNC, flags=_TELL_EVENTFD, eventfd=self.eventfd)
        self._iocbs = (ctypes.POINTER(_Iocb) * 1)(ctypes.pointer(self._iocb))
        self._event = _IoEvent()
        self.is_busy = False

    def begin(self, descriptor: int) -> None:
        """Begin to sync that file; raise OSError if the kernel does not take it: then nothing was begun."""
        assert not self.is_busy, "one sync at a time"
        self._iocb.descriptor = descriptor
        self._call("submit", self._context, ctypes.c_long(1), self._iocbs)
        self.is_busy = True

    def end(self) -> OSError | None:
        """Wait until the sync has ended, which is at once when the eventfd is readable; return what went wrong."""
        while not self._call("getevents", self._context, ctypes.c_long(1), ctypes.c_long(1), ctypes.byref(self._event), None):
            pass
        self.is_busy = False
        with suppress(BlockingIOError):  # somebody waited for the event and not for its bell
            os.eventfd_read(self.eventfd)
        result = self._event.result
        return OSError(-result, os.strerror(-result)) if result < 0 else None

    def close(self) -> None:
        """Give it back; waits for a sync that runs."""
        if self._context.value:
            self._call("destroy", self._context)
            self._context = ctypes.c_ulong(0)
            os.close(self.eventfd)

    def _call(self, name: str, *arguments: object) -> int:
        while True:
            result = int(self._libc.syscall(ctypes.c_long(self._calls[name]), *arguments))
            if result >= 0:
                return result
            number = ctypes.get_errno()
            if number != 4:  # EINTR
                raise OSError(number, f"io_{name}: {os.strerror(number)}")
