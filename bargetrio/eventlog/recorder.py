"""The recorder: numbers, timestamps and stores facts in two ring buffers, and counts what they dropped.

Heartbeats have a ring buffer of their own, so that they do not displace older events. A replica's step only stages its facts with
their time; they are recorded after its messages are sent. Of commands short copies are kept (preview.py); everything else is
computed when an event is read.
"""

from collections import Counter, deque
from collections.abc import Callable
from itertools import islice
from operator import is_
from typing import Any, Final, NamedTuple

import msgspec
import trio
from msgspec import Struct

from bargetrio.eventlog.host_facts import HostFact, NodeCrashed, NodeKilled, NodeRecovered, RequestReceived
from bargetrio.eventlog.preview import compact_copy, preview_of
from bargetrio.protocol.events import Beat, Event
from bargetrio.protocol.limits import INT_DIGITS, QUOTED_CHARACTERS
from bargetrio.raft.facts import AppendAccepted, AppendSent, Applied, Fact, RoleChanged

CAPACITY: Final = 20_000
HEARTBEATS: Final = 2_000

TEXT_CHARACTERS: Final = 500
"""Longest text of an event, as its reason: what ended a connection may quote a line of megabytes that came on it."""

KNOWN_DROPPED: Final = 20_000
"""Dropped events are counted exactly for readers no further behind than this; for others the count is an upper bound."""
SCANNED_BEATS: Final = 200

_OWN_FIELDS: Final = ("term", "index", "peer", "first_commands")
_OF_ROLES: Final = frozenset({RoleChanged, NodeKilled, NodeCrashed, NodeRecovered})
_OF_COMMANDS: Final = frozenset({AppendSent, AppendAccepted, Applied, RequestReceived})
_TEXTS: Final = {
    kind: names
    for kind in (*Fact.__args__, *HostFact.__args__)
    if (names := [name for name in ("reason", "repaired", "store", "text") if name in kind.__struct_fields__])
}
"""Which fields of a fact are texts of any length."""
_FREQUENT: Final = frozenset(
    {"request_received", "append_sent", "append_accepted", "commit_advanced", "applied", "request_answered", "read_served"}
)
"""Kinds with thousands of events a second under load; a live page needs only the newest of each."""


class RecordedFact(NamedTuple):
    """A recorded fact that is not yet an Event; `role` is the node's at that time, after the fact's own change."""

    seq: int
    time: float
    node: int | None
    fact: Fact | HostFact
    role: str


class RecordedPage(Struct, frozen=True, kw_only=True):
    """A part of the log, oldest first; `last_seq` is the cursor to continue from.

    `dropped`: events that the ring buffer dropped before they were read, including heartbeats if a continuing reader wants them.
    `skipped`: events left out for a live page, which cannot show thousands a second.
    """

    events: list[RecordedFact]
    last_seq: int
    dropped: int
    heartbeats: int
    skipped: int = 0


class _DroppedNumbers:
    """The sequence numbers of events that a ring buffer dropped: the last ones, and the count of all."""

    def __init__(self) -> None:
        self._count = 0
        self._known: deque[int] = deque(maxlen=KNOWN_DROPPED)

    def add(self, seq: int) -> None:
        """Note the next one."""
        self._count += 1
        self._known.append(seq)

    def after(self, seq: int | None) -> int:
        """Return how many have a number above `seq`; an upper bound if the numbers are no longer kept."""
        known = self._known
        if seq is None or not known:
            return self._count
        if seq < known[0]:
            return len(known) + min(self._count - len(known), known[0] - 1 - seq)
        count = 0
        for dropped in reversed(known):
            if dropped <= seq:
                break
            count += 1
        return count


