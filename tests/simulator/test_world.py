"""Simulated time: what is planned happens in order, whatever a step does at once."""

import gc

import pytest
from msgspec import structs

from bargetrio.raft.messages import SnapshotMeta, StillReceiving
from bargetrio.raft.records import LogStart
from bargetrio.raft.roles import Leader
from bargetrio.simulator import seed
from bargetrio.simulator.cluster import SimulatedCluster
from bargetrio.simulator.memory import Breach
from bargetrio.simulator.world import World


def test_a_step_goes_on_only_with_what_comes_next() -> None:
    """Something else at the same moment was planned earlier: it comes first."""
    world, done = World(0), list[str]()

    def step(name: str) -> None:
        done.append(name)
        if world.takes_next_step():
            done.append(f"{name} goes on")
        else:
            world.at(world.now, done.append, f"{name} goes on later")

    world.at(1.0, step, "first")
    world.at(1.0, step, "second")
    world.at(2.0, done.append, "the end")
    assert world.run(1.5, 100)
    assert done == ["first", "second", "first goes on later", "second goes on later", "the end"]


def test_a_step_that_reaches_the_end_leaves_what_comes_next_to_the_following_run() -> None:
    """Who looks between two runs sees the same, whether a step goes on or plans."""
    world, went_on = World(0), list[bool]()
    for moment in (1.0, 2.0, 3.0):
        world.at(moment, lambda: went_on.append(world.takes_next_step()))
    assert world.run(2.5, 100)
    assert (world.now, went_on) == (3.0, [True, True, False])


def test_the_rest_of_a_moment_can_be_run_to_its_end() -> None:
    """A run ends with the first action at its end or later: a look between two runs would always see the others wait."""
    world, done = World(0), list[str]()
    world.at(1.0, done.append, "first")
    world.at(1.0, lambda: world.at(world.now, done.append, "planned at this moment"))
    world.at(1.5, done.append, "later")
    assert world.run(0.5, 100)
    assert done == ["first"]
    assert world.end_moment(100)
    assert (done, world.now) == (["first", "planned at this moment"], 1.0)
    world.at(1.0, lambda: world.at(world.now, done.append, "more"))
    assert not world.end_moment(world.steps)


def test_a_single_node_whose_heartbeats_are_due_whenever_the_judge_looks_is_quiet() -> None:
    """Both come every 50 ms, in this seed at the same moments."""
    assert seed.run(12689, 1).failure is None


def test_a_run_ends_after_so_many_steps() -> None:
    """A seed that goes round in circles is found."""
    world = World(0)

    def again() -> None:
        world.at(world.now, again)

    again()
    assert not world.run(1.0, 50)
    assert world.steps == 51


def test_a_seed_leaves_the_collector_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that breaks a rule, and one that fails in an unknown way."""
    assert gc.isenabled()

    def breaks_a_rule(cluster: SimulatedCluster) -> None:
        raise Breach("a rule", "it is broken")

    monkeypatch.setattr(seed, "_play", breaks_a_rule)
    assert seed.run(0, 3).failure is not None
    assert gc.isenabled()
    monkeypatch.setattr(seed, "_play", lambda cluster: 1 / 0)
    failure = seed.run(0, 3).failure
    assert failure is not None and failure.text == "ZeroDivisionError: division by zero"
    assert gc.isenabled()


def test_a_snapshot_that_is_given_up_leaves_a_gap() -> None:
    """Nothing about log and snapshot changed in that pass, but the one that was to close the gap is gone."""
    cluster = SimulatedCluster(3, 3, frozenset(), keep=False)
    cluster.world.run(10.0, 100_000)
    invariants, server = cluster.referee.invariants, cluster.servers[0]
    core = server.core
    assert core is not None
    last = core.last_applied
    term, digest, _ = invariants.committed[last]
    core.log.reset(LogStart(index=last, term=term, digest=digest))
    core.snapshots.installing = SnapshotMeta(
        last_index=last, last_term=term, digest=digest, members=(0, 1, 2), size=1, checksum=1
    )
    invariants.passed(server, server.local_now)
    core.snapshots.installing = None
    with pytest.raises(Breach, match="no gap behind a snapshot"):
        invariants.passed(server, server.local_now)


def test_a_follower_that_is_still_receiving_has_spoken_to_its_leader() -> None:
    """A value of 100 kB takes seconds on a link of 0.1 Mbit/s: no append is answered meanwhile, and the leader is not cut off."""
    cluster = SimulatedCluster(0, 3, frozenset(), keep=False)
    cluster.world.run(10.0, 1_000_000)
    judge = cluster.referee.invariants
    (leader,) = [server for server in cluster.servers if server.core is not None and isinstance(server.core.role, Leader)]
    follower = next(server for server in cluster.servers if server is not leader)
    assert leader.core is not None
    for server in cluster.servers:
        for replies in judge._memory[server.node_id].replies.values():
            replies.at = 0.0
    memory = judge._memory[leader.node_id]
    with pytest.raises(Breach, match="no majority has spoken to it"):
        judge.leadership.check_usefulness(leader, leader.core, memory, leader.local_now)
    receipt = StillReceiving(term=leader.core.current_term, follower_id=follower.node_id)
    judge.promises.receipt_sent(follower, leader.node_id, receipt)
    judge.leadership.check_usefulness(leader, leader.core, memory, leader.local_now)


def test_a_node_that_lost_the_entry_that_readmitted_it_must_not_vote_and_only_a_disk_that_lies_may_cause_that() -> None:
    """The folder names the entry; a node that starts without it takes another store."""
    cluster = SimulatedCluster(0, 3, frozenset(), keep=False)
    cluster.world.run(10.0, 1_000_000)
    judge, server = cluster.referee.invariants, cluster.servers[0]
    core = server.core
    assert core is not None and core.configuration is not None
    index = core.log.last_index + 100
    judge.membership.configurations[index] = structs.replace(core.configuration, index=index)
    standing = structs.replace(core.standing, admitted=index)
    with pytest.raises(Breach, match="its disk does not hold"):
        judge.membership.standing_written(server, standing)
    judge.stores.touched.add((server.node_id, standing.store))
    with pytest.raises(Breach, match="its disk does not hold"):
        judge.membership.standing_written(server, standing)
    core.may_vote = False
    judge.membership.standing_written(server, standing)


def test_a_server_knows_for_how_long_it_stood_still() -> None:
    """Pauses that overlap count once, and that of a server which is down does not count."""
    cluster = SimulatedCluster(3, 3, frozenset(), keep=False)
    cluster.world.run(1.0, 100_000)
    server = cluster.servers[0]
    server.pause(0.5)
    server.pause(0.2)
    server.pause(0.75)
    assert server.stood_still_s == pytest.approx(0.75)
    server.crash(power=False)
    server.pause(1.0)
    assert server.stood_still_s == pytest.approx(0.75)
