"""The client library: keys over the client protocol at the leader, nodes over REST at whichever daemon answers.

A request is sent again, to whoever leads then, as long as it is certain that it had no effect, or if it only reads. Else the
caller is told `outcome_unknown`, and decides.
"""

import time
from types import TracebackType
from typing import Any, TypeVar

from bargetrio.client.admin import Admin
from bargetrio.client.connection import Connection, Cut, NotSent
from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.requests import (
    Delete,
    DeleteAnswer,
    Get,
    GetAnswer,
    List,
    ListAnswer,
    Put,
    PutAnswer,
    ReadLevel,
    Request,
    check_request,
)
from bargetrio.protocol.validation import text_or_b64

A = TypeVar("A")
PAUSE_S = 0.05


class Client:
    """Talks to one cluster; not for several threads at once. Every call raises BargeError; `applied` tells what is certain."""

    def __init__(
        self,
        addresses: list[str],
        *,
        cluster: str = "barge",
        apis: list[str] | None = None,
        token: bytes | None = None,
        timeout_s: float = 6.0,
    ) -> None:
        self._addresses = list(addresses)
        self._cluster = cluster
        self._timeout_s = timeout_s
        self._connection: Connection | None = None
        self._leader_address = ""
        self._turn = 0
        self.admin = Admin(apis or [], token)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # -- keys ------------------------------------------------------------------------------------------------------------

    def put(self, key: str, value: str | bytes, *, if_index: int | None = None, if_absent: bool = False) -> PutAnswer:
        """Write a key; returns when the write is committed on a majority and applied."""
        text, value_b64 = text_or_b64(value) if isinstance(value, bytes) else (value, None)
        request = Put(id=0, key=key, value=text, value_b64=value_b64, if_index=if_index, if_absent=if_absent)
        return self._execute(request, PutAnswer)

    def get(self, key: str, *, read: ReadLevel = "linearizable") -> GetAnswer:
        """Read a key; index 0 if it is not there."""
        return self._execute(Get(id=0, key=key, read=read), GetAnswer)

    def delete(self, key: str, *, if_index: int | None = None) -> DeleteAnswer:
        """Remove a key; `deleted` is False if it was not there."""
        return self._execute(Delete(id=0, key=key, if_index=if_index), DeleteAnswer)

    def items(self, prefix: str = "", *, after: str = "", limit: int = 100, keys_only: bool = False) -> ListAnswer:
        """Read keys in order."""
        return self._execute(List(id=0, prefix=prefix, after=after, limit=limit, keys_only=keys_only), ListAnswer)

    # -- nodes -----------------------------------------------------------------------------------------------------------

    def leader(self) -> dict[str, Any]:
        """Return {"leader", "term", "address"}."""
        found: dict[str, Any] = self.admin.ask("GET", "/leader")
        return found

    def nodes(self) -> list[dict[str, Any]]:
        """Return what the cluster knows of each node."""
        found: list[dict[str, Any]] = self.admin.ask("GET", "/nodes")["nodes"]
        return found

    def kill(self, node_id: int) -> bool:
        """Crash a node; return whether it ran."""
        return bool(self.admin.ask("POST", f"/nodes/{node_id}/kill")["changed"])

    def revive(self, node_id: int) -> bool:
        """Start a node again; return whether that was needed."""
        return bool(self.admin.ask("POST", f"/nodes/{node_id}/revive", timeout_s=60)["changed"])

    def readmit(self, node_id: int) -> None:
        """Take in a node whose disk was lost and replaced."""
        self.admin.ask("POST", f"/nodes/{node_id}/readmit", timeout_s=30)

    # -- finding the leader ----------------------------------------------------------------------------------------------

    def _execute(self, request: Request, answer_type: type[A]) -> A:
        check_request(request)
        is_write = isinstance(request, (Put, Delete))
        end = time.monotonic() + self._timeout_s
        why = "no node answers"
        while (left := end - time.monotonic()) > 0:
            try:
                return self._connected(left).ask(request, answer_type, left)
            except NotSent as problem:
                why = str(problem)
                self._forget()
            except Cut as problem:
                self._forget()
                if is_write:
                    raise BargeError("outcome_unknown", f"{problem}; the write may still be applied") from None
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
