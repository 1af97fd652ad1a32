"""The forwarder's outcome of each operation, for every way in which a node's answer may end; writes are sent once."""

from collections.abc import Callable
from typing import Any, Final

import pytest
import trio

from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.requests import Delete, Get, List, Put, Request
from tests.cluster.scripted import forwarder_of, forwarding, refused

OPERATIONS: Final[dict[str, list[Request]]] = {
    "put": [Put(id=0, key="a", value="x")],
    "conditional put": [Put(id=0, key="a", value="x", if_index=3)],
    "put if absent": [Put(id=0, key="a", value="x", if_absent=True)],
    "bulk put": [Put(id=0, key=key, value="x") for key in "abc"],
    "delete": [Delete(id=0, key="a")],
    "conditional delete": [Delete(id=0, key="a", if_index=3)],
    "get": [Get(id=0, key="a")],
    "list": [List(id=0)],
}

Reply = Callable[[dict[str, Any], int], dict[str, Any] | None]


def good(request: dict[str, Any], connection: int = 0) -> dict[str, Any]:
    """A good answer to whatever it is."""
    by_op: dict[str, dict[str, Any]] = {"put": {"term": 1}, "delete": {"term": 1, "deleted": True}, "get": {"value": "x"}}
    fields = by_op.get(request["op"])
    if fields is None:
        return {"id": request["id"], "ok": True, "items": [], "next": None, "index": 7}
    return {"id": request["id"], "ok": True, "key": request["key"], "index": 7, **fields}


def cut(request: dict[str, Any], connection: int) -> None:
    """The connection ends instead of an answer."""


def silent(request: dict[str, Any], connection: int) -> dict[str, Any]:
    """An answer without a request."""
    return {**good(request), "id": 999_999}


def failing(error: str) -> Reply:
    """An error, of which the node says what is certain."""
    unknown = error in ("outcome_unknown", "storage_failed")
    return lambda request, connection: refused(request, error) | {"applied": None if unknown else False}


ENDINGS: Final[dict[str, tuple[Reply, str, str]]] = {
    "done": (good, "", ""),
    "cut": (cut, "outcome_unknown", "no_leader"),
    "silence": (silent, "outcome_unknown", "no_leader"),
    "unknown": (failing("outcome_unknown"), "outcome_unknown", "outcome_unknown"),
    "disk failed": (failing("storage_failed"), "storage_failed", "no_leader"),
    "no leader": (failing("no_leader"), "no_leader", "no_leader"),
    "not the leader": (failing("not_leader"), "no_leader", "no_leader"),
    "overloaded": (failing("overloaded"), "overloaded", "overloaded"),
    "condition": (failing("precondition_failed"), "precondition_failed", "precondition_failed"),
}
"""What the node does; the error of a write, and of a read, "" for none."""


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("ending", ENDINGS)
async def test_each_way_to_end_is_reported_with_its_reason(operation: str, ending: str) -> None:
    """Only what was refused for want of a leader, or only reads, is asked again."""
    requests = OPERATIONS[operation]
    reply, of_write, of_read = ENDINGS[ending]
    is_write = isinstance(requests[0], (Put, Delete))
    async with forwarding(reply, timeout_s=0.2) as (forwarder, node):
        outcomes = await forwarder.execute_many(requests)
    wanted = of_write if is_write else of_read
    assert [getattr(outcome, "code", "") for outcome in outcomes] == [wanted] * len(requests)
    asked = sum(len(connection) for connection in node.asked)
    may_be_repeated = wanted == "no_leader"
    assert asked == len(requests) or (may_be_repeated and asked > len(requests))
    if is_write and wanted in ("outcome_unknown", "storage_failed"):
        assert all(isinstance(outcome, BargeError) and outcome.applied is None for outcome in outcomes)


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_node_that_is_not_there_is_certain(operation: str) -> None:
    """Nothing was sent."""
    async with trio.open_nursery() as nursery:
        forwarder = forwarder_of(nursery, 0.1)
        outcomes = await forwarder.execute_many(OPERATIONS[operation])
        nursery.cancel_scope.cancel()
    assert [(outcome.code, outcome.applied) for outcome in outcomes if isinstance(outcome, BargeError)] == [
        ("no_leader", False) for _ in OPERATIONS[operation]
    ]
