"""configuration.yml as frozen objects; every mistake in it is told at once, with line and caret (docs/configuration.md)."""

from pathlib import Path

from msgspec import Struct


class ConfigurationError(Exception):
    """The text says everything that is wrong, ready to be printed."""


class Timing(Struct, frozen=True, kw_only=True):
    """All in milliseconds, as in the file."""

    heartbeat_ms: int = 50
    election_ms: tuple[int, int] = (300, 600)
    request_timeout_ms: int = 5000


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


def load(path: Path) -> Configuration:
    """Read and check the file; raise ConfigurationError that lists every mistake."""
    raise NotImplementedError


def parse_address(text: str) -> tuple[str, int]:
    """Return (host, port) of "127.0.0.1:8101" or "[::1]:8101"; raise ValueError saying what is wrong."""
    raise NotImplementedError
