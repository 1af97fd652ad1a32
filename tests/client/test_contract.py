"""What a client is promised, by whatever way it asks: the client protocol, a daemon's REST, or the fake of our unit tests."""

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
import trio

from bargetrio.cli.client_calls import ClientCalls
from bargetrio.client import BargeError, Client, DiskFault, Faults, LinkFault
from bargetrio.protocol.requests import Delete, DeleteAnswer, Get, GetAnswer, List, ListAnswer, Put, PutAnswer, Request
from bargetrio.protocol.views import LeaderView
from tests.client.fakes import FakeBarge
from tests.stories.daemon import Daemon
from tests.web.serving import Each, served_quart

WAYS = ["native", "rest", "fake"]


@pytest.fixture(params=WAYS)
def client(request: pytest.FixtureRequest) -> Iterator[ClientCalls]:
    """A cluster with three nodes and a leader, asked in each way."""
    if request.param == "fake":
        yield FakeBarge()
        return
    daemon: Daemon = request.getfixturevalue("daemon")
    addresses = list(daemon.addresses.values()) if request.param == "native" else []
    with Client(addresses, apis=[daemon.api]) as barge:
        yield barge
        barge.set_faults(Faults())
        for node in barge.nodes():
            barge.revive(node.id)
    daemon.wait_for(daemon.caught_up, "the cluster to catch up")


@pytest.mark.parametrize("key", ["100", "a b", "a/b", "/", "a//b", "..", "%41", "?x=1&y", "#", "ü", "漢字", "\n", "k" * 1024])
def test_any_key_is_written_read_listed_and_removed(client: ClientCalls, key: str) -> None:
    """Whatever stands in it: a key in a path is the same key."""
    client.delete(key)
    first = client.put(key, "Some Value")
    assert (first.key, first.created) == (key, True)
    assert client.put(key, "Another").created in (False, msgspec.UNSET)
    found = client.get(key)
    assert (found.key, found.value, found.index > first.index) == (key, "Another", True)
    assert [(item.key, item.value) for item in client.items(key).items] == [(key, "Another")]
    removed = client.delete(key)
    assert (removed.key, removed.deleted, removed.index > found.index) == (key, True, True)
    assert client.delete(key).deleted is False
    assert (client.get(key).index, client.get(key).value) == (0, None)


@pytest.mark.parametrize("value", [b"", b"text", b"\x00\xff\n", "\u2028\x1b[31m".encode(), bytes(range(256)) * 4096])
def test_any_bytes_come_back(client: ClientCalls, value: bytes) -> None:
    """Up to a mebibyte; what is not UTF-8 as base64."""
    client.put("bytes", value)
    found = client.get("bytes")
    if found.value is not None:
        assert found.value.encode() == value
    else:
        assert msgspec.json.decode(msgspec.json.encode(found.value_b64), type=bytes) == value


def test_conditions_hold_or_are_refused(client: ClientCalls) -> None:
    """Compare and set; a refusal is certain."""
    client.delete("cas")
    first = client.put("cas", "1", if_absent=True)
    client.put("cas", "2", if_index=first.index)
    for refused in (
        lambda: client.put("cas", "x", if_absent=True),
        lambda: client.put("cas", "x", if_index=first.index),
        lambda: client.delete("cas", if_index=first.index),
    ):
        with pytest.raises(BargeError) as caught:
            refused()
        assert (caught.value.code, caught.value.applied) == ("precondition_failed", False)
    assert client.delete("cas", if_index=client.get("cas").index).deleted


def test_what_is_not_valid_is_refused_for_certain(client: ClientCalls) -> None:
    """Keys and values outside the rules."""
    for key, value in (("", "x"), ("k" * 1025, "x"), ("a\0b", "x"), ("big", "v" * (1024 * 1024 + 1))):
        with pytest.raises(BargeError) as caught:
            client.put(key, value)
        assert (caught.value.code, caught.value.applied) == ("bad_request", False)


def test_keys_come_in_pages_in_order(client: ClientCalls) -> None:
    """`next` leads to the next page; keys alone carry no values."""
    for number in range(5):
        client.put(f"page-{number}", str(number))
    first = client.items("page-", limit=3)
    assert ([item.value for item in first.items], first.next) == (["0", "1", "2"], "page-2")
    rest = client.items("page-", after=first.next or "", keys_only=True, read="stale")
    assert [(item.key, item.value) for item in rest.items] == [("page-3", None), ("page-4", None)]
    assert rest.next is None


