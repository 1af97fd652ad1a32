"""The status of a running node, from memory."""

from collections.abc import Mapping, Sequence

from msgspec import Struct

from bargetrio.raft.core import Core
from bargetrio.raft.facts import RoleName
from bargetrio.raft.messages import NodeId
from bargetrio.raft.roles import Leader
from bargetrio.raft.standing import listed
from bargetrio.transport.peer_link import PeerLink


class PeerStatus(Struct, frozen=True, kw_only=True):
    """This node's link to a peer; `match_index`, `next_index`, `progress` only at a leader."""

    id: NodeId
    connected: bool
    refused: str
    """Why the last handshake with it was refused, by it or by this node; "" if it was not."""
    match_index: int | None = None
    next_index: int | None = None
    progress: str | None = None


class NodeStatus(Struct, frozen=True, kw_only=True):
    """A running node's state. `has_quorum`: a leader in contact with a majority, or a follower in contact with its leader."""

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
    """Why it abstains; "" if it votes. With the refusal of a peer whose store it does not know, as of another cluster's name."""
    refusals: str
    """Which peers' handshakes are refused, and why the first one is; "" if none is."""
    commit_index: int
    last_applied: int
    lag: int
    """Committed entries that are not applied here, as far as the node knows: its leader's appends have its commit index."""
    is_catching_up: bool
    """Whether it lacks what was committed before it was started, or is being sent a snapshot, however few entries that is."""
    last_log_index: int
    last_log_term: int
    log_start: int
    snapshot_index: int
    keys: int
    peers: list[PeerStatus]

    @property
    def reason(self) -> str:
        """Why it takes no part: why it abstains, or, while it has no leader with a quorum, which peers are refused; else ""."""
        if not self.may_vote:
            return self.abstains
        return f"it has no leader with a quorum: {self.refusals}" if self.refusals and not self.has_quorum else ""


class Belief(Struct, frozen=True, kw_only=True, gc=False):
    """The leader and term as known to a node, whether it is part of a quorum, and whether it leads itself."""

    term: int
    leader: NodeId | None
    has_quorum: bool
    leads: bool


def belief_of(core: Core, now: float) -> Belief:
    """Return the leader and term as known to a node."""
    return Belief(
        term=core.current_term, leader=core.leader_id, has_quorum=core.has_quorum(now), leads=isinstance(core.role, Leader)
    )


def status_of(core: Core, keys: int, links: Mapping[NodeId, PeerLink], now: float) -> NodeStatus:
    """Return a node's state; `keys` is the number of keys in its store."""
    peers = [_peer_status(core, peer, links[peer]) for peer in core.peers]
    unknown = _refusals([peer for peer in peers if peer.id not in core.membership.last_hello])
    return NodeStatus(
        role=core.role.name,
        term=core.current_term,
        voted_for=core.voted_for,
        leader=core.leader_id,
        has_quorum=core.has_quorum(now),
        is_born=core.standing.identity != "",
        may_vote=core.may_vote,
        abstains="" if core.may_vote else "; ".join(filter(None, (core.why_abstains(), unknown))),
        refusals=_refusals(peers),
        commit_index=core.commit_index,
        last_applied=core.last_applied,
        lag=core.lag,
        is_catching_up=core.is_catching_up,
        last_log_index=core.log.last_index,
        last_log_term=core.log.last_term,
        log_start=core.log.start_index,
        snapshot_index=0 if core.snapshot is None else core.snapshot.last_index,
        keys=keys,
        peers=peers,
    )


def proposals_pending(core: Core) -> int:
    """Return how many writes wait at a leader; a None ticket is an entry without a waiting request."""
    role = core.role
    return len(role.tickets) - role.tickets.count(None) if isinstance(role, Leader) else 0


def _refusals(peers: Sequence[PeerStatus]) -> str:
    """Return the first refusal and the other peers whose handshakes are refused: most often for the same reason."""
    refused = [peer for peer in peers if peer.refused]
    if not refused:
        return ""
    first, *others = refused
    also = f"; the handshake with node {listed([peer.id for peer in others])} is refused, too" if others else ""
    return first.refused + also


def _peer_status(core: Core, peer: NodeId, link: PeerLink) -> PeerStatus:
    connected, refused = link.connected, link.refused
    if not isinstance(core.role, Leader):
        return PeerStatus(id=peer, connected=connected, refused=refused)
    progress = core.role.progress[peer]
    return PeerStatus(
        id=peer,
        connected=connected,
        refused=refused,
        match_index=progress.match_index,
        next_index=progress.next_index,
        progress=progress.state,
    )
