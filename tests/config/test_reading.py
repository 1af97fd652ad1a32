"""configuration.yml: what is taken, and how every mistake is told."""

import re
import socket
from pathlib import Path

import click
import msgspec
import pytest

from bargetrio.cli.shared import ClusterOptions
from bargetrio.config import ConfigurationError, DaemonConfiguration, NodeConfiguration, SnapshotSettings, Timing, load
from bargetrio.config.placement import BoundAddress, binding_problems
from bargetrio.protocol.addresses import dial_address
from bargetrio.protocol.hello import PeerHello
from bargetrio.protocol.limits import HELLO_LINE_BYTES, MOST_NODE_ID, MOST_NODES, PEER_PROTOCOL_VERSION
from bargetrio.raft.standing import Standing, identity_of, origin_of_backup
from tests.cli.run import barge

GOOD = """\
cluster: barge
api: 127.0.0.1:8100
data_dir: data
timing: {heartbeat_ms: 50, election_ms: [300, 600], request_timeout_ms: 5000}
nodes:
  - {id: 0, address: 127.0.0.1:8101, api: 127.0.0.1:8111}
  - {id: 1, address: 127.0.0.1:8102, api: 127.0.0.1:8112}
"""


def loaded(tmp_path: Path, text: str) -> DaemonConfiguration:
    """Load `text` as a file."""
    path = tmp_path / "configuration.yml"
    path.write_text(text)
    return load(path)


def mistakes_in(tmp_path: Path, text: str) -> str:
    """What is said about the mistakes in `text`."""
    with pytest.raises(ConfigurationError) as raised:
        loaded(tmp_path, text)
    return str(raised.value)


def test_the_shipped_file_is_good() -> None:
    """The one in the top folder: three nodes."""
    configuration = load(Path(__file__).parents[2] / "configuration.yml")
    assert [node.id for node in configuration.nodes] == [0, 1, 2]
    assert configuration.timing == Timing()


def test_snapshots_are_taken_as_configured(tmp_path: Path) -> None:
    """All, some, or none of it; and every mistake with its place."""
    assert loaded(tmp_path, GOOD).snapshots == SnapshotSettings()
    some = loaded(tmp_path, GOOD + "snapshots: {entries: 500, trailing_entries: 0}\n")
    assert some.snapshots == SnapshotSettings(entries=500, mib=64, trailing_entries=0)
    assert "snapshots is a mapping" in mistakes_in(tmp_path, GOOD + "snapshots: often\n")
    wrong = mistakes_in(tmp_path, GOOD + "snapshots: {entries: 3, mib: many, entrys: 1}\n")
    assert "entries is 3; from 10" in wrong and "mib is a whole number" in wrong and "did you mean entries?" in wrong


def test_a_good_file_is_taken_whole(tmp_path: Path) -> None:
    """Paths become absolute, `listen` is `address` unless given."""
    configuration = loaded(tmp_path, GOOD.replace("8102,", "8102, listen: 127.0.0.1:9102,"))
    assert configuration.data_dir == tmp_path / "data"
    assert configuration.nodes == (
        NodeConfiguration(id=0, address="127.0.0.1:8101", listen="127.0.0.1:8101", api="127.0.0.1:8111"),
        NodeConfiguration(id=1, address="127.0.0.1:8102", listen="127.0.0.1:9102", api="127.0.0.1:8112"),
    )


