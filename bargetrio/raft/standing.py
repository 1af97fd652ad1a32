"""A store's membership of a cluster, as it is on the disk, and which stores may exchange messages.

A **store** is one data folder on one disk; its id is random and made with the folder. A member is a node id *and* a store: a node
that starts with another store has lost its votes and the entries it acknowledged, so it is not the same member (BUG-38).

```
unborn    the store belongs to no cluster yet: it has neither voted nor acknowledged, and takes no part in elections
born      the set of the members' stores (the birth set) is on its disk; the hash of that set is the cluster's identity
admitted  the store is not in the birth set: it was readmitted by an entry that was committed without counting it (membership.py)
```
Both sides of a connection send their `Standing` in the hello and check the other's with `why_refused`. Born members do not
compare the `nodes:` lists of their configuration files: an operator may change one on one host and not on another. An unborn
store states the list of its node (`as_stated`), which refuses every log and snapshot of other members: with other members than
those it takes part in no birth and is not readmitted. It compares its list with the birth set of a member as well, so that its
operator gets the reason.
"""

from collections.abc import Collection, Mapping
from hashlib import sha256
from typing import Final

import msgspec
from msgspec import Struct, structs

from bargetrio.raft.values import Command, Index, NodeId

StoreId = str
IDENTITY_DIGITS: Final = 32
SHOWN_DIGITS: Final = 8
"""Hexadecimal digits of a cluster's identity, and how many of them a message shows."""

EMPTY: Final = "empty"
"""The folder was new."""
EARLIER: Final = "earlier version"
"""The folder has votes or entries of a version without birth sets: it goes on voting, and gets its set when all have met."""
REPLACED: Final = "replaced"
"""The disk was replaced, or lost entries that it had acknowledged: it becomes a member by an entry of the log only."""
ABSENT: Final = ""
"""In place of a store id: the member was absent when the cluster was born; it is readmitted later."""


def origin_of_backup(last_index: Index, last_term: int, digest: int) -> str:
    """Return the `Standing.origin` of a folder restored from a backup: equal only for the same index of the same log."""
    return f"backup {last_index}.{last_term}.{digest:08x}"


