"""Ports for processes to come: none twice, none that the kernel may give to somebody else meanwhile."""

import socket

import pytest

from bargetrio.cli import free_ports as room
from bargetrio.cli.free_ports import free_ports

USUAL_EPHEMERAL = 32_768
"""Where Linux's range begins, unless somebody changed it."""


def test_no_port_is_given_out_twice_and_none_is_of_the_ephemeral_range() -> None:
    """CI, 2026-11-30: two addresses of one configuration, asked for one after the other, were the same."""
    told = [port for _ in range(500) for port in free_ports(2)]
    assert len(set(told)) == 1000
    assert max(told) < USUAL_EPHEMERAL
    assert free_ports(0) == []


def test_a_port_that_somebody_has_is_not_given_out() -> None:
    """The last two: one of them has a listener."""
    taken, free = free_ports(2)
    with pytest.MonkeyPatch.context() as patch, socket.create_server(("127.0.0.1", taken)):
        patch.setattr(room, "_candidates", iter([taken, free]))
        assert free_ports(1) == [free]
        with pytest.raises(OSError, match="no 1 free ports"):
            free_ports(1)
