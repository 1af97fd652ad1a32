"""Planted bugs that ring 2 finds: about outcomes of writes, in code that only the whole stack has, and about lost tails."""

from typing import Final

from bargetrio.cluster import forward
from bargetrio.node.server import Node
from bargetrio.protocol.errors import BargeError
from bargetrio.raft import demotion
from bargetrio.raft.core import Core
from bargetrio.raft.messages import AppendReply
from bargetrio.raft.progress import Progress
from bargetrio.raft.roles import Leader
from bargetrio.raft.state import State
from bargetrio.replica.replica import StorageFailed
from bargetrio.replica.requests import Requests
from bargetrio.simulator.breaks.registry import Patches, breaks


@breaks("a write that was proposed and timed out is unknown", "docs/rest.md; BUG-47", stack=True)
def timed_out_called_refused(patches: Patches) -> None:
    old = Requests.expire

    def expire(self: Requests, now: float) -> None:
        late = [ticket for ticket in self.waiting if not ticket.done and ticket.deadline <= now]
        for ticket in late:
            self._answer_error(ticket, BargeError("no_leader", "no majority took the write in time"))
        old(self, now)

    patches.set(Requests, "expire", expire)


@breaks("a write that has left and was not answered is unknown", "docs/architecture.md; BUG-47", stack=True)
def sent_called_unsent(patches: Patches) -> None:
    patches.set(forward, "_may_have_effect", lambda batch, request: False)


@breaks("a write whose leader's disk fails is unknown", "docs/rest.md; BUG-51", stack=True)
def failed_disk_called_refused(patches: Patches) -> None:
    old = Node._report_disk_failure

    def report(self: Node, problem: StorageFailed) -> None:
        self.replica.fail_waiting(BargeError("no_leader", "the disk of this node failed"))
        old(self, problem)

    patches.set(Node, "_report_disk_failure", report)


@breaks("a store whose node can't be reached any more is not readmitted", "OWN-186", stack=True, faults=frozenset({"lost_disks"}))
def gone_store_readmitted(patches: Patches) -> None:
    patches.set(Core, "link_down", lambda self, peer: None)


LOSSES: Final = frozenset({"lying_disks", "old_folders", "crashes", "partitions", "pauses"})


@breaks("acknowledged and lost entries are not sent again before the loss is reported", "OWN-175", stack=True, faults=LOSSES)
def lost_tail_sent_again(patches: Patches) -> None:
    def suspect(state: State, leader: Leader, progress: Progress, message: AppendReply) -> bool:
        if message.hint_index < progress.acknowledged_index:
            progress.match_index, progress.acknowledged_before = min(progress.match_index, message.hint_index), 0
        return False

    patches.set(demotion, "suspect", suspect)


@breaks("only what a follower acknowledged is lost, not what was sent to it", "docs/storage_format.md", stack=True, faults=LOSSES)
def sent_called_acknowledged(patches: Patches) -> None:
    old = demotion.suspect

    def suspect(state: State, leader: Leader, progress: Progress, message: AppendReply) -> bool:
        acknowledged = progress.match_index
        progress.match_index = max(acknowledged, min(message.prev_log_index, state.log.last_index))
        try:
            return old(state, leader, progress, message)
        finally:
            progress.match_index = acknowledged

    patches.set(demotion, "suspect", suspect)
