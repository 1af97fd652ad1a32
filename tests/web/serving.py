"""The web server in a task of the test's own loop."""

import socket
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio

from bargetrio.protocol.errors import BargeError
from bargetrio.web.app import make_app
from bargetrio.web.fast_lane import FastLane
from bargetrio.web.guard import hosts_of
from bargetrio.web.server import WebServer, bind


async def executed(
    execute: Callable[[Any], Awaitable[Sequence[Any]]], requests: Any, done: Callable[[Sequence[Any]], None]
) -> None:
    """Execute requests, and pass on the outcomes; an exception is that of each."""
    try:
        outcomes = await execute(requests)
    except Exception as problem:
        outcomes = [problem] * len(requests)
    done(outcomes)


class Begins(ABC):
    """A fake cluster that executes requests can begin them."""

    @abstractmethod
    async def execute_many(self, requests: Sequence[Any]) -> list[Any]:
        """Return the outcome of each; raise what is a bug."""

    def begin(self, requests: Sequence[Any], done: Callable[[Sequence[Any]], None]) -> None:
        """Execute them in a task."""
        trio.lowlevel.spawn_system_task(executed, self.execute_many, requests, done)


class Each(Begins):
    """A fake cluster that executes one request executes many, one after another."""

    @abstractmethod
    async def execute(self, request: Any) -> Any:
        """Return the answer, or raise."""

    async def execute_many(self, requests: Sequence[Any]) -> list[Any]:
        """Return the outcome of each; raise what is a bug."""
        outcomes: list[Any] = []
        for request in requests:
            try:
                outcomes.append(await self.execute(request))
            except BargeError as error:
                outcomes.append(error)
        return outcomes


@asynccontextmanager
async def served(app: Any, sock: socket.socket | None = None, lane: FastLane | None = None) -> AsyncIterator[int]:
    """Serve `app` on a free port."""
    sock = sock or bind("127.0.0.1", 0)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(WebServer(app, sock, lane=lane).run)
            yield sock.getsockname()[1]
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def served_quart(cluster: Any, *, has_lane: bool = True) -> AsyncIterator[int]:
    """Serve the REST application in front of `cluster`, by both lanes; at the end nothing of it is in flight."""
    sock = bind("127.0.0.1", 0)
    port = sock.getsockname()[1]
    app = make_app(cluster, hosts=hosts_of([f"127.0.0.1:{port}"], ()), token=None)
    async with served(app, sock, FastLane(cluster, app) if has_lane else None):
        yield port
    assert app.in_flight == 0
