"""The table of errors in docs/rest.md holds at every interface: client protocol, REST, client library, command line.

A code of protocol/errors.py without a row, a row without a code, or an interface that tells something else fails here.
"""

import http
import http.client
import json
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple, get_args

import pytest
import urllib3
from click.testing import CliRunner

from bargetrio.cli import cli
from bargetrio.cli.exit_codes import EXIT_CODES
from bargetrio.client import BargeError, Client
from bargetrio.protocol.errors import APPLIED, HTTP_STATUS, TITLE, ErrorCode
from bargetrio.web.problems import answer_of, of_http
from bargetrio.web.server import FULL
from tests.errors import FailingServers, failing
from tests.stories.daemon import Daemon, write_configuration

CODES: Final[tuple[ErrorCode, ...]] = get_args(ErrorCode)


class Row(NamedTuple):
    """What docs/rest.md says of a code."""

    statuses: list[int]
    retry_after: bool
    applied: bool | None
    again: bool
    exit_code: int


def table() -> dict[str, Row]:
    """Read the table."""
    text = (Path(__file__).parents[1] / "docs" / "rest.md").read_text().partition("\n## Errors\n")[2]
    rows: dict[str, Row] = {}
    for line in re.findall(r"^\| `\w+` \| \d.*$", text, re.MULTILINE):
        code, status, applied, again, exit_code, _ = (cell.strip() for cell in line.strip("|").split("|"))
        rows[code.strip("`")] = Row(
            statuses=[int(number) for number in re.findall(r"\d{3}", status)],
            retry_after="Retry-After" in status,
            applied={"false": False, "null": None}[applied],
            again={"yes": True, "no": False}[again],
            exit_code=int(exit_code),
        )
    return rows


TABLE: Final = table()


def test_every_code_has_a_row_and_every_row_a_code() -> None:
    """In the docs, and in each of the code's own tables."""
    assert set(TABLE) == set(CODES)
    assert set(CODES) == APPLIED.keys() == HTTP_STATUS.keys() == TITLE.keys() == EXIT_CODES.keys()
    for code, row in TABLE.items():
        assert row.retry_after == row.again
        assert row.applied is False or not row.again, code


@pytest.fixture(scope="module", params=CODES)
def place(request: pytest.FixtureRequest) -> Iterator[FailingServers]:
    """A cluster that answers everything with one of the errors."""
    with failing(BargeError(request.param, f"an error: {request.param}")) as place:
        yield place


Rest = tuple[str, str, str | None, dict[str, str]]
JSON: Final = {"Content-Type": "application/json"}
REST: Final[dict[str, Rest]] = {
    "put": ("PUT", "/keys/k", "v", {}),
    "conditional put": ("PUT", "/keys/k", "v", {"If-None-Match": "*"}),
    "post": ("POST", "/keys", '{"key":"k","value":"v"}', JSON),
    "delete": ("DELETE", "/keys/k", None, {}),
    "get": ("GET", "/keys/k", None, {}),
    "list": ("GET", "/keys", None, {}),
    "leader": ("GET", "/leader", None, {}),
    "transfer": ("POST", "/leader", '{"to":1}', JSON),
    "nodes": ("GET", "/nodes", None, {}),
    "kill": ("POST", "/nodes/0/kill", None, {}),
    "revive": ("POST", "/nodes/0/revive", None, {}),
    "readmit": ("POST", "/nodes/0/readmit", None, {}),
    "bootstrap": ("POST", "/bootstrap", None, {}),
    "snapshot": ("GET", "/snapshot", None, {}),
    "faults": ("PUT", "/faults", "{}", JSON),
}


def usual_client_sends_again(method: str, status: int, *, has_retry_after: bool) -> bool:
    """Ask urllib3, as requests and pip have it inside: what it repeats by default."""
    return urllib3.Retry.DEFAULT.is_retry(method, status, has_retry_after=has_retry_after)


