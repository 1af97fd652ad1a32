"""/metrics for Prometheus: read at the moment of asking from the cluster's border, nothing is counted twice."""

from collections.abc import Iterable
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from bargetrio.cluster.port import NodeView

ROLES: Final = ("follower", "pre_candidate", "candidate", "leader")
STATES: Final = ("running", "killed", "crashed")


class Figures:
    """What is counted in this daemon; the application keeps `requests`, the rest is asked when needed."""

    def __init__(self) -> None:
        self.requests: dict[tuple[str, str, int], int] = {}

    def count(self, method: str, route: str, status: int) -> None:
        """Count one answered request, by route pattern (never by path: those are endless)."""
        key = method, route, status
        self.requests[key] = self.requests.get(key, 0) + 1


class _Snapshot(Collector):
    def __init__(
        self, nodes: list[NodeView], counts: dict[tuple[int | None, str], int], figures: Figures, keys: int, in_flight: int
    ) -> None:
        self._nodes = nodes
        self._counts = counts
        self._figures = figures
        self._keys = keys
        self._in_flight = in_flight

    def collect(self) -> Iterable[Metric]:
        """Yield every figure."""
        yield from self._of_nodes()
        events = CounterMetricFamily("barge_events", "Events by node and kind, heartbeats included.", labels=("node", "kind"))
        for (node, kind), count in sorted(self._counts.items(), key=str):
            events.add_metric(("" if node is None else str(node), kind), count)
        yield events
        requests = CounterMetricFamily("barge_http_requests", "Answered requests.", labels=("method", "route", "status"))
        for (method, route, status), count in sorted(self._figures.requests.items()):
            requests.add_metric((method, route, str(status)), count)
        yield requests
        yield GaugeMetricFamily("barge_keys", "Keys in the store of this daemon's most advanced node.", value=self._keys)
        yield GaugeMetricFamily("barge_http_in_flight", "Requests being answered.", value=self._in_flight)

    def _of_nodes(self) -> Iterable[Metric]:
        state = GaugeMetricFamily("barge_node_state", "1 for the node's state, 0 for the others.", labels=("node", "state"))
        role = GaugeMetricFamily("barge_node_role", "1 for the node's role, 0 for the others.", labels=("node", "role"))
        gauges = {
            "term": GaugeMetricFamily("barge_term", "The node's current term.", labels=("node",)),
            "commit_index": GaugeMetricFamily("barge_commit_index", "The highest entry known as committed.", labels=("node",)),
            "last_applied": GaugeMetricFamily("barge_last_applied", "The highest entry applied.", labels=("node",)),
            "last_log_index": GaugeMetricFamily("barge_last_log_index", "The log's last entry.", labels=("node",)),
        }
        has_leader = GaugeMetricFamily("barge_has_leader", "1 if the node knows a leader.", labels=("node",))
        for node in self._nodes:
            name = str(node.id)
            for each in STATES:
                state.add_metric((name, each), float(node.state == each))
            for each in ROLES:
                role.add_metric((name, each), float(node.role == each))
            has_leader.add_metric((name,), float(node.leader is not None))
            for field, gauge in gauges.items():
                value = getattr(node, field)
                if value is not None:
                    gauge.add_metric((name,), value)
        return (state, role, has_leader, *gauges.values())


def text_of(
    nodes: list[NodeView], counts: dict[tuple[int | None, str], int], figures: Figures, keys: int, in_flight: int
) -> bytes:
    """Return the figures in Prometheus' text form."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Snapshot(nodes, counts, figures, keys, in_flight))
    return generate_latest(registry)
