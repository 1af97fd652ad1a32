"""`PUT`, `GET` and `DELETE /keys/<key>`: the most frequent requests, in plain ASGI beside the framework.

The framework's contexts, routing and response cost more than the whole cluster's work for a write or a read. A route here is two
functions without I/O: what a request asks of the cluster, and what its answer is. Between them is `answer_key` for requests that
hypercorn has read, and the fast lane (fast_lane.py) for most. Validation and errors are the same as elsewhere: bodies.py,
conditions.py and problems.py.
"""

import logging
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

import msgspec
import trio
from msgspec import Struct
from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from bargetrio.cluster.cluster import Cluster
from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.requests import Delete, DeleteAnswer, Get, GetAnswer, Put, PutAnswer, Request
from bargetrio.protocol.validation import decode_value_b64
from bargetrio.protocol.views import LeaderView
from bargetrio.web import bodies
from bargetrio.web.conditions import condition_of, is_fresh
from bargetrio.web.guard import HEAD, Receive, RequestHead, Scope, Send
from bargetrio.web.headers import media_type_of
from bargetrio.web.problems import JSON, answer_of, json_body
from bargetrio.web.routes import KeyAnswer, WriteAnswer
from bargetrio.web.targets import key_of

log = logging.getLogger(__name__)

BODY_TIMEOUT_S: Final = 15.0
ACCEPTS: Final = 64
"""Accept headers whose meaning is kept."""
TEXT: Final = "text/plain; charset=utf-8"
BYTES: Final = "application/octet-stream"

HttpAnswer = tuple[int, dict[str, str], bytes]
"""Status, headers, body."""


class ClientGone(Exception):
    """The client disconnected before its request was complete: no answer is needed."""


class KeyRoute(Struct, frozen=True):
    """`asked` returns the function that makes the cluster's request of the whole body, `answered` the answer to it.

    `asked` takes the head, so that a bad one is refused before the body is read; `answered` takes the head and the cluster's
    answer. All three raise BargeError. `has_body`: whether a body is read.
    """

    asked: Callable[[RequestHead], Callable[[bytes], Request]]
    answered: Callable[[RequestHead, Any], HttpAnswer]
    has_body: bool


async def answer_key(cluster: Cluster, scope: Scope, receive: Receive, send: Send) -> None:
    """Execute one request of the table and answer it."""
    head: RequestHead = scope[HEAD]
    route = KEY_ROUTES[head.route.name]
    outcome: Any
    try:
        request_of = route.asked(head)
        body = await _body(head, receive) if route.has_body else b""
        outcome = await cluster.execute(request_of(body))
    except ClientGone:
        return
    except Exception as problem:  # a bug in one request must not end the daemon
        outcome = problem
    status, headers, content = answer_to(head, outcome, cluster.local.known_leader())
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content, "more_body": False})


