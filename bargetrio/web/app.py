"""The REST application: routes and handlers, behind the guard, and the conversion of errors to problems."""

from collections.abc import Callable
from typing import Any

from quart import Response
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from bargetrio.cluster.cluster import Cluster
from bargetrio.protocol.errors import BargeError
from bargetrio.web import bodies
from bargetrio.web.bulk import BulkMemory, BulkWrite
from bargetrio.web.guard import HEAD, Guard, Receive, RequestHead, Scope, Send
from bargetrio.web.keys import BODY_TIMEOUT_S, KEY_ROUTES, answer_key
from bargetrio.web.problems import answer_of, of_http
from bargetrio.web.rest import Rest
from bargetrio.web.routes import ROUTES, STATIC, Route


def make_app(
    cluster: Cluster, *, hosts: frozenset[str], token: bytes | None, election_ms: tuple[int, int] | None = None
) -> Guard:
    """Return the ASGI application: guard, bulk writes, and the routes. The page draws its election timers by `election_ms`."""
    bulk_memory = BulkMemory()

    async def front(scope: Scope, receive: Receive, send: Send) -> None:
        head: RequestHead = scope[HEAD]
        if head.route.name in KEY_ROUTES:
            await answer_key(cluster, scope, receive, send)
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


def _register_error_handlers(quart: QuartTrio, cluster: Cluster) -> None:
    @quart.errorhandler(BargeError)
    async def on_barge_error(error: BargeError) -> Response:
        known = cluster.local.known_leader()
        status, headers, body = answer_of(error, None if known is None else known.term)
        return Response(body, status, headers)

    @quart.errorhandler(HTTPException)
    async def on_http_error(problem: HTTPException) -> Response:
        status, headers, body = answer_of(of_http(problem.code or 500, problem.description or ""))
        return Response(body, status, headers)

    @quart.errorhandler(Exception)
    async def on_bug(problem: Exception) -> Response:
        quart.logger.error("a handler failed", exc_info=problem)
        error = BargeError("outcome_unknown", f"an error in the daemon: {type(problem).__name__}", status=500)
        status, headers, body = answer_of(error)
        return Response(body, status, headers)

    @quart.after_request
    async def add_leader_header(response: Response) -> Response:
        known = cluster.local.known_leader()
        if known is not None:
            response.headers["Barge-Leader"] = str(known.leader)
            response.headers["Barge-Term"] = str(known.term)
        return response
