"""The number of clients is bounded: a new one is refused with a reason, unless another is idle."""

from time import perf_counter
from typing import Any
from unittest.mock import Mock

import pytest
import trio
from trio.testing import MockClock

from bargetrio.node.clients import ClientSession
from bargetrio.node.places import IDLE_S, ClientPlaces
from bargetrio.transport.handshake import HandshakeRefused


def client() -> Any:
    session = Mock(ClientSession)
    session.was_active = True
    return session


async def test_one_too_many_is_refused_and_a_place_that_was_left_is_given_again(autojump_clock: MockClock) -> None:
    """The reason has their number."""
    places = ClientPlaces(2)
    first, second = client(), client()
    for session in (first, second):
        places.admit()
        places.enter(session)
    with pytest.raises(HandshakeRefused, match="2 clients are connected to this node"):
        places.admit()
    places.leave(first)
    places.leave(first)
    places.admit()
    places.enter(client())
    assert len(places) == 2


async def test_idle_clients_are_closed_for_new_ones_and_active_ones_are_not(autojump_clock: MockClock) -> None:
    """The one that has asked nothing for longest goes first."""
    places = ClientPlaces(3)
    asks, stays, stays_too = client(), client(), client()
    for session in (asks, stays, stays_too):
        places.enter(session)
    refused = 0
    for _ in range(10):
        try:
            places.admit()
            break
        except HandshakeRefused:
            refused += 1
        await trio.sleep(1)
        asks.was_active = True
        if refused == 1:
            stays_too.was_active = True
    assert refused >= IDLE_S
    stays.close.assert_called_once_with()
    assert not asks.close.called and not stays_too.close.called
    assert len(places) == 2


async def test_where_all_clients_send_requests_none_is_closed(autojump_clock: MockClock) -> None:
    """However many want in, and for however long."""
    places = ClientPlaces(2)
    sessions = [client(), client()]
    for session in sessions:
        places.enter(session)
    for _ in range(100):
        with pytest.raises(HandshakeRefused):
            places.admit()
        await trio.sleep(0.3)
        for session in sessions:
            session.was_active = True
    assert not any(session.close.called for session in sessions)


def seconds_of_refusals(most: int) -> float:
    """Return how long the refusal of 200 clients takes, one after another, at a node with `places` places."""
    places = ClientPlaces(most)
    for _ in range(most):
        session = ActiveClient()
        places.enter(session)  # type: ignore[arg-type]  # as much of a session as is asked for
    with pytest.raises(HandshakeRefused):
        places.admit()  # checks which clients have sent a request
    began = perf_counter()
    for _ in range(200):
        with pytest.raises(HandshakeRefused):
            places.admit()
    return perf_counter() - began


class ActiveClient:
    was_active = True


async def test_a_refusal_costs_the_same_however_many_places_there_are(autojump_clock: MockClock) -> None:
    """Who dials again and again must not hold the loop: a walk over 20,000 sessions takes 2 ms, a hundred times as much."""
    few, many = (min(seconds_of_refusals(most) for _ in range(3)) for most in (20, 20_000))
    assert many < 10 * few
