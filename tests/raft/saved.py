"""Cores with snapshots: taken, being sent, or missing."""

from bargetrio.raft.messages import (
    AppendReply,
    SnapshotMeta,
    SnapshotReply,
    SnapshotRequest,
)
from bargetrio.raft.progress import Progress
from bargetrio.raft.roles import Leader
from bargetrio.raft.snapshot_state import SnapshotPolicy
from tests.raft.cores import Bench, acknowledge, follower, leader, snapshot

NEVER = SnapshotPolicy(entries=1000)


def piece(of: SnapshotMeta, offset: int = 0, *, term: int = 2, leader_id: int = 1, data: bytes = b"x" * 50) -> SnapshotRequest:
    """A leader's next 50 bytes."""
    return SnapshotRequest(term=term, leader_id=leader_id, snapshot=of, offset=offset, data=data)


def answer_heartbeat(bench: Bench, peer: int) -> None:
    """A follower that receives a snapshot answers the newest heartbeat: its log is too short for it."""
    leader = bench.core.role
    assert isinstance(leader, Leader)
    term = bench.core.current_term
    bench.step(AppendReply(term=term, follower_id=peer, success=False, prev_log_index=6, round=leader.round))


def answer(bench: Bench, peer: int, of: SnapshotMeta, stored: int = 0, *, installed: bool = False) -> Bench:
    """A follower's reply with the bytes it has stored."""
    return bench.step(
        SnapshotReply(
            term=bench.core.current_term,
            follower_id=peer,
            last_index=of.last_index,
            bytes_stored=stored,
            installed=installed,
        )
    )


def progress(bench: Bench, peer: int) -> Progress:
    """The leader's progress of a follower."""
    assert isinstance(bench.core.role, Leader)
    return bench.core.role.progress[peer]


def saved(bench: Bench, size: int = 100) -> SnapshotMeta:
    """End the snapshot that is being taken."""
    (effect,) = bench.taking
    bench.taking.clear()
    meta = SnapshotMeta(
        last_index=effect.last_index,
        last_term=effect.last_term,
        digest=effect.digest,
        members=effect.members,
        size=size,
        checksum=1,
    )
    bench.core.snapshot_taken(meta, bench.now)
    bench.perform()
    return meta


def lagging_leader(**options: object) -> Bench:
    """A leader whose log begins after entry 4, and that is sending node 2 its snapshot."""
    bench = leader(log="1 1 1 1 1", saved=4, compacted=4, policy=NEVER, settled=False, **options)
    acknowledge(bench, 1, 6)
    reply = AppendReply(term=bench.core.current_term, follower_id=2, success=False, prev_log_index=5, round=0)
    bench.step(reply)
    bench.take_sent()
    return bench


def receiving(**options: object) -> tuple[Bench, SnapshotMeta]:
    """A follower that has the first half of a snapshot up to entry 6, and the log given."""
    bench = follower(**options)
    of = snapshot("1 1 1 1 2 2")
    bench.step(piece(of)).stored(50).sync()
    bench.take_sent()
    return bench, of
