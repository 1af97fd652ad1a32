"""An exception in one node, connection or handler never ends another node: one is raised in every port."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from msgspec import Raw

from bargetrio.eventlog.host_facts import HostFact
from bargetrio.eventlog.recorder import Recorder
from bargetrio.node.server import Node
from bargetrio.protocol.addresses import parse_address
from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.hello import PeerHello
from bargetrio.protocol.limits import PEER_CONNECTIONS, PEER_PROTOCOL_VERSION
from bargetrio.protocol.views import DiskFault, Faults
from bargetrio.raft.facts import Fact
from bargetrio.replica.replica import Replica
from bargetrio.storage.disk import DiskFile
from bargetrio.storage.real_disk import RealDisk
from bargetrio.transport.network import Connection, Listener
from bargetrio.transport.sockets import SocketNetwork
from tests.cluster.harness import Harness


class Bug(Exception):
    """What no port promises."""


class BuggyDisk(RealDisk):
    """Works until `broken`, then raises what no disk raises."""

    broken = False

    def open(self, path: str, *, create: bool = False) -> Any:
        file, disk = super().open(path, create=create), self

        class BuggyFile:
            descriptor = None  # the kernel's sync would not meet the bug

            def __getattr__(self, name: str) -> Any:
                return getattr(file, name)

            def sync(self) -> None:
                if disk.broken:
                    raise Bug("in sync")
                file.sync()

        buggy: DiskFile = BuggyFile()
        return buggy


class BuggyNetwork(SocketNetwork):
    """Raises where `where` says, once the cluster runs."""

    def __init__(self) -> None:
        super().__init__()
        self.where = ""

    async def connect(self, host: str, port: int) -> Connection:
        if self.where == "connect":
            raise Bug("in connect")
        return self._wrapped(await super().connect(host, port))

    async def listen(self, host: str, port: int) -> Listener:
        listener, network = await super().listen(host, port), self

        class BuggyListener:
            async def accept(self) -> Connection:
                connection = await listener.accept()
                if network.where == "accept":
                    raise Bug("in accept")
                return network._wrapped(connection)

            def close(self) -> None:
                listener.close()

        return BuggyListener()

    def _wrapped(self, connection: Connection) -> Connection:
        network = self

        class BuggyConnection:
            def __getattr__(self, name: str) -> Any:
                return getattr(connection, name)

            async def receive(self) -> bytes:
                data = await connection.receive()
                if network.where == "receive":
                    raise Bug("in receive")
                return data

        wrapped: Connection = BuggyConnection()
        return wrapped


async def still_works(harness: Harness, hurt: int) -> None:
    """The other two go on without a change of term by the accident, and the hurt node can be revived."""
    await harness.put("after", "the bug")
    assert await harness.get("after") == "the bug"
    assert all(harness.state(node_id)[0] == "running" for node_id in harness.addresses if node_id != hurt)


async def test_a_bug_in_the_disk_ends_its_node_alone(tmp_path: Path) -> None:
    """It is reported like a failed disk, with its type; revived, the node catches up."""
    harness = Harness(tmp_path)
    disks: dict[int, BuggyDisk] = {}

    def disk_of(node_id: int) -> BuggyDisk:
        disks[node_id] = BuggyDisk(tmp_path / f"node-{node_id}")
        return disks[node_id]

    harness.disk_of = disk_of
    async with harness.open():
        hurt = (await harness.leader() + 1) % 3
        disks[hurt].broken = True
        await harness.put("a")
        await harness.until(lambda: harness.state(hurt)[0] == "crashed")
        assert "Bug: in sync" in harness.state(hurt)[1]
        await still_works(harness, hurt)
        assert (await harness.cluster.revive(hurt)).changed
        await harness.until(lambda: len({view.last_applied for view in harness.local.views()}) == 1)


@pytest.mark.parametrize("where", ["accept", "receive", "connect"])
async def test_a_bug_in_the_network_ends_its_connection_or_its_node_alone(tmp_path: Path, where: str) -> None:
    """accept, receive, connect."""
    harness = Harness(tmp_path)
    networks: dict[int, BuggyNetwork] = {node_id: BuggyNetwork() for node_id in harness.addresses}
    harness.network_of = networks.__getitem__
    async with harness.open():
        hurt = (await harness.leader() + 1) % 3
        networks[hurt].where = where
        with trio.move_on_after(0.5):  # whatever comes to its port meets the bug
            host, port = harness.addresses[hurt].split(":")
            stream = await trio.open_tcp_stream(host, int(port))
            await stream.send_all(b"x\n")
            await stream.receive_some()
        await harness.put("b")
        await still_works(harness, hurt)
        networks[hurt].where = ""
        if harness.state(hurt)[0] == "crashed":
            assert "Bug" in harness.state(hurt)[1]
            assert (await harness.cluster.revive(hurt)).changed


async def test_a_bug_in_the_loop_ends_its_node_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The leader's own loop raises: a new leader is elected."""
    harness = Harness(tmp_path)
    async with harness.open():
        hurt = await harness.leader()
        good = Replica._perform

        def perform(self: Replica, now: float, *, may_apply: bool) -> None:
            if self.core.node_id == hurt:
                raise Bug("in the loop")
            good(self, now, may_apply=may_apply)

        monkeypatch.setattr(Replica, "_perform", perform)
        await harness.until(lambda: harness.state(hurt)[0] == "crashed")
        assert harness.state(hurt)[1] == "Bug: in the loop"
        await still_works(harness, hurt)
        assert await harness.leader() != hurt


