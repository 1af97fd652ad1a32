"""Standings of three nodes before and after their cluster is born."""

from bargetrio.raft.messages import Introduction
from bargetrio.raft.standing import Standing, identity_of

UNBORN = {node_id: Standing(store=f"s{node_id}") for node_id in range(3)}
STORES = {node_id: f"s{node_id}" for node_id in range(3)}
BORN = Standing(store="s0", identity=identity_of(STORES), birth=STORES)


def introduced(node_id: int, standing: Standing | None = None) -> Introduction:
    """An unborn node's introduction."""
    return Introduction(term=0, node_id=node_id, standing=UNBORN[node_id] if standing is None else standing, asks=False)
