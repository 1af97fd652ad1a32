"""What a node's disk says of its place in the cluster, and who may talk to whom.

A **store** is one folder on one disk; its id is random and as old as the folder. A member is a node id *and* a store: a node that
comes back with another store has forgotten its votes and acknowledgements, so it is not the member that it was (BUG-38).

```
unborn    the store belongs to no set yet: it has promised nothing, and abstains until the cluster is born
born      the set of the members' stores is on its disk; the hash of that set is the cluster's identity
admitted  the store is not of that set: an entry of the log, committed without counting it, took it in (membership.py)
```
Both sides of a connection tell their `Standing` first, and both judge it with `why_refused`: never by a list in a configuration
file, which an operator may change on one host and not on another.
"""

from collections.abc import Mapping
from hashlib import sha256
from typing import Final

import msgspec
from msgspec import Struct

from bargetrio.raft.values import Command, Index, NodeId

StoreId = str

EMPTY: Final = "empty"
"""The folder was new."""
EARLIER: Final = "earlier version"
"""The folder has votes or entries of a version that knew no sets: it goes on voting, and gets its set when all have met."""
REPLACED: Final = "replaced"
"""The disk was replaced, or lost entries that it had acknowledged: only an entry of the log takes it in."""
ABSENT: Final = ""
"""In the place of a store: the member was not there when the cluster was born; it is readmitted later."""


def origin_of_backup(last_index: Index, last_term: int, digest: int) -> str:
    """Return the origin of a folder that was made from a backup: equal only for the same state of the same log."""
    return f"backup {last_index}.{last_term}.{digest:08x}"


class Standing(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A store's place in its cluster; on the disk in `meta`, and in both hellos.

    store: this folder's id. origin: what the folder began with. identity: of the cluster that this store belongs to; "" while it
    is unborn. birth: the set of stores that the identity is the hash of; empty where the store was admitted later. admitted: the
    index of the entry that admitted it, 0 where it is of the birth set. replaces: the id that this same folder had before it lost
    entries it had acknowledged.
    """

    store: StoreId
    origin: str = EMPTY
    identity: str = ""
    birth: dict[int, StoreId] = {}
    admitted: Index = 0
    replaces: StoreId = ""


class Configuration(Struct, frozen=True, kw_only=True):
    """The members, each with the store that counts as it. The last one of a log counts, whether it is committed or not.

    index: of its entry; 0 for the birth set. readmitted: the node whose store it replaced, which counts neither for elections nor
    for commits before the entry is committed without it; None for the birth set. former: stores that were members before,
    and can't be again: an old folder has given promises that the cluster no longer counts on.
    """

    index: Index
    identity: str
    stores: dict[int, StoreId]
    readmitted: NodeId | None = None
    former: tuple[StoreId, ...] = ()

    def __hash__(self) -> int:
        """Equal configurations have the same; a dictionary has none."""
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
    return sha256(_encode(sorted(stores.items()))).hexdigest()[:32]


def why_refused(ours: Standing, configuration: Configuration | None, peer_id: NodeId, theirs: Standing) -> str:
    """Return why a node with this standing must not be heard as `peer_id`, in words; "" where it is welcome.

    `configuration` is the newest one in our log, None while we are unborn. Acknowledgements and votes of a store that is not the
    member's are never heard: what it had promised, another store has forgotten.
    """
    if ours.identity and theirs.identity and ours.identity != theirs.identity:
        return (
            f"node {peer_id} belongs to another cluster of this name: it was born with other members or stores, or from another"
            f" restore (identity {theirs.identity[:8]}, ours is {ours.identity[:8]}); see docs/operations.md"
        )
    if configuration is not None:
        expected = configuration.stores.get(peer_id)
        if theirs.store == expected:
            return ""
        # Admitted behind the end of our log: its identity says that it belongs to us, and an entry that we lack says since when.
        if theirs.identity == configuration.identity and theirs.admitted > configuration.index:
            return ""
        if expected is None:
            return f"node {peer_id} is not a member of this cluster"
        what = "was absent when the cluster was born" if expected == ABSENT else "has another store than before"
        return f"node {peer_id} {what}: bargetrio readmit {peer_id} takes this one in; see docs/operations.md"
    if ours.origin != theirs.origin and not theirs.identity:
        return (
            f"node {peer_id}'s folder began with another state ({theirs.origin}; ours: {ours.origin}):"
            " all members begin empty, or with the same backup; see docs/operations.md"
        )
    return ""
