"""The faults of a seed: which kinds are on, and their parameters.

Most kinds are on with probability one half. Faults of disks and members are rarer, and drawn from a source of their own; of
the kinds that exclude each other (`INSTEAD`) one is on at most. In one of three seeds only the older kinds are drawn.
"""

from random import Random
from typing import Final, Literal

from msgspec import Struct, structs

from bargetrio.raft.progress import Pipeline
from bargetrio.raft.snapshot_state import SnapshotPolicy

HEARTBEAT_S: Final = 0.05
ELECTION_S: Final = (0.3, 0.6)
"""The shortest and the longest election timeout."""
ROOM_BYTES: Final = 100_000
"""Bytes free on the disk below which a leader refuses writes."""
ROOM_AGAIN_BYTES: Final = 150_000
"""Bytes free from which it takes writes again."""
ROOM_POLL_S: Final = 1.0
"""Seconds between two checks of the free space."""
SAVE_AGAIN_S: Final = 1.0
"""Seconds until the next snapshot after a full disk ended one."""
REQUEST_TIMEOUTS_S: Final = (0.4, 1.0, 4.0)
"""Request time-outs, one of which is drawn; the shortest is shorter than most elections."""
LONG_TIMEOUT_S: Final = 60.0
"""The request time-out where disks are late or links narrow: none ends."""

Kind = str
Begun = Literal["", "monday", "tuesday", "earlier"]
"""An empty folder, a restored backup (Tuesday's is the newer one), or a folder of the version before."""

KINDS: Final[dict[Kind, str]] = {
    "loss": "messages are lost, 0 to 30 %",
    "duplication": "messages arrive twice, 0 to 50 %",
    "reordering": "messages overtake each other",
    "delays": "up to a fifth of the messages are late, some by seconds",
    "slow_links": "a link is slow for a while, by up to 1.5 s",
    "one_way_cuts": "a link is cut in one direction",
    "bridge": "two halves see each other only through one node",
    "ring": "each node sees only its two neighbours",
    "partitions": "the nodes are split into groups",
    "stranded_leader": "a leader is cut off just when many writes come",
    "crashes": "power failures: what was not synced is lost, torn or reordered",
    "kills": "processes end, their disks remember",
    "pauses": "processes stand still for up to 2 s",
    "clocks": "clocks run up to 10 % too fast or too slow",
    "slow_disks": "writes take up to 200 ms",
    "fsync_errors": "a disk call fails",
    "full_disks": "no space is left for a while",
    "restart_all": "all nodes crash at once",
    "lost_for_good": "one node, at most a minority, never comes back",
    "slow_saves": "saving a slice of a snapshot takes up to 2 s, on some nodes",
    "slow_pieces": "storing or loading a piece of a snapshot takes up to 2 s, on some nodes",
    "damaged_pieces": "up to a tenth of the pieces of snapshots arrive with a wrong byte",
    "lost_disks": "a disk is lost and replaced by an empty one, one after another; the operator has its node readmitted",
    "standing_candidate": "a candidate that a lost disk had voted for stands still while that disk is replaced (five nodes)",
    "late_start": "nodes start for the first time late, by up to 15 s; the operator waits for them, or does not",
    "other_nodes": "a node is started with another list of nodes for a while",
    "lying_disks": "a power failure takes up to 4 writes of the log, though they were synced",
    "old_folders": "a node's folder is set back to an older copy of it",
    "altered_logs": "an entry of a node's log is another one than everywhere else, while the node is down",
    "other_backups": "the nodes begin with different backups, or some with none, until the operator restores them alike",
    "restored": "all nodes begin with the same backup",
    "earlier_version": "all nodes begin with the folders of a version that knew no sets of stores",
}

