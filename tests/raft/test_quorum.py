"""Majorities, compared with the definition of one."""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from bargetrio.raft.quorum import committed_index, is_majority, majority_of

numbers = st.lists(st.integers(0, 9), min_size=1, max_size=9)


def naive_majorities(members: int) -> list[frozenset[int]]:
    """Return the smallest groups of members of which any two overlap, and which have the least size at which they do."""
    for size in range(1, members + 1):
        groups = [frozenset(group) for group in combinations(range(members), size)]
        if all(one & other for one in groups for other in groups):
            return groups
    raise AssertionError("a cluster has a member")


@given(numbers)
def test_what_is_committed_is_the_most_that_all_of_some_majority_have_reached(reached: list[int]) -> None:
    """Raft 5.3, by trying every group of members."""
    expected = max(min(reached[member] for member in group) for group in naive_majorities(len(reached)))
    assert committed_index(list(reached)) == expected


@given(st.integers(1, 9))
def test_a_majority_is_the_least_number_of_which_any_two_groups_overlap(members: int) -> None:
    """Raft 5.2, by trying every group of members."""
    assert majority_of(members) == len(naive_majorities(members)[0])


@given(st.integers(0, 9), st.integers(1, 9))
def test_so_many_are_a_majority_or_not(count: int, members: int) -> None:
    """Consistent with `majority_of`."""
    assert is_majority(count, members) == (count >= len(naive_majorities(members)[0]))