def test_state_directory_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under systemd the service's own folder is the place."""
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/barge")
    assert loaded(tmp_path, GOOD).data_dir == Path("/var/lib/barge")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("cluster: barge\n", "", "cluster is missing"),
        ("cluster: barge", "cluster: 12", "cluster is text, not int '12'"),
        ("cluster: barge", "cluster: a b", "letters"),
        ("cluster: barge", "cluster: barge\ncluster: other", ":2:1: cluster is given twice, first in line 1"),
        ("data_dir", "data_dirr", ":3:1: unknown key 'data_dirr'; did you mean data_dir?"),
        ("heartbeat_ms: 50", "hartbeat_ms: 50", "did you mean heartbeat_ms?"),
        ("{id: 0", "{identity: 0", "unknown key 'identity'; allowed are id, address"),
        ("heartbeat_ms: 50", "heartbeat_ms: fast", "heartbeat_ms is a whole number, not str 'fast'"),
        ("heartbeat_ms: 50", "heartbeat_ms: 1.5", "not float '1.5'"),
        ("heartbeat_ms: 50", "heartbeat_ms: true", "not bool 'true'"),
        ("heartbeat_ms: 50", "heartbeat_ms: 0", "from 5 to 60000"),
        ("[300, 600]", "[600, 300]", "must be below"),
        ("[300, 600]", "300", "[shortest, longest]"),
        ("[300, 600]", "[60, 600]", "at least twice heartbeat_ms (50)"),
        ("id: 1", "id: 0", ":7:10: id 0 is taken, in line 6"),
        ("id: 1", "id: one", "id is a whole number, not str 'one'"),
        ("id: 1", "id: -1", "from 0"),
        ("8102", "8101", "127.0.0.1:8101 is taken, in line 6"),
        ("8112", "8111", "127.0.0.1:8111 is taken, in line 6"),
        ("127.0.0.1:8102", "127.0.0.1", "is not host:port"),
        ("127.0.0.1:8102", "127.0.0.1:99999", "from 1 to 65535"),
        ("127.0.0.1:8102", "'::1:8102'", "brackets"),
        ("api: 127.0.0.1:8100", "api: 127.0.0.1:8101", "is the address of a node"),
        ("api: 127.0.0.1:8100", "api: 0.0.0.0:8100", "needs api_token_file"),
        ("address: 127.0.0.1:8102", "address: 10.0.0.2:8102", "need peer_secret_file"),
        ("nodes:", "nodes: []\nmore:", "nodes is a list of at least one"),
        ("data_dir: data", "data_dir: data\napi_token_file: missing", "can't be read: No such file"),
        ("data_dir: data", "data_dir: [", "this is not YAML"),
        ("data_dir: data", "data_dir: &a data\nx: *a", "aliases"),
        ("data_dir: data", "data_dir: {}", "data_dir is text, not a mapping"),
    ],
)
def test_an_error_is_reported_with_its_place(tmp_path: Path, old: str, new: str, says: str) -> None:
    """File, line, column, the line itself, a caret, what is allowed."""
    text = mistakes_in(tmp_path, GOOD.replace(old, new, 1))
    assert says in text
    assert "^" in text


def test_all_errors_are_reported_at_once(tmp_path: Path) -> None:
    """One run, one list, in the file's order."""
    text = mistakes_in(
        tmp_path, GOOD.replace("cluster: barge", "cluster: 1").replace("id: 1", "id: 0").replace("data_dir:", "data:")
    )
    assert [part.split(":")[1] for part in text.splitlines() if "configuration.yml:" in part] == ["1", "1", "3", "7"]
    assert "    cluster: 1\n             ^" in text


@pytest.mark.parametrize("text", ["", "- 1\n", "just text", "\x00", "a: b: c"])
def test_a_value_that_is_no_mapping_is_reported(tmp_path: Path, text: str) -> None:
    """Empty files and lists too."""
    assert "configuration.yml:" in mistakes_in(tmp_path, text)


def test_a_missing_or_unreadable_file_is_named(tmp_path: Path) -> None:
    """And how to name another."""
    with pytest.raises(ConfigurationError, match=r"there is no .*--config"):
        load(tmp_path / "configuration.yml")
    with pytest.raises(ConfigurationError, match="can't be read: Is a directory"):
        load(tmp_path)
    (tmp_path / "latin").write_bytes(b"cluster: \xff")
    with pytest.raises(ConfigurationError, match="not UTF-8"):
        load(tmp_path / "latin")


