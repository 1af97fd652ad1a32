"""Raft 5.2: a split vote and its second round, scripted message by message; docs/tour.md has the resulting table."""

from pathlib import Path

from bargetrio.eventlog.recorder import Recorder
from bargetrio.raft.messages import Message, VoteRequest
from bargetrio.raft.roles import Candidate, Follower
from tests.eventlog.markdown import markdown_table
from tests.raft.cores import Table

TOUR = Path(__file__).parents[2] / "docs" / "tour.md"


class Scene(Table):
    """Five nodes, the last one down, so that one candidate needs three of four votes."""

    def __init__(self) -> None:
        super().__init__(5)
        self.recorder = Recorder("split", wall_clock=lambda: self.now)
        for bench in self.benches.values():
            bench.on_fact = self.recorder.record
        self.split = True

    def is_lost(self, source: int, target: int, message: Message) -> bool:
        """Return whether a message is lost: all to and from node 4; in the first round the requests of 0 to 3, and of 1 to 2."""
        if 4 in (source, target):
            return True
        return self.split and isinstance(message, VoteRequest) and (source, target) in ((0, 3), (1, 2))

    def deliver(self) -> None:
        """Deliver messages in rounds, all senders at once, so that neither candidate is ahead."""
        while True:
            moving: list[tuple[int, int, Message]] = []
            for node_id, bench in sorted(self.benches.items()):
                bench.perform().sync()
                moving += [(node_id, to, message) for to, message in bench.take_sent()]
            if not moving:
                return
            self.now += 0.001
            for source, to, message in moving:
                if not self.is_lost(source, to, message):
                    self.benches[to].now = self.now
                    self.benches[to].step(message)

    def wake(self, now: float, *node_ids: int) -> None:
        """Let the election timers of these nodes expire now, and deliver the resulting messages."""
        self.now = now
        for node_id in node_ids:
            role = self.core(node_id).role
            assert isinstance(role, Follower | Candidate)
            role.election_deadline = now
            if isinstance(role, Candidate):
                role.time_ends_at = now
            self.core(node_id).tick(now)
        self.deliver()


def play() -> Scene:
    """Nodes 0 and 1 stand at the same time and get two votes each; then node 1 times out first and wins the second round."""
    scene = Scene()
    scene.wake(0.300, 0, 1)
    assert scene.leaders() == []
    assert [scene.core(node_id).voted_for for node_id in range(4)] == [0, 1, 0, 1]
    scene.split = False
    scene.wake(0.750, 1)
    return scene


def test_a_split_vote_elects_no_leader_and_the_second_round_does() -> None:
    """Raft 5.2: each term has at most one leader, and here the first has none."""
    scene = play()
    assert scene.leaders() == [1]
    assert scene.core(1).current_term == 2
    assert {scene.core(node_id).voted_for for node_id in range(4)} == {1}


def test_the_tour_shows_this_very_table() -> None:
    """What docs/tour.md prints is what happens here."""
    scene = play()
    page = scene.recorder.page(None, limit=1000)
    table = markdown_table([scene.recorder.event(kept) for kept in page.events], range(4))
    assert table in TOUR.read_text(), f"docs/tour.md should hold:\n{table}"
