"""Keys over the client protocol, at the leader, which is found by trying the nodes and by their redirections."""

import os
import threading
import time
from typing import TypeVar

from bargetrio.client.connection import NodeConnection
from bargetrio.client.interrupted import Interrupted
from bargetrio.protocol.errors import BargeError, NoAnswer, NotSent
from bargetrio.protocol.requests import Request, is_write

A = TypeVar("A")
PAUSE_S = 0.05


class _ProcessConnection:
    """One process's connection to the leader, for one thread at a time (`lock`).

    After a fork both processes have the same socket, and the child's copy of the lock may be held by a thread of the parent.
    """

    def __init__(self, inherited: "_ProcessConnection | None" = None) -> None:
        self.pid = os.getpid()
        self.lock = threading.Lock()
        self.connection: NodeConnection | None = None
        self.leader_address = ""
        self._inherited = inherited
        """Kept for ever: freeing its stream could wait for a lock whose holder is in the other process."""
        if inherited is not None and inherited.connection is not None:
            inherited.connection.close_inherited()

    def drop(self) -> None:
        """Close the connection."""
        connection, self.connection = self.connection, None
        self.leader_address = ""
        if connection is not None:
            connection.close()


class NativeKeys:
    """One connection to the leader, used by one thread at a time; a forked process opens its own. Errors as of `Client`."""

    def __init__(self, addresses: list[str], cluster: str, timeout_s: float) -> None:
        self._addresses = list(addresses)
        self._cluster = cluster
        self._timeout_s = timeout_s
        self._turn = 0
        self._line = _ProcessConnection()

    def close(self) -> None:
        """Close the connection, after the request of another thread, if any, has ended."""
        line = self._own_connection()
        with line.lock:
            line.drop()

    def execute(self, request: Request, answer_type: type[A]) -> A:
        """Return the leader's answer; raise BargeError or Interrupted.

        A write that may have been applied is never retried (BUG-47). Waits for other threads' requests at most as long as
        for an answer; then raises `overloaded`.
        """
        end = time.monotonic() + self._timeout_s
        line = self._own_connection()
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

    def _execute(self, line: _ProcessConnection, request: Request, answer_type: type[A], end: float) -> A:
        is_a_write = is_write(request)
        why = "no node answers"
        while (left := end - time.monotonic()) > 0:
            asked = False
            try:
                connection = self._connected(line, left)
                asked = True
                return connection.ask(request, answer_type, left)
            except KeyboardInterrupt:
                line.drop()  # a late answer must not be taken for that of another request
                raise Interrupted(applied=None if is_a_write and asked else False) from None
            except NotSent as problem:
                why = str(problem)
                line.drop()
            except NoAnswer as problem:
                line.drop()
                if is_a_write:
                    raise BargeError("outcome_unknown", str(problem)) from None
                why = str(problem)
            except BargeError as error:
                if error.code not in ("not_leader", "no_leader") and not (error.code == "storage_failed" and not is_a_write):
                    raise
                why = error.detail
                line.drop()
                line.leader_address = error.address or ""
                if error.address:
                    continue
            except BaseException:  # raised by a signal handler, as for time limits: part of a request may have been sent
                line.drop()
                raise
            try:
                time.sleep(min(PAUSE_S, max(0.0, end - time.monotonic())))
            except KeyboardInterrupt:
                raise Interrupted(applied=False) from None
        raise BargeError("no_leader", f"no leader within {self._timeout_s:g} s: {why}")

    def _own_connection(self) -> _ProcessConnection:
        """Return this process's own connection. Threads that call this concurrently after a fork may each get a valid one."""
        line = self._line
        if line.pid != os.getpid():
            line = self._line = _ProcessConnection(line)
        return line

    def _connected(self, line: _ProcessConnection, timeout_s: float) -> NodeConnection:
        if line.connection is None:
            address, line.leader_address = line.leader_address, ""
            if not address:
                address = self._addresses[self._turn % len(self._addresses)]
                self._turn += 1
            line.connection = NodeConnection(address, self._cluster, min(timeout_s, 1.0))
        return line.connection
