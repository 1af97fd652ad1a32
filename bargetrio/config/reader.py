"""Reads configuration.yml: all errors in it are reported at once, with line and caret."""

import difflib
import ipaddress
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml

from bargetrio.config.schema import (
    NODE_KEYS,
    SNAPSHOT_KEYS,
    TIMING_KEYS,
    TOP_KEYS,
    ConfigurationError,
    DaemonConfiguration,
    NodeConfiguration,
    SnapshotSettings,
    Timing,
)
from bargetrio.files import configured_path
from bargetrio.protocol.addresses import canonical_address, is_wildcard, parse_address
from bargetrio.protocol.limits import MOST_NODE_ID, MOST_NODES
from bargetrio.protocol.secrets import TOKEN_BYTES, secret_of, token_of

_BARE_IPV6: Final = re.compile(r"[\s:,{]\[[0-9A-Fa-f.%]*:[0-9A-Fa-f:.%]*\]:\d")
_QUOTED: Final = 'an IPv6 address needs quotes in YAML: "[::1]:8101"'
_DECIMAL: Final = re.compile(r"[+-]?(0|[1-9][0-9_]{0,23})")
"""YAML 1.1 takes 010 for 8, and 1:30 for 90: neither is taken here."""
MOST_BYTES: Final = 256 * 1024
HEARTBEAT_MS: Final = (5, 60_000)
ELECTION_MS: Final = (10, 600_000)
REQUEST_TIMEOUT_MS: Final = (100, 600_000)
"""The shortest and the longest that a configuration may say."""
FEWEST_ENTRIES: Final = 10
MOST_OF_SNAPSHOTS: Final = 1_000_000_000
"""The largest number that a configuration may say of entries or MiB."""
NAME_CHARACTERS: Final = 64


def load(path: Path, *, for_client: bool = False) -> DaemonConfiguration:
    """Read and check the file; raise ConfigurationError with all errors. A client needs no peer secret."""
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise ConfigurationError(f"there is no {path}; name one with --config PATH") from None
    except OSError as problem:
        raise ConfigurationError(f"{path} can't be read: {problem.strerror}") from None
    if len(data) > MOST_BYTES:
        raise ConfigurationError(f"{path} has more than the {MOST_BYTES} bytes that a configuration may have")
    try:
        text = data.decode()
    except UnicodeDecodeError as problem:
        raise ConfigurationError(f"{path} is not UTF-8 (byte {problem.start})") from None
    return _Reader(path, text, for_client=for_client).read()


