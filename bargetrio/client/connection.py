"""One blocking connection to one node: the hello, then a request and its answer at a time."""

import socket
from typing import TypeVar

import msgspec

from bargetrio.protocol.addresses import parse_address
from bargetrio.protocol.errors import BargeError
from bargetrio.protocol.hello import ClientHello, HelloRefused, answer_decoder
from bargetrio.protocol.limits import LINE_BYTES, PROTOCOL_VERSION
from bargetrio.protocol.requests import ErrorAnswer, Request

A = TypeVar("A")


class NotSent(Exception):
    """The node can't be reached, or does not want us: nothing was asked."""


class Cut(Exception):
    """The connection ended, or the time was over, after the request had left."""


class Connection:
    """A connection that has said hello."""

    def __init__(self, address: str, cluster: str, timeout_s: float) -> None:
        self.address = address
        self._last_id = 0
        try:
            self._socket = socket.create_connection(parse_address(address), timeout_s)
        except OSError as problem:
            raise NotSent(f"{address}: {problem.strerror or problem}") from None
        self._stream = self._socket.makefile("rb")
        try:
            self._say_hello(cluster)
        except BaseException:
            self.close()
            raise

    def ask(self, request: Request, answer_type: type[A], timeout_s: float) -> A:
        """Return the good answer; raise the BargeError that the node tells, NotSent or Cut."""
        self._last_id += 1
        line = msgspec.json.encode(msgspec.structs.replace(request, id=self._last_id)) + b"\n"
        self._send(line, timeout_s)
        try:
            while True:
                data = self._stream.readline(LINE_BYTES)
                if not data.endswith(b"\n"):
                    raise Cut(f"node at {self.address} closed the connection")
                answer = msgspec.json.decode(data, type=_Envelope)
                if answer.id in (self._last_id, None):
                    break
        except OSError as problem:
            raise Cut(f"node at {self.address}: {problem}") from None
        if msgspec.json.decode(data, type=_Ok).ok:
            return msgspec.json.decode(data, type=answer_type)
        raise msgspec.json.decode(data, type=ErrorAnswer).as_error()

    def _send(self, line: bytes, timeout_s: float) -> None:
        """Send the request; raise NotSent if its newline can't have left: without it no node carries it out."""
        try:
            self._socket.settimeout(0)
            try:
                if not self._socket.recv(1, socket.MSG_PEEK):
                    raise NotSent(f"node at {self.address} had closed the connection")
            except BlockingIOError:
                pass  # nothing to read: alive, as far as can be known
            self._socket.settimeout(max(timeout_s, 0.001))
            self._socket.sendall(line)
        except OSError as problem:
            raise NotSent(f"node at {self.address}: {problem}") from None

    def close(self) -> None:
        """End it."""
        self._stream.close()
        self._socket.close()

    def _say_hello(self, cluster: str) -> None:
        try:
            hello = ClientHello(protocol=PROTOCOL_VERSION, cluster=cluster)
            self._socket.sendall(msgspec.json.encode(hello) + b"\n")
            line = self._stream.readline(LINE_BYTES)
            answer = answer_decoder.decode(line)
        except (OSError, ValueError) as problem:
            raise NotSent(f"{self.address} is no node: {problem}") from None
        if isinstance(answer, HelloRefused) and answer.error == "overloaded":
            raise NotSent(f"{self.address} refuses us: {answer.detail}")
        if isinstance(answer, HelloRefused):
            raise BargeError("forbidden", f"{self.address} refuses us: {answer.detail}")


class _Envelope(msgspec.Struct):
    id: int | None


class _Ok(msgspec.Struct):
    ok: bool