def test_secrets_come_from_files_that_not_everybody_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stripped, not empty, not world-readable; systemd's credentials win."""
    secret = tmp_path / "secret"
    secret.write_text("  s3cret\n")
    secret.chmod(0o600)
    text = GOOD.replace("127.0.0.1", "10.0.0.1") + "api_token_file: secret\npeer_secret_file: secret\n"
    configuration = loaded(tmp_path, text)
    assert (configuration.api_token, configuration.peer_secret) == (b"s3cret", b"s3cret")
    secret.chmod(0o644)
    assert "everybody can read" in mistakes_in(tmp_path, text)
    secret.write_text(" \n")
    assert "is empty" in mistakes_in(tmp_path, text)
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / "secret").write_text("other")
    (tmp_path / "credentials" / "secret").chmod(0o400)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
    assert loaded(tmp_path, text).api_token == b"other"


def test_one_node_per_host_needs_an_api_everywhere(tmp_path: Path) -> None:
    """--node names a known node, once, and every node says where its daemon answers."""
    configuration = loaded(tmp_path, GOOD)
    configuration.check_runnable(None)
    configuration.check_runnable([1])
    with pytest.raises(ConfigurationError, match=r"no node 7 .* knows 0, 1"):
        configuration.check_runnable([7])
    with pytest.raises(ConfigurationError, match="twice"):
        configuration.check_runnable([0, 0])
    assert (configuration.api_of(None), configuration.api_of([1])) == ("127.0.0.1:8100", "127.0.0.1:8112")
    with pytest.raises(ConfigurationError, match="missing at 1"):
        loaded(tmp_path, GOOD.replace(", api: 127.0.0.1:8112", "")).check_runnable([0])


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        # addresses
        ("127.0.0.1:8102", "0.0.0.0:8102", "means every interface"),
        ("127.0.0.1:8102", "'[::]:8102'", "means every interface"),
        ("127.0.0.1:8102", "'[::ffff:0.0.0.0]:8102'", "means every interface"),
        ("api: 127.0.0.1:8112", "api: 0.0.0.0:8112", "means every interface"),
        ("127.0.0.1:8102", "[::1]:8102", 'needs quotes in YAML: "[::1]:8101"'),
        ("api: 127.0.0.1:8100", "api: [::1]:8100", 'needs quotes in YAML: "[::1]:8101"'),
        ("127.0.0.1:8102", "[127.0.0.1, 8102]", 'needs quotes in YAML: "[::1]:8101"'),
        ("api: 127.0.0.1:8100", "api: https://barge.example:8100", "without https://; Barge speaks plain HTTP"),
        ("api: 127.0.0.1:8100", "api: http://127.0.0.1:8100", "write host:port, without http://"),
        ("api: 127.0.0.1:8100", "api: 127.0.0.1:8100/", "nothing follows it"),
        ("127.0.0.1:8102", "127.0.0.1:0", "from 1 to 65535"),
        ("127.0.0.1:8102", "127.0.0.1:65536", "from 1 to 65535"),
        ("127.0.0.1:8102", "256.0.0.1:8102", "'256.0.0.1' is no IPv4 address"),
        ("127.0.0.1:8102", "127.1:8102", "is no IPv4 address"),
        ("127.0.0.1:8102", "'0:8102'", "is no IPv4 address"),
        ("127.0.0.1:8102", "'[::g]:8102'", "is no IPv6 address"),
        ("127.0.0.1:8102", "a..b:8102", "has no usable host"),
        ("127.0.0.1:8102", f"{'x' * 64}:8102", "has no usable host"),
        ("127.0.0.1:8102", "$HOST:8102", "has no usable host"),
        ("127.0.0.1:8102", "localhost:8101", "localhost:8101 is taken, in line 6"),
        ("127.0.0.1:8102", "127.0.0.1:08101", "127.0.0.1:08101 is taken, in line 6"),
        ("127.0.0.1:8112", "127.0.0.1:8101", "127.0.0.1:8101 is taken, in line 6"),
        ("api: 127.0.0.1:8100", "api: localhost:8101", "is the address of a node"),
        # paths
        ("data_dir: data", "data_dir: ~nobody-of-that-name/x", "there is no user 'nobody-of-that-name'"),
        ("data_dir: data", "data_dir: $HOME/barge", "variables are not expanded"),
        ("data_dir: data", "data_dir: file:///var/barge", "is a URL, not a path"),
        ("data_dir: data", 'data_dir: "a\\0b"', "holds a control character"),
        ("data_dir: data", 'data_dir: "a\\nb"', "holds a control character"),
        ("data_dir: data", 'data_dir: ""', "it is empty"),
        ("data_dir: data", "data_dir: data\napi_token_file: .", "Is a directory"),
        # numbers
        ("heartbeat_ms: 50", "heartbeat_ms: 050", "heartbeat_ms is a whole number"),
        ("heartbeat_ms: 50", "heartbeat_ms: 1:30", "heartbeat_ms is a whole number"),
        ("heartbeat_ms: 50", "heartbeat_ms: 0x32", "heartbeat_ms is a whole number"),
        ("[300, 600]", "[300, 300]", "must be below"),
        ("request_timeout_ms: 5000", "request_timeout_ms: 5", "from 100"),
        # hosts
        ("data_dir: data", "data_dir: data\nallowed_hosts: ['*.example']", "there are no patterns"),
        ("data_dir: data", "data_dir: data\nallowed_hosts: ['https://barge.example']", "without https://"),
        ("data_dir: data", "data_dir: data\nallowed_hosts: ['barge.example/']", "has no usable host"),
        ("data_dir: data", "data_dir: data\nallowed_hosts: ['barge.example:99999']", "from 1 to 65535"),
        ("data_dir: data", "data_dir: data\nallowed_hosts: ['::1']", "is in brackets"),
        ("data_dir: data", "data_dir: data\nallowed_hosts: ['bärge.example']", "xn--brge-loa.example"),
    ],
)
def test_what_can_never_work_is_not_right(tmp_path: Path, old: str, new: str, says: str) -> None:
    """Of every key: what would pass, and then could not be dialled, bound, found, read or sent."""
    assert says in mistakes_in(tmp_path, GOOD.replace(old, new, 1))


