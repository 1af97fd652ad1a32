"""Requests for a leader in the same process: passed without a connection, with the same outcomes as over one."""

import errno
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from bargetrio.cluster.forward import GRACE_S, WATCH_S, WRITE_GRACE_S
from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.requests import Delete, DeleteAnswer, Get, GetAnswer, List, ListAnswer, Put, PutAnswer, Request
from bargetrio.protocol.views import Faults
from tests.cluster.harness import Harness
from tests.cluster.scripted import forwarder_of


class Asked:
    """Requests that were begun, and their outcomes."""

    def __init__(self, harness: Harness, *requests: Request) -> None:
        self.outcomes: list[Any] = []
        self.calls = 0
        self._over = trio.Event()
        harness.cluster.begin(requests, self._done)

    def _done(self, outcomes: Sequence[Any]) -> None:
        self.calls += 1
        self.outcomes = list(outcomes)
        self._over.set()

    async def over(self) -> list[Any]:
        """Wait for them; they come once."""
        await self._over.wait()
        await trio.sleep(0.05)
        assert self.calls == 1
        return self.outcomes


@asynccontextmanager
async def cluster(folder: Path, **settings: Any) -> AsyncIterator[tuple[Harness, int]]:
    """Three nodes and their leader."""
    async with Harness(folder, **settings).open() as harness:
        yield harness, await harness.leader()


async def test_all_kinds_are_answered_without_a_connection(tmp_path: Path) -> None:
    """By `begin`, and by `execute_many`."""
    async with cluster(tmp_path) as (harness, leader):
        begun = await Asked(harness, *[Put(id=0, key=key, value=key * 3) for key in "abc"], Delete(id=0, key="b")).over()
        assert [type(outcome) for outcome in begun] == [PutAnswer] * 3 + [DeleteAnswer]
        assert [outcome.index for outcome in begun] == sorted(outcome.index for outcome in begun)
        outcomes = await harness.cluster.execute_many([Get(id=0, key="c"), Get(id=0, key="b"), List(id=0)])
        match outcomes:
            case [GetAnswer(key="c", value="ccc"), GetAnswer(key="b", value=None), ListAnswer(items=items)]:
                assert [item.key for item in items] == ["a", "c"]
            case other:
                raise AssertionError(other)
        assert harness.local.gauges()[leader].client_connections == 0


async def test_one_bad_request_is_refused_and_the_others_executed(tmp_path: Path) -> None:
    """Nothing of it comes into the log: a follower would stop at it."""
    async with cluster(tmp_path) as (harness, _):
        asked = Asked(
            harness, Put(id=0, key="a", value="x"), Put(id=0, key="", value="x"), Put(id=0, key="b", value="x", if_index=-1)
        )
        good, *bad = await asked.over()
        assert isinstance(good, PutAnswer)
        assert [(outcome.code, outcome.applied) for outcome in bad] == [("bad_request", False)] * 2
        assert await harness.get("a") == "x"
        assert all(view.state == "running" for view in harness.local.views())


async def test_a_kill_makes_what_was_begun_unknown_and_reads_go_to_the_next_leader(tmp_path: Path) -> None:
    """The write may be in a log; the node will not tell."""
    async with cluster(tmp_path) as (harness, leader):
        await harness.put("a", "x")
        write, read = Asked(harness, Put(id=0, key="a", value="y")), Asked(harness, Get(id=0, key="a"))
        await harness.cluster.kill(leader)
        assert write.calls == 1, "as when a connection ends, and not when the daemon gives it up"
        (unknown,), (value,) = await write.over(), await read.over()
        assert (unknown.code, unknown.applied) == ("outcome_unknown", None)
        assert value.value in ("x", "y")
        await harness.cluster.revive(leader)
        assert await harness.get("a") == value.value


async def test_a_leader_that_was_cut_off_answers_within_an_election(tmp_path: Path) -> None:
    """It leaves office, and a write of it is unknown then; reads are asked of the next leader."""
    async with cluster(tmp_path, request_timeout_s=15.0) as (harness, leader):
        others = [node_id for node_id in harness.addresses if node_id != leader]
        await harness.cluster.set_faults(Faults(groups=[[leader], others]))
        write, read = Asked(harness, Put(id=0, key="a", value="y")), Asked(harness, Get(id=0, key="a"))
        began = trio.current_time()
        (value,) = await read.over()
        assert value == GetAnswer(id=value.id, key="a", index=0)
        (unknown,) = await write.over()
        assert unknown.code == "outcome_unknown"
        assert trio.current_time() - began < WRITE_GRACE_S + 5.0, "an election's time, and not the request's time-out"
        await harness.cluster.set_faults(Faults())


class Silent:
    """A node that runs and answers nothing."""

    def open_session(self, take: Any, ended: Any) -> "Silent":
        """It is its own session."""
        return self

    def ask(self, requests: Sequence[Request]) -> bool:
        """Take them."""
        return True


