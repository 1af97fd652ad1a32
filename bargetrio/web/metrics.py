"""/metrics for Prometheus, collected from the cluster at each request (docs/metrics.md)."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from bargetrio import __version__
from bargetrio.cluster.cluster import Cluster
from bargetrio.cluster.local_nodes import Histogram, NodeFigures, NodeGauges
from bargetrio.protocol.events import KINDS
from bargetrio.protocol.views import NodeView
from bargetrio.web.targets import PATHS

ROLES: Final = ("follower", "pre_candidate", "candidate", "leader")
STATES: Final = ("starting", "running", "killed", "crashed")
NODE: Final = ("node",)
PEER: Final = ("node", "peer")
METHODS: Final = frozenset({"GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS"})
OTHER: Final = "other"


class WebCounters:
    """The counters of the HTTP server; other metrics are collected when requested."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str, int]] = Counter()
        self.bulk_lines: Counter[str] = Counter(ok=0)
        """Answered lines of bulk writes by their error, or "ok"."""

    def count(self, method: str, route: str, status: int) -> None:
        """Count one answered request. Labels are bounded: an unknown method or route is "other"."""
        known = method if method in METHODS else OTHER
        self.requests[known, route if route in PATHS else OTHER, status] += 1


class WebGauges:
    """Present numbers of requests and connections."""

    def __init__(self, *, in_flight: int, streams: int, transfers: int, connections: int) -> None:
        self.in_flight = in_flight
        self.streams = streams
        self.transfers = transfers
        self.connections = connections


class ProcessFigures(ProcessCollector):
    """The process metrics. The library's collector has none if /proc/stat is hidden (ProcSubset=pid)."""

    def _boot_time(self) -> float:
        return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


class _Snapshot(Collector):
    def __init__(self, cluster: Cluster, nodes: list[NodeView], figures: WebCounters, web: WebGauges) -> None:
        self._cluster = cluster
        self._nodes = nodes
        self._figures = figures
        self._web = web

    def collect(self) -> Iterable[Metric]:
        """Yield all metrics."""
        yield from _states(self._nodes)
        yield from _followers(self._nodes)
        yield from _sizes(self._cluster.local.gauges())
        yield from _counters(self._cluster.local.figures())
        yield from _links(self._cluster.local.figures())
        yield from self._of_daemon()
        yield from ProcessFigures(registry=None).collect()

    def _of_daemon(self) -> Iterable[Metric]:
        info = GaugeMetricFamily("barge_info", "Always 1; the label is the version of Barge.", labels=("cluster", "version"))
        info.add_metric((self._cluster.cluster_name, __version__), 1)
        yield info
        yield _gauge("barge_cluster_nodes", "Nodes that the cluster has by its configuration.", len(self._cluster.node_ids))
        events = CounterMetricFamily("barge_events", "Events by node and kind, heartbeats included.", labels=("node", "kind"))
        # Zeros are exported, too: Prometheus sees no increase in a counter that begins at 1.
        counts: dict[tuple[int | None, str], int] = {(node, kind): 0 for node in self._cluster.local_ids for kind in KINDS}
        for (node, kind), count in sorted((counts | self._cluster.local.event_counts()).items(), key=str):
            events.add_metric(("" if node is None else str(node), kind), count)
        yield events
        requests = CounterMetricFamily("barge_http_requests", "Answered requests.", labels=("method", "route", "status"))
        for (method, route, status), count in sorted(self._figures.requests.items()):
            requests.add_metric((method, route, str(status)), count)
        yield requests
        lines = CounterMetricFamily("barge_bulk_lines", "Answered lines of bulk writes.", labels=("outcome",))
        for outcome, count in sorted(self._figures.bulk_lines.items()):
            lines.add_metric((outcome,), count)
        yield lines
        yield _gauge("barge_http_in_flight", "Requests being answered.", self._web.in_flight)
        yield _gauge("barge_http_streams", "Event streams being sent.", self._web.streams)
        yield _gauge("barge_http_transfers", "Bulk writes and backups under way.", self._web.transfers)
        yield _gauge("barge_http_connections", "Open connections to the API.", self._web.connections)
        lag = HistogramMetricFamily("barge_event_loop_lag_seconds", "How late a task wakes that sleeps for 0.1 s.")
        lag.add_metric((), *_buckets(self._cluster.local.loop_lag))
        yield lag


