"""A simulated server is a host of the product's replica: what its clients are told, and what its end leaves."""

from bargetrio.protocol.requests import ErrorAnswer, Get, GetAnswer, Put, PutAnswer
from bargetrio.raft.roles import Leader
from bargetrio.simulator.answers import AnyAnswer
from bargetrio.simulator.cluster import SimulatedCluster
from bargetrio.simulator.server import Server


class Waiting:
    """Who asked, and what was answered."""

    def __init__(self) -> None:
        self.answers: list[AnyAnswer] = []

    def answered(self, answer: AnyAnswer) -> None:
        self.answers.append(answer)


def cluster_without_faults() -> tuple[SimulatedCluster, Server]:
    """Three servers that have run for a while, and their leader."""
    cluster = SimulatedCluster(3, 3, frozenset(), keep=False)
    cluster.world.run(5.0, 1_000_000)
    (leader,) = [server for server in cluster.servers if server.core is not None and isinstance(server.core.role, Leader)]
    return cluster, leader


def test_a_client_receives_what_the_replica_answers() -> None:
    """A write where it was applied, a read what it found."""
    cluster, leader = cluster_without_faults()
    write, read = Waiting(), Waiting()
    assert leader.take_request(write, Put(id=0, key="here", value="x"))
    cluster.world.run(6.0, 1_000_000)
    assert leader.take_request(read, Get(id=0, key="here"))
    cluster.world.run(7.0, 1_000_000)
    (put,), (get,) = write.answers, read.answers
    assert isinstance(put, PutAnswer) and isinstance(get, GetAnswer)
    assert (get.value, get.index) == ("x", put.index)


def test_a_write_that_is_not_committed_in_time_has_an_unknown_outcome() -> None:
    """The leader is cut off, and gives up on it: as a leader, or when it leaves office."""
    cluster, leader = cluster_without_faults()
    for peer in range(3):
        if peer != leader.node_id:
            cluster.network.cut(leader.node_id, peer)
            cluster.network.cut(peer, leader.node_id)
    write = Waiting()
    assert leader.take_request(write, Put(id=0, key="cut off", value="x"))
    cluster.world.run(10.0, 1_000_000)
    assert [answer.error for answer in write.answers if isinstance(answer, ErrorAnswer)] == ["outcome_unknown"]


def test_a_disk_that_fails_ends_the_server_and_who_waits_is_answered() -> None:
    """Once, and before it is down."""
    cluster, leader = cluster_without_faults()
    write = Waiting()
    leader.disk.fail_at.update(dict.fromkeys(range(leader.disk.calls, leader.disk.calls + 10), 5))
    assert leader.take_request(write, Put(id=0, key="k", value="x"))
    cluster.world.run(5.3, 1_000_000)
    assert leader.core is None
    assert [answer.error for answer in write.answers if isinstance(answer, ErrorAnswer)] == ["storage_failed"]


def test_a_server_that_dies_answers_nobody_and_leaves_no_job() -> None:
    """Whoever asked it waits for nothing, and a snapshot that was being saved is none."""
    cluster, leader = cluster_without_faults()
    write = Waiting()
    leader.ask_for_snapshot()
    while not leader.life.jobs.count["save"]:
        cluster.world.run(cluster.world.now + 0.0001, 1_000_000)
    held = leader.replica.core.snapshot
    assert leader.take_request(write, Put(id=0, key="k", value="x"))
    life = leader.life
    leader.crash(power=False)
    cluster.world.run(cluster.world.now + 3.0, 1_000_000)
    assert (write.answers, life.replica.core.snapshot, leader.core) == ([], held, None)
