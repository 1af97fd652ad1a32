"""Kill is a crash, revive begins anew, faults reach links and disks, and several daemons answer as one."""

from pathlib import Path
from typing import Any

import pytest
import trio

from bargetrio.cluster.daemons import Daemons, Unreachable
from bargetrio.cluster.merge import DaemonPage, merge
from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.events import Beat, Event, EventPage, EventQuery
from bargetrio.protocol.views import DiskFault, Faults, LinkFault
from tests.cluster.harness import Harness, one_daemon


async def test_a_killed_node_refuses_and_resets(tmp_path: Path) -> None:
    """Its port refuses, its connections are reset, and a second kill changes nothing."""
    harness = Harness(tmp_path)
    async with harness.open():
        victim = (await harness.leader() + 1) % 3
        host, port = harness.addresses[victim].split(":")
        stream = await trio.open_tcp_stream(host, int(port))
        await stream.send_all(b'{"hello":"client","protocol":1,"cluster":"barge"}\n')
        assert b'"node"' in await stream.receive_some()
        answer = await harness.cluster.kill(victim)
        assert (answer.changed, answer.state) == (True, "killed")
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()
        with pytest.raises(OSError):
            await trio.open_tcp_stream(host, int(port))
        assert (await harness.cluster.kill(victim)).changed is False
        assert (await harness.cluster.revive(victim)).changed is True
        assert (await harness.cluster.revive(victim)).changed is False
        await trio.open_tcp_stream(host, int(port))


async def test_many_kills_and_revives_at_once_leave_one_life(tmp_path: Path) -> None:
    """In any order: in the end each node runs once and the cluster works."""
    harness = Harness(tmp_path)
    async with harness.open():
        await harness.leader()
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(harness.cluster.kill, 1)
                nursery.start_soon(harness.cluster.revive, 1)
        await harness.cluster.revive(1)
        await harness.put("a")
        assert all(harness.state(node_id)[0] == "running" for node_id in harness.addresses)


async def test_a_kill_answers_while_the_nodes_disk_hangs(tmp_path: Path) -> None:
    """Its last sync may still run; the revived node waits for it before it opens the files."""
    harness = Harness(tmp_path)
    async with harness.open():
        victim = (await harness.leader() + 1) % 3
        await harness.cluster.set_faults(Faults(disks=[DiskFault(node=victim, delay_ms=2000)]))
        await harness.put("a")
        began = trio.current_time()
        await harness.cluster.kill(victim)
        assert trio.current_time() - began < 1
        await harness.cluster.set_faults(Faults())
        await harness.cluster.revive(victim)
        await harness.until(lambda: harness.local.views()[victim].last_applied == 2)


async def test_an_unknown_node_is_an_error_with_the_known_ones(tmp_path: Path) -> None:
    """not_found for kill, bad_request in faults."""
    harness = Harness(tmp_path)
    async with harness.open():
        with pytest.raises(BargeError, match="the nodes are 0, 1, 2") as caught:
            await harness.cluster.kill(7)
        assert caught.value.code == "not_found"
        with pytest.raises(BargeError, match="no node 9"):
            await harness.cluster.set_faults(Faults(links=[LinkFault(source=0, target=9)]))
        with pytest.raises(BargeError, match="two ends"):
            await harness.cluster.set_faults(Faults(links=[LinkFault(source=1, target=1, delay_ms=200)]))
        with pytest.raises(BargeError, match="two groups"):
            await harness.cluster.set_faults(Faults(groups=[[0, 1], [1, 2]]))


async def test_there_is_no_leader_without_a_quorum(tmp_path: Path) -> None:
    """leader() says so, and a write is refused as never proposed once no leader is left."""
    harness = Harness(tmp_path, request_timeout_s=1.0)
    async with harness.open():
        leader = await harness.leader()
        others = [node_id for node_id in harness.addresses if node_id != leader]
        for node_id in others:
            await harness.cluster.kill(node_id)
        await harness.until(lambda: harness.local.known_leader() is None)
        with pytest.raises(BargeError) as caught:
            await harness.cluster.leader()
        assert caught.value.code == "no_leader"
        with pytest.raises(BargeError) as caught:
            await harness.put("a")
        assert (caught.value.code, caught.value.applied) == ("no_leader", False)
        assert harness.local.ready() != ""


async def test_the_highest_term_leads(tmp_path: Path) -> None:
    """While the partitioned leader has not stepped down, the other side's leader is returned."""
    harness = Harness(tmp_path)
    async with harness.open():
        old = await harness.leader()
        others = [node_id for node_id in harness.addresses if node_id != old]
        await harness.cluster.set_faults(Faults(groups=[[old], others]))
        await harness.until(lambda: harness.local.leader_hint() in others)
        assert (await harness.cluster.leader()).leader in others


