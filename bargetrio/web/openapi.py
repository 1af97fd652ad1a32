"""/openapi.json, generated from the table of routes and the types."""

import re
from typing import Any, Final

import msgspec

from bargetrio.web.problems import CONTENT_TYPE, Problem
from bargetrio.web.routes import ROUTES, Route

ANY_PROBLEM: Final = (400, 401, 403, 405, 503)

_DESCRIPTION: Final = {
    200: "as asked",
    201: "written; the key is new",
    204: "removed",
    304: "unchanged since the ETag given",
    400: "not a valid request; nothing was done",
    401: "a token is needed",
    403: "Host or Origin is not allowed, or Barge-Cluster names another cluster",
    404: "there is no such key, node or route",
    405: "the path has no such method",
    409: "the node can't start; nothing was done",
    412: "the condition does not hold; nothing was done",
    413: "too large",
    415: "a wrong content type",
    503: "no leader, or too much in flight; nothing was done; Retry-After",
    504: "the outcome is unknown: the write may still be applied; or a failed disk",
}

_QUERY: Final[dict[str, dict[str, Any]]] = {
    "limit": {"type": "integer", "minimum": 1, "maximum": 5000},
    "heartbeats": {"type": "boolean"},
    "keys_only": {"type": "boolean"},
    "local": {"type": "boolean"},
    "live": {"type": "boolean"},
    "node": {"type": "array", "items": {"type": "integer"}},
    "kind": {"type": "array", "items": {"type": "string"}},
    "read": {"type": "string", "enum": ["linearizable", "lease", "stale"]},
}


def document(version: str) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document."""
    types = [Problem, *{kind: None for route in ROUTES for kind in (route.body, route.answer) if kind is not None}]
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    schema_of = dict(zip(types, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        path = re.sub(r"<(\w+)>", r"{\1}", route.path)
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Barge", "version": version, "description": "A key:value store on the Raft consensus algorithm."},
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }


def _operation(route: Route, schema_of: dict[Any, Any]) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "integer" if name == "id" else "string"}}
        for name in re.findall(r"<(\w+)>", route.path)
    ]
    parameters += [{"name": name, "in": "query", "schema": _QUERY.get(name, {"type": "string"})} for name in route.query]
    operation: dict[str, Any] = {"operationId": route.name, "summary": route.summary}
    if parameters:
        operation["parameters"] = parameters
    if route.body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {kind: _content(route, kind, schema_of) for kind in route.body_types},
        }
    operation["responses"] = {str(code): _response(route, code, schema_of) for code in sorted({*route.codes, *ANY_PROBLEM})}
    return operation


def _content(route: Route, kind: str, schema_of: dict[Any, Any]) -> dict[str, Any]:
    return {"schema": schema_of[route.body] if kind == "application/json" else {"type": "string"}}


def _response(route: Route, code: int, schema_of: dict[Any, Any]) -> dict[str, Any]:
    response: dict[str, Any] = {"description": _DESCRIPTION[code]}
    if code >= 400:
        response["content"] = {CONTENT_TYPE: {"schema": schema_of[Problem]}}
    elif code < 204:
        schema = (
            schema_of[route.answer] if route.answer is not None else {"type": "string"} if "text" in route.answer_type else {}
        )
        response["content"] = {route.answer_type: {"schema": schema}}
    return response
