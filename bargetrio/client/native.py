"""Keys over the client protocol, at the leader: found by asking around, followed when it changes."""

import os
import threading
import time
from typing import TypeVar

from bargetrio.client.connection import NodeConnection
from bargetrio.client.interrupted import Interrupted
from bargetrio.protocol.errors import BargeError, Cut, NotSent
from bargetrio.protocol.requests import Delete, Put, Request

A = TypeVar("A")
PAUSE_S = 0.05


class _Line:
    """One process's connection to the leader; `lock` lets one thread at a time use it.

    After a fork both processes hold the same socket, and the child's copy of the lock may be held by a thread that it has not.
    """

    def __init__(self, inherited: "_Line | None" = None) -> None:
        self.pid = os.getpid()
        self.lock = threading.Lock()
        self.connection: NodeConnection | None = None
        self.leader_address = ""
        self._inherited = inherited
        """Kept for ever: freeing its stream could wait for a lock that nobody holds here."""
        if inherited is not None and inherited.connection is not None:
            inherited.connection.let_go()

    def forget(self) -> None:
        """End the connection."""
        connection, self.connection = self.connection, None
        self.leader_address = ""
        if connection is not None:
            connection.close()


class NativeKeys:
    """One connection at a time, to the leader. Threads take turns; a forked process opens its own."""

    def __init__(self, addresses: list[str], cluster: str, timeout_s: float) -> None:
        self._addresses = list(addresses)
        self._cluster = cluster
        self._timeout_s = timeout_s
        self._turn = 0
        self._line = _Line()

    def close(self) -> None:
        """End the connection, when the request that is under way in another thread has ended."""
        line = self._own_line()
        with line.lock:
            line.forget()

    def execute(self, request: Request, answer_type: type[A]) -> A:
        """Return the leader's answer; raise BargeError. A write that may have been applied is never sent again (BUG-47).

        Waits for other threads' requests at most as long as for an answer: then `overloaded`.
        """
        end = time.monotonic() + self._timeout_s
        line = self._own_line()
        try:
            is_ours = line.lock.acquire(timeout=self._timeout_s)
        except KeyboardInterrupt:
            raise Interrupted(applied=False) from None
        if not is_ours:
            raise BargeError("overloaded", f"requests of other threads took the {self._timeout_s:g} s of this one")
        try:
            return self._execute(line, request, answer_type, end)
        finally:
            line.lock.release()

    def _execute(self, line: _Line, request: Request, answer_type: type[A], end: float) -> A:
        is_write = isinstance(request, (Put, Delete))
        why = "no node answers"
        while (left := end - time.monotonic()) > 0:
            asked = False
            try:
                connection = self._connected(line, left)
                asked = True
                return connection.ask(request, answer_type, left)
            except KeyboardInterrupt:
                line.forget()  # an answer that comes later is nobody's
                raise Interrupted(applied=None if is_write and asked else False) from None
            except NotSent as problem:
                why = str(problem)
                line.forget()
            except Cut as problem:
                line.forget()
                if is_write:
                    raise BargeError("outcome_unknown", str(problem)) from None
                why = str(problem)
            except BargeError as error:
                if error.code not in ("not_leader", "no_leader") and not (error.code == "storage_failed" and not is_write):
                    raise
                why = error.detail
                line.forget()
                line.leader_address = error.address or ""
                if error.address:
                    continue
            except BaseException:  # raised by a signal's handler, as time limits do: half a request may have left
                line.forget()
                raise
            time.sleep(min(PAUSE_S, max(0.0, end - time.monotonic())))
        raise BargeError("no_leader", f"no leader within {self._timeout_s:g} s: {why}")

    def _own_line(self) -> _Line:
        """Return this process's own connection. Threads that meet here at once after a fork may each get a good one."""
        line = self._line
        if line.pid != os.getpid():
            line = self._line = _Line(line)
        return line

    def _connected(self, line: _Line, timeout_s: float) -> NodeConnection:
        if line.connection is None:
            address, line.leader_address = line.leader_address, ""
            if not address:
                address = self._addresses[self._turn % len(self._addresses)]
                self._turn += 1
            line.connection = NodeConnection(address, self._cluster, min(timeout_s, 1.0))
        return line.connection
