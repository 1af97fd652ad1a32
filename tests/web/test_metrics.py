"""/metrics of a real daemon, docs/metrics.md and docs/alerts.yml: three that must agree."""

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import ProcessCollector
from prometheus_client.parser import text_string_to_metric_families

from bargetrio.node.figures import NodeGauges
from bargetrio.protocol.views import NodeView, PeerView
from bargetrio.replica.figures import Histogram, NodeFigures
from bargetrio.web.metrics import ProcessFigures, WebCounters, WebGauges, text_of
from tests.stories.daemon import Daemon, running

DOCS = Path(__file__).parents[2] / "docs"
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    timing = "{heartbeat_ms: 50, election_ms: [300, 600], request_timeout_ms: 700}"
    with running(tmp_path_factory.mktemp("metrics"), timing=timing) as daemon:
        yield daemon


def samples(daemon: Daemon) -> Samples:
    """Return what /metrics says, by name and labels."""
    text = daemon.http("GET", "/metrics").body.decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(found: Samples, name: str, **labels: object) -> float:
    """Return one of them, 0 of what has not happened yet."""
    return found.get((name, frozenset((label, str(is_)) for label, is_ in labels.items())), 0.0)


def test_the_table_lists_every_metric_and_no_other(daemon: Daemon) -> None:
    """Name, type, labels."""
    daemon.http("POST", "/keys", b'{"key":"a","value":"1"}\n', {"Content-Type": "application/x-ndjson"})
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|([\w, ]*)\|", (DOCS / "metrics.md").read_text(), re.MULTILINE)
    told = {name: (kind, frozenset(filter(None, labels.replace(" ", "").split(",")))) for name, kind, labels in rows}
    given: dict[str, tuple[str, frozenset[str]]] = {}
    for family in text_string_to_metric_families(daemon.http("GET", "/metrics").body.decode()):
        name = family.name + ("_total" if family.type == "counter" else "")
        assert family.samples, f"{name} has nothing to tell"
        labels = {frozenset(sample.labels) - {"le"} for sample in family.samples}
        assert len(labels) == 1, name
        given[name] = family.type, labels.pop()
    assert given == told


def test_the_process_has_its_metrics_where_proc_stat_is_hidden(tmp_path: Path) -> None:
    """systemd's ProcSubset=pid, as in our units, leaves the processes' own folders and nothing else of /proc."""
    (tmp_path / "self").symlink_to("/proc/self")
    assert not (tmp_path / "stat").exists()
    found = {family.name: family.samples[0].value for family in ProcessFigures(registry=None, proc=str(tmp_path)).collect()}
    rows = re.findall(r"^\| `(process_\w+)` \|", (DOCS / "metrics.md").read_text(), re.MULTILINE)
    assert set(found) == {name.removesuffix("_total") for name in rows}
    usual = {family.name: family.samples[0].value for family in ProcessCollector(registry=None).collect()}
    if usual:  # the test itself may run where /proc/stat is hidden
        assert abs(found["process_start_time_seconds"] - usual["process_start_time_seconds"]) < 2


