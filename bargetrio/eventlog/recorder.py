"""The recorder: numbers, stamps and keeps facts, in two rings that say what they dropped.

Heartbeats have a ring of their own, so that an hour of them does not push out last night's election. `record` is on the hot path:
it makes previews at once (preview.py says why) and leaves everything else to whoever reads.
"""

from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec
import trio
from msgspec import Struct

from bargetrio.eventlog.event import DriverFact, Event, NodeCrashed, NodeKilled, NodeRecovered
from bargetrio.eventlog.preview import previews
from bargetrio.raft.facts import AppendAccepted, AppendSent, Fact, RoleChanged

CAPACITY: Final = 20_000
HEARTBEATS: Final = 2_000

_OWN_FIELDS: Final = ("term", "index", "peer", "first_commands")


class Kept(NamedTuple):
    """A recorded fact before anybody has asked for it; `role` is the node's at that moment, the fact's own change included."""

    seq: int
    time: float
    node: int | None
    fact: Fact | DriverFact
    role: str


class Page(Struct, frozen=True, kw_only=True):
    """A stretch of the log, oldest first. `last_seq` is where to go on; `dropped` fell out before it could be read."""

    events: list[Kept]
    last_seq: int
    dropped: int
    heartbeats: int


class Recorder:
    """A daemon's memory of what its nodes did; implements `node.port.Sink`. All calls are made in trio's thread."""

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
        self._events: deque[Kept] = deque(maxlen=capacity)
        self._beats: deque[Kept] = deque(maxlen=heartbeats)
        self._dropped = 0
        self._last_dropped_seq = 0
        self._last_event_seq = 0
        self._roles: dict[int | None, str] = {}
        self._bell: trio.Event | None = None

    def record(self, node_id: int | None, fact: Fact | DriverFact) -> None:
        """Number, stamp and keep the fact."""
        self.last_seq = seq = self.last_seq + 1
        self.counts[node_id, fact.kind] += 1
        if isinstance(fact, (AppendSent, AppendAccepted)) and not fact.count:
            self.heartbeats += 1
            self._beats.append(Kept(seq, self._wall_clock(), node_id, fact, self._roles.get(node_id, "")))
            return
        commands: Any = getattr(fact, "first_commands", None)
        if commands:
            shown: Any = tuple(previews(commands, hide_values=self._hide_values))
            fact = msgspec.structs.replace(fact, first_commands=shown)
        self._note_role(node_id, fact)
        events = self._events
        if len(events) == events.maxlen:
            self._dropped += 1
            self._last_dropped_seq = events[0].seq
        events.append(Kept(seq, self._wall_clock(), node_id, fact, self._roles.get(node_id, "")))
        self._last_event_seq = seq
        if self._bell is not None:
            self._bell.set()
            self._bell = None

    async def wait(self, after_seq: int) -> None:
        """Return once there is an event after `after_seq` that is not a heartbeat."""
        while self._last_event_seq <= after_seq:
            if self._bell is None:
                self._bell = trio.Event()
            await self._bell.wait()

    def page(
        self,
        after_seq: int | None,
        *,
        nodes: frozenset[int] = frozenset(),
        kinds: frozenset[str] = frozenset(),
        heartbeats: bool = False,
        limit: int,
    ) -> Page:
        """Return the first `limit` events after `after_seq`, or the newest without it; empty filters let everything through.

        An event of no node (a change of faults) passes every filter of nodes.
        """
        found = self._after(self._events, after_seq, nodes, kinds)
        if heartbeats:
            found = sorted(found + self._after(self._beats, after_seq, nodes, kinds))
        last_seq = self.last_seq
        if len(found) > limit:
            if after_seq is None:
                found = found[-limit:]
            else:
                found = found[:limit]
                last_seq = found[-1].seq
        dropped = self._dropped if after_seq is None else max(0, min(self._dropped, self._last_dropped_seq - after_seq))
        return Page(events=found, last_seq=last_seq, dropped=dropped, heartbeats=self.heartbeats)

    def event(self, kept: Kept) -> Event:
        """Return the event as it is told to the world."""
        fact = kept.fact
        detail = msgspec.structs.asdict(fact)
        term, index, peer = detail.get("term"), detail.get("index"), detail.get("peer")
        entries = detail.get("first_commands")
        for name in _OWN_FIELDS:
            detail.pop(name, None)
        if entries:
            detail["entries"] = list(entries)
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

    def _note_role(self, node_id: int | None, fact: Fact | DriverFact) -> None:
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
    def _after(ring: deque[Kept], after_seq: int | None, nodes: frozenset[int], kinds: frozenset[str]) -> list[Kept]:
        found: list[Kept] = []
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


def format_id(run: str, seq: int) -> str:
    """Return an event's id."""
    return f"{run}-{seq}"


def parse_id(text: str) -> tuple[str, int]:
    """Return (run, seq); raise ValueError if `text` is no id."""
    run, dash, seq = text.rpartition("-")
    if not dash or not run or not (seq.isascii() and seq.isdigit()) or len(seq) > 18:
        raise ValueError(f"{text[:80]!r} is not the id of an event")
    return run, int(seq)
