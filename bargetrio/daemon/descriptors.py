"""Budget of a process's file descriptors: the nodes' logs, snapshots and peers first, then clients.

With many clients, beginning a log segment or a snapshot must not fail with "Too many open files".
"""

import resource
from contextlib import suppress
from typing import Final

from msgspec import Struct

from bargetrio.node.places import CLIENTS
from bargetrio.protocol.limits import PEER_CONNECTIONS, UNAUTHENTICATED

OPEN_FILES: Final = 98_304
"""The soft limit that a daemon sets, if the hard limit allows it."""
OF_PROCESS: Final = 40
"""Standard streams, trio, the event loop, REST's listener, the event record, requests to other daemons, name resolution."""
OF_NODE: Final = 24
"""A node's lock, folder, segments, snapshots that are saved, sent, received and read, its io_uring, listener and eventfds."""
OF_PEER: Final = 2 + PEER_CONNECTIONS
"""The dialled connection, its successor while it is not closed yet, and the accepted ones."""
WEB: Final = 256
LANE_CONNECTIONS: Final = 6_000
WEB_PART: Final = 4
UNAUTHENTICATED_PART: Final = 8
"""Of the remaining descriptors REST's lanes have at most 1/WEB_PART, connections without a hello 1/UNAUTHENTICATED_PART."""
FEWEST: Final = 4
"""The least number of connections of each kind, whatever the limit is."""


class ConnectionLimits(Struct, frozen=True, kw_only=True):
    """Limits of REST's connections, and of each node's clients and unauthenticated ones; `is_short`: too few descriptors.

    `web`: those that hypercorn serves at once; `lane`: those of the fast lane beside them.
    """

    web: int
    lane: int
    unauthenticated: int
    clients: int
    is_short: bool


def connection_limits(limit: int, nodes: int, members: int) -> ConnectionLimits:
    """Return the limits of connections for `limit` descriptors in a process of `nodes` nodes, in a cluster of `members`."""
    left = limit - OF_PROCESS - members - nodes * (OF_NODE + OF_PEER * (members - 1))
    web = max(FEWEST, min(WEB, left // WEB_PART))
    lane = max(FEWEST, min(LANE_CONNECTIONS, left // WEB_PART - web))
    unauthenticated = max(FEWEST, min(UNAUTHENTICATED, left // (UNAUTHENTICATED_PART * nodes)))
    clients = (left - web - lane - nodes * unauthenticated) // nodes
    return ConnectionLimits(
        web=web, lane=lane, unauthenticated=unauthenticated, clients=max(FEWEST, min(CLIENTS, clients)), is_short=clients < FEWEST
    )


def raise_limit() -> int:
    """Raise the soft limit of descriptors as far as permitted and needed; return the new limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft < wanted:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
