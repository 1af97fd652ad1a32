"""The client library: keys over the client protocol at the leader, nodes over REST at any daemon that answers.

A request is retried, at the present leader, only if it certainly had no effect, or is a read. Else the call raises
`outcome_unknown`, and the caller decides.
"""

from types import TracebackType
from typing import Final, TypeVar

from bargetrio.client.admin import Admin
from bargetrio.client.arguments import addresses_of, check_node_id, check_seconds, checked_token, faults_of, request_of
from bargetrio.client.native import NativeKeys
from bargetrio.client.rest_keys import RestKeys
from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.limits import HELLO_CHARACTERS
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
from bargetrio.protocol.views import BootstrapAnswer, Faults, LeaderView, NodeAnswer, NodesAnswer, NodeView, Successor

A = TypeVar("A")
REVIVE_TIMEOUT_S: Final = 60.0
READMIT_TIMEOUT_S: Final = 30.0
"""Of a readmission, and of a bootstrap."""


class Client:
    """Client of one cluster.

    `addresses` are the nodes', `apis` the daemons' REST. Without addresses, keys go through the daemons, too. `timeout_s` is for
    a request about keys, `nodes_timeout_s` for one daemon's answer about nodes. A wrong one is bad_request, at once; nothing is
    connected before the first call.

    Threads may share a client: over the client protocol one request is in flight at a time. After a fork each process opens its
    own connection.

    Errors: a BargeError, whose `code` is one of those that the method names, and whose `applied` is that of this table (as in
    docs/rest.md). False: certainly nothing was done. None: unknown.

        code                 applied  for the caller
        bad_request          False    an argument is not valid, or the cluster's state does not allow it now: `detail` says why
        not_found            False    there is no such node
        precondition_failed  False    `if_index` or `if_absent` does not hold: read the key again
        forbidden            False    the cluster's name or the token is wrong
        cannot_start         False    the node's folder, disk or port must be mended first: `detail` says how
        no_leader            False    no leader, or no answer, within the time-out: may be repeated
        overloaded           False    too much at a time: may be repeated, later
        outcome_unknown      None     it may have been done, or still be: read before a write is repeated
        storage_failed       None     the same, as the leader's disk failed

    A bug in a daemon is outcome_unknown with status 500, whatever was asked.

    Cancellation: Ctrl-C during a call raises Interrupted, a KeyboardInterrupt with `applied`; None if a write, or a change of
    nodes or faults, was sent: it is not withdrawn. Other exceptions of signal handlers, as for time limits, are passed on: the
    outcome is unknown. The connection is closed, and the client can be used further.
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
        nodes, daemons = addresses_of("addresses", addresses), addresses_of("apis", [] if apis is None else apis)
        check_seconds(timeout_s=timeout_s, nodes_timeout_s=nodes_timeout_s)
        if not isinstance(cluster, str) or not 0 < len(cluster) <= HELLO_CHARACTERS or not cluster.isprintable():
            raise BargeError("bad_request", f"cluster is a name of 1 to {HELLO_CHARACTERS} characters, not {cluster!r:.80}")
        self.admin = Admin(daemons, checked_token(token), timeout_s=nodes_timeout_s)
        self._keys = NativeKeys(nodes, cluster, timeout_s) if nodes else RestKeys(self.admin, timeout_s)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection, after the request of another thread, if any, has ended. Errors: none."""
        self._keys.close()

    # -- keys ------------------------------------------------------------------------------------------------------------

    def put(self, key: str, value: str | bytes, *, if_index: int | None = None, if_absent: bool = False) -> PutAnswer:
        """Write a key; returns when the write is committed on a majority and applied.

        Errors: bad_request, precondition_failed, forbidden, no_leader, overloaded, outcome_unknown, storage_failed. With
        `if_index` it may be repeated after each, as it is applied once at most; precondition_failed may then mean: by its first
        attempt.
        """
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
        """Read a key; index 0 if it does not exist. Errors: bad_request, forbidden, no_leader, overloaded."""
        return self._execute(request_of(Get, {"key": key, "read": read}), GetAnswer)

    def delete(self, key: str, *, if_index: int | None = None) -> DeleteAnswer:
        """Remove a key; `deleted` is False if it did not exist.

        Errors: as of `put`: bad_request, precondition_failed, forbidden, no_leader, overloaded, outcome_unknown, storage_failed.
        """
        return self._execute(request_of(Delete, {"key": key, "if_index": if_index}), DeleteAnswer)

    def items(
        self, prefix: str = "", *, after: str = "", limit: int = 100, keys_only: bool = False, read: ReadLevel = "linearizable"
    ) -> ListAnswer:
        """Read up to `limit` keys in order; pass `next` as `after` to get more, None at the end.

        A node's answer has about 1 MiB at most: requests are repeated until the limit is reached. Each answer is a snapshot of
        its own; `index` is that of the first, the oldest.

        Errors: bad_request, forbidden, no_leader, overloaded; keys that were read before are lost with it.
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
        """Return the leader. Errors: no_leader, also if no node leads a quorum; forbidden, overloaded."""
        return self.admin.ask("GET", "/leader", LeaderView)

    def transfer(self, node_id: int | None = None) -> LeaderView:
        """Have another node elected at once, this one or the one that has most entries; return the leader.

        Errors: bad_request, with the reason, where it could not be elected; not_found, forbidden, no_leader, overloaded;
        outcome_unknown where it is not elected in time: may be repeated.
        """
        if node_id is not None:
            check_node_id(node_id)
        return self.admin.ask("POST", "/leader", LeaderView, body=Successor(to=node_id), timeout_s=READMIT_TIMEOUT_S)

    def nodes(self) -> list[NodeView]:
        """Return a view of each node, by id. Errors: no_leader if no daemon answers; forbidden, overloaded."""
        return self.admin.ask("GET", "/nodes", NodesAnswer).nodes

    def kill(self, node_id: int) -> bool:
        """Crash a node; return whether it was running.

        Errors: bad_request, not_found, forbidden, no_leader, overloaded, outcome_unknown: may be repeated.
        """
        check_node_id(node_id)
        return self.admin.ask("POST", f"/nodes/{node_id}/kill", NodeAnswer).changed

    def revive(self, node_id: int) -> bool:
        """Start a node again; return whether it was not running.

        Errors: bad_request, also if it was killed while it started; not_found, cannot_start, forbidden, no_leader, overloaded;
        outcome_unknown, as while it still recovers: may be repeated.
        """
        check_node_id(node_id)
        found = self.admin.ask("POST", f"/nodes/{node_id}/revive", NodeAnswer, timeout_s=REVIVE_TIMEOUT_S)
        if found.state == "killed":
            raise BargeError("bad_request", f"node {node_id} was killed while it started")
        return found.changed

    def readmit(self, node_id: int) -> bool:
        """Readmit a node whose disk was lost and replaced; return False if it is a member with that disk already.

        Errors: bad_request, with what must be done first; not_found, forbidden, no_leader, overloaded; outcome_unknown, as while
        the change is not committed: may be repeated.
        """
        check_node_id(node_id)
        return self.admin.ask("POST", f"/nodes/{node_id}/readmit", NodeAnswer, timeout_s=READMIT_TIMEOUT_S).changed

    def bootstrap(self) -> list[int]:
        """Begin a new cluster without the members that are absent; return all members.

        Errors: bad_request, as where the cluster has begun already or no majority is present; forbidden, no_leader, overloaded;
        outcome_unknown: may be repeated, and is then bad_request if it has begun.
        """
        return self.admin.ask("POST", "/bootstrap", BootstrapAnswer, timeout_s=READMIT_TIMEOUT_S).members

    # -- faults ----------------------------------------------------------------------------------------------------------

    def faults(self) -> Faults:
        """Return the faults in force. Errors: no_leader if no daemon answers; forbidden, overloaded."""
        return self.admin.ask("GET", "/faults", Faults, required_field="groups")

    def set_faults(self, faults: Faults | dict[str, object]) -> Faults:
        """Replace the faults in force, and return them; `Faults()` heals everything.

        A dictionary is read as the JSON of `PUT /faults` (docs/rest.md), the empty one as `Faults()`.

        Errors: bad_request, not_found, forbidden, no_leader, overloaded; outcome_unknown, as where they are in force at some
        daemons only: may be repeated.
        """
        wanted = faults_of(faults)
        method, body = ("DELETE", None) if wanted == Faults() else ("PUT", wanted)
        return self.admin.ask(method, "/faults", Faults, required_field="groups", body=body)
