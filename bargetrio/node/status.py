"""What a running node tells of itself, from memory."""

from msgspec import Struct

from bargetrio.raft.facts import RoleName
from bargetrio.raft.messages import NodeId


class PeerStatus(Struct, frozen=True, kw_only=True):
    """This node's link to a peer; `match_index`, `next_index`, `progress` only at a leader."""

    id: NodeId
    connected: bool
    match_index: int | None = None
    next_index: int | None = None
    progress: str | None = None


class NodeStatus(Struct, frozen=True, kw_only=True):
    """A running node at this moment. `has_quorum`: a leader that heard a majority, or a follower of a leader heard just now."""

    role: RoleName
    term: int
    voted_for: NodeId | None
    leader: NodeId | None
    has_quorum: bool
    is_born: bool
    """Whether its folder holds the identity of a cluster: the set of the members' stores is known (raft/standing.py)."""
    may_vote: bool
    """False while it abstains from elections: its cluster is not born, or its disk is not, or not yet, a member's."""
    abstains: str
    """Why it abstains; "" if it votes."""
    commit_index: int
    last_applied: int
    lag: int
    """Committed entries that are not applied here, as far as the node knows; its leader tells it with each append."""
    last_log_index: int
    last_log_term: int
    log_start: int
    snapshot_index: int
    keys: int
    peers: list[PeerStatus]


class Belief(Struct, frozen=True, kw_only=True, gc=False):
    """The leader of its term as a node knows it, whether it is part of a quorum, and whether it leads itself."""

    term: int
    leader: NodeId | None
    has_quorum: bool
    leads: bool
