"""One blocking connection to one node: the hello, then one request at a time."""

import os
import socket
from contextlib import suppress
from typing import Final, TypeVar

import msgspec

from bargetrio.protocol.addresses import parse_address
from bargetrio.protocol.errors import BargeError, NoAnswer, NotSent
from bargetrio.protocol.hello import ClientHello, HelloRefused, answer_decoder
from bargetrio.protocol.limits import LINE_BYTES, PROTOCOL_VERSION
from bargetrio.protocol.requests import DeleteAnswer, ErrorAnswer, GetAnswer, List, PutAnswer, Request

A = TypeVar("A")
SHORTEST_S: Final = 0.001
"""A shorter time-out would make the socket non-blocking."""


class NodeConnection:
    """A connection after its hello.

    Making one raises NotSent if the node can't be reached or is overloaded, BargeError(forbidden) if it refuses the hello.
    """

    def __init__(self, address: str, cluster: str, timeout_s: float) -> None:
        self.address = address
        self._last_id = 0
        try:
            self._socket = socket.create_connection(parse_address(address), timeout_s)
        except OSError as problem:
            raise NotSent(f"{address}: {problem.strerror or problem}") from None
        except ValueError as problem:  # a node's redirection to what is no address
            raise NotSent(str(problem)) from None
        self._stream = self._socket.makefile("rb")
        try:
            self._send_hello(cluster)
        except BaseException:
            self.close()
            raise

    def ask(self, request: Request, answer_type: type[A], timeout_s: float) -> A:
        """Return the successful answer; raise the BargeError that the node answers, NotSent or NoAnswer.

        After any exception but a BargeError, the caller closes the connection: an answer may still come.
        """
        self._last_id += 1
        line = msgspec.json.encode(msgspec.structs.replace(request, id=self._last_id)) + b"\n"
        self._send(line, timeout_s)
        try:
            while True:
                data = self._stream.readline(LINE_BYTES)
                if not data.endswith(b"\n"):
                    raise NoAnswer(f"node at {self.address} closed the connection")
                answer = msgspec.json.decode(data, type=_AnswerId)
                if answer.id in (self._last_id, None):
                    break
            if answer.ok:
                return checked(request, msgspec.json.decode(data, type=answer_type))
            refusal = msgspec.json.decode(data, type=ErrorAnswer)
        except OSError as problem:
            raise NoAnswer(f"node at {self.address}: {problem}") from None
        except ValueError as problem:
            raise NoAnswer(f"node at {self.address} gives no answer to this request: {problem}") from None
        error = refusal.as_error()
        if error.applied is False and (refusal.applied is None or (refusal.id is None and refusal.error != "bad_request")):
            raise NoAnswer(f"node at {self.address}: {refusal.detail}")  # the end of the connection, or a contradiction
        raise error

    def _send(self, line: bytes, timeout_s: float) -> None:
        """Send the request; raise NotSent if its newline was certainly not sent: without it no node executes the request."""
        try:
            self._socket.settimeout(0)
            try:
                if not self._socket.recv(1, socket.MSG_PEEK):
                    raise NotSent(f"node at {self.address} had closed the connection")
            except BlockingIOError:
                pass  # nothing to read: not closed, as far as can be known
            self._socket.settimeout(max(timeout_s, SHORTEST_S))
            self._socket.sendall(line)
        except OSError as problem:
            raise NotSent(f"node at {self.address}: {problem}") from None

    def close(self) -> None:
        """Close it."""
        self._stream.close()
        self._socket.close()

    def close_inherited(self) -> None:
        """Close this process's descriptor of a connection that its parent continues to use.

        The buffered stream is not used: another thread of the parent may have held its lock at the fork, so it is never
        released here.
        """
        with suppress(OSError):
            os.close(self._socket.detach())

    def _send_hello(self, cluster: str) -> None:
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


def checked(request: Request, answer: A) -> A:
    """Return the answer; raise ValueError if it can't belong to this request: another id or key, keys that do not match, or an
    impossible index of a write.
    """
    if isinstance(answer, (PutAnswer, GetAnswer, DeleteAnswer)):
        if isinstance(request, List) or answer.key != request.key:
            raise ValueError(f"it is about the key {answer.key!r}")
        if isinstance(answer, (PutAnswer, DeleteAnswer)) and (answer.index < 1 or answer.term < 0):
            raise ValueError(f"there is no entry {answer.index} of term {answer.term}")
    elif isinstance(request, List):
        items = getattr(answer, "items", [])
        for item in items[:1] + items[-1:]:
            if not (item.key.startswith(request.prefix) and item.key > request.after):
                raise ValueError(f"it is about the key {item.key!r}")
    return answer


class _AnswerId(msgspec.Struct):
    id: int | None
    ok: bool