def test_alerts_ask_only_for_what_there_is(daemon: Daemon) -> None:
    """docs/alerts.yml is YAML of the right shape; its expressions name metrics that exist."""
    document = yaml.safe_load((DOCS / "alerts.yml").read_text())
    rules = [rule for group in document["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules) > 10
    names = {name for name, _ in samples(daemon)} | {"up"}
    for rule in rules:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}, rule["alert"]
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"]
        asked = set(re.findall(r"\b(?:barge|process)_\w+|\bup\b", rule["expr"]))
        assert asked, rule["alert"]
        assert asked <= names, rule["alert"]
        assert rule["expr"].count("(") == rule["expr"].count(")")


def test_the_metric_of_an_alert_exists_before_its_first_event(daemon: Daemon) -> None:
    """`increase` sees nothing in a counter that begins at 1: the first failed disk would raise no alarm."""
    found = samples(daemon)
    for kind in ("disk_failed", "node_crashed"):
        assert found["barge_events_total", frozenset({("node", "0"), ("kind", kind)})] == 0


def test_a_write_is_counted_on_its_way(daemon: Daemon) -> None:
    """Committed, timed, synced, sent and answered."""
    leader = daemon.leader()
    follower = (leader + 1) % 3
    before = samples(daemon)
    for number in range(20):
        daemon.put(f"w{number}", "x")
    after = samples(daemon)

    def more(name: str, **labels: object) -> float:
        return value(after, name, **labels) - value(before, name, **labels)

    assert more("barge_proposals_committed_total", node=leader) == 20
    assert more("barge_commit_seconds_count", node=leader) == 20
    assert 0 < more("barge_commit_seconds_sum", node=leader) < 20
    # One node may lag behind the other two, and then sync several writes as one: only both nodes of a majority together need 40.
    assert sum(more("barge_fsync_seconds_count", node=node_id) for node_id in range(3)) >= 40
    assert more("barge_fsync_seconds_count", node=follower) > 0
    assert more("barge_peer_round_trip_seconds_count", node=leader, peer=follower) > 0
    assert more("barge_peer_sent_bytes_total", node=leader, peer=follower) > 20 * 50
    assert more("barge_peer_received_bytes_total", node=follower, peer=leader) > 0
    assert more("barge_http_requests_total", method="PUT", route="/keys/<key>", status=201) == 20
    assert value(after, "barge_keys", node=leader) >= 20
    assert value(after, "barge_client_connections", node=leader) == 0  # the daemon asks its own node without one
    host, _, port = daemon.addresses[leader].rpartition(":")
    with socket.create_connection((host, int(port)), 5) as client:
        client.sendall(b'{"hello":"client","protocol":1,"cluster":"barge"}\n')
        assert client.recv(1000)
        assert value(samples(daemon), "barge_client_connections", node=leader) == 1
    assert value(after, "barge_peer_connections", node=leader) == 2
    assert value(after, "barge_http_connections") >= 1
    assert value(after, "barge_event_loop_lag_seconds_count") > 0


def test_bulk_lines_are_counted_by_their_outcome(daemon: Daemon) -> None:
    """Good and bad ones."""
    before = samples(daemon)
    daemon.http(
        "POST", "/keys", b'{"key":"b1","value":"x"}\ngarbage\n{"key":"b2","value":"x"}', {"Content-Type": "application/x-ndjson"}
    )
    after = samples(daemon)
    assert value(after, "barge_bulk_lines_total", outcome="ok") - value(before, "barge_bulk_lines_total", outcome="ok") == 2
    assert value(after, "barge_bulk_lines_total", outcome="bad_request") >= 1


def test_counters_do_not_fall_when_nodes_die(daemon: Daemon) -> None:
    """A write without a quorum fails as unknown; killed and revived, every node continues its counters."""
    leader = daemon.leader()
    followers = [node_id for node_id in range(3) if node_id != leader]
    before = samples(daemon)
    for node_id in followers:
        daemon.kill_node(node_id)
    assert daemon.put("alone", "x").status == 504
    dead = samples(daemon)
    assert value(dead, "barge_proposals_failed_total", node=leader, error="outcome_unknown") >= 1
    assert value(dead, "barge_node_state", node=followers[0], state="killed") == 1
    assert ("barge_term", frozenset({("node", str(followers[0]))})) not in dead
    daemon.kill_node(leader)
    for node_id in range(3):
        daemon.revive_node(node_id)
    daemon.leader()
    daemon.wait_for(daemon.caught_up, "the cluster to catch up")
    after = samples(daemon)
    for (name, labels), count in before.items():
        if name.endswith(("_total", "_count", "_bucket")):
            assert after[name, labels] >= count, (name, labels)
    assert sum(value(after, "barge_elections_total", node=node_id) for node_id in range(3)) >= 2
    assert value(after, "barge_leader_changes_total", node=leader) >= value(before, "barge_leader_changes_total", node=leader) + 1


class Counted:
    """A cluster of which one node runs here; no figure has the value of another."""

    cluster_name, node_ids, local_ids = "barge", [0, 1, 2], [0]

    @property
    def local(self) -> "Counted":
        """Its own nodes are all there are."""
        return self

    def __init__(self) -> None:
        self.loop_lag = Histogram()
        self.node = NodeFigures()
        self.node.elections, self.node.leader_changes, self.node.proposals_committed = 11, 12, 13
        self.node.snapshots_taken, self.node.snapshot_seconds, self.node.snapshot_bytes = 14, 1.5, 16
        self.node.snapshots_sent, self.node.snapshot_bytes_sent, self.node.snapshots_installed = 17, 18, 19
        self.node.proposals_failed["overloaded"] = 20
        peer = self.node.peer(2)
        peer.sent_messages, peer.sent_bytes, peer.received_bytes, peer.lost_messages, peer.link_failures = 21, 22, 23, 24, 25
        for seconds in (0.0001, 0.0002, 0.0002, 0.3, 60.0):
            self.node.fsync.observe(seconds)

    def figures(self) -> dict[int, NodeFigures]:
        return {0: self.node}

    def gauges(self) -> dict[int, NodeGauges]:
        return {
            0: NodeGauges(
                keys=31,
                log_entries=32,
                log_bytes=33,
                proposals_pending=34,
                free_bytes=35,
                lacks_room=False,
                oldest_write_s=3.5,
                client_connections=37,
                peer_connections=38,
            )
        }

    def event_counts(self) -> dict[tuple[int | None, str], int]:
        return {(0, "applied"): 41, (None, "faults_changed"): 42}


def test_each_metric_has_its_own_name() -> None:
    """As it was counted; of a histogram how many were no longer than each bound, and the sum."""
    peers = [PeerView(id=1, connected=False), PeerView(id=2, connected=True, match_index=95, next_index=99, progress="replicate")]
    node = NodeView(
        id=0,
        address="",
        api="",
        state="running",
        role="leader",
        term=51,
        leader=0,
        may_vote=True,
        commit_index=52,
        last_applied=50,
        last_log_index=100,
        peers=peers,
    )
    cluster: Any = Counted()
    web = WebGauges(in_flight=61, streams=62, transfers=63, connections=64)
    figures = WebCounters()
    figures.bulk_lines["ok"] = 71
    figures.requests["PUT", "/keys/<key>", 201] = 72
    text = text_of(cluster, [node], figures, web).decode()
    found = {
        (sample.name.removeprefix("barge_"), tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }

    def sample_of(name: str, **labels: str) -> float:
        return found[name, tuple(sorted(labels.items()))]

    of_node = {
        **{"elections_total": 11, "leader_changes_total": 12, "proposals_committed_total": 13, "snapshots_taken_total": 14},
        **{
            "snapshot_seconds_total": 1.5,
            "snapshot_bytes_total": 16,
            "snapshots_sent_total": 17,
            "snapshot_sent_bytes_total": 18,
        },
        **{"snapshots_installed_total": 19, "keys": 31, "log_entries": 32, "log_bytes": 33, "proposals_pending": 34},
        **{"disk_free_bytes": 35, "disk_nearly_full": 0, "oldest_write_seconds": 3.5, "client_connections": 37},
        **{"peer_connections": 38, "term": 51, "commit_index": 52, "last_applied": 50, "last_log_index": 100},
        **{"node_may_vote": 1, "has_leader": 1, "fsync_seconds_count": 5, "fsync_seconds_sum": pytest.approx(60.3005)},
    }
    assert {name: sample_of(name, node="0") for name in of_node} == of_node
    of_peer = {"sent_messages_total": 21, "sent_bytes_total": 22, "received_bytes_total": 23, "lost_messages_total": 24}
    of_peer |= {"link_failures_total": 25, "connected": 1, "behind_entries": 5}
    assert {name: sample_of(f"peer_{name}", node="0", peer="2") for name in of_peer} == of_peer
    assert sample_of("peer_connected", node="0", peer="1") == 0
    bounds = {"0.0001": 1, "0.00025": 3, "0.0005": 3, "0.25": 3, "0.5": 4, "10.0": 4, "+Inf": 5}
    assert {bound: sample_of("fsync_seconds_bucket", node="0", le=bound) for bound in bounds} == bounds
    assert sample_of("proposals_failed_total", node="0", error="overloaded") == 20
    assert (sample_of("events_total", node="0", kind="applied"), sample_of("events_total", node="", kind="faults_changed")) == (
        41,
        42,
    )
    assert [sample_of(f"http_{name}") for name in ("in_flight", "streams", "transfers", "connections")] == [61, 62, 63, 64]
    assert sample_of("bulk_lines_total", outcome="ok") == 71
    assert sample_of("http_requests_total", method="PUT", route="/keys/<key>", status="201") == 72
    roles = {role: sample_of("node_role", node="0", role=role) for role in ("leader", "follower", "candidate")}
    assert roles == {"leader": 1, "follower": 0, "candidate": 0}
