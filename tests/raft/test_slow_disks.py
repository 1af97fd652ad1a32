"""5.2 where syncs outlast election timeouts: an election waits for the disks that it needs, and ends."""

import pytest

from bargetrio.raft.messages import PreVoteReply, PreVoteRequest, VoteReply, VoteRequest
from bargetrio.raft.roles import DISK_DECIDES
from bargetrio.simulator.nemesis import Nemesis
from bargetrio.simulator.seed import Seed
from tests.raft.cores import Bench, append, candidate, follower


def stands(**options: object) -> Bench:
    """A candidate whose own vote is on its way to the disk."""
    node = follower(**options)
    node.tick(0.61)
    node.step(PreVoteReply(term=node.core.current_term + 1, voter_id=1, granted=True))
    assert node.core.role.name == "candidate"
    node.take_sent()
    return node


def vote(node: Bench, voter_id: int) -> VoteReply:
    return VoteReply(term=node.core.current_term, voter_id=voter_id, granted=True)


def test_a_candidates_time_begins_when_its_vote_is_on_the_disk() -> None:
    """While its sync hangs it begins no further term, and asks nobody."""
    node = stands()
    node.tick(2.5)
    assert (node.core.role.name, node.core.current_term, node.take_sent()) == ("candidate", 1, [])
    node.sync()
    assert [type(message) for message in node.replies()] == [VoteRequest, VoteRequest]
    assert node.core.next_deadline > node.now + 2 * 2.5  # its voters' disks may be as slow


def test_a_fast_candidate_waits_no_longer_than_an_election_timeout() -> None:
    """What is measured is the own sync: of a few milliseconds it changes nothing."""
    node = stands()
    node.tick(0.005)
    node.sync()
    assert 0.3 <= node.core.next_deadline - node.now <= 0.6


def test_a_voters_time_begins_when_its_vote_is_on_the_disk() -> None:
    """BUG-09: or it would stand against the candidate in the moment in which that hears of the vote."""
    node = follower()
    node.step(VoteRequest(term=1, candidate_id=1, last_log_index=0, last_log_term=0))
    node.tick(2.5)
    assert (node.core.role.name, node.take_sent()) == ("follower", [])
    node.sync()
    assert node.replies() == [VoteReply(term=1, voter_id=0, granted=True)]
    assert node.core.next_deadline >= node.now + 0.3


def test_votes_that_come_when_the_next_term_is_asked_about_make_a_leader() -> None:
    """A voter's sync took longer than the candidate's patience: it has not begun the next term, and leads this one."""
    node = candidate()
    node.tick(0.61)
    assert node.core.role.name == "pre_candidate"
    node.step(vote(node, 2))
    assert (node.core.role.name, node.core.current_term) == ("leader", 1)


def test_a_pre_candidate_that_was_no_candidate_counts_no_votes() -> None:
    """5.2: whoever votes for it in a term in which it did not stand, or gave its vote away, elects nobody."""
    node = follower(term=3, voted_for=1)
    node.tick(0.61)
    for voter in (1, 2):
        node.step(vote(node, voter))
    assert node.core.role.name == "pre_candidate"


def test_who_followed_a_leader_counts_no_votes_of_before() -> None:
    """5.2: another was elected in that term."""
    node = candidate()
    node.step(append(term=1))
    node.tick(0.61)
    node.step(vote(node, 2))
    assert node.core.role.name == "pre_candidate"


def test_who_has_a_write_that_hangs_does_not_stand() -> None:
    """Its vote would wait behind that write; when it has ended, a timeout is waited for, and no longer."""
    node = follower()
    node.step(append(log="1"))
    node.tick(5)
    assert (node.core.role.name, node.core.next_deadline) == ("follower", DISK_DECIDES)
    node.sync()
    node.tick(0.61)
    assert node.core.role.name == "pre_candidate"


def test_what_waits_for_a_sync_that_hangs_stays_little() -> None:
    """Every election timeout brings the same questions; of those to one node the newest is enough."""
    node = follower()
    node.step(VoteRequest(term=1, candidate_id=1, last_log_index=0, last_log_term=0))
    for _ in range(1000):
        for peer in (1, 2):
            node.step(PreVoteRequest(term=2, candidate_id=peer, last_log_index=0, last_log_term=0))
    node.sync()
    sent = node.replies()
    assert VoteReply(term=1, voter_id=0, granted=True) in sent
    assert len(sent) < 40


@pytest.mark.parametrize("nodes", [3, 5])
@pytest.mark.parametrize("sync_s", [(0.35, 0.5), (0.0, 1.8), (2.5, 2.5), (10.0, 10.0)], ids=str)
def test_an_election_ends_whatever_syncs_take(nodes: int, sync_s: tuple[float, float], monkeypatch: pytest.MonkeyPatch) -> None:
    """One leader stands within a minute, or fifteen syncs, and has committed an entry of its term; again when it has died."""
    monkeypatch.setattr(Nemesis, "_heal", lambda self: None)
    within_s = max(60, 15 * sync_s[1])
    for number in range(4):
        seed = Seed(number, nodes, frozenset(), keep=False)
        for server in seed.servers:
            server.disk_s = sync_s
        first = elected(seed, within_s)
        seed.servers[first].crash(power=False)
        assert elected(seed, within_s) != first


def elected(seed: Seed, within_s: float) -> int:
    """Let time pass until a leader has committed an entry of its term; return its id."""
    end = seed.world.now + within_s
    while seed.world.now < end:
        seed.world.run(seed.world.now + 0.1, 10_000_000)
        for server in seed.servers:
            core = server.core
            if core is not None and core.role.name == "leader" and core.log.term(core.commit_index) == core.current_term:
                return server.node_id
    raise AssertionError(f"nobody was elected within {within_s} s")