class Recorder:
    """A daemon's event log; implements `host_facts.Sink`. All calls are made in trio's thread."""

    def __init__(
        self,
        run: str,
        *,
        wall_clock: Callable[[], float],
        capacity: int = CAPACITY,
        heartbeats: int = HEARTBEATS,
        hide_values: bool = False,
    ) -> None:
        self.run = run
        self.last_seq = 0
        self.heartbeats = 0
        """How many heartbeats there were since the beginning."""
        self.counts: Counter[tuple[int | None, str]] = Counter()
        """Events by (node, kind) since the beginning; heartbeats too."""
        self._wall_clock = wall_clock
        self._hide_values = hide_values
        self._events: deque[RecordedFact] = deque(maxlen=capacity)
        self._beats: deque[RecordedFact] = deque(maxlen=heartbeats)
        self._dropped = _DroppedNumbers()
        self._dropped_beats = _DroppedNumbers()
        self._last_event_seq = 0
        self._roles: dict[int | None, str] = {}
        self._changed: trio.Event | None = None
        self._staged: list[tuple[float, int | None, Fact | HostFact]] = []

    def record(self, node_id: int | None, fact: Fact | HostFact) -> None:
        """Number, timestamp and store the fact."""
        self.stage(node_id, fact)
        self.flush()

    def stage(self, node_id: int | None, fact: Fact | HostFact) -> None:
        """Timestamp the fact; `flush` records it."""
        self._staged.append((self._wall_clock(), node_id, fact))

    def flush(self) -> None:
        """Number and store the staged facts."""
        if not self._staged:
            return
        staged, self._staged = self._staged, []
        counts, roles, events, last_event_seq = self.counts, self._roles, self._events, self._last_event_seq
        commands: tuple[Any, ...] = ()
        copies: tuple[Any, ...] = ()
        for time, node_id, fact in staged:
            self.last_seq = seq = self.last_seq + 1
            counts[node_id, fact.kind] += 1
            if (type(fact) is AppendSent or type(fact) is AppendAccepted) and not fact.count:
                self.heartbeats += 1
                if len(self._beats) == self._beats.maxlen:
                    self._dropped_beats.add(self._beats[0].seq)
                self._beats.append(RecordedFact(seq, time, node_id, fact, roles.get(node_id, "")))
                continue
            if type(fact) in _OF_COMMANDS:
                with_commands: Any = fact
                first = with_commands.first_commands
                # A leader's step announces each write three times, with the same command objects.
                if len(first) != len(commands) or not all(map(is_, first, commands)):
                    commands = first
                    copies = tuple([compact_copy(command) for command in commands])
                fact = msgspec.structs.replace(with_commands, first_commands=copies)
            else:
                if type(fact) in _OF_ROLES:
                    self._note_role(node_id, fact)
                if type(fact) in _TEXTS:
                    fact = _with_short_texts(fact)
            if len(events) == events.maxlen:
                self._dropped.add(events[0].seq)
            # RecordedFact(...), in a third of the time.
            events.append(tuple.__new__(RecordedFact, (seq, time, node_id, fact, roles.get(node_id, ""))))
            self._last_event_seq = seq
        if self._changed is not None and self._last_event_seq > last_event_seq:
            self._changed.set()
            self._changed = None

    async def wait(self, after_seq: int) -> None:
        """Return once there is an event after `after_seq` that is not a heartbeat."""
        while self._last_event_seq <= after_seq:
            if self._changed is None:
                self._changed = trio.Event()
            await self._changed.wait()

    def page(
        self,
        after_seq: int | None,
        *,
        nodes: frozenset[int] = frozenset(),
        kinds: frozenset[str] = frozenset(),
        heartbeats: bool = False,
        limit: int,
        thin: bool = False,
    ) -> RecordedPage:
        """Return the first `limit` events after `after_seq`, or the newest without it; an empty filter matches everything.

        An event of no node (a change of faults) matches every filter of nodes. With `thin`, if there are more than `limit`, only
        the newest event of each frequent kind, node and peer is returned, so that a reader never lags: it gets every election and
        fault, and the present end of the log.
        """
        found = self._after(self._events, after_seq, nodes, kinds)
        if heartbeats:
            found = sorted(found + self._after(self._beats, after_seq, nodes, kinds))
        last_seq = self.last_seq
        whole = found
        if thin and after_seq is not None and len(found) > limit:
            found = _thinned(found)
        if len(found) > limit:
            if after_seq is None:
                found = found[-limit:]
            else:
                found = found[:limit]
                last_seq = found[-1].seq
        # Events after the cursor are requested again, and then returned or left out.
        skipped = 0 if found is whole or after_seq is None else sum(kept.seq <= last_seq for kept in whole) - len(found)
        # Drops after the cursor are counted with a later page: kept heartbeats may be older than dropped events, and vice versa.
        dropped = self._dropped.after(after_seq) - self._dropped.after(last_seq)
        if heartbeats and after_seq is not None:
            dropped += self._dropped_beats.after(after_seq) - self._dropped_beats.after(last_seq)
        return RecordedPage(events=found, last_seq=last_seq, dropped=dropped, heartbeats=self.heartbeats, skipped=skipped)

    def beats(self) -> list[Beat]:
        """Return the newest heartbeat that each node has received: the page draws election timers from it."""
        newest: dict[int | None, RecordedFact] = {}
        for kept in islice(reversed(self._beats), SCANNED_BEATS):
            if isinstance(kept.fact, AppendAccepted):
                newest.setdefault(kept.node, kept)
        now = self._wall_clock()
        return [
            Beat(node=node, peer=kept.fact.peer, term=kept.fact.term, age_ms=round((now - kept.time) * 1000, 1))
            for node, kept in sorted(newest.items(), key=lambda item: item[0] or 0)
            if node is not None and isinstance(kept.fact, AppendAccepted)
        ]

    def event(self, kept: RecordedFact) -> Event:
        """Return the fact as an event of the API."""
        fact = kept.fact
        detail = msgspec.structs.asdict(fact)
        term, index, peer = detail.get("term"), detail.get("index"), detail.get("peer")
        entries = detail.get("first_commands")
        for name in _OWN_FIELDS:
            detail.pop(name, None)
        if entries:
            detail["entries"] = [preview_of(entry, hide_values=self._hide_values) for entry in entries]
        if kept.role:
            detail["role"] = kept.role
        return Event(
            id=format_id(self.run, kept.seq),
            time=kept.time,
            node=kept.node,
            peer=peer,
            kind=fact.kind,
            term=term,
            index=index,
            heartbeat=isinstance(fact, (AppendSent, AppendAccepted)) and not fact.count,
            detail=detail,
        )

    def _note_role(self, node_id: int | None, fact: Fact | HostFact) -> None:
        match fact:
            case RoleChanged():
                self._roles[node_id] = fact.new
            case NodeKilled():
                self._roles[node_id] = "killed"
            case NodeCrashed():
                self._roles[node_id] = "crashed"
            case NodeRecovered():
                self._roles[node_id] = "follower"
            case _:
                pass

    @staticmethod
    def _after(
        ring: deque[RecordedFact], after_seq: int | None, nodes: frozenset[int], kinds: frozenset[str]
    ) -> list[RecordedFact]:
        found: list[RecordedFact] = []
        least = -1 if after_seq is None else after_seq
        for kept in reversed(ring):
            if kept.seq <= least:
                break
            if nodes and kept.node is not None and kept.node not in nodes:
                continue
            if kinds and kept.fact.kind not in kinds:
                continue
            found.append(kept)
        found.reverse()
        return found