def test_nodes_are_killed_and_revived(client: ClientCalls) -> None:
    """Twice is no error; an unknown one lists the known."""
    leads = client.leader().leader
    follower = min({0, 1, 2} - {leads})
    assert [client.kill(follower), client.kill(follower)] == [True, False]
    assert [node.state for node in client.nodes() if node.id == follower] == ["killed"]
    assert [client.revive(follower), client.revive(follower)] == [True, False]
    with pytest.raises(BargeError, match="the nodes are 0, 1, 2") as caught:
        client.kill(7)
    assert caught.value.code == "not_found"


def test_faults_are_replaced_and_healed(client: ClientCalls) -> None:
    """What is put is in force, and nothing else."""
    wanted = Faults(disks=[DiskFault(node=1, delay_ms=5.0)], links=[LinkFault(source=0, target=2, cut=True)])
    assert client.set_faults(wanted) == client.faults() == wanted
    with pytest.raises(BargeError) as caught:
        client.set_faults(Faults(groups=[[0, 9]]))
    assert caught.value.code == "not_found"
    assert client.set_faults(Faults()) == client.faults() == Faults()


class Later(Each):
    """A cluster in which another node leads, in a later term than its entries'; `asked` is what it was asked."""

    cluster_name = "barge"

    @property
    def local(self) -> "Later":
        """Its own nodes are all there are."""
        return self

    def __init__(self) -> None:
        self.asked: list[Request] = []

    def known_leader(self) -> LeaderView:
        return LeaderView(leader=1, term=9, address="127.0.0.1:1")

    async def execute(self, request: Request) -> PutAnswer | DeleteAnswer | GetAnswer | ListAnswer:
        self.asked.append(request)
        if isinstance(request, Get):
            return GetAnswer(id=0, key=request.key, index=7, value="x")
        if isinstance(request, List):
            return ListAnswer(id=0, items=[], next=None, index=7)
        if isinstance(request, Put):
            return PutAnswer(id=0, key=request.key, index=7, term=3)
        assert isinstance(request, Delete)
        return DeleteAnswer(id=0, key=request.key, index=7, term=3, deleted=True)


@pytest.mark.parametrize("write", [lambda barge: barge.put("a", "x"), lambda barge: barge.delete("a")], ids=["put", "delete"])
async def test_the_term_in_the_answer_to_a_write_is_its_entrys(write: Callable[[Client], PutAnswer | DeleteAnswer]) -> None:
    """Over REST, too, where each answer also has the leader's present term."""
    cluster: Any = Later()
    async with served_quart(cluster) as port:
        with Client([], apis=[f"127.0.0.1:{port}"]) as barge:
            answer = await trio.to_thread.run_sync(write, barge)
    assert (answer.key, answer.index, answer.term) == ("a", 7, 3)


async def test_what_is_asked_over_rest_is_what_the_cluster_is_asked() -> None:
    """Each field of each operation, whatever stands in it."""
    asked: list[tuple[Request, type[Any]]] = [
        (Put(id=0, key="a/b ?", value="x"), PutAnswer),
        (Put(id=0, key="a", value_b64="/w==", if_index=3), PutAnswer),
        (Put(id=0, key="a", value="", if_absent=True), PutAnswer),
        (Delete(id=0, key="%41"), DeleteAnswer),
        (Delete(id=0, key="a", if_index=4), DeleteAnswer),
        (Get(id=0, key="a+b&c"), GetAnswer),
        (Get(id=0, key="a", read="stale"), GetAnswer),
        (List(id=0), ListAnswer),
        (List(id=0, prefix="p &", after="p &=+%", limit=1000, keys_only=True, read="lease"), ListAnswer),
        (List(id=0, prefix="ü", limit=1, read="stale"), ListAnswer),
    ]
    cluster: Any = Later()
    async with served_quart(cluster) as port:
        with Client([], apis=[f"127.0.0.1:{port}"]) as barge:
            for request, kind in asked:
                answer = await trio.to_thread.run_sync(barge._keys.execute, request, kind)
                assert answer.index == 7
    assert cluster.asked == [request for request, _ in asked]