def test_what_may_work_is_right(tmp_path: Path) -> None:
    """Names, IPv6, wildcards to be bound, hosts that may be asked."""
    secrets = "api_token_file: secret\npeer_secret_file: secret\n"
    (tmp_path / "secret").write_text("s3cret")
    (tmp_path / "secret").chmod(0o600)
    for old, new in (
        ("127.0.0.1:8102", "barge_2.example.:8102, listen: 0.0.0.0:8102"),
        ("127.0.0.1:8102", "'[fe80::1%eth0]:8102', listen: '[::]:8102'"),
        ("127.0.0.1:8102", "bärge.example:8102"),
        ("api: 127.0.0.1:8100", "api: 0.0.0.0:8100"),
        ("data_dir: data", "data_dir: data\nallowed_hosts: [barge.example, 'barge.example:443', '[2001:db8::1]', 10.0.0.1]"),
    ):
        loaded(tmp_path, GOOD.replace(old, new, 1) + secrets)


def test_a_home_folder_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everywhere a path is taken."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "secret").write_text("s3cret")
    (tmp_path / "home" / "secret").chmod(0o600)
    files = "api_token_file: ~/secret\npeer_secret_file: ~/secret\n"
    configuration = loaded(tmp_path, GOOD.replace("data_dir: data", "data_dir: ~/barge") + files)
    assert configuration.data_dir == tmp_path / "home" / "barge"
    assert (configuration.api_token, configuration.peer_secret) == (b"s3cret", b"s3cret")
    assert loaded(tmp_path, GOOD.replace("data_dir: data", "data_dir: ./~")).data_dir == tmp_path / "~"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"TOPSECRET\nTOPSECRET2\n", "has more than one line"),
        (b"TOPSECRET\r\nTOPSECRET2", "has more than one line"),
        (b"TOP\tSECRET", "printable ASCII"),
        ("TOPSECRETÜ".encode(), "printable ASCII"),
        (b"\xef\xbb\xbfTOPSECRET", "printable ASCII"),
        (b"TOPSECRET\0", "printable ASCII"),
        (b" \r\n\t ", "is empty"),
        (b"", "is empty"),
        (b"TOPSECRET" * 500, "more than 4096 bytes"),
    ],
)
def test_a_token_that_no_header_can_carry_is_refused_and_not_shown(tmp_path: Path, data: bytes, says: str) -> None:
    """In the configuration and on the command line."""
    (tmp_path / "token").write_bytes(data)
    (tmp_path / "token").chmod(0o600)
    text = mistakes_in(tmp_path, GOOD + "api_token_file: token\n")
    assert says in text
    with pytest.raises(click.UsageError, match=says) as raised:
        ClusterOptions(None, ("127.0.0.1:1",), str(tmp_path / "token"), None).client()
    assert "TOPSECRET" not in text + str(raised.value)
    (tmp_path / "token").write_bytes(b"  TOPSECRET \r\n")
    assert loaded(tmp_path, GOOD + "api_token_file: token\n").api_token == b"TOPSECRET"


