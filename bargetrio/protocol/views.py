"""Answers about the cluster and its nodes: returned by REST, exchanged between daemons, and returned by the client library."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from bargetrio.protocol.limits import MOST_DELAY_MS

DiskError = Literal["EIO", "ENOSPC"]
NodeState = Literal["starting", "running", "killed", "crashed", "unreachable"]


class PeerView(Struct, frozen=True, kw_only=True):
    """A node's link to a peer, and a leader's view of a follower; on other nodes only `id`, `connected` and `refused` are set."""

    id: int
    connected: bool
    refused: str = ""
    """Why the last handshake with the peer was refused, by either; "" if it was not."""
    match_index: int | None = None
    next_index: int | None = None
    progress: Literal["probe", "replicate", "snapshot"] | None = None


class NodeView(Struct, frozen=True, kw_only=True):
    """What is known of a node; of one that does not run, only `id`, `address`, `api` and `state`."""

    id: int
    address: str
    api: str
    state: NodeState
    reason: str = ""
    """Why it takes no part: it crashed, can't be reached, abstains, or has no leader and handshakes with peers are refused."""
    role: str | None = None
    term: int | None = None
    voted_for: int | None = None
    leader: int | None = None
    may_vote: bool | None = None
    """False while it abstains from elections (`reason` says why)."""
    commit_index: int | None = None
    last_applied: int | None = None
    last_log_index: int | None = None
    last_log_term: int | None = None
    log_start: int | None = None
    """The index before the log's first entry: up to it, a snapshot holds what there was."""
    snapshot_index: int | None = None
    peers: list[PeerView] = []


class NodesAnswer(Struct, frozen=True, kw_only=True):
    """Every node of the cluster."""

    nodes: list[NodeView]


class LeaderView(Struct, frozen=True, kw_only=True):
    """Who leads, by the highest term that has a quorum."""

    leader: int
    term: int
    address: str


class Successor(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which node is to lead; None: the one that has most of the leader's entries.

    `instead_of`: the node that must lead now, for a request that may arrive twice; where another one does, nothing is done.
    """

    to: int | None = None
    instead_of: int | None = None


class LinkFault(Struct, frozen=True, kw_only=True, rename={"source": "from", "target": "to"}, forbid_unknown_fields=True):
    """What happens to messages from one node to another."""

    source: int
    target: int
    cut: bool = False
    drop: Annotated[float, Meta(ge=0, le=1)] = 0.0
    delay_ms: Annotated[float, Meta(ge=0, le=MOST_DELAY_MS)] = 0.0


class DiskFault(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What happens to a node's writes and syncs; an error stops the node as a real one would."""

    node: int
    delay_ms: Annotated[float, Meta(ge=0, le=MOST_DELAY_MS)] = 0.0
    error: DiskError | None = None


class Faults(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All faults in force. `groups`: nodes in different groups cannot reach each other; a node in none stands alone."""

    groups: list[list[int]] = []
    links: list[LinkFault] = []
    disks: list[DiskFault] = []


class NodeAnswer(Struct, frozen=True, kw_only=True):
    """Whether kill or revive changed anything: asking twice is no error."""

    id: int
    state: NodeState
    changed: bool


class BootstrapAnswer(Struct, frozen=True, kw_only=True):
    """The node at which the cluster was born, and all members, absent ones included."""

    node: int
    members: list[int]
