"""What the folders of a seed begin with where they are not empty: restored backups, or folders of the version before."""

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from bargetrio.kv.commands import encode_command
from bargetrio.kv.store import Store
from bargetrio.protocol.requests import Put
from bargetrio.raft.log import Log
from bargetrio.raft.messages import Command, Entry, NodeId
from bargetrio.raft.records import Append, HardState
from bargetrio.raft.standing import origin_of_backup
from bargetrio.simulator.disk import SimulatedDisk
from bargetrio.simulator.machine import CLUSTER
from bargetrio.simulator.memory import DiskState
from bargetrio.simulator.plan import Begun, Plan
from bargetrio.simulator.server import Server
from bargetrio.storage.folder import FORMAT_WITHOUT_MEMBERS
from bargetrio.storage.snapshots import SnapshotStart, SnapshotWriter
from bargetrio.storage.wal import open_folder

TERM: Final = 3
LAST: Final[dict[Begun, int]] = {"": 0, "monday": 20, "tuesday": 40, "earlier": 12}
"""The last entry that each of them holds; all hold the same ones."""


def commands() -> list[Command]:
    """Return what was written before the seed begins, to keys that its clients do not use."""
    return [encode_command(Put(id=0, key=f"old {number % 7}", value=f"old {number}")) for number in range(max(LAST.values()))]


def log_before(plan: Plan) -> Log:
    """Return the log of which the folders hold a part each, or all: as far as any of them ever will."""
    is_mixed = len(set(plan.begun_with)) > 1  # those are restored alike later, from the newer backup
    last = LAST["tuesday"] if is_mixed else LAST[plan.begun_with[0]]
    return Log([Entry(TERM, command) for command in commands()[:last]])


def begin(server: Server, begun: Begun) -> DiskState:
    """Make the folder of a server that has never been there; return what its disk holds."""
    written = [Entry(TERM, command) for command in commands()[: LAST[begun]]]
    log = Log(written)
    digests = [log.digest(index) for index in range(len(written) + 1)]
    match begun:
        case "":
            return DiskState(0, None, [0])
        case "earlier":
            _of_the_version_before(server, written, digests[-1])
            return DiskState(TERM, 0, digests)
        case "monday" | "tuesday":
            restore(server.disk, CLUSTER, server.node_id, server.node_ids, server.make_store_id, begun)
            return DiskState(TERM, None, digests)


def _of_the_version_before(server: Server, written: Sequence[Entry], digest: int) -> None:
    """Its `meta` knows neither members nor a standing; its disk has promised something."""
    disk = server.disk
    folder = open_folder(disk, CLUSTER, server.node_id, server.make_store_id, members=server.node_ids)
    folder.write([HardState(term=TERM, voted_for=0), Append(first_index=1, digest=digest, entries=tuple(written))])
    store = folder.standing.store
    folder.close()
    disk.end_process()
    meta = {"format": FORMAT_WITHOUT_MEMBERS, "cluster": CLUSTER, "node": server.node_id, "store": store}
    disk.put("meta", msgspec.json.encode(meta) + b"\n")


def restore(
    disk: SimulatedDisk,
    cluster: str,
    node_id: NodeId,
    members: tuple[NodeId, ...],
    make_store_id: Callable[[], str],
    begun: Begun,
) -> None:
    """Make a folder from a backup, as storage/restore.py does."""
    last = LAST[begun]
    written = commands()[:last]
    digest = Log([Entry(TERM, command) for command in written]).last_digest
    origin = origin_of_backup(last, TERM, digest)
    folder = open_folder(disk, cluster, node_id, make_store_id, members=members, origin=origin)
    folder.write([HardState(term=TERM)])
    store = Store()
    store.apply_all(written, 1)
    start = SnapshotStart(cluster=cluster, members=members, last_index=last, last_term=TERM, digest=digest)
    writer, scan = SnapshotWriter(disk, start), store.scan(100)
    while (line := scan.next_slice()) is not None:
        if line:
            writer.add(line)
    writer.finish()
    folder.close()
    disk.end_process()
