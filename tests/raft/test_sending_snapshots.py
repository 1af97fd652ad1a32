"""The leader sends its snapshot to followers that need compacted entries, and they install it (Raft 7)."""

import pytest
from msgspec import Raw, structs

from bargetrio.raft import snapshots
from bargetrio.raft.facts import SnapshotInstalled, SnapshotSent
from bargetrio.raft.log import Log
from bargetrio.raft.messages import (
    NO_OP,
    AppendReply,
    AppendRequest,
    Entry,
    LogDiffers,
    SnapshotReply,
)
from bargetrio.raft.records import Append, Install, LogStart
from tests.raft.cores import HEARTBEAT_S, acknowledge, append, entries, follower, leader, snapshot, terms
from tests.raft.saved import NEVER, answer, answer_heartbeat, lagging_leader, piece, progress, receiving, saved

# -- sending ---------------------------------------------------------------------------------------------------------------


def test_a_follower_whose_next_entry_is_gone_is_sent_the_snapshot() -> None:
    """From its beginning, in place of entries; heartbeats continue, with prev_log_index 0."""
    bench = lagging_leader()
    meta = bench.core.snapshot
    assert meta is not None
    assert bench.take_pieces() == [(2, 0)]
    assert bench.announced("snapshot_sent") == [SnapshotSent(peer=2, term=2, index=4, size=100, done=False)]
    bench.core.propose(None, NO_OP, bench.now)
    bench.tick(HEARTBEAT_S)
    to_node_2 = [message for to, message in bench.take_sent() if to == 2]
    assert all(isinstance(message, AppendRequest) and message.entries == () for message in to_node_2)
    assert {message.prev_log_index for message in to_node_2 if isinstance(message, AppendRequest)} == {0}


def test_the_next_piece_begins_where_the_followers_disk_ends() -> None:
    """One at a time; a repeated reply sends no chunk twice."""
    bench = lagging_leader()
    meta = bench.core.snapshot
    assert meta is not None
    assert bench.take_pieces() == [(2, 0)]
    answer(bench, 2, meta, 40)
    assert bench.take_pieces() == [(2, 40)]
    answer(bench, 2, meta, 40)
    assert bench.take_pieces() == []
    answer(bench, 2, meta, 80)
    assert bench.take_pieces() == [(2, 80)]


def test_a_piece_that_is_not_answered_is_sent_again() -> None:
    """A minimum election timeout after what was sent behind it is answered: it, or its reply, was lost."""
    bench = lagging_leader()
    meta = bench.core.snapshot
    assert meta is not None
    answer(bench, 2, meta, 40)
    bench.take_pieces()
    for _ in range(6):
        acknowledge(bench, 1, 6)
        answer_heartbeat(bench, 2)
        bench.tick(HEARTBEAT_S)
    assert bench.take_pieces() == []
    for _ in range(2):
        bench.tick(HEARTBEAT_S)
    assert bench.take_pieces() == [(2, 40)]


def test_a_follower_that_was_restarted_is_sent_it_from_the_beginning() -> None:
    """It has lost the chunks (BUG-35)."""
    bench = lagging_leader()
    meta = bench.core.snapshot
    assert meta is not None
    answer(bench, 2, meta, 80)
    bench.take_pieces()
    answer(bench, 2, meta, 0)
    assert bench.take_pieces() == [(2, 0)]


def test_what_must_be_sent_from_the_beginning_again_is_the_newest_one() -> None:
    """A damaged file never becomes complete at the follower: the next snapshot is sent, and the log not kept for it (OWN-25)."""
    bench = lagging_leader()
    old = bench.core.snapshot
    assert old is not None
    answer(bench, 2, old, 50)
    answer(bench, 2, old, 0)
    new = saved(bench)  # though it was not time for one
    answer(bench, 2, old, 50)
    assert new.last_index > old.last_index
    answer(bench, 2, old, 0)
    transfer = progress(bench, 2).transfer
    assert transfer is not None
    assert (transfer.snapshot, transfer.offset) == (new, 0)