@pytest.mark.parametrize("what", REST)
def test_rest_has_the_error_of_the_table(place: FailingServers, what: str) -> None:
    """Status, code, applied, Retry-After; and whether a client would repeat it unasked."""
    method, path, body, headers = REST[what]
    code = place.cluster.error.code
    row = TABLE[code]
    connection = http.client.HTTPConnection(place.api, timeout=10)
    connection.request(method, path, body, headers)
    response = connection.getresponse()
    told = json.loads(response.read())
    connection.close()
    has_retry_after = response.getheader("Retry-After") is not None
    assert (response.status, told["error"], told["applied"]) == (row.statuses[0], code, row.applied)
    assert (told["status"], has_retry_after) == (response.status, row.retry_after)
    again = row.again and method != "POST"
    assert usual_client_sends_again(method, response.status, has_retry_after=has_retry_after) == again


def test_a_line_of_a_bulk_write_has_the_error_of_the_table(place: FailingServers) -> None:
    """It has no status of its own."""
    connection = http.client.HTTPConnection(place.api, timeout=10)
    connection.request("POST", "/keys", '{"key":"k","value":"v"}\n', {"Content-Type": "application/x-ndjson"})
    told = json.loads(connection.getresponse().read())
    connection.close()
    assert (told["error"], told["applied"]) == (place.cluster.error.code, TABLE[place.cluster.error.code].applied)


@pytest.mark.parametrize("op", ["put", "delete", "get", "list"])
def test_the_client_protocol_has_the_error_of_the_table(place: FailingServers, op: str) -> None:
    """In its answer's line."""
    with socket.create_connection(_pair(place.node), 10) as sock, sock.makefile("rwb") as stream:
        fields = {"put": {"key": "k", "value": "v"}, "delete": {"key": "k"}, "get": {"key": "k"}, "list": {}}[op]
        stream.write(b'{"hello":"client","protocol":1,"cluster":"barge"}\n')
        stream.write(json.dumps({"id": 7, "op": op, **fields}).encode() + b"\n")
        stream.flush()
        stream.readline()
        told = json.loads(stream.readline())
    code = place.cluster.error.code
    assert (told["id"], told["ok"], told["error"], told["applied"]) == (7, False, code, TABLE[code].applied)


CALLS: Final[dict[str, Callable[[Client], object]]] = {
    "put": lambda barge: barge.put("k", "v"),
    "conditional put": lambda barge: barge.put("k", "v", if_absent=True),
    "delete": lambda barge: barge.delete("k"),
    "get": lambda barge: barge.get("k"),
    "list": lambda barge: barge.items(),
    "leader": lambda barge: barge.leader(),
    "transfer": lambda barge: barge.transfer(1),
    "nodes": lambda barge: barge.nodes(),
    "kill": lambda barge: barge.kill(0),
    "revive": lambda barge: barge.revive(0),
    "readmit": lambda barge: barge.readmit(0),
    "bootstrap": lambda barge: barge.bootstrap(),
    "faults": lambda barge: barge.set_faults({"groups": [[0], [1, 2]]}),
}
OF_KEYS: Final = ("put", "conditional put", "delete", "get", "list")
WRITES: Final = ("put", "conditional put", "delete")


@pytest.mark.parametrize("what", CALLS)
@pytest.mark.parametrize("way", ["native", "rest"])
def test_the_library_raises_an_error_as_the_table_has_it(place: FailingServers, way: str, what: str) -> None:
    """What is certainly not done for want of a leader it tries elsewhere; what may be done, and everything else, it asks once."""
    code = place.cluster.error.code
    before = place.cluster.asked
    looks_on = way == "native" and what in OF_KEYS and is_looked_for(code, is_write=what in WRITES)
    addresses = [place.node] if way == "native" else []
    with Client(addresses, apis=[place.api], timeout_s=0.5 if looks_on else 20, nodes_timeout_s=20) as barge:
        if code == "not_found" and way == "rest" and what in ("get", "delete"):
            assert not getattr(CALLS[what](barge), "deleted", False)  # that is an answer there
            return
        with pytest.raises(BargeError) as caught:
            CALLS[what](barge)
    if looks_on:
        code = "no_leader"
        assert place.cluster.asked - before >= 1
    elif what in OF_KEYS:
        assert place.cluster.asked - before == 1
    assert (caught.value.code, caught.value.applied) == (code, TABLE[code].applied)


