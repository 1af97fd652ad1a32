"""What clients may open is less than what the process may, by what the nodes need."""

import pytest

from bargetrio.daemon.descriptors import FEWEST, OF_NODE, OF_PROCESS, OPEN_FILES, connection_limits


@pytest.mark.parametrize("limit", [200, 256, 512, 1024, 4096, 65_536, OPEN_FILES])
@pytest.mark.parametrize(("nodes", "members"), [(1, 1), (1, 3), (3, 3), (1, 7), (5, 5)])
def test_all_places_together_leave_room(limit: int, nodes: int, members: int) -> None:
    """For the process, for each node's files, and for a link to and from each peer."""
    found = connection_limits(limit, nodes, members)
    taken = found.web + found.lane + nodes * (found.unauthenticated + found.clients) + 2 * nodes * (members - 1)
    if not found.is_short:
        assert taken + OF_PROCESS + nodes * OF_NODE <= limit
    assert min(found.web, found.lane, found.unauthenticated, found.clients) >= FEWEST


def test_a_usual_limit_leaves_the_usual_places() -> None:
    """And a low one is reported."""
    usual = connection_limits(OPEN_FILES, 3, 3)
    assert (usual.web, usual.lane, usual.unauthenticated, usual.is_short) == (256, 6_000, 256, False)
    assert usual.clients == 20_000
    assert connection_limits(100, 3, 3).is_short
    assert not connection_limits(200, 3, 3).is_short
