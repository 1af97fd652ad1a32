"""Every route in one table: the application, /openapi.json and docs/rest.md are checked against it."""

from typing import Any, Final

from msgspec import Struct

from bargetrio.protocol.events import EventPage
from bargetrio.protocol.requests import Item
from bargetrio.protocol.views import BootstrapAnswer, Faults, LeaderView, NodeAnswer, NodesAnswer, NodeView, Successor
from bargetrio.web.bodies import KeyBody, ValueBody


class WriteAnswer(Struct, frozen=True, kw_only=True):
    """The write is committed on a majority and applied."""

    key: str
    index: int
    term: int


class KeyAnswer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A key; `value_b64` where the value is not UTF-8."""

    key: str
    index: int
    value: str | None = None
    value_b64: str | None = None


class KeysAnswer(Struct, frozen=True, kw_only=True):
    """Keys in order; `next` is what to give as `after` for more, null at the end."""

    items: list[Item]
    next: str | None
    index: int


class BulkLine(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer to one line of a bulk write: `line` counts from 1; `error` and `applied` as in a problem."""

    line: int
    ok: bool
    key: str | None = None
    index: int | None = None
    term: int | None = None
    error: str | None = None
    detail: str | None = None


class Route(Struct, frozen=True, kw_only=True):
    """One method of one path. `name` is the handler's; `codes` are its answers besides the problems any request can meet."""

    method: str
    path: str
    name: str
    summary: str
    codes: tuple[int, ...]
    query: tuple[str, ...] = ()
    conditions: tuple[str, ...] = ()
    """The conditional headers that it heeds; another one is refused (web/headers.py)."""
    body: Any = None
    body_types: tuple[str, ...] = ("application/json",)
    answer: Any = None
    answer_type: str = "application/json"


BOTH: Final = ("If-Match", "If-None-Match")
_EVENTS_QUERY: Final = ("after", "node", "kind", "heartbeats", "limit")

