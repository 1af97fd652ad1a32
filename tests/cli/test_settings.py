"""`bargetrio config check` and `config show`: every value and where it comes from."""

import json
from pathlib import Path

from bargetrio.config import NODE_KEYS, SNAPSHOT_KEYS, TIMING_KEYS
from tests.cli.run import barge

GOOD = """\
cluster: barge
api: 127.0.0.1:8100
data_dir: data
timing: {heartbeat_ms: 60}
nodes:
  - {id: 0, address: 127.0.0.1:8101, api: 127.0.0.1:8111}
  - id: 1
    address: 127.0.0.1:8102
    listen: 127.0.0.1:9102
    api: 127.0.0.1:8112
api_token_file: token
"""


def write(folder: Path, text: str = GOOD) -> None:
    (folder / "configuration.yml").write_text(text)
    (folder / "token").write_text("very secret\n")
    (folder / "token").chmod(0o600)


def test_a_valid_configuration_is_reported_as_valid(tmp_path: Path) -> None:
    """In a line, with exit code 0."""
    write(tmp_path)
    result = barge(tmp_path, "config", "check")
    assert (result.returncode, result.stderr) == (0, b"")
    assert result.stdout == b"configuration.yml is right: cluster barge, 2 nodes, page and REST at 127.0.0.1:8100\n"


def test_errors_are_reported_with_line_and_caret(tmp_path: Path) -> None:
    """All of them, with exit code 2, by `show` as well."""
    write(tmp_path, GOOD.replace("cluster:", "clutser:").replace("heartbeat_ms: 60", "heartbeat_ms: 1"))
    for command in ("check", "show"):
        result = barge(tmp_path, "config", command)
        assert (result.returncode, result.stdout) == (2, b"")
        assert b"did you mean cluster?" in result.stderr
        assert b"heartbeat_ms is 1" in result.stderr
        assert b"configuration.yml:1:1" in result.stderr
    assert barge(tmp_path, "config", "check", "--config", "other.yml").returncode == 2


def test_a_peer_secret_that_a_client_may_not_read_is_no_mistake_of_a_client(tmp_path: Path) -> None:
    """`--client` reads it as clients do."""
    write(tmp_path, GOOD + "peer_secret_file: nowhere\n")
    assert barge(tmp_path, "config", "check").returncode == 2
    assert barge(tmp_path, "config", "check", "--client").returncode == 0
    assert b"nowhere (not read)" in barge(tmp_path, "config", "show", "--client").stdout


def test_every_value_is_shown_with_its_origin(tmp_path: Path) -> None:
    """A line of the file, the default, another value, the environment; never a secret."""
    write(tmp_path)
    more = {"STATE_DIRECTORY": "/var/lib/barge", "BARGE_ENDPOINTS": "127.0.0.1:1"}
    result = barge(tmp_path, "config", "show", "--json", more=more)
    assert result.returncode == 0
    assert b"very secret" not in result.stdout
    found = {one["name"]: (one["value"], one["origin"]) for one in map(json.loads, result.stdout.splitlines())}
    assert found["cluster"] == ("barge", "configuration.yml:1")
    assert found["data_dir"] == ("/var/lib/barge", "$STATE_DIRECTORY")
    assert found["timing.heartbeat_ms"] == (60, "configuration.yml:4")
    assert found["timing.election_ms"] == ([300, 600], "default")
    assert found["snapshots.mib"] == (64, "default")
    assert found["nodes[0].listen"] == ("127.0.0.1:8101", "the address of node 0")
    assert found["nodes[1].listen"] == ("127.0.0.1:9102", "configuration.yml:9")
    assert found["allowed_hosts"] == ([], "default")
    assert found["api_token_file"] == ("token (11 bytes, not shown)", "configuration.yml:11")
    assert found["peer_secret_file"] == (None, "default")
    assert found["$BARGE_ENDPOINTS"] == ("127.0.0.1:1", "the environment, for clients")
    names = {"cluster", "api", "data_dir", "allowed_hosts", "api_token_file", "peer_secret_file", "$BARGE_ENDPOINTS"}
    names |= {f"timing.{key}" for key in TIMING_KEYS} | {f"snapshots.{key}" for key in SNAPSHOT_KEYS}
    names |= {f"nodes[{place}].{key}" for place in (0, 1) for key in NODE_KEYS}
    assert found.keys() == names


def test_values_are_shown_in_a_table(tmp_path: Path) -> None:
    """Three columns; data_dir as it will be used."""
    write(tmp_path)
    lines = barge(tmp_path, "config", "show").stdout.decode().splitlines()
    assert lines[0].split() == ["key", "value", "origin"]
    rows = {line.split()[0]: line.split()[1:] for line in lines}
    assert rows["data_dir"] == [str(tmp_path / "data"), "configuration.yml:3"]
    assert rows["timing.election_ms"] == ["[300,", "600]", "default"]
    assert rows["peer_secret_file"] == ["-", "default"]