def is_looked_for(code: ErrorCode, *, is_write: bool) -> bool:
    """Whether the native client goes on to look for a node that answers otherwise, until its time is over."""
    return code in ("not_leader", "no_leader") or (code == "storage_failed" and not is_write)


COMMANDS: Final = (
    ("put", "k", "v"),
    ("delete", "k"),
    ("get", "k"),
    ("list",),
    ("leader",),
    ("status",),
    ("kill", "0"),
    ("revive", "0"),
    ("readmit", "0", "--yes"),
    ("bootstrap", "--yes"),
)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("way", ["native", "rest"])
def test_the_command_line_ends_as_the_table_has_it(
    place: FailingServers, tmp_path: Path, way: str, command: tuple[str, ...]
) -> None:
    """Its exit code, and the same code and certainty with --json."""
    code = place.cluster.error.code
    of_keys = command[0] in ("put", "delete", "get", "list")
    looks_on = way == "native" and of_keys and is_looked_for(code, is_write=command[0] in ("put", "delete"))
    arguments = [*command, "--json", "--timeout", "0.5" if looks_on else "20"]
    if way == "native":
        node = f"{{id: 0, address: {place.node}}}"
        (tmp_path / "c.yml").write_text(f"cluster: barge\napi: {place.api}\ndata_dir: d\nnodes: [{node}]\n")
        arguments += ["--config", str(tmp_path / "c.yml")]
    else:
        arguments += ["--endpoint", place.api]
    result = CliRunner().invoke(cli, arguments)
    if looks_on:
        code = "no_leader"
    told = json.loads(result.stderr)
    assert (result.exit_code, told["error"], told["applied"]) == (TABLE[code].exit_code, code, TABLE[code].applied)


@pytest.mark.parametrize("way", ["native", "rest"])
def test_a_backup_ends_as_the_table_has_it(place: FailingServers, tmp_path: Path, way: str) -> None:
    """It changes nothing, so nothing is left unknown: a daemon that can't give one counts as one that is away."""
    code = place.cluster.error.code
    told = "no_leader" if TABLE[code].statuses[0] >= 500 else code
    where = ["--endpoint", place.api]
    if way == "native":
        node = f"{{id: 0, address: {place.node}}}"
        (tmp_path / "c.yml").write_text(f"cluster: barge\napi: {place.api}\ndata_dir: d\nnodes: [{node}]\n")
        where = ["--config", str(tmp_path / "c.yml")]
    result = CliRunner().invoke(cli, ["snapshot", "save", str(tmp_path / "b.snap"), *where])
    assert (result.exit_code, result.stderr.partition(":")[0]) == (TABLE[told].exit_code, told)
    assert f"an error: {code}" in result.stderr
    assert [path.name for path in tmp_path.iterdir() if "snap" in path.name] == []


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Daemon]]:
    """A real cluster, a daemon for each node."""
    configuration = write_configuration(tmp_path_factory.mktemp("three"), 3)
    daemons = [Daemon(configuration, node_id=node_id) for node_id in range(3)]
    try:
        for daemon in daemons:
            daemon.start()
        yield daemons
    finally:
        for daemon in daemons:
            daemon.end()


OTHER_NODES: Final = "the folder is one of a cluster of nodes 0, 1, 2, 3, 4; the configuration names nodes 0, 1, 2"


class Admin(NamedTuple):
    """A command at a node, and what comes of it: the error's code and words; code None: nothing was to be done."""

    command: str
    node_id: int | None
    code: ErrorCode | None
    words: str = ""