def test_a_long_log_that_a_snapshot_replaces_is_given_back_slice_by_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A million entries at once would hold the loop."""
    log = Log(entries("1 " * 25))
    log.reset(LogStart(index=30, term=2))
    assert (log.start_index, log.last_index) == (30, 30)
    left = []
    for _ in range(3):
        log.drop(10, 1 << 20)
        left.append(len(log.forgotten))
    assert left == [15, 5, 0]
    monkeypatch.setattr(snapshots, "COMPACTION_SLICE", 1)
    bench, meta = receiving(log="1 1 1")
    bench.step(piece(meta, 50)).stored(100).sync()
    for _ in range(3):
        bench.perform()  # no further snapshot is waited for (OWN-36)
    assert bench.core.log.forgotten == []


def test_entries_follow_when_the_snapshot_is_installed() -> None:
    """From the one after it; and it counts as a copy of all before."""
    bench = lagging_leader()
    meta = bench.core.snapshot
    assert meta is not None
    answer(bench, 2, meta, installed=True)
    assert (progress(bench, 2).match_index, progress(bench, 2).state) == (4, "replicate")
    sent = [message for to, message in bench.take_sent() if to == 2 and isinstance(message, AppendRequest)]
    assert [(message.prev_log_index, len(message.entries)) for message in sent] == [(4, 2)]
    assert bench.announced("snapshot_sent")[-1] == SnapshotSent(peer=2, term=2, index=4, size=100, done=True)
    bench.take_pieces()
    answer(bench, 2, meta, 40)  # an answer that was long on its way
    assert bench.take_pieces() == []


def test_entries_that_were_on_their_way_end_the_sending() -> None:
    """The follower has the entry before this log's first."""
    bench = lagging_leader()
    acknowledge(bench, 2, 5)
    assert (progress(bench, 2).state, progress(bench, 2).transfer, progress(bench, 2).match_index) == ("replicate", None, 5)


def test_a_refusal_does_not_end_the_sending() -> None:
    """Heartbeats with prev_log_index 0 are never refused; an old refusal was overtaken."""
    bench = lagging_leader()
    bench.take_pieces()
    bench.step(AppendReply(term=2, follower_id=2, success=False, prev_log_index=5, round=0))
    assert (progress(bench, 2).state, bench.take_pieces()) == ("snapshot", [])


def test_what_was_begun_is_sent_to_its_end() -> None:
    """Although a newer snapshot is taken meanwhile: a slow follower would never get a complete one."""
    bench = lagging_leader()
    meta = bench.core.snapshot
    assert meta is not None
    bench.core.take_snapshot()
    newer = saved(bench.perform())
    bench.take_pieces()
    answer(bench, 2, meta, 40)
    assert [(request.snapshot, request.offset) for _, request in bench.pieces] == [(meta, 40)]
    assert bench.compacted[-1].keep == {meta.last_index, newer.last_index}


def test_an_answer_about_something_else_changes_nothing() -> None:
    """Another snapshot, an old term, an offset beyond the end, an unknown node."""
    bench = lagging_leader()
    meta = bench.core.snapshot
    assert meta is not None
    bench.take_pieces()
    answer(bench, 2, snapshot("1 1 1"), installed=True)
    answer(bench, 2, meta, 101)
    answer(bench, 9, meta, installed=True)
    bench.step(SnapshotReply(term=1, follower_id=2, last_index=4, bytes_stored=0, installed=True))
    assert (progress(bench, 2).state, bench.take_pieces()) == ("snapshot", [])
    bench.step(SnapshotReply(term=9, follower_id=2, last_index=4, bytes_stored=0, installed=False))
    assert (bench.core.role.name, bench.core.current_term) == ("follower", 9)


def test_reads_go_on_while_a_snapshot_is_sent() -> None:
    """Two nodes: the lagging one still acknowledges rounds (Ongaro 6.4)."""
    bench = leader(nodes=(0, 1), log="1 1 1 1 1", saved=4, compacted=4, policy=NEVER)
    bench.core.role.progress[1].state = "snapshot"  # type: ignore[union-attr]  # it leads
    bench.core.role.progress[1].transfer = None  # type: ignore[union-attr]
    snapshots.begin_transfer(bench.core, 1, progress(bench, 1))
    bench.core.read("r", bench.now)
    bench.perform()
    (request,) = [message for _, message in bench.take_sent() if isinstance(message, AppendRequest)]
    bench.step(AppendReply(term=2, follower_id=1, success=True, match_index=0, prev_log_index=0, round=request.round))
    assert bench.ended == {"r": "read at 6"}


