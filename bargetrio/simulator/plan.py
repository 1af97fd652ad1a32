"""What goes wrong in a seed: each kind of fault is on with probability one half, and how bad it is is drawn too."""

from random import Random
from typing import Final

from msgspec import Struct

from bargetrio.raft.snapshots import SnapshotPolicy

Kind = str

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
}


STACK_KINDS: Final = (
    *("loss", "delay", "one_way_cuts", "partitions", "broken_connections", "crashes", "kills", "disks", "restart_all", "pauses"),
)
"""The kinds of ring 2; a connection keeps its order, so nothing is repeated or overtaken inside one."""


class Plan(Struct, frozen=True, kw_only=True):
    """The faults of one seed; all moments are seconds of simulated time."""

    nodes: int
    drawn: tuple[Kind, ...]
    """The kinds that the seed draws by itself; `kinds` are those of them that are allowed."""
    kinds: tuple[Kind, ...]
    loss: float
    duplication: float
    late: float
    disk_s: tuple[float, float]
    clock_rates: tuple[float, ...]
    snapshot_policies: tuple[SnapshotPolicy, ...]
    """One for each node: in three of five seeds most take one every 5 to 50 entries, else hardly anybody does."""
    chunk_bytes: int
    save_s: tuple[tuple[float, float], ...]
    """How long saving a slice takes, for each node: where one is slow, another is quick and leaves it behind."""
    piece_s: tuple[tuple[float, float], ...]
    """How long storing or loading a piece takes, for each node."""
    damage: float
    quiet: tuple[tuple[float, float], ...]
    """When all clients are silent: what is wrong by then is not put right by the next write."""
    heal_at: float = 20.0
    clients_until: float = 24.0
    end_at: float = 30.0


def draw(random: Random, nodes: int, allowed: frozenset[Kind] | None = None) -> Plan:
    """Draw the faults of a seed from `random`; those that are not `allowed` are off, and change nothing of the others' draw."""
    on = [kind for kind in KINDS if random.random() < 0.5]
    kinds = tuple(kind for kind in on if allowed is None or kind in allowed)
    loss, duplication, late = random.uniform(0, 0.3), random.uniform(0, 0.5), random.uniform(0, 0.2)
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
    return Plan(
        nodes=nodes,
        drawn=tuple(on),
        kinds=kinds,
        loss=loss if "loss" in kinds else 0.0,
        duplication=duplication if "duplication" in kinds else 0.0,
        late=late if "delays" in kinds else 0.0,
        disk_s=(0.0002, slow if "slow_disks" in kinds else 0.002),
        snapshot_policies=policies,
        quiet=quiet,
        chunk_bytes=chunk_bytes,
        save_s=tuple((0.0002, slow if "slow_saves" in kinds else 0.02) for slow in slow_saves),
        piece_s=tuple((0.0002, slow if "slow_pieces" in kinds else 0.02) for slow in slow_pieces),
        damage=damage if "damaged_pieces" in kinds else 0.0,
        clock_rates=rates if "clocks" in kinds else (1.0,) * nodes,
    )


def _policy(random: Random, *, often: bool) -> SnapshotPolicy:
    entries, trailing = random.choice((2, 4, 8, 16, 32, 50)), random.choice((0, 0, 0, 1, 5))
    return SnapshotPolicy(entries=entries if often else 400, bytes=20_000 if often else 1 << 30, trailing=trailing)
