"""The REST application: routes and handlers, behind the guard, and the conversion of errors to problems."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from quart import Response
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from bargetrio.cluster.cluster import Cluster
from bargetrio.protocol.errors import BargeError
from bargetrio.web import bodies
from bargetrio.web.bulk import BulkMemory, BulkWrite
from bargetrio.web.exchange import IN_LANE
from bargetrio.web.guard import HEAD, Guard, Receive, RequestHead, Scope, Send
from bargetrio.web.keys import BODY_TIMEOUT_S, KEY_ROUTES, answer_key
from bargetrio.web.problems import answer_of, of_http
from bargetrio.web.rest import Rest, current_head
from bargetrio.web.routes import ROUTES, STATIC, Route

log = logging.getLogger(__name__)


def make_app(
    cluster: Cluster, *, hosts: frozenset[str], token: bytes | None, election_ms: tuple[int, int] | None = None
) -> Guard:
    """Return the ASGI application: guard, bulk writes, and the routes. The page draws its election timers by `election_ms`."""
    bulk_memory = BulkMemory()

    async def front(scope: Scope, receive: Receive, send: Send) -> None:
        head: RequestHead = scope[HEAD]
        current_head.set(head)
        if head.route.name in KEY_ROUTES:
            await answer_key(cluster, scope, receive, send)
        elif IN_LANE in scope.get("state", {}) and head.route.method == "GET":
            await _answer_short(getattr(rest, head.route.name), cluster, send)
        elif head.bulk:
            await BulkWrite(cluster, guard.figures, bulk_memory, receive, send).run()
        else:
            # The guard has parsed the target; the framework gets the route's rule instead of a path.
            await app({**scope, "path": _rule(head.route)}, receive, send)

    guard = Guard(front, cluster=cluster.cluster_name, hosts=hosts, token=token)
    rest = Rest(cluster, guard, election_ms)
    quart = QuartTrio("bargetrio.web", static_folder=None)
    # No time-out of Quart's: the guard bounds the time of an answer by its length (places.py).
    quart.config.update(MAX_CONTENT_LENGTH=bodies.JSON_BODY_BYTES, BODY_TIMEOUT=BODY_TIMEOUT_S, RESPONSE_TIMEOUT=None)
    for route in (*ROUTES, STATIC):
        if route.name not in KEY_ROUTES:  # those are answered beside the framework, as a bulk write is
            handler: Callable[[], Any] = getattr(rest, route.name)
            quart.add_url_rule(_rule(route), route.name, handler, methods=[route.method])
    _register_error_handlers(quart, cluster)
    app: Any = quart
    return guard


def _rule(route: Route) -> str:
    return route.path.replace("<", "").replace(">", "")


async def _answer_short(handler: Callable[[], Awaitable[Response]], cluster: Cluster, send: Send) -> None:
    """Answer a request of the fast lane without a body past the framework, whose contexts and tasks take most of its time.

    The lane bounds the time of a client that has gone; elsewhere the framework ends its request.
    """
    try:
        response = await handler()
    except Exception as problem:  # a bug in one request must not end the daemon
        response = _response_to(problem, cluster)
    _add_leader(response, cluster)
    body = await response.get_data(as_text=False)
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in response.headers]
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def _response_to(problem: Exception, cluster: Cluster) -> Response:
    """Return the answer for what a handler raised."""
    if isinstance(problem, BargeError):
        known = cluster.local.known_leader()
        status, headers, body = answer_of(problem, None if known is None else known.term)
    elif isinstance(problem, HTTPException):
        status, headers, body = answer_of(of_http(problem.code or 500, problem.description or ""))
    else:
        log.error("a handler failed", exc_info=problem)
        error = BargeError("outcome_unknown", f"an error in the daemon: {type(problem).__name__}", status=500)
        status, headers, body = answer_of(error)
    return Response(body, status, headers)


def _add_leader(response: Response, cluster: Cluster) -> None:
    known = cluster.local.known_leader()
    if known is not None:
        response.headers["Barge-Leader"] = str(known.leader)
        response.headers["Barge-Term"] = str(known.term)


def _register_error_handlers(quart: QuartTrio, cluster: Cluster) -> None:
    async def on_error(problem: Exception) -> Response:
        return _response_to(problem, cluster)

    for kind in (BargeError, HTTPException, Exception):
        quart.register_error_handler(kind, on_error)

    @quart.after_request
    async def add_leader(response: Response) -> Response:
        _add_leader(response, cluster)
        return response