class _Reader:
    """Visits the YAML nodes, whose marks have line and column, and collects the errors."""

    def __init__(self, path: Path, text: str, *, for_client: bool) -> None:
        self._path = path
        self._for_client = for_client
        self._lines = text.splitlines()
        self._text = text
        self._wrong: list[tuple[int, int, str]] = []

    def read(self) -> DaemonConfiguration:
        """Return the configuration; raise ConfigurationError with all errors."""
        root = self._compose()
        if not isinstance(root, yaml.MappingNode):
            mark = root.start_mark if root is not None else None
            self._add_error(mark, "a configuration is a mapping: cluster, api, data_dir, nodes, ...")
            raise self._error()
        fields = self._fields(root, TOP_KEYS)
        cluster = self._text_of(fields.get("cluster"), root, "cluster", _cluster_name) or ""
        nodes = self._nodes(fields.get("nodes"), root)
        api = self._api(fields.get("api"), root, nodes)
        data_dir = self._text_of(fields.get("data_dir"), root, "data_dir", configured_path)
        timing = self._timing(fields.get("timing"))
        snapshots = self._snapshots(fields.get("snapshots"))
        hosts = self._hosts(fields.get("allowed_hosts"))
        token = self._secret(fields.get("api_token_file"), "api_token_file")
        secret = None if self._for_client else self._secret(fields.get("peer_secret_file"), "peer_secret_file")
        if not self._wrong and not self._for_client:
            self._check_exposure(fields, api, nodes, token, secret)
        if self._wrong:
            raise self._error()
        folder = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
        return DaemonConfiguration(
            path=self._path,
            cluster=cluster,
            api=api,
            data_dir=Path(folder) if folder else (self._path.parent / configured_path(data_dir or ".")).absolute(),
            timing=timing,
            snapshots=snapshots,
            nodes=nodes,
            allowed_hosts=hosts,
            api_token=token,
            peer_secret=secret,
        )

    # -- parts -----------------------------------------------------------------------------------------------------------

    def _compose(self) -> Any:
        try:
            for event in yaml.parse(self._text, Loader=yaml.SafeLoader):
                if isinstance(event, yaml.AliasEvent):
                    self._add_error(event.start_mark, "aliases (*name) are not used here: write the value out")
                    raise self._error()
            return yaml.compose(self._text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as problem:
            mark = problem.problem_mark or problem.context_mark
            near = "\n".join(self._lines[max(0, mark.line - 1) : mark.line + 1]) if mark is not None else ""
            hint = f"; {_QUOTED}" if _BARE_IPV6.search(near) else ""
            self._add_error(mark, f"this is not YAML: {problem.problem}{hint}")
        except (yaml.YAMLError, RecursionError) as problem:
            self._add_error(None, f"this is not YAML: {problem}")
        raise self._error()

    def _fields(self, node: Any, allowed: tuple[str, ...]) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else ""
            if key not in allowed:
                near = difflib.get_close_matches(key, allowed, 1)
                hint = f"; did you mean {near[0]}?" if near else f"; allowed are {', '.join(allowed)}"
                self._add_error(key_node.start_mark, f"unknown key {key!r}{hint}")
            elif key in fields:
                first = next(other for other, _ in node.value if other.value == key)
                self._add_error(key_node.start_mark, f"{key} is given twice, first in line {first.start_mark.line + 1}")
            else:
                fields[key] = value_node
        return fields

    def _nodes(self, node: Any, root: Any) -> tuple[NodeConfiguration, ...]:
        if not isinstance(node, yaml.SequenceNode) or not node.value:
            mark = root.start_mark if node is None else node.start_mark
            self._add_error(mark, "nodes is a list of at least one {id, address}")
            return ()
        if len(node.value) > MOST_NODES:
            self._add_error(node.start_mark, f"{len(node.value)} nodes; a cluster has at most {MOST_NODES}")
            return ()
        found: list[NodeConfiguration] = []
        ids: dict[object, int] = {}
        places: dict[tuple[str, int], str] = {}
        for item in node.value:
            if not isinstance(item, yaml.MappingNode):
                self._add_error(item.start_mark, "a node is a mapping: {id: 0, address: 127.0.0.1:8101}")
                continue
            fields = self._fields(item, NODE_KEYS)
            node_id = self._int_of(fields.get("id"), item, "id", 0, MOST_NODE_ID)
            address = self._text_of(fields.get("address"), item, "address", _check_dialable)
            listen = self._text_of(fields["listen"], item, "listen", parse_address) if "listen" in fields else address
            api = self._text_of(fields["api"], item, "api", _check_dialable) if "api" in fields else None
            if node_id is not None:
                if node_id in ids:
                    self._add_error(fields["id"].start_mark, f"id {node_id} is taken, in line {ids[node_id]}")
                ids.setdefault(node_id, item.start_mark.line + 1)
            for name, value in {"address": address, "api": api}.items():
                if value is None:
                    continue
                place = canonical_address(value)
                if place in places:
                    self._add_error(fields[name].start_mark, f"{name} {value} is taken, in {places[place]}")
                places.setdefault(place, f"line {item.start_mark.line + 1}")
            if node_id is not None and address is not None and listen is not None:
                found.append(NodeConfiguration(id=node_id, address=address, listen=listen, api=api))
        return tuple(found)

    def _api(self, node: Any, root: Any, nodes: tuple[NodeConfiguration, ...]) -> str:
        api = self._text_of(node, root, "api", parse_address)
        if api is not None and any(
            canonical_address(api) in map(canonical_address, (other.address, other.listen)) for other in nodes
        ):
            self._add_error(node.start_mark, f"api {api} is the address of a node")
        return api or ""

    def _timing(self, node: Any) -> Timing:
        default = Timing()
        if node is None:
            return default
        if not isinstance(node, yaml.MappingNode):
            self._add_error(node.start_mark, "timing is a mapping: {heartbeat_ms: 50, election_ms: [300, 600]}")
            return default
        fields = self._fields(node, TIMING_KEYS)
        heartbeat = default.heartbeat_ms
        if "heartbeat_ms" in fields:
            heartbeat = self._int_of(fields["heartbeat_ms"], node, "heartbeat_ms", *HEARTBEAT_MS) or heartbeat
        timeout = default.request_timeout_ms
        if "request_timeout_ms" in fields:
            timeout = self._int_of(fields["request_timeout_ms"], node, "request_timeout_ms", *REQUEST_TIMEOUT_MS) or timeout
        election = default.election_ms
        if "election_ms" in fields:
            election = self._election(fields["election_ms"]) or election
        if election[0] < 2 * heartbeat:
            mark = (fields.get("election_ms") or fields.get("heartbeat_ms") or node).start_mark
            self._add_error(mark, f"election_ms begins at {election[0]}; at least twice heartbeat_ms ({heartbeat}) is needed")
        return Timing(heartbeat_ms=heartbeat, election_ms=election, request_timeout_ms=timeout)

    def _snapshots(self, node: Any) -> SnapshotSettings:
        default = SnapshotSettings()
        if node is None:
            return default
        if not isinstance(node, yaml.MappingNode):
            self._add_error(node.start_mark, "snapshots is a mapping: {entries: 100000, mib: 64, trailing_entries: 10000}")
            return default
        fields = self._fields(node, SNAPSHOT_KEYS)
        lowest = {"entries": FEWEST_ENTRIES, "mib": 1, "trailing_entries": 0}
        found = {
            name: self._int_of(fields[name], node, name, lowest[name], MOST_OF_SNAPSHOTS)
            for name in SNAPSHOT_KEYS
            if name in fields
        }
        given = {name: value for name, value in found.items() if value is not None}
        return msgspec.structs.replace(default, **given)

    def _election(self, node: Any) -> tuple[int, int] | None:
        if not isinstance(node, yaml.SequenceNode) or len(node.value) != 2:
            self._add_error(node.start_mark, "election_ms is [shortest, longest], as in [300, 600]")
            return None
        low, high = (self._int_of(item, item, "election_ms", *ELECTION_MS) for item in node.value)
        if low is None or high is None:
            return None
        if low >= high:
            self._add_error(node.start_mark, f"election_ms: the shortest ({low}) must be below the longest ({high})")
            return None
        return low, high

    def _hosts(self, node: Any) -> tuple[str, ...]:
        if node is None:
            return ()
        if not isinstance(node, yaml.SequenceNode):
            self._add_error(node.start_mark, "allowed_hosts is a list of host or host:port")
            return ()
        return tuple(self._text_of(item, item, "allowed_hosts", _check_host) or "" for item in node.value)

    def _secret(self, node: Any, name: str) -> bytes | None:
        if node is None:
            return None
        value = self._text_of(node, node, name, configured_path)
        if value is None:
            return None
        path = Path(os.environ.get("CREDENTIALS_DIRECTORY") or self._path.parent) / configured_path(value)
        try:
            with path.open("rb") as file:
                data = file.read(TOKEN_BYTES + 1)
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        except OSError as problem:
            self._add_error(node.start_mark, f"{name}: {path} can't be read: {problem.strerror}")
            return None
        if mode & 0o007:
            self._add_error(node.start_mark, f"{name}: everybody can read {path}; chmod 600 it")
        try:
            return token_of(data) if name == "api_token_file" else secret_of(data)
        except ValueError as problem:
            self._add_error(node.start_mark, f"{name}: {path} {problem}")
            return None

    def _check_exposure(
        self,
        fields: dict[str, Any],
        api: str,
        nodes: tuple[NodeConfiguration, ...],
        token: bytes | None,
        secret: bytes | None,
    ) -> None:
        """Report listeners beyond loopback without a secret or token."""
        open_apis = [place for place in (api, *(node.api for node in nodes)) if place and not _is_loopback(place)]
        if open_apis and token is None:
            mark = fields["api"].start_mark
            self._add_error(mark, f"{open_apis[0]} is not on loopback: an API for others needs api_token_file")
        open_nodes = [place for node in nodes for place in (node.address, node.listen) if not _is_loopback(place)]
        if open_nodes and secret is None:
            mark = fields["nodes"].start_mark
            self._add_error(mark, f"{open_nodes[0]} is not on loopback: nodes on a network need peer_secret_file")

    # -- scalars ---------------------------------------------------------------------------------------------------------

    def _text_of(self, node: Any, parent: Any, name: str, check: Callable[[str], object]) -> str | None:
        if node is None:
            self._add_error(parent.start_mark, f"{name} is missing")
            return None
        if not isinstance(node, yaml.ScalarNode) or node.tag != "tag:yaml.org,2002:str":
            hint = f"; {_QUOTED}" if isinstance(node, yaml.SequenceNode) and name in ("address", "listen", "api") else ""
            self._add_error(node.start_mark, f"{name} is text, not {_kind(node)}{hint}")
            return None
        try:
            check(node.value)
        except ValueError as problem:
            self._add_error(node.start_mark, f"{name}: {problem}")
            return None
        return str(node.value)

    def _int_of(self, node: Any, parent: Any, name: str, low: int, high: int) -> int | None:
        if node is None:
            self._add_error(parent.start_mark, f"{name} is missing")
            return None
        value: int | None = None
        if isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:int" and _DECIMAL.fullmatch(node.value):
            try:
                value = int(node.value)
            except ValueError:
                value = None
        if value is None:
            self._add_error(node.start_mark, f"{name} is a whole number, not {_kind(node)}")
            return None
        if not low <= value <= high:
            self._add_error(node.start_mark, f"{name} is {value}; from {low} to {high} is allowed")
            return None
        return value

    # -- errors ----------------------------------------------------------------------------------------------------------

    def _add_error(self, mark: Any, text: str) -> None:
        line, column = (mark.line, mark.column) if mark is not None else (0, 0)
        self._wrong.append((line, column, text))

    def _error(self) -> ConfigurationError:
        parts: list[str] = []
        for line, column, text in sorted(self._wrong):
            shown = self._lines[line] if line < len(self._lines) else ""
            caret = f"\n    {shown}\n    {' ' * column}^" if shown else ""
            parts.append(f"{self._path}:{line + 1}:{column + 1}: {text}{caret}")
        return ConfigurationError("\n".join(parts))


def _is_loopback(address: str) -> bool:
    host, _ = parse_address(address)
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _cluster_name(text: str) -> None:
    if not 1 <= len(text) <= NAME_CHARACTERS or not all(character.isalnum() or character in "-_." for character in text):
        raise ValueError(f"1 to {NAME_CHARACTERS} letters, digits, '-', '_' or '.'")


def _check_dialable(text: str) -> None:
    if is_wildcard(text):
        raise ValueError(f"{text} means every interface, and others must dial this: name an address; `listen` may be {text}")


def _check_host(text: str) -> None:
    """Raise ValueError unless it is a valid Host header: a name or an address, with or without a port."""
    if "*" in text:
        raise ValueError(f"{text!r}: there are no patterns; name each host")
    if not text.isascii():
        try:
            sent = text.encode("idna").decode()
        except UnicodeError:
            sent = "xn--..."
        raise ValueError(f"{text!r}: browsers send it in ASCII, as {sent!r}")
    has_port = ":" in text.rpartition("]")[2]
    parse_address(text if has_port else f"{text}:80")


def _kind(node: Any) -> str:
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    return f"{node.tag.rpartition(':')[2]} {node.value!r}"
