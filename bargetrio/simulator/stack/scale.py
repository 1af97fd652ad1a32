"""The product's bounds, scaled down so that the small writes of a seed of ring 2 reach them, by number and by bytes.

What settings hold is handed in with them; the other bounds are constants of modules, which `scaled` sets and puts back. Not
among them is what must exceed a heartbeat: LONG_BYTES of node/peers.py, or each heartbeat counts as a piece that arrives. A
value of 50 kB takes a send of SEND_BYTES each half millisecond: it must be there within the shortest request timeout.
"""

from random import Random
from typing import Final

from msgspec import structs

from bargetrio.kv import scan, store
from bargetrio.node import clients, kernel_persister
from bargetrio.raft import core, snapshots
from bargetrio.raft.progress import Pipeline
from bargetrio.raft.snapshot_state import SnapshotPolicy
from bargetrio.simulator.plan import draw_pipeline
from bargetrio.simulator.scale import SCALED, Scaled
from bargetrio.transport import outgoing, peer_link
from bargetrio.web import bulk

STACK_SCALED: Final[Scaled] = (
    *(limit for limit in SCALED if limit[1] != "UNCOMMITTED_ENTRIES"),
    (core, "UNCOMMITTED_ENTRIES", (3, 6, core.UNCOMMITTED_ENTRIES)),
    (core, "APPLY_BYTES", (50, 500, core.APPLY_BYTES)),
    (snapshots, "COMPACTION_BYTES", (50, 500, snapshots.COMPACTION_BYTES)),
    (store, "PAGE_BYTES", (8, 30, store.PAGE_BYTES)),
    (scan, "SLICE_BYTES", (5, 40, scan.SLICE_BYTES)),
    (kernel_persister, "SMALL_BYTES", (60, 200, kernel_persister.SMALL_BYTES)),
    (clients, "MOST_IN_FLIGHT", (0, 2, clients.MOST_IN_FLIGHT)),
    (clients, "MOST_UNSENT_BYTES", (100, 1000, clients.MOST_UNSENT_BYTES)),
    (outgoing, "SEND_BYTES", (1000, 10_000, outgoing.SEND_BYTES)),
    (outgoing, "ROOM_BYTES", (20, 500, outgoing.ROOM_BYTES)),
    (peer_link, "UNSENT_BYTES", (1000, 10_000, peer_link.UNSENT_BYTES)),
    (bulk, "BATCH_LINES", (1, 2, bulk.BATCH_LINES)),
    (bulk, "BATCH_BYTES", (60, bulk.BATCH_BYTES, bulk.BATCH_BYTES)),
    (bulk, "WAITING_BYTES", (100, bulk.WAITING_BYTES, bulk.WAITING_BYTES)),
)


def draw_small_pipeline(random: Random) -> Pipeline:
    """Draw the window of unanswered appends, small enough that ordinary traffic fills it."""
    return structs.replace(
        draw_pipeline(random),
        batch_entries=random.choice((1, 3, 10, 10)),
        batch_bytes=random.choice((60, 150, 1000)),
        window_appends=random.choice((1, 2, 8, 8)),
    )


def with_few_bytes(random: Random, policy: SnapshotPolicy) -> SnapshotPolicy:
    """Return the policy with bounds in bytes that a seed's log reaches."""
    return structs.replace(
        policy,
        bytes=random.choice((500, 3000, policy.bytes)),
        trailing_bytes=random.choice((0, 200, 2000)),
        transfer_bytes=random.choice((200, 2000, policy.transfer_bytes)),
    )
