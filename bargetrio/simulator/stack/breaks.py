"""Planted bugs about outcomes of writes, in code that only the whole stack has: ring 2 finds them."""

from bargetrio.cluster import forward
from bargetrio.node.server import Node
from bargetrio.protocol.errors import BargeError
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
    old = Node._tell_why

    def tell_why(self: Node, problem: StorageFailed) -> None:
        self.replica.fail_waiting(BargeError("no_leader", "the disk of this node failed"))
        old(self, problem)

    patches.set(Node, "_tell_why", tell_why)