def compare(daemon: Daemon, case: Admin) -> None:
    """Ask by REST, the client library and the command line: each is as the table has it, with the same words."""
    path = f"/{case.command}" if case.node_id is None else f"/nodes/{case.node_id}/{case.command}"
    arguments = [case.command, *([] if case.node_id is None else [str(case.node_id)])]
    if case.command in ("readmit", "bootstrap"):
        arguments.append("--yes")
    answer = daemon.http("POST", path)
    result = CliRunner().invoke(cli, [*arguments, "--json", "--endpoint", daemon.api])
    if case.code is None:
        told = answer.status, answer.json["changed"], result.exit_code
        assert told == (200, False, 0), (case, answer.body, result.output)
        with Client([], apis=[daemon.api]) as barge:
            assert getattr(barge, case.command)(case.node_id) is False
        return
    row, problem = TABLE[case.code], json.loads(result.stderr)
    assert (answer.status, answer.json["error"], answer.json["applied"]) == (row.statuses[0], case.code, row.applied), case
    assert ("retry-after" in answer.headers, answer.json["title"]) == (row.retry_after, TITLE[case.code])
    assert not usual_client_sends_again("POST", answer.status, has_retry_after="retry-after" in answer.headers)
    assert (result.exit_code, problem["error"], problem["applied"]) == (row.exit_code, case.code, row.applied), case
    assert case.words in answer.json["detail"] and case.words in problem["detail"], (case, answer.body, problem)
    with Client([], apis=[daemon.api]) as barge, pytest.raises(BargeError, match=re.escape(case.words)) as caught:
        getattr(barge, case.command)(*([] if case.node_id is None else [case.node_id]))
    assert (caught.value.code, caught.value.applied) == (case.code, row.applied)
    in_words = CliRunner().invoke(cli, [*arguments, "--endpoint", daemon.api])
    assert (in_words.exit_code, in_words.stderr.partition(":")[0]) == (row.exit_code, case.code)
    assert case.words in in_words.stderr
    if case.code == "outcome_unknown":
        assert in_words.stderr.endswith("(it may have been done: check before you repeat it)\n"), "it is about no key"


@pytest.mark.long
def test_a_leader_is_not_readmitted_at_any_interface(three: list[Daemon]) -> None:
    """Each of eight answers takes the three seconds in which it could have lost its office."""
    leader = three[0].leader()
    for daemon in (three[leader], three[(leader + 1) % 3]):
        compare(daemon, Admin("readmit", leader, "bad_request", f"node {leader} leads: its disk is in use"))


def test_commands_at_nodes_end_as_the_table_has_it(three: list[Daemon], tmp_path: Path) -> None:
    """Real causes, at a daemon that runs the node and at another one."""
    leader = three[0].leader()
    follower, away = (node_id for node_id in range(3) if node_id != leader)
    for daemon in (three[leader], three[follower]):
        for command in ("kill", "revive", "readmit"):
            compare(daemon, Admin(command, 7, "not_found", "the nodes are 0, 1, 2"))
        compare(daemon, Admin("revive", follower, None))
        compare(daemon, Admin("readmit", follower, None))
        compare(daemon, Admin("bootstrap", None, "bad_request", "belongs to a cluster already"))
    answer = three[follower].http("POST", f"/nodes/{leader}/readmit")
    assert (answer.status, answer.json["error"]) == (400, "bad_request")
    assert f"node {leader} leads: its disk is in use" in answer.json["detail"]
    three[away].kill_9()
    for command in ("kill", "revive"):
        compare(three[leader], Admin(command, away, "outcome_unknown", f"node {away} runs in no daemon that answers"))
    assert three[leader].kill_node(follower)["changed"] is True
    three[leader].wait_for(lambda: three[leader].http("GET", "/leader").status == 503, "the end of its office", 10)
    compare(three[leader], Admin("kill", follower, None))
    compare(three[leader], Admin("readmit", follower, "no_leader", "there is no leader: 2 members beside node"))
    saved = CliRunner().invoke(cli, ["snapshot", "save", str(tmp_path / "b.snap"), "--endpoint", three[leader].api])
    assert (saved.exit_code, saved.stderr.partition(":")[0]) == (5, "no_leader")
    status = CliRunner().invoke(cli, ["status", "--json", "--endpoint", three[leader].api])
    states = {node["id"]: node["state"] for node in json.loads(status.stdout)["nodes"]}
    assert (status.exit_code, states) == (0, {leader: "running", follower: "killed", away: "unreachable"})
    meta = three[follower].configuration.parent / "data" / f"node-{follower}" / "meta"
    kept = meta.read_bytes()
    other_nodes = {**json.loads(kept), "members": [0, 1, 2, 3, 4]}
    for content, why in ((b"{}\n", "the file meta is damaged: "), (json.dumps(other_nodes).encode(), OTHER_NODES)):
        meta.write_bytes(content)
        for daemon in (three[leader], three[follower]):
            compare(daemon, Admin("revive", follower, "cannot_start", f"node {follower} can't start: {why}"))
    meta.write_bytes(kept)


