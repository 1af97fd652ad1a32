"""Clients that use a node's memory, as a process of its own: `python -m tests.stories.memory_load ADDRESS PHASE COUNT`.

It prints what it has been told, as JSON, and ends when its phase is over.
"""

import json
import selectors
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

MIB = 1024 * 1024
KEYS = 32
HELLO = b'{"hello":"client","protocol":1,"cluster":"barge"}\n'
STAY_S = 1.5
"""So long clients stay that have nothing more to send, after the last one had."""
NEVER_READ_S = 15.0
"""So long clients that never read stay: longer than the kernel's USER_TIMEOUT_MS, and than it takes to cut them."""


def connect(address: str, *, receive_bytes: int | None = None) -> socket.socket:
    """Return a connection after its hello."""
    host, port = address.split(":")
    sock = socket.socket()
    if receive_bytes is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    sock.settimeout(60)
    sock.connect((host, int(port)))
    sock.sendall(HELLO)
    answer = b""
    while not answer.endswith(b"\n"):
        answer += sock.recv(4096)
    assert json.loads(answer)["hello"] == "node", answer
    return sock


def put_keys(address: str, seconds: float) -> Counter[str]:
    """Write the keys with values of 1 MiB, one after the other, again and again for so long; each at least once."""
    told: Counter[str] = Counter()
    value = "v" * (MIB - 100)
    end = time.monotonic() + seconds
    with connect(address) as sock, sock.makefile("rb") as stream:
        number = 0
        while number < KEYS or time.monotonic() < end:
            put = {"id": number, "op": "put", "key": f"large/{number % KEYS:02d}", "value": f"{number:08d}{value}"}
            sock.sendall(json.dumps(put).encode() + b"\n")
            answer = json.loads(stream.readline())
            told["ok" if answer["ok"] else answer["error"]] += 1
            number += answer["ok"]
    return told


def ask(address: str, count: int, request: Callable[[int], dict[str, object]]) -> Counter[str]:
    """Send so many requests at once and read all answers, which are long: only their ends are looked at."""
    told: Counter[str] = Counter()
    data = b"".join(json.dumps(request(number)).encode() + b"\n" for number in range(count))
    with connect(address) as sock:
        sock.setblocking(False)
        sent, beginning, lines = 0, b"", 0
        with selectors.DefaultSelector() as selector:
            selector.register(sock, selectors.EVENT_READ | selectors.EVENT_WRITE)
            while lines < count:
                assert selector.select(30), f"nothing for 30 s, {lines} of {count} answers"
                with suppress(BlockingIOError):
                    sent += sock.send(data[sent : sent + MIB])
                if sent == len(data):
                    selector.modify(sock, selectors.EVENT_READ)
                with suppress(BlockingIOError):
                    piece = sock.recv(MIB)
                    assert piece, f"cut after {lines} answers"
                    *ends, rest = piece.split(b"\n")
                    for end in ends:
                        beginning = (beginning + end)[:100]
                        told["ok" if b'"ok":true' in beginning else "error"] += 1
                        beginning = b""
                    beginning = (beginning + rest)[:100]
                    lines += len(ends)
    return told


def never_read(address: str, count: int) -> Counter[str]:
    """So many clients ask 200 times for a value of 1 MiB each, and read nothing."""
    told: Counter[str] = Counter()
    socks = []
    for number in range(count):
        sock = connect(address, receive_bytes=65536)
        gets = [{"id": each, "op": "get", "key": f"large/{(number + each) % KEYS:02d}"} for each in range(200)]
        sock.sendall(b"".join(json.dumps(get).encode() + b"\n" for get in gets))
        socks.append(sock)
    time.sleep(NEVER_READ_S)
    for sock in socks:
        sock.close()
        told["asked"] += 1
    return told


def half_lines(address: str, count: int) -> Counter[str]:
    """So many clients send 8 MiB of a line, but for its last byte, all at once; then they read why they were refused."""
    told: Counter[str] = Counter()
    line = memoryview(b'{"id":1,"op":"put","key":"half","value":"' + b"x" * (8 * MIB - 100))
    socks = {connect(address): 0 for _ in range(count)}
    by_descriptor = {sock.fileno(): sock for sock in socks}
    with selectors.DefaultSelector() as selector:
        for sock in socks:
            sock.setblocking(False)
            selector.register(sock, selectors.EVENT_READ | selectors.EVENT_WRITE)
        end = time.monotonic() + 600
        quiet_since = time.monotonic()
        while selector.get_map() and time.monotonic() < end and time.monotonic() - quiet_since < STAY_S:
            for key, events in selector.select(0.5):
                sock = by_descriptor[key.fd]
                try:
                    if events & selectors.EVENT_READ:
                        answer = sock.recv(4096)
                        told[json.loads(answer)["error"] if answer else "closed"] += 1
                        selector.unregister(sock)
                        quiet_since = time.monotonic()
                        continue
                    socks[sock] += sock.send(line[socks[sock] : socks[sock] + 256 * 1024])
                    quiet_since = time.monotonic()
                    if socks[sock] == len(line):
                        selector.modify(sock, selectors.EVENT_READ)
                except ConnectionError:
                    told["reset"] += 1
                    selector.unregister(sock)
    told["held"] = count - sum(told.values())
    for sock in socks:
        sock.close()
    return told


def main(address: str, phase: str, count: int) -> None:
    """Run one phase."""
    match phase:
        case "puts":
            told = put_keys(address, count)
        case "gets":
            told = ask(address, count, lambda number: {"id": number, "op": "get", "key": f"large/{number % KEYS:02d}"})
        case "lists":
            told = ask(address, count, lambda number: {"id": number, "op": "list", "prefix": "large/"})
        case "never_read":
            told = never_read(address, count)
        case "half_lines":
            told = half_lines(address, count)
        case _:
            raise ValueError(phase)
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
