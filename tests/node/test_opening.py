"""A node exists whole or not at all: what it took is given back where it can't start, and when it has ended."""

from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
import trio

from bargetrio.cli.free_ports import free_ports
from bargetrio.node.opening import open_node
from bargetrio.node.server import Node
from bargetrio.node.settings import NodeSettings
from bargetrio.storage.real_disk import RealDisk
from bargetrio.transport.faults import LinkFaults
from tests.replica.hosts import Nobody


def life(folder: Path, port: int) -> AbstractAsyncContextManager[Node]:
    address = f"127.0.0.1:{port}"
    settings = NodeSettings(
        cluster="c",
        node_id=0,
        listen=address,
        addresses={0: address},
        heartbeat_s=0.05,
        election_s=(0.3, 0.6),
        request_timeout_s=1,
    )
    return open_node(settings, disk=RealDisk(folder), sink=Nobody(), link_faults=LinkFaults())


async def test_a_node_whose_port_is_taken_gives_its_folder_back(tmp_path: Path) -> None:
    """It had recovered by then."""
    (port,) = free_ports(1)
    with trio.fail_after(10):
        listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
        with pytest.raises(OSError):
            async with life(tmp_path, port):
                pytest.fail("there is a node")
        await listeners[0].aclose()
        async with life(tmp_path, port) as node:
            assert node.status().role == "follower"


async def test_a_node_whose_context_was_left_has_ended(tmp_path: Path) -> None:
    """Its port refuses, its replica makes no step, its folder is free; what ended it is raised as it was."""
    (port,) = free_ports(1)
    with trio.fail_after(10):
        with pytest.raises(ZeroDivisionError):
            async with life(tmp_path, port) as node:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(node.run)
                    while node.belief().leader is None:
                        await trio.sleep(0.01)
                    nursery.cancel_scope.cancel()
                raise ZeroDivisionError
        assert node.replica.step(0.0) == float("inf")
        with pytest.raises(OSError):
            await trio.open_tcp_stream("127.0.0.1", port)
        async with life(tmp_path, port) as node:
            assert node.status().term >= 1, "it remembers"
