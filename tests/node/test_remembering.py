"""Which store each peer writes to is kept in one file: two peers that are met at once must both be in it."""

import time
from pathlib import Path

import trio

from bargetrio.eventlog.event import DriverFact
from bargetrio.node.port import NodeSettings
from bargetrio.node.server import Node
from bargetrio.raft.facts import Fact
from bargetrio.storage.real_disk import RealDisk
from bargetrio.storage.wal import OpenFolder, open_folder
from bargetrio.transport.faults import LinkFaults


class Nobody:
    """A sink that keeps nothing."""

    def record(self, node_id: int | None, fact: Fact | DriverFact) -> None:
        pass

    def note(self, node_id: int | None, fact: Fact | DriverFact) -> None:
        self.record(node_id, fact)

    def settle(self) -> None:
        pass


class SlowFolder:
    """A folder in which two writers at once would meet."""

    def __init__(self, folder: OpenFolder) -> None:
        self._folder = folder
        self.busy = False

    def known_stores(self) -> dict[int, str]:
        return self._folder.known_stores()

    def remember_store(self, peer_id: int, store_id: str) -> None:
        assert not self.busy, "two threads write the file at once"
        self.busy = True
        time.sleep(0.02)
        self._folder.remember_store(peer_id, store_id)
        self.busy = False


async def test_two_peers_met_at_once_are_both_remembered(tmp_path: Path) -> None:
    """OWN-02 in docs/bugs.md."""
    settings = NodeSettings(
        cluster="barge",
        node_id=0,
        listen="127.0.0.1:1",
        addresses={0: "127.0.0.1:1", 1: "127.0.0.1:2", 2: "127.0.0.1:3"},
        heartbeat_s=0.05,
        election_s=(0.3, 0.6),
        request_timeout_s=5,
    )
    disk = RealDisk(tmp_path / "node-0")
    node = Node(settings, disk=disk, sink=Nobody(), link_faults=LinkFaults())
    folder = open_folder(disk, "barge", 0, lambda: "store-0")
    node._folder = SlowFolder(folder)  # type: ignore[assignment]  # as much of a folder as is needed here
    async with trio.open_nursery() as nursery:
        nursery.start_soon(node._remember_store, 1, "store-1")
        nursery.start_soon(node._remember_store, 2, "store-2")
    assert folder.known_stores() == {1: "store-1", 2: "store-2"}
    folder.close()
