"""Ring 2's disks that lose or alter what they had synced, other lists of nodes, backups, and the judge of that."""

from random import Random
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from bargetrio.raft.facts import CommitAdvanced, RoleChanged
from bargetrio.raft.log import Log
from bargetrio.raft.messages import NO_OP, Entry
from bargetrio.simulator.breaks import BREAKS, broken
from bargetrio.simulator.memory import Breach, Excused
from bargetrio.simulator.plan import INSTEAD, one_of_each_group
from bargetrio.simulator.stack.seed import run
from bargetrio.simulator.stack.stack import Stack
from bargetrio.simulator.stack.tails import Held, Tails, last_same

FEW = 12


def seeds_with(kind: str) -> list[int]:
    """Return seeds of three nodes that draw a rare kind."""
    return [seed for seed in range(100) if kind in Stack(seed, 3, frozenset({kind})).kinds]


class Found(NamedTuple):
    seed: int
    rule: str


def found(name: str) -> Found | None:
    """Return the first seed that a planted bug fails, and the rule that it breaks."""
    kinds = BREAKS[name].faults or BREAKS["lost_tail_sent_again"].faults
    for seed in range(FEW):
        with broken(name):
            failure = run(seed, 5, kinds).failure
        if failure is not None:
            assert run(seed, 5, kinds).failure is None
            return Found(seed, failure.rule)
    return None


@pytest.mark.parametrize(
    ("name", "rule"),
    [("lost_tail_sent_again", "a lost tail is reported"), ("sent_called_acknowledged", "no false accusation")],
)
def test_a_loss_that_is_not_reported_and_one_that_never_was_are_found(name: str, rule: str) -> None:
    """Each by its own rule, and the seed is clean with the rule back."""
    result = found(name)
    assert result is not None and result.rule == rule


@pytest.mark.parametrize("kind", ["lying_disks", "old_folders"])
def test_what_a_disk_lost_is_reported_and_its_node_votes_again(kind: str) -> None:
    """And nothing that a majority of the others held is missing."""
    reached = set[str]()
    for seed in seeds_with(kind)[:5]:
        result = run(seed, 3, frozenset({kind, "crashes"}))
        assert result.failure is None
        reached |= {goal for goal, count in result.goals.items() if count}
    assert {"synced_tail_lost", "tail_lost_told", "store_replaced"} <= reached


def test_a_node_whose_log_was_altered_stops_and_one_with_another_list_does_not_start() -> None:
    """Then it begins anew, or with the right list."""
    reached = set[str]()
    for seed in (*seeds_with("altered_logs")[:3], *seeds_with("other_nodes")[:2]):
        result = run(seed, 3, frozenset({"altered_logs", "other_nodes", "crashes"}))
        assert result.failure is None
        reached |= {goal for goal, count in result.goals.items() if count}
    assert {"log_altered", "logs_differ_told", "log_that_differs_stops", "taken_in", "other_nodes_refused"} <= reached


@pytest.mark.parametrize(
    ("kind", "goals"),
    [("restored", {"restored_written"}), ("other_backups", {"other_backup_refused", "restored_alike"})],
)
def test_folders_begin_with_backups(kind: str, goals: set[str]) -> None:
    """The same ones: a cluster is born and holds their contents. Different ones: nothing is committed until they are alike."""
    for seed in seeds_with(kind)[:3]:
        result = run(seed, 3, frozenset({kind, "kills"}))
        assert result.failure is None
        assert {goal for goal, count in result.goals.items() if count} >= goals


def test_different_backups_that_are_accepted_are_found() -> None:
    """By the first leader."""
    with broken("other_backups_accepted"):
        failure = run(seeds_with("other_backups")[0], 3, frozenset({"other_backups"})).failure
    assert failure is not None and failure.rule == "a mixed restore begins no cluster"


@pytest.mark.parametrize(
    ("name", "kind"),
    [("digests_not_compared", "altered_logs"), ("other_nodes_accepted", "other_nodes"), ("logs_not_compared", "")],
)
def test_what_ring_1_finds_is_found_in_the_whole_stack(name: str, kind: str) -> None:
    """Logs that are not compared, by their digests or for votes, and a list of nodes that is not."""
    kinds = frozenset({kind, "crashes"}) if kind else BREAKS["lost_tail_sent_again"].faults
    for seed in range(FEW):
        with broken(name):
            if run(seed, 5, kinds).failure is not None:
                return
    pytest.fail("it is not found")