# -- receiving -------------------------------------------------------------------------------------------------------------


def test_pieces_are_stored_in_order() -> None:
    """And the leader gets the number of stored bytes once they are on the disk."""
    bench = follower()
    of = snapshot("1 1 1 1 2 2")
    bench.step(piece(of)).sync()
    assert bench.replies() == []
    assert [(effect.offset, len(effect.data)) for effect in bench.storing] == [(0, 50)]
    bench.step(piece(of, 50))  # the one before it is being written
    assert len(bench.storing) == 1
    bench.stored(50)
    assert bench.replies() == [SnapshotReply(term=2, follower_id=0, last_index=6, bytes_stored=50, installed=False)]
    bench.step(piece(of, 20))
    assert bench.storing == []
    assert bench.replies() == [SnapshotReply(term=2, follower_id=0, last_index=6, bytes_stored=50, installed=False)]


def test_a_piece_of_an_old_term_is_refused() -> None:
    """The answer's term makes the deposed leader step down (Raft 5.1)."""
    bench = follower(term=5)
    bench.step(piece(snapshot("1 1")))
    assert bench.storing == []
    assert bench.replies() == [SnapshotReply(term=5, follower_id=0, last_index=2, bytes_stored=0, installed=False)]


def test_a_piece_is_a_sign_of_life() -> None:
    """It restarts the election timer; a candidate of that term becomes a follower (Raft 5.2)."""
    bench = follower()
    bench.tick(0.2)
    bench.step(piece(snapshot("1 1")))
    assert (bench.core.role.name, bench.core.leader_id) == ("follower", 1)
    assert bench.core.has_live_leader(bench.now)
    assert bench.core.next_deadline() >= bench.now + 0.3


def test_what_is_committed_here_is_not_taken_again() -> None:
    """An older snapshot never replaces newer state (BUG-32); the leader may go on with entries."""
    bench = follower(log="1 1 1 1 2 2 2")
    bench.step(append(term=2, prev=(7, 2), commit=7)).sync()
    bench.take_sent()
    bench.step(piece(snapshot("1 1 1 1 2 2")))
    assert (bench.storing, terms(bench.core.log)) == ([], [1, 1, 1, 1, 2, 2, 2])
    assert bench.replies() == [SnapshotReply(term=2, follower_id=0, last_index=6, bytes_stored=0, installed=True)]


def test_a_log_that_holds_its_last_entry_keeps_what_follows() -> None:
    """Figure 13, 6: the entries before it are committed, those behind it stay."""
    bench = follower(log="1 1 1 1 2 2 2 2")
    bench.step(piece(snapshot("1 1 1 1 2 2"))).sync()
    assert (bench.storing, bench.core.commit_index, terms(bench.core.log)) == ([], 6, [1, 1, 1, 1, 2, 2, 2, 2])
    assert [message for message in bench.replies() if isinstance(message, SnapshotReply)] == [
        SnapshotReply(term=2, follower_id=0, last_index=6, bytes_stored=0, installed=True)
    ]


def test_a_whole_snapshot_takes_the_place_of_the_log() -> None:
    """Figure 13, 7 and 8: entries with another last term go, and all around them (BUG-33)."""
    bench, of = receiving(log="1 1 1 1 1 1 1")
    bench.step(piece(of, 50)).stored(100)
    assert (bench.core.log.start_index, bench.core.log.last_index, bench.core.log.last_term) == (6, 6, 2)
    assert bench.core.log.digest(6) == of.digest
    (write,) = bench.writes
    assert write.records == (Install(snapshot=of),)
    assert (bench.replies(), bench.loading) == ([], [])
    bench.sync()
    assert bench.replies() == [SnapshotReply(term=2, follower_id=0, last_index=6, bytes_stored=100, installed=True)]
    assert [effect.snapshot for effect in bench.loading] == [of]
    assert (bench.core.commit_index, bench.core.last_applied, bench.applied) == (6, 0, [])


