"""Links on which a message takes longer than an election timeout, or a reply is late: no node is taken for dead."""

from collections.abc import Iterator

import pytest
from msgspec import Raw, structs

from bargetrio.raft.messages import AppendReply, AppendRequest, Message, SnapshotRequest, StillReceiving, is_bulk
from bargetrio.raft.progress import Pipeline
from bargetrio.raft.roles import Leader
from tests.raft.cores import ELECTION_S, HEARTBEAT_S, Bench, acknowledge, append, follower, leader, snapshot
from tests.raft.saved import answer, answer_heartbeat, lagging_leader, piece, progress, receiving, saved

# -- long messages ---------------------------------------------------------------------------------------------------------


def bytes_come(bench: Bench, peer: int, seconds: float) -> list[tuple[int, Message]]:
    """A long message of the peer arrives during `seconds`; return the messages sent meanwhile."""
    end = bench.now + seconds
    while bench.now < end:
        bench.tick(0.01)
        bench.core.bytes_received(peer, bench.now)
        bench.perform()
    return bench.take_sent()


def test_bytes_of_the_leader_put_off_an_election() -> None:
    """Raft 5.2: the leader is alive while its long message arrives; when no more bytes arrive, the usual timeout applies."""
    node = follower()
    node.step(append()).sync()
    node.take_sent()
    bytes_come(node, 1, 5.0)
    assert (node.core.role.name, node.core.leader_id) == ("follower", 1)
    assert node.core.has_live_leader(node.now)
    node.tick(ELECTION_S[1])
    assert node.core.role.name == "pre_candidate"


def test_the_leader_is_notified_that_its_message_is_arriving() -> None:
    """Once per heartbeat interval, however many pieces arrive."""
    node = follower()
    node.step(append()).sync()
    node.take_sent()
    said = bytes_come(node, 1, 1.0)
    assert set(said) == {(1, StillReceiving(term=1, follower_id=0))}
    assert 1.0 / HEARTBEAT_S * 0.8 <= len(said) <= 1.0 / HEARTBEAT_S


@pytest.mark.parametrize("peer", [2, 7])
def test_bytes_of_another_node_do_not_restart_the_timer(peer: int) -> None:
    """Only those of this term's leader."""
    node = follower()
    node.step(append()).sync()
    node.take_sent()
    bytes_come(node, peer, ELECTION_S[1] + 0.02)
    assert node.core.role.name == "pre_candidate"


def test_bytes_of_a_leader_of_an_earlier_term_count_no_more() -> None:
    """Its term is over here: this node has voted for another."""
    node = follower()
    node.step(append()).sync()
    node.core.set_term(2, 2, "")
    node.core.become_follower(node.now, term=2, leader_id=None, reason="")
    node.perform().sync()
    bytes_come(node, 1, ELECTION_S[1] + 0.02)
    assert node.core.role.name == "pre_candidate"


def test_a_follower_that_is_still_receiving_counts_for_the_leaders_quorum() -> None:
    """Ongaro 6.2; silent ones do not count, so a leader whose followers have stopped steps down after the usual time."""
    node = leader()
    term = node.core.current_term
    for _ in range(100):
        node.step(StillReceiving(term=term, follower_id=1))
        node.tick(HEARTBEAT_S)
    assert node.core.leader_id == 0
    node.tick(ELECTION_S[1] + HEARTBEAT_S)
    assert node.core.leader_id is None


def test_a_message_of_another_term_is_handled_by_its_term() -> None:
    """One of an earlier term proves nothing, one of a later term makes the leader a follower (Raft 5.1)."""
    node = leader()
    term = node.core.current_term
    for _ in range(20):
        node.step(StillReceiving(term=term - 1, follower_id=1))
        node.step(StillReceiving(term=term, follower_id=9))
        node.tick(HEARTBEAT_S)
    assert node.core.leader_id is None
    other = leader()
    other.step(StillReceiving(term=other.core.current_term + 1, follower_id=1))
    assert (other.core.role.name, other.core.current_term) == ("follower", term + 1)


def test_it_says_nothing_about_logs_and_reads() -> None:
    """Ongaro 6.4: a read is confirmed by replies to its round only."""
    node = leader()
    node.core.read("r", node.now)
    node.perform()
    node.step(StillReceiving(term=node.core.current_term, follower_id=1))
    assert node.ended == {}
    assert progress(node, 1).match_index == node.core.log.last_index


