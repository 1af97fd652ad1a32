"""Leadership transfer by command, on real nodes: who leads then, and what is said where it can't be."""

from collections.abc import Collection
from pathlib import Path

import pytest

from bargetrio.cluster import local_nodes
from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.views import Successor
from tests.cluster.harness import Harness


async def test_the_node_that_is_named_leads_and_writes_go_on(tmp_path: Path) -> None:
    """Without a name, the one that has most entries; named while it leads, nothing changes."""
    async with Harness(tmp_path).open() as harness:
        leader = await harness.leader()
        await harness.put("a")
        wanted = (leader + 1) % 3
        found = await harness.cluster.transfer(Successor(to=wanted))
        assert (found.leader, found.address) == (wanted, harness.addresses[wanted])
        assert await harness.cluster.transfer(Successor(to=wanted)) == found
        await harness.put("b")
        other = await harness.cluster.transfer(Successor())
        assert other.leader != wanted and other.term == found.term + 1
        assert await harness.cluster.transfer(Successor(instead_of=wanted)) == other, "it has been done"
        assert await harness.get("b") == "x"


async def test_who_can_not_be_elected_is_refused_with_the_reason(tmp_path: Path) -> None:
    """A node that does not run, and one that is none; nothing changes."""
    async with Harness(tmp_path).open() as harness:
        leader = await harness.leader()
        await harness.put("a")
        away = (leader + 1) % 3
        await harness.cluster.kill(away)
        await harness.until(lambda: harness.local.known_leader() is not None)

        async def why(to: int | None) -> BargeError:
            with pytest.raises(BargeError) as caught:
                await harness.cluster.transfer(Successor(to=to))
            return caught.value

        while (refusal := await why(away)).code == "outcome_unknown":
            pass  # it was heard a moment ago, and is asked to stand for election
        assert (refusal.code, refusal.applied, refusal.detail) == ("bad_request", False, f"node {away} does not answer")
        assert (await why(7)).code == "not_found"
        assert harness.local.leader_hint() == leader
        await harness.put("b")


async def test_a_daemon_that_stops_hands_over_to_another_ones_node_only(tmp_path: Path) -> None:
    """All of these nodes are its own: there is nobody to hand over to, and no time is lost."""
    async with Harness(tmp_path).open() as harness:
        leader = await harness.leader()
        await harness.put("a")
        await harness.local.hand_over()
        assert harness.local.leader_hint() == leader
        slots = harness.local.slots
        others = {node_id: slots.pop(node_id) for node_id in list(slots) if node_id != leader}
        await harness.local.hand_over()
        assert harness.local.slots[leader].belief().leads is False  # type: ignore[union-attr]
        slots.update(others)
        assert local_nodes.HAND_OVER_S < 1.0, "Ctrl-C stops everything within a second or two"


async def test_where_there_is_no_other_node_there_is_nobody_to_transfer_to(tmp_path: Path) -> None:
    """It is said at once, with or without a name."""
    async with Harness(tmp_path, size=1).open() as harness:
        await harness.leader()
        await harness.put("a")
        with pytest.raises(BargeError, match="there is no other node") as caught:
            await harness.cluster.transfer(Successor())
        assert caught.value.code == "bad_request"
        assert (await harness.cluster.transfer(Successor(to=0))).leader == 0


async def test_a_daemon_that_stops_asks_again_where_its_leader_refuses_at_first(tmp_path: Path) -> None:
    """As one that was elected just now, and has committed nothing."""
    async with Harness(tmp_path).open() as harness:
        leader = await harness.leader()
        slots, asked = harness.local.slots, list[object]()
        slot = slots[leader]
        transfer = slot.transfer

        async def refusing(among: Collection[int]) -> str:
            asked.append(among)
            return "try again" if len(asked) == 1 else await transfer(among)

        slot.transfer = refusing  # type: ignore[method-assign]
        others = {node_id: slots.pop(node_id) for node_id in list(slots) if node_id != leader}
        await harness.local.hand_over()
        known = harness.local.known_leader()
        assert known is not None and known.leader != leader
        assert len(asked) > 1
        slots.update(others)
