"""A follower's progress, and the window of appends in flight (Figure 2; Ongaro 10.2.2)."""

from collections.abc import Callable

from bargetrio.raft.progress import Pipeline, Progress
from tests.raft.cores import snapshot


def replicating(next_index: int) -> Progress:
    """A follower in state replicate; two appends are in flight."""
    progress = Progress(next_index=1, heard_at=0.0)
    progress.become_replicate(next_index)
    progress.match_index = next_index - 1
    progress.sent(next_index + 1, 100)
    progress.sent(next_index + 4, 50)
    return progress


def test_what_was_sent_fills_the_window_and_moves_the_next_index() -> None:
    """Ongaro 10.2.2: ahead of the replies."""
    progress = replicating(5)
    assert (progress.next_index, list(progress.in_flight), progress.in_flight_bytes) == (10, [(6, 100), (9, 50)], 150)


def test_only_what_is_acknowledged_leaves_the_window() -> None:
    """An append that is acknowledged in part is still in flight."""
    progress = replicating(5)
    progress.match_index = 8
    progress.forget_acknowledged()
    assert (list(progress.in_flight), progress.in_flight_bytes) == ([(9, 50)], 50)


def test_every_transition_empties_the_window() -> None:
    """What was sent before it may be lost: it fills no window, and is sent again."""
    transitions: tuple[Callable[[Progress], None], ...] = (
        lambda progress: progress.become_probe(5),
        lambda progress: progress.become_replicate(5),
        lambda progress: progress.become_snapshot(snapshot("1 1 1")),
        lambda progress: progress.resume(4),
    )
    for become in transitions:
        progress = replicating(5)
        become(progress)
        assert (list(progress.in_flight), progress.in_flight_bytes) == ([], 0)


def test_a_transfer_is_there_in_the_state_snapshot_only() -> None:
    """However the state is left."""
    progress = replicating(3)
    progress.become_snapshot(snapshot("1 1 1"))
    assert progress.transfer is not None and (progress.state, progress.transfer.offset) == ("snapshot", 0)
    progress.become_probe(3)
    assert [progress.state, progress.transfer, progress.probe_sent, progress.next_index] == ["probe", None, False, 3]
    progress.become_snapshot(snapshot("1 1 1"))
    progress.resume(3)
    assert [progress.state, progress.transfer, progress.match_index, progress.next_index] == ["replicate", None, 3, 4]


def test_match_index_does_not_fall_when_entries_go_on() -> None:
    """It never decreases (BUG-18): a snapshot may end before what the follower has acknowledged since."""
    progress = replicating(5)
    progress.resume(2)
    assert (progress.match_index, progress.next_index) == (4, 5)


def test_a_follower_that_catches_up_gets_no_larger_window() -> None:
    """Its lag is measured after eight appends, and is smaller."""
    pipeline = Pipeline(catch_up_entries=10, window_appends=64)
    progress = replicating(1)
    assert progress.window_to_catch_up(1000, pipeline) == 1
    progress.match_index = 80
    assert progress.window_to_catch_up(1000, pipeline) == 1
    progress.match_index = 160
    assert progress.window_to_catch_up(1200, pipeline) == 2
