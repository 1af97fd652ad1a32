"""A checked configuration as frozen objects, named as in the file (docs/configuration.md), and whether it can run here."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from msgspec import Struct

from bargetrio.config.placement import Bound, binding_problems, folder_problem

TOP_KEYS: Final = (
    *("cluster", "api", "data_dir", "timing", "snapshots", "nodes", "allowed_hosts", "api_token_file", "peer_secret_file"),
)
TIMING_KEYS: Final = ("heartbeat_ms", "election_ms", "request_timeout_ms")
SNAPSHOT_KEYS: Final = ("entries", "mib", "trailing_entries")
NODE_KEYS: Final = ("id", "address", "listen", "api")


class ConfigurationError(Exception):
    """The text says everything that is wrong, ready to be printed."""


class CannotRunHere(ConfigurationError):
    """The file is right, and this machine or this user can't run it."""


class Timing(Struct, frozen=True, kw_only=True):
    """All in milliseconds, as in the file."""

    heartbeat_ms: int = 50
    election_ms: tuple[int, int] = (300, 600)
    request_timeout_ms: int = 5000


class SnapshotSettings(Struct, frozen=True, kw_only=True):
    """When a node saves its state and forgets its log, as in the file."""

    entries: int = 100_000
    mib: int = 64
    trailing_entries: int = 10_000


class NodeConfiguration(Struct, frozen=True, kw_only=True):
    """One node: `address` is what others dial, `listen` what it binds (the same unless given), `api` its own daemon's REST."""

    id: int
    address: str
    listen: str
    api: str | None = None


class Configuration(Struct, frozen=True, kw_only=True):
    """A checked configuration: paths are absolute, secrets are read, ids and addresses are unique."""

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
        """Return where a daemon of these nodes answers: its first node's own `api`, the common one if it runs all."""
        if node_ids is None:
            return self.api
        api = self.node(node_ids[0]).api
        assert api is not None, "check_runnable comes first"
        return api

    def check_runnable(self, node_ids: list[int] | None) -> None:
        """Raise ConfigurationError unless these nodes (all, if None) can be one daemon's, CannotRunHere unless ours."""
        if node_ids is not None:
            self._check_chosen(node_ids)
        problems = [*self._folder_problems(node_ids), *self._binding_problems(node_ids)]
        if problems:
            raise CannotRunHere("\n".join(f"{self.path}: {problem}" for problem in problems))

    def _folder_problems(self, node_ids: list[int] | None) -> list[str]:
        """Return why the nodes' folders can't be used."""
        folders = [self.data_dir / f"node-{node.id}" for node in self.nodes if node_ids is None or node.id in node_ids]
        return list(dict.fromkeys(f"data_dir: {problem}" for problem in map(folder_problem, folders) if problem))

    def _binding_problems(self, node_ids: list[int] | None) -> list[str]:
        """Return why a daemon of these nodes can't listen where it should."""
        chosen = [node for node in self.nodes if node_ids is None or node.id in node_ids]
        places = [Bound("the API", self.api_of(node_ids)), *(Bound(f"node {node.id}", node.listen) for node in chosen)]
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
    """Return the numbers in order, for people."""
    return ", ".join(str(value) for value in sorted(values))
