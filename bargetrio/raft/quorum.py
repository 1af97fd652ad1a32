"""What a majority is, and what a majority has (5.2, 5.3): all arithmetic of it stands here.

Any two majorities of the same members have a member in common: that is what elections, commits and reads rest on.
"""


def majority_of(members: int) -> int:
    """Return how many of so many members are a majority."""
    return members // 2 + 1


def is_majority(count: int, members: int) -> bool:
    """Return whether `count` of so many members are a majority."""
    return 2 * count > members


def committed_index(reached: list[int]) -> int:
    """Return the largest number that a majority has reached; `reached` has one number for each member, and gets sorted.

    The numbers are log indices that are on the members' disks (5.3), or rounds of heartbeats that they have answered
    (dissertation 6.4); a member that does not count has 0.
    """
    reached.sort()
    return reached[(len(reached) - 1) // 2]
