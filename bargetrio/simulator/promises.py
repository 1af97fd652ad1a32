"""Invariants of sent messages: what they state was durable before, and a node votes once a term, in all lives.

A sent message can't be taken back.
"""

from typing import Final

from bargetrio.raft.core import Core
from bargetrio.raft.messages import (
    AppendReply,
    AppendRequest,
    Demotion,
    Index,
    Introduction,
    LogDiffers,
    Message,
    NodeId,
    PreVoteReply,
    PreVoteRequest,
    SnapshotReply,
    SnapshotRequest,
    StillReceiving,
    Term,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from bargetrio.simulator.membership import Membership
from bargetrio.simulator.memory import Breach, LeaderReplies, Memory, StoreId
from bargetrio.simulator.observer import LookAtMessage
from bargetrio.simulator.server import Server
from bargetrio.simulator.stores import Stores
from bargetrio.simulator.world import World


class Promises:
    """Raises Breach; `memory` is the last state of each node."""

    def __init__(self, memory: dict[NodeId, Memory], stores: Stores, membership: Membership, world: World) -> None:
        self._votes: dict[tuple[Term, NodeId], dict[StoreId, set[NodeId]]] = {}
        """By term and voter: whom each of its stores has voted for. One that forgot a vote may have voted twice."""
        self._memory = memory
        self._stores = stores
        self._membership = membership
        self._world = world
        self.sent: Final[dict[type[Message], LookAtMessage[Server]]] = {
            VoteReply: self._vote_sent,
            PreVoteReply: self._pre_vote_sent,
            PreVoteRequest: self._question_sent,
            VoteRequest: self._candidacy_sent,
            AppendRequest: self._leadership_sent,
            AppendReply: self._reply_sent,
            SnapshotRequest: self._leadership_sent,
            SnapshotReply: self._installation_sent,
            StillReceiving: self.receipt_sent,
            Introduction: lambda server, to, message: None,
            LogDiffers: lambda server, to, message: self._check_disk(server, message.term, None),
            Demotion: lambda server, to, message: self._check_disk(server, message.term, None),
            TimeoutNow: self._transfer_sent,
        }
        """Checks of sent messages, by kind."""

    def has_voted(self, server: Server, voter: NodeId, term: Term) -> bool:
        """Return whether the store that counts as `voter` has voted for this server."""
        stores = self._votes.get((term, voter), {})
        return server.node_id in stores.get(self._stores.counts_as(server, voter), ())

    def note_vote(self, server: Server, term: Term, candidate: NodeId) -> None:
        """One vote a term, for each store; and it is the store of a member."""
        voter, store = server.node_id, server.store_id
        chosen = self._votes.setdefault((term, voter), {}).setdefault(store, set())
        if candidate in chosen:
            return
        self._membership.check_voter(server)
        chosen.add(candidate)
        if len(chosen) > 1 and not self._stores.may_vote_again(store, term):
            others = ", ".join(f"node {other}" for other in sorted(chosen))
            raise Breach("one vote a term", f"node {voter} votes in term {term} for {others}")

    def _check_disk(self, server: Server, term: Term, voted_for: NodeId | None) -> None:
        disk = self._memory[server.node_id].disk
        if disk.term < term or (voted_for is not None and disk.term == term and disk.voted_for != voted_for):
            raise Breach("durable before sent", f"node {server.node_id} speaks in term {term}, its disk knows {disk.term}")

    def _vote_sent(self, server: Server, to: NodeId, message: VoteReply) -> None:
        if message.granted:
            self.note_vote(server, message.term, to)
        self._check_disk(server, message.term, to if message.granted else None)

    def _pre_vote_sent(self, server: Server, to: NodeId, message: PreVoteReply) -> None:
        if not message.granted:
            self._check_disk(server, message.term, None)

    def _question_sent(self, server: Server, to: NodeId, message: PreVoteRequest) -> None:
        self._check_disk(server, message.term - 1, None)

    def _candidacy_sent(self, server: Server, to: NodeId, message: VoteRequest) -> None:
        self.note_vote(server, message.term, server.node_id)
        self._check_disk(server, message.term, server.node_id)

    def _transfer_sent(self, server: Server, to: NodeId, message: TimeoutNow) -> None:
        """A leader asks only a follower that holds all its entries to stand for election (Ongaro 3.10)."""
        self._check_disk(server, message.term, None)
        core = server.core
        assert core is not None
        index, store = core.log.last_index, self._stores.counts_as(server, to)
        replies = self._memory[to].replies.get((server.node_id, message.term, store))
        if replies is None or replies.match_index < index:
            text = f"node {server.node_id} asks node {to}, which never acknowledged entry {index} in term {message.term}"
            raise Breach("a transfer's target has all entries", text)

    def _leadership_sent(self, server: Server, to: NodeId, message: AppendRequest | SnapshotRequest) -> None:
        if self._memory[server.node_id].disk.term < message.term:
            self._check_disk(server, message.term, None)

    def _installation_sent(self, server: Server, to: NodeId, message: SnapshotReply) -> None:
        self.receipt_sent(server, to, message)
        if message.installed:
            self._note_match(server, to, message.term, message.last_index)

    def receipt_sent(self, server: Server, to: NodeId, message: StillReceiving | SnapshotReply) -> None:
        self._check_disk(server, message.term, None)
        replies = self._memory[server.node_id].replies.setdefault((to, message.term, server.store_id), LeaderReplies(0, -1e9))
        replies.received_at = self._world.now

    def _note_match(self, server: Server, to: NodeId, term: Term, index: Index) -> None:
        """Check an acknowledgement by a snapshot; it acknowledges no read round."""
        memory, core = self._memory[server.node_id], server.core
        if core is not None and term == core.current_term and index >= len(memory.disk.digests):
            raise Breach("durable before sent", f"node {server.node_id} says that it has installed {index}, its disk has not")
        replies = memory.replies.setdefault((to, term, server.store_id), LeaderReplies(0, -1e9))
        replies.match_index = max(replies.match_index, index)

    def _reply_sent(self, server: Server, to: NodeId, message: AppendReply) -> None:
        memory, core, term, index = self._memory[server.node_id], server.core, message.term, message.match_index
        if memory.disk.term < term:
            self._check_disk(server, term, None)
        if core is not None and term == core.current_term and index >= len(memory.disk.digests):
            raise Breach("durable before sent", f"node {server.node_id} says {index}, its disk less")
        if memory.altered_from is not None and core is not None and message.success and index >= memory.altered_from:
            self._check_altered(server, core, to, index)
        if self._stores.expected_reports:
            self._stores.reply_sent(server.node_id, to, message)
        replies = memory.replies.get((to, term, server.store_id))
        if replies is None:
            memory.replies[to, term, server.store_id] = LeaderReplies(index, self._world.now)
            return
        replies.at = self._world.now
        if index > replies.match_index:
            replies.match_index = index

    def _check_altered(self, server: Server, core: Core, to: NodeId, index: Index) -> None:
        """A node with another log reports it, and acknowledges none of it; unless it has it from this very leader."""
        altered_from = self._memory[server.node_id].altered_from
        if self._memory[to].altered_from is None and self._stores.is_altered(server.node_id, core):
            text = f"node {server.node_id} acknowledges {index}, and its log differs from {altered_from} on"
            raise self._stores.without_entry("logs that differ are not acknowledged", text, altered_from or 0, core.current_term)