def test_a_clients_configuration_dials_loopback_where_the_api_is_a_wildcard() -> None:
    """To bind is one thing, to dial another."""
    assert (dial_address("0.0.0.0:8100"), dial_address("[::]:8100"), dial_address("a:1")) == (
        "127.0.0.1:8100",
        "[::1]:8100",
        "a:1",
    )


NOT_HERE = pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("127.0.0.1:8102,", "127.0.0.1:8102, listen: 127.0.0.1:8101,", "node 1 and node 0 would both listen on 127.0.0.1:8101"),
        ("127.0.0.1:8102,", "127.0.0.1:8102, listen: 0.0.0.0:8100,", "node 1 and the API would both listen on 0.0.0.0:8100"),
        ("127.0.0.1:8102,", "127.0.0.1:8102, listen: '[::]:8101',", "node 1 and node 0 would both listen on [::]:8101"),
        ("127.0.0.1:8102,", "'[::ffff:127.0.0.1]:8101',", "node 1 and node 0 would both listen on .*127.0.0.1]:8101"),
        ("127.0.0.1:8102,", "127.0.0.1:8102, listen: 192.0.2.1:8102,", "this machine has no such address"),
        ("127.0.0.1:8102,", "127.0.0.1:8102, listen: barge.invalid:8102,", "the name 'barge.invalid' does not resolve"),
        (
            "api: 127.0.0.1:8100",
            "api_token_file: secret\napi: barge.invalid:8100",
            "the API can't listen on barge.invalid:8100: the name 'barge.invalid' does not",
        ),
        ("data_dir: data", "data_dir: file", "file is no folder"),
        ("data_dir: data", "data_dir: file/below", "file is no folder"),
        ("data_dir: data", "data_dir: link", "link is a symbolic link to nothing"),
        ("data_dir: data", f"data_dir: {'x' * 256}", "File name too long"),
        ("data_dir: data", "data_dir: half", "node-1 is no folder"),
    ],
)
"""Configurations that are right, and can't run on this machine."""


def not_here(folder: Path, old: str, new: str) -> str:
    """Make the files that such a configuration is about, and return it."""
    (folder / "file").touch()
    (folder / "link").symlink_to("gone")
    (folder / "half").mkdir()
    (folder / "half" / "node-1").touch()
    (folder / "secret").write_text("s3cret")
    (folder / "secret").chmod(0o600)
    return GOOD.replace(old, new, 1) + "peer_secret_file: secret\n"


