"""The REST handlers: each parses its request, calls the cluster, and answers; exceptions become problems in app.py."""

import hashlib
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any, Final

import msgspec
import trio
from quart import Response, request

from bargetrio import __version__
from bargetrio.cluster.cluster import BackupFile, Cluster
from bargetrio.eventlog.render import ASSETS, Column, LogView, asset, live_page, log_html, log_page
from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.events import KINDS, EventQuery
from bargetrio.protocol.limits import INT_DIGITS, ITEMS, MOST_ITEMS, QUOTED_CHARACTERS
from bargetrio.protocol.requests import List, ListAnswer, Put, PutAnswer
from bargetrio.protocol.validation import check_key
from bargetrio.protocol.views import Faults, NodeView, Successor
from bargetrio.web import bodies, openapi
from bargetrio.web.conditions import is_fresh
from bargetrio.web.guard import Guard, RequestHead
from bargetrio.web.headers import media_type_of
from bargetrio.web.keys import written
from bargetrio.web.metrics import WebGauges, text_of
from bargetrio.web.problems import JSON, json_body
from bargetrio.web.stream import frames, live_frames

LOG_EVENTS: Final = 300
TAG_DIGITS: Final = 24
DRAWING: Final = 2
"""Most tables rendered at once, in threads: the other threads stay free for the nodes' disks."""
FILE_EVENTS: Final = 5000


STREAMED: Final = frozenset({"snapshot"})
"""Names of routes whose answers are sent as they are made; `events` is one where it asks for a stream."""

current_head: Final[ContextVar[RequestHead]] = ContextVar("current_head")
"""The request that a handler answers; handlers for requests without a body need nothing else."""


class NoFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`{}`."""


_faults: Final = msgspec.json.Decoder(Faults)
_successor: Final = msgspec.json.Decoder(Successor)
_no_fields: Final = msgspec.json.Decoder(NoFields)


class Rest:
    """The handlers, named as in routes.py, except those beside the framework: reads and writes of one key, and bulk writes."""

    def __init__(self, cluster: Cluster, guard: Guard, election_ms: tuple[int, int] | None = None) -> None:
        self._cluster = cluster
        self._election_ms = election_ms
        self._drawing = trio.CapacityLimiter(DRAWING)
        self._guard = guard
        self._openapi = msgspec.json.encode(openapi.document(__version__))

    # -- keys ------------------------------------------------------------------------------------------------------------

    async def list_keys(self) -> Response:
        """GET /keys."""
        query = _head().query
        asked = List(
            id=0,
            prefix=query.text("prefix"),
            after=query.text("after"),
            limit=query.number("limit", ITEMS, 1, MOST_ITEMS),
            keys_only=query.flag("keys_only"),
            read=query.read_level(),
        )
        for text in (asked.prefix, asked.after):
            if text:
                check_key(text)
        answer = await self._cluster.execute(asked)
        assert isinstance(answer, ListAnswer)
        fields = {"items": answer.items, "next": answer.next, "index": answer.index}
        return Response(json_body(fields), 200, {"Barge-Index": str(answer.index)}, content_type=JSON)

    async def post_keys(self) -> Response:
        """POST /keys with one key; bulk writes are handled in bulk.py."""
        _need_json()
        return await self._write(bodies.put_of_key_body(await _body()))

    async def _write(self, put: Put) -> Response:
        answer = await self._cluster.execute(put)
        assert isinstance(answer, PutAnswer)
        status, headers, body = written(answer)
        return Response(body, status, headers)

    # -- backup ----------------------------------------------------------------------------------------------------------

    async def snapshot(self) -> Response:
        """GET /snapshot."""
        backup = await self._cluster.backup()
        headers = {
            "Barge-Index": str(backup.index),
            "Barge-Checksum": f"{backup.checksum:08x}",
            "Content-Length": str(backup.size),
            "Content-Disposition": f'attachment; filename="barge-{backup.index}.snap"',
        }
        pieces = _none(backup) if request.method == "HEAD" else _pieces(backup)
        response = Response(pieces, 200, headers, content_type="text/plain; charset=utf-8")
        response.timeout = None
        return response

    # -- nodes -----------------------------------------------------------------------------------------------------------

    async def leader(self) -> Response:
        """GET /leader."""
        return _json(await self._cluster.leader(local=_head().query.flag("local")))

    async def transfer(self) -> Response:
        """POST /leader."""
        local = _head().query.flag("local")
        wanted = Successor()
        if data := await _body():
            _need_json()
            wanted = bodies.decode_json(data, _successor, flat=False)
        return _json(await self._cluster.transfer(wanted, local=local))

    async def nodes(self) -> Response:
        """GET /nodes."""
        return _json({"nodes": await self._cluster.nodes(local=_head().query.flag("local"))})

    async def node(self) -> Response:
        """GET /nodes/<id>."""
        node_id = self._known()
        views = await self._cluster.nodes(local=node_id in self._cluster.local_ids)
        return _json(next(view for view in views if view.id == node_id))

    async def kill(self) -> Response:
        """POST /nodes/<id>/kill."""
        local = _head().query.flag("local")
        await _no_body()
        return _json(await self._cluster.kill(self._known(), local=local))

    async def revive(self) -> Response:
        """POST /nodes/<id>/revive."""
        local = _head().query.flag("local")
        await _no_body()
        return _json(await self._cluster.revive(self._known(), local=local))

    async def readmit(self) -> Response:
        """POST /nodes/<id>/readmit."""
        local = _head().query.flag("local")
        await _no_body()
        return _json(await self._cluster.readmit(self._known(), local=local))

    async def bootstrap(self) -> Response:
        """POST /bootstrap."""
        await _no_body()
        return _json(await self._cluster.bootstrap())

    def _known(self) -> int:
        ids = self._cluster.node_ids
        text = _head().argument.decode("utf-8", "replace")
        if not (text.isascii() and text.isdigit() and len(text) <= INT_DIGITS and int(text) in ids):
            listed = ", ".join(str(node_id) for node_id in ids)
            raise BargeError("not_found", f"there is no node {text[:QUOTED_CHARACTERS]!r}; the nodes are {listed}")
        return int(text)

    # -- faults ----------------------------------------------------------------------------------------------------------

    async def get_faults(self) -> Response:
        """GET /faults."""
        return _json(await self._cluster.faults())

    async def put_faults(self) -> Response:
        """PUT /faults."""
        local = _head().query.flag("local")
        _need_json()
        faults = bodies.decode_json(await _body(), _faults, flat=False)
        return _json(await self._cluster.set_faults(faults, local=local))

    async def delete_faults(self) -> Response:
        """DELETE /faults."""
        local = _head().query.flag("local")
        await _nothing()
        return _json(await self._cluster.set_faults(Faults(), local=local))

    # -- events ----------------------------------------------------------------------------------------------------------

    async def page(self) -> Response:
        """GET /."""
        return _page_file(live_page(), "text/html; charset=utf-8")

    async def static_file(self) -> Response:
        """GET /static/<name>."""
        name = _head().argument.decode("utf-8", "replace")
        if name not in ASSETS:
            raise BargeError("not_found", "there is no such file")
        return _page_file(asset(name), ASSETS[name])

    async def log(self) -> Response:
        """GET /log."""
        query = _head().query
        view = await self._view(
            EventQuery(
                nodes=query.ids("node", self._cluster.node_ids),
                kinds=query.words("kind", KINDS),
                heartbeats=query.flag("heartbeats"),
                limit=query.number("limit", LOG_EVENTS, 1, FILE_EVENTS),
            )
        )
        tag = _tag_of(view)
        if is_fresh(_head().headers, tag):
            return Response(b"", 304, {"ETag": tag})
        document = await trio.to_thread.run_sync(log_page, view, limiter=self._drawing)
        return Response(document, 200, {"ETag": tag}, content_type="text/html; charset=utf-8")

    async def log_file(self) -> Response:
        """GET /log.html."""
        view = await self._view(EventQuery(heartbeats=True, limit=FILE_EVENTS))
        view = msgspec.structs.replace(view, show_heartbeats=False)
        document, policy = await trio.to_thread.run_sync(log_html, view, limiter=self._drawing)
        headers = {"Content-Security-Policy": policy + "; frame-ancestors 'none'"}
        return Response(document, 200, headers, content_type="text/html; charset=utf-8")

    async def events(self) -> Response:
        """GET /events."""
        query = _head().query
        asked = EventQuery(
            after=query.text("after"),
            nodes=query.ids("node", self._cluster.node_ids),
            kinds=query.words("kind", KINDS),
            heartbeats=query.flag("heartbeats"),
            live=query.flag("live"),
        )
        if _head().streaming:
            query.refuse(("limit", "local"), "a stream has all events of all daemons until it is closed")
            if asked.live:
                query.refuse(("node", "kind", "heartbeats"), "a live stream has what the page draws")
            cursor = _head().headers.get(b"last-event-id", b"").decode("latin-1") or asked.after
            asked = msgspec.structs.replace(asked, after=cursor)
            await self._cluster.events(EventQuery(after=cursor, limit=1))  # refuse a bad cursor before the stream begins
            chunks = live_frames(self._cluster, cursor) if asked.live else frames(self._cluster, asked)
            response = Response(_stream(chunks), 200, {"X-Accel-Buffering": "no"}, content_type="text/event-stream")
            response.timeout = None
            return response
        asked = msgspec.structs.replace(asked, limit=query.number("limit", asked.limit, 1, FILE_EVENTS))
        return _json(await self._cluster.events(asked, local=query.flag("local")))

    async def _view(self, query: EventQuery) -> LogView:
        page = await self._cluster.events(query)
        return LogView(
            cluster=self._cluster.cluster_name,
            columns=[column_of(view) for view in await self._cluster.nodes()],
            events=page.events,
            heartbeats=page.heartbeats,
            dropped=page.dropped,
            nodes=query.nodes,
            kinds=query.kinds,
            show_heartbeats=query.heartbeats,
            limit=query.limit,
            election_ms=self._election_ms,
        )

    # -- health ----------------------------------------------------------------------------------------------------------

    async def livez(self) -> Response:
        """GET /livez."""
        return _json({"live": True})

    async def readyz(self) -> Response:
        """GET /readyz."""
        why_not = self._cluster.local.ready()
        if why_not:
            raise BargeError("not_ready", why_not, leader=self._cluster.local.leader_hint())
        return _json({"ready": True})

    async def status(self) -> Response:
        """GET /status."""
        return _json({"version": __version__, "election_ms": self._election_ms, **self._cluster.local.status()})

    async def metrics(self) -> Response:
        """GET /metrics."""
        guard = self._guard
        web = WebGauges(
            in_flight=guard.in_flight, streams=guard.streams, transfers=guard.transfers, connections=guard.connections()
        )
        text = text_of(self._cluster, await self._cluster.nodes(local=True), guard.figures, web)
        return Response(text, content_type="text/plain; version=0.0.4; charset=utf-8")

    async def version(self) -> Response:
        """GET /version."""
        return _json({"name": "barge", "version": __version__, "protocol": 1})

    async def openapi(self) -> Response:
        """GET /openapi.json."""
        return Response(self._openapi, content_type=JSON)


def column_of(view: NodeView) -> Column:
    """Return the node's column in the table's head."""
    return Column(node_id=view.id, state=view.role or view.state, term=view.term)


def _tag_of(view: LogView) -> str:
    """Return a tag that changes with the table, but not with the number of hidden heartbeats alone."""
    last = view.events[-1].id if view.events else ""
    shown = repr((last, len(view.events), view.columns, view.dropped))
    return f'"{hashlib.sha256(shown.encode()).hexdigest()[:TAG_DIGITS]}"'


def _head() -> RequestHead:
    return current_head.get()


def _need_json() -> None:
    media_type = media_type_of(_head().headers)
    if media_type != JSON:
        raise BargeError(
            "bad_request", f"the body comes as {JSON}, not as {media_type[:QUOTED_CHARACTERS] or 'none'}", status=415
        )


async def _body() -> bytes:
    data = await request.get_data(as_text=False)
    assert isinstance(data, bytes)
    return data


async def _no_body() -> None:
    """Accept no body, or `{}` with a JSON media type, which a foreign form can't send without a CORS preflight."""
    if data := await _body():
        _need_json()
        bodies.decode_json(data, _no_fields)


async def _nothing() -> None:
    if await _body():
        raise BargeError("bad_request", "this takes no body; a condition is If-Match")


def _json(value: Any) -> Response:
    return Response(json_body(value), content_type=JSON)


async def _pieces(backup: BackupFile) -> AsyncIterator[bytes]:
    try:
        while piece := await backup.read():
            yield piece
    finally:
        backup.close()


async def _none(backup: BackupFile) -> AsyncIterator[bytes]:
    backup.close()
    yield b""


def _page_file(text: str, content_type: str) -> Response:
    data = text.encode()
    headers = {"Cache-Control": "no-cache", "ETag": f'"{hashlib.sha256(data).hexdigest()[:TAG_DIGITS]}"'}
    if is_fresh(_head().headers, headers["ETag"]):
        return Response(b"", 304, headers)
    return Response(data, 200, headers, content_type=content_type)


async def _stream(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield b": barge events\n\n"
    async for chunk in chunks:
        yield chunk
