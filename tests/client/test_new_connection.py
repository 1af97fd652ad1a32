"""The blocking client on a new connection: late answers on the old one are ignored."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from bargetrio.client import Client
from bargetrio.protocol.errors import BargeError

HELLO = b'{"hello":"node","protocol":1,"cluster":"barge","node":0}\n'


class LateNode(threading.Thread):
    """Answers its first connection only when the second has asked, and then both with the id that was asked."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.server = socket.create_server(("127.0.0.1", 0))
        self.ids: list[int] = []

    def run(self) -> None:
        with suppress(OSError):
            first, _ = self.server.accept()
            self._ask(first)
            second, _ = self.server.accept()
            self._ask(second)
            with suppress(OSError):
                first.sendall(self._answer(self.ids[0], "a", "OLD"))
            half = self._answer(self.ids[-1], "b", "NEW")
            second.sendall(half[:10])
            second.sendall(half[10:])

    def _ask(self, sock: socket.socket) -> None:
        stream = sock.makefile("rb")
        stream.readline()
        sock.sendall(HELLO)
        self.ids.append(json.loads(stream.readline())["id"])

    def _answer(self, request_id: int, key: str, value: str) -> bytes:
        return json.dumps({"id": request_id, "ok": True, "key": key, "index": 1, "value": value}).encode() + b"\n"


@contextmanager
def late_node() -> Iterator[LateNode]:
    node = LateNode()
    node.start()
    try:
        yield node
    finally:
        node.server.close()


def test_a_late_answer_of_the_old_connection_is_not_the_new_requests() -> None:
    """The same id on both, as each connection counts from one."""
    with late_node() as node:
        client = Client([f"127.0.0.1:{node.server.getsockname()[1]}"], timeout_s=0.3)
        with pytest.raises(BargeError):
            client.get("a")
        client._keys._timeout_s = 5.0
        assert client.get("b").value == "NEW"
        assert node.ids[0] == node.ids[-1]
        client.close()


class Repeating(threading.Thread):
    """Answers each request with the answers to all earlier ones of its connection first, the value being the request's number."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.server = socket.create_server(("127.0.0.1", 0))

    def run(self) -> None:
        with suppress(OSError):
            sock, _ = self.server.accept()
            stream, said = sock.makefile("rb"), b""
            stream.readline()
            sock.sendall(HELLO)
            while line := stream.readline():
                asked = json.loads(line)
                answer = {"id": asked["id"], "ok": True, "key": asked["key"], "index": asked["id"], "value": str(asked["id"])}
                said += json.dumps(answer).encode() + b"\n"
                sock.sendall(said)


def test_an_answer_to_an_earlier_request_of_the_same_connection_is_passed_over() -> None:
    """Of the same key, too: an id is one request's."""
    node = Repeating()
    node.start()
    with node.server, Client([f"127.0.0.1:{node.server.getsockname()[1]}"], timeout_s=5) as client:
        assert [client.get("a").value for _ in range(3)] == ["1", "2", "3"]
