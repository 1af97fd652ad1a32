"""The log in memory: entries, their terms, and a running digest of it up to every index."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from zlib import crc32

from bargetrio.raft.messages import Command, Entry, Index, Term


class Log:
    """Entries 1 to `last_index`; index 0, term 0 stand for "before the log".

    ```
    index   1   2   3   4
    term    1   1   2   2      last_index 4, last_term 2
    ```
    """

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._entries: list[Entry] = []
        self._digests: list[int] = [0]
        self._bytes: list[int] = [0]
        self.append(entries)

    @property
    def last_index(self) -> Index:
        """The index of the last entry, 0 if there is none."""
        return len(self._entries)

    @property
    def last_term(self) -> Term:
        """The term of the last entry, 0 if there is none."""
        return self._entries[-1].term if self._entries else 0

    def term(self, index: Index) -> Term:
        """Return the term of the entry at `index`; 0 for index 0."""
        return self._entries[index - 1].term if index else 0

    def entry(self, index: Index) -> Entry:
        """Return the entry at `index`."""
        assert index > 0
        return self._entries[index - 1]

    def slice(self, first: Index, last: Index) -> tuple[Entry, ...]:
        """Return entries `first` to `last`, both included."""
        return tuple(self._entries[first - 1 : last])

    def commands(self, first: Index, last: Index, most: int = 3) -> tuple[Command, ...]:
        """Return the first few commands from `first` to `last`."""
        return tuple(entry.command for entry in self._entries[first - 1 : min(last, first - 1 + most)])

    def digest(self, index: Index) -> int:
        """Return the running digest of everything up to `index`: equal logs have equal digests."""
        return self._digests[index]

    def bytes_between(self, after: Index, last: Index) -> int:
        """Return the size of the commands after `after` up to `last`."""
        return self._bytes[last] - self._bytes[after]

    def append(self, entries: Iterable[Entry]) -> None:
        """Add entries at the end."""
        digests, sizes, kept = self._digests, self._bytes, self._entries
        digest, size = digests[-1], sizes[-1]
        for entry in entries:
            command = entry.command
            digest = crc32(command, (digest + entry.term) & 0xFFFFFFFF)
            size += len(memoryview(command))
            digests.append(digest)
            sizes.append(size)
            kept.append(entry)

    def truncate(self, from_index: Index) -> None:
        """Delete the entries from `from_index` on."""
        assert from_index > 0
        del self._entries[from_index - 1 :]
        del self._digests[from_index:]
        del self._bytes[from_index:]

    def batch_end(self, first: Index, most_entries: int, most_bytes: int) -> Index:
        """Return the last index of a batch from `first`: within both limits, but at least one entry."""
        by_size = bisect_right(self._bytes, self._bytes[first - 1] + most_bytes, first) - 1
        return max(first, min(first + most_entries - 1, by_size, self.last_index))

    def is_behind(self, last_log_index: Index, last_log_term: Term) -> bool:
        """Return whether the given log end is at least as up to date as ours (5.4.1)."""
        return (last_log_term, last_log_index) >= (self.last_term, self.last_index)

    def first_conflict(self, prev_log_index: Index, entries: tuple[Entry, ...]) -> int:
        """Return how many of `entries`, which follow `prev_log_index`, are in this log already (5.3).

        The next one is either beyond the end or in conflict; what stands after a match is kept (BUG-22).
        """
        start = prev_log_index
        both = min(len(entries), self.last_index - start)
        for count in range(both):
            if entries[count].term != self._entries[start + count].term:
                return count
        return max(both, 0)

    def last_index_within(self, index: Index, term: Term) -> Index:
        """Return the largest index up to `index` whose entry's term is at most `term`; 0 if there is none.

        Terms never fall along a log, so both sides can skip a whole term a probe (5.3, the end).
        """
        top = min(index, self.last_index)
        return bisect_right(self._entries, term, 0, top, key=lambda entry: entry.term)

    def first_index_of_term(self, term: Term) -> Index:
        """Return the first index whose term is at least `term`, `last_index` + 1 if there is none."""
        return bisect_left(self._entries, term, key=lambda entry: entry.term) + 1