LINK_KINDS: Final[dict[Kind, str]] = {
    "narrow_links": "each link has a bandwidth, 0.1 to 100 Mbit/s, and a bounded send buffer; in two of five such seeds they are "
    "narrow again after the healing, and then no leader may change and a snapshot must cross in time",
    "large_values": "one of ten values has 10 to 100 kB",
    "small_batches": "batches, windows and slices are so small that ordinary traffic fills them",
    "short_files": "the end of a snapshot's file can't be read, and the disk reports no error",
    "backups": "snapshots are asked for at any moment, as a backup does",
}
"""Drawn after everything else, so that what a seed draws of the older kinds is what it was."""
DISK_KINDS: Final[dict[Kind, str]] = {
    "late_syncs": "syncs take up to 1.8 s, three longest election timeouts, on one node, some or all, also after the healing",
    "hanging_syncs": "a sync hangs for up to 8 s, on one node or on all, or until the node is started again",
    "filling_disks": "a disk is nearly full for a while: what is being written still fits, and no more is to be proposed",
    "starvation": "a leader's process gets hardly any time: it stands still for 60 to 200 ms again and again, cut off or not",
}
"""Drawn after those."""
LEADER_KINDS: Final[dict[Kind, str]] = {
    "transfers": "the operator has a leader transfer its leadership to any other node",
}
"""Drawn last of all."""
LATER_KINDS: Final = {**LINK_KINDS, **DISK_KINDS, **LEADER_KINDS}
KINDS.update(LATER_KINDS)
RARE: Final[dict[Kind, float]] = {
    "lost_disks": 0.5,
    "standing_candidate": 0.3,
    "late_start": 0.3,
    "other_nodes": 0.2,
    "lying_disks": 0.12,
    "old_folders": 0.08,
    "altered_logs": 0.08,
    "other_backups": 0.03,
    "restored": 0.05,
    "earlier_version": 0.05,
}
"""How often the kinds are on that are not on in every other seed."""
OLDER_ALONE: Final = 1 / 3
"""The share of the seeds in which only the older kinds may be on: none in LATER_KINDS, none in RARE.

Where all are drawn, they add up: a seed answers fewer than half as many operations, and a fault that shows in plain traffic only
is met less often.
"""
LOSE_SYNCED_DATA: Final = frozenset({"lying_disks", "old_folders", "altered_logs"})
"""Kinds in which a disk loses what it had synced."""
NEEDS_THREE: Final = ("lost_disks", "lying_disks", "old_folders", "altered_logs", "other_backups")
INSTEAD: Final[tuple[tuple[Kind, ...], ...]] = (
    ("lying_disks", "old_folders", "altered_logs", "lost_disks"),
    ("lying_disks", "old_folders", "altered_logs", "standing_candidate"),
    ("other_backups", "restored", "earlier_version", "late_start"),
    ("earlier_version", "old_folders"),
)
"""Of each of these groups the first that is drawn is on. Where a disk lies, no other is lost: that would be two."""


STACK_KINDS: Final = (
    *("loss", "delay", "one_way_cuts", "partitions", "broken_connections", "crashes", "kills", "disks", "restart_all", "pauses"),
    *("narrow_links", "lost_disks", "lying_disks"),
    *("late_syncs", "hanging_syncs", "filling_disks", "late_start"),
    *("small_batches", "old_folders", "altered_logs", "other_nodes", "other_backups", "restored"),
)
"""The kinds of ring 2; a connection keeps its order, so nothing is repeated or overtaken inside one."""
STACK_RARE: Final = {
    "late_start": RARE["late_start"],
    "small_batches": 0.65,
    "lying_disks": 0.3,
    "old_folders": 0.3,
    "altered_logs": 0.25,
    "lost_disks": 0.6,
    "other_nodes": 0.2,
    "other_backups": 0.1,
    "restored": 0.12,
}
"""How often they are on that are not on in every other seed of ring 2."""