def test_applying_goes_on_behind_the_snapshot() -> None:
    """Nothing is applied while the state is being replaced, and nothing twice; other snapshots' files go."""
    bench, of = receiving()
    bench.step(piece(of, 50)).stored(100).sync()
    bench.step(append(term=2, prev=(6, 2), log="2 2", commit=8)).sync()
    assert (bench.applied, bench.core.commit_index) == ([], 8)
    bench.core.snapshot_loaded(of)
    bench.perform()
    assert [(effect.first, effect.last) for effect in bench.applied] == [(7, 8)]
    assert [(effect.first_index, effect.keep) for effect in bench.compacted] == [(7, frozenset({6}))]
    installed = SnapshotInstalled(peer=1, term=2, index=6, digest=of.digest, size=100)
    assert bench.announced("snapshot_installed") == [installed]


def test_entries_that_come_before_the_installation_is_written_follow_it() -> None:
    """One write: the snapshot, then the entries after it; nothing that was queued for the old log."""
    bench, of = receiving(log="1 1")
    bench.step(append(term=2, prev=(2, 1), log="1"))  # in flight
    bench.step(append(term=2, prev=(3, 1), log="1"))  # queued
    bench.step(piece(of, 50)).stored(100)
    bench.step(append(term=2, prev=(6, 2), log="2"))
    assert [type(record) for record in bench.writes[0].records] == [Append]
    bench.core.persisted(bench.writes.pop().number, bench.now)
    bench.perform()
    assert [type(record) for record in bench.writes[0].records] == [Install, Append]
    assert bench.core.durability.durable_index == 0
    bench.sync()
    assert bench.core.durability.durable_index == 7


def test_entries_that_came_while_its_last_piece_was_written_stay() -> None:
    """They were acknowledged, and may be committed by now: the log holds its last entry, so it is not needed (OWN-15)."""
    bench, of = receiving(log="1 1 1")
    bench.step(piece(of, 50))
    bench.step(append(term=3, leader_id=2, prev=(3, 1), log="1 2 2 3", commit=4)).sync()
    assert [message.match_index for message in bench.replies() if isinstance(message, AppendReply)] == [7]
    bench.stored(100).sync()
    assert (bench.core.log.last_index, bench.core.commit_index, bench.loading) == (7, 6, [])
    assert bench.core.durability.durable_index == 7


def test_entries_of_another_log_that_came_while_its_last_piece_was_written_are_not_taken_for_it() -> None:
    """Same index and term, another digest: neither is the snapshot acknowledged, nor these entries committed for it."""
    bench, of = receiving(log="1 1 1")
    bench.step(piece(of, 50))
    request = append(term=3, leader_id=2, prev=(3, 1), log="1 2 2 3")
    other = Entry(1, Raw(b'{"op":"put","key":"i4","value":"another"}'))
    bench.step(structs.replace(request, entries=(other, *request.entries[1:]))).sync()
    bench.take_sent()
    bench.stored(100).sync()
    assert bench.take_sent() == [(1, LogDiffers(term=3, follower_id=0, index=6))]
    assert (bench.core.log.last_index, bench.core.commit_index, bench.loading) == (7, 0, [])


def test_a_snapshot_that_entries_have_overtaken_is_not_installed() -> None:
    """What is here is newer (BUG-32)."""
    bench, of = receiving(log="1 1 1")
    bench.step(piece(of, 50))
    bench.step(append(term=2, prev=(3, 1), log="1 2 2 2", commit=7)).sync()
    bench.stored(100).sync()
    assert (bench.core.log.last_index, bench.core.commit_index, bench.loading) == (7, 7, [])


def test_what_was_received_of_a_snapshot_that_entries_overtook_is_given_back() -> None:
    """No leader may ever send another chunk of it; its file would stay until the node restarts (OWN-34)."""
    bench, of = receiving(log="1 1 1")
    bench.step(append(term=3, leader_id=2, prev=(3, 1), log="1 2 2 3", commit=7)).sync()
    assert [(effect.snapshot, effect.offset, effect.data) for effect in bench.storing] == [(of, 0, b"")]
    bench.stored(0)
    assert bench.core.snapshots.receiving is None


