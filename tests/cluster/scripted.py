"""A forwarder in front of a node whose answers are scripted."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio

from bargetrio.cluster.forward import Forwarder
from bargetrio.transport.sockets import SocketNetwork

Reply = Callable[[dict[str, Any], int], dict[str, Any] | None]
"""What a node answers to a request that came over its n-th connection; None cuts the connection."""


def ok(request: dict[str, Any], index: int = 1) -> dict[str, Any]:
    """Committed."""
    return {"id": request["id"], "ok": True, "key": request["key"], "index": index, "term": 1}


def refused(request: dict[str, Any], error: str) -> dict[str, Any]:
    """Certainly not proposed."""
    return {"id": request["id"], "ok": False, "error": error, "detail": "", "leader": None, "address": None, "applied": False}


class Scripted:
    """A node that says what the test wants; `asked` are the keys it was asked for, by connection."""

    def __init__(self, reply: Reply) -> None:
        self.asked: list[list[str]] = []
        self.bursts: list[int] = []
        """How many requests came in each piece."""
        self._reply = reply

    async def serve(self, stream: trio.SocketStream) -> None:
        """Serve one connection."""
        number = len(self.asked)
        self.asked.append([])
        rest = b""
        async with stream:
            async for data in stream:
                *lines, rest = (rest + data).split(b"\n")
                answers: list[dict[str, Any] | None] = []
                self.bursts += [len(lines)]
                for line in lines:
                    request = json.loads(line)
                    if "hello" in request:
                        answers.append({"hello": "node", "protocol": 1, "cluster": "barge", "node": 0})
                        continue
                    self.asked[number].append(request.get("key", ""))
                    answers.append(self._reply(request, number))
                good = [answer for answer in answers if answer is not None]
                await stream.send_all(b"".join(json.dumps(answer).encode() + b"\n" for answer in good))
                if None in answers:
                    return


def forwarder_of(nursery: trio.Nursery, timeout_s: float, address: str = "127.0.0.1:1", **others: Any) -> Forwarder:
    """A forwarder of one node, said to lead, at an address where nobody listens; `others` are further or other arguments."""
    arguments: dict[str, Any] = {
        "cluster": "barge",
        "addresses": {0: address},
        "request_timeout_s": timeout_s,
        "leader_hint": lambda: 0,
        "local_ids": lambda: [0],
        "can_lead": lambda node_id: True,
        "network": SocketNetwork(),
        "nursery": nursery,
    }
    return Forwarder(**(arguments | others))


@asynccontextmanager
async def forwarding(
    reply: Reply, timeout_s: float = 5.0, *, leader: int | None = 0
) -> AsyncIterator[tuple[Forwarder, Scripted]]:
    """A forwarder whose only node is scripted, and which knows that `leader` leads."""
    node = Scripted(reply)
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(
            lambda task_status: trio.serve_tcp(node.serve, 0, host="127.0.0.1", task_status=task_status)
        )
        address = f"127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        yield forwarder_of(nursery, timeout_s, address, leader_hint=lambda: leader), node
        nursery.cancel_scope.cancel()