class Plan(Struct, frozen=True, kw_only=True):
    """The faults of one seed; all moments are seconds of simulated time."""

    nodes: int
    drawn: tuple[Kind, ...]
    """The kinds that the seed draws by itself; `kinds` are those of them that are allowed."""
    kinds: tuple[Kind, ...]
    loss: float
    duplication: float
    late: float
    disk_s: tuple[tuple[float, float], ...]
    """How long a write and its sync take, for each node."""
    late_disks: frozenset[int]
    """The nodes whose disks stay that slow after the healing."""
    clock_rates: tuple[float, ...]
    snapshot_policies: tuple[SnapshotPolicy, ...]
    """One for each node: in three of five seeds most take one every 2 to 50 entries, else hardly any does."""
    request_timeout_s: float
    chunk_bytes: int
    save_s: tuple[tuple[float, float], ...]
    """How long saving a slice takes, for each node: where one is slow, another is quick and leaves it behind."""
    piece_s: tuple[tuple[float, float], ...]
    """How long storing or loading a piece takes, for each node."""
    damage: float
    pipeline: Pipeline
    """The window of unanswered appends."""
    unsent_bytes: int
    """What may wait for a narrow link; beyond it batches and pieces are dropped."""
    queued_bytes: int
    """How much of that is in the network's own queues, where its sender does not see it."""
    bytes_s: tuple[float, ...]
    """The bandwidth of each link from one node to another, in the order of source and target; empty where links are wide."""
    large_values: bool
    narrow_end: "NarrowEnd | None"
    """What happens after the healing."""
    quiet: tuple[tuple[float, float], ...]
    """Periods without requests: an error then is not hidden by the next write."""
    first_starts: tuple[float, ...]
    """When each node starts for the first time: 0, or late."""
    bootstraps_at: float | None
    """When the operator has the cluster born without those that are late; None: it waits for all."""
    begun_with: tuple[Begun, ...]
    """What each node's folder begins with."""
    kernel_synced: frozenset[int] = frozenset()
    """The nodes that write a small batch at once and have it synced later, as the product does where the kernel syncs."""
    heal_at: float = 20.0
    clients_until: float = 24.0
    end_at: float = 30.0


class NarrowEnd(Struct, frozen=True, kw_only=True):
    """The stage after the healing in which all links are narrow and there are no other faults (simulator/narrow.py)."""

    bytes_s: float
    """The bandwidth of every link."""
    value_bytes: int
    """Each of the values that are written one after another; one takes longer to cross than an election timeout."""
    chunk_bytes: int
    """A piece of a snapshot."""
    far_s: float = 0.0
    """How long a byte is on its way, beside the time that it waits."""


