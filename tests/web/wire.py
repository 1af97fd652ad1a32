"""HTTP as bytes: what no client library would send."""

import json
import socket
from typing import Any

from msgspec import Struct

from tests.stories.daemon import Daemon


class WireAnswer(Struct, frozen=True):
    """One answer as it came; names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Return the decoded body."""
        return json.loads(self.body)

    def is_problem(self) -> bool:
        """Return whether this is a problem as docs/rest.md promises of every answer from 400 on."""
        if self.headers.get("content-type") != "application/problem+json":
            return False
        fields = {"title", "status", "detail", "error", "leader", "term", "applied"}
        return set(self.json) == fields and self.json["status"] == self.status


def exchange(daemon: Daemon, data: bytes, *, timeout: float = 5, head: bool = False) -> list[WireAnswer]:
    """Send the bytes, read until the daemon closes or is silent, return the answers; `head` if they have no bodies."""
    host, _, port = daemon.api.partition(":")
    with socket.create_connection((host, int(port)), timeout) as sock:
        sock.sendall(data)
        sock.settimeout(timeout)
        received = b""
        try:
            while piece := sock.recv(65536):
                received += piece
                if _is_whole(received, head):
                    sock.settimeout(0.3)
        except (TimeoutError, ConnectionResetError):
            pass
    return answers_in(received, head)


def request(daemon: Daemon, method: str, target: str, *headers: str, body: bytes = b"", version: str = "HTTP/1.1") -> bytes:
    """Return a request with these lines as headers, besides Host and, with a body, Content-Length."""
    lines = [f"{method} {target} {version}", *headers]
    if not any(header.lower().startswith("host:") for header in headers):
        lines.append(f"Host: {daemon.api}")
    if body and not any(header.lower().startswith(("content-length:", "transfer-encoding:")) for header in headers):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def ask(daemon: Daemon, method: str, target: str, *headers: str, body: bytes = b"") -> WireAnswer:
    """Make one request, return its answer."""
    told = exchange(daemon, request(daemon, method, target, *headers, "Connection: close", body=body), head=method == "HEAD")
    assert len(told) == 1, told
    return told[0]


def answers_in(received: bytes, head: bool = False) -> list[WireAnswer]:
    """Return the answers in what was received; the last may end with the connection."""
    found = []
    while received:
        top, _, received = received.partition(b"\r\n\r\n")
        first, *lines = top.decode("latin-1").split("\r\n")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            assert name.lower() not in headers or name.lower() in ("allow",), f"{name} twice"
            headers[name.lower()] = value.strip()
        status = int(first.split()[1])
        if status == 100:
            continue
        if "content-length" in headers and not head:
            length = int(headers["content-length"])
            body, received = received[:length], received[length:]
        elif head or status in (204, 304):
            body = b""
        else:
            body, received = received, b""
        found.append(WireAnswer(status, headers, body))
    return found


def _is_whole(received: bytes, head: bool) -> bool:
    try:
        told = answers_in(received, head)
    except (ValueError, IndexError):
        return False
    return bool(told) and (head or len(told[-1].body) >= int(told[-1].headers.get("content-length", 0)))
