"""Recorded logs for the tests: votes, entries, truncations, over several segments."""

from random import Random

from msgspec import Raw

from bargetrio.raft.log import Log
from bargetrio.raft.messages import Entry, SnapshotMeta
from bargetrio.raft.records import Append, HardState, Record, Remembered, Truncate
from bargetrio.simulator.disk import SimulatedDisk
from bargetrio.storage.disk import Disk
from bargetrio.storage.snapshots import SnapshotReceiver, SnapshotStart, SnapshotWriter, Take, snapshot_name
from bargetrio.storage.wal import OpenFolder, open_folder

MEMBERS = (0, 1, 2)


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


def open_log(disk: Disk, segment_bytes: int = 1024, load: Take = lambda payload: None) -> OpenFolder:
    """Open the folder of node 0 with small segments; `load` gets the state that its snapshot holds."""
    return open_folder(disk, "barge", 0, lambda: "store-0", members=MEMBERS, load=load, segment_bytes=segment_bytes)


def start_of(last_index: int, last_term: int, digest: int = 0) -> SnapshotStart:
    """The label of a snapshot."""
    return SnapshotStart(cluster="barge", members=MEMBERS, last_index=last_index, last_term=last_term, digest=digest)


def save(disk: Disk, entries: list[Entry], size: int = 3) -> SnapshotMeta:
    """Save the state after these entries, which says their number; `size` lines of it."""
    last_term = entries[-1].term
    writer = SnapshotWriter(disk, start_of(len(entries), last_term, digest(entries)))
    for _ in range(size):
        writer.add(state_after(len(entries)))
    return writer.finish()


def state_after(index: int) -> bytes:
    """A line of the state after that many entries."""
    return b'{"state":%d}' % index


def send(receiver: SnapshotReceiver, data: bytes, snapshot: SnapshotMeta, piece: int = 100) -> int:
    """Store a file, piece by piece, as long as each is taken; return what the last one says is stored."""
    stored = 0
    for offset in range(0, len(data), piece):
        if stored != offset:
            break
        stored = receiver.store(snapshot, offset, data[offset : offset + piece])
    return stored


def file_of(entries: list[Entry], size: int = 3) -> tuple[SnapshotMeta, bytes]:
    """Another node's snapshot of these entries, and the bytes of its file."""
    disk = SimulatedDisk(Random(0))
    snapshot = save(disk, entries, size)
    return snapshot, disk.peek(snapshot_name(snapshot.last_index, snapshot.last_term))


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


LOG = [entry(1, f"e{index}") for index in range(1, 9)]
"""A log of eight entries."""


def loaded(disk: SimulatedDisk) -> tuple[Remembered, list[bytes]]:
    """Return the persistent state of the folder, and the loaded state of the state machine."""
    state: list[bytes] = []
    folder = open_log(disk, load=state.append)
    folder.close()
    return folder.remembered, state


def with_log(entries: list[Entry], segment_bytes: int = 300) -> tuple[SimulatedDisk, OpenFolder]:
    """A folder with these entries, a write for each."""
    disk = SimulatedDisk(Random(1))
    folder = open_log(disk, segment_bytes)
    folder.write([HardState(term=entries[0].term, voted_for=1)])
    for count, new in enumerate(entries):
        folder.write([append(entries[:count], new)])
    return disk, folder