def leader_round(bench: Bench) -> int:
    assert isinstance(bench.core.role, Leader)
    return bench.core.role.round


# -- pieces of a snapshot --------------------------------------------------------------------------------------------------


def heartbeats(bench: Bench, count: int, *said: Message, answers: bool = True) -> list[tuple[int, int]]:
    """Let `count` heartbeats pass; after each, node 1 replies, and node 2 too if it `answers`, and it sends `said`.

    Return the chunks to be sent.
    """
    for _ in range(count):
        acknowledge(bench, 1, bench.core.log.last_index)
        if answers:
            answer_heartbeat(bench, 2)
        for message in said:
            bench.step(message)
        bench.tick(HEARTBEAT_S)
    return bench.take_pieces()


def test_a_piece_that_has_not_left_is_not_sent_again() -> None:
    """Queued behind itself it would only load the link."""
    bench = lagging_leader()
    bench.take_pieces()
    bench.core.snapshots.has_unsent = lambda peer: peer == 2
    assert heartbeats(bench, 100) == []
    bench.core.snapshots.has_unsent = lambda peer: False
    assert heartbeats(bench, 6) == []
    assert heartbeats(bench, 2) == [(2, 0)]


def test_a_piece_is_not_sent_again_while_nothing_that_followed_it_is_answered() -> None:
    """It may be in a queue of the network, which this end does not see; and so may be all that followed it."""
    bench = lagging_leader()
    bench.take_pieces()
    assert heartbeats(bench, 1) == []
    round_before = leader_round(bench)
    assert heartbeats(bench, 100, answers=False) == []
    assert leader_round(bench) == round_before, "the heartbeats behind it have one number"
    reply = AppendReply(term=bench.core.current_term, follower_id=2, success=False, prev_log_index=6, round=round_before - 1)
    assert heartbeats(bench, 100, reply, answers=False) == [], "an answer to an earlier heartbeat"
    assert heartbeats(bench, 5) == []
    assert heartbeats(bench, 2) == [(2, 0)]


def test_a_piece_that_is_arriving_is_not_sent_again() -> None:
    """The follower reports that a long message is arriving; the buffers of routers are not visible here."""
    bench = lagging_leader()
    bench.take_pieces()
    said = StillReceiving(term=bench.core.current_term, follower_id=2)
    assert heartbeats(bench, 100, said) == []
    assert heartbeats(bench, 8) == [(2, 0)]


def test_time_alone_sends_a_piece_again_less_and_less_often() -> None:
    """0.3 s, 0.6 s, 1.2 s, 2.4 s, and then every 2.4 s; after an answer it begins anew."""
    bench = lagging_leader()
    meta = bench.core.snapshot
    assert meta is not None
    bench.take_pieces()
    moments = [number for number in range(1, 230) if heartbeats(bench, 1)]
    steps = [round((after - before) * HEARTBEAT_S, 2) for before, after in zip([0, *moments], moments, strict=False)]
    assert steps == [0.35, 0.65, 1.25, 2.45, 2.45, 2.45], "a heartbeat more, until the next is answered"
    answer(bench, 2, meta, 40)
    bench.take_pieces()
    assert heartbeats(bench, 8) == [(2, 40)]


def test_what_a_connection_held_that_ended_is_sent_again_at_once() -> None:
    """It is lost with the connection; another follower's is not."""
    bench = lagging_leader()
    bench.take_pieces()
    bench.core.link_up(1, bench.now)
    assert bench.perform().take_pieces() == []
    bench.core.link_up(2, bench.now)
    assert bench.perform().take_pieces() == [(2, 0)]
    node = follower()
    node.core.link_up(1, node.now)
    assert node.perform().take_sent() == []


def test_a_snapshot_of_which_nothing_has_arrived_is_replaced_by_the_newest_on_a_new_connection() -> None:
    """Otherwise two would cross, one after the other; of one that has arrived in part the rest is sent."""
    for stored in (0, 40):
        bench = lagging_leader()
        old = bench.core.snapshot
        assert old is not None
        answer(bench, 2, old, stored)
        bench.core.take_snapshot()
        new = saved(bench.perform())
        bench.core.link_up(2, bench.now)
        bench.take_pieces()
        bench.perform()
        transfer = progress(bench, 2).transfer
        assert transfer is not None and transfer.snapshot == (old if stored else new) and old != new
        assert bench.take_pieces() == [(2, stored)]