def test_a_pool_that_repeats_by_itself_makes_an_unknown_write_once() -> None:
    """urllib3 with all its defaults, a compare-and-set, and a disk that fails under it: no second try, and so no false 412."""
    for code in ("storage_failed", "outcome_unknown"):
        with failing(BargeError(code, "nobody knows")) as place, urllib3.PoolManager() as pool:
            for method, body, headers in (("PUT", b"v", {"If-None-Match": "*"}), ("DELETE", None, {"If-Match": '"3"'})):
                answer = pool.request(method, f"http://{place.api}/keys/k", body=body, headers=headers)
                assert (answer.status, answer.json()["applied"]) == (504, None)
            assert place.cluster.asked == 2


def test_no_status_that_clients_repeat_goes_with_an_unknown_write() -> None:
    """Whatever the web framework refuses by itself, and every error with every status that the code gives it."""
    source = "".join(path.read_text() for path in (Path(__file__).parents[1] / "bargetrio").rglob("*.py"))
    unusual = {int(number) for number in re.findall(r"\bstatus=(\d{3})\b", source)}
    errors = [of_http(status, "x") for status in http.HTTPStatus if status >= 400]
    errors += [BargeError(code, "x", status=status) for code in CODES for status in (*unusual, HTTP_STATUS[code])]
    for error in errors:
        status, headers, body = answer_of(error)
        assert json.loads(body)["applied"] is error.applied
        if usual_client_sends_again("PUT", status, has_retry_after="Retry-After" in headers):
            assert error.applied is False, (error.code, status)
    head, _, body = FULL.partition(b"\r\n\r\n")
    assert b"Retry-After" in head
    assert json.loads(body)["applied"] is False


def test_a_daemon_that_is_not_ready_does_not_blame_the_leader() -> None:
    """There may be one, where a disk hangs: it has a code of its own, and the leader is named."""
    status, headers, body = answer_of(BargeError("not_ready", "the disk of node 1 has not ended a write for 7 s", leader=2))
    told = json.loads(body)
    assert (status, told["title"], told["error"], headers["Retry-After"]) == (503, "This daemon is not ready", "not_ready", "1")
    assert told["leader"] == 2 and told["detail"].startswith("the disk of node 1")


def test_every_status_of_a_code_stands_in_its_row() -> None:
    """Those with which the code raises it."""
    source = "".join(path.read_text() for path in (Path(__file__).parents[1] / "bargetrio").rglob("*.py"))
    for code in CODES:
        row = TABLE[code]
        assert row.statuses[0] == HTTP_STATUS[code]
        for raised in re.findall(rf'BargeError\(\s*"{code}",[^\n]*\bstatus=(\d{{3}})', source):
            assert int(raised) in row.statuses, (code, raised)


def _pair(address: str) -> tuple[str, int]:
    host, _, port = address.partition(":")
    return host, int(port)
