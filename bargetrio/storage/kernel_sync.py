"""Asynchronous fdatasync by the kernel's workers, with completion by eventfd. Linux.

A thread that waits for a disk must reacquire the GIL, which the event loop needs: with three nodes in a process each sync took
0.1 ms longer (docs/decisions/kernel_sync.md).

There are two ways: io_uring(7), whose workers run on any core, and io_submit(2), whose workers run on the core of the event loop.
The second is used where a container's seccomp rules forbid the first.
"""

import ctypes
import errno
import mmap
import os
import platform
import struct
import sys
from contextlib import suppress
from typing import Final, Protocol


class KernelSync(Protocol):
    """One sync at a time, of any file."""

    eventfd: int
    """Counted up when a sync has ended, and never read: to be watched edge-triggered."""
    is_busy: bool

    def begin(self, descriptor: int) -> None:
        """Submit a sync of that file; raise OSError if the kernel refuses: then no sync is in flight."""
        ...

    def end(self) -> OSError | None:
        """Wait until the sync has ended, without delay once the eventfd was counted up; return its error."""
        ...

    def close(self) -> None:
        """Release its resources; waits for a sync in flight."""
        ...


def make_kernel_sync() -> KernelSync:
    """Return the fastest that this system has; raise OSError if it has none: then use threads."""
    if sys.platform != "linux" or sys.byteorder != "little":
        raise OSError(errno.ENOSYS, "no io_uring and no io_submit on this system")
    with suppress(OSError):
        return UringSync()
    return AioSync()


class _Kernel:
    """System calls by number."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)

    def call(self, name: str, number: int, *arguments: object) -> int:
        """Make the call, retried after EINTR; raise OSError."""
        while True:
            result = int(self._libc.syscall(ctypes.c_long(number), *arguments))
            if result >= 0:
                return result
            problem = ctypes.get_errno()
            if problem != errno.EINTR:
                raise OSError(problem, f"{name}: {os.strerror(problem)}")


def _make_eventfd() -> int:
    return os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)


def _as_problem(result: int) -> OSError | None:
    return OSError(-result, os.strerror(-result)) if result < 0 else None


# -- io_uring ----------------------------------------------------------------------------------------------------------------

_URING_SETUP, _URING_ENTER, _URING_REGISTER = 425, 426, 427  # the same on every machine
_SINGLE_MMAP: Final = 1
_ENTER_GETEVENTS: Final = 1
_REGISTER_EVENTFD: Final = 4
_REGISTER_MOST_WORKERS: Final = 19
_MOST_WORKERS: Final = 64
"""All rings of a thread share their workers: as many as nodes, or one disk that hangs would hold up the others' syncs (OWN-28).

