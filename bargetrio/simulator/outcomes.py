"""Compares the answer to each write with what became of the entry that a server proposed for it.

A history alone does not show every wrong answer: a write that was applied and answered as refused is repeated by its client, and
a delete applied twice, or a put that is overwritten unread, leaves no trace. Here every entry is tied to its request.

| a server tells | what must hold |
|---|---|
| applied at an index | the committed entry there is the one that it proposed for this request, and had this outcome |
| refused | it has proposed no entry for this request, or one that is not and never will be committed |
| unknown | it has proposed an entry for this request |
"""

from collections.abc import Sequence
from typing import Final

from bargetrio.kv.store import Outcome
from bargetrio.raft.messages import Index, NodeId, Term
from bargetrio.simulator.memory import Broken, Committed
from bargetrio.simulator.observer import Ticket

RULE: Final = "what is told is so"


class Outcomes:
    """Takes what servers propose, what is committed, and what they answer; raises Broken."""

    def __init__(self, committed: Sequence[Committed], outcomes: Sequence[Outcome]) -> None:
        self._committed = committed
        self._outcomes = outcomes
        """By index: what the command of each committed entry came to."""
        self._proposed: dict[tuple[NodeId, Ticket], tuple[Index, Term]] = {}
        self._refused: dict[tuple[Index, Term], NodeId] = {}

    def proposed(self, node_id: NodeId, ticket: Ticket, index: Index, term: Term) -> None:
        """Note that a server appended an entry for this request."""
        self._proposed[node_id, ticket] = index, term

    def crashed(self, node_id: NodeId) -> None:
        """Note that a server ended: its open requests get no answer."""
        self._proposed = {place: entry for place, entry in self._proposed.items() if place[0] != node_id}

    def committed(self, index: Index, term: Term) -> None:
        """Note that an entry is committed; raise Broken if its request was refused."""
        node_id = self._refused.get((index, term))
        if node_id is not None:
            raise Broken(
                RULE, f"entry {index} of term {term} is committed; node {node_id} had told its client that nothing was done"
            )

    def applied(self, node_id: NodeId, ticket: Ticket, outcome: Outcome, index: Index, term: Term) -> None:
        """Check the answer to a write that was applied; raise Broken."""
        entry = self._proposed.pop((node_id, ticket), None)
        what = f"node {node_id} tells a write that it is entry {index} of term {term}"
        if entry != (index, term):
            raise Broken(
                RULE, f"{what}, and has proposed {'nothing' if entry is None else f'entry {entry[0]} of {entry[1]}'} for it"
            )
        if index >= len(self._committed) or self._committed[index].term != term:
            raise Broken(RULE, f"{what}, and that is not what was committed")
        if outcome != self._outcomes[index]:
            raise Broken(RULE, f"{what} and came to {outcome}, and it came to {self._outcomes[index]}")

    def refused(self, node_id: NodeId, ticket: Ticket) -> None:
        """A server tells a client that nothing was done."""
        entry = self._proposed.pop((node_id, ticket), None)
        if entry is not None:
            self._refused[entry] = node_id
            index, term = entry
            if index < len(self._committed) and self._committed[index].term == term:
                self.committed(index, term)

    def unknown(self, node_id: NodeId, ticket: Ticket) -> None:
        """A server tells a client that nobody can tell."""
        if self._proposed.pop((node_id, ticket), None) is None:
            raise Broken(RULE, f"node {node_id} calls the outcome of a write unknown that it has not proposed")