def held(start_index: int, *digests: int) -> Held:
    """Return a log that begins after `start_index`, by its digests from there on."""
    by_index = dict(enumerate(digests, start_index))
    return Held("s", 1, None, start_index, start_index + len(digests) - 1, by_index)


@pytest.mark.parametrize(
    ("had", "has", "same"),
    [
        (held(0, 0, 1, 2, 3), held(0, 0, 1, 2, 3), 3),
        (held(0, 0, 1, 2, 3), held(0, 0, 1), 1),
        (held(0, 0, 1, 2, 3), held(0, 0, 1, 9, 9), 1),
        (held(5, 50, 60), held(0, 0, 10), 1),
        (held(5, 50, 60), held(0, 0, 10, 20, 30, 40, 50), 5),
        (held(2, 20, 30), held(3, 30), 3),
    ],
)
def test_up_to_where_two_states_of_a_disk_are_the_same(had: Held, has: Held, same: int) -> None:
    """Also where one of them begins with a snapshot; below both it is the committed log."""
    assert last_same(had, has) == same


def test_of_the_kinds_that_exclude_each_other_one_is_on() -> None:
    """Where a disk breaks its word, no other is lost: that would be two."""
    random = Random(3)
    for group in INSTEAD:
        on = random.sample(group, len(group))
        assert len(set(one_of_each_group([*on, "crashes"])) & set(group)) == 1


class Trio:
    """Three cores of which the judge sees as much as it looks at: a log of term 1, and how much of it is on the disk."""

    def __init__(self, *lengths: int) -> None:
        self.cores = [self.core(node_id, length) for node_id, length in enumerate(lengths)]
        self.ended: list[Breach] = []
        self.tails = Tails(lambda node_id: self.cores[node_id], 3, lambda *goals: None)
        self.tails.end = self.ended.append
        self.tails.running |= {0, 1, 2}

    @staticmethod
    def core(node_id: int, length: int) -> Any:
        log = Log([Entry(1, NO_OP)] * length)
        standing = SimpleNamespace(store=f"store {node_id}")
        disk = SimpleNamespace(durable_index=length)
        return SimpleNamespace(
            log=log, standing=standing, durability=disk, current_term=1, voted_for=None, role=None, configuration=None
        )

    def commits(self, node_id: int, index: int) -> None:
        digest = self.cores[node_id].log.digest(index)
        self.tails.take(node_id, CommitAdvanced(term=1, index=index, old_index=0, digest=digest))

    def loses(self, node_id: int, length: int) -> None:
        self.tails.may_lose(node_id, forgets=False)
        self.cores[node_id] = self.core(node_id, length)
        self.tails.opened(node_id, self.cores[node_id], 0.0)

    def leads(self, node_id: int) -> None:
        self.tails.take(node_id, RoleChanged(term=2, old="candidate", new="leader", reason=""))


def test_what_a_majority_held_only_with_the_disk_that_lost_it_is_not_demanded() -> None:
    """The seed ends without a result when a leader lacks it."""
    three = Trio(3, 3, 2)
    three.commits(0, 3)
    three.loses(1, 1)
    three.leads(2)
    (end,) = three.ended
    assert isinstance(end, Excused)


def test_what_was_in_its_snapshot_only_is_lost_too_where_the_copy_of_the_folder_is_older() -> None:
    """Seed 243: entry 3 was on two disks, and in the snapshot of the one that was set back."""
    three = Trio(3, 3, 2)
    three.commits(0, 3)
    three.cores[1].log.compact(3)
    three.loses(1, 1)
    three.leads(2)
    (end,) = three.ended
    assert isinstance(end, Excused)


def test_what_a_majority_of_untouched_disks_held_is_demanded() -> None:
    """Entry 2 was on two of them."""
    three = Trio(3, 3, 2)
    three.commits(0, 3)
    three.loses(1, 1)
    three.leads(1)
    (end,) = three.ended
    assert not isinstance(end, Excused) and "without the committed entry 2" in str(end)


def test_a_node_is_not_in_order_until_its_disk_holds_again_what_it_lost() -> None:
    """Meanwhile no other disk is lost."""
    three = Trio(3, 3, 3)
    three.loses(1, 1)
    assert three.tails.lacking() == {1}
    three.cores[1] = three.core(1, 3)
    assert three.tails.lacking() == set()
