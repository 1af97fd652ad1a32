"""State of a node's own membership and of its peers' stores; the rules are in membership.py and the files that it lists."""

from bargetrio.raft.messages import Index, NodeId
from bargetrio.raft.standing import Configuration, Standing, StoreId


class MembershipState:
    """The configurations in the log, the node that is not counted, the writes of `meta`, and the peers' standings."""

    def __init__(self, now: float) -> None:
        self.configurations: list[Configuration] = []
        """That of the birth set or of the snapshot, and those of the log's entries, by index; the last one is in force."""
        self.uncounted: NodeId | None = None
        """The node whose readmission is in the log and not known to be committed."""
        self.known_commit: Index = 0
        """The highest commit index that came with a granted vote."""
        self.settled_index: Index = 0
        """The configurations up to here are committed, though `commit_index` may be lower after a restart."""
        self.is_demoted = False
        """Whether this disk lost what it had acknowledged, and its new store id is not written yet."""
        self.is_writing_standing = False
        self.birth_under_way: Standing | None = None
        """The standing with a birth set that is being written; introductions carry it already."""
        self.introduce_at = now
        self.met: dict[NodeId, tuple[Standing, float]] = {}
        """The standing that each peer has introduced itself with, and when."""
        self.seen: dict[NodeId, tuple[Standing, float]] = {}
        """The standing of each peer's last hello, accepted or refused, and when it came; until a connection of it ends."""
        self.last_hello: dict[NodeId, tuple[Standing, float]] = {}
        """The same, kept when the connection ends; with one node at most that this node's configuration does not name."""
        self.began_at = now
        self.differed: dict[NodeId, tuple[StoreId, float]] = {}
        """Which store of each peer last reported, to this node as its leader, that its log differs from this one's, and when."""
        self.acknowledged: dict[tuple[NodeId, StoreId], Index] = {}
        """How much of what is committed each peer's store acknowledged to this node as a leader in this process.

        A store that was replaced is kept as long as it may count again: its readmission may be deleted.
        """
