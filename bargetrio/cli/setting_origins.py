"""The origin of each value of a configuration, for `bargetrio config show`: a line of the file, the environment, a default."""

import os
from typing import Any

import yaml
from msgspec import Struct

from bargetrio.config import NODE_KEYS, SNAPSHOT_KEYS, TIMING_KEYS, DaemonConfiguration

DEFAULT = "default"


class Setting(Struct, frozen=True, kw_only=True):
    """One value, named as in docs/configuration.md, and its origin."""

    name: str
    value: Any
    origin: str

    @property
    def text(self) -> str:
        """The value as in the file."""
        match self.value:
            case None:
                return "-"
            case list() | tuple():
                return "[" + ", ".join(str(item) for item in self.value) + "]"
        return str(self.value)


def settings(configuration: DaemonConfiguration) -> list[Setting]:
    """Return every value in force, in the order of the documentation; of secrets only that they are set."""
    return _Settings(configuration).all()


class _Settings:
    def __init__(self, configuration: DaemonConfiguration) -> None:
        self._found = configuration
        self._root = yaml.compose(configuration.path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)

    def all(self) -> list[Setting]:
        found = self._found
        result = [
            self._setting("cluster", found.cluster, "cluster"),
            self._setting("api", found.api, "api"),
            self._data_dir(),
        ]
        for group, keys in (("timing", TIMING_KEYS), ("snapshots", SNAPSHOT_KEYS)):
            values = getattr(found, group)
            result += [self._setting(f"{group}.{key}", getattr(values, key), group, key) for key in keys]
        for place, node in enumerate(found.nodes):
            for key in NODE_KEYS:
                listens_there = key == "listen" and self._line("nodes", place, "listen") is None
                origin = f"the address of node {node.id}" if listens_there else None
                result.append(self._setting(f"nodes[{place}].{key}", getattr(node, key), "nodes", place, key, origin=origin))
        result.append(self._setting("allowed_hosts", found.allowed_hosts, "allowed_hosts"))
        for key, secret in (("api_token_file", found.api_token), ("peer_secret_file", found.peer_secret)):
            result.append(self._secret(key, secret))
        return result

    def _setting(self, name: str, value: Any, *way: str | int, origin: str | None = None) -> Setting:
        line = self._line(*way)
        from_file = None if line is None else f"{self._found.path}:{line}"
        return Setting(name=name, value=value, origin=origin or from_file or DEFAULT)

    def _data_dir(self) -> Setting:
        by_systemd = "$STATE_DIRECTORY" if os.environ.get("STATE_DIRECTORY", "").split(":")[0] else None
        return self._setting("data_dir", str(self._found.data_dir), "data_dir", origin=by_systemd)

    def _secret(self, key: str, secret: bytes | None) -> Setting:
        node = self._node(key)
        value = None
        if node is not None:
            folder = os.environ.get("CREDENTIALS_DIRECTORY")
            place = f"$CREDENTIALS_DIRECTORY/{node.value}" if folder else node.value
            value = f"{place} ({'not read' if secret is None else f'{len(secret)} bytes, not shown'})"
        return self._setting(key, value, key)

    def _line(self, *way: str | int) -> int | None:
        node = self._node(*way)
        return None if node is None else int(node.start_mark.line) + 1

    def _node(self, *way: str | int) -> Any:
        """Return the YAML node at this path, None if the file has none."""
        node: Any = self._root
        for step in way:
            if isinstance(node, yaml.SequenceNode) and isinstance(step, int):
                node = node.value[step]
            elif isinstance(node, yaml.MappingNode):
                node = next((value for key, value in node.value if key.value == step), None)
            else:
                return None
        return node