async def test_a_bug_in_the_sink_ends_its_node_alone(tmp_path: Path) -> None:
    """A recorder never raises; if one did, it would cost one node."""

    class BuggySink:
        def __init__(self, recorder: Recorder) -> None:
            self.recorder = recorder
            self.broken = False

        def record(self, node_id: int | None, fact: Fact | HostFact) -> None:
            if self.broken:
                raise Bug("in the sink")
            self.recorder.record(node_id, fact)

        def stage(self, node_id: int | None, fact: Fact | HostFact) -> None:
            self.record(node_id, fact)

        def flush(self) -> None:
            self.recorder.flush()

    harness = Harness(tmp_path)
    sinks = {node_id: BuggySink(harness.recorder) for node_id in harness.addresses}
    harness.sink_of = sinks.__getitem__
    async with harness.open():
        hurt = (await harness.leader() + 1) % 3
        sinks[hurt].broken = True
        await harness.until(lambda: harness.state(hurt)[0] == "crashed")
        await still_works(harness, hurt)


async def test_a_node_that_cannot_be_opened_is_reported_and_can_be_opened_later(tmp_path: Path) -> None:
    """The builder raises: start says why, revive says why, and later it works."""
    async with Harness(tmp_path).open() as first:
        await first.leader()  # the cluster is born: a node that is absent holds up nobody
    harness = Harness(tmp_path)

    def fail(node_id: int) -> Any:
        if node_id == 2:
            raise Bug("in the builder")
        return harness.open_node(node_id)

    harness.node_of = fail
    async with harness.open():
        assert harness.problems == {2: "Bug: in the builder"}
        await still_works(harness, 2)
        with pytest.raises(BargeError, match="in the builder"):
            await harness.cluster.revive(2)
        harness.node_of = harness.open_node
        assert (await harness.cluster.revive(2)).changed


async def test_waiting_clients_of_a_failed_disk_get_an_error(tmp_path: Path) -> None:
    """storage_failed, applied unknown: the leader's disk fails under a write while its followers are cut off."""
    harness = Harness(tmp_path)
    async with harness.open():
        leader = await harness.leader()
        host, port = harness.addresses[leader].split(":")
        stream = await trio.open_tcp_stream(host, int(port))
        await stream.send_all(b'{"hello":"client","protocol":1,"cluster":"barge"}\n')
        await stream.receive_some()
        disk = DiskFault(node=leader, error="EIO")
        others = [node_id for node_id in harness.addresses if node_id != leader]
        await harness.cluster.set_faults(Faults(groups=[[leader], others], disks=[disk]))
        await stream.send_all(b'{"id":1,"op":"put","key":"a","value":"x"}\n')
        answer = await stream.receive_some()
        assert b'"error":"storage_failed"' in answer
        assert b'"applied":null' in answer
        await harness.until(lambda: harness.state(leader)[0] == "crashed")
        kinds = {kept.fact.kind for kept in harness.recorder.page(None, limit=10_000).events if kept.node == leader}
        assert {"disk_failed", "node_crashed"} <= kinds


async def test_connections_that_say_they_are_a_peer_are_bounded_and_the_peer_comes_back(tmp_path: Path) -> None:
    """OWN-192: without a peer secret anybody can open them; the peer whose connection is closed for one dials again."""
    async with Harness(tmp_path).open() as harness:
        leader = await harness.leader()
        before = (await harness.put("before")).index
        other = (leader + 1) % 3
        node = harness.local.slots[leader].node
        assert isinstance(node, Node)
        hello = PeerHello(
            protocol=PEER_PROTOCOL_VERSION,
            cluster="barge",
            node=leader,
            to=other,
            standing=Raw(msgspec.json.encode(node.replica.core.standing)),
            nonce="n",
        )
        network, silent = SocketNetwork(), []
        for _ in range(50):
            silent.append(await network.connect(*parse_address(harness.addresses[other])))
            silent[-1].post(msgspec.json.encode(hello) + b"\n")
            assert await silent[-1].receive()
        await harness.until(lambda: harness.local.gauges()[other].peer_connections <= 1 + PEER_CONNECTIONS)
        after = (await harness.put("after")).index
        await harness.until(lambda: (harness.local.views()[other].last_applied or 0) >= after > before)
        for connection in silent:
            connection.close()
