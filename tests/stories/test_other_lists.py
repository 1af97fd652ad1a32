"""Hosts that are set up with a `nodes:` list of their own, beside the cluster whose members dial them."""

from pathlib import Path

import pytest
import yaml

from bargetrio.cli.free_ports import free_ports
from tests.cli.run import barge
from tests.stories.daemon import Daemon
from tests.stories.hosts import daemons, readiness, wait_for_reason


@pytest.mark.long
def test_two_new_hosts_with_a_list_of_their_own_begin_no_cluster(tmp_path: Path) -> None:
    """Node 3 of four is new, and its list names itself and another new node: each end says what is wrong."""
    with daemons(tmp_path, 4) as four:
        for daemon in four[:3]:
            daemon.start()
        wait_for_reason(four[0], "it has not met node 3")
        assert barge(tmp_path, "bootstrap", "--yes", "--endpoint", four[0].api).returncode == 0
        four[0].leader()
        other = yaml.safe_load(four[0].configuration.read_text())
        address, api = (f"127.0.0.1:{port}" for port in free_ports(2))
        other["nodes"] = [other["nodes"][3], {"id": 4, "address": address, "api": api}]
        (tmp_path / "other").mkdir()
        configuration = tmp_path / "other" / "configuration.yml"
        configuration.write_text(yaml.safe_dump(other))
        both = [Daemon(configuration, node_id=node_id) for node_id in (3, 4)]
        try:
            both[0].start()
            wait_for_reason(both[0], "belongs to a cluster of nodes 0, 1, 2, 3, and the configuration here names nodes 3, 4")
            both[1].start()
            wait_for_reason(both[1], "or has not taken in this node's disk")
            assert "names nodes 3, 4" in barge(tmp_path, "status", "--endpoint", four[0].api).stdout.decode()
            told = barge(tmp_path / "other", "bootstrap", "--yes", "--endpoint", both[0].api)
            assert (told.returncode, "the configuration here names nodes 3, 4" in told.stderr.decode()) == (1, True)
            assert both[0].put("split", "1").status == 503
            assert "names nodes 3, 4" in readiness(both[0])
        finally:
            for daemon in both:
                daemon.end()
