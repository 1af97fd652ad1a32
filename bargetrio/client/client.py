"""The client library: keys over the client protocol at the leader, nodes over REST at whichever daemon answers.

A request is sent again, to whoever leads then, as long as it is certain that it had no effect, or if it only reads. Else the
caller is told `outcome_unknown`, and decides.
"""

from types import TracebackType
from typing import TypeVar

from bargetrio.client.admin import Admin
from bargetrio.client.arguments import check_node_id, check_seconds, checked_token, faults_of, places_of, request_of
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
from bargetrio.protocol.views import BootstrapAnswer, Faults, LeaderView, NodeAnswer, NodesAnswer, NodeView

A = TypeVar("A")


class Client:
    """Talks to one cluster. Every call raises BargeError, also for an argument of a wrong type; `applied` tells what is certain.

    Threads may share a client: over the client protocol one of them asks at a time. After a fork each process has a connection of
    its own.

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
        nodes, daemons = places_of("addresses", addresses), places_of("apis", [] if apis is None else apis)
        check_seconds(timeout_s=timeout_s, nodes_timeout_s=nodes_timeout_s)
        if not isinstance(cluster, str) or not 0 < len(cluster) <= 200 or not cluster.isprintable():
            raise BargeError("bad_request", f"cluster is a name of 1 to 200 characters, not {cluster!r:.80}")
        self.admin = Admin(daemons, checked_token(token), timeout_s=nodes_timeout_s)
        self._keys = NativeKeys(nodes, cluster, timeout_s) if nodes else RestKeys(self.admin, timeout_s)

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
        if not isinstance(value, (str, bytes)):
            raise BargeError("bad_request", f"value is str or bytes, not {type(value).__name__}")
        text, value_b64 = text_or_b64(value) if isinstance(value, bytes) else (value, None)
        fields = {
            "key": key,
            "value": text,
            "value_b64": value_b64,
            "if_index": if_index,
            "if_absent": if_absent,
        }
        return self._execute(request_of(Put, fields), PutAnswer)

    def get(self, key: str, *, read: ReadLevel = "linearizable") -> GetAnswer:
        """Read a key; index 0 if it is not there."""
        return self._execute(request_of(Get, {"key": key, "read": read}), GetAnswer)

    def delete(self, key: str, *, if_index: int | None = None) -> DeleteAnswer:
        """Remove a key; `deleted` is False if it was not there."""
        return self._execute(request_of(Delete, {"key": key, "if_index": if_index}), DeleteAnswer)

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
        fields = {"prefix": prefix, "after": after, "limit": limit, "keys_only": keys_only, "read": read}
        return self._execute(request_of(List, fields), ListAnswer)

    def _execute(self, request: Request, answer_type: type[A]) -> A:
        check_request(request)
        return self._keys.execute(request, answer_type)

    # -- nodes -----------------------------------------------------------------------------------------------------------

    def leader(self) -> LeaderView:
        """Return who leads; raises BargeError(no_leader) where no quorum follows anybody."""
        return self.admin.ask("GET", "/leader", LeaderView)

    def nodes(self) -> list[NodeView]:
        """Return what the cluster knows of each node, by id."""
        return self.admin.ask("GET", "/nodes", NodesAnswer).nodes

    def kill(self, node_id: int) -> bool:
        """Crash a node; return whether it ran."""
        check_node_id(node_id)
        return self.admin.ask("POST", f"/nodes/{node_id}/kill", NodeAnswer).changed

    def revive(self, node_id: int) -> bool:
        """Start a node again; return whether that was needed. Raises BargeError, too, if it was killed while it started."""
        check_node_id(node_id)
        found = self.admin.ask("POST", f"/nodes/{node_id}/revive", NodeAnswer, timeout_s=60)
        if found.state == "killed":
            raise BargeError("bad_request", f"node {node_id} was killed while it started")
        return found.changed

    def readmit(self, node_id: int) -> bool:
        """Take in a node whose disk was lost and replaced; return whether that was needed."""
        check_node_id(node_id)
        return self.admin.ask("POST", f"/nodes/{node_id}/readmit", NodeAnswer, timeout_s=30).changed

    def bootstrap(self) -> list[int]:
        """Let a new cluster begin without the members that are absent; return all members."""
        return self.admin.ask("POST", "/bootstrap", BootstrapAnswer, timeout_s=30).members

    # -- faults ----------------------------------------------------------------------------------------------------------

    def faults(self) -> Faults:
        """Return the faults in force."""
        return self.admin.ask("GET", "/faults", Faults, having="groups")

    def set_faults(self, faults: Faults | dict[str, object]) -> Faults:
        """Put exactly these faults in force, and return them; `Faults()` heals everything.

        A dictionary is taken as the JSON of `PUT /faults` (docs/rest.md), the empty one as `Faults()`.
        """
        wanted = faults_of(faults)
        method, body = ("DELETE", None) if wanted == Faults() else ("PUT", wanted)
        return self.admin.ask(method, "/faults", Faults, having="groups", body=body)