def draw(random: Random, rare: Random, nodes: int, allowed: frozenset[Kind] | None = None) -> Plan:
    """Draw the faults of a seed from `random`, and from `rare` those in RARE, and whether only the older kinds are on.

    Those that are not `allowed` are off, and change nothing of the others' draw.
    """
    older = [kind for kind in KINDS if kind not in LATER_KINDS and kind not in RARE and random.random() < 0.5]
    loss, duplication, late_messages = random.uniform(0, 0.3), random.uniform(0, 0.5), random.uniform(0, 0.2)
    rates = tuple(random.uniform(0.9, 1.1) for _ in range(nodes))
    slow = random.uniform(0.005, 0.2)
    often, damage = random.random() < 0.6, random.uniform(0, 0.1)
    slow_saves = tuple(random.choice((0.02, random.uniform(0.1, 2))) for _ in range(nodes))
    slow_pieces = tuple(random.choice((0.02, random.uniform(0.1, 2))) for _ in range(nodes))
    policies = tuple(_policy(random, often=often and random.random() < 0.8) for _ in range(nodes))
    chunk_bytes = random.choice((100, 500, 3000))
    quiet = tuple(
        (start, start + random.uniform(0.5, 3)) for start in (random.uniform(0, 20) for _ in range(random.randint(0, 4)))
    )
    later = [kind for kind in LINK_KINDS if random.random() < 0.5]
    bytes_s = tuple(_between(random, 12_500, 12_500_000) for _ in range(nodes * (nodes - 1)))
    pipeline, unsent_bytes = draw_pipeline(random), random.choice((5_000, 50_000, 500_000))
    narrow_end = _narrow_end(random) if random.random() < 0.4 else None
    later += [kind for kind in DISK_KINDS if random.random() < 0.5]
    later += _draw_rare(rare, nodes)
    older_alone = rare.random() < OLDER_ALONE
    on = older if older_alone else older + later
    kinds = tuple(kind for kind in on if allowed is None or kind in allowed)
    disk_s = (0.0002, slow if "slow_disks" in kinds else 0.002)
    late_disks = draw_late_disks(random, nodes)
    late = late_disks if "late_syncs" in kinds else {}
    pipeline = structs.replace(pipeline, write_bytes=random.choice((100, 1000, 10_000)))
    request_timeout_s = random.choice(REQUEST_TIMEOUTS_S)
    first_starts, bootstraps_at = draw_first_starts(rare, nodes, is_on="late_start" in kinds)
    if bootstraps_at is not None and int(bootstraps_at * 1000) % 2:  # a node less: two majorities, each without another node
        first_starts = _with_one_late(first_starts)
    plan = Plan(
        nodes=nodes,
        drawn=tuple(on),
        kinds=kinds,
        loss=loss if "loss" in kinds else 0.0,
        duplication=duplication if "duplication" in kinds else 0.0,
        late=late_messages if "delays" in kinds else 0.0,
        disk_s=tuple(late.get(node_id, disk_s) for node_id in range(nodes)),
        late_disks=frozenset(late),
        end_at=80.0 if late else 30.0,
        snapshot_policies=policies,
        quiet=quiet,
        request_timeout_s=LONG_TIMEOUT_S if late else request_timeout_s,
        chunk_bytes=chunk_bytes * (40 if "large_values" in kinds else 1),
        save_s=tuple((0.0002, slow if "slow_saves" in kinds else 0.02) for slow in slow_saves),
        piece_s=tuple((0.0002, slow if "slow_pieces" in kinds else 0.02) for slow in slow_pieces),
        pipeline=pipeline if "small_batches" in kinds and not late else Pipeline(),  # an entry a sync would take minutes
        unsent_bytes=unsent_bytes,
        bytes_s=bytes_s if "narrow_links" in kinds else (),
        large_values="large_values" in kinds,
        damage=damage if "damaged_pieces" in kinds else 0.0,
        clock_rates=rates if "clocks" in kinds else (1.0,) * nodes,
        first_starts=first_starts,
        bootstraps_at=bootstraps_at,
        begun_with=draw_begun_with(rare, nodes, kinds),
        kernel_synced=frozenset(node_id for node_id in range(nodes) if rare.random() < 0.5),
        queued_bytes=rare.choice((0, 0, 50_000, 1_000_000)),
        narrow_end=_far(narrow_end, rare) if "narrow_links" in kinds else None,
    )
    last = [] if older_alone else [kind for kind in LEADER_KINDS if rare.random() < 0.5]
    allowed_last = [kind for kind in last if allowed is None or kind in allowed]
    return structs.replace(plan, drawn=(*plan.drawn, *last), kinds=(*plan.kinds, *allowed_last))


def _draw_rare(random: Random, nodes: int) -> list[Kind]:
    on = [kind for kind, chance in RARE.items() if random.random() < chance]
    if nodes < 3:
        on = [kind for kind in on if kind not in NEEDS_THREE]
    if nodes < 5:
        on = [kind for kind in on if kind != "standing_candidate"]
    return one_of_each_group(on)


def one_of_each_group(on: list[Kind]) -> list[Kind]:
    """Return the kinds without those that another one excludes."""
    for group in INSTEAD:
        chosen = [kind for kind in group if kind in on]
        on = [kind for kind in on if kind not in chosen[1:]]
    return on


