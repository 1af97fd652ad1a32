"""Invariants of candidates and leaders: when a node may become one, and a leader's view of its followers."""

from typing import Final

from bargetrio.raft.core import Core
from bargetrio.raft.facts import PreVoteRequested, VoteGranted
from bargetrio.raft.messages import Index, NodeId
from bargetrio.raft.roles import Follower, Leader
from bargetrio.simulator.memory import Breach, Memory
from bargetrio.simulator.plan import ELECTION_S, HEARTBEAT_S
from bargetrio.simulator.server import Server
from bargetrio.simulator.stores import Stores
from bargetrio.simulator.world import World

WEIGHED_EVERY_S: Final = 0.5
CUT_OFF_S: Final = 6.0
"""Two election timeouts, the longest pause, and the longest that a message can be late."""
HANGS_S: Final = 3.0
"""A leader steps down after 2 s; time in which its process stood still is not counted, for it may have ended the write."""


class Leadership:
    """Raises Breach; `memory` is the last state of each node."""

    def __init__(self, memory: dict[NodeId, Memory], stores: Stores, quorum: int, world: World) -> None:
        self._memory = memory
        self._stores = stores
        self._quorum = quorum
        self._world = world

    def check_silence(self, server: Server, fact: PreVoteRequested) -> None:
        """A follower in contact with its leader starts no election; after a pause it handles queued messages first."""
        silent = server.local_now - self._memory[server.node_id].heard_at
        if silent < ELECTION_S[0] - 1e-6:
            raise Breach("elections follow silence", f"node {server.node_id} heard its leader {silent * 1000:.0f} ms ago")

    def check_patience(self, server: Server, fact: VoteGranted) -> None:
        """A node that votes restarts its election timer (BUG-09)."""
        core = server.core
        assert core is not None
        if isinstance(core.role, Follower) and core.current_term == fact.term:
            left = core.role.election_deadline - server.local_now
            if left < ELECTION_S[0] - 1e-6:
                raise Breach("a vote gives time", f"node {server.node_id} stands for election itself in {left * 1000:.0f} ms")

    def check_office(self, server: Server, core: Core, leader: Leader, memory: Memory, now: float) -> None:
        """A leader's view of its followers is true, and a majority of them has answered lately (Ongaro 6.2)."""
        longest, match = ELECTION_S[1], memory.match
        if core.configuration is not memory.configuration:  # another store may count now: the former one's index does not
            memory.configuration = core.configuration
            for peer, progress in leader.progress.items():
                self._check_match(server, core, peer, progress.match_index)
        heard = 1
        for peer, progress in leader.progress.items():
            index = progress.match_index
            if index != match[peer]:
                self._check_match(server, core, peer, index)
                match[peer] = index
            if now - progress.heard_at < longest and peer != core.membership.uncounted:
                heard += 1
        if heard >= self._quorum:
            memory.quorum_at = now
        elif now - memory.quorum_at > 2 * HEARTBEAT_S:
            raise Breach("no quorum, no office", f"node {server.node_id} leads and heard no majority for an election timeout")
        if self._world.now >= memory.weighed_at:
            memory.weighed_at = self._world.now + WEIGHED_EVERY_S
            self.check_usefulness(server, core, memory, now)

    def check_usefulness(self, server: Server, core: Core, memory: Memory, now: float) -> None:
        """A leader without contact with a majority, or whose disk hangs while a majority of the others' do not, steps down."""
        since = self._world.now - CUT_OFF_S
        replies = [
            each.replies.get((server.node_id, core.current_term, self._stores.counts_as(server, node_id)))
            for node_id, each in self._memory.items()
        ]
        spoken = [each for each in replies if each is not None and max(each.at, each.received_at) >= since]
        if memory.elected_at < since and len(spoken) + 1 < self._quorum:
            raise Breach("cut off, no office", f"node {server.node_id} leads, and no majority has spoken to it for {CUT_OFF_S} s")
        hangs_s = now - memory.writes_since - (server.stood_still_s - memory.stood_still_s)
        if memory.writes_since >= 0 and hangs_s > HANGS_S and memory.disk_if_written is not None:
            last = len(memory.disk_if_written.digests) - 1
            holders = sum(index >= last and peer != core.membership.uncounted for peer, index in memory.match.items())
            if holders >= self._quorum:
                if memory.outrun_write != memory.writes_since:  # they may have synced it just now: the next heartbeat notices
                    memory.outrun_write = memory.writes_since
                    return
                text = (
                    f"node {server.node_id} leads, its disk hangs for {hangs_s:.1f} s; {holders} others have synced entry {last}"
                )
                raise Breach("a disk that hangs leads nobody", text)

    def _check_match(self, server: Server, core: Core, peer: NodeId, index: Index) -> None:
        """A leader's `match_index` of a follower only rises, and is true, unless the follower has gone on to a later term."""
        memory, store = self._memory[server.node_id], self._stores.counts_as(server, peer)
        if memory.match_store.setdefault(peer, store) != store:
            memory.match_store[peer] = store  # another disk: what was known of the former one does not hold
            memory.match[peer] = 0
        if index < memory.match[peer]:
            raise Breach("match_index only rises", f"node {server.node_id}'s for node {peer}")
        if index == 0:
            return
        disk = self._memory[peer].disk
        is_present = store == self._memory[peer].store and disk.term == core.current_term
        if is_present and not self._stores.holds(peer, store, index, self._stores.digest(core, index)):
            raise Breach("match_index is true", f"node {server.node_id} takes node {peer} to hold its log up to {index}")
        replies = self._memory[peer].replies.get((server.node_id, core.current_term, store))
        if replies is None or replies.match_index < index:
            text = f"node {server.node_id} takes node {peer} to hold {index}, which it never said in term {core.current_term}"
            raise Breach("match_index is true", text)
