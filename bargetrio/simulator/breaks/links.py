"""Planted bugs about links that have a bandwidth, and about files that end too early: each is how Barge once was."""

from bargetrio.raft import replication, snapshots
from bargetrio.raft.core import Core
from bargetrio.raft.effects import Send
from bargetrio.raft.messages import NodeId, StillReceiving
from bargetrio.raft.progress import Progress
from bargetrio.raft.roles import Leader
from bargetrio.raft.snapshot_state import SnapshotLabel
from bargetrio.raft.state import State
from bargetrio.simulator.breaks.registry import Patches, breaks


@breaks("bytes of a long message are a sign of life", "5.2; OWN-38")
def long_message_is_silence(patches: Patches) -> None:
    patches.set(replication, "on_bytes", lambda core, peer, now: None)


@breaks("a follower reports to its leader that a long message is arriving", "6.2; OWN-38")
def arrival_not_reported_to_leader(patches: Patches) -> None:
    old = State.send

    def send(self: State, to: NodeId, message: Send, durable_to: int = 0) -> None:
        if not isinstance(message, StillReceiving):
            old(self, to, message, durable_to)  # type: ignore[arg-type]

    patches.set(State, "send", send)


@breaks("a piece is not sent again behind itself", "7; OWN-37")
def piece_sent_again_behind_itself(patches: Patches) -> None:
    def wait_for_reply(core: Core, leader: Leader, peer: NodeId, progress: Progress) -> None:
        transfer = progress.transfer
        assert transfer is not None
        transfer.patience += 1  # here a count of heartbeats, which nothing that arrives puts back
        if transfer.patience * core.heartbeat_s >= core.election_min_s:
            transfer.is_due, transfer.patience = True, 0

    patches.set(snapshots, "wait_for_reply", wait_for_reply)


@breaks("a piece is not sent again while what followed it may be in a queue of the network", "7; OWN-216")
def piece_sent_again_behind_a_queue(patches: Patches) -> None:
    old = snapshots.wait_for_reply

    def wait_for_reply(core: Core, leader: Leader, peer: NodeId, progress: Progress) -> None:
        known = progress.acknowledged_round
        if progress.transfer is not None and progress.transfer.probe_round:
            progress.acknowledged_round = max(known, progress.transfer.probe_round)
        old(core, leader, peer, progress)
        progress.acknowledged_round = known

    patches.set(snapshots, "wait_for_reply", wait_for_reply)


@breaks("a snapshot whose file ends too early is replaced", "7; OWN-39")
def short_file_asked_for_ever(patches: Patches) -> None:
    patches.set(snapshots, "on_piece_missing", lambda core, peer, snapshot: None)


@breaks("a snapshot is not saved in the place of one that is whole", "OWN-39")
def snapshot_saved_over_another(patches: Patches) -> None:
    old = snapshots.begin

    def begin(core: Core) -> SnapshotLabel | None:
        unreadable, core.snapshots.unreadable = core.snapshots.unreadable, core.snapshot
        label = old(core)
        core.snapshots.unreadable = unreadable
        return label

    patches.set(snapshots, "begin", begin)
