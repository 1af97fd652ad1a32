"""The counters of one node: plain numbers, updated by batch, not by entry, and read on request (docs/metrics.md).

A `NodeFigures` outlives the node: the next life after a kill goes on counting in it, because a counter must not fall. Nothing
here decides anything.
"""

from bisect import bisect_left
from typing import Final

from bargetrio.raft.facts import RoleChanged
from bargetrio.raft.messages import AppendReply, AppendRequest, Index, NodeId, Term

SECONDS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of a histogram's buckets: from 0.1 ms, about what a good disk's sync takes, to twice a request's time-out."""
FAILURES: Final = ("not_leader", "no_leader", "overloaded", "outcome_unknown", "storage_failed")
"""Why a write that was proposed, or should have been, was not seen to be committed; the error's code."""


class Histogram:
    """Counts durations by bucket; the last bucket holds what is longer than every bound."""

    __slots__ = ("bounds", "counts", "total_s")

    def __init__(self, bounds: tuple[float, ...] = SECONDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total_s = 0.0

    def observe(self, seconds: float) -> None:
        """Count one; a bound belongs to the bucket below it."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total_s += seconds


class PeerFigures:
    """This node's traffic with one peer."""

    __slots__ = ("_timed", "link_failures", "lost_messages", "received_bytes", "round_trip", "sent_bytes", "sent_messages")

    def __init__(self) -> None:
        self.sent_messages = 0
        self.sent_bytes = 0
        self.received_bytes = 0
        self.lost_messages = 0
        """Dropped here: no connection, too much unsent, or a fault that was asked for."""
        self.link_failures = 0
        self.round_trip = Histogram()
        self._timed: tuple[Index, float] | None = None

    def append_sent(self, request: AppendRequest, now: float) -> None:
        """Begin to time an append, unless one is being timed."""
        if self._timed is None:
            self._timed = request.prev_log_index + len(request.entries), now

    def append_answered(self, reply: AppendReply, now: float) -> None:
        """End it at the first success that covers it; a refusal says nothing about its time."""
        if self._timed is None:
            return
        index, sent_at = self._timed
        if not reply.success:
            self._timed = None
        elif reply.match_index >= index:
            self._timed = None
            self.round_trip.observe(now - sent_at)

    def link_changed(self) -> None:
        """What was being timed may be lost."""
        self._timed = None


class NodeFigures:
    """All counters of one node since its daemon began. One task, or one thread, writes each."""

    def __init__(self) -> None:
        self.elections = 0
        self.leader_changes = 0
        self.proposals_committed = 0
        self.proposals_failed = dict.fromkeys(FAILURES, 0)
        self.commit = Histogram()
        """From proposal to application at the leader: of the oldest write of each batch that was applied."""
        self.fsync = Histogram()
        """Each batch's write and sync; counted by the loop or the disk's thread, whichever syncs it: one at a time."""
        self.peers: dict[NodeId, PeerFigures] = {}
        self.snapshots_taken = 0
        self.snapshot_seconds = 0.0
        self.snapshot_bytes = 0
        self.snapshots_sent = 0
        self.snapshot_bytes_sent = 0
        self.snapshots_installed = 0
        self._led_term: Term = 0

    def peer(self, node_id: NodeId) -> PeerFigures:
        """Return the figures of one peer."""
        return self.peers.setdefault(node_id, PeerFigures())

    def see_role(self, fact: RoleChanged) -> None:
        """Count an election that this node has begun."""
        if fact.new == "candidate":
            self.elections += 1

    def see_leader(self, leader: NodeId | None, term: Term) -> None:
        """Count a leader that was not seen in its term before: the same node in a new term is a change, too."""
        if leader is not None and term > self._led_term:
            self._led_term = term
            self.leader_changes += 1
