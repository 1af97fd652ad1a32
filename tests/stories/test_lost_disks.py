"""Disks that are lost or late, as an operator meets them: a process for each node, the command line, and real folders."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.run import barge
from tests.stories.daemon import Daemon, write_configuration


@contextmanager
def daemons(folder: Path, size: int) -> Iterator[list[Daemon]]:
    """A process for each node; none of them runs yet."""
    configuration = write_configuration(folder, size)
    found = [Daemon(configuration, node_id=node_id) for node_id in range(size)]
    try:
        yield found
    finally:
        for daemon in found:
            daemon.end()


def lose_disk(daemon: Daemon, node_id: int) -> None:
    """End the daemon, and start it with an empty folder."""
    daemon.kill_9()
    shutil.rmtree(daemon.configuration.parent / "data" / f"node-{node_id}")
    daemon.start()


def readiness(daemon: Daemon) -> str:
    """Return why the daemon is not ready, "" if it is."""
    answer = daemon.http("GET", "/readyz")
    return "" if answer.status == 200 else str(answer.json["detail"])


def wait_for_reason(daemon: Daemon, reason: str) -> None:
    """Return when the daemon is not ready for this reason."""
    daemon.wait_for(lambda: reason in readiness(daemon), reason, 10)


@pytest.mark.long
def test_where_two_disks_of_three_are_lost_no_command_begins_a_second_cluster(tmp_path: Path) -> None:
    """The third node has the data, refuses both, and is there: bootstrap, asked for three seconds, is never taken."""
    with daemons(tmp_path, 3) as all_three:
        for daemon in all_three:
            daemon.start()
        all_three[1].leader()
        assert all_three[1].put("only", "here").status == 201
        for lost in (0, 2):
            lose_disk(all_three[lost], lost)
        for lost in (0, 2):
            wait_for_reason(all_three[lost], f"new to the cluster of node 1: bargetrio readmit {lost}")
            told = barge(tmp_path, "bootstrap", "--yes", "--endpoint", all_three[lost].api)
            assert (told.returncode, "node 1 belongs to a cluster that has begun" in told.stderr.decode()) == (1, True)
        told = barge(tmp_path, "readmit", "0", "--yes")
        assert told.returncode == 5
        assert "of the members but node 0, with disks that count, 1 runs, and 2 must" in told.stderr.decode()
        assert "list --all --read stale" in told.stderr.decode()
        status = barge(tmp_path, "status").stdout.decode()
        assert "node 2: its disk is new to the cluster of node 1" in status
        left = barge(tmp_path, "list", "--all", "--read", "stale", "--endpoint", all_three[1].api)
        assert "here" in left.stdout.decode()


def test_a_readmission_in_a_cluster_of_two_is_refused_with_what_is_left_to_do(tmp_path: Path) -> None:
    """There is no leader to say so: the daemon does."""
    with daemons(tmp_path, 2) as both:
        for daemon in both:
            daemon.start()
        leader = both[0].leader()
        lost = 1 - leader
        lose_disk(both[lost], lost)
        both[leader].wait_for(lambda: both[leader].http("GET", "/leader").status == 503, "the end of its office", 10)
        told = barge(tmp_path, "readmit", str(lost), "--yes")
        assert told.returncode == 1
        assert f"of 2 members a majority of 2 can't be had without node {lost}: what is left is a backup" in told.stderr.decode()


def test_a_cluster_is_born_without_a_member_that_is_late(tmp_path: Path) -> None:
    """Readiness and status name the missing members; after a bootstrap two begin, and the third is readmitted."""
    with daemons(tmp_path, 3) as all_three:
        for daemon in all_three[:2]:
            daemon.start()
        wait_for_reason(all_three[0], "it has not met node 2")
        assert "node 1: the cluster is not born, for it has not met node 2" in barge(tmp_path, "status").stdout.decode()
        assert barge(tmp_path, "bootstrap", given=b"n\n").returncode == 1
        assert all_three[0].http("GET", "/leader").status == 503
        assert barge(tmp_path, "bootstrap", "--yes", "--endpoint", all_three[1].api).returncode == 0
        all_three[0].leader()
        assert all_three[0].put("a", "1").status == 201
        all_three[2].start()
        wait_for_reason(all_three[2], "bargetrio readmit 2")
        assert barge(tmp_path, "readmit", "2", "--yes").returncode == 0
        all_three[2].wait_for(lambda: readiness(all_three[2]) == "", "node 2 to vote", 10)
        assert all_three[2].get("a").json["value"] == "1"
