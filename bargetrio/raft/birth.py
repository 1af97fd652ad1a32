"""How a cluster is born: members exchange their store ids and sync that set to disk before the first vote (BUG-38).

membership.py has an overview.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Final

from msgspec import structs

from bargetrio.raft import membership
from bargetrio.raft.messages import Introduction
from bargetrio.raft.quorum import is_majority, majority_of
from bargetrio.raft.standing import ABSENT, EARLIER, EMPTY, REPLACED, Standing, StoreId, identity_of, why_other_members
from bargetrio.raft.state import State
from bargetrio.raft.values import NodeId

INTRODUCTION_TTL_S: Final = 2.0
"""Seconds: a node whose last introduction is older does not take part in a birth."""
FIRST_DIALS_S: Final = 2.0
"""Seconds after which a node has dialled every peer once: a dial and a hello time out after one second each."""
STANDING_TTL_S: Final = 10.0
"""Seconds for which a peer's last standing counts in a birth; a peer that refuses this node is dialled every 3 s at least."""


def tick(state: State, now: float) -> None:
    """Introduce this node to all others every heartbeat, while it is unborn."""
    if not state.standing.identity and now >= state.membership.introduce_at:
        state.membership.introduce_at = now + state.heartbeat_s
        membership.introduce(state, asks=True)
        maybe_be_born(state, now)


def on_introduction(state: State, message: Introduction, now: float) -> None:
    """Note a peer's standing; a node that has a birth set answers with it."""
    state.membership.met[message.node_id] = (message.standing, now)
    if not state.standing.identity:
        maybe_be_born(state, now)
    elif message.asks:
        reply = Introduction(term=state.current_term, node_id=state.node_id, standing=state.standing, asks=False)
        state.send(message.node_id, reply)


def bootstrap(state: State, now: float) -> str:
    """Begin a cluster with the members that have introduced themselves; return why not, "" if it is under way.

    The operator asserts by it that absent members have never had data in this cluster; they are readmitted later.
    A born member refuses the store of this node and closes each connection at once, so its last hello counts for STANDING_TTL_S.
    """
    if state.standing.identity:
        return f"node {state.node_id} belongs to a cluster already: bargetrio readmit admits absent members"
    if state.membership.birth_under_way is not None:
        return ""
    if state.configuration is not None:
        return f"node {state.node_id}'s log belongs to a cluster that has begun: bargetrio readmit {state.node_id} readmits it"
    if state.standing.origin == REPLACED or state.membership.is_demoted:
        return f"node {state.node_id}'s disk lost a vote or acknowledged entries: bargetrio readmit {state.node_id} readmits it"
    if len(state.members) > 1 and now - state.membership.began_at < FIRST_DIALS_S:
        return f"node {state.node_id} has just started, and still asks the other members who they are: try again"
    for peer, standing in membership.last_standings(state, now - STANDING_TTL_S).items():
        if peer not in state.members:
            return why_other_members(peer, standing, state.members) or f"the configuration here does not name node {peer}"
        if standing.identity:
            return f"node {peer} belongs to a cluster that has begun: bargetrio readmit admits this node to it"
        if standing.origin == EMPTY and state.standing.origin == EARLIER:
            continue  # A lost disk: its node is absent from the birth, and is readmitted later.
        if other := why_other_members(peer, standing, state.members):
            return other
        if standing.origin != state.standing.origin:
            return f"node {peer}'s folder began with another state ({standing.origin}): all begin empty, or with the same backup"
    here = _met_unborn(state, now)
    if not is_majority(len(here), len(state.members)):
        there = f"{len(here)} of {len(state.members)} members are here ({', '.join(map(str, sorted(here)))})"
        return f"{there}, and a majority of them, {majority_of(len(state.members))}, must be"
    if state.membership.is_writing_standing:
        return f"node {state.node_id} is writing its standing to its disk: try again"
    _be_born(state, {node_id: here.get(node_id, ABSENT) for node_id in state.members})
    return ""


