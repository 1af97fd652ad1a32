"""The leader is returned only where a quorum is known: a follower's information is older than its leader's own."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from bargetrio.cluster.daemons import Daemons, Unreachable
from bargetrio.protocol.errors import BargeError, ErrorCode
from bargetrio.protocol.views import LeaderView
from tests.client.servers import BadServer
from tests.cluster.harness import one_daemon
from tests.stories.daemon import Daemon, running, write_configuration

NO_LEADER = BargeError("no_leader", "no majority of the nodes follows a leader")
SILENT = Unreachable("it does not answer")


def leads(node_id: int, term: int) -> LeaderView:
    """What a daemon answers that knows a leader."""
    return LeaderView(leader=node_id, term=term, address=f"node-{node_id}:1")


class ScriptedDaemons(Daemons):
    """The other daemons, as a test has them answer; by api."""

    def __init__(self, answers: dict[str, Any]) -> None:
        super().__init__({}, None, cluster="barge")
        self._answers = answers

    async def ask(self, api: str, method: str, path: str, kind: type[Any], body: Any = None, *, timeout_s: float = 1.0) -> Any:
        """Answer, or raise."""
        answer = self._answers[api]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [
        (NO_LEADER, NO_LEADER, None),
        (SILENT, SILENT, None),
        (leads(0, 3), NO_LEADER, None),  # node 0 is ours, and does not lead
        (leads(0, 3), leads(0, 3), None),
        (leads(1, 3), leads(1, 3), (1, 3)),
        (leads(1, 3), NO_LEADER, (1, 3)),  # node 2 may be cut off, too
        (NO_LEADER, leads(1, 3), None),  # node 1 has stepped down; node 2 has not noticed
        (SILENT, leads(1, 3), (1, 3)),  # node 1's daemon does not answer: a follower had a message just now
        (leads(1, 4), leads(2, 3), (1, 4)),
        (leads(2, 4), leads(1, 3), None),  # each names the other
        (leads(1, 4), leads(1, 3), (1, 4)),
        (leads(7, 3), NO_LEADER, None),  # a node of another cluster
    ],
)
async def test_a_node_that_denies_that_it_leads_is_not_the_leader(first: Any, second: Any, found: tuple[int, int] | None) -> None:
    """This daemon's node 0 knows no leader; those of nodes 1 and 2 answer."""
    apis = {0: "own:1", 1: "first:1", 2: "second:1"}
    cluster = one_daemon(apis=apis, local_ids=[0], daemons=ScriptedDaemons({"first:1": first, "second:1": second}))
    try:
        view = await cluster.leader()
    except BargeError as error:
        assert (error.code, found) == ("no_leader", None)
    else:
        assert (view.leader, view.term) == found


@pytest.mark.long
def test_a_leader_that_stepped_down_is_not_named_by_its_own_daemon(tmp_path: Path) -> None:
    """It receives nothing, and the others receive its heartbeats: for a while they still follow it after it has stepped down."""
    timing = "{heartbeat_ms: 50, election_ms: [1000, 2000], request_timeout_ms: 5000}"
    configuration = write_configuration(tmp_path, 3, timing=timing)
    daemons = [Daemon(configuration, node_id=node_id) for node_id in range(3)]
    try:
        for daemon in daemons:
            daemon.start(wait=False)
        for daemon in daemons:
            daemon.wait_until_live()
        old = daemons[0].leader()
        cut_off = daemons[old]
        cuts = ",".join(f'{{"from":{other},"to":{old},"cut":true}}' for other in range(3) if other != old)
        json = {"Content-Type": "application/json"}
        assert cut_off.http("PUT", "/faults", f'{{"links":[{cuts}]}}', json).status == 200
        looks = 0

        def new_leader() -> bool:
            nonlocal looks
            before = cut_off.http("GET", "/leader?local=1").status
            ready = cut_off.http("GET", "/readyz").status
            told = cut_off.http("GET", "/leader")
            after = cut_off.http("GET", "/leader?local=1").status
            if before == ready == after == 503:
                looks += 1
                assert told.status == 503 or told.json["leader"] != old, told.body
            return told.status == 200 and told.json["leader"] != old

        cut_off.wait_for(new_leader, "another leader", 20)
        assert looks
        groups = '{"groups":[[0],[1],[2]]}'
        assert cut_off.http("PUT", "/faults", groups, json).status == 200
        for daemon in daemons:
            daemon.wait_for(lambda daemon=daemon: daemon.http("GET", "/readyz").status == 503, "no quorum")  # type: ignore[misc]
        for daemon in daemons:
            assert daemon.http("GET", "/leader").status == 503
    finally:
        for daemon in daemons:
            daemon.end()


async def test_what_a_nodes_own_daemon_says_of_its_start_is_reported_though_the_configured_one_is_silent() -> None:
    """Only the daemon that runs the node says why it can't start; another refusal leaves open what the silent one has done."""
    said: dict[ErrorCode, ErrorCode] = {"cannot_start": "cannot_start", "overloaded": "outcome_unknown"}
    for code, told in said.items():
        answers = {"first:1": SILENT, "second:1": BargeError(code, "node 1 can't start: damage")}
        cluster = one_daemon(apis={0: "own:1", 1: "first:1", 2: "second:1"}, local_ids=[0], daemons=ScriptedDaemons(answers))
        with pytest.raises(BargeError) as caught:
            await cluster.revive(1)
        assert caught.value.code == told


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 2\r\n\r\n{}", "a proxy's error as an object"),
        (b'HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n{"proxy":"page"}', "another object"),
        (b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 2\r\n\r\n{}", "a redirect"),
        (b"", "a cut connection"),
    ],
)
async def test_a_daemon_that_answers_as_none_leaves_a_kill_unknown(answer: bytes, kind: str) -> None:
    """What was asked may be done: no bad_request, no error of the framework; and of what is only asked it knows nothing."""
    with BadServer("rest", answer) as other:
        apis = {0: "127.0.0.1:1", 1: other.address}
        cluster = one_daemon(apis=apis, local_ids=[0], daemons=Daemons(apis, None, cluster="barge"))
        with pytest.raises(BargeError) as caught:
            await cluster.kill(1)
        assert (caught.value.code, caught.value.applied) == ("outcome_unknown", None), kind
        assert [view.state for view in await cluster.nodes()][1] == "unreachable"
        with pytest.raises(BargeError, match="no majority"):
            await cluster.leader()


def test_a_daemon_of_another_cluster_is_asked_nothing_and_its_refusal_is_reported(tmp_path: Path) -> None:
    """OWN-191: this daemon's `api` of node 2 leads to a daemon of another cluster, which has a node 2 as well."""
    (tmp_path / "other").mkdir()
    with running(tmp_path / "other") as other:
        path = write_configuration(tmp_path, 3)
        settings = yaml.safe_load(path.read_text())
        settings["cluster"] = "schöne-1"
        settings["nodes"][2]["api"] = other.api
        path.write_text(yaml.safe_dump(settings, allow_unicode=True))
        ours = Daemon(path, node_id=0)
        try:
            ours.start()
            refusal = f"the daemon at {other.api} refuses this one: this is a daemon of cluster 'barge', not of 'schöne-1'"
            for verb in ("kill", "revive"):
                answer = ours.http("POST", f"/nodes/2/{verb}")
                assert (answer.status, answer.json["error"], answer.json["applied"]) == (403, "forbidden", False)
                assert answer.json["detail"] == refusal
            view = ours.node(2)
            assert (view["state"], view["reason"]) == ("unreachable", refusal)
            assert other.node(2)["state"] == "running"
        finally:
            ours.end()