def event(run: str, seq: int, time: float) -> Event:
    return Event(
        id=f"{run}-{seq}", time=time, node=0, peer=None, kind="node_killed", term=None, index=None, heartbeat=False, detail={}
    )


def part(run: str, next_seq: int, *events: Event) -> DaemonPage:
    return DaemonPage(page=EventPage(events=list(events), next=f"{run}-{next_seq}", dropped=1, heartbeats=2), run=run)


def test_events_of_daemons_are_merged_by_time_with_a_cursor_each() -> None:
    """Who can't be reached keeps its place."""
    parts = [part("a", 9, event("a", 1, 1.0), event("a", 2, 3.0)), part("b", 7, event("b", 1, 2.0))]
    page = merge(parts, EventQuery(after="a-0,b-0,c-5", limit=10), [2])
    assert [found.id for found in page.events] == ["a-1", "b-1", "a-2"]
    assert (page.next, page.dropped, page.heartbeats, page.unreachable) == ("a-9,b-7,c-5", 2, 4, [2])


def test_of_a_merged_live_page_each_daemon_summarizes_its_nodes_heartbeats() -> None:
    """The page draws an election timer for every node."""
    beats = [Beat(node=node, peer=2, term=1, age_ms=7.0 + node) for node in range(2)]
    parts = [
        DaemonPage(page=EventPage(events=[], next=f"{run}-1", dropped=0, heartbeats=4, beats=[beat]), run=run)
        for run, beat in zip("ab", beats, strict=True)
    ]
    page = merge(parts, EventQuery(after="a-0,b-0", limit=10), [])
    assert (page.beats, page.heartbeats) == (beats, 8)


def test_what_a_merged_page_leaves_out_comes_with_the_next() -> None:
    """The cursor of a daemon is after its last returned event."""
    parts = [part("a", 9, event("a", 1, 1.0), event("a", 8, 4.0)), part("b", 7, event("b", 3, 2.0), event("b", 5, 3.0))]
    page = merge(parts, EventQuery(after="a-0,b-2", limit=2), [])
    assert [found.id for found in page.events] == ["a-1", "b-3"]
    assert page.next == "a-1,b-3"
    page = merge([part("a", 9, event("a", 8, 4.0)), part("b", 7, event("b", 5, 3.0))], EventQuery(after=page.next, limit=1), [])
    assert ([found.id for found in page.events], page.next) == (["b-5"], "a-1,b-7")


async def test_a_backup_holds_what_was_acknowledged_before_it_was_asked_for(tmp_path: Path) -> None:
    """Also where there is a snapshot that lacks the last write alone."""
    harness = Harness(tmp_path)
    async with harness.open():
        await harness.leader()
        for number in range(6):
            answer = await harness.put(f"k{number}", "x")
            backup = await harness.cluster.backup()
            backup.close()
            assert backup.index >= answer.index


class Answers(Daemons):
    """Other daemons that answer with what they put in force, or not."""

    def __init__(self, problems: dict[str, Exception]) -> None:
        super().__init__({}, None, cluster="barge")
        self._problems = problems

    async def ask(self, api: str, method: str, path: str, kind: type[Any], body: Any = None, *, timeout_s: float = 1.0) -> Any:
        if api in self._problems:
            raise self._problems[api]
        return body


@pytest.mark.parametrize(
    ("problem", "word"),
    [
        (None, ""),
        (Unreachable("there:2 does not answer"), "reached"),
        (BargeError("forbidden", "another token"), "another token"),
    ],
    ids=["done", "silent", "refused"],
)
async def test_faults_that_are_not_in_force_everywhere_are_an_error(problem: Exception | None, word: str) -> None:
    """For a daemon that does not answer it is unknown; one that refuses them continues without them."""
    apis = {node_id: f"there:{node_id}" for node_id in range(3)}
    cluster = one_daemon(apis=apis, local_ids=[0], daemons=Answers({} if problem is None else {"there:2": problem}))
    faults = Faults(groups=[[0], [1, 2]])
    if problem is None:
        assert await cluster.set_faults(faults) == faults
        return
    with pytest.raises(BargeError, match=word) as caught:
        await cluster.set_faults(faults)
    assert (caught.value.code, caught.value.applied) == ("outcome_unknown", None)
    assert "there:2" in caught.value.detail and "there:1" not in caught.value.detail
    assert await cluster.faults() == faults