def _states(nodes: Sequence[NodeView]) -> Iterable[Metric]:
    state = GaugeMetricFamily("barge_node_state", "1 for the node's state, 0 for the others.", labels=("node", "state"))
    role = GaugeMetricFamily("barge_node_role", "1 for the running node's role, 0 for the others.", labels=("node", "role"))
    may_vote = GaugeMetricFamily("barge_node_may_vote", "0 if the running node abstains from elections.", labels=NODE)
    has_leader = GaugeMetricFamily("barge_has_leader", "1 if the running node knows a leader.", labels=NODE)
    gauges = {
        "term": GaugeMetricFamily("barge_term", "The node's current term.", labels=NODE),
        "commit_index": GaugeMetricFamily("barge_commit_index", "The highest entry known as committed.", labels=NODE),
        "last_applied": GaugeMetricFamily("barge_last_applied", "The highest entry applied.", labels=NODE),
        "last_log_index": GaugeMetricFamily("barge_last_log_index", "The log's last entry.", labels=NODE),
    }
    for node in nodes:
        name = str(node.id)
        for each in STATES:
            state.add_metric((name, each), float(node.state == each))
        if node.state != "running":
            continue
        for each in ROLES:
            role.add_metric((name, each), float(node.role == each))
        may_vote.add_metric((name,), float(node.may_vote is True))
        has_leader.add_metric((name,), float(node.leader is not None))
        for field, gauge in gauges.items():
            gauge.add_metric((name,), getattr(node, field) or 0)
    return (state, role, may_vote, has_leader, *gauges.values())


def _followers(nodes: Sequence[NodeView]) -> Iterable[Metric]:
    connected = GaugeMetricFamily("barge_peer_connected", "1 if the node's link to the peer is up.", labels=PEER)
    behind = GaugeMetricFamily(
        "barge_peer_behind_entries",
        "Entries of the leader's log that the peer is not known to hold.",
        labels=PEER,
    )
    for node in nodes:
        for peer in node.peers:
            names = str(node.id), str(peer.id)
            connected.add_metric(names, float(peer.connected))
            if peer.match_index is not None and node.last_log_index is not None:
                behind.add_metric(names, node.last_log_index - peer.match_index)
    return connected, behind


def _sizes(nodes: Mapping[int, NodeGauges]) -> Iterable[Metric]:
    for field, name, text in (
        ("keys", "barge_keys", "Keys in the node's store."),
        ("log_entries", "barge_log_entries", "Entries in the node's log."),
        ("log_bytes", "barge_log_bytes", "Bytes of their commands."),
        ("free_bytes", "barge_disk_free_bytes", "What the node's user can still write on its disk."),
        ("lacks_room", "barge_disk_nearly_full", "1 if that is so little that the node proposes no writes."),
        ("oldest_write_s", "barge_oldest_write_seconds", "For how long the write of the log that is in flight has run."),
        ("proposals_pending", "barge_proposals_pending", "Writes that the leader has proposed and not yet applied."),
        (
            "client_connections",
            "barge_client_connections",
            "Connections of clients to the node's port; an API is a client, too.",
        ),
        ("peer_connections", "barge_peer_connections", "Connections of peers to the node's port."),
    ):
        family = GaugeMetricFamily(name, text, labels=NODE)
        for node_id, gauges in nodes.items():
            if getattr(gauges, field) is not None:
                family.add_metric((str(node_id),), getattr(gauges, field))
        yield family