class Standing(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A store's membership of a cluster: kept in the file `meta`, sent in both hellos.

    store: this folder's id. origin: the folder's initial state (EMPTY, EARLIER, REPLACED, `origin_of_backup`). identity: that of
    the cluster which the store belongs to, "" while it is unborn. birth: the set of stores whose hash is the identity; empty if
    the store was admitted later. admitted: the index of the entry that admitted it, 0 if it is in the birth set. replaces: the id
    that this folder had before it lost entries it had acknowledged. members: the node ids that the configuration of an unborn
    store names, sorted; stated in hellos only, not in `meta`; () where they are not known.
    """

    store: StoreId
    origin: str = EMPTY
    identity: str = ""
    birth: dict[int, StoreId] = {}
    admitted: Index = 0
    replaces: StoreId = ""
    members: tuple[NodeId, ...] = ()


class Configuration(Struct, frozen=True, kw_only=True):
    """The members, each with its present store. The newest one in a log is in force, committed or not (Ongaro 4.1).

    index: that of its entry, 0 for the birth set. readmitted: the node whose store it replaced; that node counts neither for
    elections nor for commits until the entry is committed without it; None for the birth set. former: stores of former members,
    which cannot be readmitted, since their votes and acknowledgements are no longer counted.
    """

    index: Index
    identity: str
    stores: dict[int, StoreId]
    readmitted: NodeId | None = None
    former: tuple[StoreId, ...] = ()

    def __hash__(self) -> int:
        """Hash the fields that identify it: `stores` is a dictionary, which has no hash."""
        return hash((self.index, self.identity, self.readmitted))


class MembersCommand(Struct, frozen=True, kw_only=True, tag_field="op", tag="members", forbid_unknown_fields=True):
    """A configuration as the command of an entry; its index is the entry's."""

    identity: str
    stores: dict[int, StoreId]
    readmitted: NodeId | None
    former: tuple[StoreId, ...]


_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(MembersCommand)


def encode_configuration(configuration: Configuration) -> Command:
    """Return the command of the entry that holds `configuration`."""
    command = MembersCommand(
        identity=configuration.identity,
        stores=configuration.stores,
        readmitted=configuration.readmitted,
        former=configuration.former,
    )
    return Command(_encode(command))


def decode_configuration(command: Command, index: Index) -> Configuration:
    """Return the configuration that the entry at `index` holds; raise ValueError or RecursionError if it holds none."""
    read = _decoder.decode(command)
    return Configuration(index=index, identity=read.identity, stores=read.stores, readmitted=read.readmitted, former=read.former)


def identity_of(stores: Mapping[int, StoreId]) -> str:
    """Return the identity of the cluster that is born with this set of stores."""
    return sha256(_encode(sorted(stores.items()))).hexdigest()[:IDENTITY_DIGITS]


def as_stated(standing: Standing, members: tuple[NodeId, ...]) -> Standing:
    """Return a standing as hellos and introductions state it; `members` are the sorted node ids of this node's configuration."""
    return standing if standing.identity else structs.replace(standing, members=members)


def why_refused(
    ours: Standing, configuration: Configuration | None, peer_id: NodeId, theirs: Standing, members: Collection[NodeId] = ()
) -> str:
    """Return why messages of a node with this standing must not be accepted as those of `peer_id`; "" if they may.

    `ours` is this node's standing, `configuration` the newest one in its log, None while it is unborn. Votes and acknowledgements
    count for the store that gave them: those of a store that is not the member's are refused (BUG-38). `members`: the ids that
    this node's configuration file names, with which an unborn node compares those of the peer; (): not known.
    """
    if ours.identity and theirs.identity and ours.identity != theirs.identity:
        return (
            f"node {peer_id} belongs to another cluster of this name: it was born with other members or stores, or from another"
            f" restore (identity {theirs.identity[:SHOWN_DIGITS]}, ours is {ours.identity[:SHOWN_DIGITS]});"
            " see docs/operations.md"
        )
    if configuration is not None:
        if other := why_other_members(peer_id, theirs, configuration.stores, is_born=True):
            return other
        expected = configuration.stores.get(peer_id)
        if theirs.store == expected:
            return ""
        # Admitted by an entry that this log does not have yet: the identity is this cluster's.
        if theirs.identity == configuration.identity and theirs.admitted > configuration.index:
            return ""
        if expected is None:
            return f"node {peer_id} is not a member of this cluster"
        if theirs.replaces and theirs.replaces == expected:
            return _why_lost_tail_refused(peer_id, len(configuration.stores))
        what = "was absent when the cluster was born" if expected == ABSENT else "has another store than before"
        return f"node {peer_id} {what}: bargetrio readmit {peer_id} takes this one in; see docs/operations.md"
    if other := why_other_members(peer_id, theirs, members):
        return other
    if ours.origin != theirs.origin and not theirs.identity:
        return (
            f"node {peer_id}'s folder began with another state ({theirs.origin}; ours: {ours.origin}):"
            " all members begin empty, or with the same backup; see docs/operations.md"
        )
    return ""


def _why_lost_tail_refused(peer_id: NodeId, members: int) -> str:
    lost = f"node {peer_id}'s disk lost entries that it had acknowledged"
    if members > 2:
        return f"{lost}: the cluster readmits it by itself"
    return f'{lost}, and of two members neither can be readmitted: see "Too many lost disks" in docs/operations.md'


def why_other_members(peer_id: NodeId, theirs: Standing, members: Collection[NodeId], *, is_born: bool = False) -> str:
    """Return the text that a peer has other members than these, "" if not, or if either are not known.

    A born peer's are those of its birth set, an unborn one's those that its configuration names. `members` are those of this
    node's cluster if `is_born`, else those that its configuration names.
    """
    has = theirs.birth.keys() or theirs.members
    if not has or not members or set(has) == set(members):
        return ""
    there = f"node {peer_id} belongs to a cluster of nodes" if theirs.birth else f"node {peer_id}'s configuration names nodes"
    here = "the members of this cluster are nodes" if is_born else "the configuration here names nodes"
    return f"{there} {listed(has)}, and {here} {listed(members)}: they must be the same; see docs/operations.md"


def listed(members: Collection[NodeId]) -> str:
    """Return node ids as text for an error."""
    return ", ".join(map(str, sorted(members)))