# -- files that end too early ----------------------------------------------------------------------------------------------


def test_the_newest_snapshot_is_sent_in_the_place_of_one_that_cannot_be_read() -> None:
    """Once it is found to be gone, or shorter than its label."""
    bench = lagging_leader()
    old = bench.core.snapshot
    assert old is not None
    bench.core.take_snapshot()
    new = saved(bench.perform())
    bench.take_pieces()
    bench.core.piece_missing(2, old)
    assert [(request.snapshot, request.offset) for _, request in bench.perform().pieces] == [(new, 0)]


def test_another_one_is_taken_in_the_place_of_the_newest_if_that_cannot_be_read() -> None:
    """Though nothing was applied since: the state is here, and without the follower nothing else may ever be committed."""
    bench = leader(log="1 1 1 1", saved=4, compacted=4, settled=False)
    acknowledge(bench, 1, 5)
    bench.core.take_snapshot()
    old = saved(bench.perform())
    bench.step(AppendReply(term=2, follower_id=2, success=False, prev_log_index=4, round=0))
    bench.take_pieces()
    answer(bench, 2, old, 60)
    bench.take_pieces()
    bench.core.piece_missing(2, old)
    bench.core.piece_missing(2, snapshot("1 1"))  # of another one: an answer that came late
    bench.core.piece_missing(1, old)
    bench.perform()
    assert [effect.last_index for effect in bench.taking] == [5]
    new = saved(bench, size=90)
    assert bench.core.snapshot == new != old
    assert [(to, request.snapshot, request.offset) for to, request in bench.pieces] == [(2, new, 0)]


def test_a_snapshot_is_not_saved_over_one_that_is_whole() -> None:
    """A backup asked for one while the disk lagged, then a leader's was installed: its label would be another file's."""
    bench, of = receiving()
    bench.core.take_snapshot()
    bench.perform()
    bench.step(piece(of, 50)).stored(100).sync()
    bench.core.snapshot_loaded(of)
    bench.perform()
    assert (bench.taking, bench.core.snapshots.is_asked, bench.core.snapshot) == ([], False, of)
    bench.core.take_snapshot()
    assert (bench.perform().taking, bench.core.snapshots.is_asked) == ([], False)


def test_in_a_later_term_the_same_leader_may_send_an_older_snapshot() -> None:
    """Its disk was replaced; in the same term an older one was only long on its way."""
    bench, _ = receiving()
    older = snapshot("1 1 1 1 1")
    bench.step(piece(older))
    assert bench.storing == []
    bench.step(piece(older, term=3))
    assert [(effect.snapshot, effect.offset) for effect in bench.storing] == [(older, 0)]


def test_a_follower_that_begins_anew_twice_is_sent_another_file() -> None:
    """Once it was perhaps restarted; twice our file is damaged, though all of it can be read."""
    bench = lagging_leader()
    old = bench.core.snapshot
    assert old is not None
    bench.core.last_applied = old.last_index  # nothing was applied since
    bench.core.commit_index = old.last_index
    bench.is_judged = False
    for _ in range(2):
        answer(bench, 2, old, 80)
        answer(bench, 2, old, 0)
    bench.perform()
    assert [effect.last_index for effect in bench.taking] == [old.last_index]


# -- long round trips ------------------------------------------------------------------------------------------------------

ROUND_TRIP_S = 0.2
PASS_S = 0.005
SMALL = Pipeline(batch_entries=20, window_appends=64, far_behind=100, catch_up_entries=10)
"""A hundredth of what nodes use, for a hundredth of 80,000 entries a second."""


