"""The event log in the API: events, pages and queries.

An event is a fact with its number, its time and its node: `{id, time, node, peer, kind, term, index, heartbeat, detail}`.
An id is `<run>-<seq>`, a daemon's own numbering.
"""

from typing import Any, Final

from msgspec import Struct

KINDS: Final = (
    "role_changed",
    "term_changed",
    "pre_vote_requested",
    "pre_vote_granted",
    "pre_vote_refused",
    "vote_requested",
    "vote_granted",
    "vote_refused",
    "transfer_began",
    "transfer_ended",
    "append_sent",
    "append_accepted",
    "append_rejected",
    "log_truncated",
    "commit_advanced",
    "applied",
    "request_received",
    "request_answered",
    "read_served",
    "snapshot_taken",
    "snapshot_sent",
    "snapshot_installed",
    "member_changed",
    "members_changed",
    "logs_differ",
    "tail_lost",
    "node_killed",
    "node_revived",
    "node_crashed",
    "node_recovered",
    "faults_changed",
    "disk_failed",
    "disk_space",
    "link_up",
    "link_down",
)


class Event(Struct, frozen=True, kw_only=True):
    """One thing that happened, ready for JSON. `time` is seconds since the epoch; `heartbeat` marks what is hidden by default."""

    id: str
    time: float
    node: int | None
    peer: int | None
    kind: str
    term: int | None
    index: int | None
    heartbeat: bool
    detail: dict[str, Any]


class Beat(Struct, frozen=True, kw_only=True):
    """The newest heartbeat that `node` has heard, from `peer`, and its age in seconds: a page draws election timers from it."""

    node: int
    peer: int
    term: int
    age_ms: float


class EventPage(Struct, frozen=True, kw_only=True):
    """Events in order of time. `next` is what to give as `after` for what comes later; it names a cursor per daemon.

    `beats` and `skipped` are for a live page: who heard a heartbeat how long ago, and how many events were left out under load.
    """

    events: list[Event]
    next: str
    dropped: int
    heartbeats: int = 0
    unreachable: list[int] = []
    skipped: int = 0
    beats: list[Beat] = []


class EventQuery(Struct, frozen=True, kw_only=True):
    """Which events are asked for: those after a cursor, or the newest `limit` without one; an empty filter lets all through.

    A `live` page is for a picture: frequent events are left out where there are too many, heartbeats are summed up.
    """

    after: str = ""
    nodes: frozenset[int] = frozenset()
    kinds: frozenset[str] = frozenset()
    heartbeats: bool = False
    limit: int = 500
    live: bool = False
