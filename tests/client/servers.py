"""Servers that fail on purpose: they receive and count requests, and close, do not answer, or send a given answer."""

import socket
import threading
from contextlib import suppress
from typing import Literal

from bargetrio.cli.free_ports import free_ports

HELLO = b'{"hello":"node","protocol":1,"cluster":"barge","node":0}\n'


class BadServer:
    """Speaks as a node or as a daemon, just enough to be asked something. `answer` empty: cut; None: silence.

    `asked` holds what it was asked, with an HTTP request's headers and body; `first` are answers before that one.
    """

    def __init__(self, kind: Literal["native", "rest"], answer: bytes | None, *, first: tuple[bytes, ...] = ()) -> None:
        self.asked: list[bytes] = []
        self.heard = threading.Event()
        self._kind = kind
        self._first = list(first)
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> "BadServer":
        return self

    def __exit__(self, *_: object) -> None:
        for sock in [self._listener, *self._open]:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self._open.append(sock)
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with suppress(OSError), sock.makefile("rwb") as stream:
            if self._kind == "native":
                stream.readline()
                stream.write(HELLO)
                stream.flush()
            request = stream.readline()
            if not request:
                return
            if self._kind == "rest":
                length = 0
                while (line := stream.readline()).strip():
                    request += line
                    name, _, value = line.partition(b":")
                    length = int(value) if name.lower() == b"content-length" else length
                request += stream.read(length)
            self.asked.append(request)
            self.heard.set()
            answer = self._first.pop(0) if self._first else self._answer
            if answer is None:
                stream.read()  # until the other side has had enough
                return
            stream.write(answer)
            stream.flush()
            sock.shutdown(socket.SHUT_RDWR)


def problem(error: str, status: int) -> bytes:
    """Return a daemon's problem as HTTP."""
    applied = b"null" if error in ("storage_failed", "outcome_unknown") else b"false"
    body = b'{"title":"","status":%d,"error":"%s","detail":"as told","applied":%s}' % (status, error.encode(), applied)
    return b"HTTP/1.1 %d x\r\nContent-Type: application/problem+json\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body


def nobody() -> str:
    """Return an address without a listener."""
    return f"127.0.0.1:{free_ports(1)[0]}"