def draw_first_starts(random: Random, nodes: int, *, is_on: bool) -> tuple[tuple[float, ...], float | None]:
    """Draw when each node starts for the first time, and when the operator no longer waits for those that are late."""
    moments = [random.uniform(1, 15) for _ in range(nodes)]
    minority, several = (nodes - 1) // 2, random.randint(1, nodes)
    must_not_wait = random.random() < 0.5 and minority > 0
    late = random.sample(range(nodes), min(several, minority) if must_not_wait else several)
    asked_after = random.uniform(0.5, 4)
    if must_not_wait and random.random() < 0.5:  # a node starts just when the operator gives up waiting
        moments[late[0]] = asked_after + random.uniform(-0.006, 0.002)
    if not is_on:
        return (0.0,) * nodes, None
    return tuple(moments[node] if node in late else 0.0 for node in range(nodes)), asked_after if must_not_wait else None


def _with_one_late(first_starts: tuple[float, ...]) -> tuple[float, ...]:
    """Return the same moments with one node that starts late: the first of those that do."""
    late = [node for node, moment in enumerate(first_starts) if moment]
    return tuple(moment if node in late[:1] else 0.0 for node, moment in enumerate(first_starts))


def draw_begun_with(random: Random, nodes: int, kinds: tuple[Kind, ...]) -> tuple[Begun, ...]:
    """Draw what each node's folder begins with."""
    mixed: list[Begun] = [random.choice(("", "monday", "tuesday")) for _ in range(nodes)]
    odd = random.randrange(nodes)
    if len(set(mixed)) == 1:
        mixed[odd] = "monday" if mixed[odd] == "tuesday" else "tuesday"
    if "other_backups" in kinds:
        return tuple(mixed)
    begun: Begun = "tuesday" if "restored" in kinds else "earlier" if "earlier_version" in kinds else ""
    return (begun,) * nodes


def _policy(random: Random, *, often: bool) -> SnapshotPolicy:
    entries, trailing = random.choice((2, 4, 8, 16, 32, 50)), random.choice((0, 0, 0, 1, 5))
    return SnapshotPolicy(entries=entries if often else 400, bytes=20_000 if often else 1 << 30, trailing=trailing)


def _between(random: Random, least: float, most: float) -> float:
    """Return a number whose logarithm is even between those of the two."""
    return float(least * (most / least) ** random.random())


def draw_pipeline(random: Random) -> Pipeline:
    """Draw bounds of the window of unanswered appends that ordinary traffic reaches."""
    return Pipeline(
        batch_entries=random.choice((1, 2, 3, 10)),
        batch_bytes=random.choice((100, 1000, 10_000)),
        window_appends=random.choice((1, 2, 8)),
        window_bytes=random.choice((200, 2000, 20_000)),
        far_behind=random.choice((3, 10, 50)),
        catch_up_entries=random.choice((1, 2, 5)),
    )


def _narrow_end(random: Random) -> NarrowEnd:
    bytes_s = _between(random, 25_000, 400_000)
    value_bytes = int(bytes_s * random.uniform(1.0, 2.0))
    return NarrowEnd(bytes_s=bytes_s, value_bytes=value_bytes, chunk_bytes=int(bytes_s * random.uniform(0.2, 1.5)))


def _far(narrow_end: NarrowEnd | None, rare: Random) -> NarrowEnd | None:
    return None if narrow_end is None else structs.replace(narrow_end, far_s=rare.choice((0.0, 0.15)))


def draw_late_disks(random: Random, nodes: int) -> dict[int, tuple[float, float]]:
    """Draw which disks have syncs that outlast an election timeout, and how long they take at least and at most."""
    longest = random.uniform(0.3, 1.8)
    shortest = random.choice((0.0002, 0.9 * longest))
    count = random.choice((1, random.randint(1, nodes), nodes))
    return dict.fromkeys(sorted(random.sample(range(nodes), count)), (shortest, longest))
