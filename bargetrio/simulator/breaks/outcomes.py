"""Planted bugs about the answers to writes; those that only the whole stack has are in stack/breaks.py."""

from bargetrio.protocol.requests import Delete
from bargetrio.raft.effects import ProposalRefused, ProposalsUnknown
from bargetrio.raft.roles import Leader
from bargetrio.raft.state import State
from bargetrio.replica.requests import Requests
from bargetrio.replica.sessions import Ticket
from bargetrio.simulator.answers import ClientsSession
from bargetrio.simulator.breaks.registry import Patches, breaks


@breaks("a delete that was proposed is not called a refusal, though it may be repeated", "docs/rest.md; BUG-47")
def deletes_called_refused(patches: Patches) -> None:
    old = State._fail_pending

    def close_office(self: State, leader: Leader, leader_id: int | None) -> None:
        for place, ticket in enumerate(leader.tickets):
            if not isinstance(ticket, Ticket) or not isinstance(ticket.session, ClientsSession):
                continue
            if isinstance(ticket.session.asked(ticket.request_id), Delete):
                self.emit(ProposalRefused(ticket, "not_leader", leader_id))
                leader.tickets[place] = None
        old(self, leader, leader_id)

    patches.set(State, "_fail_pending", close_office)


@breaks("each request gets its answer", "docs/architecture.md")
def answers_dropped(patches: Patches) -> None:
    old = Requests.flush

    def flush(self: Requests) -> None:
        for session in self.to_flush:
            del session.answers[3:]
        old(self)

    patches.set(Requests, "flush", flush)


@breaks("a request gets one answer", "docs/architecture.md")
def answers_repeated(patches: Patches) -> None:
    old = Requests.give_up_proposals

    def give_up_proposals(self: Requests, effect: ProposalsUnknown) -> None:
        old(self, effect)
        for ticket in effect.tickets:
            if isinstance(ticket, Ticket):
                ticket.done = False
        old(self, effect)

    patches.set(Requests, "give_up_proposals", give_up_proposals)
