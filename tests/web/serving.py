"""The web server in a task of the test's own loop."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from bargetrio.web.app import make_app
from bargetrio.web.guard import hosts_of
from bargetrio.web.server import WebServer, bind


@asynccontextmanager
async def served(app: Any, sock: socket.socket | None = None) -> AsyncIterator[int]:
    """Serve `app` on a free port."""
    sock = sock or bind("127.0.0.1", 0)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(WebServer(app, sock).run)
            yield sock.getsockname()[1]
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def served_quart(cluster: Any) -> AsyncIterator[int]:
    """Serve the REST application in front of `cluster`; at the end nothing of it is in flight."""
    sock = bind("127.0.0.1", 0)
    port = sock.getsockname()[1]
    app = make_app(cluster, hosts=hosts_of([f"127.0.0.1:{port}"], ()), token=None)
    async with served(app, sock):
        yield port
    assert app.in_flight == 0
