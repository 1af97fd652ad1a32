"""Checks that the whole stack keeps nothing for requests that have ended, once all is quiet."""

from bargetrio.cluster.node_link import NodeLink
from bargetrio.node.server import Node
from bargetrio.simulator.accounts import left_in, left_in_replica
from bargetrio.simulator.memory import Breach
from bargetrio.simulator.stack.stack import Stack
from bargetrio.storage.snapshots import RECEIVING

RULE = "nothing is left when all is quiet"


def check_quiet(stack: Stack, links: list[NodeLink]) -> None:
    """Check every node and every link to one, some heartbeats after the last answer of a healed cluster; raise Breach."""
    for node_id, node in stack.living.items():
        replica = node.replica
        left = [*left_in(replica.core, list(stack.addresses)), *left_in_replica(replica)]
        left += _left_in_sessions(node)
        if node.connections.of_peers != len(stack.addresses) - 1:
            left.append(f"{node.connections.of_peers} connections of peers, where there are {len(stack.addresses)} nodes")
        if replica.core.snapshots.receiving is None and stack.disks[node_id].exists(RECEIVING):
            left.append("a half-received file")
        if left:
            raise Breach(RULE, f"node {node_id} has {'; '.join(left)}")
    forwarder = stack.cluster.forwarder
    if forwarder._in_flight:
        raise Breach(RULE, f"the forwarder waits for {len(forwarder._in_flight)} answers")
    for link in [*forwarder._links.values(), *links]:
        if link.waiting or link._departed:
            raise Breach(RULE, f"a link waits for {link.waiting} answers, {link._departed} writes have left")
    if stack.scheduler._saver is not None or stack.scheduler._waiting or stack.scheduler._prioritized is not None:
        raise Breach(RULE, "a node saves its state, or is queued for it")
    if stack.recorder._staged:
        raise Breach(RULE, f"{len(stack.recorder._staged)} facts are not kept")


def _left_in_sessions(node: Node) -> list[str]:
    """Of each client's connection: requests that were answered are not in flight, and no answer waits to be sent."""
    left = []
    for session in node.connections.places._idle_since:
        if session._in_flight or session.answers or session._deferred:
            left.append(
                f"a client with {session._in_flight} requests in flight, {len(session.answers)} answers to be sent and"
                f" {len(session._deferred)} reads deferred"
            )
    return left
