"""What must be on the disk before what may be said: one write in flight, the rest merges into the next (group commit).

```
queued  -- Persist(number, records, then) -->  in flight  -- persisted(number) -->  durable
```
A vote, an accepted append, a candidate's own vote and a leader's own match all wait for their write; a change of term or vote
holds back every message of that term. Nothing else waits, so heartbeats never wait for a disk.
"""

from dataclasses import dataclass
from typing import Final

from bargetrio.raft.effects import Persist, Send
from bargetrio.raft.messages import AppendReply, Entry, Index, SnapshotMeta, SnapshotReply, VoteReply
from bargetrio.raft.records import Append, HardState, Install, Record, Truncate


@dataclass(slots=True)
class InFlight:
    """The one write that the driver has begun; `covers` is the last log index it makes durable, lowered by truncation.

    `began_at` is in seconds on the core's clock.
    """

    number: int
    covers: Index
    began_at: float


@dataclass(slots=True)
class _Tail:
    """Entries that wait for their write; a later batch joins them."""

    first_index: Index
    entries: list[Entry]
    digest: int
    configurations: tuple[Index, ...]


class Durability:
    """Collects records, numbers the writes, and holds messages until their write is done."""

    def __init__(self, durable_index: Index) -> None:
        self.durable_index = durable_index
        """The last index whose entry is surely on the disk, as it now stands in the log."""
        self.synced_number = 0
        self.is_queued = False
        """Whether something may wait for the next write."""
        self.last_write_s = 0.0
        """How long the last write took."""
        self._queued_number = 1
        self._in_flight: InFlight | None = None
        self._hard_state: HardState | None = None
        self.hard_state_number = 0
        self._log_records: list[Truncate | Install | _Tail] = []
        self._queued_covers = durable_index
        self._then: list[Send] = []
        self._held: list[Send] = []

    @property
    def hard_state_is_durable(self) -> bool:
        """Whether the present term and vote are on the disk."""
        return self.hard_state_number <= self.synced_number

    def write_age_s(self, now: float) -> float:
        """Return for how many seconds the write in flight has run; 0 if there is none."""
        return 0.0 if self._in_flight is None else now - self._in_flight.began_at

    def remember_hard_state(self, hard_state: HardState) -> None:
        """Queue the term and vote; a later one replaces what is still queued."""
        self._hard_state = hard_state
        self.hard_state_number = self._queued_number
        self.is_queued = True

    def remember_entries(
        self, first_index: Index, entries: list[Entry], digest: int, configurations: tuple[Index, ...] = ()
    ) -> None:
        """Queue entries for the log's end, which then has `digest`; `first_index` follows what was queued or written before."""
        if self._log_records and isinstance(tail := self._log_records[-1], _Tail):
            tail.entries.extend(entries)
            tail.digest = digest
            tail.configurations += configurations
        else:
            self._log_records.append(_Tail(first_index, list(entries), digest, configurations))
        self._queued_covers = first_index + len(entries) - 1
        self.is_queued = True

    def remember_truncation(self, from_index: Index, last_term: int, digest: int) -> None:
        """Queue the end of the log before `from_index`; `last_term` and `digest` are those of its new end.

        What a write in flight holds from there on is no longer what the log says, so its end proves nothing (BUG-26).
        """
        self._log_records.append(Truncate(from_index=from_index, last_term=last_term, digest=digest))
        self._queued_covers = from_index - 1
        self.is_queued = True
        self.durable_index = min(self.durable_index, from_index - 1)
        if self._in_flight is not None:
            self._in_flight.covers = min(self._in_flight.covers, from_index - 1)

    def remember_install(self, snapshot: SnapshotMeta) -> None:
        """Queue a snapshot in the place of the whole log: nothing of what was written or queued of the log counts any more."""
        self._log_records = [Install(snapshot=snapshot)]
        self._queued_covers = snapshot.last_index
        self.is_queued = True
        self.durable_index = 0
        if self._in_flight is not None:
            self._in_flight.covers = 0

    def write_that_covers(self, index: Index) -> int:
        """Return the number of the write after which `index` is durable; 0 if it is."""
        if index <= self.durable_index:
            return 0
        if self._in_flight is not None and index <= self._in_flight.covers:
            return self._in_flight.number
        return self._queued_number

    def hold(self, send: Send, index: Index = 0) -> bool:
        """Keep `send` until term, vote and the log up to `index` are durable; return False if they are already."""
        number = self.hard_state_number
        if index > self.durable_index:
            number = max(number, self.write_that_covers(index))
        if number <= self.synced_number:
            return False
        if number < self._queued_number:
            _keep(self._held, send)
        else:
            _keep(self._then, send)
        return True

    def next_write(self, now: float) -> Persist | None:
        """Return the next write, which begins now, if there is one and none is in flight."""
        if self._in_flight is not None or (self._hard_state is None and not self._log_records):
            assert self._in_flight is not None or not self._then
            return None
        records: list[Record] = [] if self._hard_state is None else [self._hard_state]
        for record in self._log_records:
            if isinstance(record, _Tail):
                records.append(
                    Append(
                        first_index=record.first_index,
                        digest=record.digest,
                        entries=tuple(record.entries),
                        configurations=record.configurations,
                    )
                )
            else:
                records.append(record)
        persist = Persist(self._queued_number, tuple(records), tuple(self._then))
        self._in_flight = InFlight(self._queued_number, self._queued_covers, now)
        self._queued_number += 1
        self._hard_state = None
        self.is_queued = False
        self._log_records.clear()
        self._then.clear()
        return persist

    def persisted(self, number: int, now: float) -> list[Send]:
        """Note that write `number` is on the disk; return what waited for it after it had begun."""
        assert self._in_flight is not None and self._in_flight.number == number, "a write that was not in flight has ended"
        self.last_write_s = self.write_age_s(now)
        self.synced_number = number
        self.durable_index = max(self.durable_index, self._in_flight.covers)
        self._in_flight = None
        held, self._held = self._held, []
        return held


FEW: Final = 16
"""So many messages may wait before it is looked for older ones that the newest replaces."""


def _keep(waiting: list[Send], send: Send) -> None:
    """Add `send` to messages that wait for the disk, in the place of one that it replaces.

    A sync may hang for minutes while every election timeout brings the same questions and answers: their number stays bounded.
    """
    if waiting and _supersedes(send, waiting[-1]):
        waiting[-1] = send
        return
    if len(waiting) >= FEW:
        waiting[:] = [old for old in waiting if not _supersedes(send, old) and not _repeats(send, old)]
    waiting.append(send)


def _repeats(new: Send, old: Send) -> bool:
    """Return whether it is the same kind of message to the same node: any message may be lost, and the newest says most."""
    return new.to == old.to and type(new.message) is type(old.message) and not _acknowledges(old)


def _acknowledges(send: Send) -> bool:
    """Return whether the message says that something was done, so that a later one must not take its place."""
    message = send.message
    if isinstance(message, AppendReply):
        return message.success
    return (isinstance(message, VoteReply) and message.granted) or (isinstance(message, SnapshotReply) and message.installed)


def _supersedes(new: Send, old: Send) -> bool:
    """A follower's later acknowledgement says all that an earlier one of the same term did."""
    return (
        new.to == old.to
        and isinstance(new.message, AppendReply)
        and isinstance(old.message, AppendReply)
        and new.message.term == old.message.term
        and new.message.success
        and old.message.success
        and new.message.match_index >= old.message.match_index
        and new.message.round >= old.message.round
    )
