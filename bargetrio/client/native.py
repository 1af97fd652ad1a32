"""Keys over the client protocol, at the leader: found by asking around, followed when it changes."""

import time
from typing import TypeVar

from bargetrio.client.connection import Connection, Cut, NotSent
from bargetrio.client.outcome import Interrupted
from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.requests import Delete, Put, Request

A = TypeVar("A")
PAUSE_S = 0.05


class NativeKeys:
    """One connection at a time, to whoever leads."""

    def __init__(self, addresses: list[str], cluster: str, timeout_s: float) -> None:
        self._addresses = list(addresses)
        self._cluster = cluster
        self._timeout_s = timeout_s
        self._connection: Connection | None = None
        self._leader_address = ""
        self._turn = 0

    def close(self) -> None:
        """End the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def execute(self, request: Request, answer_type: type[A]) -> A:
        """Return the answer of whoever leads; raise BargeError. A write that may have been made is never made again (BUG-47)."""
        is_write = isinstance(request, (Put, Delete))
        end = time.monotonic() + self._timeout_s
        why = "no node answers"
        while (left := end - time.monotonic()) > 0:
            asked = False
            try:
                connection = self._connected(left)
                asked = True
                return connection.ask(request, answer_type, left)
            except KeyboardInterrupt:
                self._forget()  # an answer that comes later is nobody's
                raise Interrupted(applied=None if is_write and asked else False) from None
            except NotSent as problem:
                why = str(problem)
                self._forget()
            except Cut as problem:
                self._forget()
                if is_write:
                    raise BargeError("outcome_unknown", str(problem)) from None
                why = str(problem)
            except BargeError as error:
                if error.code not in ("not_leader", "no_leader") and not (error.code == "storage_failed" and not is_write):
                    raise
                why = error.detail
                self._forget()
                self._leader_address = error.address or ""
                if error.address:
                    continue
            time.sleep(min(PAUSE_S, max(0.0, end - time.monotonic())))
        raise BargeError("no_leader", f"no leader within {self._timeout_s:g} s: {why}")

    def _connected(self, timeout_s: float) -> Connection:
        if self._connection is None:
            address, self._leader_address = self._leader_address, ""
            if not address:
                address = self._addresses[self._turn % len(self._addresses)]
                self._turn += 1
            self._connection = Connection(address, self._cluster, min(timeout_s, 1.0))
        return self._connection

    def _forget(self) -> None:
        self.close()
        self._leader_address = ""