def _counters(nodes: Mapping[int, NodeFigures]) -> Iterable[Metric]:
    for field, name, text in (
        ("elections", "barge_elections", "Elections that the node has begun, pre-votes not counted."),
        ("leader_changes", "barge_leader_changes", "Terms in which the node has seen a leader."),
        ("proposals_committed", "barge_proposals_committed", "Writes that were committed and answered by the node."),
        ("snapshots_taken", "barge_snapshots_taken", "Snapshots that the node has taken."),
        ("snapshot_seconds", "barge_snapshot_seconds", "Seconds that this took in all."),
        ("snapshot_bytes", "barge_snapshot_bytes", "Their bytes."),
        ("snapshots_sent", "barge_snapshots_sent", "Snapshots that the node has sent to followers."),
        ("snapshot_bytes_sent", "barge_snapshot_sent_bytes", "Their bytes."),
        ("snapshots_installed", "barge_snapshots_installed", "Snapshots of a leader that replaced the node's state."),
    ):
        family = CounterMetricFamily(name, text, labels=NODE)
        for node_id, figures in nodes.items():
            family.add_metric((str(node_id),), getattr(figures, field))
        yield family
    failed = CounterMetricFamily(
        "barge_proposals_failed", "Writes that were refused, or whose outcome is unknown, by error.", labels=("node", "error")
    )
    commit = HistogramMetricFamily(
        "barge_commit_seconds", "From proposal to application at the leader, of the oldest write of each batch.", labels=NODE
    )
    fsync = HistogramMetricFamily("barge_fsync_seconds", "Writing and syncing a batch to the log.", labels=NODE)
    for node_id, figures in nodes.items():
        for error, count in figures.proposals_failed.items():
            failed.add_metric((str(node_id), error), count)
        commit.add_metric((str(node_id),), *_buckets(figures.commit))
        fsync.add_metric((str(node_id),), *_buckets(figures.fsync))
    yield from (failed, commit, fsync)


def _links(nodes: Mapping[int, NodeFigures]) -> Iterable[Metric]:
    for field, name, text in (
        ("sent_messages", "barge_peer_sent_messages", "Messages sent to the peer."),
        ("sent_bytes", "barge_peer_sent_bytes", "Bytes sent to the peer."),
        ("received_bytes", "barge_peer_received_bytes", "Bytes received from the peer."),
        (
            "lost_messages",
            "barge_peer_lost_messages",
            "Messages to the peer that were dropped here.",
        ),
        ("link_failures", "barge_peer_link_failures", "Links to the peer that broke, and dials that failed."),
    ):
        family = CounterMetricFamily(name, text, labels=PEER)
        for node_id, figures in nodes.items():
            for peer_id, peer in sorted(figures.peers.items()):
                family.add_metric((str(node_id), str(peer_id)), getattr(peer, field))
        yield family
    round_trip = HistogramMetricFamily(
        "barge_peer_round_trip_seconds", "From an append to the peer's answer, its disk included; one at a time.", labels=PEER
    )
    for node_id, figures in nodes.items():
        for peer_id, peer in sorted(figures.peers.items()):
            round_trip.add_metric((str(node_id), str(peer_id)), *_buckets(peer.round_trip))
    yield round_trip


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _buckets(histogram: Histogram) -> tuple[list[tuple[str, float]], float]:
    """Return the cumulative counts up to each bound, and the sum."""
    total = 0
    buckets: list[tuple[str, float]] = []
    for bound, count in zip((*histogram.bounds, float("inf")), histogram.counts, strict=True):
        total += count
        buckets.append(("+Inf" if bound == float("inf") else str(bound), total))
    return buckets, histogram.total_s


def text_of(cluster: Cluster, nodes: list[NodeView], figures: WebCounters, web: WebGauges) -> bytes:
    """Return the metrics in Prometheus' text format; `nodes` are those of this daemon."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Snapshot(cluster, nodes, figures, web))
    return generate_latest(registry)
