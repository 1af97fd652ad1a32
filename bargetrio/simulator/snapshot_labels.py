"""Invariants of a saved snapshot's file: its content is that of its label (Raft 7; BUG-29, BUG-36)."""

from collections.abc import Mapping, Sequence

from bargetrio.kv.commands import Stored
from bargetrio.kv.store import Store
from bargetrio.raft.messages import SnapshotMeta
from bargetrio.simulator.memory import Breach, Committed
from bargetrio.simulator.server import Server
from bargetrio.storage.snapshots import read_snapshot, snapshot_name

RULE = "a snapshot is what its label says"


def check_label(
    server: Server, snapshot: SnapshotMeta, committed: Sequence[Committed], states: Sequence[Mapping[str, Stored]]
) -> None:
    """Raise Breach unless the file has exactly the state, term, digest and members of its label, and is a newer one.

    `committed` and `states` are by index: each committed entry, and what all keys hold after it.
    """
    index = snapshot.last_index
    what = f"node {server.node_id} saves a snapshot up to entry {index}"
    if index >= len(committed) or (snapshot.last_term, snapshot.digest) != committed[index][:2]:
        raise Breach(RULE, f"{what}, which is not what was committed")
    assert server.core is not None
    held = server.core.snapshot
    if held is not None and held.last_index == index and held != server.core.snapshots.unreadable:
        raise Breach("snapshots go forward", f"{what}, in the place of the one it has")
    if snapshot.members != server.node_ids:
        raise Breach(RULE, f"{what} with members {snapshot.members}")
    store, path = Store(), snapshot_name(index, snapshot.last_term)
    read_snapshot(BytesFile(server.disk.peek(path)), path, store.load)
    if store.stored != states[index]:
        raise Breach(RULE, f"{what} that holds another state")


class BytesFile:
    """A file in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read_part(self, offset: int, size: int) -> bytes:
        """Return up to `count` bytes from `offset`."""
        return self._data[offset : offset + size]
