"""Planted bugs about what a write is told: those of ring 1, and those of the whole stack, which only ring 2 can find."""

from bargetrio.cluster import forward
from bargetrio.node.driver import Driver
from bargetrio.node.persister import StorageFailed
from bargetrio.node.server import Node
from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.requests import Delete
from bargetrio.raft.core import Core
from bargetrio.raft.effects import ProposalRefused
from bargetrio.raft.roles import Leader
from bargetrio.simulator.breaks.registry import Patches, breaks


@breaks("a delete that was proposed is not called a refusal, though it may be repeated", "docs/rest.md; BUG-47")
def deletes_called_refused(patches: Patches) -> None:
    old = Core._close_office

    def close_office(self: Core, leader: Leader, leader_id: int | None) -> None:
        for place, ticket in enumerate(leader.tickets):
            if isinstance(getattr(ticket, "request", None), Delete):
                assert ticket is not None
                self.emit(ProposalRefused(ticket, "not_leader", leader_id))
                leader.tickets[place] = None
        old(self, leader, leader_id)

    patches.set(Core, "_close_office", close_office)


@breaks("a write that was proposed and timed out is unknown", "docs/rest.md; BUG-47", stack=True)
def timed_out_called_refused(patches: Patches) -> None:
    old = Driver._expire

    def expire(self: Driver, now: float) -> None:
        late = [ticket for ticket in self._waiting if not ticket.done and ticket.deadline <= now]
        for ticket in late:
            self._answer_error(ticket, BargeError("no_leader", "no majority took the write in time"))
        old(self, now)

    patches.set(Driver, "_expire", expire)


@breaks("a write that has left and was not answered is unknown", "docs/architecture.md; BUG-47", stack=True)
def sent_called_unsent(patches: Patches) -> None:
    patches.set(forward, "_may_have_effect", lambda parcel, request: False)


@breaks("a write whose leader's disk fails is unknown", "docs/rest.md; BUG-51", stack=True)
def failed_disk_called_refused(patches: Patches) -> None:
    old = Node._tell_why

    def tell_why(self: Node, driver: Driver, problem: Exception) -> None:
        if isinstance(problem, StorageFailed):
            driver.fail_waiting(BargeError("no_leader", "the disk of this node failed"))
        old(self, driver, problem)

    patches.set(Node, "_tell_why", tell_why)
