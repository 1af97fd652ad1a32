"""What a node knows of the snapshots that it takes and receives; the rules are in snapshots.py and receiving.py."""

from dataclasses import dataclass

from msgspec import Struct

from bargetrio.raft.messages import NodeId, SnapshotMeta, Term


class SnapshotPolicy(Struct, frozen=True, kw_only=True):
    """When a snapshot is taken: the log since the last one has so many entries, or so many bytes of commands.

    In either case it also outweighs the last snapshot, so that saving costs no more than writing did. `trailing` entries before
    it stay in the log, for followers that are a little behind.
    """

    entries: int = 100_000
    bytes: int = 64 * 1024 * 1024
    trailing: int = 10_000
    quiet_s: float = 10.0
    """When nothing was applied for so long, less is enough, if it is more than `trailing`: a restart is quick then."""


@dataclass(slots=True)
class Receiving:
    """A snapshot that a leader sends us; `is_busy` while a piece is being written."""

    snapshot: SnapshotMeta
    leader_id: NodeId
    term: Term
    bytes_stored: int = 0
    is_busy: bool = False
