"""The client library: keys over the client protocol at the leader, nodes over REST at whichever daemon answers.

A request is sent again, to whoever leads then, as long as it is certain that it had no effect, or if it only reads. Else the
caller is told `outcome_unknown`, and decides.
"""

from types import TracebackType
from typing import Any, TypeVar

from bargetrio.client.admin import Admin
from bargetrio.client.native import NativeKeys
from bargetrio.client.rest_keys import RestKeys
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


class Client:
    """Talks to one cluster; not for several threads at once. Every call raises BargeError; `applied` tells what is certain.

    `addresses` are the nodes', `apis` the daemons' REST. Without addresses, keys go through the daemons too. Ctrl-C raises
    Interrupted, a KeyboardInterrupt that knows whether a write may still happen. `timeout_s` is for keys, `nodes_timeout_s` for
    one daemon's answer about nodes.
    """

    def __init__(
        self,
        addresses: list[str],
        *,
        cluster: str = "barge",
        apis: list[str] | None = None,
        token: bytes | None = None,
        timeout_s: float = 6.0,
        nodes_timeout_s: float = 10.0,
    ) -> None:
        self.admin = Admin(apis or [], token, timeout_s=nodes_timeout_s)
        self._keys = NativeKeys(addresses, cluster, timeout_s) if addresses else RestKeys(self.admin, timeout_s)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._keys.close()

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

    def items(
        self, prefix: str = "", *, after: str = "", limit: int = 100, keys_only: bool = False, read: ReadLevel = "linearizable"
    ) -> ListAnswer:
        """Read up to `limit` keys in order; `next` is what to ask `after` for more, None at the end.

        A node ends its answer at about 1 MiB: then it is asked again here until the limit is reached. Each answer shows the keys
        at a moment of its own; `index` is that of the first one, which is the oldest.
        """
        first = answer = self._list(prefix, after, limit, keys_only, read)
        items = list(first.items)
        while answer.next is not None and len(items) < limit:
            answer = self._list(prefix, answer.next, limit - len(items), keys_only, read)
            items += answer.items
        return ListAnswer(id=0, items=items, next=answer.next, index=first.index)

    def _list(self, prefix: str, after: str, limit: int, keys_only: bool, read: ReadLevel) -> ListAnswer:
        return self._execute(List(id=0, prefix=prefix, after=after, limit=limit, keys_only=keys_only, read=read), ListAnswer)

    def _execute(self, request: Request, answer_type: type[A]) -> A:
        check_request(request)
        return self._keys.execute(request, answer_type)

    # -- nodes -----------------------------------------------------------------------------------------------------------

    def leader(self) -> dict[str, Any]:
        """Return {"leader", "term", "address"}."""
        found: dict[str, Any] = self.admin.ask("GET", "/leader")
        return found

    def nodes(self) -> list[dict[str, Any]]:
        """Return what the cluster knows of each node."""
        found: list[dict[str, Any]] = _field(self.admin.ask("GET", "/nodes"), "nodes")
        return found

    def kill(self, node_id: int) -> bool:
        """Crash a node; return whether it ran."""
        return bool(_field(self.admin.ask("POST", f"/nodes/{node_id}/kill"), "changed"))

    def revive(self, node_id: int) -> bool:
        """Start a node again; return whether that was needed."""
        return bool(_field(self.admin.ask("POST", f"/nodes/{node_id}/revive", timeout_s=60), "changed"))

    def readmit(self, node_id: int) -> None:
        """Take in a node whose disk was lost and replaced."""
        self.admin.ask("POST", f"/nodes/{node_id}/readmit", timeout_s=30)

    # -- faults ----------------------------------------------------------------------------------------------------------

    def faults(self) -> dict[str, Any]:
        """Return the faults in force, as `GET /faults` tells them."""
        found: dict[str, Any] = self.admin.ask("GET", "/faults")
        return found

    def set_faults(self, faults: dict[str, Any]) -> dict[str, Any]:
        """Put exactly these faults in force; an empty dictionary heals everything."""
        found: dict[str, Any] = self.admin.ask("PUT", "/faults", body=faults) if faults else self.admin.ask("DELETE", "/faults")
        return found


def _field(found: Any, name: str) -> Any:
    if not isinstance(found, dict) or name not in found:
        raise BargeError("bad_request", f"this is no Barge daemon: its answer has no {name!r}")
    return found[name]
