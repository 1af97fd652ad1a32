"""Which messages wait for which write: one write is in flight, later records go with the next (group commit; Ongaro 3.8, 10.2.1).

```
queued  -- Persist(number, records, then) -->  in flight  -- persisted(number) -->  durable
```
A vote, an accepted append, a candidate's own vote and a leader's own match all wait for their write; a change of term or vote
holds back every message of that term. Nothing else waits, so heartbeats never wait for a disk.
"""

import sys
from dataclasses import dataclass
from typing import Final

from bargetrio.raft.effects import Persist, Send
from bargetrio.raft.log import digest_after
from bargetrio.raft.messages import AppendReply, Entry, Index, PreVoteReply, SnapshotMeta, SnapshotReply, VoteReply
from bargetrio.raft.records import Append, HardState, Install, Record, Truncate


@dataclass(slots=True)
class InFlight:
    """The one write that the host has begun; `covers` is the last log index it makes durable, lowered by truncation.

    `began_at` is in seconds on the core's clock.
    """

    number: int
    covers: Index
    began_at: float


@dataclass(slots=True)
class _QueuedEntries:
    """Entries queued for the next write; later batches are added to them."""

    first_index: Index
    entries: list[Entry]
    digest: int
    configurations: tuple[Index, ...]


class Durability:
    """Collects records, numbers the writes, and holds messages until their write is done."""

    def __init__(self, durable_index: Index, digest: int = 0) -> None:
        self.durable_index = durable_index
        """The last index whose entry is surely on the disk, as it now stands in the log."""
        self.synced_number = 0
        self.is_queued = False
        """Whether records may be queued for the next write."""
        self.last_write_s = 0.0
        """How many seconds the last write took."""
        self._queued_number = 1
        self._queued_bytes = 0
        """The bytes of the commands that are queued."""
        self._digest = digest
        """The log's digest after the last record that was handed out."""
        self._in_flight: InFlight | None = None
        self._hard_state: HardState | None = None
        self.hard_state_number = 0
        self._log_records: list[Truncate | Install | _QueuedEntries] = []
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

    def queue_hard_state(self, hard_state: HardState) -> None:
        """Queue the term and vote; a later one replaces what is still queued."""
        self._hard_state = hard_state
        self.hard_state_number = self._queued_number
        self.is_queued = True

    @property
    def in_flight_index(self) -> Index:
        """The last log index that the write in flight makes durable."""
        return 0 if self._in_flight is None else self._in_flight.covers

    def exclude_pause(self, seconds: float) -> None:
        """Exclude a pause of the process from the age of the write in flight, which may have ended meanwhile."""
        if self._in_flight is not None:
            self._in_flight.began_at += seconds

    def queue_entries(
        self, first_index: Index, entries: list[Entry], digest: int, configurations: tuple[Index, ...] = (), *, size: int = 0
    ) -> None:
        """Queue entries for the log's end, which then has `digest`; `first_index` follows what was queued or written before.

        `size` is that of their commands, in bytes.
        """
        self._queued_bytes += size
        if self._log_records and isinstance(tail := self._log_records[-1], _QueuedEntries):
            tail.entries.extend(entries)
            tail.digest = digest
            tail.configurations += configurations
        else:
            self._log_records.append(_QueuedEntries(first_index, list(entries), digest, configurations))
        self._queued_covers = first_index + len(entries) - 1
        self.is_queued = True

    def queue_truncation(self, from_index: Index, last_term: int, digest: int) -> None:
        """Queue the truncation of the log from `from_index` on; `last_term` and `digest` are those of its new end.

        The write in flight makes nothing durable from there on: those entries are no longer the log's (BUG-26).
        """
        self._log_records.append(Truncate(from_index=from_index, last_term=last_term, digest=digest))
        self._queued_covers = from_index - 1
        self.is_queued = True
        self.durable_index = min(self.durable_index, from_index - 1)
        if self._in_flight is not None:
            self._in_flight.covers = min(self._in_flight.covers, from_index - 1)

    def queue_install(self, snapshot: SnapshotMeta) -> None:
        """Queue a snapshot that replaces the whole log: no entry that was written or queued before is durable any more."""
        self._log_records = [Install(snapshot=snapshot)]
        self._queued_bytes = 0
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
        """Hold `send` until term, vote and the log up to `index` are durable; return False if they are already."""
        number = self.hard_state_number
        if index > self.durable_index:
            number = max(number, self.write_that_covers(index))
        if number <= self.synced_number:
            return False
        if number < self._queued_number:
            _add_held(self._held, send)
        else:
            _add_held(self._then, send)
        return True

    def next_write(self, now: float = 0.0, most_bytes: int = sys.maxsize) -> Persist | None:
        """Return the next write, which begins at `now`, None if there is none or one is in flight.

        It has at most `most_bytes` of commands, or one command; the rest, and messages that wait for it, go with the next.
        """
        if self._in_flight is not None or (self._hard_state is None and not self._log_records):
            assert self._in_flight is not None or not self._then
            return None
        records: list[Record] = [] if self._hard_state is None else [self._hard_state]
        covers = self._queued_covers
        if self._queued_bytes <= most_bytes:
            records += [self._record(record) for record in self._log_records]
            self._log_records.clear()
        else:
            covers = self._take_fitting(records, most_bytes)
        then = tuple(self._then)
        if self._log_records:
            then = tuple([send for send in self._then if _needed_index(send) <= covers])
            self._then = [send for send in self._then if _needed_index(send) > covers]
        else:
            self._then.clear()
            self._queued_bytes = 0
        persist = Persist(self._queued_number, tuple(records), then)
        self._in_flight = InFlight(self._queued_number, covers, now)
        self._queued_number += 1
        self._hard_state = None
        self.is_queued = bool(self._log_records)
        return persist

    def _record(self, record: Truncate | Install | _QueuedEntries) -> Record:
        """Return the record to be written for a queued one, and update the digest of the written log."""
        if isinstance(record, Install):
            self._digest = record.snapshot.digest
            return record
        self._digest = record.digest
        if isinstance(record, Truncate):
            return record
        return Append(
            first_index=record.first_index,
            digest=record.digest,
            entries=tuple(record.entries),
            configurations=record.configurations,
        )

    def _take_fitting(self, records: list[Record], most_bytes: int) -> Index:
        """Move the records that fit in `most_bytes` from the queue to `records`; return the last index that they make durable."""
        room, covers = most_bytes, self.durable_index
        while self._log_records:
            record = self._log_records[0]
            if isinstance(record, _QueuedEntries):
                count, digest = 0, self._digest
                for entry in record.entries:
                    if len(entry.command) > room and (count or room < most_bytes):
                        break
                    room -= len(entry.command)
                    digest = digest_after(digest, (entry,))
                    count += 1
                if not count:
                    break
                covers = record.first_index + count - 1
                own = tuple([index for index in record.configurations if index <= covers])
                records.append(self._record(_QueuedEntries(record.first_index, record.entries[:count], digest, own)))
                record.configurations = record.configurations[len(own) :]
                del record.entries[:count]
                record.first_index += count
                if record.entries:
                    break
                assert digest == record.digest, "the log's digest is that of what is written"
            else:
                records.append(self._record(record))
                covers = record.from_index - 1 if isinstance(record, Truncate) else record.snapshot.last_index
            self._log_records.pop(0)
        self._queued_bytes -= most_bytes - room
        # Entries that a queued truncation cuts do not become durable.
        return min([covers, *(record.from_index - 1 for record in self._log_records if isinstance(record, Truncate))])

    def persisted(self, number: int, now: float = 0.0) -> list[Send]:
        """Note that write `number` is on the disk; return the messages that were held for it after it had begun."""
        assert self._in_flight is not None and self._in_flight.number == number, "a write that was not in flight has ended"
        self.last_write_s = self.write_age_s(now)
        self.synced_number = number
        self.durable_index = max(self.durable_index, self._in_flight.covers)
        self._in_flight = None
        held, self._held = self._held, []
        return held


