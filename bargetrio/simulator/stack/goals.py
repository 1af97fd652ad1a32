"""Coverage of ring 2: rare situations that the seeds must reach. Those that events show are counted from the events."""

from collections import Counter
from collections.abc import Iterable
from typing import Final

from bargetrio.protocol.events import Event
from bargetrio.simulator.goals import GOALS
from bargetrio.simulator.plan import ELECTION_S

_AS_IN_RING_1: Final = (
    *("elected_late", "leader_stepped_down_disk", "snapshot_installed", "several_segments", "write_refused_no_room"),
    *("disk_lost", "taken_in", "first_start_late", "bootstrapped"),
    *("leader_stepped_down_quorum", "truncation", "list_goes_on", "still_receiving"),
    *("crash_in_a_write", "crash_before_the_sync", "kernel_sync_failed"),
    *("synced_tail_lost", "tail_lost_told", "old_folder_put_back", "store_replaced"),
    *("log_altered", "logs_differ_told", "log_that_differs_stops", "other_nodes_refused"),
    *("other_backup_refused", "restored_alike", "restored_written"),
    *("batch_cut_by_bytes", "window_full_by_bytes", "write_refused_overload"),
)
STACK_GOALS: Final[dict[str, str]] = {
    **{goal: GOALS[goal] for goal in _AS_IN_RING_1},
    "late_sync": "a sync that a thread makes takes longer than the longest election timeout",
    "late_kernel_sync": "a sync that the kernel makes takes longer than the longest election timeout",
    "hanging_sync": "a sync that a thread makes hangs, and goes on",
    "hanging_kernel_sync": "a sync that the kernel makes hangs, and goes on",
    "write_failed": "a write of the log that a thread makes, or its sync, fails",
    "narrow_queue": "bytes wait at their sender, as a narrow connection takes no more",
    "narrow_late": "bytes are longer on their way over a narrow connection than the longest election timeout",
    "large_value": "a value of more than 5 kB is committed",
    "snapshot_in_pieces": "a snapshot is installed that was sent in several pieces",
    "page_cut_by_bytes": "a page of a list ends because of its size",
    "slice_cut_by_bytes": "a slice of a snapshot ends because of its size",
    "apply_cut_by_bytes": "a step applies less than is committed, because of its size",
    "large_batch_by_thread": "a write is too large for the loop: a thread makes it, where others are synced by the kernel",
    "unsent_bound_reached": "a link drops entries and pieces of snapshots, as its unsent bytes have reached their bound",
    "lost_before_readmission": "a node's store is deleted before it is readmitted, and `readmit` does not admit it",
    "backup_read": "a backup is read while there are faults",
    "killed_in_a_hanging_sync": "a node is killed while a sync of its log hangs",
    "nearly_full_disk_told": "a node says that its disk is nearly full",
    "room_again_told": "a node says that there is room on its disk again",
    "full_disk_ended_a_node": "a full disk ends a node",
    "started_with_room": "a node that a full disk ended is started again by its daemon, as there is room",
}
COUNTED: Final = {"loss_excused": GOALS["loss_excused"]}
"""Counted, and bounded from above: such a seed proves less."""


def count_events(events: Iterable[Event], chunk_bytes: int) -> Counter[str]:
    """Return how often events show each rare situation; a piece of a snapshot has `chunk_bytes`."""
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
                    found["leader_stepped_down_quorum"] += "heard no majority" in detail["reason"]
            case "log_truncated":
                found["truncation"] += 1
            case "logs_differ":
                found["logs_differ_told"] += 1
            case "tail_lost":
                found["tail_lost_told"] += 1
            case "member_changed":
                found["store_replaced"] += "it counts as a node with a new disk" in detail["reason"]
            case "snapshot_installed":
                found["snapshot_installed"] += 1
                found["snapshot_in_pieces"] += detail["size"] > chunk_bytes
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
