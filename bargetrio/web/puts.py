"""`PUT /keys/<key>`: the most frequent request, in plain ASGI beside the framework.

The framework's contexts, routing and response cost as much as the whole cluster's work for a write. Validation and answers are
the same as elsewhere: bodies.py and problems.py.
"""

import logging
from typing import Final

import trio

from bargetrio.cluster.cluster import Cluster
from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.requests import Put, PutAnswer
from bargetrio.web import bodies
from bargetrio.web.conditions import condition_of
from bargetrio.web.guard import HEAD, Receive, RequestHead, Scope, Send
from bargetrio.web.headers import media_type_of
from bargetrio.web.problems import JSON, answer_of, json_body
from bargetrio.web.routes import WriteAnswer
from bargetrio.web.targets import key_of

log = logging.getLogger(__name__)

BODY_TIMEOUT_S: Final = 15.0


class ClientGone(Exception):
    """The client disconnected before its request was complete: no answer is needed."""


async def put_key(cluster: Cluster, scope: Scope, receive: Receive, send: Send) -> None:
    """Execute one write and answer it."""
    try:
        answer = await cluster.execute(await _asked(scope, receive))
        assert isinstance(answer, PutAnswer)
        status, headers, body = written(answer)
    except ClientGone:
        return
    except BargeError as error:
        known = cluster.local.known_leader()
        status, headers, body = answer_of(error, None if known is None else known.term)
    except Exception as problem:  # a bug in one request must not end the daemon
        log.error("a handler failed", exc_info=problem)
        detail = f"an error in the daemon: {type(problem).__name__}"
        status, headers, body = answer_of(BargeError("outcome_unknown", detail, status=500))
    known = cluster.local.known_leader()
    if known is not None:
        headers["Barge-Leader"], headers["Barge-Term"] = str(known.leader), str(known.term)
    headers["Content-Length"] = str(len(body))
    pairs = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def written(answer: PutAnswer) -> tuple[int, dict[str, str], bytes]:
    """Return (status, headers, body) of a successful write."""
    headers = {"Content-Type": JSON, "ETag": f'"{answer.index}"', "Barge-Index": str(answer.index)}
    body = json_body(WriteAnswer(key=answer.key, index=answer.index, term=answer.term))
    return (201 if answer.created is True else 200), headers, body


async def _asked(scope: Scope, receive: Receive) -> Put:
    head: RequestHead = scope[HEAD]
    key = key_of(head.argument)
    if_index, if_absent = condition_of(head.headers)
    media_type = media_type_of(head.headers)
    length = head.headers.get(b"content-length", b"0")
    if length.isdigit() and int(length) > bodies.JSON_BODY_BYTES:
        raise _too_large()
    return bodies.put_of_value_body(key, await _body(receive), media_type, if_index, if_absent)


async def _body(receive: Receive) -> bytes:
    """Return the complete body; raise ClientGone, or BargeError if it is too large or does not arrive in time."""
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
