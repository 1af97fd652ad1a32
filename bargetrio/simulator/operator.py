"""The simulated operator, who acts by docs/operations.md alone.

A node whose disk was replaced is readmitted: `readmit` is sent to the leader every second until the node votes. A folder that is
refused is emptied first. A cluster with absent nodes may be born without them (`bootstrap`).
"""

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Final

from bargetrio.raft.birth import INTRODUCTION_TTL_S
from bargetrio.raft.messages import NodeId
from bargetrio.raft.roles import Leader
from bargetrio.raft.standing import StoreId
from bargetrio.simulator.goals import Goals
from bargetrio.simulator.membership import Membership
from bargetrio.simulator.network import SimulatedNetwork
from bargetrio.simulator.plan import Plan
from bargetrio.simulator.server import Server
from bargetrio.simulator.world import World

AGAIN_S: Final = 1.0
"""Seconds until the operator repeats a command."""
CUT_S: Final = 6.0
"""Seconds for which two nodes that both get `bootstrap` do not reach each other."""


class Operator:
    """Readmits the nodes in `needing` until each of them votes."""

    def __init__(
        self,
        plan: Plan,
        world: World,
        servers: Sequence[Server],
        membership: Membership,
        record: Callable[[str], None],
        goals: Goals,
        revive: Callable[[Server], None],
        network: SimulatedNetwork,
    ) -> None:
        self.needing: dict[NodeId, float] = {}
        """The nodes to be readmitted, each with the seconds until the command is repeated."""
        self._plan = plan
        self._world = world
        self._servers = servers
        self._membership = membership
        self._record = record
        self._goals = goals
        self._revive = revive
        self._network = network
        self._bootstrapped: list[Server] = []
        """The two nodes that get `bootstrap` at the same moment, where two do."""
        if plan.bootstraps_at is not None:
            world.at(plan.bootstraps_at, self._bootstrap)
            self._maybe_bootstrap_two(world.random("two bootstraps"), plan.bootstraps_at)
            world.at(plan.bootstraps_at, self._look_for_other_clusters, set())

    # -- what may be lost ------------------------------------------------------------------------------------------------

    def can_spare(self, server: Server) -> bool:
        """Return whether this node's disk may be lost: all others are members that vote, and a majority without it."""
        others = [other for other in self._servers if other is not server and not other.is_lost]
        quorum = len(self._servers) // 2 + 1
        return len(others) >= quorum and all(self._is_in_order(other) for other in others)

    def _are_a_majority_without(self, server: Server) -> bool:
        others = [other for other in self._servers if other is not server and not other.is_lost]
        return sum(self._is_in_order(other) for other in others) > len(self._servers) // 2

    def can_spare_for_good(self, server: Server) -> bool:
        """Return whether the cluster works without this node, and can readmit the nodes that wait for it."""
        others = [other for other in self._servers if other is not server and not other.is_lost]
        in_order = [other for other in others if self._is_in_order(other)]
        return len(in_order) >= len(self._servers) // 2 + 1 or len(in_order) == len(others)

    def _is_in_order(self, server: Server) -> bool:
        """Return whether this node is a member that votes, and no power failure will show that its disk lies."""
        return not server.disk.lies and self._membership.is_in_order(server.node_id)

    # -- taking in -------------------------------------------------------------------------------------------------------

    def take_in(self, server: Server, again_s: float = AGAIN_S) -> None:
        """Have a node with another disk readmitted."""
        is_new = server.node_id not in self.needing
        self.needing[server.node_id] = again_s
        if is_new:
            self._world.after(again_s, self._ask, server)

    def empty(self, server: Server, why: str) -> None:
        """Give the node an empty folder, and have it readmitted."""
        self._record(f"the operator empties the folder of node {server.node_id}: {why}")
        server.lose_disk()
        self._revive(server)
        self.take_in(server)

    def stopped(self, server: Server) -> None:
        """A node has stopped, because its log is not the others': it begins anew, as soon as they can do without it."""
        self._world.after(AGAIN_S, self._empty_stopped, server)

    def _empty_stopped(self, server: Server) -> None:
        if self._membership.is_in_order(server.node_id) or server.is_lost:
            return
        if self._are_a_majority_without(server):
            self.empty(server, "its log differs from the others'")
        else:
            self.stopped(server)

    def _ask(self, server: Server) -> None:
        node_id, core = server.node_id, server.core
        again_s = self.needing[node_id]
        if core is not None and core.may_vote and core.standing.identity and self._is_member(server):
            del self.needing[node_id]
            self._record(f"node {node_id} votes")
            self._goals.hit("taken_in")
            return
        self._world.after(again_s, self._ask, server)
        leader = self._newest_leader()
        if leader is not None:
            leader.call(lambda core, now: self._hear(server, core.readmit(node_id, now)))

    def _is_member(self, server: Server) -> bool:
        """Return whether the newest leader's set of members has this node's store.

        A node with the folder of an earlier store takes itself for a voter, and gets no message to the contrary.
        """
        leader, core = self._newest_leader(), server.core
        if leader is None or leader.core is None or core is None:
            return False
        configuration = leader.core.configuration
        return configuration is None or configuration.stores[server.node_id] == core.standing.store

    def _newest_leader(self) -> Server | None:
        leaders = [other for other in self._servers if other.core is not None and isinstance(other.core.role, Leader)]
        return max(leaders, key=lambda other: other.core.current_term if other.core else 0, default=None)

    def _hear(self, server: Server, answer: str) -> None:
        self._record(f"readmit {server.node_id}: {answer or 'under way'}")
        if "'s configuration names nodes" in answer:
            self._goals.hit("other_list_not_readmitted")
        if "give it an empty one" in answer:
            self._world.after(AGAIN_S, self._empty_if_refused, server)

    def _empty_if_refused(self, server: Server) -> None:
        if not self._membership.is_in_order(server.node_id):
            self.empty(server, "the leader refuses it")

    # -- birth -----------------------------------------------------------------------------------------------------------

    def _maybe_bootstrap_two(self, random: Random, moment: float) -> None:
        """Where enough nodes run, send `bootstrap` to two that don't reach each other, though each reaches a majority."""
        in_time = [server for server in self._servers if server.first_start < moment]
        if len(in_time) > len(self._servers) // 2 + 1:
            self._bootstrapped = random.sample(in_time, 2)
            one, other = (server.node_id for server in self._bootstrapped)
            for source, target in ((one, other), (other, one)):
                self._world.at(moment - INTRODUCTION_TTL_S, self._network.cut, source, target)
                self._world.at(moment + CUT_S, self._network.mend, source, target)

    def _bootstrap(self) -> None:
        """Send `bootstrap` to a running node, or to the two; again after a second, until the cluster is born."""
        if self._membership.identity:
            return
        self._world.after(AGAIN_S, self._bootstrap)
        there = [server for server in self._servers if server.core is not None]
        if there:
            for server in self._bootstrapped or (there[int(self._world.now * 10) % len(there)],):
                server.call(lambda core, now: self._hear_bootstrap(core.bootstrap(now)))

    def _look_for_other_clusters(self, seen: set[NodeId]) -> None:
        """Where two nodes that could not reach each other let the cluster be born, two sets may have been made.

        Only one of them can have a majority. A node with another one is refused, and begins anew with an empty folder; where none
        can have a majority, so that no node has ever voted, all do. `seen` are those that the operator saw refused a while ago.
        """
        self._world.after(2 * AGAIN_S, self._look_for_other_clusters, others := self._in_other_clusters())
        right = self._right_identity()
        if right:
            for server in self._servers:
                if server.node_id in seen & others:
                    self._goals.hit("other_cluster_emptied")
                    self.empty(server, "it belongs to another cluster")
        elif seen and others:
            self._empty_all()

    def _empty_all(self) -> None:
        """No set has a majority: all nodes that hold one get an empty folder, also those that are down (docs/operations.md)."""
        for server in self._servers:
            standing = self._membership.standing_of(server.node_id)
            if standing is not None and standing.identity and not server.is_lost:
                self._goals.hit("other_cluster_emptied")
                self._record(f"the operator empties the folder of node {server.node_id}: nobody has a majority")
                server.lose_disk()
                self._revive(server)

    def _in_other_clusters(self) -> set[NodeId]:
        """Return the nodes of other clusters than the right one; all nodes, if none is and none can become it.

        Folders of nodes that are down are read, too: nothing is emptied before it is known that no set has a majority.
        """
        standings = {server.node_id: self._membership.standing_of(server.node_id) for server in self._servers}
        right = self._right_identity()
        if not right and any(self._can_get_majority(standing.birth) for standing in standings.values() if standing):
            return set()
        return {
            server.node_id
            for server in self._servers
            if server.core is not None and server.core.standing.identity not in ("", right)
        }

    def _right_identity(self) -> str:
        """Return the identity of the cluster that has voted, or that a majority of the folders name; "" if there is none."""
        identities = [standing.identity for server in self._servers if (standing := self._membership.standing_of(server.node_id))]
        many = [identity for identity in identities if identity and identities.count(identity) > len(self._servers) // 2]
        return self._membership.identity or next(iter(many), "")

    def _can_get_majority(self, birth: Mapping[NodeId, StoreId]) -> bool:
        """Return whether a majority of the members have this set, or a store of it that is unborn and may adopt it."""
        able = 0
        for server in self._servers:
            standing = self._membership.standing_of(server.node_id)
            if standing is None or server.is_lost or standing.birth not in ({}, birth):
                continue
            able += birth.get(server.node_id) == standing.store
        return able > len(self._servers) // 2

    def _hear_bootstrap(self, answer: str) -> None:
        self._record(f"bootstrap: {answer or 'under way'}")
        if not answer:
            self._goals.hit("bootstrapped")
            for server in self._servers:
                if server.first_start > self._world.now:
                    self.take_in(server)
