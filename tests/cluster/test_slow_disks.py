"""Disks that are slow or hang, under real nodes: leadership and status."""

from pathlib import Path

import pytest
import trio

from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.views import DiskFault, Faults
from tests.cluster.harness import Harness


async def test_a_leader_whose_disk_hangs_gives_way_and_is_seen(tmp_path: Path) -> None:
    """Another node leads within seconds and writes continue; the gauge and /readyz show the disk as long as it hangs."""
    harness = Harness(tmp_path)
    async with harness.open():
        first = await harness.leader()
        await harness.cluster.set_faults(Faults(disks=[DiskFault(node=first, delay_ms=60_000)]))
        with trio.move_on_after(0.1):
            await harness.put("a")
        await harness.until(lambda: harness.local.leader_hint() not in (None, first))
        await harness.put("b")
        await harness.until(lambda: harness.local.gauges()[first].oldest_write_s > 5)
        assert f"the disk of node {first} has not ended a write for" in harness.local.ready()
        page = harness.recorder.page(0, limit=100_000)
        left = [event for kept in page.events if (event := harness.recorder.event(kept)).kind == "role_changed"]
        assert any(event.node == first and "its disk has not ended a write" in event.detail["reason"] for event in left)
        await harness.cluster.set_faults(Faults())
        await harness.until(lambda: harness.local.ready() == "" and harness.local.gauges()[first].oldest_write_s < 1)
        assert await harness.get("a") == "x"


@pytest.mark.long
async def test_where_every_sync_takes_two_and_a_half_seconds_one_leader_stands_and_commits(tmp_path: Path) -> None:
    """Within a minute, after the leader was killed: then ten writes in a row are committed in its term, and nobody else leads.

    `raft/test_slow_disks.py` has the same in virtual time, for a minute more.
    """
    harness = Harness(tmp_path, request_timeout_s=15.0)
    async with harness.open(within_s=150):
        first = await harness.leader()
        await harness.cluster.set_faults(Faults(disks=[DiskFault(node=node_id, delay_ms=2500) for node_id in harness.addresses]))
        await harness.cluster.kill(first)
        with trio.fail_after(60):
            term = await written(harness)
        terms = [term]
        with trio.fail_after(100):
            while terms[-10:] != [terms[-1]] * 10:  # an election may still settle after the first write
                terms.append(await written(harness))
        stands = harness.local.known_leader()
        assert stands is not None and stands.term == terms[-1]
        assert len(set(terms)) <= 2
        assert await harness.get("a") == "x"
        await harness.cluster.set_faults(Faults())


async def written(harness: Harness) -> int:
    """Write until it is acknowledged; return the entry's term."""
    while True:
        try:
            return (await harness.put("a")).term
        except BargeError:
            await trio.sleep(0.1)