class FarAway:
    """A leader, a near follower, and one that is 100 ms away, in virtual time."""

    def __init__(self) -> None:
        self.leader = leader()
        self.leader.core.pipeline = SMALL
        self.far = follower(node_id=2)
        first = self.leader.core.log.slice(1, 1)
        self.far.step(structs.replace(append(term=1, commit=1), entries=first)).sync()
        self.far.take_sent()
        self.in_the_air: list[tuple[float, Bench, Message]] = []
        self.appends = 0

    def passes(self, seconds: float, entries: int, *, far_hears: bool = True, answers: bool = True) -> Iterator[int]:
        """Propose so many entries every pass; yield what the far follower lacks after each. Answers that may not arrive wait."""
        node, far = self.leader, self.far
        for _ in range(round(seconds / PASS_S)):
            now = node.now + PASS_S
            node.tick(PASS_S)
            far.now = now
            for _ in range(entries):
                node.core.propose(None, Raw(b'"x"'), now)
            node.perform().sync()
            acknowledge(node, 1, node.core.log.last_index)
            due = [each for each in self.in_the_air if each[0] <= now and (answers or each[1] is far)]
            self.in_the_air = [each for each in self.in_the_air if each not in due]
            for _, to, message in due:
                if to is node or far_hears:
                    to.step(message)
            far.perform().sync()
            for peer, message in node.take_sent():
                if peer == 2:
                    self.appends += is_bulk(message)
                    self.in_the_air.append((now + ROUND_TRIP_S / 2, far, message))
            self.in_the_air += [(now + ROUND_TRIP_S / 2, node, message) for message in far.replies()]
            node.facts.clear()
            far.facts.clear()
            yield node.core.log.last_index - progress(node, 2).match_index


def test_a_healthy_follower_far_away_is_sent_all_as_it_comes() -> None:
    """800 entries a second, a round trip of 200 ms: 160 in flight, which must not count as lag."""
    world = FarAway()
    lacks = list(world.passes(3.0, 4))
    assert max(lacks) > SMALL.far_behind
    assert max(lacks[100:]) <= 4 * (ROUND_TRIP_S / PASS_S + 3)


def test_a_pause_of_its_answers_does_not_make_it_far_behind() -> None:
    """Nor do entries that wait meanwhile because the window is full."""
    world = FarAway()
    world.leader.core.pipeline = Pipeline(batch_entries=20, window_appends=40, far_behind=100, catch_up_entries=10)
    lacks = list(world.passes(3.0, 4))
    lacks += list(world.passes(0.3, 4, answers=False))
    assert max(lacks) > 3 * SMALL.far_behind
    lacks += list(world.passes(1.5, 4))
    assert lacks[-1] <= 4 * (ROUND_TRIP_S / PASS_S + 3)


def test_one_that_was_away_catches_up_while_the_load_lasts() -> None:
    """One append of 10 a round trip would be 50 entries a second, of 800 that are written."""
    world = FarAway()
    list(world.passes(1.0, 4))
    away = list(world.passes(4.0, 4, far_hears=False))
    assert away[-1] > 3000
    back = list(world.passes(25.0, 4))
    assert back[-1] <= 4 * (ROUND_TRIP_S / PASS_S + 3)


def test_one_that_is_near_catches_up_one_append_at_a_time() -> None:
    """That is what docs/decisions/catching_up.md protects: so much it can take, and the writes go on beside it."""
    node = leader(log="1 " * 2000)
    node.core.pipeline = SMALL
    state = progress(node, 2)
    state.match_index, state.next_index, state.state = 0, 1, "replicate"
    while node.core.log.last_index + 1 - state.next_index > SMALL.far_behind:
        node.core.role.has_lagging_follower = True  # type: ignore[union-attr]  # it leads
        for number in range(5):  # half as fast as it catches up
            node.core.propose(number, Raw(b'"x"'), node.now)
        node.perform().ended.clear()
        sent = [message for to, message in node.take_sent() if to == 2 and isinstance(message, AppendRequest) and message.entries]
        assert [len(message.entries) for message in sent] == [SMALL.catch_up_entries]
        acknowledge(node, 2, sent[0].prev_log_index + len(sent[0].entries))
    assert state.catch_up_window == 1


def test_what_is_bulk() -> None:
    """Entries and chunks; heartbeats, votes and replies have priority."""
    of = snapshot("1")
    assert is_bulk(append(log="1"))
    assert is_bulk(SnapshotRequest(term=1, leader_id=1, snapshot=of, offset=0, data=b"x"))
    assert not is_bulk(append())
    assert not is_bulk(StillReceiving(term=1, follower_id=1))