ROUTES: Final = (
    Route(
        method="PUT",
        path="/keys/<key>",
        name="put_key",
        summary="Write a key: the raw body, or JSON. If-Match and If-None-Match make it conditional.",
        codes=(200, 201, 412, 413, 415, 504),
        conditions=BOTH,
        body=ValueBody,
        body_types=("application/json", "text/plain", "application/octet-stream"),
        answer=WriteAnswer,
    ),
    Route(
        method="GET",
        path="/keys/<key>",
        name="get_key",
        summary="Read a key: JSON, or the raw value with Accept: text/plain. Its ETag is the index of its last change.",
        codes=(200, 304, 404, 412),
        query=("read",),
        conditions=BOTH,
        answer=KeyAnswer,
    ),
    Route(
        method="DELETE",
        path="/keys/<key>",
        name="delete_key",
        summary="Remove a key. If-Match and If-None-Match make it conditional.",
        codes=(204, 404, 412, 504),
        conditions=BOTH,
    ),
    Route(
        method="GET",
        path="/keys",
        name="list_keys",
        summary="Read keys in order.",
        codes=(200,),
        query=("prefix", "after", "limit", "keys_only", "read"),
        answer=KeysAnswer,
    ),
    Route(
        method="POST",
        path="/keys",
        name="post_keys",
        summary="Write a key; with application/x-ndjson one key per line, each answered with a line.",
        codes=(200, 201, 412, 413, 415, 504),
        body=KeyBody,
        body_types=("application/json", "application/x-ndjson"),
        answer=WriteAnswer,
    ),
    Route(
        method="GET",
        path="/snapshot",
        name="snapshot",
        summary="A backup: everything that is committed now, up to the index in Barge-Index.",
        codes=(200, 504),
        answer_type="text/plain",
    ),
    Route(
        method="GET",
        path="/leader",
        name="leader",
        summary="Who leads, by the highest term with a quorum.",
        codes=(200,),
        query=("local",),
        answer=LeaderView,
    ),
    Route(
        method="POST",
        path="/leader",
        name="transfer",
        summary="Have another node elected at once: this one, or the one that has most entries.",
        codes=(200, 400, 404, 415, 503, 504),
        query=("local",),
        body=Successor,
        answer=LeaderView,
    ),
    Route(
        method="GET",
        path="/nodes",
        name="nodes",
        summary="Every node, as its daemon knows it.",
        codes=(200,),
        query=("local",),
        answer=NodesAnswer,
    ),
    Route(method="GET", path="/nodes/<id>", name="node", summary="One node.", codes=(200, 404), answer=NodeView),
    Route(
        method="POST",
        path="/nodes/<id>/kill",
        name="kill",
        summary="Crash a node: nothing is flushed, no peer is notified. Twice is no error.",
        codes=(200, 404, 415, 504),
        query=("local",),
        answer=NodeAnswer,
    ),
    Route(
        method="POST",
        path="/nodes/<id>/revive",
        name="revive",
        summary="Start a node again; answers once it has recovered and listens.",
        codes=(200, 404, 409, 415, 504),
        query=("local",),
        answer=NodeAnswer,
    ),
    Route(
        method="POST",
        path="/nodes/<id>/readmit",
        name="readmit",
        summary="Readmit a node whose disk was lost and replaced, by an entry of the log that is committed without it.",
        codes=(200, 400, 404, 415, 503, 504),
        query=("local",),
        answer=NodeAnswer,
    ),
    Route(
        method="POST",
        path="/bootstrap",
        name="bootstrap",
        summary="Begin a new cluster without the members that are absent; they are readmitted later.",
        codes=(200, 400, 415, 504),
        answer=BootstrapAnswer,
    ),
    Route(method="GET", path="/faults", name="get_faults", summary="The faults in force.", codes=(200,), answer=Faults),
    Route(
        method="PUT",
        path="/faults",
        name="put_faults",
        summary="Put exactly these faults in force: partitions, links, disks.",
        codes=(200, 404, 415, 504),
        query=("local",),
        body=Faults,
        answer=Faults,
    ),
    Route(
        method="DELETE",
        path="/faults",
        name="delete_faults",
        summary="Heal everything.",
        codes=(200, 504),
        query=("local",),
        answer=Faults,
    ),
    Route(
        method="GET",
        path="/",
        name="page",
        summary="The live page: the nodes on a ring, their logs and events, and controls.",
        codes=(200, 304, 412),
        conditions=BOTH,
        answer_type="text/html",
    ),
    Route(
        method="GET",
        path="/log",
        name="log",
        summary="The event log as a table with a column per node; needs no script.",
        codes=(200, 304, 412),
        query=("node", "kind", "heartbeats", "limit"),
        conditions=BOTH,
        answer_type="text/html",
    ),
    Route(
        method="GET",
        path="/log.html",
        name="log_file",
        summary="The live page with the event log as one self-contained file.",
        codes=(200,),
        answer_type="text/html",
    ),
    Route(
        method="GET",
        path="/events",
        name="events",
        summary="The event log as JSON, or as a stream with Accept: text/event-stream.",
        codes=(200,),
        query=(*_EVENTS_QUERY, "local", "live"),
        answer=EventPage,
    ),
    Route(method="GET", path="/livez", name="livez", summary="The event loop runs.", codes=(200,)),
    Route(
        method="GET",
        path="/readyz",
        name="readyz",
        summary="A leader with a quorum is known, and this daemon's nodes are caught up.",
        codes=(200,),
    ),
    Route(method="GET", path="/status", name="status", summary="A summary of this daemon.", codes=(200,)),
    Route(
        method="GET",
        path="/metrics",
        name="metrics",
        summary="Metrics for Prometheus.",
        codes=(200,),
        answer_type="text/plain",
    ),
    Route(method="GET", path="/version", name="version", summary="The version of Barge.", codes=(200,)),
    Route(method="GET", path="/openapi.json", name="openapi", summary="This API as an OpenAPI document.", codes=(200,)),
)

STATIC: Final = Route(
    method="GET",
    path="/static/<name>",
    name="static_file",
    summary="A file of the page.",
    codes=(200, 304, 404, 412),
    conditions=BOTH,
    answer_type="text/plain",
)
"""Not in the table for programs: what is there belongs to the page."""