@NOT_HERE
def test_what_can_not_run_here_is_reported(tmp_path: Path, old: str, new: str, says: str) -> None:
    """What only this machine can know; a port that is in use just now is none of it."""
    with pytest.raises(ConfigurationError, match=says.replace("[::]", r"\[::\]")):
        loaded(tmp_path, not_here(tmp_path, old, new)).check_runnable(None)


@pytest.mark.slow
@NOT_HERE
def test_check_and_serve_give_the_same_verdict(tmp_path: Path, old: str, new: str, says: str) -> None:
    """On all of that."""
    loaded(tmp_path, not_here(tmp_path, old, new))  # writes it
    for command, code in ((("config", "check"), 2), (("serve",), 1)):
        result = barge(tmp_path, *command)
        assert (result.returncode, result.stdout) == (code, b""), (command, result)
        assert re.search(says.replace("[::]", r"\[::\]"), result.stderr.decode()), (command, result)


def test_two_names_of_one_address_are_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each could be bound alone, so both were reported as valid, and the second could not listen."""
    numbers = {"one.example": "127.0.0.1", "other.example": "127.0.0.1", "third.example": "127.0.0.2", "127.0.0.1": "127.0.0.1"}

    def resolved(host: str, port: int, **_: object) -> list[object]:
        if host not in numbers:
            raise OSError("it does not resolve")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (numbers[host], port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    places = [
        BoundAddress("the API", "third.example:8100"),
        BoundAddress("node 0", "one.example:8100"),
        BoundAddress("node 1", "one.example:8102"),
    ]
    assert binding_problems(places) == []
    for twin in ("127.0.0.1:8100", "other.example:8100"):
        assert binding_problems([*places, BoundAddress("node 2", twin)]) == [f"node 2 and node 0 would both listen on {twin}"]
    assert (
        binding_problems([*places, BoundAddress("node 2", "other.example:8103"), BoundAddress("node 3", "third.example:8102")])
        == []
    )


def test_a_cluster_has_no_more_nodes_than_a_hello_can_name(tmp_path: Path) -> None:
    """It would never be born, and `config check` would say that it is right: every hello would be refused."""
    head = GOOD[: GOOD.index("  - {id: 0")]
    nodes = [f"  - {{id: {number}, address: 127.0.0.1:{9000 + number}}}\n" for number in range(MOST_NODES + 1)]
    assert "51 nodes; a cluster has at most 50" in mistakes_in(tmp_path, head + "".join(nodes))
    assert len(loaded(tmp_path, head + "".join(nodes[:-1])).nodes) == MOST_NODES
    # The longest hello: with ids, name and origin of the greatest length.
    birth = {MOST_NODE_ID - number: "f" * 32 for number in range(MOST_NODES)}
    origin = origin_of_backup(2**63 - 1, 2**63 - 1, 2**32 - 1)
    standing = Standing(store="f" * 32, origin=origin, identity=identity_of(birth), birth=birth)
    hello = PeerHello(
        protocol=PEER_PROTOCOL_VERSION,
        cluster="\U00010400" * 64,
        node=MOST_NODE_ID,
        to=MOST_NODE_ID - 1,
        standing=msgspec.Raw(msgspec.json.encode(standing)),
        nonce="f" * 32,
    )
    assert len(msgspec.json.encode(hello)) < HELLO_LINE_BYTES


def test_a_node_id_is_one_that_every_reader_of_json_reads_exactly(tmp_path: Path) -> None:
    """JavaScript rounds greater ones, and so the live page would kill another node, or none."""
    assert loaded(tmp_path, GOOD.replace("id: 1", f"id: {MOST_NODE_ID}")).nodes[1].id == MOST_NODE_ID
    assert "from 0 to 9007199254740991 is allowed" in mistakes_in(tmp_path, GOOD.replace("id: 1", f"id: {MOST_NODE_ID + 1}"))
