"""5.2 where syncs outlast election timeouts: elections end, and a leader whose disk hangs leaves. Also test_slow_elections.py."""

import pytest

from bargetrio.protocol.requests import Put
from bargetrio.raft.messages import AppendReply, Message, PreVoteReply, PreVoteRequest, VoteReply, VoteRequest
from bargetrio.raft.progress import Pipeline
from bargetrio.raft.records import Append, Truncate
from bargetrio.raft.roles import UNTIL_SYNCED
from bargetrio.raft.standing import Standing
from bargetrio.simulator import plan
from bargetrio.simulator.clients import CLIENTS, WorkloadClient
from bargetrio.simulator.cluster import SimulatedCluster
from bargetrio.simulator.nemesis import Nemesis
from tests.raft.cores import Bench, acknowledge, append, append_readmission, entries, follower, leader


def test_a_node_with_a_write_that_hangs_does_not_stand_for_election() -> None:
    """Its vote would be queued after that write; when that has ended, it stands after one timeout."""
    node = follower()
    node.step(append(log="1"))
    node.tick(5)
    assert (node.core.role.name, node.core.next_deadline()) == ("follower", UNTIL_SYNCED)
    node.sync()
    node.tick(0.61)
    assert node.core.role.name == "pre_candidate"


def test_what_waits_for_a_sync_that_hangs_stays_little() -> None:
    """Every election timeout repeats the same requests; the newest to each node is enough."""
    node = follower()
    ask = VoteRequest(term=1, candidate_id=1, last_log_index=0, last_log_term=0)
    node.step(ask)
    for _ in range(1000):
        node.step(ask)
        for peer in (1, 2):
            node.step(PreVoteRequest(term=2, candidate_id=peer, last_log_index=0, last_log_term=0))
    node.sync()
    sent = node.replies()
    assert VoteReply(term=1, voter_id=0, granted=True) in sent
    assert len(sent) < 40


def test_votes_that_were_requested_repeatedly_during_a_sync_are_sent_once() -> None:
    """The same vote, or a vote for the same candidate in a later term."""
    node = follower()
    node.step(append(log="1"))
    for term in range(1, 10):
        for _ in range(30):
            node.step(VoteRequest(term=term, candidate_id=2, last_log_index=1, last_log_term=1))
        node.now += 0.31
    node.sync()
    votes = [message for message in node.replies() if isinstance(message, VoteReply) and message.granted]
    assert votes == [VoteReply(term=9, voter_id=0, granted=True)]


@pytest.mark.parametrize("nodes", [3, 5])
@pytest.mark.parametrize("sync_s", [(0.35, 0.5), (0.0, 1.8), (2.5, 2.5), (10.0, 10.0)], ids=str)
def test_an_election_ends_whatever_syncs_take(nodes: int, sync_s: tuple[float, float], monkeypatch: pytest.MonkeyPatch) -> None:
    """One leader stands within a minute, or fifteen syncs, and has committed an entry of its term; again when it has died."""
    monkeypatch.setattr(Nemesis, "_heal", lambda self: None)
    within_s = max(60, 15 * sync_s[1])
    for number in range(4):
        seed = SimulatedCluster(number, nodes, frozenset(), keep=False)
        for server in seed.servers:
            server.machine.disk_s = sync_s
        first = elected(seed, within_s)
        seed.servers[first].crash(power=False)
        assert elected(seed, within_s) != first