def maybe_be_born(state: State, now: float) -> None:
    """Adopt a born member's set if this store is in it; the lowest id makes the set when all members are unborn and introduced.

    Only the lowest id makes a set, so that there is one; none while a node is heard that this node's configuration does not name.
    """
    own = state.standing
    if own.identity or own.origin == REPLACED or state.membership.is_writing_standing:
        return
    stated = membership.last_stated(state)
    born = [(standing, at) for peer, (standing, at) in stated.items() if standing.identity and peer in state.members]
    if born:
        recent = [standing for standing, at in born if at > now - STANDING_TTL_S]
        if birth := _set_to_adopt(state, recent or [standing for standing, _ in born]):
            _be_born(state, birth)
    if born or state.configuration is not None or state.node_id != state.members[0]:
        return
    if any(peer not in state.members and at > now - STANDING_TTL_S for peer, (_, at) in stated.items()):
        return  # another configuration names this node beside others: one of the two is wrong
    here = _met_unborn(state, now)
    if len(here) == len(state.members):
        _be_born(state, here)


def _set_to_adopt(state: State, born: list[Standing]) -> dict[NodeId, StoreId]:
    """Return the birth set that this node adopts, {} if none; `born` are the last standings of peers that have one.

    Two sets may have been made at the same time by nodes that could not reach each other. A store that is in both adopts the one
    that more peers have, so that one of them gets a majority (OWN-137). This is safe if no member has different stores in the
    two: a store never leaves the set it adopted, so at most one gets a majority. A set that can no longer get one is ignored
    (OWN-140). If a member's stores differ, or this store is missing from a set that can get a majority, a disk was lost in
    between and one set may be that of the older cluster: {}, the operator decides.
    """
    own, sets = state.standing.store, {standing.identity: standing.birth for standing in born}
    if any(tuple(sorted(birth)) != state.members for birth in sets.values()):
        return {}
    for node_id in state.members:
        stores = {birth[node_id] for birth in sets.values()} | ({own} if node_id == state.node_id else set())
        if len(stores - {ABSENT}) > 1:
            return {}
    set_of = {standing.store: standing.identity for standing in born}
    possible = dict[str, dict[NodeId, StoreId]]()
    for identity, birth in sets.items():
        count = sum(store != ABSENT and set_of.get(store, identity) == identity for store in birth.values())
        if is_majority(count, len(state.members)):
            possible[identity] = birth
    if not possible or any(birth[state.node_id] == ABSENT for birth in possible.values()):
        return {}
    having = Counter(set_of.values())
    return possible[max(possible, key=lambda identity: (having[identity], identity))]


def _present(birth: Mapping[NodeId, StoreId]) -> int:
    """Return how many members have a store in this set: with fewer than a majority there could be no election or readmission."""
    return sum(store != ABSENT for store in birth.values())


def _met_unborn(state: State, now: float) -> dict[NodeId, StoreId]:
    """Return the stores of this node and of unborn members with the same origin and the same members in their configuration.

    Only of those that were introduced within INTRODUCTION_TTL_S.
    """
    own = state.standing
    here = {state.node_id: own.store}
    for peer in state.peers:
        standing, at = state.membership.met.get(peer, (None, 0.0))
        if standing is None or now - at >= INTRODUCTION_TTL_S or standing.identity or standing.origin != own.origin:
            continue
        if not why_other_members(peer, standing, state.members):
            here[peer] = standing.store
    return here


def _be_born(state: State, stores: dict[NodeId, StoreId]) -> None:
    """Write a set of the members' stores, and send it at once: no other set is made while a disk is slow (OWN-137).

    No vote depends on it before it is on this disk. Peers may adopt it meanwhile: if this node crashes before its write has
    ended, its store is in their set and it adopts that.
    """
    assert is_majority(_present(stores), len(state.members)), "nobody could ever be elected"
    state.membership.birth_under_way = structs.replace(state.standing, identity=identity_of(stores), birth=stores)
    membership.write(state, state.membership.birth_under_way)
    membership.introduce(state, asks=False)
