"""Rare situations of ring 2 that a run must have been through; those that events tell are counted from them."""

from collections import Counter
from collections.abc import Iterable
from typing import Final

from bargetrio.protocol.events import Event
from bargetrio.simulator.goals import GOALS
from bargetrio.simulator.plan import ELECTION_S

_AS_IN_RING_1: Final = (
    *("elected_late", "leader_stepped_down_disk", "snapshot_installed", "several_segments", "write_refused_no_room"),
    *("disk_lost", "taken_in", "first_start_late", "bootstrapped"),
)
STACK_GOALS: Final[dict[str, str]] = {
    **{goal: GOALS[goal] for goal in _AS_IN_RING_1},
    "tail_lost": "a power failure takes entries that a disk had said to be synced",
    "late_sync": "a sync that a thread makes takes longer than the longest election timeout",
    "late_kernel_sync": "a sync that the kernel makes takes longer than the longest election timeout",
    "hanging_sync": "a sync hangs, and goes on",
    "killed_in_a_hanging_sync": "a node is killed while a sync of its log hangs",
    "nearly_full_disk_told": "a node says that its disk is nearly full",
    "room_again_told": "a node says that there is room on its disk again",
    "full_disk_ended_a_node": "a full disk ends a node",
    "started_with_room": "a node that a full disk ended is started again by its daemon, as there is room",
}


def count_events(events: Iterable[Event]) -> Counter[str]:
    """Return how often events tell of a rare situation."""
    found: Counter[str] = Counter()
    stood_at: dict[int | None, float] = {}
    full: set[int | None] = set()
    """Nodes that a full disk ended."""
    for event in events:
        node, detail = event.node, event.detail
        match event.kind:
            case "role_changed":
                if detail["new"] == "candidate":
                    stood_at[node] = event.time
                elif detail["new"] == "leader":
                    found["elected_late"] += event.time - stood_at.get(node, event.time) > ELECTION_S[1]
                elif detail["old"] == "leader":
                    found["leader_stepped_down_disk"] += "its disk has not ended a write" in detail["reason"]
            case "snapshot_installed":
                found["snapshot_installed"] += 1
            case "disk_space":
                found["nearly_full_disk_told" if detail["is_low"] else "room_again_told"] += 1
            case "node_crashed" if "no space" in detail["reason"]:
                full.add(node)
                found["full_disk_ended_a_node"] += 1
            case "node_recovered":
                found["started_with_room"] += node in full
                full.discard(node)
            case _:
                pass
    return found
