"""Compares the answer to each write with the outcome of the entry that a server proposed for it.

A history alone does not show every wrong answer: a write that was applied and answered as refused is repeated by its client, and
a delete applied twice, or a put that is overwritten unread, leaves no trace. Here every entry is tied to its request.

| answer | what must hold |
|---|---|
| applied at an index | the committed entry there is the one that the server proposed for this request, with this outcome |
| the condition did not hold | the entry that it proposed for this request is committed, and had this outcome |
| refused | it has proposed no entry for this request, or one that is not and never will be committed |
| unknown | it has proposed an entry for this request |
"""

from collections.abc import Sequence
from typing import Final

from bargetrio.kv.store import ConditionFailed, Outcome, Removed, Written
from bargetrio.protocol.requests import DeleteAnswer, ErrorAnswer, PutAnswer
from bargetrio.raft.messages import Index, NodeId, Term
from bargetrio.simulator.memory import Breach, Committed

RULE: Final = "answers match the log"


class Outcomes:
    """Records proposals, commits and answers of servers, by the requests' ids of one life; raises Breach."""

    def __init__(self, committed: Sequence[Committed], outcomes: Sequence[Outcome]) -> None:
        self._committed = committed
        self._outcomes = outcomes
        """By index: the outcome of each committed command."""
        self._proposed: dict[tuple[NodeId, int], tuple[Index, Term]] = {}
        self._refused: dict[tuple[Index, Term], NodeId] = {}

    def proposed(self, node_id: NodeId, request_id: int, index: Index, term: Term) -> None:
        """Note that a server appended an entry for this request."""
        self._proposed[node_id, request_id] = index, term

    def crashed(self, node_id: NodeId) -> None:
        """Note that a server ended: its open requests get no answer."""
        self._proposed = {place: entry for place, entry in self._proposed.items() if place[0] != node_id}

    def committed(self, index: Index, term: Term) -> None:
        """Note that an entry is committed; raise Breach if its request was refused."""
        node_id = self._refused.get((index, term))
        if node_id is not None:
            raise Breach(
                RULE, f"entry {index} of term {term} is committed; node {node_id} had answered its client that nothing was done"
            )

    def answered(self, node_id: NodeId, answer: PutAnswer | DeleteAnswer | ErrorAnswer) -> None:
        """Check the answer to a write; raise Breach."""
        assert answer.id is not None
        entry = self._proposed.pop((node_id, answer.id), None)
        match answer:
            case PutAnswer():
                self._applied(node_id, entry, answer, Written(answer.key, answer.created is True))
            case DeleteAnswer():
                self._applied(node_id, entry, answer, Removed(answer.key, answer.deleted))
            case ErrorAnswer(error="precondition_failed"):
                self._judged(node_id, entry, answer)
            case ErrorAnswer(applied=False):
                self._refuse(node_id, entry)
            case ErrorAnswer():
                if entry is None:
                    text = f"node {node_id} calls the outcome of a write unknown that it has not proposed"
                    raise Breach(RULE, text)

    def _applied(
        self, node_id: NodeId, entry: tuple[Index, Term] | None, answer: PutAnswer | DeleteAnswer, outcome: Outcome
    ) -> None:
        index, term = answer.index, answer.term
        what = f"node {node_id} answers a write as entry {index} of term {term}"
        if entry != (index, term):
            raise Breach(
                RULE, f"{what}, and has proposed {'nothing' if entry is None else f'entry {entry[0]} of {entry[1]}'} for it"
            )
        if not self._is_committed(index, term):
            raise Breach(RULE, f"{what}, and that is not what was committed")
        if outcome != self._outcomes[index]:
            raise Breach(RULE, f"{what} and came to {outcome}, and it came to {self._outcomes[index]}")

    def _judged(self, node_id: NodeId, entry: tuple[Index, Term] | None, answer: ErrorAnswer) -> None:
        what = f"node {node_id} answers a write that its condition did not hold"
        if entry is None or not self._is_committed(*entry):
            raise Breach(RULE, f"{what}, and no entry of it was applied")
        outcome = self._outcomes[entry[0]]
        if not isinstance(outcome, ConditionFailed) or outcome.detail != answer.detail:
            raise Breach(RULE, f"{what} ({answer.detail}), and entry {entry[0]} came to {outcome}")

    def _refuse(self, node_id: NodeId, entry: tuple[Index, Term] | None) -> None:
        if entry is not None:
            self._refused[entry] = node_id
            if self._is_committed(*entry):
                self.committed(*entry)

    def _is_committed(self, index: Index, term: Term) -> bool:
        return index < len(self._committed) and self._committed[index].term == term