DEDUPLICATE_ABOVE: Final = 16
"""With more waiting messages than this, all older ones that the newest replaces are dropped, not only the last."""


def _add_held(waiting: list[Send], send: Send) -> None:
    """Add `send` to the messages that wait for the disk, in place of those that it replaces.

    While a sync hangs for minutes, every election timeout repeats the same requests and replies: this bounds their number.
    """
    if waiting and _supersedes(send, waiting[-1]):
        waiting[-1] = send
        return
    if _grants_pre_vote(send):
        waiting[:] = [old for old in waiting if not _grants_pre_vote(old)]
    if len(waiting) >= DEDUPLICATE_ABOVE:
        waiting[:] = [old for old in waiting if not _supersedes(send, old) and not _repeats(send, old)]
    waiting.append(send)


def _grants_pre_vote(send: Send) -> bool:
    """Return whether this is a granted pre-vote: of those that wait, only the newest is sent (OWN-165).

    Sent together when the disk is ready, they would start the elections of all pre-candidates at the same moment. Where each
    candidate needs this voter, the votes would be split in every term.
    """
    return isinstance(send.message, PreVoteReply) and send.message.granted


def _repeats(new: Send, old: Send) -> bool:
    """Return whether `new` may replace `old`: the same kind of message to the same node, and no acknowledgement."""
    return new.to == old.to and type(new.message) is type(old.message) and not _acknowledges(old)


def _acknowledges(send: Send) -> bool:
    """Return whether the message acknowledges something (success, a vote, an installation): it must not be dropped."""
    message = send.message
    if isinstance(message, AppendReply):
        return message.success
    return (isinstance(message, VoteReply) and message.granted) or (isinstance(message, SnapshotReply) and message.installed)


def _needed_index(send: Send) -> Index:
    """Return up to which index the log must be durable before this message may leave."""
    message = send.message
    if isinstance(message, AppendReply):
        return message.match_index if message.success else 0
    return message.last_index if isinstance(message, SnapshotReply) and message.installed else 0


def _supersedes(new: Send, old: Send) -> bool:
    """Return whether `new` makes `old` needless: a later acknowledgement of the same term, the same vote or one of a later term.

    A candidate that asks for a vote in a later term has left the earlier one.
    """
    later, earlier = new.message, old.message
    if new.to != old.to:
        return False
    if isinstance(later, VoteReply) and isinstance(earlier, VoteReply):
        return later.granted and earlier.granted and later.term >= earlier.term
    return (
        isinstance(later, AppendReply)
        and isinstance(earlier, AppendReply)
        and later.term == earlier.term
        and later.success
        and earlier.success
        and later.match_index >= earlier.match_index
        and later.round >= earlier.round
    )
