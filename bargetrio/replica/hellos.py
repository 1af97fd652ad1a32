"""Checks of a peer's store: when it connects, and again when the members' stores change."""

from collections.abc import Callable, Mapping

from bargetrio.raft.core import Core
from bargetrio.raft.messages import NodeId
from bargetrio.raft.standing import Standing, why_refused
from bargetrio.replica.inbox import Inbox


class HelloValidator:
    """Checks peers' standings by `core`, which is only read; `earlier_stores` are those in a folder of an earlier version."""

    def __init__(self, core: Core, inbox: Inbox, earlier_stores: Mapping[NodeId, str]) -> None:
        self._core = core
        self._inbox = inbox
        self._known_stores = earlier_stores

    def validate(self, peer_id: NodeId, theirs: Standing) -> str:
        """Return why a peer's store is refused, "" if it is not; pass its standing to the core in either case."""
        self._inbox.call(lambda core, now: core.hello_received(peer_id, theirs, now))
        return self._why_refused(peer_id, theirs)

    def revalidator(self, peer_id: NodeId, theirs: Standing) -> Callable[[], str]:
        """Return a function that returns why that store is now refused, "" if not; cached until members' stores change."""
        core = self._core
        cached_for: list[object] = [None, None]
        cached = ""

        def refusal() -> str:
            nonlocal cached
            if core.configuration is not cached_for[0] or core.standing is not cached_for[1]:
                cached_for[:] = [core.configuration, core.standing]
                cached = self._why_refused(peer_id, theirs)
            return cached

        return refusal

    def _why_refused(self, peer_id: NodeId, theirs: Standing) -> str:
        core = self._core
        if core.configuration is None:  # a cluster of an earlier version: compare with the stores in its file `peers`
            known = self._known_stores.get(peer_id)
            if known not in (None, theirs.store):
                return f"node {peer_id} has another store than before: its disk was lost or exchanged; see docs/operations.md"
        return why_refused(core.standing, core.configuration, peer_id, theirs, core.members)