@pytest.mark.parametrize("nodes", [3, 5])
def test_where_every_sync_takes_2_5_s_one_leader_stands_and_commits(nodes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From within a minute on the same node leads in the same term, for a minute more, and each write is committed in it."""
    monkeypatch.setattr(Nemesis, "_heal", lambda self: None)
    monkeypatch.setattr(plan, "REQUEST_TIMEOUTS_S", (20.0,))
    for number in range(4):
        seed = SimulatedCluster(number, nodes, frozenset(), keep=False)
        for server in seed.servers:
            server.machine.disk_s = (2.5, 2.5)
        elected(seed, 60)
        seed.world.run(60, 10_000_000)
        (office,) = offices(seed)
        client = WorkloadClient(CLIENTS, seed.world, seed.servers, seed.history, 0.0, give_up_s=15)
        seed.history.clear()
        for tick in range(600):
            if tick % 20 == 0 and tick < 500:
                client.call(Put(id=0, key=f"k{tick}", value="v"), f"k{tick}")
            seed.world.run(60 + (tick + 1) / 10, 10_000_000)
            assert offices(seed) == [office], f"seed {number}, at {seed.world.now:.1f} s"
        assert [operation.effect for operation in seed.history] == ["applied"] * 25
        committed = seed.referee.invariants.committed
        assert {committed[operation.index or 0].term for operation in seed.history} == {office[1]}


def offices(seed: SimulatedCluster) -> list[tuple[int, int]]:
    """Return every leader there is, with its term."""
    cores = [(server.node_id, server.core) for server in seed.servers]
    return [(node_id, core.current_term) for node_id, core in cores if core is not None and core.role.name == "leader"]


def elected(seed: SimulatedCluster, within_s: float) -> int:
    """Let time pass until a leader has committed an entry of its term; return its id."""
    end = seed.world.now + within_s
    while seed.world.now < end:
        seed.world.run(seed.world.now + 0.1, 10_000_000)
        for server in seed.servers:
            core = server.core
            if core is not None and core.role.name == "leader" and core.log.term(core.commit_index) == core.current_term:
                return server.node_id
    raise AssertionError(f"nobody was elected within {within_s} s")


def role_of(node: Bench) -> str:
    return node.core.role.name


def hung_leader(**options: object) -> Bench:
    """A leader with an entry on its way to its disk."""
    node = leader(**options)
    node.core.propose("a", entries("1")[0].command, node.now)
    return node.perform()


def heartbeats(node: Bench, seconds: float, hearing: tuple[int, ...], match_index: int) -> None:
    """Let time pass while these followers answer each heartbeat."""
    end = node.now + seconds
    while node.now < end:
        node.tick(0.05)
        for peer in hearing:
            if node.core.role.name == "leader":
                acknowledge(node, peer, match_index)


def test_a_leader_whose_disk_hangs_leaves_when_a_majority_of_the_others_has_synced_its_write() -> None:
    """They commit without it; it steps down with a reason, and does not stand before its sync has ended."""
    node = hung_leader()
    heartbeats(node, 1.9, (1, 2), node.core.log.last_index)
    assert role_of(node) == "leader"
    heartbeats(node, 0.3, (1, 2), node.core.log.last_index)
    assert role_of(node) == "follower"
    reason = getattr(node.announced("role_changed")[-1], "reason")  # noqa: B009  # the fact's kind says that it has one
    assert reason.startswith("its disk has not ended a write for 2.")
    assert reason.endswith("nodes 1, 2 have synced entry 2")
    node.tick(10)
    assert role_of(node) == "follower"


def test_a_node_that_is_being_readmitted_does_not_count_among_better_leaders() -> None:
    """Ongaro 4.1: without this leader's disk or its own there is no majority that commits."""
    node = hung_leader()
    last = node.core.log.last_index
    node.core.hello_received(1, Standing(store="new"), node.now)
    assert node.core.readmit(1, node.now) == ""
    node.perform()
    heartbeats(node, 4, (1, 2), last)
    assert role_of(node) == "leader"


def test_the_time_in_which_a_process_stood_still_is_not_its_disks() -> None:
    """The write may have ended meanwhile, unnoticed (SIGSTOP, an overloaded machine)."""
    node = hung_leader()
    last = node.core.log.last_index
    heartbeats(node, 1.0, (1, 2), last)
    node.now += 3.0
    node.core.tick(node.now)
    node.perform()
    heartbeats(node, 0.8, (1, 2), last)
    assert role_of(node) == "leader"
    heartbeats(node, 0.5, (1, 2), last)
    assert role_of(node) == "follower"


def test_a_leader_whose_disk_hangs_stays_where_the_others_are_as_slow() -> None:
    """One other that has the entries, or two that lack them, are no reason: no more would be committed without it."""
    for hearing, behind in (((1,), 0), ((1, 2), 1)):
        node = hung_leader()
        acknowledge(node, hearing[0], node.core.log.last_index)
        heartbeats(node, 5, hearing, node.core.log.last_index - behind)
        assert node.core.role.name == "leader"


def test_what_the_own_disk_has_not_counts_as_overload(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others commit, the own disk hangs: unwritten entries in memory are bounded, and more are refused."""
    monkeypatch.setattr("bargetrio.raft.core.UNCOMMITTED_ENTRIES", 10)
    node = leader()
    for number in range(12):
        node.core.propose(number, entries("1")[0].command, node.now)
        node.perform()
        for peer in (1, 2):
            acknowledge(node, peer, node.core.log.last_index)
    assert [node.ended[number] for number in range(12)] == ["applied"] * 10 + ["overloaded"] * 2
    node.sync()
    node.core.propose("later", entries("1")[0].command, node.now)
    node.perform()
    assert "later" not in node.ended


def test_a_disk_that_returns_gets_what_waited_in_parts() -> None:
    """Each line of the log is bounded in bytes, and nothing is acknowledged before its part is on the disk."""
    node = follower()
    node.core.pipeline = Pipeline(write_bytes=100)
    node.step(append(log="1")).step(append(prev=(1, 1), log="1 1 1 1 1 1 1 1 1"))
    node.step(append(term=2, leader_id=2, prev=(8, 1), log="2 2"))
    (first,) = node.writes
    assert sent_matches(node.take_sent()) == []
    whole: list[int] = []
    while node.writes:
        persist = node.writes.pop(0)
        for record in persist.records:
            match record:
                case Append():
                    assert sum(len(entry.command) for entry in record.entries) <= 100
                    whole += [entry.term for entry in record.entries]
                case Truncate():
                    del whole[record.from_index - 1 :]
                    assert record.digest
                case _:
                    pass
        assert all(match <= len(whole) for match in sent_matches([(send.to, send.message) for send in persist.then]))
        node.core.persisted(persist.number, node.now)
        node.perform()
        durable = node.core.durability.durable_index
        assert whole[:durable] == [node.core.log.term(index) for index in range(1, durable + 1)]
    assert first.number == 1
    assert whole == [1] * 8 + [2, 2]
    assert node.core.durability.durable_index == 10


def test_a_configuration_is_named_by_the_record_that_has_its_entry() -> None:
    """BUG-40: recovery finds it there, also if the queue is written in parts."""
    node = follower()
    node.core.pipeline = Pipeline(write_bytes=100)
    node.step(append(log="1"))
    node.step(append(prev=(1, 1), log="1 1 1 1"))
    node.step(append_readmission((5, 1), 1, 2))
    node.step(append(prev=(6, 1), log="1 1"))
    node.step(append_readmission((8, 1), 1, 1))
    named = []
    while node.writes:
        persist = node.writes.pop(0)
        named += [(record.first_index, record.configurations) for record in persist.records if isinstance(record, Append)]
        node.core.persisted(persist.number, node.now)
        node.perform()
    assert [index for _, indices in named for index in indices] == [6, 9]
    assert len(named) > 3


def sent_matches(sent: list[tuple[int, Message]]) -> list[int]:
    return [message.match_index for _, message in sent if isinstance(message, AppendReply) and message.success]


def test_a_starved_leader_that_was_cut_off_leaves_office() -> None:
    """Ongaro 6.2: its process is paused repeatedly; that restarts a peer's timer once, until its next message."""
    node = leader()
    for _ in range(20):
        node.now += 0.15
        node.core.tick(node.now)
        node.perform()
    assert node.core.role.name != "leader"


def test_a_starved_leader_with_answers_of_its_followers_stays() -> None:
    """The same, with answers in between."""
    node = leader()
    for _ in range(20):
        node.now += 0.9
        node.core.tick(node.now)
        node.perform()
        acknowledge(node, 1, node.core.log.last_index)
    assert node.core.role.name == "leader"


def test_a_starved_follower_whose_leader_died_stands() -> None:
    """Raft 5.2: likewise its own timer."""
    node = follower()
    node.step(append()).sync()
    for _ in range(3):
        node.now += 0.9
        node.core.tick(node.now)
        node.perform()
    assert node.core.role.name == "pre_candidate"


def test_of_the_pre_votes_that_wait_for_the_disk_only_the_newest_is_granted() -> None:
    """Granted together, they would start the elections of all pre-candidates at the same moment."""
    node = follower(nodes=(0, 1, 2, 3))
    node.step(VoteRequest(term=1, candidate_id=1, last_log_index=0, last_log_term=0))
    node.now += 1.0
    for peer in (1, 2, 3, 2):
        node.step(PreVoteRequest(term=2, candidate_id=peer, last_log_index=0, last_log_term=0))
    assert node.take_sent() == []
    node.sync()
    granted = [(peer, message) for peer, message in node.take_sent() if isinstance(message, PreVoteReply)]
    assert granted == [(2, PreVoteReply(term=2, voter_id=0, granted=True))]


def test_a_slow_voter_that_every_candidate_needs_does_not_split_the_votes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven nodes, three of them down: the others may not become candidates together whenever its disk is ready (seed 11059)."""
    monkeypatch.setattr(Nemesis, "_heal", lambda self: None)
    sync_s = 1.2
    for number in range(12):
        seed = SimulatedCluster(number, 7, frozenset(), keep=False)
        first = elected(seed, 10)
        for place in range(3):
            seed.servers[(first + place) % 7].crash(power=False)
        seed.servers[(first + 3) % 7].machine.disk_s = (sync_s, sync_s)
        elected(seed, 12 * sync_s)
