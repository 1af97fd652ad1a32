"""Checks of a peer's store: when it connects, and again when the members' stores change."""

from collections.abc import Callable, Mapping

from bargetrio.raft.core import Core
from bargetrio.raft.messages import NodeId
from bargetrio.raft.standing import Standing, why_refused
from bargetrio.replica.inbox import Inbox


class HelloJudge:
    """Checks peers' standings by `core`, which is only read; `earlier_stores` are those in a folder of an earlier version."""

    def __init__(self, core: Core, inbox: Inbox, earlier_stores: Mapping[NodeId, str]) -> None:
        self._core = core
        self._inbox = inbox
        self._known_stores = earlier_stores

    def judge(self, peer_id: NodeId, theirs: Standing) -> str:
        """Return why a peer's store is refused, "" if it is not; pass its standing to the core in either case."""
        self._inbox.call(lambda core, now: core.hello_received(peer_id, theirs, now))
        return self._why_refused(peer_id, theirs)

    def refusal_since(self, peer_id: NodeId, theirs: Standing) -> Callable[[], str]:
        """Return a function that returns why that store is now refused, "" if not; cached until members' stores change."""
        core = self._core
        judged: list[object] = [None, None]
        told = ""

        def refusal() -> str:
            nonlocal told
            if core.configuration is not judged[0] or core.standing is not judged[1]:
                judged[:] = [core.configuration, core.standing]
                told = self._why_refused(peer_id, theirs)
            return told

        return refusal

    def _why_refused(self, peer_id: NodeId, theirs: Standing) -> str:
        core = self._core
        if core.configuration is None:  # a cluster of an earlier version: compare with the stores in its file `peers`
            known = self._known_stores.get(peer_id)
            if known not in (None, theirs.store):
                return f"node {peer_id} has another store than before: its disk was lost or exchanged; see docs/operations.md"
        return why_refused(core.standing, core.configuration, peer_id, theirs, core.members)
