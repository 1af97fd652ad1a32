"""Recorded logs for the tests: votes, entries, truncations, over several segments."""

from random import Random

from msgspec import Raw

from bargetrio.raft.log import Log
from bargetrio.raft.messages import Entry
from bargetrio.raft.records import Append, HardState, Record, Remembered, Truncate
from bargetrio.storage.disk import Disk
from bargetrio.storage.wal import OpenFolder, open_folder


def entry(term: int, text: str) -> Entry:
    """An entry whose command is a JSON string."""
    return Entry(term, Raw(b'"' + text.encode() + b'"'))


def digest(entries: list[Entry]) -> int:
    """The running digest of a log that begins with these."""
    return Log(entries).digest(len(entries))


def append(entries: list[Entry], *new: Entry) -> Append:
    """The record that adds `new` to a log of `entries`."""
    return Append(first_index=len(entries) + 1, digest=digest([*entries, *new]), entries=new)


def truncate(entries: list[Entry], from_index: int) -> Truncate:
    """The record that cuts a log of `entries`."""
    kept = entries[: from_index - 1]
    return Truncate(from_index=from_index, last_term=kept[-1].term if kept else 0, digest=digest(kept))


def open_log(disk: Disk, segment_bytes: int = 1024) -> OpenFolder:
    """Open the folder of node 0 with small segments."""
    return open_folder(disk, "barge", 0, lambda: "store-0", segment_bytes=segment_bytes)


def history(random: Random, writes: int) -> list[tuple[list[Record], Remembered]]:
    """Return writes, each with what must be remembered after it."""
    hard_state, entries = HardState(), list[Entry]()
    made: list[tuple[list[Record], Remembered]] = []
    for number in range(writes):
        records: list[Record] = []
        if random.random() < 0.3:
            hard_state = HardState(term=hard_state.term + 1, voted_for=random.choice([None, 0, 1, 2]))
            records.append(hard_state)
        if entries and random.random() < 0.2:
            from_index = random.randint(max(1, len(entries) - 3), len(entries))
            records.append(truncate(entries, from_index))
            del entries[from_index - 1 :]
        if not records or random.random() < 0.8:
            size = random.choice([3, 3, 40, 700])
            new = [entry(hard_state.term, f"{number}-{place}-" + "x" * size) for place in range(random.randint(1, 3))]
            records.append(append(entries, *new))
            entries += new
        made.append((records, Remembered(hard_state=hard_state, entries=tuple(entries))))
    return made
