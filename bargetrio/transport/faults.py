"""Fault injection for peer links: a table read by every sender, written by cluster/fault_plan.py for `PUT /faults`."""

import random

from bargetrio.raft.messages import NodeId


class LinkFaults:
    """The faults of messages between nodes. They affect peer links only, not clients or REST."""

    def __init__(self, seed: int | None = None) -> None:
        self._random = random.Random(seed)
        self.active = False
        self._groups: dict[NodeId, int] = {}
        self._partitioned = False
        self._links: dict[tuple[NodeId, NodeId], tuple[bool, float, float]] = {}

    def set(self, groups: list[list[NodeId]], links: dict[tuple[NodeId, NodeId], tuple[bool, float, float]]) -> None:
        """Replace the faults. `links[(source, target)]` is (cut, drop probability, delay in seconds)."""
        self._groups = {node_id: number for number, group in enumerate(groups) for node_id in group}
        self._partitioned = bool(groups)
        self._links = dict(links)
        self.active = bool(groups or links)

    def verdict(self, source: NodeId, target: NodeId) -> float | None:
        """Return the delay in seconds of a message sent now, or None if it is lost.

        A node in no group is alone in a group of its own.
        """
        if not self.active or source == target:
            return 0.0
        if self._partitioned:
            ours, theirs = self._groups.get(source), self._groups.get(target)
            if ours is None or theirs is None or ours != theirs:
                return None
        cut, drop, delay_s = self._links.get((source, target), (False, 0.0, 0.0))
        if cut or (drop and self._random.random() < drop):
            return None
        return delay_s