async def test_a_node_that_does_not_answer_is_given_up_when_another_leads(autojump_clock: MockClock) -> None:
    """After the grace; before, it may still be the one that leads."""
    leaders = [0]
    node: Any = Silent()
    outcomes: list[tuple[float, Any]] = []
    async with trio.open_nursery() as nursery:
        forwarder = forwarder_of(
            nursery,
            30.0,
            addresses={0: "127.0.0.1:1", 1: "127.0.0.1:1"},
            leader_hint=lambda: leaders[-1],
            running=lambda node_id: node if node_id == 0 else None,
        )
        began = trio.current_time()
        forwarder.begin([Put(id=0, key="a", value="x")], lambda found: outcomes.append((trio.current_time() - began, found[0])))
        await trio.sleep(10.0)
        assert not outcomes
        leaders.append(1)
        await trio.sleep(10.0)
        nursery.cancel_scope.cancel()
    ((seconds, outcome),) = outcomes
    assert 10.0 + WRITE_GRACE_S < seconds < 10.0 + WRITE_GRACE_S + 1.0
    assert (outcome.code, outcome.applied) == ("outcome_unknown", None)
    assert "another node leads" in outcome.detail


async def test_a_node_that_does_not_answer_is_given_up_in_time(autojump_clock: MockClock) -> None:
    """Though it is still said to lead: a node's own time-outs need its steps, which one that is ending does not make."""
    node: Any = Silent()
    outcomes: list[tuple[float, list[str]]] = []
    async with trio.open_nursery() as nursery:
        forwarder = forwarder_of(nursery, 5.0, running=lambda node_id: node)
        began = trio.current_time()

        def done(found: Sequence[Any]) -> None:
            outcomes.append((trio.current_time() - began, [outcome.code for outcome in found]))

        forwarder.begin([Put(id=0, key="a", value="x")], done)
        forwarder.begin([Get(id=0, key="a")], done)
        await trio.sleep(10.0)
        nursery.cancel_scope.cancel()
    assert [codes for _, codes in outcomes] == [["outcome_unknown"], ["no_leader"]]
    assert all(5.0 + GRACE_S <= seconds < 5.0 + GRACE_S + 2 * WATCH_S for seconds, _ in outcomes)


@pytest.mark.parametrize("has_asked", [False, True])
async def test_a_node_that_is_fenced_and_has_not_ended_takes_nothing(tmp_path: Path, *, has_asked: bool) -> None:
    """A disk's error ends a node a moment before its slot says so, and just then its clients ask again."""
    async with Harness(tmp_path, 1, request_timeout_s=0.5).open() as harness:
        leader = await harness.leader()
        if has_asked:
            await harness.put("a")
        node = harness.local.running_node(leader)
        assert node is not None
        node.fence()
        began = trio.current_time()
        asked = [Asked(harness, Put(id=0, key="a", value="x")), Asked(harness, Get(id=0, key="a"))]
        for one in asked:
            (outcome,) = await one.over()
            assert (outcome.code, outcome.applied) == ("no_leader", False)
        assert trio.current_time() - began < 2.0


async def test_without_a_leader_nothing_was_applied(tmp_path: Path) -> None:
    """The request time-out bounds the wait."""
    async with cluster(tmp_path, request_timeout_s=0.5) as (harness, leader):
        for node_id in harness.addresses:
            if node_id != leader:
                await harness.cluster.kill(node_id)
        while harness.local.known_leader() is not None:
            await trio.sleep(0.01)
        (outcome,) = await Asked(harness, Put(id=0, key="a", value="x")).over()
        assert (outcome.code, outcome.applied) == ("no_leader", False)


async def test_what_a_deposed_leader_refuses_is_asked_of_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon may think for a moment that it still leads."""
    async with cluster(tmp_path) as (harness, leader):
        follower = next(node_id for node_id in harness.addresses if node_id != leader)
        hints = [follower, follower]
        monkeypatch.setattr(harness.cluster.forwarder, "_leader_hint", lambda: hints.pop() if hints else leader)
        (outcome,) = await Asked(harness, Put(id=0, key="a", value="x")).over()
        assert isinstance(outcome, PutAnswer)


async def test_a_disk_that_fails_is_an_answer(tmp_path: Path) -> None:
    """Of the node that ends; whether the write is in the log can't be known."""
    async with cluster(tmp_path) as (harness, leader):
        harness.disk_faults.set({}, {leader: errno.EIO})
        (outcome,) = await Asked(harness, Put(id=0, key="a", value="x")).over()
        assert isinstance(outcome, BargeError)
        assert (outcome.code, outcome.applied) == ("storage_failed", None)


async def test_the_next_life_of_a_node_is_asked_anew(tmp_path: Path) -> None:
    """No answer of one life is taken for one of another."""
    async with cluster(tmp_path) as (harness, _):
        for number in range(3):
            leader = await harness.leader()
            (outcome,) = await Asked(harness, Put(id=0, key=str(number), value="x")).over()
            assert isinstance(outcome, PutAnswer)
            await harness.cluster.kill(leader)
            await harness.cluster.revive(leader)
        assert await harness.get("2") == "x"
