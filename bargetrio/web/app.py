"""The REST application: the routes with their handlers, behind the guard, and errors as problems in one place."""

from collections.abc import Callable
from typing import Any

from quart import Response, request
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException
from werkzeug.routing import BaseConverter

from bargetrio.cluster.port import Cluster
from bargetrio.eventlog.render import ASSETS, asset
from bargetrio.protocol.errors import BargeError
from bargetrio.web import bodies
from bargetrio.web.bulk import Bulk, is_bulk
from bargetrio.web.guard import Guard, Receive, Scope, Send
from bargetrio.web.problems import answer_of, of_http
from bargetrio.web.puts import is_put, put_key
from bargetrio.web.rest import Rest
from bargetrio.web.routes import ROUTES


class _KeyConverter(BaseConverter):
    """Anything at all, slashes and newlines too: the key itself is read from the raw path."""

    regex = "(?s:.+)"
    part_isolating = False


def make_app(
    cluster: Cluster, *, hosts: frozenset[str], token: bytes | None, election_ms: tuple[int, int] | None = None
) -> Guard:
    """Return the whole ASGI application: guard, bulk writes, and the routes. The page draws its timers by `election_ms`."""
    rest = Rest(cluster, election_ms)
    quart = QuartTrio("bargetrio.web", static_folder=None)
    quart.config.update(MAX_CONTENT_LENGTH=bodies.JSON_BODY_BYTES, BODY_TIMEOUT=15, RESPONSE_TIMEOUT=15)
    quart.url_map.merge_slashes = False
    quart.url_map.strict_slashes = True
    quart.url_map.converters["key"] = _KeyConverter
    for route in ROUTES:
        path = route.path.replace("<key>", "<key:key>")
        handler: Callable[..., Any] = getattr(rest, route.name, _past_the_framework)
        quart.add_url_rule(path, route.name, handler, methods=[route.method])
    quart.add_url_rule("/keys/", "no_key", _no_key, methods=["GET", "PUT", "DELETE"])
    quart.add_url_rule("/static/<name>", "static_file", _static)
    _tell_problems(quart, cluster, rest)
    app: Any = quart

    async def front(scope: Scope, receive: Receive, send: Send) -> None:
        if is_put(scope):
            await put_key(cluster, rest.figures, scope, receive, send)
        elif is_bulk(scope):
            await Bulk(cluster, rest.figures, receive, send).run()
        else:
            await app(scope, receive, send)

    rest.guard = Guard(front, hosts=hosts, token=token)
    return rest.guard


def _tell_problems(quart: QuartTrio, cluster: Cluster, rest: Rest) -> None:
    @quart.errorhandler(BargeError)
    async def on_barge_error(error: BargeError) -> Response:
        known = cluster.known_leader()
        status, headers, body = answer_of(error, None if known is None else known.term)
        return Response(body, status, headers)

    @quart.errorhandler(HTTPException)
    async def on_http_error(problem: HTTPException) -> Response:
        if problem.code is not None and problem.code < 400:
            response: Any = problem.get_response()
            return Response(b"", problem.code, dict(response.headers))
        error = of_http(problem.code or 500, f"{request.method} {request.path[:200]}: {problem.description}")
        status, headers, body = answer_of(error)
        allowed = getattr(problem, "valid_methods", None)
        if allowed:
            headers["Allow"] = ", ".join(sorted(allowed))
        return Response(body, status, headers)

    @quart.errorhandler(Exception)
    async def on_bug(problem: Exception) -> Response:
        quart.logger.error("a handler failed", exc_info=problem)
        error = BargeError("outcome_unknown", f"an error in the daemon: {type(problem).__name__}", status=500)
        status, headers, body = answer_of(error)
        return Response(body, status, headers)

    @quart.after_request
    async def tell_leader(response: Response) -> Response:
        known = cluster.known_leader()
        if known is not None:
            response.headers["Barge-Leader"] = str(known.leader)
            response.headers["Barge-Term"] = str(known.term)
        rule = request.url_rule
        route = "none" if rule is None else rule.rule.replace("<key:key>", "<key>")
        rest.figures.count(request.method, route, response.status_code)
        return response


async def _past_the_framework(key: str) -> Response:
    raise AssertionError("puts.py has answered this; the route is here for the sake of `Allow`")


async def _no_key() -> Response:
    raise BargeError("bad_request", "the key is empty")


async def _static(name: str) -> Response:
    if name not in ASSETS:
        raise BargeError("not_found", "there is no such file")
    return Response(asset(name), 200, {"Cache-Control": "no-cache"}, content_type=ASSETS[name])
