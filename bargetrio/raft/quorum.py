"""All arithmetic of majorities (Raft 5.2, 5.3).

Any two majorities of the same members have a member in common: elections, commits and reads depend on it.
"""


def majority_of(members: int) -> int:
    """Return the size of a majority of `members`."""
    return members // 2 + 1


def is_majority(count: int, members: int) -> bool:
    """Return whether `count` nodes are a majority of `members`."""
    return 2 * count > members


def committed_index(reached: list[int]) -> int:
    """Return the largest number that a majority has reached; `reached` has one number per member, and is sorted in place.

    The numbers are log indices on the members' disks (Raft 5.3), or heartbeat rounds that they have answered (Ongaro 6.4); a
    member that is not counted has 0.
    """
    reached.sort()
    return reached[(len(reached) - 1) // 2]
