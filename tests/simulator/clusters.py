"""Simulated clusters without faults, which have run for some seconds, for tests of the judges."""

from bargetrio.raft.roles import Leader
from bargetrio.simulator.cluster import SimulatedCluster
from bargetrio.simulator.server import Server


def cluster_after(nodes: int = 3, until: float = 5.0) -> SimulatedCluster:
    """A cluster without faults that has run for a while."""
    cluster = SimulatedCluster(3, nodes, frozenset(), keep=False)
    cluster.world.run(until, 1_000_000)
    return cluster


def leader_of(cluster: SimulatedCluster) -> Server:
    """Return the first server that leads."""
    return next(server for server in cluster.servers if server.core is not None and isinstance(server.core.role, Leader))


def follower_of(cluster: SimulatedCluster) -> Server:
    """Return the first server that runs and does not lead."""
    return next(server for server in cluster.servers if server.core is not None and not isinstance(server.core.role, Leader))