The first ring's size is a limit too, so it has as many entries, though one is used at a time.
"""
_OP_FSYNC: Final = 3
_FSYNC_DATASYNC: Final = 1
_SQES_OFFSET: Final = 0x10000000
_PARAMS_BYTES: Final = 120
"""struct io_uring_params: ten words, then the offsets of both queues, 40 bytes each."""
_SQE: Final = struct.Struct("<BBHiQQIIQ24x")
_CQE: Final = struct.Struct("<QiI")
_U32: Final = struct.Struct("<I")


class UringSync:
    """io_uring with a ring of its own; implements KernelSync."""

    def __init__(self) -> None:
        self.is_busy = False
        self._submitted = self._completed = 0
        self._kernel = _Kernel()
        params = bytearray(_PARAMS_BYTES)
        self._ring_fd = self._kernel.call(
            "io_uring_setup", _URING_SETUP, _MOST_WORKERS, (ctypes.c_char * _PARAMS_BYTES).from_buffer(params)
        )
        try:
            self._map(params)
            self.eventfd = _make_eventfd()
        except BaseException:
            os.close(self._ring_fd)
            raise
        try:
            eventfd = ctypes.c_int(self.eventfd)
            self._kernel.call(
                "io_uring_register", _URING_REGISTER, self._ring_fd, _REGISTER_EVENTFD, ctypes.byref(eventfd), ctypes.c_uint(1)
            )
            with suppress(OSError):  # since Linux 5.15
                most = (ctypes.c_uint * 2)(_MOST_WORKERS, 0)
                self._kernel.call(
                    "io_uring_register", _URING_REGISTER, self._ring_fd, _REGISTER_MOST_WORKERS, most, ctypes.c_uint(2)
                )
        except BaseException:
            self._release()
            raise

    def begin(self, descriptor: int) -> None:
        """Submit one entry."""
        assert not self.is_busy, "one sync at a time"
        ring, tail = self._ring, self._submitted
        slot = tail & self._sq_mask
        _SQE.pack_into(self._entries, slot * _SQE.size, _OP_FSYNC, 0, 0, descriptor, 0, 0, 0, _FSYNC_DATASYNC, 0)
        _U32.pack_into(ring, self._sq_array + 4 * slot, slot)
        self._submitted = (tail + 1) & 0xFFFFFFFF
        _U32.pack_into(ring, self._sq_tail, self._submitted)
        try:
            if not self._enter(1, 0, 0):
                raise OSError(errno.EAGAIN, "io_uring took nothing")
        except OSError:
            self._submitted = tail  # the entry was not consumed, and must not be by a later call
            _U32.pack_into(ring, self._sq_tail, tail)
            raise
        self.is_busy = True

    def end(self) -> OSError | None:
        """Reap the completion, waiting for it if necessary."""
        ring, head = self._ring, self._completed
        while _U32.unpack_from(ring, self._cq_tail)[0] == head:
            self._enter(0, 1, _ENTER_GETEVENTS)
        _, result, _ = _CQE.unpack_from(ring, self._cq_entries + (head & self._cq_mask) * _CQE.size)
        self._completed = (head + 1) & 0xFFFFFFFF
        _U32.pack_into(ring, self._cq_head, self._completed)
        self.is_busy = False
        return _as_problem(result)

    def close(self) -> None:
        """Wait for a sync in flight, which the kernel would continue after the ring is closed; then close it."""
        if self._ring_fd >= 0:
            if self.is_busy:
                self.end()
            self._release()

    def _map(self, params: bytearray) -> None:
        sq_count, cq_count, _, _, _, features = struct.unpack_from("<6I", params)
        if not features & _SINGLE_MMAP:
            raise OSError(errno.ENOSYS, "io_uring of an old kernel")
        _, self._sq_tail, _, _, _, _, self._sq_array = struct.unpack_from("<7I", params, 40)
        self._cq_head, self._cq_tail, _, _, _, self._cq_entries = struct.unpack_from("<6I", params, 80)
        self._sq_mask, self._cq_mask = sq_count - 1, cq_count - 1
        size = max(self._sq_array + 4 * sq_count, self._cq_entries + _CQE.size * cq_count)
        self._ring = self._shared(size, 0)
        self._entries = self._shared(_SQE.size * sq_count, _SQES_OFFSET)

    def _shared(self, size: int, offset: int) -> mmap.mmap:
        flags = mmap.MAP_SHARED | mmap.MAP_POPULATE
        return mmap.mmap(self._ring_fd, size, flags, mmap.PROT_READ | mmap.PROT_WRITE, offset=offset)

    def _enter(self, submit: int, wait_for: int, flags: int) -> int:
        return self._kernel.call("io_uring_enter", _URING_ENTER, self._ring_fd, submit, wait_for, flags, None, ctypes.c_size_t(0))

    def _release(self) -> None:
        os.close(self._ring_fd)
        self._ring_fd = -1
        self._ring.close()
        self._entries.close()
        os.close(self.eventfd)


# -- io_submit ---------------------------------------------------------------------------------------------------------------

_AIO_CALLS: Final = {
    "x86_64": {"setup": 206, "destroy": 207, "getevents": 208, "submit": 209},
    "aarch64": {"setup": 0, "destroy": 1, "submit": 2, "getevents": 4},
}
_FDSYNC: Final = 3
_FLAG_RESFD: Final = 1


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


class AioSync:
    """io_submit with a context of its own; implements KernelSync."""

    def __init__(self) -> None:
        calls = _AIO_CALLS.get(platform.machine())
        if calls is None:
            raise OSError(errno.ENOSYS, "io_submit's number is not known here")
        self._calls = calls
        self._kernel = _Kernel()
        self._context = ctypes.c_ulong(0)
        self._call("setup", 1, ctypes.byref(self._context))
        self.eventfd = _make_eventfd()
        self._iocb = _Iocb(opcode=_FDSYNC, flags=_FLAG_RESFD, eventfd=self.eventfd)
        self._iocbs = (ctypes.POINTER(_Iocb) * 1)(ctypes.pointer(self._iocb))
        self._event = _IoEvent()
        self.is_busy = False

    def begin(self, descriptor: int) -> None:
        """Submit."""
        assert not self.is_busy, "one sync at a time"
        self._iocb.descriptor = descriptor
        self._call("submit", self._context, ctypes.c_long(1), self._iocbs)
        self.is_busy = True

    def end(self) -> OSError | None:
        """Reap the event."""
        while not self._call("getevents", self._context, ctypes.c_long(1), ctypes.c_long(1), ctypes.byref(self._event), None):
            pass
        self.is_busy = False
        return _as_problem(self._event.result)

    def close(self) -> None:
        """Destroy the context, which waits for a sync in flight."""
        if self._context.value:
            self._call("destroy", self._context)
            self._context = ctypes.c_ulong(0)
            os.close(self.eventfd)

    def _call(self, name: str, *arguments: object) -> int:
        return self._kernel.call(f"io_{name}", self._calls[name], *arguments)
