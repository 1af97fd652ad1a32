"""How the descriptors that a process may open are shared out: the nodes' logs, snapshots and peers first, then clients.

A log that must begin a segment, or a snapshot that must be saved, may not meet "Too many open files" because clients came.
"""

import resource
from contextlib import suppress
from typing import Final

from msgspec import Struct

from bargetrio.node.places import CLIENTS
from bargetrio.protocol.limits import STRANGERS

OPEN_FILES: Final = 65_536
"""What a daemon asks for, if it may."""
OF_PROCESS: Final = 40
"""Standard streams, trio, the hub, REST's listener, the record of events, requests to other daemons, names that are looked up."""
OF_NODE: Final = 24
"""A node's lock, folder, segments, snapshots that are saved, sent, received and read, its ring, listener and bells."""
OF_PEER: Final = 4
"""A link in each direction, and the next one while the last has not ended yet."""
WEB: Final = 256
FEWEST: Final = 4
"""So many places there are of each kind, whatever the limit is."""


class Shares(Struct, frozen=True, kw_only=True):
    """How many connections there may be: of REST, and of each node's clients and strangers. `is_short`: the limit is too low."""

    web: int
    strangers: int
    clients: int
    is_short: bool


def shares(limit: int, nodes: int, members: int) -> Shares:
    """Return what is left for connections of `limit` descriptors in a process of `nodes` nodes, in a cluster of `members`."""
    left = limit - OF_PROCESS - members - nodes * (OF_NODE + OF_PEER * (members - 1))
    web = max(FEWEST, min(WEB, left // 4))
    strangers = max(FEWEST, min(STRANGERS, left // (8 * nodes)))
    clients = (left - web - nodes * strangers) // nodes
    return Shares(web=web, strangers=strangers, clients=max(FEWEST, min(CLIENTS, clients)), is_short=clients < FEWEST)


def raise_limit() -> int:
    """Raise the soft limit as far as we may and want; return what it is then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft < wanted:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
