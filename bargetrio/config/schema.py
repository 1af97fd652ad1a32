"""A valid configuration as frozen objects, named as in the file (docs/configuration.md), and whether it can run here."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from msgspec import Struct

from bargetrio.config.placement import BoundAddress, binding_problems, folder_problem

TOP_KEYS: Final = (
    *("cluster", "api", "data_dir", "timing", "snapshots", "nodes", "allowed_hosts", "api_token_file", "peer_secret_file"),
)
TIMING_KEYS: Final = ("heartbeat_ms", "election_ms", "request_timeout_ms")
SNAPSHOT_KEYS: Final = ("entries", "mib", "trailing_entries")
NODE_KEYS: Final = ("id", "address", "listen", "api")


class ConfigurationError(Exception):
    """The configuration is invalid; the text has all errors, ready to be printed."""


class CannotRunHere(ConfigurationError):
    """The file is valid, but can't run on this machine or as this user."""


class Timing(Struct, frozen=True, kw_only=True):
    """All in milliseconds, as in the file."""

    heartbeat_ms: int = 50
    election_ms: tuple[int, int] = (300, 600)
    request_timeout_ms: int = 5000


class SnapshotSettings(Struct, frozen=True, kw_only=True):
    """When a node takes a snapshot and compacts its log, as in the file."""

    entries: int = 100_000
    mib: int = 64
    trailing_entries: int = 10_000


class NodeConfiguration(Struct, frozen=True, kw_only=True):
    """One node: others dial `address`, it binds `listen` (the same unless given), `api` is its own daemon's REST."""

    id: int
    address: str
    listen: str
    api: str | None = None


class DaemonConfiguration(Struct, frozen=True, kw_only=True):
    """A valid configuration: paths are absolute, secrets are read, ids and addresses are unique."""

    path: Path
    cluster: str
    api: str
    data_dir: Path
    timing: Timing
    snapshots: SnapshotSettings
    nodes: tuple[NodeConfiguration, ...]
    allowed_hosts: tuple[str, ...] = ()
    api_token: bytes | None = None
    peer_secret: bytes | None = None

    def node(self, node_id: int) -> NodeConfiguration:
        """Return the node with this id; raise KeyError."""
        for node in self.nodes:
            if node.id == node_id:
                return node
        raise KeyError(node_id)

    def api_of(self, node_ids: list[int] | None) -> str:
        """Return the REST address of a daemon of these nodes: its first node's own `api`, the common one if it runs all."""
        if node_ids is None:
            return self.api
        api = self.node(node_ids[0]).api
        assert api is not None, "check_runnable comes first"
        return api

    def check_runnable(self, node_ids: list[int] | None) -> None:
        """Raise ConfigurationError unless one daemon can run these nodes (None: all), CannotRunHere unless this host can."""
        if node_ids is not None:
            self._check_chosen(node_ids)
        problems = [*self._folder_problems(node_ids), *self._binding_problems(node_ids)]
        if problems:
            raise CannotRunHere("\n".join(f"{self.path}: {problem}" for problem in problems))

    def _folder_problems(self, node_ids: list[int] | None) -> list[str]:
        """Return the reasons why the nodes' folders can't be used."""
        folders = [self.data_dir / f"node-{node.id}" for node in self.nodes if node_ids is None or node.id in node_ids]
        return list(dict.fromkeys(f"data_dir: {problem}" for problem in map(folder_problem, folders) if problem))

    def _binding_problems(self, node_ids: list[int] | None) -> list[str]:
        """Return the reasons why a daemon of these nodes can't bind its addresses."""
        chosen = [node for node in self.nodes if node_ids is None or node.id in node_ids]
        places = [
            BoundAddress("the API", self.api_of(node_ids)),
            *(BoundAddress(f"node {node.id}", node.listen) for node in chosen),
        ]
        return binding_problems(places)

    def _check_chosen(self, node_ids: list[int]) -> None:
        known = [node.id for node in self.nodes]
        for node_id in node_ids:
            if node_id not in known:
                raise ConfigurationError(f"there is no node {node_id} in {self.path}; it knows {listed(known)}")
        without = [node.id for node in self.nodes if node.api is None]
        if without:
            raise ConfigurationError(f"--node needs an `api` at every node of {self.path}; missing at {listed(without)}")
        if len(set(node_ids)) < len(node_ids):
            raise ConfigurationError("--node names the same node twice")


def listed(values: Iterable[int]) -> str:
    """Return the sorted numbers as text."""
    return ", ".join(str(value) for value in sorted(values))
