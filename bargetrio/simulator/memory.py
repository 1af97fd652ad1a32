"""State of the invariants: committed entries, each server's log, acknowledgements, and required disk content."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple
from zlib import crc32

from bargetrio.raft.messages import Index, NodeId, SnapshotMeta, Term
from bargetrio.raft.records import Append, HardState, Install, Record, Truncate
from bargetrio.raft.standing import Configuration, Standing

StoreId = str
MOST_LIES = 4
"""Most writes that a lying disk loses."""
Fate = Literal["nothing in flight", "kept", "lost", "vote lost", "synced tail lost", "set back"]
"""What a restart shows of the write that was in flight; the last two: of what was synced, where the disk lies."""


class Breach(Exception):
    """A rule was broken: `rule` is its name, the text says by which server and how."""

    def __init__(self, rule: str, text: str) -> None:
        super().__init__(f"{rule}: {text}")
        self.rule = rule


class Excused(Breach):
    """A rule was broken because a disk lost what it had synced: the seed ends without a verdict."""


class Committed(NamedTuple):
    """An entry reported as committed: its term, the log's digest there, and the term in which it was first committed."""

    term: Term
    digest: int
    in_term: Term


@dataclass(slots=True)
class LeaderReplies:
    """A server's replies to a leader in a term: the highest match, and the time of the last reply to an append."""

    match_index: Index
    at: float
    received_at: float = -1e9
    """When it last reported a stored piece of a snapshot, or the arrival of a long message: neither acknowledges a read round."""


class DiskState(NamedTuple):
    """What a disk is known to hold: hard state and, by index, the log's digests (digests[0] is 0)."""

    term: Term
    voted_for: NodeId | None
    digests: tuple[int, ...] | list[int]


class Memory:
    """The state of one server for the invariants."""

    def __init__(self) -> None:
        self.digests: list[int] = [0]
        """The log as it was after the last step."""
        self.last_index, self.last_digest = 0, 0
        self.term = 0
        self.voted_for: NodeId | None = None
        self.commit_index = 0
        self.applied_index = 0
        self.snapshot_index = 0
        self.start_index: Index | None = None
        self.snapshot: SnapshotMeta | None = None
        self.installing: SnapshotMeta | None = None
        """As they were at the last `_check_snapshot`; `start_index` is None before the first in this life."""
        self.led: tuple[Term, Index, int] | None = None
        """Of a leader: its term, and where its log ended after the last step."""
        self.acknowledged: dict[tuple[NodeId, StoreId], Index] = {}
        """Of each store that it led in this life: how much of what is committed that store had acknowledged to it."""
        self.match: dict[NodeId, Index] = {}
        self.match_store: dict[NodeId, StoreId] = {}
        """Of a leader: what it believes of each peer's log, and of which store that is."""
        self.configuration: Configuration | None = None
        """The configuration at the last check of that."""
        self.leads = False
        """As of the present fact; the core may be ahead."""
        self.quorum_at = 0.0
        self.elected_at = self.weighed_at = 0.0
        """When a leader was elected, and when the peers that it can have heard since were last checked, on the world's clock."""
        self.writes_since = -1.0
        """When the write in flight began, by the server's own clock; -1 if there is none."""
        self.stood_still_s = 0.0
        """For how long the server had stood still by then."""
        self.outrun_write = -1.0
        """The `writes_since` of the write for which, at the last check, a majority of the others were ahead of a hanging disk."""
        self.heard_at = -1e9
        self.replies: dict[tuple[NodeId, Term, StoreId], LeaderReplies] = {}
        """To each leader, by its id, the term, and the store of this node."""
        self.disk = DiskState(0, None, [0])
        self.store: StoreId = ""
        """Which store's the disk is; "" before the first start."""
        self.standing: Standing | None = None
        """What its `meta` says; None before the first start."""
        self.former: dict[StoreId, list[DiskState]] = {}
        """What stores held at the end that are gone, and what this one held that it has lost."""
        self.images: list[tuple[StoreId, DiskState]] = []
        """Of each image that was kept: whose it is, and what it holds."""
        self.recent: deque[DiskState] = deque(maxlen=MOST_LIES + 1)
        """While the disk lies: what it held before each of its last writes."""
        self.altered_from: Index | None = None
        """From this entry on the log is another one than it was written; the node has to stop."""
        self.altered_on_disk: Index | None = None
        """As `altered_from`, also when the log in memory is right again: the disk may still hold the other one."""
        self.differed_in: Term = 0
        """The last term in which it said, of an altered log, that it differs: its leader may have it stop in that term."""
        self.may_hold: list[DiskState] | None = None
        """What is found at the next start, where not all that was synced can be."""
        self.is_set_back = False
        """Whether that is an old copy of the folder."""
        self.disk_if_written: DiskState | None = None
        self.disk_between: list[DiskState] = []
        """Of a write that puts a snapshot in place: where a crash may leave it half-way."""


def disk_after(committed: list[Committed], state: DiskState, records: Sequence[Record]) -> DiskState:
    """Return the state of a disk after `records`; digests as in Log."""
    term, voted_for, digests = state
    digests = list(digests)
    for record in records:
        match record:
            case Append():
                digest = digests[-1]
                for entry in record.entries:
                    digest = crc32(entry.command, (digest + entry.term) & 0xFFFFFFFF)
                    digests.append(digest)
            case HardState():
                term, voted_for = record.term, record.voted_for
            case Truncate():
                del digests[record.from_index :]
            case Install():
                last = record.snapshot.last_index
                if last >= len(committed) or committed[last].digest != record.snapshot.digest:
                    raise Breach("a snapshot is what its label says", f"entry {last} of an installed snapshot is another one")
                digests = [entry.digest for entry in committed[: last + 1]]
    return DiskState(term, voted_for, digests)


def fate_of(memory: Memory, found: DiskState) -> Fate:
    """Return the fate of the write in flight, by the disk's content after a crash."""
    meant = memory.disk_if_written
    if meant is None:
        return "nothing in flight"
    if (meant.term, meant.voted_for, list(meant.digests)) == found:
        return "kept"
    return "vote lost" if meant.voted_for is not None and meant[:2] != memory.disk[:2] else "lost"
