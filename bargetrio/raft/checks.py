"""Validation of a peer's message before the core takes it: could a correct node have sent it?

The types bound every number (messages.py). Checked here is how fields relate: indices that lie among the entries, terms that
never decrease along a log, sets of stores with exactly the members. A message that fails is malformed, whatever this node's log
holds, and the host closes its connection. What depends on this node's state is checked by the core.
"""

from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import Final

from bargetrio.raft.messages import (
    AppendRequest,
    Entry,
    Index,
    Introduction,
    Message,
    NodeId,
    SnapshotMeta,
    SnapshotRequest,
    Term,
)
from bargetrio.raft.standing import Configuration, Standing, decode_configuration, identity_of, listed

MOST_DIGEST: Final = 2**32 - 1
"""A running digest is a CRC-32."""

MOST_MEMBERS: Final = 50
"""Nodes of a cluster, as in a configuration file (protocol/limits.py)."""
MOST_TERMS_AHEAD: Final = 2**32
"""No cluster gets this many terms ahead of one of its nodes: with two elections a second it would take 68 years."""


def check_message(message: Message, members: Collection[NodeId], current_term: Term) -> None:
    """Raise ValueError, or RecursionError, if a peer's message contradicts itself, or its term is implausibly high.

    `members` are the ids of all nodes, `current_term` is this node's. A term near the largest number would be adopted (Raft 5.1),
    and no leader could be elected in a higher one.
    """
    if message.term > current_term + MOST_TERMS_AHEAD:
        raise ValueError(f"term {message.term} is no term of this cluster, which is in term {current_term}")
    kind = type(message)  # not isinstance: with a msgspec class a negative answer takes four times as long
    if kind is AppendRequest:
        assert isinstance(message, AppendRequest)
        if message.entries:
            _check_terms(message)
        if message.configurations:
            for configuration in read_configurations(message.entries, message.prev_log_index + 1, message.configurations):
                _check_configuration(configuration, members)
    elif kind is SnapshotRequest:
        assert isinstance(message, SnapshotRequest)
        _check_snapshot(message.snapshot, message.term, members)
        if message.offset + len(message.data) > message.snapshot.size:
            raise ValueError(f"a piece reaches beyond the snapshot's {message.snapshot.size} bytes")
    elif kind is Introduction:
        assert isinstance(message, Introduction)
        check_standing(message.node_id, message.standing)


def check_standing(node_id: NodeId, standing: Standing) -> None:
    """Raise ValueError if a node's standing contradicts itself."""
    if members := standing.members:
        if standing.identity:
            raise ValueError(f"node {node_id}'s store belongs to a cluster, and names the nodes of its configuration")
        if len(members) > MOST_MEMBERS:
            raise ValueError(f"node {node_id}'s configuration is said to name {len(members)} nodes: {MOST_MEMBERS} at most")
        if any(before >= after for before, after in pairwise(members)):
            raise ValueError(f"the nodes of node {node_id}'s configuration are not in rising order")
        if node_id not in members:
            raise ValueError(f"node {node_id}'s configuration does not name it")
    if standing.birth:
        if standing.identity != identity_of(standing.birth):
            raise ValueError(f"node {node_id}'s identity is not that of the set of stores that it names")
        if standing.birth.get(node_id) != standing.store:
            raise ValueError(f"node {node_id}'s store is not in the set of stores that it names")


def read_configurations(entries: Sequence[Entry], first_index: Index, indices: Sequence[Index]) -> list[Configuration]:
    """Return the configurations that the entries at `indices` hold; the first one of `entries` is at `first_index`.

    Raises ValueError, or RecursionError, unless every index is one of an entry that holds a configuration, and they rise.
    """
    found: list[Configuration] = []
    least, end = first_index, first_index + len(entries)
    for index in indices:
        if not least <= index < end:
            raise ValueError(f"entry {index} is said to hold a configuration: the entries here are {first_index} to {end - 1}")
        try:
            found.append(decode_configuration(entries[index - first_index].command, index))
        except ValueError as problem:
            raise ValueError(f"entry {index} is said to hold a configuration, and does not: {problem}") from None
        least = index + 1
    return found


def _check_terms(message: AppendRequest) -> None:
    """Raise ValueError if the entries' terms decrease, or exceed the leader's. Runs for each entry of every append: kept fast."""
    terms = [entry.term for entry in message.entries]
    first, last = terms[0], terms[-1]
    if first < message.prev_log_term:
        raise ValueError(f"an entry of term {first} follows one of term {message.prev_log_term}")
    if terms.count(first) != len(terms):  # else they are all equal
        for before, term in pairwise(terms):
            if term < before:
                raise ValueError(f"an entry of term {term} follows one of term {before}")
    if last > message.term:
        raise ValueError(f"a leader of term {message.term} has an entry of term {last}")


def _check_snapshot(snapshot: SnapshotMeta, term: int, members: Collection[NodeId]) -> None:
    if snapshot.last_term > term:
        raise ValueError(f"a leader of term {term} has a snapshot of term {snapshot.last_term}")
    if snapshot.digest > MOST_DIGEST or snapshot.checksum > MOST_DIGEST:
        raise ValueError("a snapshot's digest and checksum have 32 bits")
    if not snapshot.last_index or not snapshot.size:
        raise ValueError("a snapshot holds one entry at least, and its file is not empty")
    if snapshot.members != tuple(sorted(members)):
        raise ValueError(f"a snapshot of other members: {listed(snapshot.members)}, not {listed(members)}")
    if snapshot.configuration is not None:
        if snapshot.configuration.index > snapshot.last_index:
            raise ValueError(f"a snapshot up to {snapshot.last_index} has a configuration of {snapshot.configuration.index}")
        _check_configuration(snapshot.configuration, members)


def _check_configuration(configuration: Configuration, members: Collection[NodeId]) -> None:
    if not configuration.identity:
        raise ValueError("a configuration has the cluster's identity")
    if configuration.stores.keys() != set(members):
        raise ValueError(f"a configuration of other members: {listed(configuration.stores)}, not {listed(members)}")
    if configuration.readmitted is not None and configuration.readmitted not in configuration.stores:
        raise ValueError(f"a configuration readmits node {configuration.readmitted}, which is not a member")