def test_a_piece_that_is_written_when_entries_overtake_its_snapshot_is_waited_for() -> None:
    """Then the file is deleted (OWN-34)."""
    bench, of = receiving(log="1 1 1")
    bench.step(piece(of, 50, data=b"x" * 20))
    bench.step(append(term=3, leader_id=2, prev=(3, 1), log="1 2 2 3", commit=7)).sync()
    assert [effect.data for effect in bench.storing] == [b"x" * 20]
    bench.stored(70)
    assert [effect.data for effect in bench.storing] == [b""]
    bench.stored(0)
    assert bench.core.snapshots.receiving is None


def test_a_late_piece_of_what_is_here_does_not_disturb_what_is_being_received() -> None:
    """Its writing goes on; a second file begun beside it would mix the two (OWN-16)."""
    bench, of = receiving(log="1 1 1")
    bench.step(append(term=2, prev=(3, 1), commit=2)).sync()
    bench.step(piece(of, 50))
    bench.step(piece(snapshot("1 1")))
    bench.step(piece(of))
    assert [effect.offset for effect in bench.storing] == [50]
    bench.stored(100).sync()
    assert [effect.snapshot for effect in bench.loading] == [of]


def test_a_second_snapshot_waits_until_the_first_is_in_place() -> None:
    """Two in quick succession (BUG-35)."""
    bench, of = receiving()
    bench.step(piece(of, 50)).stored(100)
    newer = snapshot("1 1 1 1 2 2 2 2")
    bench.take_sent()
    bench.step(piece(newer))
    assert (bench.storing, bench.replies()) == ([], [])
    bench.sync()
    bench.core.snapshot_loaded(of)
    bench.step(piece(newer))
    assert [effect.snapshot for effect in bench.storing] == [newer]


def test_of_one_leader_the_newer_snapshot_counts() -> None:
    """A chunk of the older one was delayed; a snapshot of another leader is accepted whatever its index."""
    bench, of = receiving()
    older = snapshot("1 1 1 1 2")
    bench.step(piece(older))
    assert bench.storing == []
    bench.step(piece(older, term=3, leader_id=2))
    assert [effect.snapshot for effect in bench.storing] == [older]
    bench.stored(50)
    bench.step(piece(of, 50, term=3, leader_id=2)).sync()
    assert bench.replies()[-1] == SnapshotReply(term=3, follower_id=0, last_index=6, bytes_stored=0, installed=False)


def test_the_same_file_from_another_leader_is_gone_on_with() -> None:
    """The same label, size and checksum: the same bytes."""
    bench, of = receiving()
    bench.step(piece(of, 50, term=3, leader_id=2))
    assert [(effect.snapshot, effect.offset) for effect in bench.storing] == [(of, 50)]


def test_a_file_that_is_not_what_it_should_be_is_received_again() -> None:
    """Storage counts nothing of it as stored."""
    bench, of = receiving(log="1 1")
    bench.step(piece(of, 50)).stored(0)
    assert bench.replies() == [SnapshotReply(term=2, follower_id=0, last_index=6, bytes_stored=0, installed=False)]
    assert terms(bench.core.log) == [1, 1]
    bench.step(piece(of))
    assert [effect.offset for effect in bench.storing] == [0]


def test_a_snapshot_that_ends_while_another_is_put_in_place_does_not_hold_up_the_next() -> None:
    """It is not used, and no snapshot is being taken any more."""
    bench = follower(policy=NEVER, log="1 1 1")
    bench.core.take_snapshot()
    bench.step(append(term=2, prev=(3, 1), commit=2)).sync()
    of = snapshot("1 1 1 1 2 2")
    bench.step(piece(of)).stored(50).step(piece(of, 50)).stored(100)
    own = saved(bench)
    assert (own.last_index, bench.core.snapshots.installing, bench.core.snapshots.is_taking) == (2, of, False)
    bench.sync()
    bench.core.snapshot_loaded(of)
    bench.core.take_snapshot()
    bench.step(append(term=2, prev=(6, 2), log="2", commit=7)).sync()
    assert [effect.last_index for effect in bench.taking] == [7]