def _with_short_texts(fact: Fact | HostFact) -> Fact | HostFact:
    texts = {name: getattr(fact, name) for name in _TEXTS[type(fact)]}
    cut = {name: text[:TEXT_CHARACTERS] + "…" for name, text in texts.items() if len(text) > TEXT_CHARACTERS}
    return msgspec.structs.replace(fact, **cut) if cut else fact


def _thinned(found: list[RecordedFact]) -> list[RecordedFact]:
    seen: set[tuple[int | None, str, int | None]] = set()
    kept_back: list[RecordedFact] = []
    for kept in reversed(found):
        kind = kept.fact.kind
        if kind in _FREQUENT:
            mark = (kept.node, kind, getattr(kept.fact, "peer", None))
            if mark in seen:
                continue
            seen.add(mark)
        kept_back.append(kept)
    kept_back.reverse()
    return kept_back


def format_id(run: str, seq: int) -> str:
    """Return an event's id."""
    return f"{run}-{seq}"


def parse_id(text: str) -> tuple[str, int]:
    """Return (run, seq); raise ValueError if `text` is no id."""
    run, dash, seq = text.rpartition("-")
    if not dash or not run or not (seq.isascii() and seq.isdigit()) or len(seq) > INT_DIGITS:
        raise ValueError(f"{text[:QUOTED_CHARACTERS]!r} is not the id of an event")
    return run, int(seq)
