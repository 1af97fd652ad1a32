"""Checks whether a recorded run of a real cluster obeys Raft's rules (`bargetrio check events.jsonl`).

Every invariant of invariants.py that events alone can show. The first event that breaks one is named. A file may begin in the
middle of a life, and several daemons may have written one each: what was not recorded breaks nothing.
"""

import re
from collections.abc import Iterable

from msgspec import Struct

from bargetrio.eventlog.sentences import sentence
from bargetrio.protocol.events import Event


class Finding(Struct, frozen=True, kw_only=True):
    """A broken rule and the first event that shows it."""

    rule: str
    text: str
    event: Event

    def describe(self) -> str:
        """Return it as text."""
        return f"{self.rule}: {self.text}\n  event {self.event.id}: node {self.event.node} {sentence(self.event)}"


class _Life:
    """The state of one node since its last start."""

    def __init__(self) -> None:
        self.term = 0
        self.commit_index: int | None = None
        self.applied_index: int | None = None
        self.role = ""


class Audit:
    """Checks events, those of one daemon in their order; keeps the first finding."""

    def __init__(self) -> None:
        self.finding: Finding | None = None
        self.events = 0
        self.committed: dict[int, int] = {}
        """The digest of the log at each index that any node committed or applied."""
        self.leaders: dict[int, int] = {}
        self._votes: dict[tuple[int, int], int] = {}
        self._counted: dict[tuple[int, int], int] = {}
        """Votes that elected a leader: those were certainly sent."""
        self._forgotten: dict[tuple[int, int], int] = {}
        """Votes that a node had meant to give, and that its disk did not know afterwards."""
        self._lives: dict[int, _Life] = {}
        self._stores: dict[int, str] = {}
        """Which folder each node has, as far as it is known: another one remembers no votes (BUG-38)."""

    def take_all(self, events: Iterable[Event]) -> Finding | None:
        """Check events until one breaks a rule."""
        for event in events:
            self.take(event)
            if self.finding is not None:
                break
        return self.finding

    def begin_file(self) -> None:
        """Another daemon's events follow: its nodes may have been running before the first."""
        self._lives = {}

    def missed(self, count: int = 0) -> None:
        """Some events were lost: reset the state of each node, but not the committed entries and elections."""
        for place in [place for place in self._votes if place[1] in self._lives and place not in self._counted]:
            del self._votes[place]
        self._lives = {}

    def take(self, event: Event) -> None:
        """Check one event."""
        self.events += 1
        if event.node is None:
            return
        life = self._lives.setdefault(event.node, _Life())
        match event.kind:
            case "node_recovered" | "node_revived" | "node_killed" | "node_crashed" | "disk_failed":
                life = self._lives[event.node] = _Life()
                if event.kind == "node_recovered":
                    self._recovered(event, event.node, life)
            case "role_changed":
                self._role(event, event.node, life)
            case "term_changed":
                self._term(event, life)
            case "vote_granted":
                self._vote(event, event.node, event.peer)
            case "commit_advanced":
                self._commit(event, life)
            case "applied":
                self._applied(event, life)
            case "log_truncated":
                self._truncated(event, life)
            case "snapshot_taken":
                self._snapshot_taken(event, life)
            case "snapshot_installed":
                self._snapshot_installed(event, life)
            case _:
                pass

    def _broken(self, event: Event, rule: str, text: str) -> None:
        if self.finding is None:
            self.finding = Finding(rule=rule, text=text, event=event)

    def _recovered(self, event: Event, node: int, life: _Life) -> None:
        """The recovered state holds: an unsynced vote was never sent, unless it elected a leader."""
        life.term = event.term or 0
        life.commit_index = life.applied_index = int(event.detail.get("snapshot", 0))
        voted_for = event.detail.get("voted_for")
        self._note_store(node, str(event.detail.get("store", "")), is_empty=life.term == 0 and event.index == 0)
        for (term, voter), candidate in list(self._votes.items()):
            if voter == node and (term > life.term or (term == life.term and candidate != voted_for)):
                del self._votes[term, voter]
                self._forgotten[term, voter] = candidate
                self._check_remembered(event, term, voter)
        if isinstance(voted_for, int):
            self._votes[life.term, node] = voted_for

    def _note_store(self, node: int, store: str, *, is_empty: bool) -> None:
        """A node with another disk than before votes anew; so may one of which nothing was recorded that begins empty."""
        before = self._stores.get(node, "")
        if store and (before != store if before else is_empty):
            for place in [place for place in self._votes if place[1] == node]:
                del self._votes[place]
        if store:
            self._stores[node] = store

    def _check_remembered(self, event: Event, term: int, voter: int) -> None:
        """A daemon's file may be read before or after another's, so both orders are checked."""
        candidate = self._counted.get((term, voter))
        if candidate is not None and self._forgotten.get((term, voter)) == candidate:
            text = f"node {voter} helped to elect node {candidate} in term {term} and does not remember it"
            self._broken(event, "a vote is remembered", text)

    def _role(self, event: Event, node: int, life: _Life) -> None:
        life.role = str(event.detail.get("new", ""))
        term = event.term or 0
        self._term(event, life)
        if life.role == "candidate":
            self._vote(event, node, node)
        if life.role == "leader":
            for voter in re.findall(r"node (\d+)", str(event.detail.get("reason", ""))):
                self._counted[term, int(voter)] = node
                self._check_remembered(event, term, int(voter))
            first = self.leaders.setdefault(term, node)
            if first != node:
                self._broken(event, "election safety", f"term {term} is led by node {first} and by node {node}")

    def _term(self, event: Event, life: _Life) -> None:
        term = event.term or 0
        if term < life.term:
            self._broken(event, "terms never fall", f"node {event.node} goes from term {life.term} to {term}")
        life.term = max(life.term, term)

    def _vote(self, event: Event, node: int, candidate: int | None) -> None:
        if candidate is None or event.term is None:
            return
        if self._forgotten.get((event.term, node)) == candidate:
            del self._forgotten[event.term, node]  # given again, after a restart
        earlier = self._votes.setdefault((event.term, node), candidate)
        if earlier != candidate:
            self._broken(
                event, "one vote a term", f"node {node} votes in term {event.term} for node {earlier} and for node {candidate}"
            )

    def _commit(self, event: Event, life: _Life) -> None:
        index = event.index or 0
        if life.commit_index is not None and index < life.commit_index:
            self._broken(event, "commit never falls", f"node {event.node}: {life.commit_index} to {index}")
        life.commit_index = index
        self._digest(event, index)

    def _applied(self, event: Event, life: _Life) -> None:
        first, index = int(event.detail.get("first_index", 0)), event.index or 0
        if life.applied_index is not None and first != life.applied_index + 1:
            self._broken(event, "applied once, in order", f"node {event.node} applies {first} after {life.applied_index}")
        if life.commit_index is not None and index > life.commit_index:
            self._broken(event, "applied when committed", f"node {event.node} applies {index}, committed is {life.commit_index}")
        life.applied_index = index
        self._digest(event, index)

    def _digest(self, event: Event, index: int) -> None:
        digest = event.detail.get("digest")
        if isinstance(digest, int) and self.committed.setdefault(index, digest) != digest:
            self._broken(
                event, "state machine safety", f"node {event.node}'s log up to entry {index} is not what another node committed"
            )

    def _snapshot_taken(self, event: Event, life: _Life) -> None:
        """It covers what was applied, and only entries that it covers are dropped from the log."""
        index, log_start = event.index or 0, int(event.detail.get("log_start", 0))
        if life.applied_index is not None and index > life.applied_index:
            text = f"node {event.node} saves its state up to {index}, applied is {life.applied_index}"
            self._broken(event, "a snapshot holds what was applied", text)
        if log_start > index:
            text = f"node {event.node} forgets its log up to {log_start}, and has saved its state up to {index}"
            self._broken(event, "no gap behind a snapshot", text)
        self._digest(event, index)

    def _snapshot_installed(self, event: Event, life: _Life) -> None:
        """Another node's state replaces this one's, which was older; applying continues after it."""
        index = event.index or 0
        if life.applied_index is not None and index <= life.applied_index:
            text = f"node {event.node} had applied {life.applied_index} and takes a state up to {index} for its own"
            self._broken(event, "snapshots go forward", text)
        life.applied_index = index
        life.commit_index = index if life.commit_index is None else max(life.commit_index, index)
        self._digest(event, index)

    def _truncated(self, event: Event, life: _Life) -> None:
        index = event.index or 0
        if life.role == "leader":
            self._broken(event, "leader append-only", f"node {event.node}, a leader, deletes entries from {index}")
        if life.commit_index is not None and index <= life.commit_index:
            self._broken(event, "committed for ever", f"node {event.node} deletes entry {index}, which it knew to be committed")
