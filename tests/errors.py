"""A cluster that answers everything with one error, as a node and as a daemon: real REST and real lines in front of a fake."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import msgspec
import trio

from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.requests import ErrorAnswer
from bargetrio.web.app import make_app
from bargetrio.web.guard import hosts_of
from bargetrio.web.server import WebServer, bind
from tests.client.servers import HELLO


class FailingCluster:
    """Raises `error` whatever is asked, and counts."""

    cluster_name = "barge"
    node_ids = (0, 1, 2)
    local_ids = (0, 1, 2)

    @property
    def local(self) -> "FailingCluster":
        """Its own nodes are all there are."""
        return self

    def __init__(self, error: BargeError) -> None:
        self.error = error
        self.asked = 0

    def known_leader(self) -> None:
        """Nobody leads."""

    async def execute(self, request: Any) -> Any:
        """Fail."""
        self.asked += 1
        raise self.error

    async def execute_many(self, requests: list[Any]) -> list[BargeError]:
        """Fail, for each."""
        self.asked += len(requests)
        return [self.error] * len(requests)

    async def leader(self, *, local: bool = False) -> Any:
        """Fail."""
        raise self.error

    async def nodes(self, *, local: bool = False) -> Any:
        """Fail."""
        raise self.error

    async def kill(self, node_id: int, *, local: bool = False) -> Any:
        """Fail."""
        raise self.error

    async def revive(self, node_id: int, *, local: bool = False) -> Any:
        """Fail."""
        raise self.error

    async def readmit(self, node_id: int, *, local: bool = False) -> Any:
        """Fail."""
        raise self.error

    async def transfer(self, wanted: Any, *, local: bool = False) -> Any:
        """Fail."""
        raise self.error

    async def bootstrap(self) -> Any:
        """Fail."""
        raise self.error

    async def backup(self) -> Any:
        """Fail."""
        raise self.error

    async def set_faults(self, faults: Any, *, local: bool = False) -> Any:
        """Fail."""
        raise self.error


class FailingServers(NamedTuple):
    """Where it is asked."""

    cluster: FailingCluster
    api: str
    node: str


@contextmanager
def failing(error: BargeError) -> Iterator[FailingServers]:
    """Serve it, in threads of its own."""
    cluster = FailingCluster(error)
    sock = bind("127.0.0.1", 0)
    api = f"127.0.0.1:{sock.getsockname()[1]}"
    app = make_app(cluster, hosts=hosts_of([api], ()), token=None)  # type: ignore[arg-type]  # what is not asked is not there
    stop: list[trio.CancelScope] = []
    started = threading.Event()

    async def serve() -> None:
        with trio.CancelScope() as scope:
            stop.append(scope)
            token.append(trio.lowlevel.current_trio_token())
            started.set()
            await WebServer(app, sock).run()

    token: list[trio.lowlevel.TrioToken] = []
    thread = threading.Thread(target=trio.run, args=(serve,), daemon=True)
    listener = socket.create_server(("127.0.0.1", 0))
    thread.start()
    assert started.wait(10)
    threading.Thread(target=_accept, args=(listener, cluster), daemon=True).start()
    try:
        yield FailingServers(cluster, api, f"127.0.0.1:{listener.getsockname()[1]}")
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        token[0].run_sync_soon(stop[0].cancel)
        thread.join(10)


def _accept(listener: socket.socket, cluster: FailingCluster) -> None:
    with suppress(OSError):
        while True:
            sock, _ = listener.accept()
            threading.Thread(target=_serve, args=(sock, cluster), daemon=True).start()


def _serve(sock: socket.socket, cluster: FailingCluster) -> None:
    with suppress(OSError), sock, sock.makefile("rwb") as stream:
        stream.readline()
        stream.write(HELLO)
        stream.flush()
        while line := stream.readline():
            cluster.asked += 1
            stream.write(msgspec.json.encode(ErrorAnswer.of(json.loads(line)["id"], cluster.error)) + b"\n")
            stream.flush()
