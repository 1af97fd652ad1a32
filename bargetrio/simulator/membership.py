"""Invariants of membership: the birth set of a cluster, readmission by committed entries, and which stores count."""

from collections.abc import Mapping, Sequence

from bargetrio.raft.messages import Index, NodeId
from bargetrio.raft.standing import EARLIER, Configuration, Standing, identity_of, listed
from bargetrio.simulator.memory import Breach, Committed, Memory, StoreId
from bargetrio.simulator.server import Server
from bargetrio.simulator.stores import Stores


class Membership:
    """Raises Breach; `memory` is the last state of each node."""

    def __init__(self, memory: dict[NodeId, Memory], stores: Stores, committed: Sequence[Committed]) -> None:
        self.identity = ""
        """The cluster's birth set, as its first voter has it."""
        self.configurations: dict[Index, Configuration] = {}
        """The configurations of committed entries."""
        self._births: dict[str, dict[int, StoreId]] = {}
        """Birth sets, by identity of the cluster."""
        self._lists: dict[StoreId, tuple[NodeId, ...]] = {}
        """The nodes of the configuration with which each store was made: no other members are ever accepted with it."""
        self._memory = memory
        self._stores = stores
        self._committed = committed

    def standing_of(self, node_id: NodeId) -> Standing | None:
        """Return the standing in this node's folder, whether it runs or not; None before its first start."""
        return self._memory[node_id].standing

    def is_in_order(self, node_id: NodeId) -> bool:
        """Return whether this node's disk counts as it; one that lost synced data must hold all that was committed, too.

        One that may have lost some, or whose log was altered, is not in order before its node has started and noticed.
        """
        memory, newest = self._memory[node_id], max(self.configurations, default=0)
        stores = self.configurations[newest].stores if newest else self._births.get(self.identity, {})
        standing = memory.standing
        if standing is None or not standing.identity or standing.identity != self.identity:
            return False
        if stores.get(node_id) != memory.store or memory.may_hold is not None or memory.altered_from is not None:
            return False
        if (node_id, memory.store) not in self._stores.touched:
            return True
        last = len(self._committed) - 1
        return last < len(memory.disk.digests) and memory.disk.digests[last] == self._committed[last].digest

    def check_voter(self, server: Server) -> None:
        """Who votes is of the birth set, or was readmitted by an entry that is committed and that its disk holds."""
        assert server.core is not None
        standing = server.core.standing
        who = f"node {server.node_id} votes, and its store {server.store_id}"
        if not standing.identity and standing.origin == EARLIER:
            return
        if not standing.identity:
            raise Breach("a voter is a member", f"{who} is of no cluster yet")
        if not self.identity:
            self.identity = standing.identity
        if standing.identity != self.identity:
            raise Breach("a voter is a member", f"{who} is of another cluster")
        if standing.birth.get(server.node_id) == server.store_id:
            return
        admitted = self.configurations.get(standing.admitted)
        if admitted is None or admitted.stores.get(server.node_id) != server.store_id:
            raise Breach("a voter is a member", f"{who} was readmitted by no committed entry")
        if not self._stores.holds(server.node_id, server.store_id, admitted.index, self._committed[admitted.index].digest):
            raise Breach("a voter is a member", f"{who} does not hold the entry that took it in, {admitted.index}")

    def committed(self, configuration: Configuration) -> None:
        """A committed entry holds this configuration."""
        self.configurations[configuration.index] = configuration
        node_id = configuration.readmitted
        if node_id is not None:
            self._check_list(node_id, configuration.stores, f"is readmitted by entry {configuration.index}")

    def _check_list(self, node_id: NodeId, stores: Mapping[int, StoreId], what: str) -> None:
        """A node whose configuration names other nodes refuses the members' log, so it never votes."""
        nodes = self._lists.get(stores[node_id], tuple(stores))
        if sorted(nodes) != sorted(stores):
            text = f"node {node_id}, whose configuration names nodes {listed(nodes)}, {what}, with members {listed(stores)}"
            raise Breach("all members have the same list of nodes", text)

    def standing_written(self, server: Server, standing: Standing) -> None:
        """The folder says since when this store is a member, or that it is another store now."""
        memory = self._memory[server.node_id]
        if memory.store and standing.store != memory.store:
            if (server.node_id, memory.store) not in self._stores.touched:
                text = f"node {server.node_id} replaces its store, which has lost nothing"
                raise Breach("nobody is accused in error", text)
            memory.former.setdefault(memory.store, []).append(memory.disk)
            self._stores.ended(server.node_id)
        memory.store, memory.standing = standing.store, standing
        self._lists.setdefault(standing.store, server.node_ids)
        if standing.admitted:
            admitted = self.configurations.get(standing.admitted)
            if admitted is None or admitted.stores.get(server.node_id) != standing.store:
                text = f"node {server.node_id} takes entry {standing.admitted} for one that took it in and is committed"
                raise Breach("a member knows that it is one", text)
            # A disk that lost synced data may have lost that entry: the node sees it when it starts, and takes another store.
            has_lost_it = (
                (server.node_id, standing.store) in self._stores.touched and server.core is not None and not server.core.may_vote
            )
            if standing.admitted >= len(memory.disk.digests) and not has_lost_it:
                text = f"node {server.node_id} was readmitted by entry {standing.admitted}, which its disk does not hold"
                raise Breach("a member knows that it is one", text)
        if standing.birth:
            self._births.setdefault(standing.identity, standing.birth)
            for node_id in standing.birth:
                self._check_list(node_id, standing.birth, f"is in the birth set that node {server.node_id} has")
            if self._births[standing.identity] != standing.birth or identity_of(standing.birth) != standing.identity:
                raise Breach("a member knows that it is one", f"node {server.node_id} has another set under the same identity")
