"""The log in memory: the entries that no snapshot has replaced, their terms, and a running digest of it up to every index."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from typing import Final
from zlib import crc32

from bargetrio.raft.messages import Entry
from bargetrio.raft.records import LogStart
from bargetrio.raft.values import Command, Index, Term

SHOWN_COMMANDS: Final = 3
"""Commands that an event shows."""


def digest_after(digest: int, entries: Iterable[Entry]) -> int:
    """Return the running digest, as in `Log.append`, of a log with digest `digest` after adding `entries`."""
    for entry in entries:
        digest = crc32(entry.command, (digest + entry.term) & 0xFFFFFFFF)
    return digest


class Log:
    """Entries `start_index` + 1 to `last_index`; those before are committed, applied, and in a snapshot.

    ```
    index   (3)  4   5   6   7      start_index 3: index and term are known, the entry is compacted
    term    (1)  1   1   2   2      last_index 7, last_term 2
    ```
    A log that was never compacted starts at index 0, term 0: "before the log".

    `start_index`, `last_index` (equal if there is no entry) and `last_digest` are read-only for users. They are attributes and
    not properties because every step reads them, a simulated one eight times (docs/decisions/simulator_pace.md).
    """

    def __init__(self, entries: Iterable[Entry] = (), start: LogStart | None = None) -> None:
        start = LogStart() if start is None else start
        self.start_index: Index = start.index
        self.last_index: Index = start.index
        self.last_digest = start.digest
        self._start_term = start.term
        self._entries: list[Entry] = []
        self.forgotten: list[Entry] = []
        """Entries that `reset` removed and `drop` has not freed."""
        self._digests = array("I", [start.digest])
        self._bytes = array("Q", [0])
        self.append(entries)

    @property
    def last_term(self) -> Term:
        """The term of the last entry."""
        return self._entries[-1].term if self._entries else self._start_term

    def term(self, index: Index) -> Term:
        """Return the term of the entry at `index`, from `start_index` on; 0 for index 0."""
        place = index - self.start_index
        assert place >= 0, f"entry {index} was compacted"
        return self._entries[place - 1].term if place else self._start_term

    def entry(self, index: Index) -> Entry:
        """Return the entry at `index`."""
        assert index > self.start_index
        return self._entries[index - self.start_index - 1]

    def slice(self, first: Index, last: Index) -> tuple[Entry, ...]:
        """Return entries `first` to `last`, both included; () if `first` is above `last`."""
        if first > last:
            return ()
        assert first > self.start_index
        return tuple(self._entries[first - self.start_index - 1 : last - self.start_index])

    def commands(self, first: Index, last: Index, most: int = SHOWN_COMMANDS) -> tuple[Command, ...]:
        """Return the first `most` commands from `first` to `last` that are not compacted."""
        if first > last:
            return ()
        if first == last and first > self.start_index:  # most batches have one entry
            return (self._entries[first - self.start_index - 1].command,)
        begin = max(first - self.start_index - 1, 0)
        end = min(last - self.start_index, begin + most)
        return tuple([entry.command for entry in self._entries[begin : max(begin, end)]])

    def digest(self, index: Index) -> int:
        """Return the running digest of the log up to `index`: equal logs have equal digests; 0 before `start_index`."""
        place = index - self.start_index
        return self._digests[place] if place >= 0 else 0

    def bytes_between(self, after: Index, last: Index) -> int:
        """Return the size in bytes of the commands after `after` up to `last`, without compacted ones."""
        start = self.start_index
        return self._bytes[last - start] - self._bytes[after - start if after > start else 0]

    def append(self, entries: Iterable[Entry]) -> None:
        """Add entries at the end."""
        add_digest, add_size, keep = self._digests.append, self._bytes.append, self._entries.append
        digest, size = self._digests[-1], self._bytes[-1]
        for entry in entries:
            command = entry.command
            digest = crc32(command, (digest + entry.term) & 0xFFFFFFFF)
            size += len(command)
            add_digest(digest)
            add_size(size)
            keep(entry)
        self.last_index = self.start_index + len(self._entries)
        self.last_digest = digest

    def truncate(self, from_index: Index) -> None:
        """Delete the entries from `from_index` on."""
        place = from_index - self.start_index
        assert place > 0
        del self._entries[place - 1 :]
        del self._digests[place:]
        del self._bytes[place:]
        self.last_index = from_index - 1
        self.last_digest = self._digests[-1]

    def compact(self, to_index: Index) -> None:
        """Drop the entries up to `to_index`; its term and digest stay known."""
        place = to_index - self.start_index
        assert 0 <= place <= len(self._entries)
        self._start_term = self.term(to_index)
        self.start_index = to_index
        del self._entries[:place]
        del self._digests[:place]
        del self._bytes[:place]

    def reset(self, start: LogStart) -> None:
        """Remove all entries: the log continues after `start`, which is in a snapshot. `drop` frees the memory."""
        self.start_index = self.last_index = start.index
        self.last_digest = start.digest
        self._start_term = start.term
        self.forgotten += self._entries
        self._entries = []
        self._digests = array("I", [start.digest])
        self._bytes = array("Q", [0])

    def drop(self, most_entries: int, most_bytes: int) -> None:
        """Free some of the entries that `reset` removed, within both limits, at least one: a million would block the loop."""
        forgotten = self.forgotten
        count = size = 0
        while count < min(most_entries, len(forgotten)) and (not count or size <= most_bytes):
            count += 1
            size += len(forgotten[-count].command)
        if count:
            del forgotten[-count:]

    def batch_end(self, first: Index, most_entries: int, most_bytes: int) -> Index:
        """Return the last index of a batch from `first` on: within both limits, but at least one entry."""
        place = first - self.start_index
        by_size = bisect_right(self._bytes, self._bytes[place - 1] + most_bytes, place) - 1
        return max(first, min(first + most_entries - 1, by_size + self.start_index, self.last_index))

    def first_within(self, last: Index, most_bytes: int) -> Index:
        """Return the lowest index after which the commands up to `last` have `most_bytes` at most."""
        place = last - self.start_index
        return self.start_index + bisect_left(self._bytes, self._bytes[place] - most_bytes, 0, place)

    def is_behind(self, last_log_index: Index, last_log_term: Term) -> bool:
        """Return whether the given log end is at least as up to date as ours (Raft 5.4.1)."""
        return (last_log_term, last_log_index) >= (self.last_term, self.last_index)

    def holds(self, index: Index, term: Term) -> bool:
        """Return whether the entry at `index` has `term` (Raft 5.3); a compacted one is committed, so every leader has it."""
        place = index - self.start_index
        if place <= 0:
            return place < 0 or self._start_term == term
        return index <= self.last_index and self._entries[place - 1].term == term

    def first_conflict(self, prev_log_index: Index, entries: tuple[Entry, ...]) -> int:
        """Return how many of `entries`, which follow `prev_log_index`, are in this log already, maybe compacted (Raft 5.3).

        The next one is either beyond the end or conflicts; entries after a match are kept (BUG-22, BUG-21).
        """
        if not entries:
            return 0
        start = prev_log_index - self.start_index
        both = min(len(entries), self.last_index - prev_log_index)
        for count in range(max(-start, 0), both):
            if entries[count].term != self._entries[start + count].term:
                return count
        return max(both, 0)

    def differs(self, prev_log_index: Index, prev_digest: int, known: tuple[Entry, ...]) -> bool:
        """Return whether this log is known to differ from the one whose digest at `prev_log_index` is `prev_digest`.

        The caller has compared the terms of the entry there and of those in `known`, which follow it. If the entry was compacted
        here, the digests after `known` are compared, unless those entries were compacted, too.
        """
        if prev_log_index >= self.start_index and self.digest(prev_log_index) != prev_digest:
            return True
        end = prev_log_index + len(known)
        return len(known) > 0 and end >= self.start_index and self.digest(end) != digest_after(prev_digest, known)

    def last_index_within(self, index: Index, term: Term) -> Index:
        """Return the largest index up to `index` whose entry's term is at most `term`; 0 if there is none, or it is compacted.

        Terms never decrease along a log, so both sides can skip a whole term per probe (Raft 5.3, the end).
        """
        top = min(index, self.last_index)
        if top < self.start_index or self._start_term > term:
            return 0
        return self.start_index + bisect_right(self._entries, term, 0, top - self.start_index, key=lambda entry: entry.term)