def answer_to(head: RequestHead, outcome: Any, known: LeaderView | None) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Return status, headers and body for the cluster's answer, or for what was raised instead. Names are in lower case.

    `known` is the leader, if this daemon knows it.
    """
    try:
        if isinstance(outcome, Exception):
            raise outcome
        status, headers, content = KEY_ROUTES[head.route.name].answered(head, outcome)
    except BargeError as error:
        status, headers, content = answer_of(error, None if known is None else known.term)
    except Exception as problem:
        log.error("a handler failed", exc_info=problem)
        detail = f"an error in the daemon: {type(problem).__name__}"
        status, headers, content = answer_of(BargeError("outcome_unknown", detail, status=500))
    if known is not None:
        headers["Barge-Leader"], headers["Barge-Term"] = str(known.leader), str(known.term)
    if status not in (204, 304):
        headers["Content-Length"] = str(len(content))
    return status, [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()], content


def written(answer: PutAnswer) -> HttpAnswer:
    """Return the answer to a successful write."""
    headers = {"Content-Type": JSON, "ETag": f'"{answer.index}"', "Barge-Index": str(answer.index)}
    body = json_body(WriteAnswer(key=answer.key, index=answer.index, term=answer.term))
    return (201 if answer.created is True else 200), headers, body


# -- the routes ----------------------------------------------------------------------------------------------------------


def _put(head: RequestHead) -> Callable[[bytes], Put]:
    key = key_of(head.argument)
    if_index, if_absent = condition_of(head.headers)
    media_type = media_type_of(head.headers)
    return lambda body: bodies.put_of_value_body(key, body, media_type, if_index, if_absent)


def _put_answered(head: RequestHead, answer: PutAnswer) -> HttpAnswer:
    return written(answer)


def _get(head: RequestHead) -> Callable[[bytes], Get]:
    read = head.query.read_level()
    get = Get(id=0, key=key_of(head.argument), read=read)
    return lambda body: get


def _get_answered(head: RequestHead, answer: GetAnswer) -> HttpAnswer:
    if answer.index == 0:
        if b"if-match" in head.headers:
            raise BargeError("precondition_failed", "there is no such key")
        raise BargeError("not_found", "there is no such key")
    headers = {"ETag": f'"{answer.index}"', "Barge-Index": str(answer.index), "Vary": "Accept"}
    if is_fresh(head.headers, headers["ETag"]):
        return 304, headers, b""
    value_b64 = None if answer.value_b64 is msgspec.UNSET else answer.value_b64
    if _wants_json(head.headers.get(b"accept", b"")):
        headers["Content-Type"] = JSON
        return 200, headers, json_body(KeyAnswer(key=answer.key, index=answer.index, value=answer.value, value_b64=value_b64))
    if value_b64 is not None:
        headers["Content-Type"] = BYTES
        return 200, headers, decode_value_b64(value_b64)
    headers["Content-Type"] = TEXT
    return 200, headers, (answer.value or "").encode()


def _delete(head: RequestHead) -> Callable[[bytes], Delete]:
    key = key_of(head.argument)
    if_index, if_absent = condition_of(head.headers)
    if if_absent:  # a delete of a key that must not exist: 412 or 404 (RFC 9110, 13.1.2), by the state of the key
        if_index = 0

    def delete(body: bytes) -> Delete:
        if body:
            raise BargeError("bad_request", "this takes no body; a condition is If-Match")
        return bodies.delete_of(key, if_index)

    return delete


def _delete_answered(head: RequestHead, answer: DeleteAnswer) -> HttpAnswer:
    if not answer.deleted:
        raise BargeError("not_found", "there is no such key")
    return 204, {"Barge-Index": str(answer.index), "Barge-Entry-Term": str(answer.term)}, b""


KEY_ROUTES: Final = {
    "put_key": KeyRoute(_put, _put_answered, True),
    "get_key": KeyRoute(_get, _get_answered, False),
    "delete_key": KeyRoute(_delete, _delete_answered, True),
}
"""By the name in the table of routes."""


@lru_cache(ACCEPTS)
def _wants_json(accept: bytes) -> bool:
    """Return whether this Accept header prefers JSON to a raw value."""
    accepted = parse_accept_header(accept.decode("latin-1"), MIMEAccept)
    return bool(accepted.best_match([JSON, "text/plain", BYTES], JSON) == JSON)


# -- the body ------------------------------------------------------------------------------------------------------------


async def _body(head: RequestHead, receive: Receive) -> bytes:
    """Return the complete body; raise ClientGone, or BargeError if it is too large or does not arrive in time."""
    length = head.headers.get(b"content-length", b"0")
    if length.isdigit() and int(length) > bodies.JSON_BODY_BYTES:
        raise _too_large()
    pieces: list[bytes] = []
    size = 0
    with trio.move_on_after(BODY_TIMEOUT_S):
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            pieces.append(message.get("body", b""))
            size += len(pieces[-1])
            if size > bodies.JSON_BODY_BYTES:
                raise _too_large()
            if not message.get("more_body", False):
                return b"".join(pieces)
    raise BargeError("bad_request", f"the body did not come within {BODY_TIMEOUT_S:g} s", status=408)


def _too_large() -> BargeError:
    return BargeError("bad_request", f"a body has at most {bodies.JSON_BODY_BYTES} bytes", status=413)
