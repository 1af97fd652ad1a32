"""The outcomes of a batch of which the node answers some requests, refuses some, and then ends."""

from typing import Any

import pytest
import trio

from bargetrio.cluster.forward import Outcome
from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.requests import Get, List, Put, PutAnswer
from tests.cluster.scripted import forwarder_of, forwarding, ok, refused


def puts(*keys: str) -> list[Put]:
    """A put of each."""
    return [Put(id=0, key=key, value="x") for key in keys]


def codes(outcomes: list[Outcome]) -> list[str]:
    """Return "ok" or the error of each."""
    return [outcome.code if isinstance(outcome, BargeError) else "ok" for outcome in outcomes]


async def test_answers_find_their_requests_in_any_order() -> None:
    """They are matched by id, and returned in the requests' order."""
    async with forwarding(lambda request, _: ok(request, int(request["key"]))) as (forwarder, node):
        outcomes = await forwarder.execute_many(puts("3", "1", "2"))
        assert [outcome.index for outcome in outcomes if isinstance(outcome, PutAnswer)] == [3, 1, 2]
        assert node.asked == [["3", "1", "2"]]


async def test_as_many_answers_as_a_bulk_write_carries_may_come_in_one_piece() -> None:
    """Each is its own request's."""
    async with forwarding(lambda request, _: ok(request, int(request["key"]) + 1)) as (forwarder, node):
        outcomes = await forwarder.execute_many(puts(*map(str, range(500))))
    assert [outcome.index for outcome in outcomes if isinstance(outcome, PutAnswer)] == list(range(1, 501))
    assert [len(asked) for asked in node.asked] == [500]


async def test_a_cut_leaves_unknown_only_what_was_not_answered() -> None:
    """BUG-47, by the request: nothing of it is sent again."""

    def reply(request: dict[str, Any], connection: int) -> dict[str, Any] | None:
        return ok(request) if request["key"] in "ab" else None

    async with forwarding(reply) as (forwarder, node):
        outcomes = await forwarder.execute_many(puts("a", "lost", "b", "also lost"))
        assert codes(outcomes) == ["ok", "outcome_unknown", "ok", "outcome_unknown"]
        assert node.asked == [["a", "lost", "b", "also lost"]]


async def test_only_what_was_refused_is_sent_again() -> None:
    """In the middle of a change of leader: the rest is done, and would be done twice."""
    refusals = {"b": "not_leader", "d": "no_leader"}

    def reply(request: dict[str, Any], connection: int) -> dict[str, Any]:
        error = refusals.pop(request["key"], None)
        return ok(request) if error is None else refused(request, error)

    async with forwarding(reply) as (forwarder, node):
        assert codes(await forwarder.execute_many(puts("a", "b", "c", "d"))) == ["ok"] * 4
        assert node.asked == [["a", "b", "c", "d", "b", "d"]]


async def test_an_error_of_one_is_no_error_of_another() -> None:
    """A condition that fails is its own request's end."""

    def reply(request: dict[str, Any], connection: int) -> dict[str, Any]:
        return refused(request, "precondition_failed") if request["key"] == "b" else ok(request)

    async with forwarding(reply) as (forwarder, _):
        assert codes(await forwarder.execute_many(puts("a", "b", "c"))) == ["ok", "precondition_failed", "ok"]


async def test_silence_is_unknown_for_writes_that_have_left() -> None:
    """The time ends; what was answered stays answered."""

    def reply(request: dict[str, Any], connection: int) -> dict[str, Any]:
        return ok(request) if request["key"] == "a" else {"id": 999, "ok": True}

    async with forwarding(reply, timeout_s=0.2) as (forwarder, _):
        assert codes(await forwarder.execute_many(puts("a", "b"))) == ["ok", "outcome_unknown"]


async def test_an_unreachable_server_is_certain() -> None:
    """Never sent, so never applied."""
    async with trio.open_nursery() as nursery:
        forwarder = forwarder_of(nursery, 0.2)
        assert codes(await forwarder.execute_many(puts("a", "b"))) == ["no_leader", "no_leader"]
        nursery.cancel_scope.cancel()


async def test_a_read_is_asked_again_after_a_cut() -> None:
    """It has no effect, so it is not unknown."""

    def reply(request: dict[str, Any], connection: int) -> dict[str, Any] | None:
        return None if connection == 0 else {"id": request["id"], "ok": True, "key": "a", "index": 7, "value": "x"}

    async with forwarding(reply) as (forwarder, node):
        assert (await forwarder.execute(Get(id=0, key="a"))).index == 7
        assert node.asked == [["a"], ["a"]]


async def test_single_writes_that_come_while_others_are_under_way_leave_together() -> None:
    """Sixty-four clients of REST cost the leader two batches, not sixty-four; a read does not wait for them."""
    async with forwarding(ok) as (forwarder, node):
        await forwarder.execute(Put(id=0, key="before", value="v"))
        node.bursts.clear()
        async with trio.open_nursery() as nursery:
            for number in range(64):
                nursery.start_soon(forwarder.execute, Put(id=0, key=f"k{number}", value="v"))
    assert sum(node.bursts) == 64
    assert node.bursts[0] == 1 and len(node.bursts) <= 4, node.bursts


async def test_a_write_that_waits_for_others_is_not_lost_with_their_connection() -> None:
    """What had left is unknown; what had not is sent over the next connection."""

    def reply(request: dict[str, Any], connection: int) -> dict[str, Any] | None:
        return ok(request) if connection or request["key"] == "before" else None

    outcomes: dict[str, str] = {}
    async with forwarding(reply) as (forwarder, _):
        await forwarder.execute(Put(id=0, key="before", value="v"))

        async def put(key: str) -> None:
            try:
                await forwarder.execute(Put(id=0, key=key, value="v"))
                outcomes[key] = "ok"
            except BargeError as error:
                outcomes[key] = error.code

        async with trio.open_nursery() as nursery:
            for key in ("a", "b", "c"):
                nursery.start_soon(put, key)
    assert sorted(outcomes.values()) == ["ok", "ok", "outcome_unknown"]


@pytest.mark.parametrize("stale", [Get(id=0, key="a", read="stale"), List(id=0, read="stale")], ids=["get", "list"])
async def test_a_stale_read_needs_no_leader_and_teaches_none(stale: Get | List) -> None:
    """Any node of this daemon answers it; linearizable reads still go to the leader."""

    def reply(request: dict[str, Any], connection: int) -> dict[str, Any]:
        fields: dict[str, Any] = {"items": [], "next": None} if request["op"] == "list" else {"key": "a", "value": "x"}
        return {"id": request["id"], "ok": True, "index": 7, **fields}

    async with forwarding(reply, timeout_s=0.2, leader=None) as (forwarder, node):
        assert codes(await forwarder.execute_many([stale])) == ["ok"]
        assert codes(await forwarder.execute_many([Get(id=0, key="a")])) == ["no_leader"]
        assert len(node.asked[0]) == 1


async def test_a_bug_in_the_search_for_the_leader_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The task stands in the daemon's own nursery."""
    looks: list[int] = []

    async with forwarding(lambda request, number: ok(request)) as (forwarder, _):

        def look() -> None:
            looks.append(1)
            raise ZeroDivisionError("a bug")

        monkeypatch.setattr(forwarder, "_check_leader", look)
        while len(looks) < 3:
            await trio.sleep(0.05)
        assert codes(await forwarder.execute_many(puts("a"))) == ["ok"]
