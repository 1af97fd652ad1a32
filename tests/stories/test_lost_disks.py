"""Disks that are lost or late, as an operator meets them: a process for each node, the command line, and real folders."""

import shutil
from pathlib import Path

import pytest

from tests.cli.run import barge
from tests.stories.daemon import Daemon
from tests.stories.hosts import daemons, readiness, wait_for_reason

PATIENT = "{heartbeat_ms: 50, election_ms: [2000, 4000], request_timeout_ms: 5000}"
"""Only the leader of the time knows what a follower acknowledged: it stays on a busy machine."""
JSON = {"Content-Type": "application/json"}


def lose_disk(daemon: Daemon, node_id: int) -> None:
    """End the daemon, and start it with an empty folder."""
    daemon.kill_9()
    shutil.rmtree(daemon.configuration.parent / "data" / f"node-{node_id}")
    daemon.start()


def metric(daemon: Daemon, sample: str) -> float:
    """Return the value of a sample of /metrics, named as it is there."""
    text = daemon.http("GET", "/metrics").body.decode()
    return next(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(f"{sample} "))


@pytest.mark.long
def test_where_two_disks_of_three_are_lost_no_command_begins_a_second_cluster(tmp_path: Path) -> None:
    """The third node has the data, refuses both, and is there: bootstrap, asked for three seconds, is never taken."""
    with daemons(tmp_path, 3) as all_three:
        for daemon in all_three:
            daemon.start()
        all_three[1].leader()
        assert all_three[1].put("only", "here").status == 201
        # Committed by a majority: that may be nodes 0 and 2, and node 1 learns of it a moment later.
        kept = all_three[1]
        kept.wait_for(lambda: kept.http("GET", "/keys/only?read=stale").status == 200, "node 1 to have it, too", 10)
        for lost in (0, 2):
            lose_disk(all_three[lost], lost)
        for lost in (0, 2):
            wait_for_reason(all_three[lost], f"new to the cluster of node 1: bargetrio readmit {lost}")
            told = barge(tmp_path, "bootstrap", "--yes", "--endpoint", all_three[lost].api)
            assert (told.returncode, "node 1 belongs to a cluster that has begun" in told.stderr.decode()) == (1, True)
        told = barge(tmp_path, "readmit", "0", "--yes")
        assert told.returncode == 5
        assert (
            "2 members beside node 0 must run with a disk that counts, and only node 1 has one that does" in told.stderr.decode()
        )
        assert "list --all --read stale" in told.stderr.decode()
        status = barge(tmp_path, "status").stdout.decode()
        assert "node 2: its disk is new to the cluster of node 1" in status
        left = barge(tmp_path, "list", "--all", "--read", "stale", "--endpoint", all_three[1].api)
        assert "here" in left.stdout.decode()


@pytest.mark.long
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


@pytest.mark.long
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


def test_a_follower_that_lost_what_it_had_acknowledged_says_so_until_it_is_taken_in(tmp_path: Path) -> None:
    """`/readyz` and `/nodes` of its daemon, the leader's event and metric; the readmission waits for the third node's disk."""
    with daemons(tmp_path, 3, timing=PATIENT) as all_three:
        for daemon in all_three:
            daemon.start(wait=False)
        for daemon in all_three:
            daemon.wait_until_live()
        leader = all_three[0].leader()
        lost, third = (node_id for node_id in range(3) if node_id != leader)
        leads, loses = all_three[leader], all_three[lost]
        folder = tmp_path / "data" / f"node-{lost}"
        assert leads.put("before", "1").status == 201
        loses.kill_9()
        shutil.copytree(folder, tmp_path / "copy")
        loses.start()
        for number in range(20):
            assert leads.put(f"k{number}", "v").status == 201
        held = leads.node(leader)["last_log_index"]
        loses.wait_for(lambda: loses.node(lost)["last_applied"] == held, "node to have it all", 20)
        tail_lost = f'barge_events_total{{kind="tail_lost",node="{leader}"}}'
        assert (metric(leads, tail_lost), readiness(loses)) == (0, "")

        loses.kill_9()
        hangs = f'{{"disks":[{{"node":{third},"delay_ms":60000}}]}}'
        leads.http("PUT", "/faults", hangs, JSON)
        assert all_three[third].http("GET", "/faults").json["disks"] == [{"node": third, "delay_ms": 60000, "error": None}]
        shutil.rmtree(folder)
        (tmp_path / "copy").rename(folder)
        loses.start()
        told = "its disk lost entries that it had acknowledged: it is taken in again once the others have committed that"
        loses.wait_for(lambda: told in readiness(loses), "the loss to be told", 20)
        answer = loses.http("GET", "/readyz")
        assert (answer.status, answer.json["title"]) == (503, "This daemon is not ready")
        assert answer.json["detail"] == f"node {lost} takes no part in elections: {told}"
        assert loses.node(lost)["reason"] == told
        assert metric(loses, f'barge_node_may_vote{{node="{lost}"}}') == 0
        assert (metric(leads, tail_lost), readiness(leads)) == (1, "")
        (event,) = leads.events("tail_lost", node=leader)
        assert (event["peer"], event["index"]) == (lost, held)

        assert leads.http("PUT", "/faults", "{}", JSON).status == 200
        loses.wait_for(lambda: readiness(loses) == "", "node to be taken in", 30)
        assert metric(loses, f'barge_node_may_vote{{node="{lost}"}}') == 1
        assert loses.node(lost)["last_applied"] >= held
